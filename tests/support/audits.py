"""``gosudacon audit`` as tests ask for it: findings by property."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.support.bundle import Bundle
from tests.support.runtime import Runtime, runtime_command
from tests.support.timing import seconds

BAD = ("NOT ENFORCED", "drifted", "changed since")


class Report:
    """One container's audit: ``findings`` in order, ``status`` the command's exit status."""

    def __init__(self, data: dict[str, Any], status: int) -> None:
        self.data = data
        self.status = status
        self.findings: list[dict[str, Any]] = data["findings"]

    def of(self, property: str, about: str = "") -> dict[str, Any]:
        """The finding of a property, the first one that has the word ``about`` in what was asked or is there."""
        for each in self.findings:
            words = f"{each.get('asked', '')} {each.get('kernel', '')} {each.get('note', '')}"
            if each["property"].startswith(property) and about in words:
                return each
        raise AssertionError(f"no finding about {property} {about}: {json.dumps(self.findings, indent=1)}")

    def verdict(self, property: str, about: str = "") -> str:
        """The verdict about a property, as `of` finds it."""
        return str(self.of(property, about)["verdict"])

    def bad(self) -> list[str]:
        """The properties that are not as they were asked for, with their verdicts."""
        return [f"{each['property']}: {each['verdict']}" for each in self.findings if each["verdict"] in BAD]


def call(root: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """``gosudacon --root ROOT audit WORDS``, with the runtime under test."""
    command = [*runtime_command(), "--root", str(root), "audit", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds(60), check=False)


def audit(runtime: Runtime, container: Bundle | str, *words: str) -> Report:
    """The audit of a container in the state directory of a runtime, ours or another."""
    id = container if isinstance(container, str) else container.id
    result = call(runtime.root, "--format", "json", *words, id)
    assert result.returncode in (0, 1), result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    assert not found["failed"], found["failed"]
    return Report(found["containers"][0], result.returncode)
