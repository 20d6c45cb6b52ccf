"""Who a process is and what it may: what handoff and namespaces refuse, and what they say."""

from __future__ import annotations

from typing import Any

import pytest

from gosudacon.api import ConfigError, Host, Spec
from gosudacon.pipeline.plan import Plan, make
from gosudacon.stages.handoff import Handoff
from gosudacon.stages.namespaces import Namespaces
from gosudacon.stages.rootfs_mount import RootfsMount


def plan_of(process: dict[str, Any] | None = None, **linux: Any) -> Plan:
    config: Any = {
        "process": {"args": ["x"], "cwd": "/", "capabilities": {}, **(process or {})},
        "root": {"path": "r"},
        "linux": {"namespaces": [{"type": "mount"}, {"type": "user"}], **linux},
    }
    return make([Namespaces(), RootfsMount(), Handoff()], Spec(config, "c", "/b"), Host())


def ids(*ranges: tuple[int, int, int]) -> Any:
    return [{"containerID": inside, "hostID": outside, "size": size} for inside, outside, size in ranges]


@pytest.mark.parametrize(
    ("ranges", "where"),
    [
        ([(0, 100, 10), (0, 100, 10)], "[1].containerID"),
        ([(0, 100, 10), (9, 200, 10)], "[1].containerID"),
        ([(5, 100, 10), (0, 200, 6)], "[1].containerID"),
        ([(0, 100, 10), (10, 109, 1)], "[1].hostID"),
        ([(0, 100, 10), (20, 200, 10), (40, 90, 200)], "[2].hostID"),
        ([(0, 4294967290, 10)], "[0].size"),
        ([(4294967290, 0, 10)], "[0].size"),
        ([(0, 100, 0)], "[0].size"),
    ],
)
@pytest.mark.parametrize("key", ["uidMappings", "gidMappings"])
def test_an_id_is_mapped_once(key: str, ranges: list[tuple[int, int, int]], where: str) -> None:
    mappings = {"uidMappings": ids((0, 0, 100)), "gidMappings": ids((0, 0, 100)), key: ids(*ranges)}
    with pytest.raises(ConfigError) as caught:
        plan_of(**mappings)
    assert caught.value.where == f"linux.{key}{where}"


def test_every_id_there_is() -> None:
    whole = ids((0, 0, 4294967295))
    assert plan_of(uidMappings=whole, gidMappings=ids((0, 1, 1), (1, 0, 1), (2, 2, 9))).steps


MAPPED = {"uidMappings": ids((0, 0, 100)), "gidMappings": ids((0, 0, 100))}


def test_effective_capabilities_must_be_permitted() -> None:
    sets = {"bounding": ["CAP_KILL"], "permitted": ["CAP_CHOWN"], "effective": ["CAP_CHOWN", "CAP_KILL"]}
    with pytest.raises(ConfigError, match="CAP_KILL is not permitted") as caught:
        plan_of({"capabilities": sets}, **MAPPED)
    assert caught.value.where == "process.capabilities.effective[1]"


@pytest.mark.parametrize(
    ("sets", "uid", "where"),
    [
        (None, 0, ["process.capabilities"]),
        ({}, 0, []),
        ({"bounding": ["CAP_KILL"]}, 0, ["process.capabilities.permitted"]),
        ({"bounding": ["CAP_KILL"]}, 1, []),
        ({"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"]}, 0, []),
    ],
)
def test_what_root_gets_all_the_same(sets: dict[str, list[str]] | None, uid: int, where: list[str]) -> None:
    plan = plan_of({"capabilities": sets, "user": {"uid": uid, "gid": 0}}, **MAPPED)
    assert [each.where for each in plan.warnings] == where


def test_one_path_is_one_device() -> None:
    null, zero = ({"path": "/dev/x", "type": "c", "major": 1, "minor": minor} for minor in (3, 5))
    assert plan_of(**MAPPED, devices=[null, null]).steps
    with pytest.raises(ConfigError) as caught:
        plan_of(**MAPPED, devices=[null, {**zero, "path": "/dev//x"}])
    assert caught.value.where == "linux.devices[1].path"


def test_a_path_of_one_process() -> None:
    plan = plan_of(**MAPPED, maskedPaths=["/proc/self/environ"], readonlyPaths=["/proc/selfish"])
    assert [each.where for each in plan.warnings] == ["linux.maskedPaths[0]"]
