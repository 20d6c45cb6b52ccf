"""Run another process in a container: the same stages plan it, and the same two sides run the plan."""

from __future__ import annotations

from gosudacon.base import layout
from gosudacon.base.errors import Error, StateError
from gosudacon.container import bundle as bundles
from gosudacon.container import host as hosts
from gosudacon.container import process as processes
from gosudacon.container.state import CGROUP_OPTIONS, Container, Store
from gosudacon.linux import namespace, proc
from gosudacon.pipeline import plan as plans
from gosudacon.pipeline.executor import RuntimeSide
from gosudacon.pipeline.registry import registry
from gosudacon.pipeline.spec import EXEC, Options, Spec, Target
from gosudacon.pipeline.step import Context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.container.caller import Caller
    from gosudacon.container.process import ExecOptions
    from gosudacon.pipeline.alone import Handover
    from gosudacon.pipeline.plan import Plan
    from gosudacon.pipeline.registry import Listeners, Registry
    from gosudacon.pipeline.spec import Host
    from gosudacon.schema.types import Process, State


def compile_exec(spec: Spec, host: Host, config: str = "", use_snapshot: bool = True) -> tuple[Plan, Registry]:
    """The plan for ``spec.process`` in ``spec.target`` and the registry it came from; as `compile_plan`."""
    stages = registry(config, use_snapshot)
    return stages.compiled(spec, host, plans.make_exec), stages


