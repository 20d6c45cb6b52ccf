"""Annotations ``org.systemd.property.NAME``, whose values are written as GVariant texts, as properties. Pure."""

from __future__ import annotations

from gosudacon.api import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.stages.cgroups.properties import Property

PREFIX = "org.systemd.property."
_TYPES = {
    "Description": "s",
    "Documentation": "as",
    "After": "as",
    "Before": "as",
    "RequiresMountsFor": "as",
    "DefaultDependencies": "b",
    "CollectMode": "s",
    "OOMPolicy": "s",
    "KillMode": "s",
    "KillSignal": "i",
    "FinalKillSignal": "i",
    "SendSIGKILL": "b",
    "SendSIGHUP": "b",
    "TimeoutStopUSec": "t",
    "RuntimeMaxUSec": "t",
    "MemoryMin": "t",
    "MemoryLow": "t",
    "MemoryHigh": "t",
    "MemoryMax": "t",
    "MemorySwapMax": "t",
    "MemoryAccounting": "b",
    "CPUWeight": "t",
    "StartupCPUWeight": "t",
    "CPUAccounting": "b",
    "IOWeight": "t",
    "StartupIOWeight": "t",
    "IOAccounting": "b",
    "IPAccounting": "b",
    "TasksMax": "t",
    "TasksAccounting": "b",
    "ManagedOOMSwap": "s",
    "ManagedOOMMemoryPressure": "s",
    "ManagedOOMPreference": "s",
}
#: The types that a GVariant text may name before a number, and what fits them.
_NUMBERS = {
    "byte": (0, 1 << 8),
    "int16": (-1 << 15, 1 << 15),
    "uint16": (0, 1 << 16),
    "int32": (-1 << 31, 1 << 31),
    "uint32": (0, 1 << 32),
    "int64": (-1 << 63, 1 << 63),
    "uint64": (0, 1 << 64),
    "double": (-1 << 63, 1 << 64),
}
_BOUNDS = {"i": _NUMBERS["int32"], "t": _NUMBERS["uint64"]}


def properties(annotations: dict[str, str]) -> Iterator[Property]:
    """The properties, ``[name, signature, value]``, that annotations ask for.

    Only those are taken that change how the unit is treated, and not whose processes are in it, where it stands, what
    else is started or which devices are allowed. ``…Sec`` is ``…USec`` in seconds. Raises `ConfigError`.
    """
    for key, text in annotations.items():
        if key.startswith(PREFIX):
            yield _property(key.removeprefix(PREFIX), text, f"annotations[{key!r}]")


def _property(name: str, text: str, where: str) -> Property:
    seconds = name.endswith("Sec") and not name.endswith("USec")
    if seconds:
        name = name.removesuffix("Sec") + "USec"
    kind = _TYPES.get(name)
    if kind is None:
        hint = f"it can set {', '.join(_TYPES)}"
        raise ConfigError(f"an annotation cannot set the systemd property {name!r}", where=where, hint=hint)
    try:
        return [name, kind, _typed(kind, parse(text), seconds)]
    except ValueError as error:
        raise ConfigError(f"systemd property {name}: {error}", where=where) from error


def _typed(kind: str, value: object, seconds: bool) -> object:
    if kind in _BOUNDS:
        if isinstance(value, bool) or not isinstance(value, (int, float) if seconds else int):
            raise ValueError("a number is expected")
        number = int(value * 1_000_000) if seconds else value
        low, high = _BOUNDS[kind]
        if not low <= number < high:
            raise ValueError(f"{number} is out of range")
        return number
    wanted: dict[str, type] = {"s": str, "b": bool, "as": list}
    if not isinstance(value, wanted[kind]):
        raise ValueError({"s": "a string", "b": "true or false", "as": "a list of strings"}[kind] + " is expected")
    return value


def parse(text: str) -> str | bool | int | float | list[str]:
    """A GVariant text: a string in quotes, a number, true or false, or a list of strings.

    A type may come before it (``uint64 5``, ``@as []``). Raises ValueError for anything else.
    """
    text = text.strip()
    if text.startswith("@"):
        text = text.partition(" ")[2].strip()
    if text in ("true", "false"):
        return text == "true"
    if text[:1] in ("'", '"'):
        value, rest = _string(text)
        if rest:
            raise ValueError(f"{rest!r} is left over")
        return value
    if text.startswith("["):
        return _list(text)
    return _number(text)


def _number(text: str) -> int | float:
    first, _, rest = text.partition(" ")
    kind, digits = (first, rest.strip()) if first in _NUMBERS else ("double", text)
    number: int | float
    try:
        number = int(digits, 0) if kind != "double" or "." not in digits else float(digits)
    except ValueError:
        raise ValueError(f"{text!r} is not GVariant text") from None
    low, high = _NUMBERS[kind]
    if not low <= number < high:
        raise ValueError(f"{digits} does not fit {kind}")
    return number


def _list(text: str) -> list[str]:
    rest = text[1:].lstrip()
    values = []
    while not rest.startswith("]"):
        value, rest = _string(rest)
        values.append(value)
        if rest.startswith(","):
            rest = rest[1:].lstrip()
        elif not rest.startswith("]"):
            raise ValueError(f"{text!r} is not a list of strings")
    if rest != "]":
        raise ValueError(f"{rest[1:]!r} is left over")
    return values


def _string(text: str) -> tuple[str, str]:
    """The string at the beginning, and what follows it without leading blanks."""
    quote = text[:1]
    if quote not in ("'", '"'):
        raise ValueError(f"{text!r} is not a string in quotes")
    value = ""
    at = 1
    while at < len(text):
        character = text[at]
        if character == quote:
            return value, text[at + 1 :].lstrip()
        if character == "\\":
            at += 1
            if text[at : at + 1] not in ("'", '"', "\\"):
                raise ValueError(f"{text!r} has an escape other than of a quote or a backslash")
            character = text[at]
        if character < " ":
            raise ValueError(f"{text!r} has a control character")
        value += character
        at += 1
    raise ValueError(f"{text!r} has no closing quote")
