"""Changing the limits of a container, all of them or none."""

from __future__ import annotations

from gosudacon.base import interrupt, posix
from gosudacon.base.errors import Error, StateError
from gosudacon.container import bundle as bundles
from gosudacon.container import host as hosts
from gosudacon.container import whereabouts
from gosudacon.container.replay import detached_context, watched
from gosudacon.container.resources import merge
from gosudacon.container.state import Container, Store
from gosudacon.linux.cgroup import files
from gosudacon.pipeline import plan as plans
from gosudacon.pipeline.registry import registry
from gosudacon.pipeline.runner import run_step, undo_steps
from gosudacon.pipeline.spec import UPDATE, Options, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from gosudacon.container.caller import Tracing
    from gosudacon.pipeline.plan import Plan
    from gosudacon.pipeline.recorder import Recorder
    from gosudacon.pipeline.registry import Registry
    from gosudacon.pipeline.spec import Host
    from gosudacon.pipeline.step import Context, Stage, Step
    from gosudacon.schema.types import Resources


def update(
    root: str, id: str, given: Resources, config: str = "", use_snapshot: bool = True, tracing: Tracing | None = None
) -> list[str]:
    """Set the limits ``given`` (``linux.resources`` of config.json) of a container; the others stay as they are.

    Returns what stages have to say about them.

    Raises `StateError` ("container not running") for a stopped container, and `Error` for a limit that is invalid
    or that the kernel refuses; all limits are then as they were.
    """
    store = Store(root, id)
    store.open()
    if not Container.load(store).alive():  # asked before the lock: a hook of its own creation must not wait for it
        raise StateError("container not running")
    store.close()
    store.open(exclusive=True)
    container = Container.load(store)
    if not container.alive():
        raise StateError("container not running")
    merged, plan = _plan(_spec(container), given, registry(config, use_snapshot))
    whereabouts.require(container, _controllers(container, plan.steps), "change the limits")
    context = detached_context(container)
    context.cgroup_dirs = directories = _open(container.data["cgroups"])
    try:
        recorder = container.recorder(tracing)
        if recorder is not None:
            recorder.mark("read the state, plan")
        _run(plan.steps, context, recorder)
        container.data["resources"] = merged
        container.save()
    finally:
        for fd in {*directories.values()}:
            posix.close(fd)
        store.close()
    return [warning.describe() for warning in plan.warnings]


def _spec(container: Container) -> Spec:
    """The configuration that the container was made from, with the limits that it has now."""
    data = container.data
    config = bundles.saved(container.store)
    spec = Spec(config, data["id"], data["bundle"], Options.among(data.get("cgroup_options") or {}), operation=UPDATE)
    return _with(spec, data["resources"]) if "resources" in data else spec


def _with(spec: Spec, resources: Resources) -> Spec:
    return spec.replace(config={**spec.config, "linux": {**spec.linux, "resources": resources}})


def _plan(spec: Spec, given: Resources, stages: Registry) -> tuple[Resources, Plan]:
    """All limits the container then has, and the plan that sets what is ``given``, as far as plugins leave it so."""
    host = hosts.gather()
    wanted = _with(spec, given)
    edits = stages.edit(wanted, host)
    merged, changed = merge(spec.linux.get("resources") or {}, wanted.linux.get("resources") or {})

    def planning(stages: Iterable[Stage], spec: Spec, host: Host) -> Plan:
        return plans.make_update(stages, changed, spec, host)

    return merged, stages.plan(_with(spec, merged), host, planning, edits)


def _open(cgroups: dict[str, str]) -> dict[str, int]:
    """Controller -> descriptor of the container's cgroup; controllers mounted together share one."""
    opened: dict[str, int] = {}
    for directory in dict.fromkeys(cgroups.values()):
        opened[directory] = files.open_directory(directory)
    return {controller: opened[directory] for controller, directory in cgroups.items()}


def _controllers(container: Container, steps: list[Step]) -> set[str]:
    """The controllers whose limits the steps change."""
    named = {getattr(step, "controller", "") for step in steps}
    return named if set(container.data["cgroups"]) == {""} else named - {""}


def _run(steps: list[Step], context: Context, recorder: Recorder | None) -> None:
    done: list[Step] = []
    try:
        for step in steps:
            done.append(step)
            run_step(step, context, watched(((), ()), recorder))
    except BaseException as error:
        interrupt.defer()
        failures = undo_steps(done, context, recorder.undone if recorder else None)
        if failures and isinstance(error, Error):
            error.message += f"; the limits before could not be restored: {failures[0].message}"
        raise
