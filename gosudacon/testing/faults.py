"""Failing at every step of a plan, and looking for what is left."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from gosudacon.testing import inject, values
from gosudacon.testing.containers import Container, Containers

_LATER = ("started", "delete")
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    class Shown(TypedDict):
        """A step as ``explain --format json`` has it, and where in the plan it is."""

        index: int
        stage: str
        step: str
        phase: str
        side: str
        what: str
        in_start: bool


class Report:
    """``count``: how many faults there were; ``problems``: a line for each that left something behind, or got lost."""

    def __init__(self) -> None:
        self.count = 0
        self.problems: list[str] = []


class Sweep:
    """One bundle, whose creation fails again and again."""

    def __init__(self, containers: Containers, changes: Mapping[str, object], watched: list[Path]) -> None:
        self.containers = containers
        self.watched = watched
        self.container = containers.new(changes=changes)
        self._path = self.container.bundle / "config.json"
        self._config: object = json.loads(self._path.read_text())

    def run(self, every: bool) -> Report:
        """Let the steps fail: those of the plugin in three ways, and if ``every`` is True all others by an error."""
        report, before = Report(), self._look()
        for step in self._steps():
            for when, what in self._faults(step, every):
                report.count += 1
                try:
                    self._fail(step, when, what)
                    left = [*self.containers.leftovers(), *sorted(self._look() ^ before)]
                    assert not left, f"left behind: {', '.join(left)}"
                except AssertionError as error:
                    report.problems.append(
                        f"{what} {when} step {step['index']} of {step['stage']}, {step['what']}: {error}"
                    )
                    self.container.delete("--force", check=False)
                    before = self._look()
        assert report.count, "the plan has no step of the plugin"
        return report

    def _steps(self) -> list[Shown]:
        """The steps that run in ``create`` and ``start``."""
        call = self.containers.call("explain", "--no-check", "--format", "json", str(self.container.bundle))
        plan: list[Shown] = json.loads(call.stdout)["steps"]
        waiting = next(index for index, step in enumerate(plan) if step["step"] == "WaitForStart")
        for index, step in enumerate(plan):
            step["index"], step["in_start"] = index, index >= waiting  # which ends when `start` is called
        return [step for step in plan if step["phase"] not in _LATER]

    def _faults(self, step: Shown, every: bool) -> Iterator[tuple[str, str]]:
        own = step["stage"] not in self._built_in()
        if own or every:
            yield ("before" if step["step"] == "Execve" else "after"), "error"
        if own:
            yield "before", "error"
            if not step["in_start"]:
                yield "after", "death"

    def _built_in(self) -> set[str]:
        from gosudacon.pipeline import discovery

        return set(discovery.built_in())

    def _fail(self, step: Shown, when: str, what: str) -> None:
        container = self.container
        fault = {"annotations": {inject.ANNOTATION: f"{step['index']}:{when}:{what}"}}
        self._path.write_text(json.dumps(values.merged(self._config, fault)))
        container.stderr.write_text("")
        if step["in_start"]:
            container.create()
            status, said = (result := container.start(check=False)).returncode, result.stderr
        else:
            status, said = container.create(check=False).returncode, container.stderr.read_text(errors="replace")
        assert status != 0, "the command succeeded"
        if what == "error":
            assert inject.MESSAGE in said, f"the error is lost: {said}"
        if step["in_start"]:
            container.until("stopped")
            container.delete()
        elif what == "death" and step["side"] == "runtime":
            container.delete("--force")

    def _look(self) -> set[str]:
        return {f"{path}" for directory in self.watched for path in directory.rglob("*")}


__all__ = ["Container", "Report", "Sweep"]
