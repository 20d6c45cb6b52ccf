"""Planning of the stages seccomp and seccomp-stub: which steps for which profile, and what is refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from gosudacon.api import CONTAINER, EXEC, RESTORE, UPDATE, ConfigError, Error, Host, Spec, Step
from gosudacon.pipeline.plan import Plan, make
from gosudacon.plugins.seccomp_stub import gosudacon_amend_plan, gosudacon_edit_spec
from gosudacon.stages.seccomp import SeccompStage, rules

PROFILE: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 1,
    "architectures": ["SCMP_ARCH_X86_64"],
    "syscalls": [
        {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["mkdir"], "action": "SCMP_ACT_KILL_PROCESS"},
        {
            "names": ["personality"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}],
        },
    ],
}
NOTIFYING: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "listenerPath": "/run/agent.sock",
    "listenerMetadata": "m",
    "flags": ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
    "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}],
}


def spec(profile: Any, nnp: bool = False) -> Spec:
    return Spec({"process": {"noNewPrivileges": nnp}, "linux": {"seccomp": profile}}, "c", "/b")


def plan(profile: Any, nnp: bool = True, host: Host | None = None, **settings: Any) -> list[Step]:
    stage = SeccompStage()
    stage.settings = settings
    return make([stage], spec(profile, nnp), host or Host()).steps


def lines(steps: list[Step]) -> list[str]:
    return [f"{step.phase}/{step.rank} {step.runs_on()}: {step.describe()}" for step in steps]


HOLD = "confine/0 container: hold CAP_SYS_ADMIN until the seccomp filter is loaded"
LET_GO = "confine/70 container: capset: drop CAP_SYS_ADMIN"
ALLOWING: Any = {**PROFILE, "defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": None}


def test_loaded_last() -> None:
    """What it costs is to hold the right to load it until then."""
    assert lines(plan(PROFILE, nnp=False)) == [
        "prepare/0 runtime: compile the seccomp filter: SCMP_ACT_ERRNO, rules for 4 system calls; "
        "cached in /var/cache/gosudacon/seccomp",
        HOLD,
        "start/50 container: load the seccomp filter (SPEC_ALLOW)",
    ]


def test_loaded_early() -> None:
    """A profile that allows what follows is loaded early."""
    assert lines(plan(ALLOWING, nnp=False))[1:] == [
        HOLD,
        "confine/70 container: load the seccomp filter (SPEC_ALLOW)",
        LET_GO,
    ]


def test_with_no_new_privileges_it_is_loaded_last() -> None:
    """Nothing has to be held for it, and no other process sees it."""
    assert lines(plan(ALLOWING))[1] == "start/50 container: load the seccomp filter (SPEC_ALLOW)"


@pytest.mark.parametrize(
    ("sets", "held"),
    [
        (None, True),
        ({}, True),
        ({"permitted": ["CAP_SYS_ADMIN"]}, True),
        ({"permitted": ["CAP_SYS_ADMIN"], "effective": ["CAP_SYS_ADMIN"]}, False),
    ],
)
def test_who_has_cap_sys_admin_need_not_hold_it(sets: Any, held: bool) -> None:
    process: Any = {"noNewPrivileges": False, "capabilities": sets}
    given = Spec({"process": process, "linux": {"seccomp": ALLOWING}}, "c", "/b")
    found = lines(make([SeccompStage()], given, Host()).steps)
    assert (HOLD in found, LET_GO in found) == (held, held)


def test_filter_before_the_birth() -> None:
    """Among others the filter comes before the birth."""
    namespaces: Any = [{"type": "pid", "path": "/proc/7/ns/pid"}]
    given = Spec(
        {"process": {"noNewPrivileges": True}, "linux": {"seccomp": ALLOWING, "namespaces": namespaces}}, "c", "/b"
    )
    assert "confine/70 container: load the seccomp filter (SPEC_ALLOW)" in lines(
        make([SeccompStage()], given, Host()).steps
    )


CLONE = "clone", (0x8000, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        ({"names": ["clone"], "action": "SCMP_ACT_ALLOW"}, True),
        ({"names": ["clone"], "action": "SCMP_ACT_ERRNO"}, False),
        ({"names": ["clone3"], "action": "SCMP_ACT_ALLOW"}, False),
        (
            {
                "names": ["clone"],
                "action": "SCMP_ACT_ALLOW",
                "args": [{"index": 0, "value": 0x7E020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
            },
            True,
        ),
        (
            {
                "names": ["clone"],
                "action": "SCMP_ACT_ALLOW",
                "args": [{"index": 0, "value": 0x8000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
            },
            False,
        ),
    ],
)
def test_what_a_profile_allows(rule: dict[str, Any], allowed: bool) -> None:
    profile: Any = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]}
    assert rules.allows(profile, *CLONE) is allowed


def test_condition_on_unknown_arguments() -> None:
    """A condition on unknown arguments decides nothing."""
    condition = [{"index": 1, "value": 1, "op": "SCMP_CMP_EQ"}]
    allow: Any = {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": condition}
    assert not rules.allows({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [allow]}, "ioctl")
    deny: Any = {**allow, "action": "SCMP_ACT_ERRNO"}
    assert not rules.allows({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [deny]}, "ioctl")


@pytest.mark.parametrize("nnp", [False, True], ids=["with-cap-sys-admin", "no-new-privileges"])
def test_notifying_profile(nnp: bool) -> None:
    """A notifying profile is loaded while create is there."""
    steps = plan(NOTIFYING, nnp)
    rank = 90 if nnp else 70
    held, let_go = ([], []) if nnp else ([HOLD], [LET_GO])
    assert lines(steps) == [
        "prepare/0 runtime: compile the seccomp filter: SCMP_ACT_ALLOW, rules for 1 system calls; "
        "cached in /var/cache/gosudacon/seccomp",
        "prepare/0 runtime: connect to the seccomp agent at /run/agent.sock",
        *held,
        f"confine/{rank} container: load the seccomp filter, with a notification descriptor (WAIT_KILLABLE_RECV)",
        f"confine/{rank} runtime: send the notification descriptor to the seccomp agent",
        f"confine/{rank} container: close init's copy of the notification descriptor",
        *let_go,
    ]


def test_agent_gets_the_descriptor_first() -> None:
    """The agent has the descriptor before init goes on."""
    lanes = Plan(plan(NOTIFYING)).lanes()
    assert lanes["runtime"][-1].wait == 1  # the first step of the container side
    assert lanes[CONTAINER][0].tell
    assert lanes[CONTAINER][1].wait == len(lanes["runtime"])


@pytest.mark.parametrize("profile", [None, {}, {"defaultAction": ""}, {"syscalls": []}])
def test_an_empty_profile_is_none(profile: Any) -> None:
    assert plan(profile) == []


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (None, " (SPEC_ALLOW)"),
        ([], ""),
        (["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"], " (LOG, TSYNC)"),
        (["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"], ""),  # means something only with a listener
    ],
)
def test_flags(flags: Any, text: str) -> None:
    assert plan({**PROFILE, "flags": flags})[1].describe() == f"load the seccomp filter{text}"


def test_steps_are_json_and_planning_changes_nothing() -> None:
    before = copy.deepcopy(PROFILE)
    json.dumps(Plan(plan(PROFILE)).to_json())
    assert before == PROFILE


def broken(change: Callable[[dict[str, Any]], object], base: dict[str, Any] = PROFILE) -> dict[str, Any]:
    profile = copy.deepcopy(base)
    change(profile)
    return profile


@pytest.mark.parametrize(
    ("profile", "where", "message"),
    [
        (broken(lambda p: p.pop("defaultAction")), "defaultAction", "unknown seccomp action None"),
        ({**PROFILE, "defaultAction": "SCMP_ACT_X"}, "defaultAction", "unknown seccomp action 'SCMP_ACT_X'"),
        (
            {**PROFILE, "defaultAction": "SCMP_ACT_NOTIFY", "defaultErrnoRet": None},
            "defaultAction",
            "SCMP_ACT_NOTIFY cannot be used as default action",
        ),
        ({**PROFILE, "defaultErrnoRet": 4095}, "defaultErrnoRet", "4095 is not an errno: an integer from 0 to 4094"),
        ({**PROFILE, "defaultErrnoRet": True}, "defaultErrnoRet", "True is not an errno: an integer from 0 to 4094"),
        ({**PROFILE, "architectures": ["SCMP_ARCH_Z80"]}, "architectures[0]", "unknown seccomp architecture"),
        ({**PROFILE, "flags": ["SECCOMP_FILTER_FLAG_X"]}, "flags[0]", "unknown seccomp flag"),
        (
            broken(lambda p: p["syscalls"][1].update(action="KILL")),
            "syscalls[1].action",
            "unknown seccomp action 'KILL'",
        ),
        (broken(lambda p: p["syscalls"][1].update(names=[""])), "syscalls[1].names", "does not name a system call"),
        (
            broken(lambda p: p["syscalls"][2]["args"][0].update(index=6)),
            "syscalls[2].args[0].index",
            "6 is not an integer from 0 to 5",
        ),
        (
            broken(lambda p: p["syscalls"][2]["args"][0].update(value=1 << 64)),
            "syscalls[2].args[0].value",
            "is not an integer from 0 to",
        ),
        (
            broken(lambda p: p["syscalls"][2]["args"][0].update(op="==")),
            "syscalls[2].args[0].op",
            "unknown seccomp operator '=='",
        ),
        (
            broken(lambda p: p["syscalls"][0]["names"].append("write"), NOTIFYING),
            "syscalls[0].names",
            "SCMP_ACT_NOTIFY cannot be used for the write syscall",
        ),
        (
            broken(lambda p: p.pop("listenerPath"), NOTIFYING),
            "listenerMetadata",
            "listenerMetadata is given without listenerPath",
        ),
        (
            broken(lambda p: [p.pop("listenerPath"), p.pop("listenerMetadata")], NOTIFYING),
            "listenerPath",
            "SCMP_ACT_NOTIFY is used without listenerPath",
        ),
    ],
)
def test_refused(profile: Any, where: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(profile)
    assert caught.value.where == f"linux.seccomp.{where}"
    assert message in caught.value.message
    assert caught.value.stage == "seccomp"


def test_trace_carries_any_16_bit_number() -> None:
    rule = {"names": ["mkdir"], "action": "SCMP_ACT_TRACE", "errnoRet": 0xFFFF}
    assert len(plan({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})) == 2


@pytest.mark.parametrize(
    ("settings", "euid", "cache"),
    [
        ({}, 0, "/var/cache/gosudacon/seccomp"),
        ({}, 1000, "$XDG_RUNTIME_DIR/gosudacon-cache/seccomp"),
        ({"cache": True}, 0, "/var/cache/gosudacon/seccomp"),
        ({"cache": "/c"}, 0, "/c"),
        ({"cache": False}, 0, ""),
    ],
)
def test_the_cache_is_where_the_administrator_wants_it(settings: Any, euid: int, cache: str) -> None:
    assert vars(plan(PROFILE, host=Host(euid=euid), **settings)[0])["cache"] == cache


@pytest.mark.parametrize(
    "settings",
    [{"cache": 1.5}, {"library": True}, {"nosuch": 1}, {"other-architectures": "SCMP_ACT_NOTIFY"}],
)
def test_wrong_settings_are_refused(settings: Any) -> None:
    with pytest.raises(Error, match=r"invalid setting of stage seccomp in config\.toml"):
        plan(PROFILE, **settings)


def stubbed(profile: Any) -> Spec:
    """The spec as seccomp-stub leaves it."""
    edit = gosudacon_edit_spec(spec(profile))
    assert edit is not None
    return spec(edit.applied(spec(profile).config)["linux"]["seccomp"])


def stub(profile: Any) -> list[Step]:
    return make([SeccompStage()], stubbed(profile), Host()).steps


def test_the_stub_turns_what_denies_and_keeps_the_rest() -> None:
    denying = ("KILL", "KILL_THREAD", "KILL_PROCESS", "TRAP", "ERRNO", "TRACE", "NOTIFY")
    profile = {
        **NOTIFYING,
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "syscalls": [{"names": [f"call{name}"], "action": f"SCMP_ACT_{name}"} for name in (*denying, "LOG", "ALLOW")],
    }
    profile["syscalls"][4]["errnoRet"] = 5
    before = copy.deepcopy(profile)
    steps = stub(profile)
    assert [type(step).__name__ for step in steps] == ["CompileSeccomp", "HoldSysAdmin", "LoadSeccomp", "LetSysAdminGo"]
    fields = vars(steps[0])
    actions = {rule["names"][0]: rule["action"] for rule in fields["profile"]["syscalls"]}
    assert actions.pop("callALLOW") == "SCMP_ACT_ALLOW"
    assert set(actions.values()) == {"SCMP_ACT_LOG"}
    assert all("errnoRet" not in rule for rule in fields["profile"]["syscalls"])
    assert fields["profile"]["defaultAction"] == fields["others"] == "SCMP_ACT_LOG"
    assert "defaultErrnoRet" not in fields["profile"]
    assert before == profile


def test_the_stub_twice_is_the_stub_once() -> None:
    once = stubbed(NOTIFYING).config["linux"]["seccomp"]
    assert stubbed(once).config["linux"]["seccomp"] == once


def test_the_stub_does_not_hide_what_is_wrong() -> None:
    with pytest.raises(ConfigError, match="unknown seccomp action 'SCMP_ACT_X'"):
        stub({**PROFILE, "defaultAction": "SCMP_ACT_X"})


@pytest.mark.parametrize("made", [None, {}])
def test_the_stub_of_no_profile(made: Any) -> None:
    assert gosudacon_edit_spec(spec(made)) is None


@pytest.mark.parametrize("operation", [EXEC, UPDATE])
def test_the_stub_leaves_what_has_been_made(operation: str) -> None:
    """A process that exec starts gets the container's profile, as it was made."""
    assert gosudacon_edit_spec(spec(PROFILE).replace(operation=operation)) is None


