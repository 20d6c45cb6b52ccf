"""How parts of a test run went: reports in JUnit's format, the table, and the closing line."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Result:
    """How a part went; ``cases`` are its tests by name with their outcomes.

    These are passed, failed, skipped, unmet (skipped for a need that another machine may meet), and unsteady: failed,
    and passed when it was run once more.
    """

    name: str
    passed: bool
    seconds: float
    note: str = ""
    cases: dict[str, str] = field(default_factory=dict)

    def count(self, outcome: str) -> int:
        """The number of tests with this outcome."""
        wanted = {"skipped": ("skipped", "unmet"), "passed": ("passed", "unsteady")}.get(outcome, (outcome,))
        return sum(value in wanted for value in self.cases.values())


def second_report(path: Path) -> Path:
    """Where the report of those tests is that were run once more, after those of ``path``."""
    return path.parent / "second" / path.name


def read_report(path: Path) -> dict[str, str]:
    """Outcomes by test from a report in JUnit's format and from its `second_report`; nothing if it does not exist."""
    cases = _outcomes(path)
    for name, outcome in _outcomes(second_report(path)).items():
        if cases.get(name) == "failed" and outcome == "passed":
            cases[name] = "unsteady"
    return cases


def _outcomes(path: Path) -> dict[str, str]:
    cases: dict[str, str] = {}
    if not path.exists():
        return cases
    for case in ElementTree.parse(path).iter("testcase"):
        kinds = {child.tag: child.get("message", "") for child in case}
        outcome = "failed" if kinds.keys() & {"failure", "error"} else "passed"
        if outcome == "passed" and "skipped" in kinds:
            outcome = "unmet" if kinds["skipped"].startswith("needs ") else "skipped"
        name = f"{case.get('classname')}::{case.get('name')}"
        if cases.get(name) != "failed":  # a test can have two entries, when its end fails as well
            cases[name] = outcome
    return cases


def from_elsewhere(reports: Path, pattern: str, where: str) -> list[Result]:
    """A result for each report that a part has brought from another machine or root."""
    found = []
    for path in sorted(reports.glob(pattern)):
        item = Result(f"{where}: {path.stem}", True, 0, cases=read_report(path))
        item.passed = item.count("failed") == 0
        found.append(item)
    return found


def never_run(results: list[Result]) -> list[str]:
    """The tests whose needs were met nowhere."""
    outcomes: dict[str, set[str]] = {}
    for result in results:
        for name, outcome in result.cases.items():
            outcomes.setdefault(name, set()).add(outcome)
    return sorted(name for name, seen in outcomes.items() if seen == {"unmet"})


def report(results: list[Result], complete: bool) -> int:
    """Print the table and the closing line; the exit status.

    In CI a test that no part has run, when all parts were to run, is a failure.
    """
    print(f"\n{'':26}{'passed':>8}{'failed':>8}{'skipped':>8}{'seconds':>9}")
    for result in results:
        counts = [str(result.count(kind)) if result.cases else "" for kind in ("passed", "failed", "skipped")]
        verdict = "ok" if result.passed else "FAILED"
        cells = "".join(f"{count:>8}" for count in counts)
        print(f"{result.name[:25]:26}{cells}{result.seconds:>9.0f}  {verdict}  {result.note}".rstrip())
    for outcome, words in (("unsteady", "failed, and passed when run once more"), ("failed", "failed")):
        for result in results:
            for name in (name for name, value in result.cases.items() if value == outcome):
                print(f"{words}: {name} ({result.name})")
    idle = never_run(results) if complete else []
    for name in idle:
        print(f"run nowhere: {name}")
    if idle and os.environ.get("CI") == "true":
        results.append(Result("every test somewhere", False, 0, f"{len(idle)} run nowhere"))
    checks = [result for result in results if not result.cases]
    passed = sum(result.count("passed") for result in results) + sum(result.passed for result in checks)
    failed = sum(result.count("failed") for result in results) + sum(not result.passed for result in checks)
    skipped = sum(result.count("skipped") for result in results)
    if not failed and not all(result.passed for result in results):
        failed = 1
    print(f"\n{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 0 if all(result.passed for result in results) else 1
