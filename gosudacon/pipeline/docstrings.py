"""What the docstring of a step's class says about it: what, why, what would be missing, and where to read on.

The form, of every step of ours (tests/unit/test_step_docs.py):

    What it does.

    More about it, for who changes it.

    Why: one sentence.
    Without it: one sentence.
    See: mount(2); runtime-spec config.md, Mounts.

An installed program has no docstrings: then they are read from the module's source.
"""

from __future__ import annotations

import ast
import re
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.pipeline.step import Step

_LABELS = re.compile(r"^(Why|Without it|See): +", re.MULTILINE)
_sources: dict[str, dict[str, str]] = {}  # module -> name of a class -> docstring
_known: dict[type, About] = {}


class About:
    """``what`` is the docstring without its last part; empty strings for what it does not say."""

    def __init__(self, text: str) -> None:
        parts = _LABELS.split(text)
        self.what = parts[0].strip()
        found = {label: " ".join(said.split()) for label, said in zip(parts[1::2], parts[2::2], strict=True)}
        self.why, self.without, self.see = (found.get(label, "") for label in ("Why", "Without it", "See"))

    def paragraphs(self) -> list[str]:
        """What it does, a line for each paragraph: the first; all of a step that says no more, another author's."""
        found = [" ".join(part.replace("``", "`").split()) for part in self.what.split("\n\n")]
        return found[:1] if self.why else found

    def to_json(self) -> dict[str, str]:
        """As `explain --long --format json` has it."""
        what = "\n".join(self.paragraphs())
        return {"what": what, "why": self.why, "without": self.without, "see": self.see}


def about(kind: type[Step]) -> About:
    """What is said about a class of steps; if nothing is, what is said about the one that it is made of."""
    if kind not in _known:
        _known[kind] = About(_nearest(kind))
    return _known[kind]


def _nearest(kind: type) -> str:
    for each in kind.__mro__:
        if each.__name__ == "Step" and each.__module__ == "gosudacon.pipeline.step":
            break
        text = _docstring(each)
        if text:
            return text
    return ""


def _docstring(kind: type) -> str:
    if kind.__doc__:
        return _clean(kind.__doc__)
    if kind.__module__ not in _sources:
        _sources[kind.__module__] = _read(kind.__module__)
    return _sources[kind.__module__].get(kind.__qualname__, "")


def _clean(text: str) -> str:
    """As inspect.cleandoc() makes it, which is slow to import."""
    first, _, rest = text.partition("\n")
    lines = rest.split("\n")
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "\n".join([first.strip(), *(line[margin:].rstrip() for line in lines)]).strip()


def _read(module: str) -> dict[str, str]:
    """The docstrings of the classes in a module's source; none if there is no source."""
    path = getattr(sys.modules.get(module), "__file__", None) or ""
    try:
        with open(path, "rb") as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        return {}
    return {node.name: ast.get_docstring(node) or "" for node in tree.body if isinstance(node, ast.ClassDef)}
