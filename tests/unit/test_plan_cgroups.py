"""Plans of the stage `cgroups`: where the cgroup is, and what is written on v1, hybrid and v2 hosts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gosudacon.api import ConfigError, Context, Host, Options, Spec, Step
from gosudacon.pipeline import plan as plans
from gosudacon.stages.cgroups import Cgroups
from gosudacon.stages.cgroups.create import Note
from gosudacon.stages.namespaces import Namespaces

V1_MOUNTS = {
    name: f"/sys/fs/cgroup/{directory}"
    for directory, names in {
        "cpu,cpuacct": ("cpu", "cpuacct"),
        "cpuset": ("cpuset",),
        "memory": ("memory",),
        "devices": ("devices",),
        "freezer": ("freezer",),
        "blkio": ("blkio",),
        "pids": ("pids",),
        "hugetlb": ("hugetlb",),
        "net_cls,net_prio": ("net_cls", "net_prio"),
        "rdma": ("rdma",),
        "systemd": ("name=systemd",),
        "elogind": ("name=elogind",),
    }.items()
    for name in names
}
V1 = Host(cgroup_mode="v1", cgroup_mounts=V1_MOUNTS, own_cgroups=dict.fromkeys(V1_MOUNTS, "/"))
HYBRID = Host(
    cgroup_mode="hybrid",
    cgroup_mounts={"memory": "/sys/fs/cgroup/memory", "cpu": "/sys/fs/cgroup/cpu", "": "/sys/fs/cgroup/unified"},
    own_cgroups={"memory": "/agent/7", "cpu": "/", "": "/"},
)
V2 = Host(own_cgroups={"": "/user.slice/session-1.scope"})
DENY_ALL = {"allow": False, "access": "rwm"}
LIMITS = {
    "memory": {"limit": 536870912, "reservation": 268435456, "swap": 1073741824},
    "cpu": {"shares": 512, "quota": 50000, "period": 100000, "burst": 1000, "cpus": "0-1", "mems": "0"},
    "pids": {"limit": 64},
    "blockIO": {
        "weight": 500,
        "weightDevice": [{"major": 8, "minor": 0, "weight": 300}],
        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}],
        "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 300}],
    },
    "hugepageLimits": [{"pageSize": "2MB", "limit": 209715200}],
    "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}, "mlx4_0": {"hcaObjects": 1000}},
    "devices": [DENY_ALL],
}
V1_LIMITS = {
    **LIMITS,
    "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 500}]},
}


def plan(
    resources: dict[str, Any] | None = None,
    host: Host = V2,
    path: str | None = "/jail/c1",
    options: dict[str, Any] | None = None,
    **config: Any,
) -> list[Step]:
    linux: dict[str, Any] = {"resources": resources or {}, **config.pop("linux", {})}
    if path is not None:
        linux["cgroupsPath"] = path
    whole: Any = {"linux": linux, **config}
    spec = Spec(whole, "c1", "/bundle", Options(**(options or {})))
    return plans.make([Cgroups()], spec, host).steps


def shown(steps: list[Step]) -> list[str]:
    return [f"{step.phase:<16} {step.runs_on():<9} {step.describe()}" for step in steps]


def refused(*arguments: Any, **keywords: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        plan(*arguments, **keywords)
    assert caught.value.stage == "cgroups"
    return caught.value


def joining(host: Host, path: str = "/c", **options: Any) -> tuple[str, str]:
    """What the step that makes the process says about its cgroup, and what joins the cgroup afterwards."""
    spec = Spec({"linux": {"cgroupsPath": path}}, "c1", "/bundle", Options(**options))
    steps = plans.make([Namespaces(), Cgroups()], spec, host).steps
    joins = [step.describe() for step in steps if type(step).__name__ == "JoinCgroup"]
    return next(step.describe() for step in steps if step.spawns).partition(":")[0], "".join(joins)


def test_the_step_that_clones_into_a_cgroup_says_so() -> None:
    by_clone = "clone3(CLONE_INTO_CGROUP)"
    assert joining(V2) == (by_clone, "close the cgroup's descriptor")
    assert joining(HYBRID) == (by_clone, "join the cgroup: write 0 to tasks of memory, cpu")
    for host in (Host(kernel=(5, 6)), Host(clone3=False)):
        assert joining(host) == ("clone3(0)", "join the cgroup: write 0 to cgroup.procs")
    assert joining(V1)[0] == "clone3(0)"
    assert joining(V2, cgroup_manager="disabled") == ("clone3(0)", "")
    assert joining(Host(systemd=True), path="", systemd_cgroup=True) == ("clone3(0)", "")


def test_v1_plan() -> None:
    assert shown(plan(V1_LIMITS, V1)) == [
        "prepare          runtime   create cgroup /jail/c1 in cpu, cpuacct, cpuset, memory, devices, freezer, blkio, "
        "pids, hugetlb, net_cls, net_prio, rdma, name=systemd; an empty cpuset gets CPUs and memory nodes from above",
        "prepare          runtime   allow devices c *:* m, b *:* m, c 1:3 rwm, c 1:5 rwm, c 1:7 rwm, c 1:8 rwm, "
        "c 1:9 rwm, c 5:0 rwm, c 5:2 rwm, c 136:* rwm, c 10:200 rwm",
        "isolate          container join the cgroup: write 0 to tasks of cpu, cpuacct, cpuset, memory, devices, "
        "freezer, blkio, pids, hugetlb, net_cls, net_prio, rdma, name=systemd",
        "isolate          runtime   write 536870912 to memory.limit_in_bytes, "
        "1073741824 to memory.memsw.limit_in_bytes",
        "isolate          runtime   write 268435456 to memory.soft_limit_in_bytes",
        "isolate          runtime   write 512 to cpu.shares",
        "isolate          runtime   write 100000 to cpu.cfs_period_us, 50000 to cpu.cfs_quota_us, "
        "1000 to cpu.cfs_burst_us",
        "isolate          runtime   write 0-1 to cpuset.cpus",
        "isolate          runtime   write 0 to cpuset.mems",
        "isolate          runtime   write 500 to blkio.weight, else 500 to blkio.bfq.weight",
        "isolate          runtime   write 8:0 300 to blkio.weight_device, else 8:0 300 to blkio.bfq.weight_device",
        "isolate          runtime   write 8:0 600 to blkio.throttle.read_bps_device",
        "isolate          runtime   write 8:16 300 to blkio.throttle.write_iops_device",
        "isolate          runtime   write 209715200 to hugetlb.2MB.limit_in_bytes",
        "isolate          runtime   write 209715200 to hugetlb.2MB.rsvd.limit_in_bytes if it is there",
        "isolate          runtime   write 1048577 to net_cls.classid",
        "isolate          runtime   write eth0 500 to net_prio.ifpriomap",
        "isolate          runtime   write mlx5_1 hca_handle=3 hca_object=10000 to rdma.max",
        "isolate          runtime   write mlx4_0 hca_object=1000 to rdma.max",
        "create-runtime   runtime   write 64 to pids.max",
    ]


def test_hybrid() -> None:
    """Hybrid plan has the unified hierarchy for grouping only."""
    assert shown(plan({"memory": {"limit": 1 << 20}}, HYBRID)) == [
        "prepare          runtime   create cgroup /jail/c1 in memory, cpu, unified",
        "isolate          container join the cgroup: write 0 to tasks of memory, cpu",
        # no v1 devices here: eBPF in the unified hierarchy
        "isolate          runtime   attach an eBPF program for devices: c *:* m, b *:* m, c 1:3 rwm, c 1:5 rwm, "
        "c 1:7 rwm, c 1:8 rwm, c 1:9 rwm, c 5:0 rwm, c 5:2 rwm, c 136:* rwm, c 10:200 rwm",
        "isolate          runtime   write 1048576 to memory.limit_in_bytes",
    ]


def test_v2_plan() -> None:
    assert shown(plan({**LIMITS, "unified": {"memory.high": "max", "io.max": "8:0 rbps=1\n8:16 wiops=2"}})) == [
        "prepare          runtime   create cgroup /jail/c1 with all available controllers",
        "isolate          container close the cgroup's descriptor",
        "isolate          runtime   attach an eBPF program for devices: not a *:* rwm, c *:* m, b *:* m, c 1:3 rwm, "
        "c 1:5 rwm, c 1:7 rwm, c 1:8 rwm, c 1:9 rwm, c 5:0 rwm, c 5:2 rwm, c 136:* rwm, c 10:200 rwm",
        "isolate          runtime   write 536870912 to memory.swap.max",
        "isolate          runtime   write 536870912 to memory.max",
        "isolate          runtime   write 268435456 to memory.low",
        "isolate          runtime   write 500 to io.bfq.weight, else default 4950 to io.weight",
        "isolate          runtime   write 8:0 300 to io.bfq.weight",
        "isolate          runtime   write 8:0 rbps=600 to io.max",
        "isolate          runtime   write 8:16 wiops=300 to io.max",
        "isolate          runtime   write 59 to cpu.weight",
        "isolate          runtime   write 50000 100000 to cpu.max, 1000 to cpu.max.burst",
        "isolate          runtime   write 0-1 to cpuset.cpus",
        "isolate          runtime   write 0 to cpuset.mems",
        "isolate          runtime   write 209715200 to hugetlb.2MB.max",
        "isolate          runtime   write 209715200 to hugetlb.2MB.rsvd.max if it is there",
        "isolate          runtime   write mlx5_1 hca_handle=3 hca_object=10000 to rdma.max",
        "isolate          runtime   write mlx4_0 hca_object=1000 to rdma.max",
        "create-runtime   runtime   write 64 to pids.max",
        "create-runtime   runtime   write max to memory.high",
        "create-runtime   runtime   write 8:0 rbps=1 to io.max",
        "create-runtime   runtime   write 8:16 wiops=2 to io.max",
    ]


def test_every_step_says_where_it_comes_from() -> None:
    wheres = {step.where for step in plan({**V1_LIMITS}, V1) if type(step).__name__ != "JoinCgroup"}
    assert "linux.resources.blockIO.throttleReadBpsDevice[0]" in wheres
    assert "linux.resources.rdma['mlx4_0']" in wheres
    assert all(where.startswith("linux.") for where in wheres)


def test_steps_are_data() -> None:
    for host in (V1, HYBRID, V2):
        for step in plan({"devices": [DENY_ALL], "memory": {"limit": 1 << 20}}, host):
            assert json.loads(json.dumps(step.record())) == step.record()


def test_limits_are_needed_by_create_container() -> None:
    """The container side waits for limits only before create container."""
    for host in (V1, V2):
        late = [step for step in plan(LIMITS, host) if step.runs_on() == "runtime" and step.phase != "prepare"]
        assert {step.by for step in late} == {"create-container"}


def test_nothing_configured() -> None:
    """A container that says nothing gets a cgroup and the default devices."""
    assert [type(step).__name__ for step in plan(host=V1, path=None)] == ["CreateCgroup", "LimitDevices", "JoinCgroup"]


# Paths.


def places(path: str | None, host: Host) -> list[tuple[str, str]]:
    return [(point, below) for point, below, _ in vars(plan(host=host, path=path)[0])["places"]]


@pytest.mark.parametrize(
    ("path", "v1", "v2"),
    [
        ("/a/b", ("a/b", "a/b"), "a/b"),
        ("//a/./b/", ("a/b", "a/b"), "a/b"),
        ("a/b", ("agent/7/a/b", "a/b"), "user.slice/a/b"),
        (None, ("agent/7/c1", "c1"), "user.slice/c1"),
        ("", ("agent/7/c1", "c1"), "user.slice/c1"),
    ],
)
def test_where_the_cgroup_is(path: str | None, v1: tuple[str, str], v2: str) -> None:
    assert [below for _, below in places(path, HYBRID)][:2] == list(v1)
    assert places(path, V2) == [("/sys/fs/cgroup", v2)]


def test_controllers_mounted_together() -> None:
    """Controllers mounted together share a directory."""
    made = vars(plan(host=V1)[0])["places"]
    assert ["/sys/fs/cgroup/cpu,cpuacct", "jail/c1", ["cpu", "cpuacct"]] in made
    assert len(made) == 11


def test_named_hierarchies() -> None:
    """Other people's named hierarchies are left alone."""
    assert not any("elogind" in point for point, _ in places("/x", V1))


