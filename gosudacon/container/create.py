"""Creating a container: compile the bundle into its plan, save what undoes it, run it, unwind on failure."""

from __future__ import annotations

from gosudacon import __version__
from gosudacon.container import bundle as bundles
from gosudacon.container import host as hosts
from gosudacon.container.state import (
    OCI_VERSION,
    VERSION,
    Container,
    Store,
    cgroup_options,
    check_id,
    now,
    oci_state,
)
from gosudacon.linux import interrupt, proc, sched
from gosudacon.linux import system as os
from gosudacon.linux.errors import Error, reason
from gosudacon.pipeline import plan as plans
from gosudacon.pipeline.executor import InitDied, RuntimeSide
from gosudacon.pipeline.registry import registry
from gosudacon.pipeline.runner import run_step, undo_steps
from gosudacon.pipeline.step import DELETE, STARTED, Context

_DESCRIPTORS = 1024  # for undoing, which holds a batch of pidfds where it has to kill

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gosudacon.pipeline.plan import Plan
    from gosudacon.pipeline.step import Host, Spec


def compile_plan(spec: Spec, host: Host, config: str = "", use_snapshot: bool = True) -> tuple[Plan, Any]:
    """The plan of a bundle and the registry it came from; pure but for importing stages. Raises `Error`."""
    stages = registry(config, use_snapshot)
    plan = plans.make(stages.stages(spec), spec, host)
    stages.amend(plan, spec, host)
    return plan, stages


class Creation:
    """One container being created. `run` brings init to where it waits for ``start``; then `commit` or `abort`."""

    def __init__(self, root: str, id: str, bundle: str, options: dict[str, Any]) -> None:
        check_id(id)
        self.spec = bundles.load(id, bundle, options)
        self.host = hosts.gather()
        self.store = Store(root, id)
        self.plan, stages = self._compile(options.get("config", ""), not options.get("no_snapshot"))
        check_console(self.spec)  # of a configuration that is valid: planning has checked it
        self.observers = (stages.hook("gosudacon_step_started"), stages.hook("gosudacon_step_finished"))
        self._recorded_observers = stages.observers()
        self.context = Context(self.spec, self.host)
        self.engine = RuntimeSide(self.plan, self.context, self.state, self.observers)
        self.container = Container(self.store, self._initial_data())

    def run(self) -> None:
        """Run the plan up to `START`. On failure everything is undone before the `Error` is raised."""
        self.store.create()
        try:
            self._record()
            self.engine.run()
            data = self.container.data
            data["pid"] = self.context.pid
            data["start_time"] = proc.start_time(self.context.pid)
            data["cgroups"] = self.context.kept.get("cgroups", {})
            self.container.save()
        except BaseException as error:
            if isinstance(error, InitDied):
                self._blame_memory(error)
            failures = self.abort()
            if failures and isinstance(error, Error):
                error.hint = f"{failures[0].message}; delete --force {self.spec.id} tries again"
            raise

    def _compile(self, config: str, use_snapshot: bool) -> tuple[Plan, Any]:
        return compile_plan(self.spec, self.host, config, use_snapshot)

    def _record(self) -> None:
        """Write what undoes the plan, before anything is done."""
        self.context.state_dir = self.store.fd
        self.container.save()
        self.store.write("config.json", self.spec.text or b"")

    def _blame_memory(self, error: InitDied) -> None:
        """Say so if the kernel killed init for lack of memory: callers look for these words."""
        from gosudacon.linux import cgroup

        if cgroup.oom_kills(self.context.kept.get("cgroups", {})):
            error.message = "container init was OOM-killed (memory limit too low?)"

    def commit(self) -> None:
        """Let init go on: it now waits for ``start`` by itself, and outlives this process."""
        if not self.spec.options.get("run"):
            interrupt.defer()  # that is all there was to do
        self.engine.go()

    def await_exec(self) -> None:
        """Wait until execve(2) closes init's end of the channel. Raises what init reports instead."""
        self.engine.await_exec()
        self.container.check_executed()

    def abort(self) -> list[Error]:
        """Kill init and undo every step that lasts; what could not be undone is returned.

        Nothing of what made the creation fail gets in the way: neither more signals nor a limit on descriptors. While
        anything is left, the state directory stays for ``delete --force``, and the container is not at its end.
        """
        interrupt.defer()
        sched.allow_descriptors(_DESCRIPTORS)
        self.engine.kill()
        failures = undo_steps(self.plan.lasting(), self.context)
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

    def state(self, status: str, pid: int) -> dict[str, Any]:
        """The OCI state for hooks."""
        return oci_state(self.container.data, status, pid)

    def _initial_data(self) -> dict[str, Any]:
        config = self.spec.config
        data = {"observers": self._recorded_observers} if self._recorded_observers else {}
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
            "no_new_keyring": bool(self.spec.options.get("no_new_keyring")),
            "shares_pid_namespace": not self._new_pid_namespace(),
            "lasting": [step.record() for step in self.plan.lasting()],
            "started": [step.record() for step in self.plan.of_phase(STARTED)],
            "deleted": [step.record() for step in self.plan.of_phase(DELETE)],
        }

    def _new_pid_namespace(self) -> bool:
        return self.spec.namespaces().get("pid") == ""


def check_console(spec: Spec) -> None:
    """Raise `Error` unless somebody takes the process's terminal, if it has one."""
    terminal, socket = spec.process.get("terminal"), spec.options.get("console_socket")
    foreground = spec.options.get("foreground")
    if terminal and not socket and not foreground:
        raise Error("cannot allocate tty if gosudacon will detach without setting console socket")
    if socket and (foreground or not terminal):
        raise Error("cannot use console socket if gosudacon will not detach or allocate tty")


def write_pid_file(path: str, pid: int) -> None:
    """The pid in decimal without a newline, written aside and renamed: callers read it as soon as they see it."""
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f".{name}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        fd = os.open(temporary, flags, 0o644)
    except FileExistsError:  # of a create that was killed here
        os.unlink(temporary)
        fd = os.open(temporary, flags, 0o644)
    try:
        try:
            os.write(fd, b"%d" % pid)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
