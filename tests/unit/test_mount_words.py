"""What an entry of ``mounts`` is: a bind mount or not, and where."""

from __future__ import annotations

import pytest

from gosudacon.linux import mount


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("", "/"),
        ("/", "/"),
        ("data", "/data"),
        ("//dev/./pts/", "/dev/pts"),
        ("/..", "/"),
        ("/../../etc", "/etc"),
        ("../etc", "/etc"),
        ("/link/../etc", "/link/../etc"),
        ("/..x/.y", "/..x/.y"),
    ],
)
def test_normal(place: str, expected: str) -> None:
    """Only what the kernel could not see differently goes."""
    assert mount.normal(place) == expected
    assert mount.normal(expected) == expected


@pytest.mark.parametrize(
    ("fstype", "options", "bind"),
    [
        ("bind", None, True),
        ("bind", ["ro"], True),
        ("none", ["ro", "bind"], True),
        (None, ["rbind"], True),
        ("tmpfs", ["rbind"], True),
        ("none", [], False),
        (None, None, False),
        ("tmpfs", ["nobind", "ro"], False),
    ],
)
def test_is_bind(fstype: str | None, options: list[str] | None, bind: bool) -> None:
    assert mount.is_bind(fstype, options) is bind
