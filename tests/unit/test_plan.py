"""Lanes and barriers of a plan, and what the executor's two sides make of them."""

from __future__ import annotations

from typing import Any

import pytest

from gosudacon.api import (
    CONFINE,
    CREATE_CONTAINER,
    CREATE_RUNTIME,
    ISOLATE,
    MOUNT,
    PREPARE,
    RUNTIME,
    STARTED,
    ConfigError,
    Error,
    Host,
    PlanWarning,
    Spec,
    Stage,
    Step,
)
from gosudacon.pipeline.kinds import rebuild
from gosudacon.pipeline.plan import Plan, make, make_update


class Named(Step):
    """A step that only has a name."""

    name: str

    def describe(self) -> str:
        return self.name


def step(name: str, phase: str, **fields: Any) -> Named:
    return Named(name=name, phase=phase, **fields)


def waits(plan: Plan) -> dict[str, str]:
    """name of a step -> name of the step of the other side that it waits for"""
    lanes = plan.lanes()
    result = {}
    for side, moves in lanes.items():
        other = lanes["container" if side == "runtime" else "runtime"]
        for move in moves:
            if move.wait:
                result[move.step.describe()] = other[move.wait - 1].step.describe()
    return result


def test_order() -> None:
    """Steps are ordered by phase and rank and stay in their order otherwise."""
    plan = Plan([step("b", MOUNT), step("late", PREPARE, rank=5), step("c", MOUNT), step("a", PREPARE)])
    assert [each.describe() for each in plan.steps] == ["a", "late", "b", "c"]


def test_steps_are_inserted_beside_another_one() -> None:
    plan = Plan([step("a", MOUNT), step("b", MOUNT, rank=5), step("c", MOUNT, rank=5), step("d", CONFINE)])
    anchor = plan.steps[1]
    plan.insert_before(anchor, step("x", MOUNT), step("y", MOUNT))
    plan.insert_after(anchor, step("z", MOUNT))
    plan.note_changes("mine", plan.note())  # puts them in order, as after an amendment
    assert [each.describe() for each in plan.steps] == ["a", "x", "y", "b", "z", "c", "d"]
    with pytest.raises(ValueError, match="w is of phase 'confine', b of 'mount'"):
        plan.insert_after(anchor, step("w", CONFINE))
    with pytest.raises(ValueError, match="not in the plan: v"):
        plan.insert_before(step("v", MOUNT), step("w", MOUNT))


def test_the_steps_of_a_stage() -> None:
    plan = Plan([step("a", MOUNT, stage="one"), step("b", MOUNT, stage="two"), step("c", CONFINE, stage="one")])
    assert [each.describe() for each in plan.of_stage("one")] == ["a", "c"]


class Updating(Stage):
    """Changes limits in an order of its own."""

    name = "updating"

    def plan_update(self, resources: Any, spec: Spec, host: Host) -> list[Step]:
        return [step("late", CONFINE), step(str(resources["x"]), PREPARE)]


def test_the_steps_of_update_stay_in_their_order() -> None:
    resources: Any = {"x": 1}
    plan = make_update([Updating()], resources, Spec({}, "x", "/b"), Host())
    plan.steps.append(step("new", PREPARE))
    plan.note_changes("mine", plan.note())
    assert [each.describe() for each in plan.steps] == ["late", "1", "new"]
    assert {each.stage for each in plan.steps[:2]} == {"updating"}


def test_container_side_begins_at_spawn() -> None:
    """The container side begins when it is spawned and waits for nothing before."""
    spawn = step("spawn", ISOLATE, side=RUNTIME, spawns=True)
    plan = Plan([step("open", PREPARE), spawn, step("mount", MOUNT)])
    assert waits(plan) == {}


def test_phase_waits_for_earlier_phases() -> None:
    """A phase waits for the other side's earlier phases."""
    plan = Plan(
        [
            step("spawn", ISOLATE, side=RUNTIME, spawns=True),
            step("mount", MOUNT),
            step("hook", CREATE_RUNTIME),
            step("createContainer hook", CREATE_CONTAINER),
        ]
    )
    assert waits(plan) == {"hook": "mount", "createContainer hook": "hook"}


def test_step_needed_later() -> None:
    """A step that is needed later lets the other side go on."""
    plan = Plan(
        [
            step("spawn", ISOLATE, side=RUNTIME, spawns=True),
            step("limits", ISOLATE, side=RUNTIME, by=CREATE_CONTAINER),
            step("mount", MOUNT),
            step("confine", CONFINE),
        ]
    )
    assert waits(plan) == {"confine": "limits"}


