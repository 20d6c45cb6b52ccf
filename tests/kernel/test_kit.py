"""The kit with real containers: the package that `plugin new` writes, and the faults of gosudacon.testing."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from gosudacon.container.kit import dependents, skeleton
from gosudacon.testing.containers import Containers
from gosudacon.testing.faults import Report
from tests.support.runtime import CHECKOUT


@pytest.mark.slow
def test_all_tests_of_a_new_package_pass(scratch: Path) -> None:
    skeleton.write(str(scratch / "new"), "my-plugin")
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-B", "-m", "pytest", "-q", "-p", "gosudacon.testing.plugin", "-p", "no:cacheprovider"]
    command += ["-p", "no:gosudacon", f"--basetemp={scratch}/inner"]
    result = subprocess.run(
        command, cwd=scratch / "new", env=environment, capture_output=True, text=True, timeout=250, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "6 passed" in result.stdout


def plugin(place: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of a plugin, on sys.path."""
    (place / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(place))
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


NOTES = """
import os
from gosudacon.api import PREPARE, Stage, Step, hookimpl

class Note(Step):
    phase = PREPARE
    lasts = True
    path: str
    def describe(self): return f"note {self.path}"
    def run(self, context): open(self.path, "w").close()
    def undo(self, context): UNDO

class Notes(Stage):
    name = "notes"
    def plan(self, spec, host):
        yield Note(path=self.settings["path"])

@hookimpl
def gosudacon_stages(): return [Notes()]
"""


def test_faults_at_every_step(
    oci_faults: Callable[..., Report], scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undo = "os.path.exists(self.path) and os.unlink(self.path)"
    module = plugin(scratch, "kit_good", NOTES.replace("UNDO", undo), monkeypatch)
    (scratch / "notes").mkdir()
    settings = {"stage": {"notes": {"path": str(scratch / "notes/x")}}}
    report = oci_faults(module, config=settings, watch=[scratch / "notes"])
    assert report.count > 30


def test_disable_names_the_containers_that_need_it(
    oci_container: Callable[..., Containers], scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = plugin(scratch, "kit_needed", NOTES.replace("UNDO", "os.unlink(self.path)"), monkeypatch)
    containers = oci_container(module, config={"stage": {"notes": {"path": str(scratch / "x")}}})
    running = containers.running()
    assert dependents.containers(str(containers.root), "kit-needed", ["notes"]) == [running.id]
    assert dependents.containers(str(containers.root), "other", []) == []
    row = containers.call("plugin", "list", "kit-needed").stdout.splitlines()[1].split()
    assert (row[0], row[3], row[6]) == ("kit-needed", "1", "notes")
    running.delete("--force")
    assert dependents.containers(str(containers.root), "kit-needed", ["notes"]) == []
    assert not (scratch / "x").exists()


def test_a_plugin_that_leaves_something_is_caught(
    oci_faults: Callable[..., Report], scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = plugin(scratch, "kit_bad", NOTES.replace("UNDO", "pass"), monkeypatch)
    (scratch / "notes").mkdir()
    settings = {"stage": {"notes": {"path": str(scratch / "notes/x")}}}
    with pytest.raises(pytest.fail.Exception, match=r"left behind: .*/notes/x"):
        oci_faults(module, config=settings, watch=[scratch / "notes"], every=False)
