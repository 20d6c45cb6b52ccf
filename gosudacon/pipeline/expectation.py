"""What a step expects the kernel to show once it has run: the third thing that each kind of step says of itself.

Only ``audit`` asks, so none of this is imported by a command that makes a container. What the kinds of a package's
steps expect is in its module ``expected``, whose ``TABLE`` has an entry for each class: a function, or a sentence
that says why nothing can be seen afterwards. A stage that is one module has a function ``expected`` that returns it.
"""

from __future__ import annotations

import sys
from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from gosudacon.pipeline.spec import Host, Spec
    from gosudacon.pipeline.step import Step

    #: Class name -> what it expects: (step, spec, host) -> `Expectation` values, or why it expects nothing.
    Table = Mapping[str, str | Callable[..., Iterable["Expectation"]]]

_OURS = ("gosudacon.stages.", "gosudacon.plugins.")


class Expectation:
    """One property that can be read back.

    ``where`` is its place in config.json, ``asked`` the value that it must have (JSON data), ``reader`` the name of
    what reads and compares it (docs/audit.md lists them), ``key`` which of several that the reader is to look at.
    ``work`` is for what is made only if it is wanted, such as a compiled filter.
    """

    __slots__ = ("asked", "key", "reader", "where", "work")

    def __init__(
        self, where: str, reader: str, asked: object, key: str = "", work: Callable[[], object] | None = None
    ) -> None:
        self.where = where
        self.reader = reader
        self.asked = asked
        self.key = key
        self.work = work


def of(step: Step, spec: Spec, host: Host) -> Iterable[Expectation] | str:
    """What a built-in step expects: `Step.expect`."""
    found = entry(type(step))
    return found if isinstance(found, str) else found(step, spec, host)


def entry(kind: type[Step]) -> str | Callable[..., Iterable[Expectation]]:
    """What the table of a class, or of what it is derived from, says of it; an empty string if none does."""
    for each in kind.__mro__:
        if each.__module__.startswith(_OURS):
            found = _table(each.__module__).get(each.__name__, "")
            if found:
                return found
    return ""


def _table(module: str) -> Table:
    own: object = getattr(sys.modules[module], "expected", None)
    if callable(own):
        table: Table = own()
        return table
    package = ".".join(module.split(".")[:3])
    try:
        return import_module(f"{package}.expected").TABLE  # type: ignore[no-any-return]
    except ModuleNotFoundError:
        return {}