def test_caller_outside_of_its_namespace() -> None:
    """A caller outside of its cgroup namespace counts from the root."""
    assert places("x", Host(own_cgroups={"": "/../../other"})) == [("/sys/fs/cgroup", "x")]


@pytest.mark.parametrize("host", [V1, HYBRID, V2])
@pytest.mark.parametrize(
    "path",
    [
        *("../../../../../../tmp/x", "/..", "/../..", "..", "a/../../..", "/a/../b", "a/.."),
        *("/", "//", "/./", ".", "/a\nb", "/a\0b", "/" + "x" * 256, "/é" + "é" * 127, "/x" * 2100),
    ],
)
def test_paths_that_lead_elsewhere(path: str, host: Host) -> None:
    error = refused(path=path, host=host)
    assert error.where == "linux.cgroupsPath"
    assert "cgroupsPath" in error.message


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "a b", "...", "a..b", "-x", "\\"])
def test_odd_names_that_are_names(name: str) -> None:
    assert places(f"/{name}", V2) == [("/sys/fs/cgroup", name)]


# Names that become paths.


@pytest.mark.parametrize(
    "key", ["../cgroup.procs", "/x", "a/b", "..", ".", "", "x\0", "cgroup.procs", "cgroup.threads"]
)
def test_unified_keys_are_file_names(key: str) -> None:
    assert refused({"unified": {key: "1"}}).where == f"linux.resources.unified[{key!r}]"


