"""A configuration that cannot be changed: what planning gets where plugins take part.

Only planning with plugins pays for it. The types are subclasses of dict and list, so reading costs what it always
costs, and a shallow copy (``{**value}``, ``[*value]``) is a plain one.
"""

from __future__ import annotations

from gosudacon.base.errors import ConfigError, Error
from gosudacon.pipeline.spec import Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from gosudacon.schema.types import Config

_HINT = "change the configuration in gosudacon_edit_spec, or plan with a copy: spec.replace(config=...)"


def _refuse(*_: object, **__: object) -> NoReturn:
    raise Error("the configuration is read-only while a plan is made", hint=_HINT)


class FrozenDict(dict):  # type: ignore[type-arg]
    """A dict that refuses to be changed; `copy.deepcopy` gives a plain one."""

    __slots__ = ()
    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[object, ...]:
        return dict, (dict(self),)


class FrozenList(list):  # type: ignore[type-arg]
    """A list that refuses to be changed; `copy.deepcopy` gives a plain one."""

    __slots__ = ()
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def __reduce__(self) -> tuple[object, ...]:
        return list, (list(self),)


class ReadOnlySpec(Spec):
    """A spec whose attributes stay what they are; `replace` gives another one, which is read-only, too."""

    def replace(self, **changes: object) -> Spec:
        spec = super().replace(**changes)
        freeze_spec(spec)
        return spec

    def plain(self) -> Config:
        return thaw(self.config)  # type: ignore[return-value]

    def __setattr__(self, name: str, value: object) -> NoReturn:
        _refuse()


def freeze(value: object) -> Any:
    """JSON data as data that cannot be changed; what is frozen already is taken as it is.

    Members that are None are left out: in config.json null means an absent member. Raises TypeError for what
    JSON cannot express.
    """
    kind = type(value)
    if kind is str or kind is int or kind is bool or kind is FrozenDict or kind is FrozenList or value is None:
        return value
    if isinstance(value, dict):
        if not all(type(name) is str for name in value):
            raise TypeError(f"the names of members must be strings: {value!r}")
        return FrozenDict({name: freeze(member) for name, member in value.items() if member is not None})
    if isinstance(value, (list, tuple)):
        return FrozenList([freeze(element) for element in value])
    if isinstance(value, (str, int)):  # of a subclass: an enumeration's member
        return str(value) if isinstance(value, str) else int(value)
    if isinstance(value, float) and kind is float and value - value == 0:  # neither nan nor infinite
        return value
    raise TypeError(f"{value!r} is not allowed in config.json")


def freeze_spec(spec: Spec, config: object = None) -> None:
    """Make a spec read-only, with ``config`` instead of its own configuration if it is given."""
    try:
        frozen = freeze(spec.config if config is None else config)
    except RecursionError:
        raise ConfigError("invalid config.json: nested too deeply") from None
    if type(spec) is Spec:
        spec.__class__ = ReadOnlySpec
    object.__setattr__(spec, "config", frozen)


def thaw(value: object) -> object:
    """Plain dicts and lists with the same contents."""
    if isinstance(value, dict):
        return {name: thaw(member) for name, member in value.items()}
    if isinstance(value, list):
        return [thaw(element) for element in value]
    return value
