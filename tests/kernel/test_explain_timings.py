"""``explain --timings``: the time of each step beside it, from a trace of the same plan."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import Runtime

pytestmark = needs("runtime:gosudacon")


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_create_and_start(runtime: Runtime, bundle: Bundle, tmp_path: Path, suffix: str) -> None:
    """Together they have every step of the plan that runs before the process does; the id is the trace's."""
    traces = [tmp_path / f"create.{suffix}", tmp_path / f"start.{suffix}"]
    runtime.create(bundle, "--trace", traces[0])
    runtime.call("start", "--trace", traces[1], bundle.id)
    plans = [
        json.loads(runtime.call("explain", "--format", "json", "--timings", path, bundle.path).stdout)
        for path in traces
    ]
    for plan, command in zip(plans, ("create", "start"), strict=True):
        assert (plan["id"], plan["timings"]["command"], plan["timings"]["notes"]) == (bundle.id, command, [])
    for one, two in zip(*(plan["steps"] for plan in plans), strict=True):
        assert one["time"] or two["time"], one["what"]
    assert all(step["time"]["ns"] >= 0 for step in plans[0]["steps"] if step["time"])
    table = runtime.call("explain", "--timings", traces[0], bundle.id).stdout
    assert f"create {bundle.id} took " in table and "not run" in table and " ms  open the root filesystem" in table


def test_exec(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    runtime.boot(bundle)
    process = tmp_path / "process.json"
    process.write_text(json.dumps({"args": ["/bin/true"], "cwd": "/", "user": {"uid": 0, "gid": 0}}))
    runtime.call("exec", "--trace", tmp_path / "t.json", "--process", process, bundle.id)
    words = ("explain", "--format", "json", "--timings", tmp_path / "t.json")
    plan = json.loads(runtime.call(*words, "--exec", process, bundle.path).stdout)
    assert [step["what"] for step in plan["steps"] if not step["time"]] == [] == plan["timings"]["notes"]
    result = runtime.call(*words, bundle.path, check=False)
    assert result.returncode == 1 and f"a trace of `exec {bundle.id}`, and this is a plan for create" in result.stderr


def test_mounts_can_be_traced(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    """``mounts`` has a verb before the id."""
    runtime.boot(bundle)
    mounts = tmp_path / "mounts.json"
    mounts.write_text(json.dumps([{"destination": "/made", "type": "tmpfs", "source": "tmpfs"}]))
    trace = tmp_path / "t.jsonl"
    runtime.call("mounts", "--trace", trace, "add", bundle.id, mounts)
    words = ("explain", "--format", "json", "--timings", trace, "--mounts", mounts, bundle.path)
    plan = json.loads(runtime.call(*words).stdout)
    assert (plan["id"], plan["timings"]["notes"]) == (bundle.id, [])
    assert [step["what"] for step in plan["steps"] if not step["time"]] == []
    runtime.call("mounts", "--trace", tmp_path / "r.json", "remove", bundle.id, mounts)
    assert json.loads((tmp_path / "r.json").read_text())["otherData"]["id"] == bundle.id


@pytest.mark.parametrize(
    "text",
    ["{}", "", "[1]", '{"otherData": {"gosudacon": "1"}, "traceEvents": [{"ph": "X"}]}', '{"resourceSpans": [7]}'],
)
def test_what_is_no_trace(runtime: Runtime, bundle: Bundle, tmp_path: Path, text: str) -> None:
    (tmp_path / "t.json").write_text(text)
    result = runtime.call("explain", "--timings", tmp_path / "t.json", bundle.path, check=False)
    assert result.returncode == 1 and "not a trace of gosudacon" in result.stderr
