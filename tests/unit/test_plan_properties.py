"""What holds for every plan: of any valid configuration, on any host, for each command.

Hypothesis makes the configurations (tests/support/configs.py), the same ones each time. GOSUDACON_TEST_EXAMPLES=N looks
at N of them, chosen anew.
"""

from __future__ import annotations

import copy
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from gosudacon.api import ConfigError, Host, Options, Plan, Spec, Step, Target
from gosudacon.base import jsonio
from gosudacon.pipeline import explain, kinds, plan
from gosudacon.pipeline.registry import Registry, registry
from gosudacon.pipeline.spec import UPDATE
from gosudacon.pipeline.step import CONTAINER, ORDER, RUNTIME, START
from tests.support.configs import HOSTS, configs, take_out

EXAMPLES = int(os.environ.get("GOSUDACON_TEST_EXAMPLES", "0"))
chosen = settings(
    max_examples=EXAMPLES or 150,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)
hosts = st.sampled_from(sorted(HOSTS))
options = st.builds(
    Options,
    console_socket=st.sampled_from(["", "/run/console"]),
    preserve_fds=st.sampled_from([0, 3]),
    run=st.booleans(),
    foreground=st.booleans(),
    no_pivot=st.booleans(),
    systemd_cgroup=st.booleans(),
    rootless=st.sampled_from(["", "true", "false"]),
    notify_directory=st.sampled_from(["", "/run/gosudacon/c/notify"]),
)


@pytest.fixture(scope="module")
def stages() -> Registry:
    """All built-in stages, loaded: what planning imports is not its work."""
    found = registry(use_snapshot=False)
    found.all_stages()
    return found


# Purity: what the interpreter reports (PEP 578) while something is planned.

EFFECTS = ("open", "os", "socket", "subprocess", "ctypes", "import", "fcntl")
_seen: list[str] | None = None


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if _seen is not None and event.partition(".")[0] in (
        "open",
        "os",
        "socket",
        "subprocess",
        "ctypes",
        "import",
        "fcntl",
    ):
        _seen.append(f"{event} {arguments}")


sys.addaudithook(_audit)


@contextmanager
def watched() -> Iterator[list[str]]:
    global _seen
    seen: list[str] = []
    _seen = seen
    try:
        yield seen
    finally:
        _seen = None


def _values(spec: Spec, host: Host) -> Any:
    return copy.deepcopy((spec.config, vars(spec.options), vars(host)))


def twice(stages: Registry, planning: Any, spec: Spec, host: Host) -> Plan | ConfigError:
    """The plan, or the refusal, with what is wrong; made twice, the second time watched."""
    outcomes: list[Any] = []
    before = _values(spec, host)
    for watch in (False, True):
        with watched() as seen:
            try:
                outcomes.append(stages.compiled(spec, host, planning))
            except ConfigError as error:
                outcomes.append(error)
        assert not watch or seen == []
    assert _values(spec, host) == before
    first, second = outcomes
    assert type(first) is type(second)
    if isinstance(first, ConfigError):
        assert str(first) == str(second) and first.message and first.stage
        return first
    assert first.to_json() == second.to_json()
    assert [vars(each) for each in first.warnings] == [vars(each) for each in second.warnings]
    assert isinstance(first, Plan)
    return first


def planned(stages: Registry, planning: Any, spec: Spec, host: Host) -> Plan | None:
    """The plan of what is left of the configuration when all that a stage refuses has been taken out.

    None where that does not help: what is refused is an option of the command's, or that something is absent.
    """
    for _ in range(20):
        found = twice(stages, planning, spec, host)
        if isinstance(found, Plan):
            event("planned")
            return found
        places = [each["where"] for each in found.problems] or [found.where]
        if not all([take_out(spec.config, where) for where in places]):
            event(f"refused by {found.stage}: {found.message:.60}")
            return None
    raise AssertionError(f"still refused: {found}")


