"""Planning of the stage hooks: phase, side and fields of every kind, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gosudacon.api import ConfigError, Host, Spec, Step
from gosudacon.pipeline.kinds import rebuild
from gosudacon.pipeline.plan import Plan, make
from gosudacon.stages.hooks import KINDS, HooksStage


def plan(hooks: Any) -> list[Step]:
    return make([HooksStage()], Spec({"hooks": hooks}, "c", "/b"), Host()).steps


def lines(steps: list[Step]) -> list[str]:
    return [f"{step.phase}/{step.rank} {step.runs_on()}: {step.describe()} [{step.where}]" for step in steps]


def test_every_kind_has_its_moment() -> None:
    hooks = {kind: [{"path": f"/{kind}"}] for kind in reversed(KINDS)}
    assert lines(plan(hooks)) == [
        "prepare/0 runtime: open the createContainer hook /createContainer [hooks.createContainer[0]]",
        "create-runtime/0 runtime: run the prestart hook /prestart [hooks.prestart[0]]",
        "create-runtime/0 runtime: run the createRuntime hook /createRuntime [hooks.createRuntime[0]]",
        "create-container/0 container: run the createContainer hook /createContainer [hooks.createContainer[0]]",
        "start/10 container: run the startContainer hook /startContainer [hooks.startContainer[0]]",
        "started/0 runtime: run the poststart hook /poststart [hooks.poststart[0]]",
        "delete/0 runtime: run the poststop hook /poststop [hooks.poststop[0]]",
    ]


def test_hooks_of_a_kind_run_in_the_order_listed() -> None:
    steps = plan({"prestart": [{"path": "/b", "timeout": 3}, {"path": "/a"}]})
    assert [step.describe() for step in steps] == [
        "run the prestart hook /b (at most 3 s)",
        "run the prestart hook /a",
    ]


def test_container_side_waits() -> None:
    """The container side waits for what runs before it."""
    lanes = Plan(plan({"createRuntime": [{"path": "/a"}], "createContainer": [{"path": "/b"}]})).lanes()
    assert lanes["container"][0].wait == len(lanes["runtime"]) == 2


def test_fields() -> None:
    hook = {"path": "/h", "args": ["name", "x"], "env": ["A=1"], "timeout": 5}
    (step,) = plan({"poststop": [hook]})
    fields = {key: value for key, value in vars(step).items() if key not in ("stage", "where", "phase", "rank")}
    assert fields == {"kind": "poststop", "index": 0, "stdout": "", "stderr": "", **hook}
    (plain,) = plan({"poststop": [{"path": "/h", "args": None, "env": None}]})
    assert (vars(plain)["args"], vars(plain)["env"], vars(plain)["timeout"]) == (["/h"], None, None)


@pytest.mark.parametrize("kind", ["poststart", "poststop"])
def test_another_process_can_rebuild_what_runs_later(kind: str) -> None:
    (step,) = plan({kind: [{"path": "/h", "timeout": 5}]})
    again = rebuild(json.loads(json.dumps(step.record())))
    assert type(again) is type(step)
    assert vars(again) == vars(step)


@pytest.mark.parametrize("hooks", [None, {}, {"prestart": None}, {"prestart": []}])
def test_no_hooks_no_steps(hooks: Any) -> None:
    assert plan(hooks) == []


@pytest.mark.parametrize(
    ("hook", "key", "message"),
    [
        ({"path": "relative"}, "path", "the path of a hook must be absolute: 'relative'"),
        ({"path": ""}, "path", "must be absolute"),
        ({}, "path", "must be absolute"),
        ({"path": "/h", "timeout": 0}, "timeout", "the timeout of a hook must be greater than zero: 0"),
        ({"path": "/h", "timeout": -1}, "timeout", "greater than zero"),
        ({"path": "/h", "timeout": True}, "timeout", "greater than zero"),
    ],
)
def test_refused(hook: Any, key: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        plan({"poststart": [{"path": "/ok"}, hook]})
    assert caught.value.where == f"hooks.poststart[1].{key}"
