"""``explain --timings``: which span of a trace is which step of a plan. Pure."""

from __future__ import annotations

from typing import Any

import pytest

from gosudacon.base.errors import Error
from gosudacon.trace.measured import measure
from gosudacon.trace.model import CONTAINER, FAILED, RUNTIME, STEP, WAIT, Span, Trace

STEPS = [
    (RUNTIME, "cgroups", "create cgroup /web"),
    (CONTAINER, "rootfs-mount", "mask a"),
    (CONTAINER, "rootfs-mount", "mask a"),
    (RUNTIME, "cgroups", "write 100 to pids.max"),
    (RUNTIME, "namespaces", "open the namespaces of init"),
]


def span(step: int, took: int, **more: Any) -> Span:
    side, stage, name = STEPS[step]
    more = {"stage": stage, "step": step, **more}
    return Span(STEP, side, more.pop("name", name), 10, 10 + took, **more)


def trace(*spans: Span, command: str = "create") -> Trace:
    made = Trace(command, "web", duration=5_000_000)
    made.spans = [*spans]
    return made


def test_by_side_stage_and_line() -> None:
    """Of several alike in their order; what has no span did not run."""
    timings = measure(trace(span(1, 7), span(2, 9), span(0, 5, processor=3)), "f", "create", STEPS)
    assert timings.steps == {
        0: {"ns": 5, "status": "ok", "processor_ns": 3},
        1: {"ns": 7, "status": "ok"},
        2: {"ns": 9, "status": "ok"},
    }
    assert (timings.title, timings.notes) == ("create web took 5.00 ms", [])
    assert timings.text({"index": 3}) == "not run"


def test_a_line_that_goes_on() -> None:
    timings = measure(trace(span(4, 7, name=STEPS[4][2] + ", process 7")), "f", "create", STEPS)
    assert [*timings.steps] == [4]


def test_waits_and_a_failure() -> None:
    failed = span(3, 4, status=FAILED, message="no space")
    wait = Span(WAIT, RUNTIME, "wait for container: mask a", 0, 30, awaits=2)
    made = trace(failed, wait)
    made.error = "it broke"
    timings = measure(made, "f", "create", STEPS)
    assert timings.waited({"side": RUNTIME, "waits_for": 2}) == "0.00 ms"
    assert timings.waited({"side": RUNTIME, "waits_for": 1}) == ""
    assert timings.steps[3]["message"] == "no space" and timings.notes == ["it failed: it broke"]


def test_some_steps_of_another_plan() -> None:
    timings = measure(trace(span(0, 1), span(1, 1), span(2, 1, name="mask b")), "f", "create", STEPS)
    assert timings.notes == ["not in this plan, 1 of the trace's steps: mask b"]


@pytest.mark.parametrize(
    ("made", "operation", "message"),
    [
        (trace(span(0, 1, name="x"), span(1, 1, name="y"), span(2, 1)), "create", "another plan: it has `x`"),
        (trace(), "create", "another plan: it has no step"),
        (trace(span(0, 1), command="exec"), "create", "f: a trace of `exec web`, and this is a plan for create"),
        (trace(span(0, 1), command="start"), "exec", "f: a trace of `start web`, and this is a plan for exec"),
    ],
)  # fmt: skip
def test_another_plan(made: Trace, operation: str, message: str) -> None:
    with pytest.raises(Error) as caught:
        measure(made, "f", operation, STEPS)
    assert caught.value.message.endswith(message) and caught.value.hint
