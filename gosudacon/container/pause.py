"""Freeze and thaw a container's processes.

No lock is held: all that changes is a file of the cgroup, and a hook that calls these must not wait for itself.
"""

from __future__ import annotations

import time
from errno import ENODEV, ENOENT

from gosudacon.base.errors import Error, StateError, SyscallError
from gosudacon.container import whereabouts
from gosudacon.container.state import Container, Store
from gosudacon.linux.cgroup import processes

_PATIENCE = 5.0  # seconds for the kernel to say that all processes go on


def pause(root: str, id: str) -> None:
    """Freeze all processes of a created or running container; returns when all are frozen.

    Raises `StateError` ("container not running") in any other state, and `Error` where the container has no
    freezer, holds a process that will not freeze, or its init has been moved out of it; everything then goes on as
    before.
    """
    container = _load(root, id)
    if container.status() not in ("created", "running"):
        raise StateError("container not running")
    _require_init(container, "pause the container")
    try:
        processes.freeze(container.data["cgroups"])
    except SyscallError as error:
        if error.errno in (ENOENT, ENODEV) and not container.alive():  # ended, and was deleted, meanwhile
            raise StateError("container not running") from error
        raise


def resume(root: str, id: str) -> None:
    """Let the processes of a paused container go on; returns when they do.

    Raises `StateError` ("container not paused") in any other state, and `Error` if a cgroup above the
    container's is frozen, too, or one to which its init has been moved.
    """
    container = _load(root, id)
    if container.status() != "paused":
        raise StateError("container not paused")
    cgroups = container.data["cgroups"]
    processes.thaw(cgroups)
    deadline, pause = time.monotonic() + _PATIENCE, 0.0005
    while _still_frozen(cgroups):
        if time.monotonic() > deadline:
            raise Error(
                "the container's processes are still frozen", hint="a cgroup above the container's may be frozen"
            )
        time.sleep(pause)
        pause = min(2 * pause, 0.05)
    _require_awake(container)


def _load(root: str, id: str) -> Container:
    store = Store(root, id)
    store.open()
    return Container.load(store)


def _freezer(container: Container) -> str:
    """The controller that freezes."""
    return "freezer" if "freezer" in container.data["cgroups"] else ""


def _require_init(container: Container, what: str) -> None:
    whereabouts.require(container, [_freezer(container)], what)


def _require_awake(container: Container) -> None:
    """Raise `Error` if init has been moved to a cgroup that is frozen: it is not the container's, and is let be."""
    controller = _freezer(container)
    now = whereabouts.strays(container).get(controller)
    if now and _still_frozen({controller: now}):
        raise Error(f"init is still frozen: {whereabouts.told({controller: now})}")


def _still_frozen(cgroups: dict[str, str]) -> bool:
    try:
        return processes.frozen(cgroups)
    except SyscallError as error:
        if error.errno in (ENOENT, ENODEV):  # its processes have ended, and it was deleted
            return False
        raise
