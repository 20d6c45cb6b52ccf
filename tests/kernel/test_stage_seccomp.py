"""The seccomp stage's filters, loaded into scratch processes and judged by real system calls."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from gosudacon.api import START, Context, Host, Spec, Stage, Step
from gosudacon.base.errors import SyscallError
from gosudacon.linux import abi, process
from gosudacon.pipeline.plan import Plan, make
from gosudacon.pipeline.runner import run_step
from gosudacon.plugins.seccomp_stub import gosudacon_edit_spec
from gosudacon.stages.seccomp import SeccompStage
from gosudacon.stages.seccomp.steps import CompileSeccomp, LoadSeccomp
from tests.support.children import Ended, in_child

MACHINE = platform.machine()
GETPPID = {"x86_64": 110, "aarch64": 173}[MACHINE]
LSEEK = {"x86_64": 8, "aarch64": 62}[MACHINE]
EBADF, EPERM, ENOSYS, DENIED = 9, 1, 38, 77
SIGSYS = int(signal.SIGSYS)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def call(number: int, *arguments: int) -> int:
    """The errno of a raw system call, 0 if it succeeds."""
    ctypes.set_errno(0)
    result = _libc.syscall(ctypes.c_long(number), *(ctypes.c_ulong(value) for value in arguments))
    return ctypes.get_errno() if result == -1 else 0


def lseek(descriptor: int, offset: int, whence: int = 0) -> int:
    """errno of lseek(2) on a descriptor that is not open: EBADF when the filter lets it through."""
    return call(LSEEK, descriptor, offset, whence)


def plan(profile: Any, nnp: bool = False, stage: Stage | None = None, **settings: Any) -> list[Step]:
    if stage is None:
        stage = SeccompStage()
        stage.settings = {"cache": False, **settings}
    spec = Spec({"process": {"noNewPrivileges": nnp}, "linux": {"seccomp": profile}}, "c", "/b")
    return make([stage], spec, Host()).steps


def confine(steps: list[Step]) -> None:
    """Compile and load, as a container's two sides would."""
    context = Context(Spec({}, "c", "/b"), Host())
    for step in steps:
        run_step(step, context)


def under(profile: dict[str, Any], probe: Callable[[], Any], **options: Any) -> Any:
    """What ``probe`` says in a process under the profile's filter."""
    compile_filter, load = (step for step in plan(profile, **options) if isinstance(step, CompileSeccomp | LoadSeccomp))
    context = Context(Spec({}, "c", "/b"), Host())
    run_step(compile_filter, context)

    def child() -> Any:
        run_step(load, context)
        return probe()

    return in_child(child)


def denying(*rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": list(rules), **more}


def rule(name: str, action: str = "SCMP_ACT_ERRNO", *args: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"names": [name], "action": action, **({"args": list(args)} if args else {}), **more}


def condition(index: int, op: str, value: int, second: int = 0) -> dict[str, Any]:
    return {"index": index, "op": f"SCMP_CMP_{op}", "value": value, "valueTwo": second}


# Actions.


@pytest.mark.parametrize(("number", "error"), [(None, EPERM), (DENIED, DENIED), (0, 0)])
def test_errno(number: int | None, error: int) -> None:
    probe = denying(rule("lseek", errnoRet=number))
    assert under(probe, lambda: lseek(99, 0)) == error


def test_errno_as_the_default() -> None:
    names = ["write", "exit_group", "brk", "mmap", "munmap", "rt_sigaction", "futex", "close", "getppid"]
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": DENIED,
        "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}],
    }
    highest = 231 if MACHINE == "x86_64" else 222  # exit_group(2); mmap(2)
    asked = (LSEEK, GETPPID, highest, highest + 1, 100000)
    results = under(profile, lambda: [call(number, 99) if number != highest else None for number in asked])
    assert results == [DENIED, 0, None, ENOSYS, ENOSYS]


