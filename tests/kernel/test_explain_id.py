"""``explain ID``: the plan of a container that exists, from what is saved of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import Runtime

pytestmark = needs("runtime:gosudacon")


def plan(runtime: Runtime, *words: str | Path, **more: Any) -> Any:
    return json.loads(runtime.call("explain", "--format", "json", *words, **more).stdout)


def test_it_is_the_plan_that_was_run(runtime: Runtime, bundle: Bundle) -> None:
    """Also when the bundle has gone meanwhile."""
    before = plan(runtime, "--no-check", "--id", bundle.id, bundle.path)
    runtime.boot(bundle)
    (bundle.path / "config.json").rename(bundle.path / "moved")
    after = plan(runtime, bundle.id)
    assert [step["what"] for step in after["steps"]] == [step["what"] for step in before["steps"]]
    assert (after["about"]["status"], after["about"]["differs"]) == ("running", [])
    assert after["findings"] == [] and after["risk"] == before["risk"]
    table = runtime.call("explain", bundle.id).stdout
    assert f"as container {bundle.id}\nrunning, created 20" in table and "on record" not in table


def test_what_is_on_record_and_not_planned(runtime: Runtime, bundle: Bundle) -> None:
    runtime.create(bundle)
    state = runtime.root / bundle.id / "state.json"
    text = state.read_text()
    data = json.loads(text)
    data["lasting"] = [["gone.Step", 1, {"stage": "gone"}]]
    state.write_text(json.dumps(data))
    try:
        differs = plan(runtime, bundle.id)["about"]["differs"]
        assert differs[0] == "gone.Step" and any(what.startswith("create cgroup") for what in differs[1:])
        assert "on record and not in this plan" in runtime.call("explain", bundle.id).stdout
    finally:
        state.write_text(text)


def test_a_directory_is_a_bundle(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    """A word without a slash is an id, unless a directory of that name is here."""
    runtime.create(bundle)
    assert "about" in plan(runtime, bundle.id, cwd=tmp_path)
    os.symlink(bundle.path, tmp_path / bundle.id)
    assert "about" not in plan(runtime, bundle.id, cwd=tmp_path)
    assert "about" not in plan(runtime, f"./{bundle.id}", cwd=tmp_path)


def test_neither(runtime: Runtime, tmp_path: Path) -> None:
    result = runtime.call("explain", "absent", check=False, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    assert "absent is neither a bundle nor a container" in result.stderr


@pytest.mark.parametrize("option", ["--exec", "--mounts", "--id", "--config"])
def test_what_is_for_bundles(runtime: Runtime, bundle: Bundle, option: str) -> None:
    runtime.create(bundle)
    result = runtime.call("explain", option, "x", bundle.id, check=False)
    assert result.returncode == 1 and f"{option} is for a bundle" in result.stderr


def test_the_configuration_cannot_be_read(runtime: Runtime, bundle: Bundle) -> None:
    runtime.create(bundle)
    file = runtime.root / bundle.id / "config.json"
    text = file.read_text()
    file.write_text("{")
    try:
        result = runtime.call("explain", bundle.id, check=False)
        assert (result.returncode, result.stdout) == (1, "")
        assert f"cannot read the state of container {bundle.id}: {file}: " in result.stderr
    finally:
        file.write_text(text)
