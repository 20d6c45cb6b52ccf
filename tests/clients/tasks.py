"""What tests ask of ctr about a task, and how they end one."""

from __future__ import annotations

from pathlib import Path

from tests.clients.daemon import Containerd
from tests.support import processes
from tests.support.timing import eventually


def status(ctr: Containerd, name: str) -> str:
    """The state of a task as ctr shows it, ``none`` without one."""
    for line in ctr.ctr("tasks", "list").stdout.splitlines()[1:]:
        if line.split()[0] == name:
            return line.split()[2]
    return "none"


def pid(ctr: Containerd, name: str) -> int:
    """The number of a task's first process on the host."""
    lines = ctr.ctr("tasks", "list").stdout.splitlines()[1:]
    return next(int(line.split()[1]) for line in lines if line.split()[0] == name)


def finish(ctr: Containerd, name: str, signal: str = "KILL") -> int:
    """Send a signal, wait for the end, remove task and container; the exit status."""
    ctr.ctr("tasks", "kill", "--signal", signal, name)
    return collect(ctr, name)


def collect(ctr: Containerd, name: str) -> int:
    """Wait for the end of a task, remove it and its container; the exit status, as ctr warns of it."""
    eventually(lambda: status(ctr, name) == "STOPPED", 20, f"the end of {name}")
    warning = ctr.ctr("tasks", "delete", name).stderr
    ctr.ctr("containers", "delete", name)
    return int(warning.rstrip('"\n').rpartition(" ")[2]) if warning else 0


def shim_of(ctr: Containerd, name: str) -> processes.Process:
    """The shim of a container."""
    for shim in ctr.shims():
        if name.encode() in Path(f"/proc/{shim.pid}/cmdline").read_bytes().split(b"\0"):
            return shim
    raise AssertionError(f"{name} has no shim")