@pytest.mark.parametrize("action", ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"])
def test_deadly_actions(action: str) -> None:
    with pytest.raises(Ended) as caught:
        under(denying(rule("lseek", action)), lambda: lseek(99, 0))
    assert caught.value.status == -SIGSYS


def test_unknown_calls_under_kill_process() -> None:
    """Kill process as the default still answers ENOSYS for what the profile does not know."""
    names = ["write", "exit_group", "brk", "mmap", "munmap", "futex", "getppid", "close"]
    profile = {
        "defaultAction": "SCMP_ACT_KILL_PROCESS",
        "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}],
    }
    assert under(profile, lambda: [call(GETPPID), call(4000)]) == [0, ENOSYS]
    with pytest.raises(Ended) as caught:
        under(profile, lambda: lseek(99, 0))
    assert caught.value.status == -SIGSYS


@pytest.mark.parametrize(("action", "survives"), [("SCMP_ACT_KILL_THREAD", True), ("SCMP_ACT_KILL_PROCESS", False)])
def test_kill_takes_the_thread_or_the_process(action: str, survives: bool) -> None:
    def probe() -> bool:
        threading.Thread(target=lambda: lseek(99, 0), daemon=True).start()
        deadline = time.monotonic() + 10
        while len(os.listdir("/proc/self/task")) > 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        return len(os.listdir("/proc/self/task")) == 1

    if survives:
        assert under(denying(rule("lseek", action)), probe) is True
    else:
        with pytest.raises(Ended) as caught:
            under(denying(rule("lseek", action)), probe)
        assert caught.value.status == -SIGSYS


def test_trap_can_be_caught() -> None:
    def probe() -> list[int]:
        caught: list[int] = []
        signal.signal(signal.SIGSYS, lambda number, _: caught.append(number))
        lseek(99, 0)
        return caught

    assert under(denying(rule("lseek", "SCMP_ACT_TRAP")), probe) == [SIGSYS]


def test_trace_without_a_tracer_is_enosys() -> None:
    assert under(denying(rule("lseek", "SCMP_ACT_TRACE", errnoRet=5)), lambda: lseek(99, 0)) == ENOSYS


def test_log_lets_through() -> None:
    assert under(denying(rule("lseek", "SCMP_ACT_LOG")), lambda: lseek(99, 0)) == EBADF
    assert under({"defaultAction": "SCMP_ACT_LOG"}, lambda: [lseek(99, 0), call(4000)]) == [EBADF, ENOSYS]


# Arguments. The offset of lseek(2) is one of 64 bits.

BIG = (1 << 63) + 5


@pytest.mark.parametrize(
    ("op", "value", "second", "denied", "let_through"),
    [
        ("EQ", 5, 0, [5], [4, 6, 5 + (1 << 32)]),
        ("NE", 5, 0, [4, 6, 5 + (1 << 32)], [5]),
        ("LT", 5, 0, [0, 4], [5, 6, BIG]),
        ("LE", 5, 0, [0, 5], [6, 5 + (1 << 32), BIG]),
        ("GT", 5, 0, [6, 1 << 32, BIG], [0, 5]),
        ("GE", 5, 0, [5, 6, BIG], [0, 4]),
        ("GE", BIG, 0, [BIG, (1 << 64) - 1], [BIG - 1, 0]),
        ("EQ", (1 << 64) - 1, 0, [(1 << 64) - 1], [(1 << 32) - 1, 0]),
        ("MASKED_EQ", 0xF0F0, 0x1010, [0x1010, 0x1F1F, (1 << 40) | 0x1010], [0, 0x1000, 0x2010]),
        ("MASKED_EQ", 1 << 40, 1 << 40, [1 << 40, (1 << 40) + 7], [7, 1 << 41]),
        ("MASKED_EQ", 0x7E020000, 0, [0, 0x11], [0x20000, 0x7E020000]),
    ],
)
def test_operators(op: str, value: int, second: int, denied: list[int], let_through: list[int]) -> None:
    profile = denying(rule("lseek", "SCMP_ACT_ERRNO", condition(1, op, value, second), errnoRet=DENIED))
    results = under(profile, lambda: [lseek(99, offset) for offset in (*denied, *let_through)])
    assert results == [DENIED] * len(denied) + [EBADF] * len(let_through)


def test_conditions_on_several_arguments() -> None:
    """Conditions on different arguments must all hold."""
    conditions = (condition(0, "EQ", 99), condition(1, "GT", 5), condition(2, "NE", 1))
    profile = denying(rule("lseek", "SCMP_ACT_ERRNO", *conditions, errnoRet=DENIED))
    asked = ((99, 6, 0), (98, 6, 0), (99, 5, 0), (99, 6, 1))
    assert under(profile, lambda: [lseek(*each) for each in asked]) == [DENIED, EBADF, EBADF, EBADF]


def test_conditions_on_one_argument() -> None:
    """Two conditions on one argument are alternatives."""
    conditions = (condition(1, "EQ", 5), condition(1, "EQ", 7), condition(2, "EQ", 1))
    profile = denying(rule("lseek", "SCMP_ACT_ERRNO", *conditions, errnoRet=DENIED))
    asked = ((99, 5, 0), (99, 7, 0), (99, 0, 1), (99, 6, 0))
    assert under(profile, lambda: [lseek(*each) for each in asked]) == [DENIED, DENIED, DENIED, EBADF]


# Architectures.


def ia32(number: int) -> int:
    """The result of a system call by the 32-bit entry, on any machine of the x86_64 kind."""
    code = bytes.fromhex("53") + b"\xb8" + number.to_bytes(4, "little") + bytes.fromhex("cd805bc3")
    memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    return int(ctypes.CFUNCTYPE(ctypes.c_int)(address)())


x86_64_only = pytest.mark.skipif(MACHINE != "x86_64", reason="needs a machine of the x86_64 kind")
GETPPID_32 = 64


@x86_64_only
def test_a_listed_architecture_has_its_own_rules() -> None:
    profile = denying(rule("getppid", errnoRet=DENIED), architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"])
    assert under(profile, lambda: [call(GETPPID), ia32(GETPPID_32), ia32(20) > 0]) == [DENIED, -DENIED, True]


@x86_64_only
@pytest.mark.parametrize("listed", [["SCMP_ARCH_X86_64"], [], None])
def test_programs_of_other_architectures_are_killed(listed: list[str] | None) -> None:
    with pytest.raises(Ended) as caught:
        under(denying(rule("getppid"), architectures=listed), lambda: ia32(20))
    assert caught.value.status == -SIGSYS
    with pytest.raises(Ended) as caught:
        under(denying(rule("getppid"), architectures=listed), lambda: call(0x40000000 | 39))
    assert caught.value.status == -SIGSYS


@x86_64_only
def test_x32() -> None:
    profile = denying(rule("getppid", errnoRet=DENIED), architectures=["SCMP_ARCH_X32"])
    assert under(profile, lambda: [call(0x40000000 | GETPPID), call(GETPPID)]) == [DENIED, DENIED]


# Loading.


def status_field(name: str) -> str:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))


