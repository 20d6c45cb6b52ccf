"""Convert OCI resource values, which are cgroup v1's, to those of cgroup v2. Pure; figures in docs/cgroups.md."""

from __future__ import annotations

import math

UNLIMITED = -1
DEFAULT_PERIOD = 100_000  # µs, cpu.max
_LEAST_SHARES, _MOST_SHARES = 2, 1 << 18
_MOST_WEIGHT = 10_000


def cpu_weight(shares: int) -> int:
    """``cpu.weight`` (1…10000) for ``cpu.shares`` (2…262144).

    A curve through the three points that matter: least to 1, the default 1024 to the default 100, most to 10000.
    """
    if shares <= _LEAST_SHARES:
        return 1
    if shares >= _MOST_SHARES:
        return _MOST_WEIGHT
    log = math.log2(shares)
    exponent = (log * log + 125 * log) / 612 - 7 / 34
    return math.ceil(10**exponent)


def cpu_max(quota: int, period: int) -> str:
    """``cpu.max`` for ``quota`` and ``period`` in µs; not positive: no quota, the default period."""
    return f"{quota if quota > 0 else 'max'} {period or DEFAULT_PERIOD}"


def memory_swap(limit: int, swap: int) -> int | None:
    """Bytes of ``memory.swap.max`` for v1's limit of memory and swap together; -1: no limit, None: leave it.

    Raises ValueError for what has no equivalent.
    """
    if limit == UNLIMITED and swap == 0:
        return UNLIMITED
    if swap == 0:
        return None
    if swap == UNLIMITED or limit == UNLIMITED:
        return swap
    if limit == 0:
        raise ValueError("unable to set swap limit without memory limit")
    if swap < limit:
        raise ValueError("memory+swap limit should be >= memory limit")
    return swap - limit


def number(value: int) -> str:
    """A number as cgroup v2 wants it: ``max`` for -1."""
    return "max" if value == UNLIMITED else str(value)


def io_weight(weight: int) -> int:
    """``io.weight`` (1…10000) for ``blkio.weight`` (10…1000). Raises ValueError outside of that."""
    if not 10 <= weight <= 1000:
        raise ValueError(f"block I/O weight {weight} is not between 10 and 1000")
    return 1 + (weight - 10) * 9999 // 990
