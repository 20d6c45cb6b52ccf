"""An init that has been moved to another cgroup: what follows it, what says so, and what is left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import PARENT
from tests.support import cgroups
from tests.support.bundle import Bundle
from tests.support.cgroups import Hierarchy
from tests.support.needs import needs
from tests.support.runtime import Completed, Runtime
from tests.support.timing import eventually

pytestmark = needs("root", "busybox", "runtime:gosudacon")

THREE = "sleep 1001 & sleep 1002 & exec sleep 1000"
MOVED = "the container's init has been moved out of the container's cgroup, to "


class Elsewhere:
    """A cgroup that is not the container's, in every hierarchy, with a process in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        for item in cgroups.hierarchies():
            path = item.mountpoint / name
            path.mkdir()
            if "cpuset" in item.controllers and item.version == 1:
                for file in ("cpuset.cpus", "cpuset.mems"):
                    for each in (path.parent, path):
                        (each / file).write_text((each.parent / file).read_text())
        self.bystander = subprocess.Popen(["sleep", "1000"])
        self.take(self.bystander.pid)

    def take(self, pid: int, wanted: Callable[[Hierarchy], bool] = lambda _: True) -> None:
        """Move a process here, in the hierarchies that are ``wanted``."""
        for item in filter(wanted, cgroups.hierarchies()):
            (item.mountpoint / self.name / "cgroup.procs").write_text(str(pid))

    def is_unharmed(self) -> bool:
        """Whether the process lives, and is not frozen."""
        frozen = cgroups.read("freezer", self.name, "freezer.state", "cgroup.freeze")
        return self.bystander.poll() is None and frozen in ("THAWED", "0")

    def remove(self) -> None:
        self.bystander.kill()
        self.bystander.wait()
        for item in cgroups.hierarchies():
            path = item.mountpoint / self.name
            eventually(lambda path=path: _rmdir(path), 10, f"{path} is empty")  # type: ignore[misc]


def _rmdir(path: Path) -> bool:
    try:
        path.rmdir()
    except OSError:
        return False
    return True


@pytest.fixture
def elsewhere(runtime: Runtime, token: str, scratch: Path) -> Iterator[Elsewhere]:
    value = Elsewhere(f"{PARENT}/{token}/elsewhere-{scratch.name}")
    yield value
    assert value.is_unharmed()
    runtime.clean()
    value.remove()


def boot(runtime: Runtime, bundle: Bundle) -> list[int]:
    """Three processes, init's pid first."""
    bundle.set("process.args", ["sh", "-c", THREE])
    init = runtime.boot(bundle)
    children = Path(f"/proc/{init}/task/{init}/children")
    eventually(lambda: len(children.read_text().split()) == 2, 10, "both children are there")
    return [init, *map(int, children.read_text().split())]


def refused(result: Completed) -> None:
    assert result.returncode == 1
    assert MOVED in result.stderr
    assert result.stdout == ""


def listed(runtime: Runtime, bundle: Bundle) -> list[int]:
    pids = json.loads(runtime.call("ps", "-f", "json", bundle.id).stdout)
    assert isinstance(pids, list)
    return pids


@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize("count", [1, pytest.param(3, marks=pytest.mark.vm)])
def test_ps(runtime: Runtime, bundle: Bundle, elsewhere: Elsewhere, shares: bool, count: int) -> None:
    """ps lists the container's processes wherever they are, and no others."""
    if shares:
        bundle.drop_namespace("pid")
    pids = boot(runtime, bundle)
    for pid in pids[:count]:
        elsewhere.take(pid)
    assert listed(runtime, bundle) == sorted(pids)
    table = runtime.call("ps", bundle.id).stdout
    assert sorted(int(line.split()[1]) for line in table.splitlines()[1:]) == sorted(pids)


@pytest.mark.vm
def test_exec(runtime: Runtime, bundle: Bundle, elsewhere: Elsewhere, scratch: Path) -> None:
    """exec follows init, and says so."""
    init, *_ = boot(runtime, bundle)
    elsewhere.take(init)
    log, file = scratch / "log", scratch / "pid"
    runtime.call("exec", "--detach", "--pid-file", file, bundle.id, "sleep", "1003", options=["--log", log])
    pid = int(file.read_text())
    assert cgroups.of_process(pid) == cgroups.of_process(init)
    os.kill(pid, signal.SIGKILL)
    runtime.wait(pid)
    assert log.read_text().count(MOVED) == 1


