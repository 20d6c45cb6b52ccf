"""Containers by a pattern of their ids."""

from __future__ import annotations

from gosudacon.base import posix
from gosudacon.linux.regex import Regex


def matching(root: str, pattern: str) -> list[str]:
    """The ids below ``root`` that the extended regular expression matches, sorted. Raises `Error` if it is none."""
    wanted = Regex(pattern)
    try:
        names = posix.listdir(root)
    except FileNotFoundError:
        return []
    return sorted(name for name in names if wanted.matches(name))
