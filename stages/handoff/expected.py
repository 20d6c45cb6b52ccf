"""What the steps of ``handoff`` expect the kernel to show of init afterwards."""

from __future__ import annotations

from gosudacon.api import Expectation, Host, Spec
from gosudacon.linux import capability, sched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.api import Table
    from gosudacon.stages.handoff import confine, execute

_CAPS = "process.capabilities"


def _oom_score(step: confine.SetOomScoreAdj, spec: Spec, host: Host) -> Iterator[Expectation]:
    yield Expectation(step.where, "oom-score", step.value)


def _keyring(step: confine.JoinSessionKeyring, spec: Spec, host: Host) -> Iterator[Expectation]:
    yield Expectation("session keyring", "keyring", step.name)


def _affinity(step: confine.ResetAffinity, spec: Spec, host: Host) -> Iterator[Expectation]:
    yield Expectation("CPU affinity", "affinity", "all CPUs of the cpuset")


def _scheduler(step: confine.SetScheduler, spec: Spec, host: Host) -> Iterator[Expectation]:
    asked: dict[str, object] = {"policy": step.policy}
    if step.policy in ("SCHED_FIFO", "SCHED_RR"):
        asked["priority"] = step.priority
    elif step.policy == "SCHED_DEADLINE":
        asked.update(runtime=step.runtime, deadline=step.deadline, period=step.period or step.deadline)
    elif step.policy in ("SCHED_OTHER", "SCHED_BATCH"):
        asked["nice"] = step.nice
    yield Expectation(step.where, "scheduler", asked)


def _io_priority(step: confine.SetIoPriority, spec: Spec, host: Host) -> Iterator[Expectation]:
    yield Expectation(step.where, "io-priority", [step.io_class, step.priority])


def _personality(step: confine.SetPersonality, spec: Spec, host: Host) -> Iterator[Expectation]:
    yield Expectation(step.where, "personality", sched.DOMAINS[step.domain])


def _memory_policy(step: confine.SetMemoryPolicy, spec: Spec, host: Host) -> Iterator[Expectation]:
    yield Expectation(step.where, "memory-policy", [step.mode, step.flags, step.nodes])


def _apparmor(step: confine.SetApparmorProfile, spec: Spec, host: Host) -> Iterator[Expectation]:
    yield Expectation(step.where, "label", step.profile, "apparmor")


def _selinux(step: confine.SetSelinuxLabel, spec: Spec, host: Host) -> Iterator[Expectation]:
    yield Expectation(step.where, "label", step.label, "selinux")


def _umask(step: confine.SetUmask, spec: Spec, host: Host) -> Iterator[Expectation]:
    yield Expectation(step.where, "umask", step.umask & 0o777)


def _no_new_privileges(step: confine.SetNoNewPrivileges, spec: Spec, host: Host) -> Iterator[Expectation]:
    yield Expectation(step.where, "no-new-privileges", True)


def _identity(step: confine.SetIdentity, spec: Spec, host: Host) -> Iterator[Expectation]:
    yield Expectation("process.user.uid", "ids", step.uid, "Uid")
    yield Expectation("process.user.gid", "ids", step.gid, "Gid")
    if step.groups is not None:
        yield Expectation("process.user.additionalGids", "groups", step.groups)
    if step.sets is not None:
        yield Expectation(f"{_CAPS}.bounding", "capabilities", capability.mask(step.sets["bounding"]), "CapBnd")


def _capabilities(step: confine.SetCapabilities, spec: Spec, host: Host) -> Iterator[Expectation]:
    """What execve(2) makes of the sets (capabilities(7)): root gets what is in its bounding set, as far as
    no_new_privs allows; any other user keeps the ambient set."""
    sets = {kind: capability.mask(names) for kind, names in step.sets.items()}
    uid = (spec.process.get("user") or {}).get("uid") or 0
    ambient = sets["ambient"] & sets["permitted"] & sets["inheritable"]
    after = ambient
    if uid == 0:
        after = sets["bounding"] | sets["inheritable"]
        if spec.process.get("noNewPrivileges"):
            after &= sets["permitted"]
        after |= ambient
    yield Expectation(f"{_CAPS}.permitted", "capabilities", after, "CapPrm")
    yield Expectation(f"{_CAPS}.effective", "capabilities", after, "CapEff")
    yield Expectation(f"{_CAPS}.inheritable", "capabilities", sets["inheritable"], "CapInh")
    yield Expectation(f"{_CAPS}.ambient", "capabilities", ambient, "CapAmb")


def _nothing_inherited(step: confine.DropInheritedCapabilities, spec: Spec, host: Host) -> Iterator[Expectation]:
    yield Expectation(f"{_CAPS}.inheritable", "capabilities", 0, "CapInh")
    yield Expectation(f"{_CAPS}.ambient", "capabilities", 0, "CapAmb")


def _rlimits(step: execute.SetRlimits, spec: Spec, host: Host) -> Iterator[Expectation]:
    for index, (kind, soft, hard) in enumerate(step.limits):
        yield Expectation(f"{step.where}[{index}]", "rlimit", [soft, hard], str(kind))


def _program(step: execute.Execve, spec: Spec, host: Host) -> Iterator[Expectation]:
    yield Expectation("process.args", "program", [str(step.args[0])])


def _directory(step: confine.ChangeDirectory, spec: Spec, host: Host) -> Iterator[Expectation]:
    yield Expectation(step.where, "directory", step.cwd)


def _descriptors(step: execute.CloseDescriptors, spec: Spec, host: Host) -> Iterator[Expectation]:
    yield Expectation("open descriptors", "descriptors", step.first)


TABLE: Table = {
    "Listen": "the socket in the state directory is gone when the container has started",
    "CheckDescriptors": "it only looks",
    "SetOomScoreAdj": _oom_score,
    "JoinSessionKeyring": _keyring,
    "ResetAffinity": _affinity,
    "SetAffinity": "it is of a process that exec has started",
    "SetScheduler": _scheduler,
    "SetIoPriority": _io_priority,
    "SetPersonality": _personality,
    "SetMemoryPolicy": _memory_policy,
    "SetApparmorProfile": _apparmor,
    "SetSelinuxLabel": _selinux,
    "FindHome": "the environment is the process's own memory, and says what that wants it to say",
    "SetUmask": _umask,
    "SetNoNewPrivileges": _no_new_privileges,
    "OwnStdio": "what standard input and output are is the caller's business, and they may have been closed since",
    "SetIdentity": _identity,
    "ChangeDirectory": _directory,
    "ChangeDirectoryAsUser": "seen with the step that enters the directory first",
    "SetCapabilities": _capabilities,
    "DropInheritedCapabilities": _nothing_inherited,
    "SetRlimits": _rlimits,
    "LookUp": "it only looks",
    "WaitForStart": "a moment, and nothing that stays",
    "RestoreSignals": "the program sets its own signal handlers",
    "CloseDescriptors": _descriptors,
    "Execve": _program,
    "PrepareExecve": "arguments and environment are the process's own memory, and say what that wants them to say",
    "SendPidfd": "the descriptor is its receiver's",
}
