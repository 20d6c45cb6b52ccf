"""The stage `cgroups` on cgroup v2: every file it writes, controllers, device programs, ownership."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from gosudacon.api import Error
from gosudacon.linux import bpf
from tests.support import cgroups
from tests.support.jail import Jail, cleaned
from tests.support.needs import needs

pytestmark = [needs("cgroup-v2"), pytest.mark.vm]
MakeJail = Callable[..., Jail]
DENY_ALL = {"allow": False, "access": "rwm"}


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


@pytest.mark.parametrize(
    ("resources", "file", "value"),
    [
        ({"memory": {"limit": 67108864}}, "memory.max", "67108864"),
        ({"memory": {"limit": -1}}, "memory.max", "max"),
        ({"memory": {"limit": 67108864, "swap": 134217728}}, "memory.swap.max", "67108864"),
        ({"memory": {"limit": 67108864, "swap": 67108864}}, "memory.swap.max", "0"),
        ({"memory": {"reservation": 33554432}}, "memory.low", "33554432"),
        ({"memory": {"limit": 67108864, "checkBeforeUpdate": True}}, "memory.max", "67108864"),
        ({"cpu": {"shares": 512}}, "cpu.weight", "59"),
        ({"cpu": {"shares": 1024}}, "cpu.weight", "100"),
        ({"cpu": {"quota": 50000, "period": 20000}}, "cpu.max", "50000 20000"),
        ({"cpu": {"period": 20000}}, "cpu.max", "max 20000"),
        ({"cpu": {"quota": 50000, "burst": 10000}}, "cpu.max.burst", "10000"),
        ({"cpu": {"idle": 1, "shares": 512}}, "cpu.idle", "1"),
        ({"cpu": {"cpus": "0"}}, "cpuset.cpus", "0"),
        ({"cpu": {"mems": "0"}}, "cpuset.mems", "0"),
        ({"pids": {"limit": 0}}, "pids.max", "1"),
        ({"pids": {"limit": -1}}, "pids.max", "max"),
        ({"pids": {"limit": 77}}, "pids.max", "77"),
        ({"hugepageLimits": [{"pageSize": "2MB", "limit": 2097152}]}, "hugetlb.2MB.max", "2097152"),
        ({"hugepageLimits": [{"pageSize": "2MB", "limit": 2097152}]}, "hugetlb.2MB.rsvd.max", "2097152"),
        ({"unified": {"memory.high": "33554432"}}, "memory.high", "33554432"),
        ({"unified": {"cgroup.max.descendants": "7"}}, "cgroup.max.descendants", "7"),
        ({"pids": {"limit": 77}, "unified": {"pids.max": "78"}}, "pids.max", "78"),
    ],
)
def test_files(make_jail: MakeJail, resources: dict[str, Any], file: str, value: str) -> None:
    jail = make_jail(resources)
    jail.start()
    assert jail.read("", file) == value


def test_block_io(make_jail: MakeJail) -> None:
    disk = next(Path("/sys/block").glob("vd*/dev"), None)
    if disk is None:
        pytest.skip("needs a block device")
    device = disk.read_text().strip()
    major, minor = map(int, device.split(":"))
    rates = {"ReadBps": 1048576, "WriteBps": 2097152, "ReadIOPS": 30, "WriteIOPS": 40}
    lists = {f"throttle{kind}Device": [{"major": major, "minor": minor, "rate": rate}] for kind, rate in rates.items()}
    jail = make_jail({"blockIO": lists})
    jail.start()
    assert jail.read("", "io.max") == f"{device} rbps=1048576 wbps=2097152 riops=30 wiops=40"


def test_io_weight_goes_where_the_kernel_has_it(make_jail: MakeJail) -> None:
    other = make_jail()
    other.start()
    names = {path.name for path in cgroups.directory("", other.path).glob("io.*weight")}
    jail = make_jail({"blockIO": {"weight": 500}})
    if not names:
        with pytest.raises(Error, match=r"no such file io\.bfq\.weight"):
            jail.start()
        return
    jail.start()
    if "io.bfq.weight" in names:
        assert jail.read("", "io.bfq.weight").endswith(" 500")
    else:
        assert jail.read("", "io.weight") == "default 4950"


def test_one_line_a_write(make_jail: MakeJail) -> None:
    """Several lines for one file are written one by one."""
    jail = make_jail({"unified": {"cgroup.max.descendants": "7\n8\n"}})
    jail.start()
    assert jail.read("", "cgroup.max.descendants") == "8"


@pytest.mark.parametrize("key", ["nosuch.max", "memory.nosuch"])
def test_unknown_files_are_errors(make_jail: MakeJail, key: str) -> None:
    with pytest.raises(Error, match=f"no such file {key}") as caught:
        make_jail({"unified": {key: "1"}}).start()
    assert caught.value.where == f"linux.resources.unified[{key!r}]"


def test_controllers_are_handed_down_all_the_way(make_jail: MakeJail) -> None:
    jail = make_jail(parent=f"one-{os.getpid()}/two/")
    jail.start()
    here = cgroups.directory("", jail.path)
    top = (cgroups.hierarchy("").mountpoint / "cgroup.controllers").read_text().split()
    assert (here / "cgroup.controllers").read_text().split() == top
    assert (here.parent / "cgroup.subtree_control").read_text().split() == top
    assert (here / "cgroup.subtree_control").read_text().split() == []
    jail.undo()
    jail.wait()
    assert not here.parent.parent.exists()  # made with it


def test_parent_with_processes(make_jail: MakeJail) -> None:
    """No internal processes: cgroups(7). Without limits that does not matter."""
    outer = make_jail()
    outer.start()
    free = Jail(f"{outer.path}/free", outer.state / "free")
    with cleaned(free):
        free.start()
    tight = Jail(f"{outer.path}/tight", outer.state / "tight", {"memory": {"limit": 1 << 25}})
    with cleaned(tight), pytest.raises(Error, match=r"no such file memory\.max"):
        tight.start()


def test_threaded_cgroups_are_refused(make_jail: MakeJail) -> None:
    jail = make_jail(parent=f"threads-{os.getpid()}/threaded/")
    here = cgroups.directory("", jail.path)
    here.parent.mkdir(parents=True)
    (here.parent / "cgroup.type").write_text("threaded")
    with pytest.raises(Error, match="cannot enter cgroup") as caught:
        jail.prepare()
    jail.undo()
    there = here.exists()
    here.parent.rmdir()
    here.parent.parent.rmdir()
    assert not there
    assert caught.value.where == "linux.cgroupsPath"


def test_limit_below_the_usage(make_jail: MakeJail) -> None:
    """A limit below the usage is refused before it kills."""
    with pytest.raises(Error, match="limit 4096 is below the current usage"):
        make_jail({"memory": {"limit": 4096, "checkBeforeUpdate": True}}).start()


# Devices.


def opens(path: str) -> str:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "ok"


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


KMSG = {"type": "c", "major": 1, "minor": 11}


@pytest.mark.parametrize(
    ("entries", "answers"),
    [
        ([], ["ok", "ok", "EPERM"]),
        ([DENY_ALL], ["ok", "ok", "EPERM"]),
        ([DENY_ALL, {"allow": True, **KMSG, "access": "r"}], ["ok", "ok", "ok"]),
        ([DENY_ALL, {"allow": True, **KMSG, "access": "w"}], ["ok", "ok", "EPERM"]),
        ([DENY_ALL, {"allow": True, "access": "rwm"}], ["ok", "ok", "ok"]),
        ([{"allow": True, "access": "rwm"}, {"allow": False, **KMSG, "access": "r"}], ["ok", "ok", "EPERM"]),
    ],
)
def test_devices(make_jail: MakeJail, entries: list[dict[str, Any]], answers: list[str]) -> None:
    assert in_jail(make_jail({"devices": entries}), "/dev/null", "/dev/urandom", "/dev/kmsg") == answers


def test_a_program_takes_the_place_of_those_before(make_jail: MakeJail) -> None:
    jail = make_jail()
    jail.start()
    fd = jail.context.cgroup_dirs[""]
    before = bpf.attached(fd)
    bpf.limit_devices(fd, [])
    after = bpf.attached(fd)
    assert len(before) == len(after) == 1
    assert before != after


# Ownership.


def test_delegation(make_jail: MakeJail) -> None:
    """The container's user owns what may be delegated."""
    mount = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}
    jail = make_jail(linux={"namespaces": [{"type": "cgroup"}]}, mounts=[mount], process={"user": {"uid": 1234}})
    jail.start()
    here = cgroups.directory("", jail.path)
    owned = {path.name for path in here.iterdir() if path.stat().st_uid == 1234}
    may_be = set(Path("/sys/kernel/cgroup/delegate").read_text().split())
    assert here.stat().st_uid == 1234
    assert {"cgroup.procs", "cgroup.subtree_control", "cgroup.threads"} <= owned <= may_be
