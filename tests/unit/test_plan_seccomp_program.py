"""The programs that profiles compile to, asked about any architecture without being loaded; needs libseccomp."""

from __future__ import annotations

from typing import Any

import pytest

from gosudacon.api import Error
from gosudacon.stages.seccomp import ARCHITECTURES, compiler, enosys
from gosudacon.stages.seccomp.binding import Filter, Library
from gosudacon.stages.seccomp.steps import library
from tests.support.bpf import ALLOW, ERRNO, KILL_PROCESS, KILL_THREAD, LOG, answer

ENOSYS = ERRNO | 38
X86_64, X86, X32 = 0xC000003E, 0x40000003, 0x4000003E
AARCH64, ARM, S390X, RISCV64 = 0xC00000B7, 0x40000028, 0x80000016, 0xC00000F3
NOWHERE = 0xC0001234  # an architecture that is in no filter


def build(profile: Any, others: str = "SCMP_ACT_KILL") -> bytes:
    return compiler.build(profile, others, library())


def number(name: str, architecture: int) -> int:
    scratch = Filter(Library(library()), ALLOW)
    try:
        return scratch.number_on(architecture, name)
    finally:
        scratch.release()


def test_stub_answers_enosys() -> None:
    """The stub answers ENOSYS above what the profile knows."""
    program = enosys.stub({X86_64: 300, X32: 0x40000123, ARM: 100, S390X: 50}) + bytes.fromhex("060000000000ff7f")
    cases = {
        (X86_64, 300): ALLOW,
        (X86_64, 301): ENOSYS,
        (X86_64, 0x3FFFFFFF): ENOSYS,
        (X86_64, 0x40000123): ALLOW,
        (X86_64, 0x40000124): ENOSYS,
        (X86_64, 0xFFFFFFFF): ENOSYS,
        (ARM, 100): ALLOW,
        (ARM, 101): ENOSYS,
        (S390X, 0): ENOSYS,
        (S390X, 50): ALLOW,
        (S390X, 51): ENOSYS,
        (NOWHERE, 999): ALLOW,  # is for the filter behind to judge
    }
    assert {case: answer(program, *case) for case in cases} == cases


def test_x32_without_profile() -> None:
    """X32 is left to the filter when the profile has none."""
    program = enosys.stub({X86_64: 300}) + bytes.fromhex("060000000000ff7f")
    assert answer(program, X86_64, 0x40000000) == ALLOW
    assert answer(program, X86_64, 301) == ENOSYS
    assert enosys.stub({}) == enosys.stub({X32: 0x40000001}) == b""


@pytest.mark.parametrize(
    ("default", "wanted"),
    [
        (ALLOW, False),
        (LOG, False),
        (0x7FF00001, False),
        (ENOSYS, False),
        (ERRNO | 1, True),
        (KILL_PROCESS, True),
        (0, True),
    ],
)
def test_the_stub_is_for_defaults_that_deny(default: int, wanted: bool) -> None:
    assert enosys.wanted(default) is wanted


def test_every_architecture_gets_its_own_numbers() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_KILL_PROCESS",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        "syscalls": [{"names": ["getppid", "socketcall"], "action": "SCMP_ACT_ALLOW"}],
    }
    program = build(profile)
    for architecture in (X86_64, X86, X32, AARCH64, ARM):
        kernel = X86_64 if architecture == X32 else architecture
        known = number("getppid", architecture)
        assert answer(program, kernel, known) == ALLOW
        assert answer(program, kernel, known - 1) == KILL_PROCESS
        assert answer(program, kernel, known + 1000) == ENOSYS
    assert answer(program, X86, 102) == ALLOW  # socketcall(2), which the others do not have
    assert answer(program, RISCV64, 93) == KILL_THREAD


def test_architectures_that_are_not_listed() -> None:
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}
    native = Library(library()).native_architecture()
    for others, value in (("SCMP_ACT_KILL", KILL_THREAD), ("SCMP_ACT_LOG", LOG), ("SCMP_ACT_ERRNO", ERRNO | 1)):
        program = build(profile, others)
        assert answer(program, native, 0) == ALLOW
        assert answer(program, NOWHERE, 0) == value


def test_architecture_names() -> None:
    """Of the other byte order they are refused as such; what this libseccomp is too old for as invalid."""
    for name in ARCHITECTURES:
        profile = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": [name], "syscalls": []}
        try:
            build(profile)
        except Error as error:
            assert error.call == "seccomp_arch_add"
            assert name in error.message


@pytest.mark.parametrize(
    ("action", "number_", "value"),
    [
        ("SCMP_ACT_KILL", None, KILL_THREAD),
        ("SCMP_ACT_KILL_THREAD", None, KILL_THREAD),
        ("SCMP_ACT_KILL_PROCESS", None, KILL_PROCESS),
        ("SCMP_ACT_TRAP", None, 0x00030000),
        ("SCMP_ACT_ERRNO", None, ERRNO | 1),
        ("SCMP_ACT_ERRNO", 0, ERRNO),
        ("SCMP_ACT_ERRNO", 4094, ERRNO | 4094),
        ("SCMP_ACT_TRACE", None, 0x7FF00001),
        ("SCMP_ACT_TRACE", 0xFFFF, 0x7FF0FFFF),
        ("SCMP_ACT_NOTIFY", None, 0x7FC00000),
        ("SCMP_ACT_LOG", None, LOG),
        ("SCMP_ACT_ALLOW", None, ALLOW),
    ],
)
def test_actions(action: str, number_: int | None, value: int) -> None:
    default = "SCMP_ACT_ERRNO" if action == "SCMP_ACT_ALLOW" else "SCMP_ACT_ALLOW"
    rule = {"names": ["getppid"], "action": action, "errnoRet": number_}
    program = build({"defaultAction": default, "syscalls": [rule]})
    native = Library(library()).native_architecture()
    assert answer(program, native, number("getppid", native)) == value
    if action not in ("SCMP_ACT_NOTIFY", "SCMP_ACT_ALLOW"):
        as_default = build({"defaultAction": action, "defaultErrnoRet": number_, "syscalls": []})
        assert answer(as_default, native, 0) == value