def test_the_stub_says_that_what_is_restored_keeps_its_filter() -> None:
    edited = spec(PROFILE).replace(operation=RESTORE)
    assert gosudacon_edit_spec(edited) is not None
    said = []
    for made in (edited, spec(PROFILE), spec(None).replace(operation=RESTORE)):
        plan = Plan([])
        gosudacon_amend_plan(plan, made)
        said.append([warning.describe() for warning in plan.warnings])
    assert said[0][0].startswith("linux.seccomp: restored processes keep the filter that they were saved with")
    assert said[1:] == [[], []]


def test_a_profile_s_word_on_other_architectures() -> None:
    """It goes before the setting of the stage."""
    settings: dict[str, Any] = {"other-architectures": "SCMP_ACT_TRAP"}
    steps = plan({**PROFILE, "otherArchitectures": "SCMP_ACT_LOG"}, **settings)
    assert vars(steps[0])["others"] == "SCMP_ACT_LOG"
    for action in ("SCMP_ACT_NOTIFY", "SCMP_ACT_X"):
        with pytest.raises(ConfigError, match="unknown seccomp action") as caught:
            plan({**PROFILE, "otherArchitectures": action})
        assert caught.value.where == "linux.seccomp.otherArchitectures"


MODE = {"index": 1, "value": 0o777, "op": "SCMP_CMP_EQ"}
MASKED = {"index": 0, "value": 6, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}


