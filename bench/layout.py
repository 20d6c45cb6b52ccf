"""Cgroup mounts of this machine, and a mount namespace in which a hybrid layout looks like plain v1."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from . import kernel


@dataclass(frozen=True)
class Mount:
    """One line of /proc/self/mountinfo, as far as the bench cares (proc_pid_mountinfo(5))."""

    point: str
    fstype: str


def parse_mountinfo(text: str) -> list[Mount]:
    """Mounts in the order of the file; octal escapes (space, tab, newline, backslash) are decoded."""
    mounts = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not after:
            continue
        point = fields[4]
        for escaped, plain in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
            point = point.replace(escaped, plain)
        mounts.append(Mount(point, after.split(" ")[0]))
    return mounts


def mounts() -> list[Mount]:
    """Mounts of the current mount namespace."""
    return parse_mountinfo(Path("/proc/self/mountinfo").read_text())


def cgroup_points(table: list[Mount]) -> list[str]:
    """Mount points of every cgroup hierarchy, v1 and v2, each once."""
    return list(dict.fromkeys(m.point for m in table if m.fstype in ("cgroup", "cgroup2")))


def layout(table: list[Mount]) -> str:
    """``v1``, ``v2``, ``hybrid`` (v1 controllers and a unified mount), or ``none``."""
    kinds = {m.fstype for m in table}
    if "cgroup" in kinds:
        return "hybrid" if "cgroup2" in kinds else "v1"
    return "v2" if "cgroup2" in kinds else "none"


def unified_points(table: list[Mount]) -> list[str]:
    """Mount points of cgroup v2 in a hybrid layout, deepest first; empty in any other layout."""
    if layout(table) != "hybrid":
        return []
    points = {m.point for m in table if m.fstype == "cgroup2"}
    return sorted(points, key=len, reverse=True)


class Namespaces:
    """Switches the bench (and so what it spawns) between the machine's mounts and a copy without unified.

    The copy belongs to the bench alone: its propagation is private before anything in it is
    unmounted, so the machine's own mounts are never touched.
    """

    def __init__(self) -> None:
        self._host = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        self._hidden: int | None = None
        self._current = self._host
        self.layout = layout(mounts())

    def enter(self, hide_unified: bool) -> None:
        """Make the namespace current that has (or, with ``hide_unified``, lacks) the unified mount."""
        wanted = self._host
        if hide_unified and self.layout == "hybrid":
            if self._hidden is None:
                self._hidden = _namespace_without(unified_points(mounts()))
            wanted = self._hidden
        if wanted != self._current:
            kernel.setns(wanted, kernel.CLONE_NEWNS)
            self._current = wanted

    def close(self) -> None:
        """Back to the machine's mounts; the private copy goes away with its last process."""
        self.enter(False)
        for fd in (self._host, self._hidden):
            if fd is not None:
                os.close(fd)


def _namespace_without(points: list[str]) -> int:
    """Descriptor of a new mount namespace that lacks the mounts at ``points``."""
    ready, done = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        _build_namespace(points, ready[1], done)
    os.close(ready[1])
    os.close(done[0])
    try:
        answer = os.read(ready[0], 512)
        if answer != b"ok":
            raise RuntimeError(f"cannot make a mount namespace without {points}: {answer.decode() or 'died'}")
        return os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ready[0])
        os.close(done[1])
        os.waitpid(pid, 0)


def _build_namespace(points: list[str], ready: int, done: tuple[int, int]) -> None:
    """Child side of :func:`_namespace_without`: build, report, stay until the namespace is open."""
    try:
        os.close(done[1])
        kernel.unshare(kernel.CLONE_NEWNS)
        kernel.make_private("/")
        for point in points:
            kernel.umount(point)
        os.write(ready, b"ok")
        os.read(done[0], 1)
    except OSError as error:
        os.write(ready, str(error).encode()[:500])
    finally:
        os._exit(0)
