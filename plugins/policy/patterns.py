"""Patterns with ``*``, and the settings of rules as lists, tables and numbers."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class Wrong(ValueError):
    """Why a setting is not what it must be: the end of a sentence that begins with its name."""


def matches(pattern: str, text: str) -> bool:
    """Whether a text is what the pattern says, in which ``*`` matches anything."""
    first, *others = pattern.split("*")
    if not others:
        return pattern == text
    if not text.startswith(first):
        return False
    at = len(first)
    for part in others[:-1]:
        at = text.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return len(text) - at >= len(others[-1]) and text.endswith(others[-1])


def among(patterns: Iterable[str], text: str) -> bool:
    """Whether one of the patterns matches."""
    return any(matches(pattern, text) for pattern in patterns)


def words(value: object) -> list[str]:
    """A setting that is a list of strings. Raises `Wrong`."""
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise Wrong("must be a list of strings")
    return [*value]


def table(value: object) -> dict[str, str]:
    """A setting that is a table of strings. Raises `Wrong`."""
    if not isinstance(value, dict) or not value or not all(isinstance(each, str) for each in value.values()):
        raise Wrong("must be a table of strings")
    return {**value}


def absolute(value: object) -> list[str]:
    """A setting that is a list of absolute paths. Raises `Wrong`."""
    from gosudacon.plugins.policy.paths import clean

    found = words(value)
    for path in found:
        if not path.startswith("/"):
            raise Wrong(f"must be absolute paths, not {path!r}")
    return [clean(path) for path in found]


def one_of(known: Iterable[str], value: object) -> list[str]:
    """A setting that is a list of some of the words that are known. Raises `Wrong`."""
    found, there = words(value), [*known]
    for word in found:
        if word not in there:
            raise Wrong(f"has the unknown word {word!r}; known: {', '.join(there)}")
    return found


def size(value: object) -> int:
    """A number of bytes, or a string such as ``512m``. Raises `Wrong`."""
    text = str(value).lower() if isinstance(value, str) or type(value) is int else ""
    power = "kmgt".find(text[-1:]) + 1 if text else 0
    digits = text[:-1] if power else text
    if not digits.isascii() or not digits.isdigit() or int(digits) == 0:
        raise Wrong("must be a size such as 512m")
    return int(digits) << 10 * power
