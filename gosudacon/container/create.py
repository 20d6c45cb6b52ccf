"""Creating a container: compile the bundle into its plan, save what undoes it, run it, undo it on failure."""

from __future__ import annotations

from gosudacon import __version__
from gosudacon.base import interrupt, jsonio, layout, posix
from gosudacon.base.errors import Error, reason
from gosudacon.container import bundle as bundles
from gosudacon.container import host as hosts
from gosudacon.container.state import (
    OCI_VERSION,
    OOM_KILLED,
    VERSION,
    Container,
    Store,
    cgroup_options,
    check_id,
    network_options,
    now,
    oci_state,
)
from gosudacon.linux import proc
from gosudacon.pipeline import plan as plans
from gosudacon.pipeline.executor import InitDied, RuntimeSide
from gosudacon.pipeline.registry import registry
from gosudacon.pipeline.runner import run_step, undo_steps
from gosudacon.pipeline.step import DELETE, STARTED, Context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from gosudacon.container.caller import Caller
    from gosudacon.container.state import Data
    from gosudacon.pipeline.plan import Plan
    from gosudacon.pipeline.registry import Registry
    from gosudacon.pipeline.spec import Host, Options, Spec
    from gosudacon.schema.types import State

    Compiler = Callable[[Spec, Host], tuple[Plan, Registry]]


def compile_plan(spec: Spec, host: Host, config: str = "", use_snapshot: bool = True) -> tuple[Plan, Registry]:
    """The plan of a bundle and the registry it came from; pure except for importing stages. Raises `Error`.

    Plugins may edit the configuration of ``spec``.
    """
    stages = registry(config, use_snapshot, spec.options.plugins)
    return stages.compiled(spec, host, plans.make), stages


class NewContainer:
    """A container in the making: its plan, its directory in ``--root``, and what undoes both.

    Whatever makes it (`Creation`, or criu's ``Restoration``) runs the plan. `undo` is the one place where a create is
    rolled back. ``compile``: the plan of a spec on a host, and the registry it came from. ``spec``: what
    `bundles.load` returns, for a caller that has it already.
    """

    def __init__(
        self,
        root: str,
        id: str,
        bundle: str,
        options: Options,
        caller: Caller,
        compile: Compiler,
        spec: Spec | None = None,
    ) -> None:
        check_id(id)
        caller.count_descriptors(options)
        self.caller = caller
        self.spec = caller.spec = spec or bundles.load(id, bundle, options)
        caller.mark("read config.json")
        self.host = hosts.gather()
        self._completed = bundles.lacks_mappings(self.spec)
        if self._completed:
            from gosudacon.container import idmaps

            idmaps.complete(self.spec, self.host)
        caller.mark("look at the host")
        self.store = Store(root, id)
        self.plan, stages = compile(self.spec, self.host)
        self._trace = stages.trace
        caller.trace(self._trace)
        caller.mark("check the configuration, plan")
        self.observers = caller.watching(stages)
        self._recorded_observers = stages.observers()
        self.told = stages.told_of_end()
        self.context = Context(self.spec, self.host)
        self.context.environment = caller.environment
        self.container = Container(self.store, self._initial_data())
        self._umask = -1

    def create(self) -> None:
        """Make the state directory, and write what undoes the plan before anything is done.

        The umask is from here on 022, whatever the caller's was: what must be private is made with its own mode.
        Raises `StateError` if the id is taken.
        """
        self._umask = posix.umask(0o022)
        self.store.create()
        self.context.state_dir = self.store.fd
        self.container.save()
        text = self.spec.text or b""
        if self.plan.edits:
            self.store.write(layout.ORIGINAL, text)
        if self.plan.edits or self._completed:
            text = jsonio.dumps(self.spec.config).encode()
        self.store.write(layout.CONFIG, text)
        self.caller.mark("write the state: how to undo the plan")

    def save(self) -> None:
        """Write who init is, and where its cgroups are."""
        data = self.container.data
        data["pid"] = self.context.pid
        data["start_time"] = proc.start_time(self.context.pid)
        data["cgroups"] = self.context.cgroups
        if self.context.addresses:
            data["addresses"] = self.context.addresses
            data["ports"] = self.context.ports
        self.container.save()
        self.caller.mark("write the state: init, cgroups")

    def undo(self) -> list[Error]:
        """Undo every step that lasts, init being dead; what could not be undone is returned.

        While anything is left, the state directory stays for ``delete --force``, and the container is not at its end.
        Nothing is undone where `create` found the id taken: the directory is another container's.
        """
        if self.store.fd < 0:
            return []
        recorder = self.caller.recorder
        failures = undo_steps(self.plan.lasting(), self.context, recorder.undone if recorder else None)
        if failures:
            return failures
        try:
            self.store.remove()
        except OSError as error:
            return [Error(reason(error))]
        for step in self.plan.of_phase(DELETE):  # the lifecycle goes on to its end: poststop hooks (runtime.md)
            try:
                run_step(step, self.context, self.observers)
            except Error as error:
                failures.append(error)
        return failures

    def warnings(self) -> list[str]:
        """What stages and steps have to say about the configuration."""
        return [*(warning.describe() for warning in self.plan.warnings), *self.context.warnings]

    def close(self) -> None:
        """Give up the directory and the lock on it; the umask is the caller's again."""
        self.store.close()
        if self._umask >= 0:
            posix.umask(self._umask)

    def state(self, status: str, pid: int) -> State:
        """The OCI state for hooks."""
        return oci_state(self.container.data, status, pid)

    def _initial_data(self) -> Data:
        config = self.spec.config
        data: Data = {"observers": self._recorded_observers} if self._recorded_observers else {}
        if self._trace:
            data["trace"] = self._trace
        if self.plan.edits:
            data["edited"] = self.plan.edits.plugins()
        if networks := network_options(self.spec.options):
            data["network_options"] = networks
        return {
            **data,
            "version": VERSION,
            "gosudacon": __version__,
            "ociVersion": OCI_VERSION,
            "id": self.spec.id,
            "bundle": self.spec.bundle,
            "rootfs": self.spec.rootfs,
            "created": now(),
            "annotations": config.get("annotations") or {},
            "pid": 0,
            "start_time": 0,
            "cgroups": {},
            "cgroup_options": cgroup_options(self.spec.options),
            "no_new_keyring": self.spec.options.no_new_keyring,
            "shares_pid_namespace": not self._new_pid_namespace(),
            "lasting": [step.record() for step in self.plan.lasting()],
            "started": [step.record() for step in self.plan.of_phase(STARTED)],
            "deleted": [step.record() for step in self.plan.of_phase(DELETE)],
        }

    def _new_pid_namespace(self) -> bool:
        return self.spec.namespaces().get("pid") == ""


