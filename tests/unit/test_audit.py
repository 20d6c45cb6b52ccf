"""Audit without a container: what steps expect, who is blamed, what programs answer, the formats."""

from __future__ import annotations

import importlib
import json
import pkgutil
from types import SimpleNamespace
from typing import Any, cast

import pytest

import gosudacon.plugins
import gosudacon.stages
from gosudacon.api import CONFINE, ConfigError, Context, Error, Expectation, Host, Spec, Step
from gosudacon.audit import bpf, limits, report
from gosudacon.audit.audit import READERS, Audit
from gosudacon.audit.containers import Found
from gosudacon.audit.filters import Comparison
from gosudacon.audit.plan import Asked
from gosudacon.audit.subject import Subject
from gosudacon.audit.verdict import (
    BROKEN,
    CHANGED,
    DRIFTED,
    ENFORCED,
    FAULT,
    ROUNDED,
    SELF,
    STRICTER,
    UNSEEN,
    Finding,
    difference,
)
from gosudacon.container.create import compile_plan
from gosudacon.linux import statmount
from gosudacon.linux.bpf import device_program
from gosudacon.pipeline.expectation import entry
from gosudacon.stages.cgroups.devices import DEFAULTS
from tests.support.bundle import default_config

ABSTRACT = {"Limit", "_Member", "_WriteAttribute", "_Group", "_Path"}


def built_in() -> list[type[Step]]:
    for package in (gosudacon.stages, gosudacon.plugins):
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(info.name)
    waiting: list[type[Step]] = [Step]
    for kind in waiting:
        waiting += kind.__subclasses__()
    found = {f"{kind.__module__}.{kind.__name__}": kind for kind in waiting}
    return [found[name] for name in sorted(found) if name.startswith(("gosudacon.stages.", "gosudacon.plugins."))]


@pytest.mark.parametrize("kind", built_in())
def test_every_kind_of_step_says_what_it_expects(kind: type[Step]) -> None:
    """Or why nothing can be seen. A new step needs an entry in the table ``expected`` of its stage or plugin."""
    assert entry(kind) or kind.__name__ in ABSTRACT


def spec_of(**changes: Any) -> Spec:
    config = default_config(["true"], "/gosudacon-test/x")
    config.update(changes)
    return Spec(cast(Any, config), "x", "/bundle")


@pytest.mark.parametrize("mode", ["v1", "v2"])
def test_expectations_can_be_read(mode: str) -> None:
    """Each names a reader that there is, and is JSON data."""
    controllers = ("memory", "cpu", "pids", "devices", "cpuset", "blkio")
    mounts = {"": "/sys/fs/cgroup"} if mode == "v2" else {name: f"/sys/fs/cgroup/{name}" for name in controllers}
    host = Host(kernel=(6, 18), cgroup_mode=mode, cgroup_mounts=mounts, own_cgroups=dict.fromkeys(mounts, "/"))
    spec = spec_of()
    spec.linux["resources"] = {**spec.linux["resources"], "memory": {"limit": 1 << 20}, "pids": {"limit": 3}}
    plan, _ = compile_plan(spec, host, use_snapshot=False)
    found = 0
    for step in plan.steps:
        expected = step.expect(spec, host)
        assert expected, step.describe()
        for each in () if isinstance(expected, str) else expected:
            found += 1
            assert each.reader in READERS
            assert each.where
            json.dumps(each.asked)
    assert found > 50


class Strange(Step):
    phase = CONFINE

    def describe(self) -> str:
        return "do something strange"

    def run(self, context: Context) -> None: ...


class Known(Strange):
    def expect(self, spec: Spec, host: Host) -> list[Expectation]:
        return [Expectation("process.user.umask", "umask", 0o022)]


class Raising(Strange):
    def expect(self, spec: Spec, host: Host) -> list[Expectation]:
        raise KeyError("x")


