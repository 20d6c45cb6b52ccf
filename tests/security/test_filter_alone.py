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
    *(
        "getresgid",
        "getresuid",
        "gettid",
        "getuid",
        "ioctl",
        "keyctl",
        "kill",
        "lseek",
        "madvise",
        "mmap",
        "mount",
        "mprotect",
    ),
    *(
        "mremap",
        "munmap",
        "newfstatat",
        "open",
        "openat",
        "openat2",
        "personality",
        "pidfd_open",
        "pipe2",
        "poll",
        "ppoll",
        "prctl",
    ),
    *("pread64", "prlimit64", "read", "readlink", "readlinkat", "recvfrom", "recvmsg", "rseq", "rt_sigaction"),
    *("rt_sigprocmask", "rt_sigreturn", "sched_setaffinity", "seccomp", "sendmsg", "sendto", "set_robust_list"),
    *(
        "setgroups",
        "setns",
        "setpgid",
        "setresgid",
        "setresuid",
        "setsid",
        "sigaltstack",
        "stat",
        "statx",
        "sysinfo",
        "umask",
    ),
    *("uname", "unshare", "vfork", "wait4", "write", "writev"),
]
#: Of these, what it takes to run a hook and to wait for it, and what is allowed as a rule.
OF_HOOKS = ["clone", "fcntl", "gettid", "ioctl", "pidfd_open", "pipe2", "poll", "setpgid", "wait4"]
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


@pytest.mark.timeout(600)
@pytest.mark.parametrize("nnp", [False, True], ids=IDS)
@pytest.mark.parametrize("action", ACTIONS)
def test_hooks(runtime: Runtime, bundle: Bundle, program: Path, session_scratch: Path, action: str, nnp: bool) -> None:
    """startContainer hooks are run and waited for without a system call that the profile has to allow."""
    hook = programs.build("exit", session_scratch / "exit-0", "-static", "-nostdlib", "-DSTATUS=0L")
    shutil.copy(hook, bundle.rootfs / "bin/hook")
    bundle.set("process.args", [put(bundle, program)])
    bundle.set("hooks", {"startContainer": [{"path": "/bin/hook", "timeout": 60}, {"path": "/bin/hook"}]})
    wrong = {}
    for names in ([name] for name in OF_HOOKS):
        result = runtime.run(denied(bundle, names, action, nnp), check=False)
        if result.returncode != STATUS:
            wrong[names[0]] = (result.returncode, result.stderr)
    assert wrong == {}
    assert runtime.run(denied(bundle, CALLS, action, nnp), check=False).returncode == STATUS


@pytest.mark.parametrize("joined", [False, True], ids=["own pid namespace", "joined"])
@pytest.mark.parametrize("early", [False, True], ids=["late", "early"])
def test_hooks_are_under_the_filter(runtime: Runtime, make_bundle: Bundles, joined: bool, early: bool) -> None:
    """Wherever it is loaded: what it denies is denied to them."""
    first, bundle = make_bundle(), make_bundle("exit 7")
    if joined:
        runtime.boot(first)
        bundle.add_namespace("pid", f"/proc/{runtime.pid(first)}/ns/pid")
    script = "grep Seccomp: /proc/self/status > /seen; mkdir /made 2>> /seen; echo $? >> /seen"
    bundle.set("hooks", {"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]})
    names = ["mkdir", "mkdirat", *([] if early else ["setsid", "prctl", "capset"])]
    assert runtime.run(denied(bundle, names, "EPERM", nnp=False), check=False).returncode == STATUS
    seen = (bundle.rootfs / "seen").read_text()
    assert "Seccomp:\t2" in seen and "Operation not permitted" in seen and seen.endswith("1\n")
