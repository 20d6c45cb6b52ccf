"""The stage `cgroups` on cgroup v1 and hybrid: every file it writes, cpusets, device rules."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from gosudacon.api import Error, Host
from gosudacon.container import host as hosts
from gosudacon.linux import bpf
from gosudacon.stages.cgroups.create import Held
from tests.support import cgroups
from tests.support.jail import Jail, cleaned
from tests.support.needs import needs

pytestmark = needs("cgroup-v1")
MakeJail = Callable[..., Jail]
DENY_ALL = {"allow": False, "access": "rwm"}
DEFAULT_DEVICES = [
    *("c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm"),
    *("c 5:2 rwm", "c 136:* rwm", "c 10:200 rwm"),
]


@pytest.fixture
def make_jail(scratch: Path, token: str) -> Iterator[MakeJail]:
    """A function that makes a `Jail` in a cgroup of this test's own; all are cleaned up."""
    with ExitStack() as stack:
        count = 0

        def make(resources: dict[str, Any] | None = None, *, parent: str = "", **more: Any) -> Jail:
            nonlocal count
            count += 1
            path = f"/gosudacon-test/{token}/{parent}{scratch.name}-{count}"
            return stack.enter_context(cleaned(Jail(path, scratch / f"state{count}", resources, **more)))

        yield make


def controllers() -> set[str]:
    return {name for item in cgroups.hierarchies() for name in item.controllers if item.version == 1}


@pytest.mark.parametrize(
    ("resources", "controller", "file", "value"),
    [
        ({"memory": {"limit": 67108864}}, "memory", "memory.limit_in_bytes", "67108864"),
        ({"memory": {"limit": -1}}, "memory", "memory.limit_in_bytes", "9223372036854771712"),
        ({"memory": {"limit": 8 << 20, "swap": 16 << 20}}, "memory", "memory.memsw.limit_in_bytes", "16777216"),
        ({"memory": {"reservation": 67108864}}, "memory", "memory.soft_limit_in_bytes", "67108864"),
        ({"memory": {"swappiness": 33}}, "memory", "memory.swappiness", "33"),
        ({"memory": {"kernelTCP": 67108864}}, "memory", "memory.kmem.tcp.limit_in_bytes", "67108864"),
        ({"cpu": {"shares": 512}}, "cpu", "cpu.shares", "512"),
        ({"cpu": {"quota": 50000}}, "cpu", "cpu.cfs_quota_us", "50000"),
        ({"cpu": {"quota": 50000, "period": 20000}}, "cpu", "cpu.cfs_period_us", "20000"),
        ({"cpu": {"quota": 50000, "burst": 10000}}, "cpu", "cpu.cfs_burst_us", "10000"),
        ({"cpu": {"idle": 1, "shares": 512}}, "cpu", "cpu.idle", "1"),
        ({"cpu": {"cpus": "0"}}, "cpuset", "cpuset.cpus", "0"),
        ({"cpu": {"mems": "0"}}, "cpuset", "cpuset.mems", "0"),
        ({"pids": {"limit": 0}}, "pids", "pids.max", "1"),
        ({"pids": {"limit": -1}}, "pids", "pids.max", "max"),
    ],
)
def test_files(make_jail: MakeJail, resources: dict[str, Any], controller: str, file: str, value: str) -> None:
    if controller not in controllers():
        pytest.skip(f"needs the v1 controller {controller}")
    jail = make_jail(resources)
    jail.start()
    assert jail.read(controller, file) == value


def test_the_oom_killer_can_be_off(make_jail: MakeJail) -> None:
    jail = make_jail({"memory": {"disableOOMKiller": True}})
    jail.start()
    assert "oom_kill_disable 1" in jail.read("memory", "memory.oom_control")


def test_throttles(make_jail: MakeJail) -> None:
    disk = next(Path("/sys/block").glob("*/dev"), None)
    if disk is None:
        pytest.skip("needs a block device")
    device = disk.read_text().strip()
    major, minor = map(int, device.split(":"))
    entry = [{"major": major, "minor": minor, "rate": 1048576}]
    jail = make_jail(
        {"blockIO": {f"throttle{kind}Device": entry for kind in ("ReadBps", "WriteBps", "ReadIOPS", "WriteIOPS")}}
    )
    jail.start()
    for name in ("read_bps", "write_bps", "read_iops", "write_iops"):
        assert jail.read("blkio", f"blkio.throttle.{name}_device") == f"{device} 1048576"


def test_limits_that_bound_each_other(make_jail: MakeJail) -> None:
    """Enlarging needs the other order: first memory and swap together, the quota before its burst."""
    first = make_jail({"memory": {"limit": 8 << 20, "swap": 16 << 20}, "cpu": {"quota": 5000, "burst": 1000}})
    first.start()
    first.kill()
    more = {"memory": {"limit": 32 << 20, "swap": 64 << 20}, "cpu": {"quota": 50000, "burst": 20000}}
    second = Jail(first.path, first.state, more)
    with cleaned(second):
        second.start()
        assert second.read("memory", "memory.limit_in_bytes") == str(32 << 20)
        assert second.read("memory", "memory.memsw.limit_in_bytes") == str(64 << 20)
        assert second.read("cpu", "cpu.cfs_burst_us") == "20000"