def holds(plan: Plan, spec: Spec, host: Host) -> None:
    """What is true of every plan."""
    assert json.loads(explain.as_json(plan, spec, host))["steps"] == jsonio.loads(jsonio.dumps(plan.to_json()).encode())
    for step in plan.steps:
        one_step(step)
    for warning in plan.warnings:
        assert warning.message and "\n" not in warning.describe()
    no_deadlock(plan)


def one_step(step: Step) -> None:
    text = step.describe()
    assert text.strip() and "\n" not in text, f"{type(step).__name__}: {text!r}"
    assert step.stage and step.runs_on() in (RUNTIME, CONTAINER)
    assert not step.lasts or step.runs_on() == RUNTIME
    if step.lasts:
        assert type(step).undo is not Step.undo, f"{text}: nothing undoes it"
    if step.lasts or ORDER[step.phase] > ORDER[START]:
        assert type(step).recorded_as[0] in kinds.KINDS
        again = kinds.rebuild(jsonio.loads(jsonio.dumps(step.record()).encode()))
        assert type(again) is type(step)
        assert jsonio.dumps(again.record()) == jsonio.dumps(step.record())
        assert again.describe() == text


def no_deadlock(plan: Plan) -> None:
    """The two sides, each waiting where its lane says, get to the end."""
    lanes = plan.lanes()
    done = {RUNTIME: 0, CONTAINER: 0}
    moved = True
    while moved:
        moved = False
        for side, moves in lanes.items():
            other = done[CONTAINER if side == RUNTIME else RUNTIME]
            while done[side] < len(moves) and moves[done[side]].wait <= other:
                done[side] += 1
                moved = True
    assert done == {side: len(moves) for side, moves in lanes.items()}


@chosen
@given(config=configs(), host=hosts, options=options)
def test_create(stages: Registry, config: Any, host: str, options: Options) -> None:
    spec = Spec(config, "c", "/b", options)
    found = planned(stages, plan.make, spec, HOSTS[host])
    if found is not None:
        holds(found, spec, HOSTS[host])


@settings(chosen, max_examples=EXAMPLES or 15)
@given(config=configs(), host=hosts)
def test_table(stages: Registry, config: Any, host: str) -> None:
    spec = Spec(config, "c", "/b")
    found = planned(stages, plan.make, spec, HOSTS[host])
    if found is not None:
        explain.as_table(found, spec, HOSTS[host])


@settings(chosen, max_examples=EXAMPLES or 60)
@given(
    config=configs(), host=hosts, options=options, kinds=st.sets(st.sampled_from(["pid", "user", "mount", "cgroup"]))
)
def test_exec(stages: Registry, config: Any, host: str, options: Options, kinds: set[str]) -> None:
    spec = Spec(config, "c", "/b", options, target=Target(7, 8, sorted(kinds), {"": "/sys/fs/cgroup/c"}))
    found = planned(stages, plan.make_exec, spec, HOSTS[host])
    if found is not None:
        assert found.lasting() == []
        holds(found, spec, HOSTS[host])


@settings(chosen, max_examples=EXAMPLES or 60)
@given(config=configs(), host=hosts)
def test_restore(stages: Registry, config: Any, host: str) -> None:
    spec = Spec(config, "c", "/b", operation="restore")
    found = planned(stages, plan.make_restore, spec, HOSTS[host])
    if found is not None:
        holds(found, spec, HOSTS[host])


@settings(chosen, max_examples=EXAMPLES or 60)
@given(config=configs(), host=hosts)
def test_update(stages: Registry, config: Any, host: str) -> None:
    resources = config.get("linux", {}).get("resources", {})
    spec = Spec(config, "c", "/b", operation=UPDATE)
    found = planned(stages, lambda *given: plan.make_update(given[0], resources, *given[1:]), spec, HOSTS[host])
    if found is not None:
        assert {step.runs_on() for step in found.steps} <= {RUNTIME}
