"""Finds what a runtime left behind, and removes what is the bench's own."""

from __future__ import annotations

import os
import shutil
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import kernel, layout

PARENT = "gosudacon-bench"


@dataclass
class Leftovers:
    """Names of what is still there; empty lists when everything is clean."""

    cgroups: list[str] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    processes: list[str] = field(default_factory=list)
    mounts: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.cgroups or self.states or self.processes or self.mounts)

    def counts(self) -> dict[str, int]:
        """How many of each kind."""
        return {name: len(found) for name, found in vars(self).items()}

    def __str__(self) -> str:
        words = [f"{count} {name}" for name, count in self.counts().items() if count]
        return ", ".join(words) or "nothing"


def cgroup_roots(run: str) -> list[Path]:
    """Folders of this run in every hierarchy where it has one."""
    points = layout.cgroup_points(layout.mounts())
    found = [Path(point) / PARENT / run for point in points]
    return [path for path in found if path.is_dir()]


def pids_in(folder: Path) -> list[int]:
    """Processes in a cgroup (not below it); none when it has just gone."""
    try:
        return [int(word) for word in (folder / "cgroup.procs").read_text().split()]
    except OSError:
        return []


def find(run: str, below: str, state: Path, scratch: list[Path]) -> Leftovers:
    """What is left of the containers in cgroup ``PARENT/run/below``, in ``state``, mounted in ``scratch``."""
    left = Leftovers()
    pids: set[int] = set()
    for root in cgroup_roots(run):
        for path, folders, _ in os.walk(root / below):
            pids.update(pids_in(Path(path)))
            left.cgroups += [str(Path(path) / name) for name in folders]
    # The bench is the subreaper: a helper that outlived its runtime is its child by now.
    reap_orphans()
    pids.update(children())
    left.processes = [f"{pid} {_name(pid)}" for pid in sorted(pids)]
    if state.is_dir():
        left.states = [str(path) for path in sorted(state.iterdir()) if _is_container_state(path)]
    left.mounts = mounts_below(scratch)
    return left


def mounts_below(folders: list[Path]) -> list[str]:
    """Mount points below any of the folders, in the current mount namespace."""
    prefixes = tuple(f"{path}/" for path in folders)
    return [m.point for m in layout.mounts() if m.point.startswith(prefixes)]


def children() -> list[int]:
    pid = os.getpid()
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _is_container_state(path: Path) -> bool:
    # Lock files and caches of the root itself are not a container's; a folder with something in it is.
    return path.is_dir() and not path.name.startswith(".") and any(path.iterdir())


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "?"


def kill_all(run: str, seconds: float = 5.0) -> None:
    """SIGKILL every process in the cgroups of this run until none is left, or time is up."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pids = {pid for root in cgroup_roots(run) for path, _, _ in os.walk(root) for pid in pids_in(Path(path))}
        if not pids:
            return
        for pid in pids:
            _kill(pid)
        reap_orphans()
        time.sleep(0.02)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def reap_orphans() -> None:
    """Collect every child that has already ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def remove_cgroups(run: str) -> list[str]:
    """Remove this run's folders from every hierarchy, and the parent when no other run uses it.

    Returns what could not be removed.
    """
    stuck = []
    for root in cgroup_roots(run):
        for path, _, _ in os.walk(root, topdown=False):
            if not _rmdir(path):
                stuck.append(path)
        _rmdir(str(root.parent))
    return stuck


def _rmdir(path: str) -> bool:
    try:
        Path(path).rmdir()
    except OSError:
        return False
    return True


def unmount_below(folder: Path) -> None:
    """Detach every mount below one of the bench's own folders, the latest first."""
    for point in reversed(mounts_below([folder])):
        kernel.umount(point)


def remove_folder(folder: Path) -> None:
    """Remove a folder of the bench, after what may be mounted in it."""
    if folder.exists():
        unmount_below(folder)
        shutil.rmtree(folder, ignore_errors=True)
