"""What the hot commands import, against tests/unit/import_budget.txt, and how many system calls they make.

Callers run these commands thousands of times an hour, and an import costs more than most of what they do. A new line
in the file is a decision: look first whether the import can wait until it is needed.
"""

from __future__ import annotations

import json
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from gosudacon.launcher import archive
from tests.support.bundle import Bundle
from tests.support.leftovers import Watch
from tests.support.needs import needs
from tests.support.runtime import CHECKOUT, Runtime

pytestmark = needs("root", "busybox")

BUDGET = Path(__file__).with_name("import_budget.txt")
COMMANDS = ("create", "start", "state", "exec", "kill", "delete", "run")
READ_BY = (
    COMMANDS,
    ("create", "exec", "run", "delete"),
    ("create", "run", "delete"),
    ("create", "exec", "run"),
    ("create", "run"),
    ("exec",),
)
"""The commands that read each group of modules in the archive."""
NOT_EVERYWHERE = {f"gosudacon.stages.cgroups.{name}" for name in ("paths", "v1", "v2")}
FORBIDDEN = {
    *("site", "pluggy", "jsonschema", "rich", "pyroute2", "argparse", "typing", "dataclasses", "enum", "re"),
    *("pathlib", "json", "subprocess", "logging", "inspect", "importlib", "importlib.metadata", "contextlib"),
    *("functools", "collections", "collections.abc", "socket", "ctypes", "struct", "traceback", "types"),
    *("operator", "warnings", "textwrap", "datetime", "shutil", "tempfile", "os"),
}
PROBE = """
import posix, sys
sys.path.extend({paths!r})
if sys._xoptions.get("gosudacon") != "tree":  # as the launcher starts every command
    from gosudacon.launcher import seal
    seal.ensure(sys.argv[1:], __file__)
before, first, leave = set(sys.modules), posix.getpid(), posix._exit

def note_and_leave(status):
    if posix.getpid() == first:
        file = posix.open({report!r}, posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND, 0o600)
        names = "\\n".join(sorted(set(sys.modules) - before))
        posix.write(file, f"[{{sys.argv[sys.argv.index('--root') + 2]}}]\\n{{names}}\\n".encode())
    leave(status)

posix._exit = note_and_leave
if {validator!r}:
    import gosudacon.schema
    gosudacon.schema.__path__.append({validator!r})
    before |= set(sys.modules)
from gosudacon.__main__ import main
main(__file__)
"""


def by_command(text: str) -> dict[str, set[str]]:
    """A file of ``[command]`` headings and a module a line; ``#`` begins a comment."""
    found: dict[str, set[str]] = {}
    names: set[str] = set()
    for line in text.splitlines():
        word = line.partition("#")[0].strip()
        if word.startswith("["):
            names = found.setdefault(word.strip("[]"), set())
        elif word:
            names.add(word)
    return found


def budget() -> dict[str, set[str]]:
    found = by_command(BUDGET.read_text())
    common = found.pop("every command")
    return {command: names | common for command, names in found.items()}


@pytest.mark.parametrize("number", range(len(archive.TOGETHER)))
def test_modules_that_are_read_together(number: int) -> None:
    """A command reads no module that it does not import, and what the readers of a group share is in a group."""
    groups = archive.groups(archive.imports(str(CHECKOUT / "gosudacon")))[: number + 1]
    budgets = [budget()[command] for command in READ_BY[number]]
    needed = {name for name in set.intersection(*budgets) if name.startswith("gosudacon")}
    assert [name for name in groups[number] if any(name not in names for names in budgets)] == []
    assert needed - NOT_EVERYWHERE - {name for group in groups for name in group} == set()


@pytest.fixture
def report(scratch: Path) -> Path:
    return scratch / "modules"


@pytest.fixture
def probed(leftovers: Watch, scratch: Path, report: Path) -> Runtime:
    """The runtime as it starts when it is installed, except that it notes what it has imported when it leaves."""
    validator = ""
    if not (CHECKOUT / "gosudacon/schema/_validator.py").exists():  # a checkout in which nothing was built
        from gosudacon.schema import compiler

        compiler.build(scratch / "_validator.py")
        validator = str(scratch)
    paths = [str(CHECKOUT), sysconfig.get_path("purelib")]
    probe = scratch / "probe.py"
    probe.write_text(PROBE.format(report=str(report), paths=paths, validator=validator))
    return Runtime([sys.executable, "-ISBXutf8", str(probe)], scratch / "root")


@pytest.fixture
def measured(probed: Runtime, report: Path, make_bundle: Callable[..., Bundle]) -> dict[str, set[str]]:
    """Command -> what it imported, for a container as engines ask for it."""
    bundle, other = make_bundle(["/bin/sleep", "1000"]), make_bundle(["/bin/true"])
    probed.call("create", "--bundle", bundle.path, bundle.id)  # leaves a snapshot
    probed.call("delete", "--force", bundle.id)
    report.unlink()
    probed.create(bundle)
    process = bundle.path / "process.json"
    process.write_text(json.dumps({**bundle.config["process"], "args": ["/bin/true"]}))
    pid = probed.pid(bundle)
    probed.start(bundle)
    probed.call("exec", "--process", process, "--detach", "--pid-file", bundle.path / "exec.pid", bundle.id)
    assert probed.wait(int((bundle.path / "exec.pid").read_text())) == 0
    probed.kill(bundle, "KILL")
    probed.wait(pid)
    probed.delete(bundle)
    assert probed.run(other).returncode == 0
    return by_command(report.read_text())


def test_budget(measured: dict[str, set[str]]) -> None:
    """The hot commands import what the budget allows."""
    allowed = budget()
    assert set(measured) == set(allowed) == set(COMMANDS)
    over = {command: sorted(names - allowed[command]) for command, names in measured.items()}
    assert not any(over.values()), f"not in {BUDGET.name}: {over}"


def test_the_hot_commands_import_nothing_slow(measured: dict[str, set[str]]) -> None:
    assert {command: sorted(names & FORBIDDEN) for command, names in measured.items()} == {key: [] for key in measured}


def test_the_budget_itself_allows_nothing_slow() -> None:
    assert not set().union(*budget().values()) & FORBIDDEN


def test_budget_names_existing_modules() -> None:
    """The budget names no module of ours that is gone."""
    names = {name for group in by_command(BUDGET.read_text()).values() for name in group}
    for name in sorted(names):
        if name.split(".")[0] == "gosudacon" and name != "gosudacon.schema._validator":
            path = CHECKOUT / name.replace(".", "/")
            assert path.with_suffix(".py").exists() or (path / "__init__.py").exists(), name
