"""The interface of plugins does not change by accident, and not without a word in the changelog."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import api_record

CHANGELOG = (Path(__file__).parents[2] / "CHANGELOG.md").read_text("utf-8")
HOW = "run `python -m tools.api_record` and name what has changed in CHANGELOG.md, Unreleased (docs/plugin-api.md)"


def test_the_interface_is_the_recorded_one() -> None:
    now, recorded = api_record.interface(), api_record.recorded(api_record.read())
    changed = sorted({*now} ^ {*recorded})
    assert not changed, f"the interface of plugins has changed: {HOW}\n" + "\n".join(changed)


def test_what_has_changed_is_in_the_changelog() -> None:
    unsaid = api_record.unsaid(api_record.read(), CHANGELOG)
    assert not unsaid, f"CHANGELOG.md does not say: {HOW}\n" + "\n".join(unsaid)


@pytest.mark.parametrize(
    "line",
    [
        "api.hookimpl(",
        "api.Step.lasts: bool",
        "api.Step.undo(self, context: Context) -> None",
        "api.Config: a type",
        "api.Context.state_dir: an attribute",
        "hookspecs.gosudacon_edit_spec(",
        "testing.oci_faults: a fixture",
        "testing.Planner.edited(",
    ],
)
def test_what_is_recorded(line: str) -> None:
    assert any(each.startswith(line) for each in api_record.interface())


def test_marks() -> None:
    lines = api_record.marked(["a.x()", "b"], ["  a.x", "  b", "+ gone"])
    assert lines == ["- a.x", "+ a.x()", "  b"]
    assert api_record.recorded(lines) == ["a.x()", "b"]
    assert api_record.marked(["a.x", "b"], lines) == ["  a.x", "  b"]


def test_a_name_must_be_said_in_its_section() -> None:
    text = "## [Unreleased]\n\n- `insert_before` of plans.\n\n## [1]\n\n- `other`\n"
    lines = ["+ api.Plan.insert_before(self)", "- api.other", "  api.kept"]
    assert api_record.unsaid(lines, text) == ["- api.other"]