@pytest.mark.vm
def test_exec_stays(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    """An init in a cgroup below the container's has not left it: exec says nothing, and all goes on."""
    init, *_ = boot(runtime, bundle)
    for item in cgroups.hierarchies():
        below = item.mountpoint / bundle.cgroups_path.lstrip("/") / "below"
        if below.parent.is_dir():
            below.mkdir()
            if "cpuset" in item.controllers and item.version == 1:
                for name in ("cpuset.cpus", "cpuset.mems"):
                    (below / name).write_text((below.parent / name).read_text())
            (below / "cgroup.procs").write_text(str(init))
    log = scratch / "log"
    runtime.call("exec", bundle.id, "true", options=["--log", log])
    assert not log.exists() or MOVED not in log.read_text()
    runtime.call("pause", bundle.id)
    assert runtime.status(bundle) == "paused"
    runtime.call("resume", bundle.id)
    runtime.call("update", "--pids-limit", "77", bundle.id)
    assert cgroups.read("pids", bundle.cgroups_path, "pids.max", "pids.max") == "77"
    assert json.loads(runtime.call("events", "--stats", bundle.id).stdout)["data"]["pids"]["current"] == 3


@pytest.mark.vm
def test_what_is_done_to_a_cgroup(runtime: Runtime, bundle: Bundle, elsewhere: Elsewhere) -> None:
    """pause, update and events say that init has left, and touch neither cgroup."""
    init, *_ = boot(runtime, bundle)
    elsewhere.take(init)
    before = cgroups.read("pids", elsewhere.name, "pids.max", "pids.max")
    own = cgroups.read("pids", bundle.cgroups_path, "pids.max", "pids.max")
    refused(runtime.call("pause", bundle.id, check=False))
    refused(runtime.call("update", "--pids-limit", "77", bundle.id, check=False))
    refused(runtime.call("events", "--stats", bundle.id, check=False))
    assert runtime.status(bundle) == "running"
    assert cgroups.read("pids", elsewhere.name, "pids.max", "pids.max") == before
    assert cgroups.read("pids", bundle.cgroups_path, "pids.max", "pids.max") == own


@needs("cgroup-v1")
@pytest.mark.parametrize("controller", ["memory", "freezer", "name=systemd"])
def test_one_hierarchy(runtime: Runtime, bundle: Bundle, elsewhere: Elsewhere, controller: str) -> None:
    """On v1, what another hierarchy does goes on."""
    init, *_ = boot(runtime, bundle)
    elsewhere.take(init, lambda item: controller in item.controllers)
    assert init in listed(runtime, bundle)
    calls = {
        "memory": runtime.call("update", "--memory", str(1 << 28), bundle.id, check=False),
        "pids": runtime.call("update", "--pids-limit", "77", bundle.id, check=False),
        "freezer": runtime.call("pause", bundle.id, check=False),
    }
    for name, result in calls.items():
        if name == controller:
            refused(result)
        else:
            assert result.returncode == 0, result.stderr
    if controller != "freezer":
        runtime.call("resume", bundle.id)


@pytest.mark.vm
def test_resume(runtime: Runtime, bundle: Bundle, elsewhere: Elsewhere) -> None:
    """What was paused goes on; an init that is frozen elsewhere is named."""
    init, *_ = boot(runtime, bundle)
    runtime.call("pause", bundle.id)
    elsewhere.take(init)
    file = "freezer.state" if cgroups.hierarchy("freezer").version == 1 else "cgroup.freeze"
    place = cgroups.directory("freezer", elsewhere.name) / file
    place.write_text("FROZEN" if file == "freezer.state" else "1")
    result = runtime.call("resume", bundle.id, check=False)
    assert result.returncode == 1
    assert "init is still frozen" in result.stderr and MOVED in result.stderr
    place.write_text("THAWED" if file == "freezer.state" else "0")
    assert runtime.status(bundle) == "running"


@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize(
    "command", ["kill", "kill --all", "kill --all TERM", pytest.param("delete --force", marks=pytest.mark.vm)]
)
def test_the_end(runtime: Runtime, bundle: Bundle, elsewhere: Elsewhere, shares: bool, command: str) -> None:
    """All of the container ends, and no other process does."""
    if shares:
        bundle.drop_namespace("pid")
    pids = boot(runtime, bundle)
    for pid in pids:
        elsewhere.take(pid)
    if command == "delete --force":
        runtime.delete(bundle, "--force")
    else:
        words = command.split()
        runtime.kill(bundle, "TERM" if "TERM" in words else "KILL", *(["--all"] if "--all" in words else []))
    kept = {pids[0]} if command == "kill --all TERM" and not shares else set()
    eventually(lambda: all(gone(pid) for pid in pids if pid not in kept), 10, "their end")


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie that only we can reap is reaped."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_another_cgroup_of_the_name(runtime: Runtime, bundle: Bundle) -> None:
    """What has taken a stopped container's place under the same name is not its own, and is not killed."""
    runtime.wait(_booted_and_killed(runtime, bundle))
    paths = [item.mountpoint / bundle.cgroups_path.lstrip("/") for item in cgroups.hierarchies()]
    with subprocess.Popen(["sleep", "1000"]) as other:
        for path in paths:
            if path.exists():
                path.rmdir()
                path.mkdir()
                for name in ("cpuset.cpus", "cpuset.mems"):
                    if (path / name).exists() and cgroups.hierarchy("cpuset").version == 1:
                        (path / name).write_text((path.parent / name).read_text())
                (path / "cgroup.procs").write_text(str(other.pid))
        runtime.kill(bundle, signal.SIGKILL, "--all", check=False)
        assert other.poll() is None
        runtime.delete(bundle, "--force")
        assert other.poll() is None
        other.kill()
        other.wait()
        for path in paths:
            if path.exists():
                eventually(lambda path=path: _rmdir(path), 10, f"{path} is empty")  # type: ignore[misc]


def _booted_and_killed(runtime: Runtime, bundle: Bundle) -> int:
    pid = runtime.boot(bundle)
    runtime.kill(bundle, "KILL")
    return pid
