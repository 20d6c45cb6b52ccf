"""`gosudacon plugin check`: what no plugin may do is found, and one that does nothing of it passes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gosudacon.base.errors import Error
from gosudacon.container.kit import checks, imports, samples
from gosudacon.schema import verdict
from tests.unit.test_kit import ROOT

TYPE_CHECKING = False
if TYPE_CHECKING:
    Check = Callable[..., checks.Result]
HEAD = """
import os
from gosudacon.api import CONFINE, MOUNT, PREPARE, Edit, Stage, Step, hookimpl

class Work(Step):
    phase = PHASE
    value: object = 0
    LASTS
    def describe(self): return "work"
    def run(self, context): RUN
    UNDO

class Checked(Stage):
    name = "checked"
    def plan(self, spec, host):
        PLAN
        yield Work(VALUE)

@hookimpl
def gosudacon_stages(): return [Checked()]
"""
UNDO = "def undo(self, context): "


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """``check(PLAN="...", RUN="...")``: a plugin with these parts, checked."""

    def make(directories: tuple[str, ...] = (), **parts: str) -> checks.Result:
        defaults = {"PHASE": "PREPARE", "LASTS": "", "RUN": "pass", "UNDO": "", "PLAN": "", "VALUE": ""}
        text = HEAD
        for name, part in (defaults | parts).items():
            text = text.replace(name, part)
        (tmp_path / "gosudacon_checked.py").write_text(text)
        site = tmp_path / "checked-1.dist-info"
        site.mkdir()
        (site / "METADATA").write_text("Metadata-Version: 2.1\nName: checked\nVersion: 1\n")
        (site / "entry_points.txt").write_text("[gosudacon]\nchecked = gosudacon_checked\n")
        config = tmp_path / "config.toml"
        config.write_text("")
        config.chmod(0o644)
        monkeypatch.syspath_prepend(str(tmp_path))
        try:
            return checks.check("checked", str(config), directories)
        finally:
            sys.modules.pop("gosudacon_checked", None)

    return make


def kinds(result: checks.Result) -> list[str]:
    return [problem["kind"] for problem in result["problems"]]


def test_nothing_to_object_to(check: Check) -> None:
    result = check(LASTS="lasts = True", UNDO=UNDO + "pass", VALUE="value=[1, {'a': None}]")
    assert result["problems"] == []
    assert result["steps"] > 0
    assert len(result["bundles"]) == len(samples.samples())


@pytest.mark.parametrize(
    ("plan", "call"),
    [
        ("open('/etc/hostname').close()", "open('/etc/hostname')"),
        ("os.path.exists('/dev/kvm')", "os.stat('/dev/kvm')"),
        ("os.listdir('/')", "os.listdir('/')"),
        ("os.environ.pop('A', 0); os.putenv('A', '1')", "os.putenv("),
        ("import socket; socket.gethostname()", "socket.gethostname("),
        ("import subprocess; subprocess.run(['true'])", "subprocess.Popen("),
        ("import pathlib; pathlib.Path('/tmp').is_dir()", "os.stat("),
    ],
)
def test_impure_planning(check: Check, plan: str, call: str) -> None:
    result = check(PLAN=plan)
    assert set(kinds(result)) == {"impure"}
    assert any(f"planning calls {call}" in each["message"] for each in result["problems"])
    assert all("gosudacon_checked.py:" in each["message"] for each in result["problems"])


def test_a_plan_that_changes(check: Check) -> None:
    assert kinds(check(PLAN="self.__class__.count = getattr(self, 'count', 0) + 1", VALUE="value=self.count")) == [
        "unsteady"
    ]


@pytest.mark.parametrize(
    "value", ["value={1, 2}", "value=b'x'", "value={1: 2}", "value=object()", "value=float('nan')"]
)
def test_fields_that_are_not_json(check: Check, value: str) -> None:
    assert "fields" in kinds(check(VALUE=value))


def test_a_missing_undo(check: Check) -> None:
    assert kinds(check(LASTS="lasts = True")) == ["undo"]


def test_an_undo_that_is_never_called(check: Check) -> None:
    assert kinds(check(UNDO=UNDO + "pass")) == ["undo"]


@pytest.mark.parametrize(
    "late",
    ["import wave", "from wave import open", "__import__('wave')", "self.help()\n    def help(self): import wave"],
)
def test_imports_behind_the_wall(check: Check, late: str) -> None:
    result = check(PHASE="MOUNT", RUN=late)
    assert kinds(result) == ["imports"]
    assert "imports wave, which" in result["problems"][0]["message"]


@pytest.mark.parametrize(
    "parts",
    [
        {"PHASE": "PREPARE", "RUN": "import wave"},
        {"PHASE": "MOUNT", "RUN": "import wave", "LASTS": "modules = ('wave',)"},
        {"PHASE": "MOUNT", "RUN": "import os"},
    ],
)
def test_imports_that_are_right(check: Check, parts: dict[str, str]) -> None:
    assert check(**parts)["problems"] == []


def test_an_undo_that_imports(check: Check) -> None:
    assert kinds(check(LASTS="lasts = True", UNDO=UNDO + "import wave")) == ["imports"]


@pytest.mark.parametrize(("said", "count"), [("''", 1), ("'it cannot be seen'", 0), ("[1]", 0)])
def test_expectations_for_audit(check: Check, said: str, count: int) -> None:
    result = check(UNDO=f"def expect(self, spec, host): return {said}")
    assert (len(result["remarks"]), result["problems"]) == (count, [])


def test_a_plugin_that_needs_what_is_optional(check: Check) -> None:
    """config.json need not have a hostname."""
    result = check(PLAN="spec.config['hostname']")
    assert kinds(result) == ["error"]
    assert "KeyError: 'hostname'" in result["problems"][0]["message"]


def test_bundles_of_the_caller(check: Check, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    config = dict(samples.samples()["bare"], hostname="mine")
    (tmp_path / "bundle/config.json").write_text(json.dumps(config))
    result = check(
        (str(tmp_path / "bundle"),), PLAN="if spec.config.get('hostname') == 'mine': open('/dev/null').close()"
    )
    assert [each["bundle"] for each in result["problems"]] == [str(tmp_path / "bundle")]


def test_no_plugin_of_that_name() -> None:
    with pytest.raises(Error, match=r"^no plugin 'no-such' is installed$") as caught:
        checks.check("no-such", "", ())
    assert "network" in caught.value.hint


def test_command_line() -> None:
    command = [sys.executable, "-B", "-m", "gosudacon", "plugin", "check", "network", "--format", "json"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert [each["plugin"] for each in json.loads(result.stdout)] == ["network"]


@pytest.mark.parametrize("name", list(samples.samples()))
def test_samples_are_valid(name: str) -> None:
    assert verdict.accepts(samples.samples()[name])


def test_methods_are_followed() -> None:
    assert imports.of_method(type("X", (), {}), "run") == set()
