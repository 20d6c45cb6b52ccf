"""What daemons and all that they start use: processor time by cgroup, memory by process, and what they leave."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from . import layout
from .leftovers import PARENT, children
from .memory import parse_rollup

#: Where the shims of every containerd of a machine have sockets, states and streams.
SHARED = ("/run/containerd/s", "/run/containerd/gosudacon", "/run/containerd/runc", "/run/containerd/fifo")
_NAME = b"containerd-shim"
_SCHED_CLOCK = 2  # of a process: (~pid << 3) | 2, as clock_getcpuclockid(3) makes it


class Account:
    """A cgroup ``PARENT/run``, with all that is below it, in a hierarchy that counts processor time."""

    def __init__(self, run: str) -> None:
        self._folder = _accounting() / PARENT / run
        self._below = self._folder / "daemons"
        self._below.mkdir(parents=True, exist_ok=True)

    def add(self, pid: int) -> None:
        """Count this process from now on, and what it will start."""
        (self._below / "cgroup.procs").write_text(str(pid))

    def used(self, without: int) -> int:
        """Nanoseconds that all who were ever in there have used, less those of process ``without``."""
        return self._total() - time.clock_gettime_ns((~without << 3) | _SCHED_CLOCK)

    def _total(self) -> int:
        try:
            return int((self._folder / "cpuacct.usage").read_text())
        except FileNotFoundError:
            return int((self._folder / "cpu.stat").read_text().split()[1]) * 1000  # usage_usec


def _accounting() -> Path:
    points = [Path(point) for point in layout.cgroup_points(layout.mounts())]
    for name in ("cpuacct.usage", "cpu.stat"):
        for point in points:
            if (point / name).exists():
                return point
    raise RuntimeError("no cgroup hierarchy counts processor time")


def shims(word: str) -> Iterator[int]:
    """The shims that run with this word among their arguments: an id, or the address of their containerd."""
    for name in os.listdir("/proc"):
        try:
            words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0") if name.isdigit() else [b""]
        except OSError:
            continue
        if words[0].rpartition(b"/")[2].startswith(_NAME) and word.encode() in words:
            yield int(name)


def end_templates() -> None:
    """End those of which the bench's shims are forks: its own, and those that a start has made."""
    for pid in children():
        if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"gosudacon-shim-template\0"):
            os.kill(pid, signal.SIGTERM)


def memory(pid: int) -> dict[str, int]:
    """KiB by the fields of `parse_rollup`."""
    return parse_rollup(Path(f"/proc/{pid}/smaps_rollup").read_text())


def files() -> set[str]:
    """What there is now in the directories that all shims share."""
    found = set()
    for folder in SHARED:
        if os.path.isdir(folder):
            found |= {f"{folder}/{name}" for name in os.listdir(folder)}
    return found
