"""Whether a profile allows a system call, decided from its rules before anything is compiled.

Cautious: what libseccomp might understand in two ways counts as denied.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from gosudacon.api import Spec
    from gosudacon.schema.types import Arg, Seccomp

_CLONE_PARENT = 0x8000
_ALLOWING = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY")
# What a process does between an early filter and execve(2).
_ALWAYS = ("read", "write", "close", "exit_group", "execve", "brk", "mmap", "munmap", "mremap")
_OF_CREATE = ("accept4", "getpid")
_OF_BIRTH = ("setsid",)
_OF_OTHERS = ("prctl",)  # who is not born has asked to die with the runtime, and takes that back
_OF_A_TERMINAL = ("ioctl",)
_OF_HELD_CAPABILITIES = ("capget", "capset")
# Of a startContainer hook, which is run and waited for.
_OF_HOOKS = (
    *("pipe2", "fcntl", "dup2", "setpgid", "close_range", "rt_sigaction", "rt_sigprocmask", "prctl", "getpid"),
    *("getppid", "pidfd_open", "poll", "wait4", "kill", "gettid", "ioctl", "set_robust_list", "lseek", "memfd_create"),
)
_FORK = 0x1200011  # CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID and SIGCHLD: fork(2) of the GNU C library


def allow_what_follows(spec: Spec, profile: Seccomp, holding: bool) -> bool:
    """Whether a process can be born by its last fork if it is to, wait, and execute its program under the profile.

    ``holding``: it holds a capability that it has to give up under the filter.
    """
    needed = [*_ALWAYS]
    if spec.target is None:
        needed += _OF_CREATE
    if holding:
        needed += _OF_HELD_CAPABILITIES
    if spec.target is None and (spec.config.get("hooks") or {}).get("startContainer"):
        needed += _OF_HOOKS
        if not allows(profile, "clone", (_FORK, 0, 0, 0, 0)):
            return False
    needed += _OF_BIRTH if spec.joins_pid_namespace else _OF_OTHERS
    if spec.joins_pid_namespace:
        if spec.process.get("terminal"):
            needed += _OF_A_TERMINAL
        if not allows(profile, "clone", (_CLONE_PARENT, 0, 0, 0, 0)):
            return False
    return all(allows(profile, name) for name in needed)


def allows(profile: Seccomp, name: str, arguments: Sequence[int] | None = None) -> bool:
    """Whether the profile lets a system call pass: with ``arguments``, or, for None, with any."""
    allowed = profile.get("defaultAction") in _ALLOWING
    for rule in profile.get("syscalls") or ():
        if name not in rule["names"]:
            continue
        conditions = rule.get("args") or ()
        if rule["action"] in _ALLOWING:
            allowed = allowed or _certain(conditions, arguments)
        elif _possible(conditions, arguments):
            return False
    return allowed


def _certain(conditions: Sequence[Arg], arguments: Sequence[int] | None) -> bool:
    if arguments is None:
        return not conditions
    return all(_holds(condition, arguments) for condition in conditions)


def _possible(conditions: Sequence[Arg], arguments: Sequence[int] | None) -> bool:
    """Any of several conditions may be enough: those on one argument are alternatives."""
    if arguments is None or not conditions:
        return True
    return any(_holds(condition, arguments) for condition in conditions)


def _holds(condition: Arg, arguments: Sequence[int]) -> bool:
    index: int = condition["index"]
    if index >= len(arguments):
        return False
    have = arguments[index]
    value: int = condition["value"]
    two: int = condition.get("valueTwo") or 0
    outcomes: dict[str, bool] = {
        "SCMP_CMP_NE": have != value,
        "SCMP_CMP_LT": have < value,
        "SCMP_CMP_LE": have <= value,
        "SCMP_CMP_EQ": have == value,
        "SCMP_CMP_GE": have >= value,
        "SCMP_CMP_GT": have > value,
        "SCMP_CMP_MASKED_EQ": have & value == two & value,
    }
    return outcomes[str(condition["op"])]
