"""The bench's arithmetic."""

from __future__ import annotations

import pytest

from bench import stats


def test_percentile_interpolates_between_neighbours() -> None:
    assert stats.percentile([4, 1, 3, 2], 50) == 2.5
    assert stats.percentile([10, 20, 30, 40, 50], 10) == pytest.approx(14)
    assert stats.percentile([10, 20, 30, 40, 50], 90) == pytest.approx(46)


@pytest.mark.parametrize("percent", [0, 10, 50, 90, 100])
def test_percentile_of_one_sample_is_that_sample(percent: float) -> None:
    assert stats.percentile([7], percent) == 7


def test_percentile_reaches_both_ends() -> None:
    assert stats.percentile([3, 1, 2], 0) == 1
    assert stats.percentile([3, 1, 2], 100) == 3


@pytest.mark.parametrize(("samples", "percent"), [([], 50), ([1], -1), ([1], 101)])
def test_percentile_refuses_nonsense(samples: list[float], percent: float) -> None:
    with pytest.raises(ValueError, match=r"samples|percent"):
        stats.percentile(samples, percent)


def test_outlier_keeps_the_median() -> None:
    """Summary of a series with an outlier keeps the median."""
    summary = stats.summarise([10, 11, 12, 13, 900])
    assert (summary.count, summary.minimum, summary.median, summary.maximum) == (5, 10, 12, 900)
    assert summary.p10 < summary.median < summary.p90


@pytest.mark.parametrize(
    ("value", "base", "expected"), [(8.0, 10.0, 0.8), (None, 10.0, None), (8.0, None, None), (8.0, 0.0, None)]
)
def test_ratio(value: float | None, base: float | None, expected: float | None) -> None:
    assert stats.ratio(value, base) == expected


def test_rotation_lets_everyone_go_first_equally_often() -> None:
    names = ["a", "b", "c"]
    orders = [stats.rotated(names, number) for number in range(6)]
    assert [order[0] for order in orders] == ["a", "b", "c", "a", "b", "c"]
    assert all(sorted(order) == names for order in orders)
    assert stats.rotated([], 3) == []