def test_no_new_privileges_is_left_alone() -> None:
    def probe() -> list[str]:
        return [status_field("NoNewPrivs"), status_field("Seccomp")]

    assert under(denying(rule("lseek")), probe) == ["0", "2"]


def test_without_privileges_it_needs_no_new_privileges() -> None:
    def load(nnp: bool) -> Any:
        steps = plan(denying(rule("lseek", errnoRet=DENIED)), nnp=nnp)

        def child() -> int:
            os.setresuid(1000, 1000, 1000)
            if nnp:
                process.set_no_new_privs()
            confine(steps)
            return lseek(99, 0)

        return in_child(child)

    assert load(True) == DENIED
    with pytest.raises(Ended, match="permission denied"):
        load(False)


def test_flags_that_this_kernel_refuses_are_left_out() -> None:
    from gosudacon.linux import seccomp

    context = Context(Spec({}, "c", "/b"), Host())
    plan(denying(rule("lseek", errnoRet=DENIED)))[0].run(context)

    def child() -> int:
        # The kernel takes WAIT_KILLABLE_RECV only together with a listener: EINVAL, as from one that is too old.
        everything = seccomp.FLAG_WAIT_KILLABLE_RECV | seccomp.FLAG_SPEC_ALLOW | seccomp.FLAG_LOG | seccomp.FLAG_TSYNC
        seccomp.load(context.seccomp_program, everything)
        return lseek(99, 0)

    assert in_child(child) == DENIED


def test_a_bad_program_is_an_error() -> None:
    from gosudacon.linux import seccomp

    with pytest.raises(SyscallError, match="seccomp SECCOMP_SET_MODE_FILTER: invalid argument"):
        seccomp.load(bytes(8), seccomp.FLAG_SPEC_ALLOW)


_execve = abi.syscall("execve", abi.PATH, abi.BUFFER, abi.BUFFER)


class Exec(Step):
    """Stands for the execve(2) of the handoff stage, here of a file that is not there."""

    phase = START
    rank = 100

    def describe(self) -> str:
        return "execve"

    def run(self, context: Context) -> None:
        try:
            _execve(b"/nonexistent", None, None)
        finally:
            os._exit(DENIED)


def test_between_load_and_execve_nothing_is_called() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_KILL_PROCESS",
        "syscalls": [{"names": ["execve", "exit_group"], "action": "SCMP_ACT_ALLOW"}],
    }

    def child() -> NoReturn:
        context = Context(Spec({}, "c", "/b"), Host())
        process.set_no_new_privs()
        steps = Plan([Exec(), *plan(profile, nnp=True)]).steps
        assert [type(step).__name__ for step in steps] == ["CompileSeccomp", "LoadSeccomp", "Exec"]
        for step in steps:
            run_step(step, context)
        raise AssertionError

    with pytest.raises(Ended) as caught:
        in_child(child)
    assert caught.value.status == DENIED


def test_the_stub_denies_nothing() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_KILL_PROCESS",
        "syscalls": [rule("lseek", "SCMP_ACT_TRAP"), rule("write", "SCMP_ACT_ALLOW")],
        "architectures": [],
    }

    def probe() -> list[int]:
        return [lseek(99, 0), call(GETPPID), ia32(20) > 0 if MACHINE == "x86_64" else True]

    config: Any = {"linux": {"seccomp": profile}}
    edit = gosudacon_edit_spec(Spec(config, "c", "/b"))
    assert edit is not None
    assert under(edit.applied(config)["linux"]["seccomp"], probe) == [EBADF, 0, True]
