"""The plugin learn: what is planned, what is asked, what is learnt and merged, and how it is reported."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gosudacon.api import ConfigError, Context, Error, Host, Options, SettingsError, Spec, SyscallNames
from gosudacon.cli.learn import load as shown
from gosudacon.cli.learn_report import as_table
from gosudacon.linux import abi, notify_all
from gosudacon.pipeline.plan import Plan, make
from gosudacon.plugins.learn import Learn, files, gosudacon_amend_plan, profile, record
from gosudacon.plugins.learn import program as programs
from gosudacon.plugins.learn.settings import Settings, is_name
from gosudacon.stages.handoff import Handoff
from gosudacon.stages.namespaces import Namespaces
from gosudacon.stages.seccomp import ARCHITECTURES, SeccompStage, compiler
from gosudacon.stages.seccomp.steps import library
from tests.support import bpf

if TYPE_CHECKING:
    from gosudacon.schema.types import Seccomp

ALLOW, ERRNO, LOG, KILL = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_LOG", "SCMP_ACT_KILL_PROCESS"
X86_64 = 0xC000003E
SETTINGS = {"directory": "/p", "names": ["web", "db-*"]}


def config(**changes: Any) -> Any:
    process = {"args": ["x"], "cwd": "/", "noNewPrivileges": True}
    return {"process": process, "linux": {}, "annotations": {"io.gosudacon.learn": "web"}, **changes}


def planned(config: Any, settings: dict[str, Any] | None = None, **host: Any) -> Plan:
    stages = [Namespaces(), SeccompStage(), Learn(), Handoff()]
    stages[2].settings = SETTINGS if settings is None else settings
    plan = make(stages, Spec(config, "web1", "/bundle"), Host(**host))
    gosudacon_amend_plan(plan)
    return plan


def described(plan: Plan) -> list[str]:
    return [step.describe() for step in plan.steps]


# Planning.


@pytest.mark.parametrize("new_privileges", [True, False])
@pytest.mark.parametrize("hook", [True, False])
@pytest.mark.parametrize("default", [ALLOW, ERRNO, None])
def test_one_filter_is_loaded_and_it_is_the_last_thing(new_privileges: bool, hook: bool, default: str | None) -> None:
    """Whenever the profile's own would have been loaded: before execve(2), and nothing gives up what that needs."""
    value = config()
    value["process"]["noNewPrivileges"] = not new_privileges
    if default:
        rules = [{"names": ["mkdir"], "action": ERRNO if default == ALLOW else ALLOW}]
        value["linux"]["seccomp"] = {"defaultAction": default, "syscalls": rules}
    if hook:
        value["hooks"] = {"startContainer": [{"path": "/x"}]}
    plan = planned(value)
    lines = described(plan)
    assert lines[-2:] == ["load a filter that asks the recorder about every system call", "execve(x)"]
    assert [step.stage for step in plan.steps if step.filters] == ["learn"]
    assert "start a recorder of system calls, which adds to /p/web.json" in lines
    assert not any(line.startswith(("capset: drop CAP_SYS_ADMIN", "load the seccomp filter")) for line in lines)
    assert lines.count("have startContainer hooks load the seccomp filter") == (hook and default is not None)
    assert any("hold CAP_SYS_ADMIN until the filter that asks" in line for line in lines) == new_privileges


def test_without_the_annotation_nothing_is_planned() -> None:
    rules = [{"names": ["mkdir"], "action": ERRNO}]
    value = config(annotations={}, linux={"seccomp": {"defaultAction": ALLOW, "syscalls": rules}})
    with_it = described(planned(value))
    assert "load the seccomp filter (SPEC_ALLOW)" in with_it and not any("recorder" in line for line in with_it)


@pytest.mark.parametrize(
    ("settings", "annotations", "why"),
    [
        ({}, {}, "does not allow the name 'web'"),
        ({"names": []}, {}, "does not allow the name 'web'"),
        ({"images": ["nginx*"]}, {}, "for this image"),
        ({"images": ["nginx*"]}, {"io.kubernetes.cri.image-name": "redis"}, "for this image"),
        ({"ids": ["db"]}, {}, "for this id"),
    ],
)
def test_what_is_not_allowed_is_a_warning(settings: dict[str, Any], annotations: dict[str, str], why: str) -> None:
    value = config(annotations={"io.gosudacon.learn": "web", **annotations})
    plan = planned(value, {**SETTINGS, **settings} if settings else {})
    assert not plan.of_stage("learn")
    assert [why in warning.describe() for warning in plan.warnings if "io.gosudacon.learn" in warning.describe()] == [
        True
    ]


