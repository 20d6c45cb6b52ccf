"""cgroup v1 values in v2's terms: the figures of docs/cgroups.md."""

from __future__ import annotations

import pytest

from gosudacon.stages.cgroups import convert


@pytest.mark.parametrize(
    ("shares", "weight"),
    [
        *((0, 1), (1, 1), (2, 1), (3, 2), (100, 17), (512, 59), (1000, 99), (1024, 100)),
        *((2048, 174), (4096, 303), (10240, 639), (262143, 10000), (262144, 10000), (1 << 63, 10000)),
    ],
)
def test_cpu_weight(shares: int, weight: int) -> None:
    assert convert.cpu_weight(shares) == weight


def test_cpu_weight_never_falls() -> None:
    weights = [convert.cpu_weight(shares) for shares in range(2, 262145, 7)]
    assert weights == sorted(weights)
    assert (weights[0], weights[-1]) == (1, 10000)


@pytest.mark.parametrize(
    ("quota", "period", "text"),
    [
        (50000, 100000, "50000 100000"),
        (50000, 0, "50000 100000"),
        (0, 20000, "max 20000"),
        (-1, 0, "max 100000"),
    ],
)
def test_cpu_max(quota: int, period: int, text: str) -> None:
    assert convert.cpu_max(quota, period) == text


@pytest.mark.parametrize(
    ("limit", "swap", "value"),
    [
        (0, 0, None),
        (100, 0, None),
        (-1, 0, -1),
        (100, -1, -1),
        (0, -1, -1),
        (-1, -1, -1),
        (-1, 300, 300),
        (100, 100, 0),
        (100, 300, 200),
    ],
)
def test_memory_swap(limit: int, swap: int, value: int | None) -> None:
    assert convert.memory_swap(limit, swap) == value


@pytest.mark.parametrize(
    ("limit", "swap", "words"), [(0, 100, "without memory limit"), (200, 100, "should be >= memory limit")]
)
def test_memory_swap_without_equivalent(limit: int, swap: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        convert.memory_swap(limit, swap)


@pytest.mark.parametrize(("weight", "value"), [(10, 1), (500, 4950), (1000, 10000)])
def test_io_weight(weight: int, value: int) -> None:
    assert convert.io_weight(weight) == value


@pytest.mark.parametrize("weight", [0, 9, 1001])
def test_io_weight_out_of_range(weight: int) -> None:
    with pytest.raises(ValueError, match="not between 10 and 1000"):
        convert.io_weight(weight)
