"""Finding, naming and clearing away what a test has left on the machine."""

from __future__ import annotations

import gc
import os
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tests.support import cgroups, namespaces, processes
from tests.support.processes import Process
from tests.support.timing import seconds

_SHARED = ("/tmp", "/var/tmp")
"""Directories of all processes on the machine: only the token tells what is ours."""
_PRIVATE = (*namespaces.EMPTIED, *namespaces.COPIED)
"""Directories of this run alone."""
_ROOTS = (
    "/run/gosudacon",
    "/run/runc",
    "/run/crun",
    "/run/containerd",
    "/run/containerd/s",
    "/run/containerd/runc",
)
_NAMES = ("gosudacon", "runc", "crun")
"""What a runtime calls a directory of its own."""
_CACHE = Path("/var/cache/gosudacon")
"""Comes with the first container and goes with `uninstall`, whatever a test is about."""


@dataclass(frozen=True)
class Snapshot:
    """What there is at one moment of everything that a container runtime may leave behind."""

    mounts: frozenset[str]
    """``mount point (type, source)`` of the mount namespace of the tests."""
    cgroups: frozenset[Path]
    """Cgroup directories of this run, in every hierarchy."""
    processes: frozenset[Process]
    """Descendants of the tests, zombies not counted."""
    links: frozenset[str]
    """Network interfaces."""
    files: frozenset[Path]
    """Entries of state directories, and in other directories what has the run's token or a runtime's name."""
    own: frozenset[str]
    """Of the tests' own process: open descriptors, working directory, umask, ignored and blocked signals."""

    def new(self, before: Snapshot) -> list[str]:
        """One line for everything that ``before`` has not."""
        lines = [f"mount {item}" for item in sorted(self.mounts - before.mounts)]
        lines += [f"cgroup {item}" for item in sorted(self.cgroups - before.cgroups)]
        lines += [item.describe() for item in sorted(self.processes - before.processes, key=lambda p: p.pid)]
        lines += [f"network interface {item}" for item in sorted(self.links - before.links)]
        lines += [f"file {item}" for item in sorted(self.files - before.files)]
        lines += [f"in the tests' own process: {item}" for item in sorted(self.own - before.own)]
        return lines


class Watch:
    """Compares the machine before and after a test.

    Other containers on the machine do not matter: mounts, network interfaces and state directories are those of
    the run's own namespaces (`namespaces.enter_private`), processes are its descendants, and ``token`` is part of
    the name of every cgroup and temporary file that it makes. ``parents`` are cgroup paths that may stay until the
    run ends, ``roots`` the state directories in use.
    """

    def __init__(self, token: str, parents: tuple[str, ...], roots: tuple[Path, ...]) -> None:
        self.token = token
        self.parents = parents
        self.roots = roots
        self._reap_all()
        self.before = self.snapshot()

    def add_roots(self, *roots: Path) -> None:
        """Watch more state directories, which are now as they should be after the test."""
        self.roots += roots
        self.before = replace(self.before, files=frozenset(self._files()))

    def keep(self, *pids: int) -> None:
        """These processes, begun by the test, may stay."""
        kept = {item for item in processes.descendants() if item.pid in pids}
        self.before = replace(self.before, processes=self.before.processes | kept)

    def snapshot(self) -> Snapshot:
        """The machine now."""
        kept = {item.mountpoint / path.lstrip("/") for item in cgroups.hierarchies() for path in self.parents}
        return Snapshot(
            mounts=frozenset(_mounts()),
            cgroups=frozenset(cgroups.find(self.token) - kept),
            processes=frozenset(item for item in processes.descendants() if processes.alive(item.pid)),
            links=frozenset(name for _, name in socket.if_nameindex()),
            files=frozenset(self._files()),
            own=frozenset(_own()),
        )

    def leftovers(self, patience: float = 5.0) -> list[str]:
        """What is left, one line each, after waiting up to ``patience`` seconds for it to go."""
        deadline = time.monotonic() + seconds(patience)
        pause = 0.005
        while True:
            self._reap_all()
            lines = self.snapshot().new(self.before)
            if not lines or time.monotonic() > deadline:
                return lines
            gc.collect()  # which closes what is no longer referred to
            time.sleep(pause)
            pause = min(pause * 2, 0.2)

    def clear(self) -> None:
        """Take away what is left, so that the next test starts from a clean machine."""
        for process in processes.descendants() - self.before.processes:
            processes.kill(process)
        deadline = time.monotonic() + seconds(5)
        while processes.descendants() - self.before.processes and time.monotonic() < deadline:
            self._reap_all()
            time.sleep(0.01)
        now = self.snapshot()
        for item in sorted(now.mounts - self.before.mounts, reverse=True):
            with suppress(OSError):
                namespaces.unmount(item.partition(" (")[0])
        for path in sorted(now.cgroups - self.before.cgroups, reverse=True):
            cgroups.remove(path)
        for name in now.links - self.before.links:
            subprocess.run(["ip", "link", "delete", name], check=False, capture_output=True)
        for path in now.files - self.before.files:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def _reap_all(self) -> None:
        before = self.before.processes if hasattr(self, "before") else frozenset()
        zombies = {item for item in processes.descendants() - before if not processes.alive(item.pid)}
        processes.reap(zombies)

    def _files(self) -> set[Path]:
        found: set[Path] = set()
        for root in (*self.roots, *map(Path, _ROOTS)):
            with suppress(FileNotFoundError, NotADirectoryError):
                found |= set(root.iterdir())
        for parent in (*_PRIVATE, *_SHARED):
            names = _NAMES if parent in _PRIVATE else ()
            with suppress(FileNotFoundError):
                found |= {Path(parent) / name for name in os.listdir(parent) if self.token in name or name in names}
        own = {*self.roots, _CACHE}
        return {path for path in found if path not in own}


def _own() -> set[str]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the descriptor of the listing itself
            found.add(f"descriptor {name} of {os.readlink(f'/proc/self/fd/{name}')}")
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(("Umask:", "SigIgn:", "SigBlk:")):
            found.add(line.replace("\t", " "))
    return found | {f"working directory {os.getcwd()}"}


def _mounts() -> set[str]:
    found = set()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        kind, source = right.split(" ")[:2]
        target = left.split(" ")[4].replace(r"\040", " ")
        found.add(f"{target} ({kind}, {source}, id {left.split(' ')[0]})")
    return found
