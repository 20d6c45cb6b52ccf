"""The plugin with the fixtures of gosudacon.testing: its plan, and its steps on a directory. No root, no container."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gosudacon_banner as banner
import pytest

from gosudacon.api import Plan, SettingsError
from gosudacon.testing.planning import Planner
from gosudacon.testing.roots import ScratchRoot


def lines(plan: Plan) -> list[str]:
    return [step.describe() for step in plan.of_stage("banner")]


def test_it_plans_a_note_where_a_directory_is_set(oci_plan: Planner) -> None:
    assert lines(oci_plan(banner)) == ["write /run/banner"]
    notes = {"stage": {"banner": {"directory": "/n"}}}
    assert lines(oci_plan(banner, config=notes)) == ["note web in /n", "write /run/banner"]


def test_it_announces_where_the_bundle_asks_for_it(oci_plan: Planner) -> None:
    plan = oci_plan(banner, {"annotations": {banner.ANNOUNCE: "true"}})
    assert plan.steps[-2].describe() == "print the banner"  # the last one is execve(2)


def test_it_refuses_a_setting_of_another_type(oci_plan: Planner) -> None:
    with pytest.raises(SettingsError):
        oci_plan(banner, config={"stage": {"banner": {"text": 7}}})


def test_the_note_goes_whatever_happens(
    oci_lasting: Callable[..., None], oci_root: ScratchRoot, tmp_path: Path
) -> None:
    (tmp_path / "notes").mkdir()
    step = banner.NoteContainer(directory=str(tmp_path / "notes"), id="web", text="x")
    oci_lasting(step, oci_root.context(), tmp_path / "notes")


def test_a_link_in_the_image_leads_nowhere(oci_root: ScratchRoot) -> None:
    oci_root.link("/run")  # out of the root, unless the kernel resolves it; the fixture looks there
    banner.WriteBanner(text="hello").run(oci_root.context())
