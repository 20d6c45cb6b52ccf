"""Deleting a container: undo what its creation left, in reverse, then run poststop."""

from __future__ import annotations

import time

from gosudacon.container.kill import kill_container
from gosudacon.container.recorded import detached_context, recorded_observers
from gosudacon.container.state import Container, Store
from gosudacon.linux import system as os
from gosudacon.linux.errors import Error, StateError
from gosudacon.pipeline.runner import run_step, undo_steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.pipeline.runner import Observers

_SIGKILL = 9
_PATIENCE = 10.0  # seconds for a killed init to go away


def delete(root: str, id: str, force: bool = False) -> list[Error]:
    """Delete the container; returns what poststop hooks reported, for the log.

    ``force`` kills a running one first, cleans up after a create that was cut short, and does not mind a
    container that is not there. Raises `StateError` for one that runs, `Error` for what could not be undone.
    """
    store = Store(root, id)
    try:
        store.open(exclusive=True)
        container = Container.load(store)
    except StateError:
        if not force:
            raise
        store.remove()
        return []
    status = container.status()
    if status != "stopped":
        if status != "created" and not force:
            raise StateError(
                f"cannot delete container ID that is not stopped: {status}",
                hint="delete --force kills it first",
            )
        kill_container(container, _SIGKILL)
        _await_death(container)
    return remove(container)


def remove(container: Container) -> list[Error]:
    """Undo and forget a container whose init is dead; returns what poststop hooks reported."""
    context = detached_context(container)
    context.pid = 0
    failures = undo_steps(container.steps("lasting"), context)
    if failures:
        raise failures[0]
    poststop = container.steps("deleted")
    warnings = []
    observers: Observers = ((), ())
    try:
        if poststop:
            observers = recorded_observers(container)
    except Error as error:  # the container goes all the same
        warnings.append(error)
    container.store.remove()
    for step in poststop:
        try:
            run_step(step, context, observers)
        except Error as error:
            warnings.append(error)
    return warnings


def remove_dumped(container: Container) -> list[Error]:
    """As `remove`, for a container whose processes CRIU has just killed: they may not be gone yet."""
    _await_death(container)
    return remove(container)


def _await_death(container: Container) -> None:
    """Wait for init's end with a pidfd: it becomes readable when the process terminates (pidfd_open(2))."""
    import select

    pid: int = container.data["pid"]
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        if container.alive():
            raise
        return
    try:
        deadline = time.monotonic() + _PATIENCE
        while container.alive() and time.monotonic() < deadline:
            select.select([pidfd], [], [], 0.1)
    finally:
        os.close(pidfd)
    if container.alive():
        raise Error("container init still running")
