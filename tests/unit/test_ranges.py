"""Lists of CPUs and nodes: one grammar, that of the kernel's bitmap_parselist()."""

from __future__ import annotations

import pytest

from gosudacon.base import ranges


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("", []),
        (" , ,\n", []),
        ("0", [0]),
        ("0-2,7\n", [0, 1, 2, 7]),
        ("7, 0-2", [0, 1, 2, 7]),
        ("0 2\t4", [0, 2, 4]),
        ("1-3,2-4,3", [1, 2, 3, 4]),
        ("0-7:2/4", [0, 1, 4, 5]),
        ("1-6:1/2", [1, 3, 5]),
        ("0-8:2/4", [0, 1, 4, 5, 8]),
        ("0-3:0/2", []),
        ("0-3:4/4", [0, 1, 2, 3]),
        ("63", [63]),
    ],
)
def test_numbers(text: str, numbers: list[int]) -> None:
    assert ranges.parse(text, 64) == numbers
    assert ranges.mask(numbers) == sum(1 << number for number in numbers)


@pytest.mark.parametrize(
    "text",
    [
        *("x", "-", "1-", "-1", "3-1", "1--2", "1-2-3", "0 - 3", "0x1", "+1", "\u0663", "\u00b2", "1;2", "1.5"),
        *("64", "0-64", "0-99999999999", "9" * 5000),
        *("0-7:", "0-7:2", "0-7:/4", "0-7:2/", "0-7:5/4", "0-7:0/0", "3:1/2", "0-7:1/2/3", "0-7:1:2", "0-7/2"),
    ],
)
def test_no_list(text: str) -> None:
    with pytest.raises(ValueError, match="invalid range"):
        ranges.parse(text, 64)
