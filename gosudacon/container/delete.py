"""Delete a container: undo its lasting steps in reverse order, then run poststop hooks."""

from __future__ import annotations

import time
from _signal import SIGKILL

from gosudacon.base import posix
from gosudacon.base.errors import Error, StateError
from gosudacon.container.kill import kill_container
from gosudacon.container.replay import detached_context, recorded_observers, watched
from gosudacon.container.state import AbsentError, Container, NewerError, Store, UnreadableError
from gosudacon.pipeline.kinds import rebuild
from gosudacon.pipeline.runner import run_step, undo_steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.container.caller import Tracing
    from gosudacon.container.state import Kind
    from gosudacon.pipeline.recorder import Recorder
    from gosudacon.pipeline.runner import Observers
    from gosudacon.pipeline.step import Step

_PATIENCE = 10.0  # seconds for a killed init to go away


def delete(root: str, id: str, force: bool = False, tracing: Tracing | None = None) -> list[Error]:
    """Delete the container; returns what poststop hooks reported, for the log.

    ``force`` kills a running one first, cleans up after a create that was cut short, and does not mind a
    container that is not there. Raises `StateError` for one that runs, `Error` for what could not be undone; the
    container is then kept.
    """
    store = Store(root, id)
    try:
        store.open(exclusive=True)
        container = Container.load(store)
    except AbsentError:
        if not force:
            raise
        store.remove()
        return []
    except UnreadableError as error:
        if not force or isinstance(error, NewerError):
            raise
        from gosudacon.container.salvage import salvage

        return salvage(store, error)
    status = container.status()
    if status != "stopped":
        if status != "created" and not force:
            raise StateError(
                f"cannot delete container {id} that is not stopped: {status}",
                hint="delete --force kills it first",
            )
        if not force:
            container.steps("lasting")  # says what is missing while init is alive
        kill_container(container, SIGKILL)
        _await_death(container)
    return remove(container, container.recorder(tracing))


def remove(container: Container, recorder: Recorder | None = None) -> list[Error]:
    """Undo and forget a container whose init is dead; returns what poststop hooks reported.

    What cannot be undone does not keep the rest from it; it is raised in the end, and the container kept.
    """
    context = detached_context(container)
    context.pid = 0
    lasting, failures = _rebuilt(container, "lasting")
    if recorder is not None:
        recorder.mark("read the state, end what runs")
    failures += undo_steps(lasting, context, recorder.undone if recorder else None)
    if failures:
        failures[0].message = "; ".join([failure.message for failure in failures])
        raise failures[0]
    poststop, warnings = _rebuilt(container, "deleted")
    observers: Observers = ((), ())
    try:
        if poststop:
            observers = recorded_observers(container)
    except Error as error:  # the container goes all the same
        warnings.append(error)
    container.store.remove()
    for step in poststop:
        try:
            run_step(step, context, watched(observers, recorder))
        except Error as error:
            warnings.append(error)
    return warnings


def _rebuilt(container: Container, kind: Kind) -> tuple[list[Step], list[Error]]:
    """The recorded steps of a kind whose classes are there, and an error for each of the others."""
    steps, missing = [], []
    for record in container.data[kind]:
        try:
            steps.append(rebuild(record))
        except Error as error:
            missing.append(error)
    return steps, missing


def remove_dumped(container: Container) -> list[Error]:
    """As `remove`, for a container whose processes CRIU has just killed: they may not be gone yet."""
    _await_death(container)
    return remove(container)


def _await_death(container: Container) -> None:
    """Wait for init's end with a pidfd: it becomes readable when the process terminates (pidfd_open(2))."""
    import select

    pid: int = container.data["pid"]
    try:
        pidfd = posix.pidfd_open(pid)
    except OSError:
        if container.alive():
            raise
        return
    try:
        deadline = time.monotonic() + _PATIENCE
        while container.alive() and time.monotonic() < deadline:
            if not select.select([pidfd], [], [], 0.1)[0]:
                kill_container(container, SIGKILL)  # again: what freezes its own processes may have been quicker
    finally:
        posix.close(pidfd)
    if container.alive():
        raise Error("container init still running")