@pytest.mark.parametrize("host", [V1, V2])
@pytest.mark.parametrize("size", ["../2MB", "2MB/..", "2", "MB", "", "2TB", "02MB", "2 MB", "\uff12MB", "-2MB", "2mb"])
def test_huge_page_sizes(size: str, host: Host) -> None:
    error = refused({"hugepageLimits": [{"pageSize": "1GB", "limit": 1}, {"pageSize": size, "limit": 1}]}, host)
    assert error.where == "linux.resources.hugepageLimits[1].pageSize"


@pytest.mark.parametrize("host", [V1, V2])
@pytest.mark.parametrize("name", ["../x", "a/b", "", "..", "a b", "a\nb", " a", "a\0"])
def test_rdma_names(name: str, host: Host) -> None:
    assert refused({"rdma": {name: {"hcaHandles": 1}}}, host).where == f"linux.resources.rdma[{name!r}]"


@pytest.mark.parametrize("name", ["eth0 1\nlo", "a/b", "", "x y"])
def test_interface_names(name: str) -> None:
    error = refused({"network": {"priorities": [{"name": name, "priority": 1}]}}, V1)
    assert error.where == "linux.resources.network.priorities[0].name"


# What is refused, and what means nothing.


@pytest.mark.parametrize(
    ("resources", "where"),
    [
        ({"memory": {"limit": 1}}, "memory.limit"),
        ({"memory": {"swappiness": 5}}, "memory.swappiness"),
        ({"cpu": {"cpus": "0"}}, "cpu.cpus"),
        ({"cpu": {"realtimeRuntime": 5}}, "cpu.realtimeRuntime"),
        ({"pids": {"limit": 1}}, "pids.limit"),
        ({"blockIO": {"weight": 10}}, "blockIO.weight"),
        ({"network": {"classID": 1}}, "network.classID"),
        ({"rdma": {"x": {"hcaHandles": 1}}}, "rdma['x']"),
        ({"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]}, "hugepageLimits[0]"),
        ({"devices": [DENY_ALL]}, "devices"),
    ],
)
def test_v1_controllers_that_are_not_mounted(resources: dict[str, Any], where: str) -> None:
    host = Host(cgroup_mode="v1", cgroup_mounts={"freezer": "/sys/fs/cgroup/freezer"}, own_cgroups={})
    error = refused(resources, host)
    assert error.where.startswith(f"linux.resources.{where.partition('.')[0]}")
    assert "is not mounted" in error.message


@pytest.mark.parametrize(
    ("resources", "where"),
    [
        ({"memory": {"swappiness": 60}}, "memory.swappiness"),
        ({"memory": {"disableOOMKiller": True}}, "memory.disableOOMKiller"),
        ({"memory": {"kernel": 4096}}, "memory.kernel"),
        ({"memory": {"kernelTCP": 4096}}, "memory.kernelTCP"),
        ({"cpu": {"realtimeRuntime": 1}}, "cpu.realtimeRuntime"),
        ({"cpu": {"realtimePeriod": 1}}, "cpu.realtimePeriod"),
        ({"blockIO": {"leafWeight": 10}}, "blockIO.leafWeight"),
        ({"blockIO": {"weightDevice": [{"major": 1, "minor": 1, "leafWeight": 10}]}}, "blockIO.weightDevice"),
        ({"network": {"classID": 1}}, "network.classID"),
        ({"network": {"priorities": [{"name": "lo", "priority": 1}]}}, "network.priorities"),
        ({"memory": {"limit": 200, "swap": 100}}, "memory.swap"),
        ({"memory": {"swap": 100}}, "memory.swap"),
        ({"memory": {"limit": -2}}, "memory.limit"),
        ({"blockIO": {"weight": 9}}, "blockIO.weight"),
        ({"blockIO": {"weight": 1001}}, "blockIO.weight"),
        ({"blockIO": {"weightDevice": [{"major": 1, "minor": 1}]}}, "blockIO.weightDevice[0]"),
        ({"rdma": {"x": {}}}, "rdma['x']"),
    ],
)
def test_what_v2_cannot_do_is_an_error(resources: dict[str, Any], where: str) -> None:
    assert refused(resources).where == f"linux.resources.{where}"


@pytest.mark.parametrize(
    ("resources", "where", "words"),
    [
        ({"unified": {"memory.max": "1"}}, "unified", "cannot use unified on cgroup v1"),
        ({"cpu": {"shares": 1}}, "cpu.shares", "the minimum allowed cpu-shares is 2"),
        ({"cpu": {"shares": 262145}}, "cpu.shares", "the maximum allowed cpu-shares is 262144"),
        ({"memory": {"swappiness": 101}}, "memory.swappiness", "valid range is 0-100"),
        ({"memory": {"limit": 200, "swap": 100}}, "memory.swap", "should be >= memory limit"),
        ({"rdma": {"x": {}}}, "rdma['x']", "neither"),
        ({"blockIO": {"weightDevice": [{"major": 1, "minor": 1}]}}, "blockIO.weightDevice[0]", "needs a weight"),
    ],
)
def test_what_v1_refuses(resources: dict[str, Any], where: str, words: str) -> None:
    error = refused(resources, V1)
    assert error.where == f"linux.resources.{where}"
    assert words in error.message


@pytest.mark.parametrize("host", [V1, V2])
@pytest.mark.parametrize(
    "resources",
    [
        {"memory": {"limit": 0, "swap": 0, "reservation": 0, "disableOOMKiller": False, "swappiness": (1 << 64) - 1}},
        {"memory": {"kernel": -1, "useHierarchy": True}, "cpu": {"shares": 0, "quota": 0, "period": 0}},
        {"blockIO": {"weight": 0}, "network": {}, "hugepageLimits": [], "cpu": {"cpus": "", "mems": ""}},
    ],
)
def test_values_that_mean_unset(resources: dict[str, Any], host: Host) -> None:
    assert len(plan(resources, host)) == 3


@pytest.mark.parametrize("host", [V1, V2])
@pytest.mark.parametrize(("limit", "value"), [(-1, "max"), (0, "1"), (1, "1"), (100, "100")])
def test_pids(limit: int, value: str, host: Host) -> None:
    assert plan({"pids": {"limit": limit}}, host)[-1].describe() == f"write {value} to pids.max"


def writes(resources: dict[str, Any], host: Host) -> list[str]:
    return [line[27:] for line in shown(plan(resources, host)) if line[27:].startswith("write ")]


@pytest.mark.parametrize(
    ("memory", "v1", "v2"),
    [
        ({"limit": 100}, ["write 100 to memory.limit_in_bytes"], ["write 100 to memory.max"]),
        (
            {"limit": -1},
            ["write -1 to memory.memsw.limit_in_bytes if it is there", "write -1 to memory.limit_in_bytes"],
            ["write max to memory.swap.max if it is there", "write max to memory.max"],
        ),
        (
            {"limit": 100, "swap": 100},
            ["write 100 to memory.limit_in_bytes, 100 to memory.memsw.limit_in_bytes"],
            ["write 0 to memory.swap.max if it is there", "write 100 to memory.max"],
        ),
        (
            {"limit": 100, "swap": -1},
            ["write 100 to memory.limit_in_bytes, -1 to memory.memsw.limit_in_bytes"],
            ["write max to memory.swap.max if it is there", "write 100 to memory.max"],
        ),
        (
            {"limit": 100, "checkBeforeUpdate": True},
            ["write 100 to memory.limit_in_bytes"],
            ["write 100 to memory.max"],
        ),
    ],
)
def test_memory(memory: dict[str, Any], v1: list[str], v2: list[str]) -> None:
    assert writes({"memory": memory}, V1) == v1
    assert writes({"memory": memory}, V2) == v2


def test_check_before_update_on_v2() -> None:
    """Check before update on v2 looks at the usage first."""
    steps = plan({"memory": {"limit": 100, "swap": 150, "checkBeforeUpdate": True}})
    assert [step.describe() for step in steps if type(step).__name__ == "CheckUsage"] == [
        "check that memory.current is at most 100",
        "check that memory.swap.current is at most 50",
    ]


@pytest.mark.parametrize(
    ("cpu", "v1", "v2"),
    [
        ({"quota": -1}, ["write -1 to cpu.cfs_quota_us"], ["write max 100000 to cpu.max"]),
        ({"quota": 5000}, ["write 5000 to cpu.cfs_quota_us"], ["write 5000 100000 to cpu.max"]),
        ({"period": 5000}, ["write 5000 to cpu.cfs_period_us"], ["write max 5000 to cpu.max"]),
        ({"idle": 1, "shares": 512}, ["write 1 to cpu.idle"], ["write 1 to cpu.idle"]),
        (
            {"idle": 0, "shares": 1024},
            ["write 0 to cpu.idle", "write 1024 to cpu.shares"],
            ["write 0 to cpu.idle", "write 100 to cpu.weight"],
        ),
        ({"burst": 0}, ["write 0 to cpu.cfs_burst_us"], ["write 0 to cpu.max.burst"]),
    ],
)
def test_cpu(cpu: dict[str, Any], v1: list[str], v2: list[str]) -> None:
    assert writes({"cpu": cpu}, V1) == v1
    assert writes({"cpu": cpu}, V2) == v2


def test_realtime_on_v1() -> None:
    cpu = {"realtimeRuntime": 950000, "realtimePeriod": 1000000}
    assert writes({"cpu": cpu}, V1) == ["write 1000000 to cpu.rt_period_us, 950000 to cpu.rt_runtime_us"]


# Users, drivers, ownership.


ROOTLESS = [
    (Host(euid=1000), {}),
    (Host(initial_userns=False), {}),
    (Host(), {"rootless": "true"}),
    (Host(cgroup_mode="v1", cgroup_mounts=V1_MOUNTS, own_cgroups={}, euid=1000), {}),
]


@pytest.mark.parametrize(("host", "options"), ROOTLESS)
def test_without_privileges(host: Host, options: dict[str, Any]) -> None:
    """Without privileges permission may be missing and devices are left out."""
    steps = plan({"devices": [DENY_ALL]}, host, options=options)
    assert [type(step).__name__.replace("Unified", "") for step in steps] == ["CreateCgroup", "JoinCgroup"]
    assert vars(steps[0])["rootless"] is True


def test_the_caller_can_insist() -> None:
    assert vars(plan(host=Host(euid=1000), options={"rootless": "false"})[0])["rootless"] is False


def test_no_hierarchy_at_all() -> None:
    bare = Host(cgroup_mode="v1", cgroup_mounts={})
    assert plan(host=bare) == []
    assert refused({"pids": {"limit": 1}}, bare).where == "linux.resources"


CGROUP_MOUNT = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid"]}


def chown(host: Host = V2, **changes: Any) -> list[str]:
    config: dict[str, Any] = {
        "linux": {
            "namespaces": [{"type": "cgroup"}, {"type": "user"}],
            "uidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
        },
        "mounts": [CGROUP_MOUNT],
        "process": {"user": {"uid": 33}},
        **changes,
    }
    return [step.describe() for step in plan(host=host, **config) if type(step).__name__ == "ChownCgroup"]


def test_the_cgroup_belongs_to_the_user_who_may_use_it() -> None:
    assert chown() == ["chown the cgroup and the files that may be delegated to uid 100033"]
    assert chown(linux={"namespaces": [{"type": "cgroup"}]}) == [
        "chown the cgroup and the files that may be delegated to uid 33"
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"mounts": []},
        {"mounts": [{**CGROUP_MOUNT, "options": ["ro"]}]},
        {"mounts": [{**CGROUP_MOUNT, "destination": "/cgroup"}]},
        {"linux": {"namespaces": []}},
        {"linux": {"namespaces": [{"type": "cgroup", "path": "/proc/1/ns/cgroup"}]}},
        {"linux": {"namespaces": [{"type": "cgroup"}]}, "process": {"user": {"uid": 0}}},
        {"host": V1},
    ],
)
def test_the_cgroup_stays_the_callers(changes: dict[str, Any]) -> None:
    assert chown(**changes) == []


