"""Merging limits, and what the options of ``update`` come to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gosudacon.base.errors import ConfigError, Error
from gosudacon.cli import update
from gosudacon.cli.parse import parse
from gosudacon.container.resources import merge, read

R = dict[str, Any]


@pytest.mark.parametrize(
    ("current", "given", "merged", "changed"),
    [
        ({}, {}, {}, {}),
        ({"memory": {"limit": 5}}, {}, {"memory": {"limit": 5}}, {}),
        ({"memory": {"limit": 5}}, {"memory": {}}, {"memory": {"limit": 5}}, {}),
        ({"memory": {"limit": 5}}, {"memory": {"limit": 0}}, {"memory": {"limit": 5}}, {}),
        ({"memory": {"limit": 5}}, {"memory": None}, {"memory": {"limit": 5}}, {}),
        (
            {"memory": {"limit": 5, "swap": 9, "reservation": 2}},
            {"memory": {"limit": 6}},
            {"memory": {"limit": 6, "swap": 9, "reservation": 2}},
            {"memory": {"limit": 6, "swap": 9}},
        ),
        ({"memory": {"limit": 5, "swap": 9}}, {"memory": {"limit": -1}}, *[{"memory": {"limit": -1}}] * 2),
        (
            {"cpu": {"quota": 5, "period": 9, "shares": 7, "cpus": "0"}},
            {"cpu": {"quota": 6}},
            {"cpu": {"quota": 6, "period": 9, "shares": 7, "cpus": "0"}},
            {"cpu": {"quota": 6, "period": 9}},
        ),
        ({"cpu": {"idle": 1}}, {"cpu": {"shares": 9}}, {"cpu": {"idle": 1, "shares": 9}}, {"cpu": {"shares": 9}}),
        ({"cpu": {"idle": 1}}, {"cpu": {"idle": 0, "burst": 0}}, *[{"cpu": {"idle": 0, "burst": 0}}] * 2),
        ({"pids": {"limit": 5}}, {"pids": {"limit": 0}}, *[{"pids": {"limit": 0}}] * 2),
        ({"devices": [1]}, {"devices": [2]}, {"devices": [1]}, {}),
        (
            {"unified": {"a": "1", "b": "2"}},
            {"unified": {"b": "3"}},
            {"unified": {"a": "1", "b": "3"}},
            {"unified": {"b": "3"}},
        ),
        (
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 1}, {"pageSize": "1GB", "limit": 1}]},
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]},
            {"hugepageLimits": [{"pageSize": "1GB", "limit": 1}, {"pageSize": "2MB", "limit": 0}]},
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]},
        ),
        (
            {"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}]}},
            {"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 2}]}},
            *[{"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 2}]}}] * 2,
        ),
    ],
)
def test_merge(current: R, given: R, merged: R, changed: R) -> None:
    before = repr(current)
    assert merge(current, given) == (merged, changed)
    assert repr(current) == before


@pytest.mark.parametrize(
    "given",
    [{"memory": 5}, {"cpu": "all"}, {"hugepageLimits": {}}, {"blockIO": {"weightDevice": [1]}}],
)
def test_what_cannot_be_merged(given: R) -> None:
    with pytest.raises(ConfigError):
        merge({}, given)


@pytest.mark.parametrize(
    ("words", "resources"),
    [
        ("", {}),
        ("--memory 512m", {"memory": {"limit": 512 << 20}}),
        ("--memory -1 --memory-swap=-1", {"memory": {"limit": -1, "swap": -1}}),
        ("--memory-reservation 1.5GiB", {"memory": {"reservation": 3 << 29}}),
        ("--memory 1024", {"memory": {"limit": 1024}}),
        ("--memory 10kb", {"memory": {"limit": 10240}}),
        ("--memory 7B", {"memory": {"limit": 7}}),
        ("--cpu-quota -1 --cpu-period 100000", {"cpu": {"quota": -1, "period": 100000}}),
        ("--cpu-share 512 --cpu-burst 0 --cpu-idle 0", {"cpu": {"shares": 512, "burst": 0, "idle": 0}}),
        ("--cpuset-cpus 0-1 --cpuset-mems 0", {"cpu": {"cpus": "0-1", "mems": "0"}}),
        ("--pids-limit 0", {"pids": {"limit": 0}}),
        ("--pids-limit=-1 --blkio-weight 100", {"pids": {"limit": -1}, "blockIO": {"weight": 100}}),
        ("--cpu-rt-period 7 --cpu-rt-runtime 5", {"cpu": {"realtimePeriod": 7, "realtimeRuntime": 5}}),
    ],
)
def test_options(words: str, resources: R) -> None:
    options = parse(["update", *words.split(), "x"]).options
    assert update._from_options(options) == resources


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("memory", value) for value in ("", " ", "m", "1x", "1.2.3m", "-2", "1e3", "٣", "1kk", "99999999p", "bb")),
        *(("cpu-quota", value) for value in ("x", "1.5", "--1", "9" * 30, "1_0", "+1")),
    ],
)
def test_values_that_are_none(option: str, value: str) -> None:
    if not value:
        return
    with pytest.raises(Error, match=f"invalid value for {option}"):
        update._from_options(parse(["update", f"--{option}={value}", "x"]).options)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"memory": NaN}', "nonsense"])
def test_resources_that_are_no_object(tmp_path: Path, text: str) -> None:
    path = tmp_path / "resources"
    path.write_text(text)
    with pytest.raises(Error, match="invalid resources in"):
        read(str(path))


def test_unknown_members_are_ignored(tmp_path: Path) -> None:
    """Unknown names at any depth, names in other letters, and numbers that say "unset"."""
    path = tmp_path / "resources"
    path.write_text(
        '{"nosuch": 1, "CPU": {"Shares": 5, "new": 1, "burst": -1}, "memory": {"limit": 18446744073709551615}}'
    )
    given = read(str(path))
    assert given == {"nosuch": 1, "cpu": {"shares": 5, "new": 1}, "memory": {"limit": -1}}
    assert merge({}, given) == ({key: given[key] for key in ("cpu", "memory")},) * 2


def test_null_is_absent(tmp_path: Path) -> None:
    path = tmp_path / "resources"
    path.write_text('{"memory": {"limit": 1, "swap": null}, "cpu": null}')
    assert read(str(path)) == {"memory": {"limit": 1}}