class Creation:
    """One container being created: init up to where it waits for ``start``, or, with the option ``run``, beyond.

    ``spec``: as that of `NewContainer`.
    """

    makes_container = True

    def __init__(
        self, root: str, id: str, bundle: str, options: Options, caller: Caller, spec: Spec | None = None
    ) -> None:
        if caller.notify_socket():
            options.notify_directory = f"{root}/{id}/{layout.NOTIFY}"
        self._new = new = NewContainer(root, id, bundle, options, caller, _compiler(options), spec)
        self.caller = caller
        self.spec, self.context, self.container = new.spec, new.context, new.container
        self.told = new.told
        self._engine = RuntimeSide(new.plan, new.context, new.state, new.observers)

    def run(self) -> None:
        """Run the plan up to `START`."""
        self._new.create()
        self.caller.equip(self._engine)
        try:
            self._engine.run()
        except InitDied as error:
            self._blame_memory(error)
            raise
        self._new.save()

    def master(self) -> int:
        """The process's terminal for a caller in the foreground; -1 if it has none."""
        from gosudacon.container.foreground import receive_terminal

        return receive_terminal(self.context)

    def commit(self) -> None:
        """Let init go on: it then waits for ``start``. With ``run``, wait until it has executed its process."""
        if not self.spec.options.run:
            interrupt.defer()  # that is all there was to do
        try:
            self._engine.go()
        except InitDied as error:
            self._blame_memory(error)
            raise
        if self.spec.options.run:
            self._await_exec()

    def warnings(self) -> list[str]:
        """What stages and steps have to say about the configuration."""
        return self._new.warnings()

    def abort(self) -> list[Error]:
        """Kill init and undo every step that lasts; what could not be undone is returned."""
        self._engine.kill()
        return self._new.undo()

    def release(self) -> None:
        """Let others change the container, or delete it."""
        self._new.store.unlock()

    def close(self) -> None:
        """Give up what this process still holds of the container."""
        self._engine.close()
        self.context.forget()
        self._new.close()

    def _await_exec(self) -> None:
        from gosudacon.container.replay import run_started

        self._engine.await_exec()
        self.container.check_executed()
        if self.caller.recorder is not None:
            self.caller.recorder.executed()
        run_started(self.container, self._new.observers, self.caller.recorder)

    def _blame_memory(self, error: InitDied) -> None:
        """Say so if the kernel killed init for lack of memory: callers look for these words."""
        from gosudacon.linux.cgroup import processes

        if processes.oom_kills(self.context.cgroups):
            error.message = OOM_KILLED


def _compiler(options: Options) -> Compiler:
    return lambda spec, host: compile_plan(spec, host, options.config_file, not options.no_snapshot)