# Imports.


@pytest.mark.parametrize("host", ["Host()", "Host(cgroup_mode='v1', cgroup_mounts={'pids': '/p'}, own_cgroups={})"])
def test_planning_imports_nothing_that_is_slow(host: str) -> None:
    script = f"""
import sys; before = set(sys.modules); sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from gosudacon.api import Host, Spec
from gosudacon.stages.cgroups import Cgroups
from gosudacon.stages.cgroups.create import Note
list(Cgroups().plan(Spec({{"linux": {{"resources": {{"pids": {{"limit": 5}}}}}}}}, "c", "/b"), {host}))
print(*(set(sys.modules) - before))
"""
    run = subprocess.run([sys.executable, "-ISB", "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    loaded = {name for name in run.stdout.split() if not name.startswith(("gosudacon", "_"))}
    assert loaded <= {"math", "time", "errno"}  # all built in


@pytest.mark.parametrize(("text", "complete", "expected"), [
    (None, False, None),
    (None, True, (False, {})),
    ("", False, None),
    ("", True, "entered"),
    ("{\"before\": {\"/a\": 0}}\n{\"own", False, (False, {"/a": 0})),
    ("{\"before\": {\"/a\": 0}}\n{\"own", True, "entered"),
    ("{\"before\": {}}\n{\"owned\": {\"/a\": 7}}\n", True, (True, {"/a": 7})),
    ("[1, 2]\n", False, (False, {})),
    ("[1, 2]\n", True, "entered"),
])  # fmt: skip
def test_what_a_note_tells(tmp_path: Path, text: str | None, complete: bool, expected: Any) -> None:
    """A damaged one is filled in from state.json, if the container was complete; one that is gone is not."""
    if text is not None:
        (tmp_path / "cgroups.note").write_text(text)
    context = Context(Spec({}, "id", "/b"), Host())
    context.state_dir = os.open(tmp_path, os.O_RDONLY)
    context.cgroups_entered = {"": str(tmp_path)} if complete else {}
    entered = True, {str(tmp_path): tmp_path.stat().st_ino}
    assert Note(context).read() == (entered if expected == "entered" else expected)
    os.close(context.state_dir)


def test_note_cannot_be_opened(tmp_path: Path) -> None:
    """What fails for want of descriptors is tried again, and nothing is forgotten meanwhile."""
    (tmp_path / "cgroups.note").mkdir()
    context = Context(Spec({}, "id", "/b"), Host())
    context.state_dir = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(OSError):
        Note(context).read()
    os.close(context.state_dir)