def test_steps_of_third_parties(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has an expectation is audited; one that has none, or fails, is named."""
    steps = [Strange(stage="strange"), Known(stage="known"), Raising(stage="raising")]
    plan = SimpleNamespace(steps=steps)
    monkeypatch.setattr("gosudacon.audit.plan._compile", lambda *_: plan)
    asked = Asked(Found("x", "", spec_of(), 1, 0), Host())
    assert [each.reader for _, _, each in asked.expected] == ["umask"]
    assert [(each.number, each.verdict, each.note) for each in asked.silent] == [
        (1, UNSEEN, "this kind of step does not say what it expects"),
        (3, UNSEEN, "its expectation failed: KeyError: 'x'"),
    ]


def subject(runtime: str = "gosudacon", caps: int = 0, own_users: bool = False) -> Subject:
    fake = SimpleNamespace(ours=runtime == "gosudacon", own_users=own_users)
    fake.may = lambda name, on_host=False: bool(caps) and not (on_host and own_users)
    return cast(Subject, fake)


@pytest.mark.parametrize(
    ("about", "rights", "untouched", "verdict"),
    [
        (subject(), (SELF,), False, CHANGED),
        (subject(), (), False, DRIFTED),
        (subject(), (), True, DRIFTED),
        (subject("runc"), (), True, BROKEN),
        (subject("runc"), (SELF,), True, BROKEN),
        (subject("runc"), (), False, DRIFTED),
        (subject(), (FAULT,), False, BROKEN),
        (subject(caps=1), ("CAP_SYS_ADMIN", FAULT), False, CHANGED),
        (subject(), ("CAP_SYS_ADMIN", FAULT), False, BROKEN),
        (subject(caps=1), ("host:CAP_SYS_RESOURCE",), False, CHANGED),
        (subject(caps=1, own_users=True), ("host:CAP_SYS_RESOURCE",), False, DRIFTED),
        (subject(caps=1, own_users=True), ("CAP_SYS_ADMIN",), False, CHANGED),
    ],
)
def test_who_could_have_changed_it(about: Subject, rights: tuple[str, ...], untouched: bool, verdict: str) -> None:
    assert difference(about, *rights, untouched=untouched)[0] == verdict


@pytest.mark.parametrize(
    ("file", "asked", "found", "verdict"),
    [
        ("memory.limit_in_bytes", "100000001", "99999744", ROUNDED),
        ("memory.limit_in_bytes", "1", "0", ROUNDED),
        ("memory.max", "max", "max", ENFORCED),
        ("memory.limit_in_bytes", "-1", "9223372036854771712", ENFORCED),
        ("memory.max", "100000001", "200000000", ""),
        ("hugetlb.2MB.max", "3000000", "2097152", ROUNDED),
        ("hugetlb.2MB.max", "2097151", "0", ROUNDED),
        ("cpuset.cpus", "0,1", "0-1", ENFORCED),
        ("cpuset.cpus", "0-1", "0", ""),
        ("cpu.max", "50000 100000", "50000 100000", ENFORCED),
        ("pids.max", "50", "51", ""),
        ("cpu.shares", "1", "2", ROUNDED),
    ],
)
def test_rounding(file: str, asked: str, found: str, verdict: str) -> None:
    """The kernel's own rounding, as it was measured."""
    assert limits._compare(file, asked, found) == verdict


@pytest.mark.parametrize(
    ("asked", "found", "part"),
    [
        ("254:0 1000001", "8:0 5\n254:0 1000001", "254:0 1000001"),
        ("254:0 rbps=1000", "254:0 rbps=1000 wbps=max riops=max wiops=max", "254:0 rbps=1000"),
        ("default 100", "default 100\n8:0 50", "default 100"),
        ("eth0 5", "lo 0\neth0 5", "eth0 5"),
        ("50", "50", "50"),
    ],
)
def test_lines_of_one_device(asked: str, found: str, part: str) -> None:
    assert limits._part(asked, found) == part


RULES: list[list[object]] = [
    [False, "a", -1, -1, "rwm"],
    [True, "c", 10, 229, "rw"],
    *([True, *each] for each in DEFAULTS),
    [False, "c", 1, 3, "w"],
]


def test_device_programs_are_evaluated() -> None:
    """What the interpreter makes of a program of ours is what its rules say."""
    from gosudacon.audit.devices import _by_rules

    program, rules = device_program(RULES), _by_rules(RULES)
    for kind in "cb":
        for major in (1, 5, 8, 10, 136, 254):
            for minor in (0, 2, 3, 8, 200, 229):
                for letter in "rwm":
                    found = bpf.device_allowed(program, kind, major, minor, letter)
                    assert found == rules(kind, major, minor, letter), (kind, major, minor, letter)
    with pytest.raises(bpf.Unknown):
        bpf.device_allowed(b"\x85" + bytes(7), "c", 1, 3, "r")  # a call


def instructions(*lines: tuple[int, int, int, int]) -> bytes:
    return b"".join(
        code.to_bytes(2, "little") + bytes((yes, no)) + k.to_bytes(4, "little") for code, yes, no, k in lines
    )


def test_filters_are_evaluated() -> None:
    """A condition on the upper half of an argument, and the precedence of several filters."""
    program = bpf.decoded(
        instructions(
            (0x20, 0, 0, 0),  # the number
            (0x15, 0, 3, 135),
            (0x20, 0, 0, 16),  # the lower half of the first argument
            (0x15, 1, 0, 8),
            (0x06, 0, 0, 0x50001),
            (0x06, 0, 0, 0x7FFF0000),
        )
    )
    arch = 0xC000003E
    assert bpf.answer(program, arch, 135, (8, 0, 0, 0, 0, 0)) == 0x7FFF0000
    assert bpf.answer(program, arch, 135, (9, 0, 0, 0, 0, 0)) == 0x50001
    assert bpf.answer(program, arch, 1, (9, 0, 0, 0, 0, 0)) == 0x7FFF0000
    assert bpf.looks_at_arguments(program, arch, 135)
    assert not bpf.looks_at_arguments(program, arch, 1)
    assert bpf.together([0x7FFF0000, 0x50001, 0x7FFC0000]) == 0x50001
    assert bpf.together([0, 0x80000000]) == 0x80000000
    assert bpf.action_name(0x50001) == "ERRNO(EPERM)"


def personality(*allowed: int) -> bytes:
    """A filter that lets personality(2) through for these values of its first argument, and everything else."""
    tests = [(0x15, len(allowed) - index, 0, value) for index, value in enumerate(allowed)]
    return instructions(
        (0x20, 0, 0, 0),
        (0x15, 0, len(tests) + 2, 135),
        (0x20, 0, 0, 16),
        *tests,
        (0x06, 0, 0, 0x50001),
        (0x06, 0, 0, 0x7FFF0000),
    )


@pytest.mark.parametrize(
    ("found", "more", "less"),
    [
        ([personality(0, 8)], [], []),
        ([personality(0, 9)], ["personality (asked ERRNO(EPERM), kernel ALLOW)"], []),  # and holds back 8
        ([personality(0)], [], ["personality (asked ALLOW, kernel ERRNO(EPERM))"]),
        ([personality(0, 8, 9), personality(0, 8)], [], []),
    ],
)
def test_filters_are_compared(found: list[bytes], more: list[str], less: list[str]) -> None:
    """With the values of the profile and those beside them; one that is let through counts more than one held back."""
    wanted = Expectation("linux.seccomp", "seccomp", {"arguments": [[0, 0, 0], [0, 8, 0]]})
    compiled: dict[str, object] = {"numbers": {str(0xC000003E): {"personality": 135}}}
    result = Comparison(personality(0, 8), found, wanted, compiled)
    assert (result.more, result.less) == (more, less)
    assert result.calls - result.agreed == len(more) + len(less)


MOUNTINFO = (
    rb"36 35 98:0 /mnt1 /a\040b rw,noatime,nosuid shared:7 master:1 - ext3 /dev/root rw,errors=continue"
    b"\n"
    b"37 36 0:5 / /x ro - tmpfs none rw,size=4k\n"
)


def test_mountinfo() -> None:
    one, two = statmount.of_text(MOUNTINFO)
    assert (one.id, one.parent, one.device, one.root, one.point) == (36, 35, (98, 0), "/mnt1", "/a b")
    assert one.words == {"noatime", "nosuid"}
    assert (one.shared, one.master, one.fstype, one.readonly) == (7, 1, "ext3", False)
    assert two.readonly and two.words == {"ro", "strictatime"}
    assert two.options == ["rw", "size=4k"]


def an_audit() -> Audit:
    bad = Finding("hostname", "inside", "other\x1b[2J", DRIFTED, "uname", "root of the host, from outside", "a note")
    bad.number, bad.step = 33, "sethostname(inside)"
    fine = Finding("process.user.uid", "0", "0", ENFORCED, "status Uid")
    less = Finding("process.rlimits[0]", "NOFILE 1024/1024", "NOFILE 10/10", STRICTER, "prlimit")
    found = Found('w"eb', "runc", spec_of(), 4711, 1)
    return Audit(found, [fine, less, bad], [(1, "setsid()", "any process may")])


def test_table_shows_differences() -> None:
    text = report.table(an_audit())
    assert text.splitlines()[1].split() == ["PROPERTY", "ASKED", "KERNEL", "VERDICT"]
    assert text.index("hostname") < text.index("process.rlimits")
    assert "process.user.uid" not in text and "setsid" not in text
    assert "\x1b" not in text
    assert "    who: root of the host, from outside" in text
    assert "    seen in uname; step 33, sethostname(inside)" in text
    assert text.endswith("1 drifted, 1 stricter, 1 enforced\n")
    assert all(line == line.rstrip() for line in text.splitlines())
    everything = report.table(an_audit(), True)
    assert "process.user.uid" in everything and "1 setsid(): any process may" in everything


def test_json_has_everything() -> None:
    data = json.loads(report.json([an_audit()], [("gone", Error("it has stopped"))]))
    (one,) = data["containers"]
    assert one["counts"] == {"drifted": 1, "stricter": 1, "enforced": 1}
    assert one["findings"][2] == {
        "property": "hostname",
        "asked": "inside",
        "kernel": "other\x1b[2J",
        "verdict": "drifted",
        "evidence": "uname",
        "who": "root of the host, from outside",
        "step": "sethostname(inside)",
        "note": "a note",
        "number": 33,
    }
    assert data["failed"] == [{"id": "gone", "error": "it has stopped"}]


def test_prometheus_is_well_formed() -> None:
    lines = report.prometheus([an_audit()], [("gone", Error("it has stopped"))]).splitlines()
    assert 'gosudacon_audit_properties{container="w\\"eb",verdict="drifted"} 1' in lines
    assert 'gosudacon_audit_failure{container="w\\"eb",property="hostname",verdict="drifted"} 1' in lines
    assert 'gosudacon_audit_success{container="gone"} 0' in lines
    for line in lines:
        assert line.startswith(("# HELP gosudacon_audit_", "# TYPE gosudacon_audit_", "gosudacon_audit_"))


@pytest.mark.parametrize(
    ("verdicts", "status", "strict"),
    [([ENFORCED, ROUNDED, STRICTER, UNSEEN], 0, 0), ([CHANGED], 0, 1), ([DRIFTED], 1, 1), ([BROKEN], 1, 1)],
)
def test_what_fails(verdicts: list[str], status: int, strict: int) -> None:
    findings = [Finding("x", "", "", verdict, "") for verdict in verdicts]
    audit = Audit(Found("x", "", spec_of(), 1, 0), findings, [])
    assert (audit.failed(), audit.failed(True)) == (bool(status), bool(strict))


def test_a_configuration_without_a_plan() -> None:
    spec = spec_of(process={"args": [], "cwd": "/"})
    with pytest.raises((ConfigError, Error)):
        Asked(Found("x", "", spec, 1, 0), Host(), use_snapshot=False)
