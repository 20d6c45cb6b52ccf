"""How many system calls the hot commands make, beyond those of an interpreter that does nothing.

A count is the same on every machine, which a time is not, and every path that is tried without success shows in it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import Runtime
from tests.support.timing import seconds

pytestmark = needs("program:strace", "runtime:gosudacon")

#: Command -> the most calls it may make; a tenth above what was measured on cgroup v1, where `create` makes and joins a
#: dozen cgroups. ``create`` has those of init to its end. Raise one knowingly.
MOST = {"create": 1050, "start": 195, "state": 185, "kill": 180, "delete": 290}


class Counter:
    """Counts with strace(1), whose reports go to files in ``directory``."""

    def __init__(self, runtime: Runtime, directory: Path) -> None:
        self.runtime = runtime
        self.directory = directory
        self.plain = list(runtime.command)
        subprocess.run([*self.strace("idle"), sys.executable, "-ISBXutf8", "-c", "pass"], check=True, timeout=60)
        self.idle = self.total("idle")

    def strace(self, report: str) -> list[str]:
        return ["strace", "-f", "-c", "-o", str(self.directory / f"strace-{report}")]

    def total(self, report: str) -> int:
        found = re.search(r"(\d+)(?:\s+\d+)? total$", (self.directory / f"strace-{report}").read_text(), re.MULTILINE)
        assert found
        return int(found[1])

    def call(self, name: str, *arguments: str) -> int:
        """The calls that a command makes beyond those of the interpreter's start."""
        self.runtime.command = [*self.strace(name), *self.plain]
        try:
            self.runtime.call(name, *arguments)
        finally:
            self.runtime.command = self.plain
        return self.total(name) - self.idle


def test_budget(runtime: Runtime, bundle: Bundle) -> None:
    """The hot commands stay within their number of system calls."""
    if not Path(runtime.command[-1]).read_bytes().startswith(b"\x7fELF"):
        pytest.skip("needs the installed launcher: without it, the interpreter starts twice")
    bundle.set("process.args", ["/bin/sleep", "1000"])
    runtime.create(bundle)  # what is cached is there from now on
    runtime.delete(bundle, "--force")
    counter = Counter(runtime, bundle.path)
    runtime.created.append(bundle.id)
    create = [*runtime.command, "--root", str(runtime.root), "create", "--bundle", str(bundle.path), bundle.id]
    with subprocess.Popen([*counter.strace("create"), *create]) as whole:  # strace stays until init ends
        runtime.until(bundle, "created")
        counts = {"start": counter.call("start", bundle.id), "state": counter.call("state", bundle.id)}
        counts["kill"] = counter.call("kill", bundle.id, "KILL")
        assert whole.wait(seconds(30)) == 0
    counts["create"] = counter.total("create") - counter.idle
    counts["delete"] = counter.call("delete", bundle.id)
    over = {name: count for name, count in counts.items() if count > MOST[name]}
    assert not over, f"{over} of {counts}; the interpreter alone makes {counter.idle}"