class Execution:
    """One process being executed in a container: up to where it waits, then its execve(2)."""

    makes_container = False

    def __init__(
        self,
        root: str,
        id: str,
        args: list[str],
        options: ExecOptions,
        caller: Caller,
        handover: Handover | None = None,
    ) -> None:
        """With ``handover`` this process becomes the container's, where that is possible, and `run` does not return."""
        self.caller = caller
        self._handover = handover
        self.told: Listeners = []
        self.container = _enterable(Store(root, id), options.ignore_paused)
        caller.mark("read the state")
        stages = registry(options.config_file, not options.no_snapshot)
        caller.trace(stages.trace)
        caller.count_descriptors(options)
        host = hosts.gather()
        self._moved = ""
        self.spec = caller.spec = self._spec(args, options, stages, host)
        self._plan = stages.compiled(self.spec, host, plans.make_exec)
        caller.mark("check the process, plan")
        self.context = Context(self.spec, host)
        self._engine = RuntimeSide(self._plan, self.context, self._state, caller.watching(stages))
        self._engine.child = "the process"

    def run(self) -> None:
        """Run the plan up to where the process waits to be executed."""
        self.context.state_dir = self.container.store.fd
        self.caller.equip(self._engine)
        handover = self._handover
        if handover is not None and self._can_join(self.context.host):
            self._engine.go_alone(handover.lane(self._plan), lambda: handover.hand_over(self.warnings()))
        self._engine.run()
        self._started = proc.start_time(self.context.pid)

    def master(self) -> int:
        """The process's terminal for a caller in the foreground; -1 if it has none."""
        from gosudacon.container.foreground import receive_terminal

        return receive_terminal(self.context)

    def commit(self) -> None:
        """Have the process executed and wait until it is. Raises `Error` if it could not be."""
        self._engine.go()
        self._engine.await_exec()
        if self.caller.recorder is not None:
            self.caller.recorder.executed()
        if proc.never_executed(self.context.pid, self._started):
            raise StateError("the process was killed before it was executed")

    def warnings(self) -> list[str]:
        """What stages and steps have to say about the process."""
        said = [*(warning.describe() for warning in self._plan.warnings), *self.context.warnings]
        return [*said, self._moved] if self._moved else said

    def abort(self) -> list[Error]:
        """Kill the process; nothing of it lasts."""
        self._engine.kill()
        return []

    def release(self) -> None:
        """Give up the container's directory: it may be deleted, with this process still in the foreground."""
        self.container.store.close()

    def close(self) -> None:
        """Give up what this process still holds."""
        self._engine.close()
        self.context.forget()
        self.container.store.close()

    def _spec(self, args: list[str], options: ExecOptions, stages: Registry, host: Host) -> Spec:
        data = self.container.data
        config = bundles.saved(self.container.store)
        made_from = config.get("process") or {}
        own = self._unedited(stages.editors()) or made_from
        config["process"] = processes.build(own, args, options)
        target = Target(
            pid=data["pid"],
            start_time=data["start_time"],
            namespaces=namespace.differing(data["pid"]),
            cgroups=data["cgroups"] if options.cgroup else self._cgroups(host),
            below=processes.sub_cgroups(options.cgroup),
            process=made_from,
        )
        chosen = {name: value for name, value in vars(options).items() if name not in CGROUP_OPTIONS}
        chosen |= {**data.get("cgroup_options", {}), "no_new_keyring": data.get("no_new_keyring", False)}
        return Spec(config, data["id"], data["bundle"], Options.among(chosen), target=target)

    def _cgroups(self, host: Host) -> dict[str, str]:
        """The cgroups to enter: the container's or, where init has been moved out of them, init's."""
        recorded: dict[str, str] = self.container.data["cgroups"]
        try:
            now = hosts.cgroups_of(host, self.container.data["pid"]) if recorded else {}
        except OSError:  # it has just ended, as a step will say
            return recorded
        if all(now.get(controller) == directory for controller, directory in recorded.items()):
            return recorded
        from gosudacon.container import whereabouts

        strays = whereabouts.strays(self.container, host)
        if "" in strays.values():
            raise Error(f"cannot join init's cgroup: {whereabouts.told(strays)}")
        if strays:
            self._moved = f"{whereabouts.told(strays)}: the process joins it there"
        return {**recorded, **strays}

    def _can_join(self, host: Host) -> bool:
        """Whether this process may become the container's: it is in the right cgroup, and stays in its user namespace.

        To write to cgroup.procs, the other way into a cgroup of the unified hierarchy, takes many milliseconds.
        """
        target = self.spec.target
        assert target is not None
        wanted = target.cgroups.get("")
        inside = wanted is None or (not target.below and hosts.own_cgroup(host, "") == wanted)
        return inside and not host.euid and host.initial_userns and "user" not in target.namespaces

    def _unedited(self, editors: list[str]) -> Process:
        """The bundle's process if the plugins that edited it will edit this one: else what they did is kept."""
        edited = self.container.data.get("edited")
        if not edited or not all(plugin in editors for plugin in edited):
            return {}
        return bundles.saved(self.container.store, layout.ORIGINAL).get("process") or {}

    def _state(self, status: str, pid: int) -> State:
        """The container's state, whichever of its processes a seccomp agent or a plugin is told of."""
        return self.container.oci_state(self.container.status(), self.container.data["pid"])


def explained(id: str, bundle: str, options: ExecOptions, host: Host | None = None) -> Spec:
    """What ``exec --process`` would get in a container of this bundle; nothing needs to run.

    With ``host``, plugins edit the container's configuration as they would when it is created.
    """
    spec = bundles.load(id, bundle, options)
    own = spec.process
    if host is not None:
        registry(options.config_file, not options.no_snapshot).edit(spec, host)
    process = processes.build(own, [], options)
    target = Target(namespaces=list(spec.namespaces()), process=spec.process)
    return spec.replace(config={**spec.config, "process": process}, text=None, target=target, operation=EXEC)


def _enterable(store: Store, ignore_paused: bool) -> Container:
    """The container, if a process can be added to it. Raises `StateError`."""
    store.open()
    container = Container.load(store)
    status = container.status()
    if status == "stopped":
        raise StateError("cannot exec in a stopped container")
    if status == "paused" and not ignore_paused:
        raise StateError("cannot exec in a paused container (use --ignore-paused to override)")
    return container
