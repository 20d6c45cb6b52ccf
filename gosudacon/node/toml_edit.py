"""A marked block in a TOML file that is not ours: added, and removed so that no byte differs."""

from __future__ import annotations

import re
import tomllib

from gosudacon.base.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

    Table: TypeAlias = Mapping[str, object]

# Four marks instead of three where the text before had no newline at its end.
_BEGIN, _END = "gosudacon: written by its DaemonSet, which takes it away again", "gosudacon: the end"
_BLOCK = re.compile(rf"(?:\n# >>>>|# >>>) {re.escape(_BEGIN)}\n.*?# <<< {re.escape(_END)}\n", re.DOTALL)


def without(text: str) -> str:
    """The text as it was before `first` and `last`."""
    return _BLOCK.sub("", text)


def first(text: str, lines: str) -> str:
    """The text with a block in front, where keys belong to no table."""
    return f"# >>> {_BEGIN}\n{lines}# <<< {_END}\n{text}"


def last(text: str, lines: str) -> str:
    """The text with a block behind it."""
    begin = "# >>>" if text.endswith("\n") or not text else "\n# >>>>"
    return f"{text}{begin} {_BEGIN}\n{lines}# <<< {_END}\n"


def parsed(text: str, name: str) -> dict[str, object]:
    """The tables of the file ``name``. Raises `Error` if it is not TOML."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Error(f"{name} cannot be read: {error}", hint="it is left as it is; correct it") from None


def check(name: str, before: str, after: str, added: Table) -> None:
    """Raise `Error` unless ``after`` says what ``before`` does, and ``added``, and nothing else."""
    try:
        said = tomllib.loads(after)
    except tomllib.TOMLDecodeError as error:
        raise Error(f"cannot add to {name}: {error}", hint="write its inline tables as sections") from None
    if said != _merged(tomllib.loads(before), added):
        raise Error(f"cannot add to {name} without changing what it says", hint="see docs/kubernetes.md")


def at(table: Table, *keys: str) -> Table:
    """The table below these keys; an empty one if it does not exist."""
    for key in keys:
        found = table.get(key)
        table = found if isinstance(found, dict) else {}
    return table


def nested(keys: tuple[str, ...], value: object) -> dict[str, object]:
    """Tables in tables, the innermost of which has ``value`` as its last key's."""
    for key in reversed(keys):
        value = {key: value}
    assert isinstance(value, dict)
    return value


def _merged(one: Table, other: Table) -> dict[str, object]:
    result = dict(one)
    for key, value in other.items():
        present = result.get(key)
        both = isinstance(value, dict) and isinstance(present, dict)
        result[key] = _merged(present, value) if both else value  # type: ignore[arg-type]
    return result
