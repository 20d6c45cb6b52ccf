"""The interleaved run: every command of every runtime in turn, again and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from .runtimes import BARE
from .spawn import Sample
from .stats import rotated
from .workspace import Container, Workspace

STEPS = ("create", "start", "state", "kill", "delete")
#: What else is done to a running container; between ``state`` and ``kill``, and only when asked for.
EXTRAS = ("exec", "ps", "update")
LIFECYCLE = "lifecycle"
COMMANDS = (*STEPS[:3], *EXTRAS, *STEPS[3:], "run", LIFECYCLE)


def steps(wanted: Collection[str]) -> list[str]:
    """The commands of one container's life in their order: all of STEPS, and the EXTRAS that are ``wanted``."""
    return [step for step in COMMANDS if step in STEPS or (step in EXTRAS and step in wanted)]


@dataclass
class Series:
    """Samples of one command of one runtime, in the order they were taken."""

    wall: list[int] = field(default_factory=list)
    cpu: list[int] = field(default_factory=list)

    def add(self, sample: Sample) -> None:
        """Append one sample (nanoseconds)."""
        self.wall.append(sample.wall)
        self.cpu.append(sample.cpu)


#: command → runtime → samples. The bare interpreter has the command BARE.
Results = dict[str, dict[str, Series]]


class Timing:
    """Runs rounds. Within a round each command goes through all runtimes before the next command does.

    So a slow moment of the machine falls on all of them, and the order rotates from round to
    round so that none always runs after the same neighbour.
    """

    def __init__(self, workspace: Workspace, commands: list[str], settle: float) -> None:
        self._work = workspace
        self._settle = settle
        self._commands = commands
        self._names = list(workspace.runtimes)
        self._containers: dict[str, Container] = {
            name: workspace.container(runtime, "timed") for name, runtime in workspace.runtimes.items() if name != BARE
        }
        self.results: Results = {}

    def rounds(self, warmup: int, runs: int, progress: Callable[[int, int], None]) -> Results:
        """Run ``warmup`` rounds that are thrown away and ``runs`` that count; the samples.

        CommandFailed or TimedOut when a command fails: figures of a broken runtime mean nothing.
        """
        for number in range(warmup + runs):
            if number == warmup:
                self.results = {}
            progress(number, warmup + runs)
            self._round(rotated(self._names, number))
        progress(warmup + runs, warmup + runs)
        return self.results

    def _round(self, order: list[str]) -> None:
        wanted = steps(self._commands)
        if any(step in self._commands for step in wanted):
            for step in wanted:
                self._each(order, step)
        if "run" in self._commands:
            self._each(order, "run")
        if LIFECYCLE in self._commands:
            self._each(order, LIFECYCLE)

    def _each(self, order: list[str], command: str) -> None:
        for name in order:
            time.sleep(self._settle)
            if name == BARE:
                self._bare()
            elif command == LIFECYCLE:
                self._add(command, name, self._lifecycle(self._containers[name]))
            else:
                sample = self._work.do(self._containers[name], command)
                if command in self._commands:
                    self._add(command, name, sample)

    def _bare(self) -> None:
        runtime = self._work.runtimes[BARE]
        self._work.namespaces.enter(False)
        self._add(BARE, BARE, self._work.spawner.run(list(runtime.command)))

    def _lifecycle(self, container: Container) -> Sample:
        """All five steps without a pause, the wait for the killed init included."""
        self._work.enter(container.runtime)
        begun = time.monotonic_ns()
        cpu = sum(self._work.do(container, step).cpu for step in STEPS)
        return Sample(time.monotonic_ns() - begun, cpu)

    def _add(self, command: str, name: str, sample: Sample) -> None:
        self.results.setdefault(command, {}).setdefault(name, Series()).add(sample)
