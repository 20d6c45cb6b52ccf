"""Rebuild and run the steps recorded in state.json: poststart hooks, undoing, poststop hooks."""

from __future__ import annotations

from gosudacon.base import posix
from gosudacon.base.errors import Error
from gosudacon.pipeline.runner import run_step
from gosudacon.pipeline.spec import Host, Spec
from gosudacon.pipeline.step import Context, Engine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.container.state import Container
    from gosudacon.pipeline.recorder import Recorder
    from gosudacon.pipeline.runner import Observers
    from gosudacon.schema.types import State


def run_started(container: Container, observers: Observers | None = None, recorder: Recorder | None = None) -> None:
    """Run the recorded `STARTED` steps (poststart hooks); a failure stops the container, as runtime-spec 1.3 wants.

    ``observers`` are the recorded ones unless the caller has them at hand.
    """
    steps = container.steps("started")
    if not steps:
        return
    context = detached_context(container)
    try:
        watching = watched(recorded_observers(container) if observers is None else observers, recorder)
        for step in steps:
            run_step(step, context, watching)
    except Error:
        from gosudacon.container.kill import kill_container

        kill_container(container, 9, every=True)
        raise


def watched(observers: Observers, recorder: Recorder | None) -> Observers:
    """The observers, and the recorder if there is one."""
    if recorder is None:
        return observers
    before, after = recorder.observers()
    return [*observers[0], *before], [*observers[1], *after]


def recorded_observers(container: Container) -> Observers:
    """The plugins' hooks that observed the container's creation. Raises `Error` if a plugin has been removed since."""
    data = container.data.get("observers")
    if not data:
        return (), ()
    from gosudacon.pipeline.registry import OBSERVERS, implementations

    started, finished = (implementations(data.get(name, ())) for name in OBSERVERS)
    return started, finished


class _Recorded(Engine):
    """The engine of steps that run after create: all they can ask for is the state."""

    def __init__(self, container: Container) -> None:
        self._container = container

    def state(self, status: str, pid: int | None = None) -> State:
        return self._container.oci_state(status, self._container.data["pid"] if pid is None else pid)


def detached_context(container: Container) -> Context:
    """A context for recorded steps: it has the container's id, bundle, state and directory, and no configuration."""
    context = Context(Spec({}, container.data["id"], container.data["bundle"]), Host())
    context.state_dir = container.store.fd
    context.pid = container.data["pid"]
    context.cgroups = context.cgroups_entered = container.data.get("cgroups") or {}
    context.environment = posix.environ
    context.engine = _Recorded(container)
    return context
