"""The stage alone: its plan for a bundle, and its steps on a directory. No root, no container."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from gosudacon_banner import Banner, NoteContainer, WriteBanner

from gosudacon.api import Context, Host, SettingsError, Spec, Step

SPEC = Spec({}, "web", "/srv/web")


def plan(**settings: object) -> list[Step]:
    stage = Banner()
    stage.settings = settings
    return list(stage.plan(SPEC, Host()))


def test_it_plans_a_note_where_a_directory_is_set() -> None:
    assert [step.describe() for step in plan()] == ["write /run/banner"]
    assert [step.describe() for step in plan(directory="/n")] == ["note web in /n", "write /run/banner"]


def test_it_refuses_a_setting_of_another_type() -> None:
    with pytest.raises(SettingsError):
        plan(text=7)


def test_the_note_is_undone_twice_without_harm(tmp_path: Path) -> None:
    step, context = NoteContainer(directory=str(tmp_path), id="web", text="x"), Context(SPEC, Host())
    step.run(context)
    assert (tmp_path / "web").read_text() == "x"
    step.undo(context)
    step.undo(context)
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_the_image_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root/run").symlink_to("../..")  # out of the root, if anybody but the kernel resolved it
    context = Context(SPEC, Host())
    context.root = os.open(tmp_path / "root", os.O_PATH)
    WriteBanner(text="hello").run(context)
    os.close(context.root)
    assert (tmp_path / "root/banner").read_text() == "hello"
