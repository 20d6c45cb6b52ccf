"""What is frozen or threaded below a container's cgroup does not keep its processes from their end."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import cgroups
from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import Runtime
from tests.support.timing import eventually

pytestmark = needs("root", "busybox", "runtime:gosudacon")

ENDS: dict[str, Callable[[Runtime, Bundle], object]] = {
    "kill": lambda runtime, bundle: runtime.kill(bundle, "KILL"),
    "kill all": lambda runtime, bundle: runtime.kill(bundle, "KILL", "--all"),
    "delete": lambda runtime, bundle: runtime.delete(bundle, "--force"),
}


def boot(runtime: Runtime, bundle: Bundle, shares: bool) -> tuple[int, int]:
    """A container of two processes; the pids of init and of the other."""
    if shares:
        bundle.drop_namespace("pid")
    init = runtime.boot(bundle.set("process.args", ["sh", "-c", "sleep 1001 & wait"]))
    children = Path(f"/proc/{init}/task/{init}/children")
    eventually(lambda: bool(children.read_text().split()), 10, "the child is there")
    return init, int(children.read_text().split()[0])


def freeze(path: Path) -> None:
    v1 = path / "freezer.state"
    if v1.exists():
        v1.write_text("FROZEN")
        eventually(lambda: v1.read_text() == "FROZEN\n", 10, "frozen")
    else:
        (path / "cgroup.freeze").write_text("1")
        eventually(lambda: "frozen 1" in (path / "cgroup.events").read_text(), 10, "frozen")


def gone(pid: int) -> bool:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("who", ["init", "child", "both"])
@pytest.mark.parametrize("shares", [False, True])
def test_frozen_below(runtime: Runtime, bundle: Bundle, how: str, who: str, shares: bool) -> None:
    init, child = boot(runtime, bundle, shares)
    below = cgroups.directory("freezer", bundle.cgroups_path) / "a/b"
    below.mkdir(parents=True)
    for pid in {"init": [init], "child": [child], "both": [init, child]}[who]:
        (below / "cgroup.procs").write_text(str(pid))
    freeze(below)
    ENDS[how](runtime, bundle)
    eventually(lambda: gone(init) and gone(child), 10, "the end of both")
    runtime.delete(bundle, "--force")


@pytest.mark.vm
@pytest.mark.parametrize("how", ENDS)
def test_both_frozen(runtime: Runtime, bundle: Bundle, how: str) -> None:
    """The container's own cgroup and one below it are frozen."""
    init, child = boot(runtime, bundle, False)
    top = cgroups.directory("freezer", bundle.cgroups_path)
    (top / "a").mkdir()
    (top / "a/cgroup.procs").write_text(str(child))
    freeze(top / "a")
    freeze(top)
    ENDS[how](runtime, bundle)
    eventually(lambda: gone(init) and gone(child), 10, "the end of both")


@needs("cgroup-v2")
@pytest.mark.parametrize("how", ENDS)
@pytest.mark.vm
def test_threaded(runtime: Runtime, bundle: Bundle, how: str) -> None:
    """cgroup.procs cannot be read in a threaded cgroup, which is frozen as well."""
    init, child = boot(runtime, bundle, False)
    top = cgroups.directory("", bundle.cgroups_path)
    below = top / "threads"
    below.mkdir()
    (below / "cgroup.type").write_text("threaded")
    (below / "cgroup.threads").write_text(str(child))
    freeze(below)
    ENDS[how](runtime, bundle)
    eventually(lambda: gone(init), 20, "init's end")
    runtime.delete(bundle, "--force")
    eventually(lambda: gone(child), 20, "the child's end")
    assert not top.exists()


@pytest.mark.parametrize("signal", [pytest.param("KILL", marks=pytest.mark.vm), "9", "TERM"])
def test_init_is_gone(runtime: Runtime, bundle: Bundle, signal: str) -> None:
    """KILL ends those who live on in a shared pid namespace; other signals are init's, who is gone."""
    bundle.drop_namespace("pid")
    init, child = boot(runtime, bundle, True)
    os.kill(init, 9)
    eventually(lambda: gone(init), 10, "init's end")
    assert runtime.status(bundle) == "stopped"
    result = runtime.kill(bundle, signal, check=False)
    if signal == "TERM":
        assert result.returncode == 1 and "container not running" in result.stderr
        assert not gone(child)
        result = runtime.kill(bundle, "KILL", check=False)
    assert result.returncode == 0
    eventually(lambda: gone(child), 10, "the child's end")
    eventually(lambda: runtime.kill(bundle, "KILL", check=False).returncode == 1, 10, "no process is left to be killed")
    result = runtime.kill(bundle, "KILL", check=False)
    assert "container not running" in result.stderr
