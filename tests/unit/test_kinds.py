"""Steps on disk: names and versions that outlive modules and classes, and what becomes of those that are gone."""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import gosudacon.container.criu
import gosudacon.plugins
import gosudacon.stages
from gosudacon.api import DELETE, PREPARE, STARTED, Error, PlanWarning, Step
from gosudacon.container import former
from gosudacon.pipeline.exited import TellPlugins
from gosudacon.pipeline.kinds import KINDS, rebuild
from gosudacon.stages.seccomp.steps import LoadSeccomp
from tests.support import states

NEVER = (LoadSeccomp, PlanWarning, TellPlugins)  # one is of `CONFINE` or `START`, the others are shown and not run
FIELDS = Path(__file__).with_name("recorded_fields.json")
ANYWHERE = set(vars(Step)) - {"recorded_as"} | set(Step.__annotations__)


def ours() -> list[type[Step]]:
    """Every class of a step that ships."""
    for package in (gosudacon.stages, gosudacon.plugins, gosudacon.container.criu):
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(info.name)
    waiting: list[type[Step]] = [Step]
    for kind in waiting:
        waiting += kind.__subclasses__()
    return [kind for kind in waiting if kind.__module__.startswith("gosudacon.") and kind is not Step]


def recorded() -> list[type[Step]]:
    """Those that can be on disk: they last, or run after `create`, or have a phase that is chosen while planning."""
    kinds = [kind for kind in ours() if not kind.__name__.startswith("_") and kind not in NEVER]
    return [kind for kind in kinds if kind.lasts or kind.phase in (STARTED, DELETE, "")]


def fields(kind: type[Step]) -> list[str]:
    names = {name for each in kind.__mro__ if issubclass(each, Step) for name in each.__annotations__}
    return sorted(names - ANYWHERE)


def test_names_in_the_table() -> None:
    """Every step that is recorded has a name of its own in the table."""
    found = {vars(kind)["recorded_as"][0]: f"{kind.__module__}:{kind.__qualname__}" for kind in recorded()}
    assert len(found) == len(recorded())
    assert found == KINDS


def test_fields_change_only_with_the_version() -> None:
    """A change fails here. Raise the version in ``recorded_as``, read the old one in `restored`, and add a line."""
    known = json.loads(FIELDS.read_text())
    for kind in recorded():
        name, version = kind.recorded_as
        assert known[name][str(version)] == fields(kind), name
        assert list(known[name]) == [str(number) for number in range(1, version + 1)], name
    assert set(known) == set(KINDS)


def test_names_of_steps_and_fields_do_not_change() -> None:
    """What 0.1.0 wrote under modules and classes has its names for good: they are on disk."""
    assert set(former._NAMES_OF_1.values()) <= set(KINDS)


@pytest.mark.parametrize("path", states.samples(), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_step_in_a_sample_can_be_rebuilt(path: Path) -> None:
    data = json.loads(path.read_text())["files"]["state.json"]
    before = [record for member in ("lasting", "started", "deleted") for record in data[member]]
    former.upgrade(data)
    after = [record for member in ("lasting", "started", "deleted") for record in data[member]]
    assert [record[2] for record in after] == [record[2] for record in before]
    for record in after:
        if not record[0].startswith("gosudacon_"):
            step = rebuild(record)
            if record[1] == step.recorded_as[1]:
                assert step.record() == record
            else:  # of a former version: written anew, it is of today's
                assert step.record()[1] == step.recorded_as[1]
            assert step.describe()


class Plain(Step):
    """Of a plugin that gives no name."""

    phase = PREPARE
    lasts = True
    word: str

    def describe(self) -> str:
        return self.word


class Named(Plain):
    """Of a plugin that does."""

    recorded_as = ("sample.named", 3)

    @classmethod
    def restored(cls, version: int, fields: dict[str, Any]) -> Step:
        if version == 2:
            fields = {"word": fields["old_word"]}
            version = 3
        return super().restored(version, fields)


class Heir(Named):
    """Inherits, and does not share the name."""


def test_a_step_without_a_name_is_found_by_its_class() -> None:
    assert Plain(word="x").record() == [f"{__name__}:Plain", 1, {"word": "x"}]
    assert Heir(word="x").record() == [f"{__name__}:Heir", 1, {"word": "x"}]
    for step in Plain(word="x"), Heir(word="x"):
        again = rebuild(json.loads(json.dumps(step.record())))
        assert type(again) is type(step) and vars(again) == vars(step)


def test_a_plugin_s_own_name_comes_with_the_place() -> None:
    record = Named(word="x").record()
    assert record == ["sample.named", 3, {"word": "x"}, f"{__name__}:Named"]
    assert type(rebuild(record)) is Named
    assert vars(rebuild(["sample.named", 2, {"old_word": "y"}, f"{__name__}:Named"])) == {"word": "y"}
    with pytest.raises(Error, match="version 4 of the step is on record, and 3 is known"):
        rebuild(["sample.named", 4, {"word": "x"}, f"{__name__}:Named"])


def test_plugin_step_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin's step that moved is found by its name."""
    asked: list[dict[str, str]] = []

    def entry_points(**wanted: str) -> list[Any]:
        asked.append(wanted)
        return []

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    assert type(rebuild(["sample.named", 3, {"word": "x"}, "sample_of_old:Gone"])) is Named
    assert asked == [{"group": "gosudacon", "name": "sample"}]
    with pytest.raises(Error, match=r"cannot find sample_of_old\.Gone of 'sample', which made this container"):
        rebuild(["sample.other", 1, {"stage": "sample"}, "sample_of_old:Gone"])


def test_a_plugin_cannot_take_a_name_of_ours() -> None:
    record = ["cgroups.create", 3, {"word": "x"}, f"{__name__}:Named"]
    with pytest.raises(Error, match="cannot find"):
        rebuild(record)


@pytest.mark.parametrize("record", [
    None, "x", [], ["a", 1], ["a", "b", "c"], ["a", True, {}], [1, 1, {}], ["a", 1, []], ["a", 1, {}, 5], {"a": 1},
])  # fmt: skip
def test_what_is_no_record(record: Any) -> None:
    with pytest.raises(Error, match="not the record of a step"):
        rebuild(record)


@pytest.mark.parametrize(("place", "reason"), [
    ("nosuch:Thing", "No module named"), ("sys:nosuch", "no attribute"), ("builtins:dict", "it is not a step"),
    ("broken_plugin:Thing", "No module named"), ("", "Empty module name"),
])  # fmt: skip
def test_a_class_that_is_gone_is_named_with_its_stage(place: str, reason: str) -> None:
    with pytest.raises(Error, match=reason) as caught:
        rebuild([place, 1, {"stage": "banner"}])
    assert "of 'banner', which made this container" in caught.value.message and caught.value.hint


def test_plugin_raises_at_import(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A plugin that raises at import is an error too."""
    (tmp_path / "raising_plugin.py").write_text("raise RuntimeError('not today')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(Error, match="not today"):
        rebuild(["raising_plugin:Thing", 1, {}])


def test_record_without_class_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a class is, is looked up by its name on disk."""
    kind: Any = next(kind for kind in recorded() if kind.recorded_as[0] == "cgroups.create")
    record = kind(places=[]).record()
    moved = ModuleType("moved")
    moved.Other = Named  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "moved", moved)
    monkeypatch.setitem(KINDS, "cgroups.create", "moved:Other")
    with pytest.raises(Error, match="version 1 of the step is on record, and 3 is known"):
        rebuild(record)
