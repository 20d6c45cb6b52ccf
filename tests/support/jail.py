"""A process in the cgroups that the stage ``cgroups`` makes: its plan, run the way the engine runs it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from gosudacon.api import CONTAINER, PREPARE, Context, Host, Options, Spec, Step
from gosudacon.container import host as hosts
from gosudacon.linux import namespace
from gosudacon.pipeline import plan as plans
from gosudacon.pipeline.runner import run_step, undo_steps
from gosudacon.stages.cgroups import Cgroups
from gosudacon.stages.cgroups.create import Held
from tests.support import cgroups, processes


class Jail:
    """One container as far as cgroups go; ``path`` is its cgroupsPath, ``state`` its state directory."""

    def __init__(
        self,
        path: str,
        state: Path,
        resources: dict[str, Any] | None = None,
        host: Host | None = None,
        options: Options | None = None,
        **config: Any,
    ) -> None:
        linux = {"cgroupsPath": path, "resources": resources or {}, **config.pop("linux", {})}
        state.mkdir(exist_ok=True)
        self.path = path
        whole: Any = {"linux": linux, **config}
        self.spec = Spec(whole, "jail", "/bundle", options)
        self.host = host or hosts.gather()
        self.steps: list[Step] = plans.make([Cgroups()], self.spec, self.host).steps
        self.state = state
        self.pid = 0
        self.opened: list[int] = []
        self.context = self.fresh()

    def fresh(self) -> Context:
        """What another process would have: the state directory and nothing else."""
        context = Context(self.spec, self.host)
        context.state_dir = os.open(self.state, os.O_RDONLY | os.O_CLOEXEC)
        self.opened.append(context.state_dir)
        return context

    def prepare(self) -> None:
        """Run what comes before there is a process."""
        for step in self.steps:
            if step.phase == PREPARE:
                run_step(step, self.context)

    def start(self, body: Callable[[], object] = signal.pause, flags: int = 0) -> int:
        """Run the whole plan around a process that then runs ``body``; its pid."""
        self.prepare()
        reader, writer = os.pipe()
        self.pid = namespace.clone(flags, self.context.cgroup_fd)
        if self.pid == 0:
            self._contained(writer, body)
        os.close(writer)
        if os.read(reader, 4096) != b"":
            raise AssertionError("the process could not join")
        os.close(reader)
        for step in self.steps:
            if step.phase != PREPARE and step.runs_on() != CONTAINER:
                run_step(step, self.context)
        return self.pid

    def _contained(self, writer: int, body: Callable[[], object]) -> NoReturn:
        try:
            os.set_inheritable(writer, False)
            for step in self.steps:
                if step.runs_on() == CONTAINER:
                    run_step(step, self.context)
            os.close(writer)
            body()
        except BaseException as error:  # noqa: BLE001 - a test's child reports and ends
            print(f"jail: {error!r}", file=sys.stderr)
            os.write(writer, b"E")
            os._exit(1)
        os._exit(0)

    def kill(self) -> None:
        """End the process itself, and reap it."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()

    def wait(self) -> int:
        """The exit status of the process."""
        pid, self.pid = self.pid, 0
        return processes.wait(pid)

    def undo(self) -> None:
        """Undo as `delete` does: from the recorded steps, in the order of a plan that is unwound."""
        lasting = [step for step in self.steps if step.lasts]
        failures = undo_steps(lasting, self.fresh())
        if failures:
            raise failures[0]

    def directories(self) -> set[Path]:
        """The container's cgroups that are there, in every hierarchy."""
        found = {item.mountpoint / self.path.lstrip("/") for item in cgroups.hierarchies()}
        return {path for path in found if path.exists()}

    def read(self, controller: str, file: str) -> str:
        """A file of the container's cgroup, without the final newline."""
        return (cgroups.directory(controller, self.path) / file).read_text().rstrip("\n")


@contextmanager
def cleaned(jail: Jail) -> Iterator[Jail]:
    """Whatever happens, end the process and take its cgroups away."""
    try:
        yield jail
    finally:
        for fd in {*jail.context.cgroup_dirs.values()}:
            os.close(fd)
        for fd in jail.context.own(Held).joins.values():
            os.close(fd)
        if jail.pid:
            os.kill(jail.pid, signal.SIGKILL)
        jail.undo()
        if jail.pid:
            jail.wait()
        for fd in jail.opened:
            os.close(fd)