def test_a_step_may_be_needed_within_its_own_phase() -> None:
    plan = Plan(
        [
            step("spawn", ISOLATE, side=RUNTIME, spawns=True),
            step("unshare user", ISOLATE, by=ISOLATE),
            step("map", ISOLATE, side=RUNTIME, by=ISOLATE),
            step("become root", ISOLATE),
        ]
    )
    assert waits(plan) == {"map": "unshare user", "become root": "map"}


def test_no_side_waits_twice_for_the_same() -> None:
    plan = Plan([step("hook", CREATE_RUNTIME), step("one", CONFINE), step("two", CONFINE)])
    assert waits(plan) == {"one": "hook"}


def test_what_runs_after_start_is_in_no_lane() -> None:
    assert Plan([step("poststart", STARTED)]).lanes() == {"runtime": [], "container": []}


def test_a_step_survives_its_record() -> None:
    again = rebuild(Named(name="x", phase=MOUNT, where="mounts[1]", stage="s").record())
    assert (type(again), vars(again)) == (Named, {"name": "x", "phase": MOUNT, "where": "mounts[1]", "stage": "s"})


class Refusing(Stage):
    """Refuses every bundle."""

    def __init__(self, name: str) -> None:
        self.name = name

    def plan(self, spec: Spec, host: Host) -> list[Step]:
        raise ConfigError(f"{self.name} refuses", where=f"linux.{self.name}")


def test_refusals_of_all_stages() -> None:
    """The refusals of all stages are reported together."""
    with pytest.raises(ConfigError) as caught:
        make([Refusing("one"), Refusing("two")], Spec({}, "id", "/bundle"), Host())
    assert caught.value.message == "linux.one: one refuses; linux.two: two refuses"
    assert [each["where"] for each in caught.value.problems] == ["linux.one", "linux.two"]


@pytest.mark.parametrize(
    ("module", "kind", "message"),
    [
        ("gosudacon.stages.stumbling", ConfigError, "^invalid config.json: KeyError: 'hostname'$"),
        ("someone_else", Error, r"^stage 'stumbling' cannot plan: KeyError: 'hostname' \(.*/test_plan.py:\d+\)$"),
    ],
)
def test_stage_stumbles_over_config(module: str, kind: type[Error], message: str) -> None:
    """If the stage is one of ours, the configuration is wrong; if not, it may be the stage."""

    class Stumbling(Stage):
        name = "stumbling"

        def plan(self, spec: Spec, host: Host) -> list[Step]:
            return [step(spec.config["hostname"], MOUNT)]

    Stumbling.__module__ = module
    with pytest.raises(Error, match=message) as caught:
        make([Stumbling()], Spec({}, "id", "/bundle"), Host())
    assert (caught.value.stage, type(caught.value)) == ("stumbling", kind)


def test_amendments_are_noted_by_plugin() -> None:
    plan = Plan([step("keep", MOUNT), step("drop", MOUNT)])
    before = plan.note()
    plan.steps = [plan.steps[0], step("new", PREPARE)]
    plan.note_changes("mine", before)
    assert plan.amended == ["mine added: new", "mine dropped: drop"]
    assert [each.describe() for each in plan.steps] == ["new", "keep"]


def test_a_step_changed_in_place_is_an_amendment() -> None:
    plan = Plan([step("old", MOUNT, words=["a"]), step("other", MOUNT, words=["a"])])
    before = plan.note()
    vars(plan.steps[0])["name"] = "new"
    vars(plan.steps[1])["words"].append("b")
    plan.note_changes("mine", before)
    assert plan.amended == ["mine changed: new", "mine changed: other"]


def test_json_says_what_waits_for_what() -> None:
    spawn = step("spawn", ISOLATE, side=RUNTIME, spawns=True)
    data = Plan([spawn, step("hook", CREATE_RUNTIME), step("mount", CONFINE)]).to_json()
    assert [(each["what"], each.get("waits_for")) for each in data] == [("spawn", None), ("hook", None), ("mount", 1)]
    assert data[1]["fields"] == {"name": "hook"}


class Doubting(Stage):
    """Has something to say besides its steps."""

    name = "doubting"

    def plan(self, spec: Spec, host: Host) -> list[Step]:
        return [step("a", MOUNT), PlanWarning(message="ignored", where="linux.x"), step("b", PREPARE)]


def test_warnings_are_no_steps() -> None:
    plan = make([Doubting()], Spec({}, "c", "/b"), Host())
    assert [each.describe() for each in plan.steps] == ["b", "a"]
    assert [(each.stage, each.where, each.message) for each in plan.warnings] == [("doubting", "linux.x", "ignored")]
    assert [each.describe() for each in plan.warnings] == ["linux.x: ignored"]
