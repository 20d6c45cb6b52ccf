"""Stage intel-rdt, in a directory that behaves like resctrl: making one in it makes its files, too."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gosudacon.api import ConfigError, Context, Host, PlanWarning, Spec, Step
from gosudacon.base.errors import Error
from gosudacon.linux import resctrl
from gosudacon.pipeline.kinds import rebuild
from gosudacon.stages.intel_rdt import IntelRdtStage, MakeClass, schemata

SHARES = "L3:0=fffff;1=fffff\nMB:0=100;1=100\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file system: groups come with ``tasks``, ``schemata`` and ``mon_groups``, and go with all that."""

    def make(group: str) -> bool:
        if Path(group).exists():
            return False
        Path(group, "mon_groups").mkdir(parents=True)
        Path(group, "tasks").touch()
        Path(group, "schemata").write_text(SHARES)
        return True

    monkeypatch.setattr(resctrl, "make", make)
    monkeypatch.setattr(resctrl, "remove", lambda group: shutil.rmtree(group, ignore_errors=True))
    make(str(tmp_path / "resctrl"))
    return tmp_path / "resctrl"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "state").mkdir()
    fd = os.open(tmp_path / "state", os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def plan(root: Path | str, **config: Any) -> list[Step]:
    stage = IntelRdtStage()
    stage.settings = {"directory": str(root)}
    return list(stage.plan(Spec({"linux": {"intelRdt": config}}, "box", "/b"), Host()))  # type: ignore[typeddict-item]


def context(state: int) -> Context:
    found = Context(Spec({}, "box", "/b"), Host())
    found.pid, found.state_dir = 4711, state
    return found


def run(steps: list[Step], where: Context) -> None:
    for step in steps:
        if not isinstance(step, PlanWarning):
            step.run(where)


def undo(steps: list[Step], state: int) -> None:
    """As another process does: from what is on disk."""
    for step in reversed(steps):
        if step.lasts:
            rebuild(step.record()).undo(context(state))


def test_a_class_of_its_own(root: Path, state: int) -> None:
    steps = plan(root, l3CacheSchema="L3:0=f", memBwSchema="MB:0=20", schemata=["L2:0=3"], enableMonitoring=True)
    assert [step.describe() for step in steps] == [
        "create the class of service box; write L3:0=f, MB:0=20, L2:0=3 to schemata",
        "write the process to tasks of the class of service box",
        "create the monitoring group box of the class of service box, with the process in it",
    ]
    run(steps, context(state))
    assert (root / "box/schemata").read_text() == "L3:0=f\nMB:0=20\nL2:0=3\n"
    assert (root / "box/tasks").read_text() == "4711\n"
    assert (root / "box/mon_groups/box/tasks").read_text() == "4711\n"
    undo(steps, state)
    assert not (root / "box").exists()
    undo(steps, state)


def test_nothing_asked_for_is_said(root: Path, state: int) -> None:
    steps = plan(root)
    assert isinstance(steps[-1], PlanWarning)
    run(steps, context(state))
    assert (root / "box/schemata").read_text() == SHARES  # not written


def test_a_class_that_is_there(root: Path, state: int) -> None:
    """A closID alone must be there; it stays, and the monitoring group goes."""
    steps = plan(root, closID="gold", enableMonitoring=True)
    with pytest.raises(Error, match="there is no class of service gold"):
        run(steps, context(state))
    resctrl.make(str(root / "gold"))
    run(steps, context(state))
    assert (root / "gold/tasks").read_text() == "4711\n"
    undo(steps, state)
    assert (root / "gold").exists() and not (root / "gold/mon_groups/box").exists()


@pytest.mark.parametrize("lines", [["L3:0=0fffff"], ["MB:1=100"], ["L3:00=FFFFF;1=fffff", "MB:0=100"]])
def test_same_shares(root: Path, state: int, lines: list[str]) -> None:
    resctrl.make(str(root / "gold"))
    run(plan(root, closID="gold", schemata=lines), context(state))
    assert (root / "gold/schemata").read_text() == SHARES


@pytest.mark.parametrize("lines", [["L3:0=f"], ["MB:2=100"], ["L2:0=3"]])
def test_other_shares(root: Path, state: int, lines: list[str]) -> None:
    resctrl.make(str(root / "gold"))
    steps = plan(root, closID="gold", schemata=lines)
    with pytest.raises(Error, match="class of service gold has"):
        run(steps, context(state))
    undo(steps, state)
    assert (root / "gold").exists()


def test_a_shared_class_is_made(root: Path, state: int) -> None:
    """It stays when the container goes: others may be in it. If creating the container fails, it goes."""
    steps = plan(root, closID="gold", schemata=["L3:0=f"])
    run(steps[:1], context(state))
    undo(steps, state)
    assert not (root / "gold").exists()
    run(steps, context(state))
    undo(steps, state)
    assert (root / "gold").exists()


def test_the_default_class(root: Path, state: int) -> None:
    steps = plan(root, closID="/", enableMonitoring=True)
    run(steps, context(state))
    assert (root / "tasks").read_text() == "4711\n"
    undo(steps, state)
    assert root.exists() and not (root / "mon_groups/box").exists()


def test_another_s_class_is_not_taken(root: Path, state: int) -> None:
    resctrl.make(str(root / "box"))
    steps = plan(root, schemata=["L3:0=f"])
    with pytest.raises(Error, match="not this container's"):
        run(steps, context(state))
    undo(steps, state)
    assert (root / "box").exists()


def test_not_mounted(state: int) -> None:
    steps = plan(resctrl.ROOT, closID="gold")
    with pytest.raises(Error, match="Intel RDT is not supported or enabled"):
        run(steps, context(state))


def test_what_the_kernel_says(root: Path, state: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "info").mkdir()
    (root / "info/last_cmd_status").write_text("Mask out of range\n")
    monkeypatch.setattr(resctrl, "make", lambda group: True)  # with no file in it
    with pytest.raises(Error, match="intel rdt: write 'L3:0=x'") as caught:
        run(plan(root, schemata=["L3:0=x"]), context(state))
    assert caught.value.hint == "Mask out of range"


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"l3CacheSchema": "L3:0=f\nMB:0=10", "memBwSchema": "MB:0=20"}, "L3:0=f\nMB:0=20\n"),
        ({"l3CacheSchema": "L3:0=f\nMB:0=10"}, "L3:0=f\nMB:0=10\n"),
        ({"schemata": ["", "L2:0=1"]}, "L2:0=1\n"),
        ({}, ""),
    ],
)
def test_what_is_written(config: Any, text: str) -> None:
    assert schemata(config) == text


def test_not_for_users() -> None:
    with pytest.raises(ConfigError, match="needs root"):
        list(IntelRdtStage().plan(Spec({"linux": {"intelRdt": {"closID": "x"}}}, "box", "/b"), Host(euid=1000)))


def test_the_step_names_its_place() -> None:
    assert MakeClass(root="/r", group="g", shared=True, schemata="").where == "linux.intelRdt"
