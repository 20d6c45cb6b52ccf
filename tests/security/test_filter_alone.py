"""Profiles that refuse what a runtime does: behind its filter a process of ours needs execve(2) and nothing else.

Each system call that init or the process of exec makes anyhow is denied singly, in three ways.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.security import programs
from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import Runtime

pytestmark = needs("compiler")

Bundles = Callable[..., Bundle]

#: What Python, the C library and the steps between the compiled filter and execve(2) call; execve(2) is left out.
CALLS = [
    *("accept", "accept4", "access", "arch_prctl", "brk", "capget", "capset", "chdir", "clock_gettime", "clone"),
    *("clone3", "close", "close_range", "dup2", "dup3", "epoll_wait", "faccessat", "faccessat2", "fchdir", "fchown"),
    *("fcntl", "fork", "fstat", "futex", "getcwd", "getegid", "geteuid", "getgid", "getpid", "getppid", "getrandom"),
    *("getresgid", "getresuid", "gettid", "getuid", "ioctl", "keyctl", "lseek", "madvise", "mmap", "mount", "mprotect"),
    *("mremap", "munmap", "newfstatat", "open", "openat", "openat2", "personality", "pipe2", "poll", "ppoll", "prctl"),
    *("pread64", "prlimit64", "read", "readlink", "readlinkat", "recvfrom", "recvmsg", "rseq", "rt_sigaction"),
    *("rt_sigprocmask", "rt_sigreturn", "sched_setaffinity", "seccomp", "sendmsg", "sendto", "set_robust_list"),
    *("setgroups", "setns", "setresgid", "setresuid", "setsid", "sigaltstack", "stat", "statx", "sysinfo", "umask"),
    *("uname", "unshare", "vfork", "wait4", "write", "writev"),
]
ACTIONS: dict[str, dict[str, object]] = {
    "EPERM": {"action": "SCMP_ACT_ERRNO", "errnoRet": 1},
    "ENOSYS": {"action": "SCMP_ACT_ERRNO", "errnoRet": 38},
    "kill": {"action": "SCMP_ACT_KILL_PROCESS"},
}
STATUS = 7
IDS = ["with capabilities", "no new privileges"]


@pytest.fixture(scope="session")
def program(session_scratch: Path) -> Path:
    """A program that makes one system call, exit(2) with `STATUS`."""
    return programs.build("exit", session_scratch / "exit", "-static", "-nostdlib")


def put(bundle: Bundle, program: Path) -> str:
    """Put it into the bundle's image; returns the path there."""
    target = bundle.rootfs / "bin/exit"
    shutil.copy(program, target)
    return "/bin/exit"


def denied(bundle: Bundle, names: list[str], action: str, nnp: bool) -> Bundle:
    rule: dict[str, object] = {"names": names, **ACTIONS[action]}
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    return bundle.set("process.noNewPrivileges", nnp).set("linux.seccomp", profile)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("nnp", [False, True], ids=IDS)
@pytest.mark.parametrize("action", ACTIONS)
def test_a_container(runtime: Runtime, bundle: Bundle, program: Path, action: str, nnp: bool) -> None:
    bundle.set("process.args", [put(bundle, program)])
    wrong = {}
    for name in CALLS:
        result = runtime.run(denied(bundle, [name], action, nnp), check=False)
        if result.returncode != STATUS:
            wrong[name] = (result.returncode, result.stderr)
    assert wrong == {}


@pytest.mark.parametrize("nnp", [False, True], ids=IDS)
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("names", [[name] for name in ("read", "write", "clone", "setsid", "mmap", "capset")] + [CALLS])
def test_exec(runtime: Runtime, bundle: Bundle, program: Path, names: list[str], action: str, nnp: bool) -> None:
    """The container's own process is there already, without a filter."""
    path = put(bundle, program)
    runtime.boot(bundle)
    config = runtime.root / bundle.id / "config.json"
    denied(bundle, names, action, nnp)
    config.write_bytes((bundle.path / "config.json").read_bytes())
    result = runtime.call("exec", bundle.id, path, check=False)
    assert result.returncode == STATUS, result


@pytest.mark.parametrize("nnp", [False, True], ids=IDS)
@pytest.mark.parametrize("joined", [False, True], ids=["own pid namespace", "joined"])
def test_everything_but_execve(runtime: Runtime, make_bundle: Bundles, program: Path, joined: bool, nnp: bool) -> None:
    """In the three steps of create, start and delete, too, where the process waits for start."""
    first, second = make_bundle(), make_bundle()
    runtime.boot(first)
    if joined:
        second.add_namespace("pid", f"/proc/{runtime.pid(first)}/ns/pid")
    second.set("process.args", [put(second, program)])
    runtime.create(denied(second, CALLS, "kill", nnp))
    pid = runtime.pid(second)
    runtime.start(second)
    assert runtime.wait(pid) == STATUS
