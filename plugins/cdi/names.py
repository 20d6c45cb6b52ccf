"""Names of devices and of their kinds: ``vendor.com/class=name`` (the CDI's SPEC.md, "Kind" and "Devices")."""

from __future__ import annotations

_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_ENDS = _LETTERS | frozenset("0123456789")
_KIND = _ENDS | frozenset("_-.")
_NAME = _KIND | frozenset(":")


def check(name: str) -> str:
    """The kind of a device of this full name. Raises ValueError that says what is wrong with the name."""
    if name.startswith("/"):
        raise ValueError(f"{name!r} is a path, not the name of a CDI device")
    kind, equals, device = name.partition("=")
    if not equals:
        raise ValueError(f"{name!r} is not the name of a CDI device: vendor.com/class=name")
    check_kind(kind)
    check_device(device)
    return kind


def check_kind(kind: str) -> None:
    """Raises ValueError unless it is ``vendor/class``."""
    vendor, slash, family = kind.partition("/")
    if not slash:
        raise ValueError(f"{kind!r} is not the kind of a CDI device: vendor.com/class")
    _check("vendor", vendor, _LETTERS, _KIND)
    _check("class", family, _LETTERS, _KIND)


def check_device(name: str) -> None:
    """Raises ValueError unless it is what may follow the equals sign."""
    _check("device", name, _ENDS, _NAME)


def _check(what: str, text: str, first: frozenset[str], within: frozenset[str]) -> None:
    if not text:
        raise ValueError(f"the name of a {what} is empty")
    if text[0] not in first:
        start = "a letter" if first is _LETTERS else "a letter or digit"
        raise ValueError(f"{text!r} is not the name of a {what}: it must begin with {start}")
    if not within.issuperset(text):
        others = "_ - . :" if ":" in within else "_ - ."
        raise ValueError(f"{text!r} is not the name of a {what}: letters, digits and {others} are allowed")
    if text[-1] not in _ENDS:
        raise ValueError(f"{text!r} is not the name of a {what}: it must end with a letter or digit")
