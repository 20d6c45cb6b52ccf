"""Medians, spread and ratios of samples. Pure: no clock, no process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


def percentile(samples: Sequence[float], percent: float) -> float:
    """The value below which ``percent`` (0..100) of the samples lie, interpolated between neighbours.

    ValueError when there are no samples or ``percent`` is out of range.
    """
    if not samples:
        raise ValueError("no samples")
    if not 0 <= percent <= 100:
        raise ValueError(f"percent must be within 0..100, not {percent}")
    ordered = sorted(samples)
    position = (len(ordered) - 1) * percent / 100
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


@dataclass(frozen=True)
class Summary:
    """What a table shows of one series; every value has the unit of the samples."""

    count: int
    median: float
    minimum: float
    p10: float
    p90: float
    maximum: float


def summarise(samples: Sequence[float]) -> Summary:
    """Summary of a series; ValueError when it is empty."""
    return Summary(
        count=len(samples),
        median=percentile(samples, 50),
        minimum=percentile(samples, 0),
        p10=percentile(samples, 10),
        p90=percentile(samples, 90),
        maximum=percentile(samples, 100),
    )


def ratio(value: float | None, base: float | None) -> float | None:
    """``value / base``, or None when either is missing or the base is zero."""
    if value is None or not base:
        return None
    return value / base


def rotated(items: Sequence[str], by: int) -> list[str]:
    """``items`` starting from position ``by`` (modulo their number), so that no one always goes first."""
    if not items:
        return []
    start = by % len(items)
    return [*items[start:], *items[:start]]