def test_skipped_rules() -> None:
    """Unknown names and the default action are skipped."""
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {"names": ["no_such_call", "getppid"], "action": "SCMP_ACT_ERRNO"},
            {"names": ["getpid"], "action": "SCMP_ACT_ALLOW"},
        ],
    }
    native = Library(library()).native_architecture()
    program = build(profile)
    assert answer(program, native, number("getppid", native)) == ERRNO | 1
    assert answer(program, native, number("getpid", native)) == ALLOW


def test_a_contradiction_is_an_error() -> None:
    condition = [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]
    rules = [{"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": n, "args": condition} for n in (1, 2)]
    with pytest.raises(Error, match="two seccomp rules for personality with the same arguments"):
        build({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})
    build({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rules[0], rules[0]]})


def test_profile_the_kernel_refuses() -> None:
    """A profile that the kernel would not take is an error."""
    conditions = [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"} for value in range(5000)]
    rule = {"names": ["personality"], "action": "SCMP_ACT_ERRNO", "args": conditions}
    with pytest.raises(Error, match="the kernel takes 4096"):
        build({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})


def test_a_missing_library_is_an_error_with_advice() -> None:
    with pytest.raises(Error, match=r"libseccomp not found: /nowhere/libseccomp\.so\.2") as caught:
        library("/nowhere/libseccomp.so.2")
    assert "install libseccomp" in caught.value.hint


def test_an_interpreter_that_has_libraries_of_its_own(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the host may be made for another C library than the one it has brought along."""
    (tmp_path / "lib").mkdir()
    own = tmp_path / "lib/libseccomp.so.2"
    monkeypatch.setattr("sys.base_prefix", str(tmp_path))
    assert library() != str(own)
    own.write_bytes(b"")
    assert library() == str(own)
    assert library("/dev/null") == "/dev/null"


def test_what_is_no_library_is_an_error(tmp_path: Any) -> None:
    path = tmp_path / "libseccomp.so.2"
    path.write_text("not ELF")
    with pytest.raises(Error, match="cannot load libseccomp"):
        compiler.build({"defaultAction": "SCMP_ACT_ALLOW"}, "SCMP_ACT_KILL", str(path))


KILL, LOGGED, DENIED, ALLOWED = "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_LOG", "SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW"


@pytest.mark.parametrize(
    ("default", "actions", "value"),
    [
        (ALLOWED, [(LOGGED, None), (DENIED, 2)], ERRNO | 2),
        (ALLOWED, [(DENIED, 2), (LOGGED, None), (ALLOWED, None)], ERRNO | 2),
        (ALLOWED, [(DENIED, 2), (DENIED, 3)], ERRNO | 2),
        (ALLOWED, [(DENIED, 2), ("SCMP_ACT_TRAP", None), (KILL, None)], KILL_PROCESS),
        (LOGGED, [(ALLOWED, None), (LOGGED, None)], LOG),
        (DENIED, [(ALLOWED, None), (DENIED, None)], ERRNO | 1),
        (DENIED, [(ALLOWED, None), (KILL, None)], KILL_PROCESS),
        (DENIED, [(ALLOWED, None), (DENIED, 38)], ALLOW),
        (DENIED, [(DENIED, 38), (ALLOWED, None)], ERRNO | 38),
    ],
)
def test_the_strictest_of_several_rules_counts(default: str, actions: list[tuple[str, Any]], value: int) -> None:
    """But with a default of ERRNO another errno denies nothing that is allowed before: Podman's profile is such."""
    rules = [{"names": ["getppid"], "action": action, "errnoRet": errno} for action, errno in actions]
    native = Library(library()).native_architecture()
    program = build({"defaultAction": default, "syscalls": rules})
    assert answer(program, native, number("getppid", native)) == value


def test_names_that_cannot_be_held_back() -> None:
    overlooked: list[str] = []
    rules: Any = [
        {"names": ["no_such_call"], "action": ALLOWED},
        {"names": ["no_such_call", "getppid", "nor_this"], "action": DENIED},
    ]
    compiler.build({"defaultAction": LOGGED, "syscalls": rules}, KILL, library(), overlooked)
    where = "linux.seccomp.syscalls[1].names: libseccomp does not know"
    assert overlooked == [f"{where} {name}, which is not held back" for name in ("no_such_call", "nor_this")]
    with pytest.raises(Error, match="would block nothing") as caught:
        build({"defaultAction": ALLOWED, "syscalls": [{"names": ["no_such_call"], "action": DENIED}]})
    assert caught.value.where == "linux.seccomp.syscalls[0].names"
    build({"defaultAction": ALLOWED, "syscalls": [{"names": ["no_such_call"], "action": LOGGED}]})
    build({"defaultAction": DENIED, "syscalls": [{"names": ["no_such_call"], "action": DENIED, "errnoRet": 38}]})