def profile(default: str, *rules: tuple[str, list[dict[str, Any]]]) -> dict[str, Any]:
    entries = [{"names": ["read", "mkdir"], "action": f"SCMP_ACT_{action}", "args": args} for action, args in rules]
    return {"defaultAction": f"SCMP_ACT_{default}", "syscalls": entries}


@pytest.mark.parametrize(
    ("made", "where"),
    [
        (profile("ALLOW", ("ERRNO", [MODE]), ("LOG", [])), "syscalls[0]"),
        (profile("ALLOW", ("LOG", []), ("ERRNO", [MODE])), "syscalls[1]"),
        (profile("ERRNO", ("ALLOW", []), ("ERRNO", [MODE])), "syscalls[1]"),
        (profile("ALLOW", ("ERRNO", [MODE]), ("KILL", [MODE])), "syscalls[1]"),
        (profile("ERRNO", ("ERRNO", [MODE]), ("ALLOW", [MODE])), "syscalls[1]"),
        (profile("ALLOW", ("ERRNO", [MASKED])), "syscalls[0].args[0]"),
        (profile("ALLOW", ("ERRNO", [MODE, MASKED])), "syscalls[0].args[1]"),
    ],
)
def test_a_rule_that_would_hold_nothing_back(made: dict[str, Any], where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(made)
    assert caught.value.where == f"linux.seccomp.{where}"


@pytest.mark.parametrize(
    "made",
    [
        profile("ERRNO", ("ALLOW", [MODE]), ("ALLOW", [])),
        profile("ERRNO", ("ALLOW", [MASKED])),
        profile("ERRNO", ("ERRNO", []), ("ALLOW", [MODE])),
        profile("ALLOW", ("ERRNO", []), ("LOG", [MODE])),
        profile("ERRNO", ("LOG", [MODE]), ("ALLOW", [])),
        profile("ALLOW", ("ERRNO", [MODE]), ("KILL", [])),
        profile("ALLOW", ("ERRNO", [MODE]), ("ERRNO", [MODE])),
    ],
)
def test_what_holds_is_accepted(made: dict[str, Any]) -> None:
    assert plan(made)


@pytest.mark.parametrize(
    ("made", "where"),
    [
        (profile("ALLOW"), ["linux.seccomp"]),
        (profile("LOG", ("ALLOW", [])), ["linux.seccomp"]),
        ({"defaultAction": "", "architectures": ["SCMP_ARCH_X86"]}, ["linux.seccomp.defaultAction"]),
        (profile("ALLOW", ("TRACE", [])), []),
        (profile("ERRNO"), []),
    ],
)
def test_filter_without_effect(made: dict[str, Any], where: list[str]) -> None:
    """A filter that lets everything through is accepted with a word."""
    warnings = make([SeccompStage()], spec(made), Host()).warnings
    assert [each.where for each in warnings] == where
