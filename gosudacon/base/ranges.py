"""Lists of CPUs and memory nodes such as ``0-3,7``, in the grammar of the kernel's files (cpuset(7), list format)."""

from __future__ import annotations

MOST_CPUS = 1 << 16  # more than NR_CPUS of any kernel
MOST_NODES = 1 << 10  # MAX_NUMNODES


def parse(text: str, limit: int) -> list[int]:
    """The numbers of a list, each once, in ascending order.

    Commas or white space divide its parts: ``7``, ``0-3``, or ``0-15:2/4`` for the first two of every four from 0 to
    15. An empty part means nothing. Raises ValueError for anything else, and for a number of ``limit`` or more.
    """
    found: set[int] = set()
    for part in text.replace(",", " ").split():
        bounds, colon, group = part.partition(":")
        first, dash, last = bounds.partition("-")
        used, slash, size = group.partition("/")
        if bool(colon) != bool(slash) or (colon and not dash):
            raise ValueError(f"invalid range {part!r}")
        low = _number(first, part)
        high = _number(last, part) if dash else low
        taken, step = (_number(used, part), _number(size, part)) if colon else (1, 1)
        if not low <= high or not step > 0 or taken > step:
            raise ValueError(f"invalid range {part!r}")
        if high >= limit:
            raise ValueError(f"invalid range {part!r}: the largest number is {limit - 1}")
        for start in range(low, high + 1, step):
            found.update(range(start, min(start + taken, high + 1)))
    return sorted(found)


def mask(numbers: list[int]) -> int:
    """The numbers as bits."""
    octets = bytearray((max(numbers, default=0) >> 3) + 1)
    for number in numbers:
        octets[number >> 3] |= 1 << (number & 7)
    return int.from_bytes(octets, "little")


def _number(text: str, part: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise ValueError(f"invalid range {part!r}")
    return int(text)
