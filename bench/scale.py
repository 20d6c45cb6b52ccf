"""Many containers: created, started, listed and deleted, one after the other and several at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .leftovers import Leftovers
from .runtimes import BARE, Runtime
from .workspace import Container, Workspace

PHASES = ("create", "start", "list", "state", "kill", "delete")


@dataclass
class ScaleRun:
    """One runtime at one degree of concurrency; wall time of each phase in nanoseconds."""

    runtime: str
    containers: int
    slots: int
    phases: dict[str, int] = field(default_factory=dict)
    left: Leftovers = field(default_factory=Leftovers)

    @property
    def total(self) -> int:
        """Wall time of all phases together, in nanoseconds."""
        return sum(self.phases.values())


def measure(workspace: Workspace, containers: int, slots: list[int], progress: Callable[[str], None]) -> list[ScaleRun]:
    """A run per degree of concurrency and runtime; the runtimes alternate within each degree."""
    done = []
    for slot in slots:
        for runtime in workspace.runtimes.values():
            if runtime.name != BARE:
                progress(f"{runtime.name}: {containers} containers, {slot} at a time")
                done.append(_one(workspace, runtime, containers, slot))
    return done


def _one(workspace: Workspace, runtime: Runtime, count: int, slots: int) -> ScaleRun:
    result = ScaleRun(runtime.name, count, slots)
    containers = [workspace.container(runtime, f"scale-{number:04}") for number in range(count)]
    workspace.enter(runtime)
    workspace.track(containers, alive=True)
    for phase in PHASES:
        result.phases[phase] = _phase(workspace, runtime, containers, phase, slots)
    workspace.track(containers, alive=False)
    result.left = settled(workspace, runtime)
    return result


def _phase(workspace: Workspace, runtime: Runtime, containers: list[Container], phase: str, slots: int) -> int:
    spawner = workspace.spawner
    if phase == "list":
        return spawner.run(runtime.argv(workspace.root(runtime), "list")).wall
    wall = spawner.run_many([workspace.command(one, phase) for one in containers], slots)
    for one in containers:
        if phase == "create":
            workspace.created(one)
        elif phase == "kill":
            spawner.reap(one.pid)
    return wall


def settled(workspace: Workspace, runtime: Runtime, seconds: float = 2.0) -> Leftovers:
    """What is left, after the kernel had a moment to finish with the last processes."""
    deadline = time.monotonic() + seconds
    left = workspace.left(runtime)
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = workspace.left(runtime)
    return left
