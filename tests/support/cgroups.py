"""The cgroup hierarchies of this machine as a test sees them: v1, hybrid or v2."""

from __future__ import annotations

import functools
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Hierarchy:
    """A mounted cgroup hierarchy; ``controllers`` is empty for the unified one of a hybrid layout."""

    mountpoint: Path
    version: int
    controllers: frozenset[str]


@functools.cache
def hierarchies() -> tuple[Hierarchy, ...]:
    """All cgroup hierarchies mounted here, each once."""
    found: dict[str, Hierarchy] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        _, _, device, _, mountpoint = left.split()[:5]
        if kind == "cgroup2":
            names = (Path(mountpoint) / "cgroup.controllers").read_text().split()
            found.setdefault(device, Hierarchy(Path(mountpoint), 2, frozenset(names)))
        elif kind == "cgroup":
            controllers = frozenset(options.split(",")) - {"rw", "ro", "clone_children", "xattr"}
            found.setdefault(device, Hierarchy(Path(mountpoint), 1, controllers))
    return tuple(found.values())


def mode() -> str:
    """``v2`` for a purely unified layout, ``hybrid`` with v1 controllers and a unified mount, else ``v1``."""
    versions = {hierarchy.version for hierarchy in hierarchies()}
    return {frozenset({2}): "v2", frozenset({1, 2}): "hybrid", frozenset({1}): "v1"}.get(frozenset(versions), "none")


def hierarchy(controller: str) -> Hierarchy:
    """The hierarchy that has ``controller``, in pure v2 the only one; LookupError if it does not exist."""
    for item in hierarchies():
        if controller in item.controllers or mode() == "v2":
            return item
    raise LookupError(f"no mounted cgroup hierarchy has the controller {controller}")


def directory(controller: str, path: str) -> Path:
    """Where the cgroup ``path`` (as in ``linux.cgroupsPath``) is in the hierarchy of ``controller``."""
    return hierarchy(controller).mountpoint / path.lstrip("/")


def read(controller: str, path: str, v1: str, v2: str) -> str:
    """A cgroup file without its final newline; ``v1`` and ``v2`` are its names in the two versions."""
    name = v1 if hierarchy(controller).version == 1 else v2
    return (directory(controller, path) / name).read_text().rstrip("\n")


def of_process(pid: int) -> dict[str, str]:
    """``/proc/PID/cgroup`` as {controllers: path}; the key of the unified hierarchy is the empty string."""
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines)}


def find(token: str) -> set[Path]:
    """All cgroup directories on this machine with ``token`` in their path."""
    found = set()
    waiting = [str(item.mountpoint) for item in hierarchies()]
    while waiting:  # not os.walk, which goes down by recursion: other runs may have made very deep trees
        parent = waiting.pop()
        try:
            with os.scandir(parent) as entries:
                names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:  # removed meanwhile
            continue
        waiting += [f"{parent}/{name}" for name in names]
        found |= {Path(parent) / name for name in names if token in parent or token in name}
    return found


def claim(parent: str, token: str) -> None:
    """Make the cgroup ``parent/token`` in every hierarchy, so that no other run removes ``parent`` as empty."""
    for item in hierarchies():
        path = item.mountpoint / parent / token
        while not path.exists():
            with suppress(FileNotFoundError):  # another run has just removed the parent
                path.parent.mkdir(exist_ok=True)
                path.mkdir()


def remove(path: Path) -> None:
    """Remove a cgroup directory if it is there and empty."""
    try:
        path.rmdir()
    except OSError:
        return
