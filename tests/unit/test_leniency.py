"""What is taken in silence, taken with a warning, and refused of what callers write."""

from __future__ import annotations

import json

import pytest

from gosudacon.api import ConfigError, Host, Options, Spec
from gosudacon.base.errors import Error
from gosudacon.container import bundle
from gosudacon.pipeline import plan as plans
from gosudacon.pipeline.plan import Plan
from gosudacon.pipeline.registry import registry
from gosudacon.schema import verdict
from tests.support.bundle import default_config
from tests.support.leniency import REFUSED, SILENT, WARNED, Changes, change

V1 = {name: f"/sys/fs/cgroup/{name}" for name in ("memory", "cpu", "cpuset", "pids", "devices", "blkio")}
HOST = Host(cgroup_mode="v1", cgroup_mounts=V1, own_cgroups=dict.fromkeys(V1, "/"))


def planned(changes: Changes) -> Plan:
    text = json.dumps(change(default_config(["true"], "/x"), changes)).encode()
    renamed: list[tuple[str, str]] = []
    spec = Spec(bundle.parse(text, renamed), "x", "/b", Options(), text, renamed=renamed)
    return registry("", use_snapshot=False).plan(spec, HOST, plans.make)


def warnings(changes: Changes) -> list[str]:
    before = [each.describe() for each in planned({}).warnings]
    return [text for text in (each.describe() for each in planned(changes).warnings) if text not in before]


@pytest.mark.parametrize("changes", SILENT, ids=str)
def test_silent(changes: Changes) -> None:
    allowed = (
        *("no capability is taken away", "no system call is filtered", "lets every system call through"),
        "cannot be granted",
    )
    assert [text for text in warnings(changes) if not any(words in text for words in allowed)] == []


@pytest.mark.parametrize(("changes", "words"), WARNED, ids=str)
def test_warned(changes: Changes, words: str) -> None:
    assert words in "\n".join(warnings(changes))


@pytest.mark.parametrize("changes", REFUSED, ids=str)
def test_refused(changes: Changes) -> None:
    with pytest.raises((ConfigError, Error)):
        planned(changes)


@pytest.mark.parametrize(
    ("policy", "more"),
    [
        ("SCHED_FIFO", {"priority": 1}),
        ("SCHED_RR", {"priority": 1}),
        ("SCHED_IDLE", {}),
        ("SCHED_DEADLINE", {"runtime": 10**6, "deadline": 10**7}),
    ],
)
def test_nice_where_there_is_none(policy: str, more: dict[str, int]) -> None:
    scheduler = {"policy": policy, "nice": 5, **more}
    assert warnings({"process.scheduler": scheduler}) == [
        f"process.scheduler.nice: ignored: {policy} has no nice value"
    ]


def test_io_priority_without_a_level() -> None:
    lines = [step.describe() for step in planned({"process.ioPriority": {"class": "IOPRIO_CLASS_RT"}}).steps]
    assert "ioprio_set(IOPRIO_CLASS_RT, 0)" in lines


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({"rlimits": [{"type": "x", "soft": -1, "hard": -1}]}, {"rlimits": [{"soft": 2**64 - 1, "hard": 2**64 - 1}]}),
        ({"rlimits": [{"hard": 5}]}, {"rlimits": [{"hard": 5, "soft": 0}]}),
        ({"USER": {"UID": 5}}, {"user": {"uid": 5, "gid": 0}}),
        ({"user": {"uid": 1, "Uid": 2}}, {"user": {"uid": 2, "gid": 0}}),
        ({"user": {"Uid": 2, "uid": 1}}, {"user": {"uid": 1, "gid": 0}}),
        ({"User": {"uid": 2}, "user": {"gid": 1}}, {"user": {"uid": 2, "gid": 1}}),
        ({"terminal": None, "args": "x", "user": 5}, {"terminal": None, "args": "x", "user": 5}),
    ],
)
def test_normal_form(written: dict[str, object], read: dict[str, object]) -> None:
    verdict.normal(written, "process")
    for entry in written.get("rlimits", []):  # type: ignore[attr-defined]
        entry.pop("type", None)
    assert written == read


def test_normal_form_without_a_compiled_validator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict, "SHAPES", {})
    value: dict[str, object] = {"linux": {"resources": {"cpu": {"burst": -1, "quota": 2**64 - 1}}}}
    assert verdict.normal(value) == []
    assert value == {"linux": {"resources": {"cpu": {"quota": -1}}}}


def test_the_normal_form_is_its_own() -> None:
    value = default_config(["true"], "/x")
    verdict.normal(value)
    again = json.loads(json.dumps(value))
    assert verdict.normal(again) == [] and again == value