def test_cpusets_get_what_their_parents_have(make_jail: MakeJail, token: str) -> None:
    jail = make_jail(parent=f"one-{os.getpid()}/two/")
    jail.start()
    top = cgroups.directory("cpuset", "/")
    here = Path(jail.context.cgroups["cpuset"])
    for file in ("cpuset.cpus", "cpuset.mems"):
        assert (here / file).read_text() == (here.parent.parent / file).read_text() == (top / file).read_text()
    jail.undo()
    jail.wait()
    for item in cgroups.hierarchies():
        assert not (item.mountpoint / os.path.dirname(jail.path).lstrip("/")).parent.exists()  # made with it


# Devices.


def opens(path: str) -> str:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except OSError as error:
        return errno_name(error)
    return "ok"


def errno_name(error: OSError) -> str:
    import errno

    return errno.errorcode[error.errno or 0]


def in_jail(jail: Jail, *paths: str) -> list[str]:
    """What opening each of ``paths`` gives a process in the jail, once everything is set up."""
    reader, writer = os.pipe()
    gate, opener = os.pipe()

    def body() -> None:
        os.close(opener)
        os.read(gate, 1)
        os.write(writer, " ".join(opens(path) for path in paths).encode())

    jail.start(body)
    os.close(opener)
    os.close(writer)
    os.close(gate)
    assert jail.wait() == 0
    text = os.read(reader, 4096).decode()
    os.close(reader)
    return text.split()


def test_devices_default(make_jail: MakeJail) -> None:
    jail = make_jail({"devices": [DENY_ALL]})
    assert in_jail(jail, "/dev/null", "/dev/urandom", "/dev/kmsg") == ["ok", "ok", "EPERM"]
    assert sorted(jail.read("devices", "devices.list").splitlines()) == sorted(DEFAULT_DEVICES)


def test_devices_of_the_container_s_own(make_jail: MakeJail) -> None:
    jail = make_jail({"devices": [DENY_ALL, {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "r"}]})
    assert in_jail(jail, "/dev/null", "/dev/kmsg") == ["ok", "ok"]


def test_devices_all(make_jail: MakeJail) -> None:
    jail = make_jail({"devices": [DENY_ALL, {"allow": True, "access": "rwm"}]})
    assert in_jail(jail, "/dev/null", "/dev/kmsg") == ["ok", "ok"]
    assert jail.read("devices", "devices.list") == "a *:* rwm"


def test_devices_all_but_some(make_jail: MakeJail) -> None:
    some = {"allow": False, "type": "c", "major": 1, "minor": 11, "access": "rwm"}
    jail = make_jail({"devices": [{"allow": True, "access": "rwm"}, some]})
    assert in_jail(jail, "/dev/null", "/dev/kmsg") == ["ok", "EPERM"]


@pytest.fixture
def without_v1_devices() -> Host:
    """This host, were its v1 devices controller not mounted."""
    host = hosts.gather()
    if host.cgroup_mode != "hybrid":
        pytest.skip("needs cgroup-hybrid")
    del host.cgroup_mounts["devices"]
    return host


def test_devices_by_program_in_the_unified_hierarchy(make_jail: MakeJail, without_v1_devices: Host) -> None:
    jail = make_jail({"devices": [DENY_ALL]}, host=without_v1_devices)
    assert in_jail(jail, "/dev/null", "/dev/urandom", "/dev/kmsg") == ["ok", "ok", "EPERM"]


def test_a_program_takes_the_place_of_those_before(make_jail: MakeJail, without_v1_devices: Host) -> None:
    jail = make_jail(host=without_v1_devices)
    jail.start()
    fd = jail.context.cgroup_dirs[""]
    before = bpf.attached(fd)
    bpf.limit_devices(fd, [])
    after = bpf.attached(fd)
    assert len(before) == len(after) == 1
    assert before != after
    program = bpf.load(bpf.device_program([]))
    bpf._attach(fd, program, 2)
    os.close(program)
    assert len(bpf.attached(fd)) == 2
    bpf.limit_devices(fd, [])
    assert len(bpf.attached(fd)) == 1


def test_joining_is_by_tasks(make_jail: MakeJail) -> None:
    """Joining is by tasks which waits for no grace period."""
    jail = make_jail()
    jail.prepare()
    assert {os.path.basename(path) for path in jail.context.own(Held).joins} == {"tasks"}


def test_a_memory_limit_that_is_too_low_says_so(make_jail: MakeJail) -> None:
    with pytest.raises(Error, match=r"unable to set memory limit to 4096 \(current usage: \d+, peak usage: \d+\)"):
        make_jail({"memory": {"limit": 4096}}).start()