def test_an_old_kernel() -> None:
    plan = planned(config(), kernel=(5, 8))
    assert not plan.of_stage("learn")
    assert any("ignored: it needs Linux 5.9" in warning.describe() for warning in plan.warnings)
    spec = Spec(config(), "web", "/bundle", Options(learn="/p/x.json"))
    with pytest.raises(Error, match=r"cannot record system calls: it needs Linux 5\.9"):
        list(Learn().plan(spec, Host(kernel=(5, 8))))


def test_what_is_allowed() -> None:
    value = config(annotations={"io.gosudacon.learn": "db-x", "io.kubernetes.cri.image-name": "docker.io/nginx:1"})
    settings = {**SETTINGS, "images": ["docker.io/nginx:*"], "ids": ["web*"]}
    assert planned(value, settings).of_stage("learn")


@pytest.mark.parametrize("name", ["a", "Web_1-x", "0"])
def test_a_name(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/etc/x", "-a", "_a", "a.b", "a b", "a\n", "é", "a" * 65, "a\0"]
)
def test_no_name(name: str) -> None:
    assert not is_name(name)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"directry": "/x"}, "is not a setting"),
        ({"directory": "x"}, "absolute"),
        ({"directory": "/a/../b"}, "without .."),
        ({"directory": 1}, "absolute"),
        ({"names": "web"}, "list of strings"),
        ({"names": [""]}, "list of strings"),
        ({"names": ["web"]}, "is missing"),
    ],
)
def test_settings_that_are_wrong(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        Settings(settings)


def test_a_profile_with_an_agent_is_refused() -> None:
    rules = [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]
    value = config(linux={"seccomp": {"defaultAction": ALLOW, "syscalls": rules, "listenerPath": "/s"}})
    with pytest.raises(ConfigError, match="one listener"):
        planned(value)


# Filters.


def test_the_filter_that_asks() -> None:
    """It asks about everything but the two calls that hand its descriptor over, told apart by their arguments."""
    address, closing = 0x7F12_3456_7890, 0xABCD_EF01_0000_0007
    code = notify_all.program(5, address, closing)
    send, close = abi.NUMBERS["sendmsg"], abi.NUMBERS["close"]
    assert bpf.answer(code, X86_64, send, [5, address, 0x4000]) == bpf.ALLOW
    assert bpf.answer(code, X86_64, close, [closing]) == bpf.ALLOW
    asked = [
        (send, [5, address + 8]),
        (send, [5, address ^ 1 << 40]),
        (send, [4, address]),
        (close, [7]),
        (close, [closing ^ 1 << 63]),
        *((number, [5, address]) for number in range(500) if number != send),
    ]
    assert {bpf.answer(code, X86_64, number, arguments) for number, arguments in asked} == {programs.NOTIFY}


def test_a_filter_is_asked_as_the_kernel_does() -> None:
    """The recorder's interpreter and that of the tests agree, on every kind of rule that libseccomp makes."""
    conditions = [
        {"index": index % 6, "value": 5, "valueTwo": 5, "op": op}
        for index, op in enumerate(["SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE"])
    ]
    rules: list[Any] = [{"names": [f"get{what}"], "action": ALLOW} for what in ("pid", "uid", "gid", "cwd", "random")]
    names = ("socket", "clone", "personality", "prctl", "ioctl")
    rules += [{"names": [name], "action": ALLOW, "args": [each]} for name, each in zip(names, conditions, strict=True)]
    masked = {"index": 1, "value": 0xF0, "valueTwo": 0x30, "op": "SCMP_CMP_MASKED_EQ"}
    rules.append({"names": ["mmap"], "action": "SCMP_ACT_LOG", "args": [masked]})
    code = compiler.build(
        {"defaultAction": ERRNO, "architectures": ["SCMP_ARCH_X86"], "syscalls": rules}, "SCMP_ACT_KILL", library()
    )
    asked = programs.Program(code)
    for architecture in (X86_64, 0x40000003, 0xC00000B7):
        for number in [*range(480), 0x40000000 + 39, 0xFFFFFFFF]:
            for value in (0, 4, 5, 6, 0x35, 1 << 32, (1 << 32) + 5):
                words = [value & 0xFFFFFFFF, value >> 32]
                data = [number, architecture, 0, 0, *(6 * words)]
                assert asked.ask(data) == bpf.answer(code, architecture, number, 6 * [value])


def test_a_filter_that_cannot_be_asked() -> None:
    with pytest.raises(ValueError, match="unknown instruction 0x28"):
        programs.Program(b"\x28" + bytes(7))


def test_no_filter_allows_all() -> None:
    assert programs.Program(b"").ask([0] * 16) == programs.ALLOW


def test_names() -> None:
    names = SyscallNames(library())
    assert names.name(X86_64, 39) == "getpid" and names.name(0x40000003, 20) == "getpid"
    assert names.name(X86_64, 462) == "mseal" and names.name(X86_64, 0xFFFFFFFF) == ""
    assert names.architecture(X86_64, 0x40000000 + 39) == "SCMP_ARCH_X32"
    assert names.knows("getpid") and not names.knows("nosuchcall")
    from gosudacon.linux import syscalls

    assert syscalls.ARCHITECTURES.items() <= {number: name for name, number in ARCHITECTURES.items()}.items()


# The profile.


def learned(source: Any, allowed: str = "", refused: str = "") -> Any:
    result, lost = profile.learned(source, allowed.split(), refused.split(), ["SCMP_ARCH_X86_64"])
    return {**result, "lost": lost}


def test_without_a_profile_what_was_called_is_allowed() -> None:
    assert learned(None, "b a") == {
        "defaultAction": ERRNO,
        "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["a", "b"], "action": ALLOW}],
        "lost": [],
    }


def test_of_a_profile_what_was_used_stays() -> None:
    condition = [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]
    source = {
        "defaultAction": KILL,
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "syscalls": [
            {"names": ["a", "b"], "action": ALLOW, "comment": "x"},
            {"names": ["c"], "action": ALLOW, "args": condition},
            {"names": ["e", "f"], "action": ERRNO, "errnoRet": 38},
            {"names": ["d"], "action": ALLOW},
        ],
    }
    result = learned(source, "a c d", "e g")
    assert result["defaultAction"] == KILL and "defaultErrnoRet" not in result
    assert result["flags"] == ["SECCOMP_FILTER_FLAG_LOG"]
    assert result["syscalls"] == [
        {"names": ["a", "d"], "action": ALLOW},
        {"names": ["c"], "action": ALLOW, "args": condition},
        {"names": ["e"], "action": ERRNO, "errnoRet": 38},
    ]


def test_of_a_profile_that_allows_by_default() -> None:
    condition = [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]
    source = {
        "defaultAction": LOG,
        "syscalls": [
            {"names": ["a", "b"], "action": ERRNO, "errnoRet": 95},
            {"names": ["c", "d"], "action": ERRNO, "args": condition},
        ],
    }
    result = learned(source, "c e", "a c d")
    assert result["syscalls"] == [
        {"names": ["c", "e"], "action": ALLOW},
        {"names": ["a"], "action": ERRNO, "errnoRet": 95},
        {"names": ["d"], "action": ERRNO, "args": condition},
    ]
    assert [text.split()[0] for text in result["lost"]] == ["c"]


def test_what_is_learnt_can_be_compiled() -> None:
    source: Any = {
        "defaultAction": ERRNO,
        "syscalls": [
            {"names": ["read", "write"], "action": ALLOW},
            {"names": ["personality"], "action": ALLOW, "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]},
            {"names": ["clone3"], "action": ERRNO, "errnoRet": 38},
        ],
    }
    result, _ = profile.learned(source, {"read", "personality"}, {"clone3", "personality"}, {"SCMP_ARCH_X86_64"})
    code = compiler.build(result, "SCMP_ACT_KILL", library())
    assert bpf.answer(code, X86_64, 135, [8]) == bpf.ALLOW and bpf.answer(code, X86_64, 135, [9]) == bpf.ERRNO | 1
    assert bpf.answer(code, X86_64, 435) == bpf.ERRNO | 38 and bpf.answer(code, X86_64, 1) == bpf.ERRNO | 1


def test_merging_only_adds() -> None:
    condition: Any = [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]
    old: Seccomp = {
        "defaultAction": KILL,
        "architectures": ["SCMP_ARCH_X86"],
        "syscalls": [
            {"names": ["a", "x"], "action": ALLOW},
            {"names": ["b"], "action": ALLOW, "args": condition},
            {"names": ["c", "y"], "action": ERRNO},
        ],
    }
    new: Seccomp = {
        "defaultAction": ERRNO,
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [
            {"names": ["a", "b", "c", "d"], "action": ALLOW},
            {"names": ["x"], "action": ERRNO, "errnoRet": 9},
            {"names": ["x", "e"], "action": ALLOW, "args": condition},
            {"names": ["f", "y"], "action": ERRNO, "errnoRet": 38},
        ],
    }
    before = json.dumps(old)
    assert profile.merged(old, new) == {
        "defaultAction": KILL,
        "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X86_64"],
        "syscalls": [
            {"names": ["a", "b", "c", "d", "x"], "action": ALLOW},
            {"names": ["y"], "action": ERRNO},
            {"names": ["e"], "action": ALLOW, "args": condition},
            {"names": ["f"], "action": ERRNO, "errnoRet": 38},
        ],
    }
    assert json.dumps(old) == before
    assert profile.merged(profile.merged(old, new), new) == profile.merged(old, new)


def test_what_was_not_used() -> None:
    source: Seccomp = {
        "defaultAction": ERRNO,
        "syscalls": [{"names": ["b", "a"], "action": ALLOW}, {"names": ["c"], "action": ERRNO}],
    }
    assert profile.unused(source, ["b"]) == ["a"]
    assert profile.unused(None, []) is None and profile.unused({"defaultAction": ALLOW}, []) is None


# The files.


def seen(*names: str, refused: str = "", container: str = "web") -> record.Record:
    made = record.Record(container)
    for name in names:
        call = made.calls[X86_64, ord(name)] = record.Call(name, ord(name), "SCMP_ARCH_X86_64")
        call.count = 2
        record.note_program(call, f"/bin/{container}")
    if refused:
        call = record.Call(refused, 99, "SCMP_ARCH_X86_64")
        made.refuse(call, (ERRNO, 13), [1, 0x7F, 3, 0, 0, 0], f"/bin/{container}", "comm")
    return made


def load(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.fixture
def target(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path / "web.json"


def write(target: Path, made: record.Record, source: Any = None, anew: bool = False) -> None:
    files.check(str(target), anew)
    output = files.Output(str(target), anew, source)
    output.write(made, [])
    output.close()


def test_two_runs_in_one_file(target: Path) -> None:
    write(target, seen("a", "b", refused="c"))
    write(target, seen("b", "d", refused="c", container="db"))
    assert load(target)["syscalls"] == [{"names": ["a", "b", "d"], "action": ALLOW}]
    report = load(target.with_suffix(".report.json"))
    assert report["runs"] == 2 and report["containers"] == ["web", "db"]
    assert {call["name"]: call["count"] for call in report["calls"]} == {"a": 2, "b": 4, "d": 2}
    assert [(each["program"], each["count"]) for each in report["refused"]] == [("/bin/web", 1), ("/bin/db", 1)]
    assert sorted(path.name for path in target.parent.iterdir()) == ["web.json", "web.report.json"]
    write(target, seen("a"), anew=True)
    assert load(target)["syscalls"] == [{"names": ["a"], "action": ALLOW}]
    assert load(target.with_suffix(".report.json"))["runs"] == 1


def test_a_run_that_writes_often_counts_once(target: Path) -> None:
    output = files.Output(str(target), False, None)
    output.write(seen("a"), [])
    output.write(seen("a", "b"), [])
    output.close()
    report = load(target.with_suffix(".report.json"))
    assert report["runs"] == 1 and {call["name"]: call["count"] for call in report["calls"]} == {"a": 4, "b": 2}


def test_a_directory_that_another_recorder_holds(target: Path) -> None:
    import fcntl

    holder = os.open(target.parent, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    output = files.Output(str(target), False, None)
    with pytest.raises(BlockingIOError):
        output.write(seen("a"), [], patience=0)
    os.close(holder)
    output.write(seen("a"), [], patience=0)
    output.close()


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"defaultAction": 1}', '{"defaultAction": "x", "syscalls": [1]}', '{"syscalls": []}', "\xff"]
)
def test_what_is_no_profile_is_not_overwritten(target: Path, text: str) -> None:
    target.write_text(text)
    with pytest.raises(Error, match=r"cannot merge with .*web\.json"):
        write(target, seen("a"))
    assert target.read_text() == text
    write(target, seen("a"), anew=True)


def test_what_is_no_report_is_not_overwritten(target: Path) -> None:
    target.with_suffix(".report.json").write_text('{"version": 2}')
    with pytest.raises(Error, match=r"cannot merge with .*report\.json: not a report"):
        write(target, seen("a"))


def test_a_file_of_others_is_not_believed(target: Path) -> None:
    """It would widen the profile of who merges with it."""
    target.write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    target.chmod(0o666)
    with pytest.raises(Error, match="others can write to it"):
        write(target, seen("a"))


@pytest.mark.parametrize("anew", [True, False])
@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
@pytest.mark.parametrize("name", ["web.json", "web.report.json"])
def test_what_is_no_file_is_not_replaced(target: Path, anew: bool, kind: str, name: str) -> None:
    """It may be /dev/null."""
    place = target.with_name(name)
    if kind == "link":
        (target.parent / "other").write_text("{}")
        place.symlink_to("other")
    else:
        place.mkdir() if kind == "directory" else os.mkfifo(place)
    with pytest.raises(Error, match="not a regular file"):
        write(target, seen("a"), anew=anew)


def test_a_record_has_an_end() -> None:
    made = record.Record("x")
    for number in range(1200):
        call = record.Call(f"c{number}", number, "A")
        made.refuse(call, (ERRNO, 1), [0] * 6, "/x", "x")
        made.warn(str(number))
    assert (len(made.refused), made.more, len(made.warnings)) == (1000, 200, 100)


# The report.


def test_the_table(target: Path) -> None:
    source = {"defaultAction": ERRNO, "syscalls": [{"names": ["a", "b", "z"], "action": ALLOW}]}
    write(target, seen("a", "b", refused="c"), source)
    text = as_table(load(target.with_suffix(".report.json")))
    assert text == (
        f"{target}: 2 system calls, 1 refused, 1 allowed and not used (1 run)\n"
        "\n"
        "REFUSED  ARGUMENTS          OUTCOME  COUNT  PROGRAM          CONTAINER\n"
        "c        0x1, 0x7f, 0x3, …  EACCES       1  /bin/web (comm)  web\n"
        "\n"
        "CALLED  COUNT  PROGRAMS\n"
        "a           2  /bin/web\n"
        "b           2  /bin/web\n"
        "\n"
        "ALLOWED, AND NOT USED\n"
        "z\n"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "no such file"), ("{", "line 1"), ("[]", "not a report"), ('{"version": 1}', "not a report")],
)
def test_what_is_no_report_is_not_shown(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "r.json").write_text(text)
    with pytest.raises(Error, match=said):
        shown(str(tmp_path / "r.json"))


def test_the_table_shows_nothing_that_a_terminal_obeys(target: Path) -> None:
    write(target, seen("a", refused="c", container="\x1b[2J\n"))
    assert "\x1b" not in as_table(load(target.with_suffix(".report.json")))


def test_undo_without_a_note(tmp_path: Path) -> None:
    """Nothing there is fine, and so is a note of a recorder that is gone, even if another process has its pid now."""
    from gosudacon.plugins.learn.steps import StartRecorder

    context = Context(Spec({}, "x", "/b"), Host())
    context.state_dir = os.open(tmp_path, os.O_RDONLY)
    step = StartRecorder(profile="/p/web.json", anew=False)
    step.undo(context)
    for text in ("", "1\n", f"{os.getpid()}\n", "999999999\n", "x"):
        (tmp_path / "learn.note").write_text(text)
        step.undo(context)
    os.close(context.state_dir)
