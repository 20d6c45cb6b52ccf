"""Processes, other than init, that are less confined than it: ``exec --privileged``, nsenter, what was moved in."""

from __future__ import annotations

from gosudacon.audit.subject import read_at
from gosudacon.audit.verdict import DRIFTED, ENFORCED, Finding
from gosudacon.base import posix
from gosudacon.linux import capability, namespace
from gosudacon.linux.cgroup import processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.audit.subject import Subject

_SETS = ("CapBnd", "CapPrm", "CapEff")
_KINDS = ("mount", "network", "ipc", "uts", "user")
_MOST = 20


def by_pid_namespace() -> dict[tuple[int, int], list[int]]:
    """Device and inode of a pid namespace -> the processes in it, as far as this process's own namespace has them."""
    found: dict[tuple[int, int], list[int]] = {}
    for name in posix.listdir("/proc"):
        if name.isdigit():
            try:
                status = posix.stat(f"/proc/{name}/ns/pid")
            except OSError:
                continue
            found.setdefault((status.st_dev, status.st_ino), []).append(int(name))
    return found


def less_confined(subject: Subject, of_namespace: list[int]) -> Iterator[Finding]:
    """A finding for each process of the container's cgroups, or its pid namespace, that has more rights than init."""
    own = {kind: subject.inode(kind) for kind in _KINDS}
    pids = set(processes.pids(subject.cgroups))
    in_cgroup = set(pids)
    pids.update(of_namespace)
    count = found = 0
    for pid in sorted(pids - {subject.pid}):
        count += 1
        reasons = _reasons(subject, pid, own, pid in in_cgroup or not in_cgroup)
        if not reasons:
            continue
        found += 1
        if found > _MOST:
            break
        verdict, who = DRIFTED, "the process that executed it in the container"
        yield Finding(
            "processes",
            "confined as init is",
            f"{pid} {_name(pid)}",
            verdict,
            f"/proc/{pid}/status",
            who,
            "; ".join(reasons),
        )
    if not found:
        yield Finding("processes", "confined as init is", f"{count} others", ENFORCED, "status, ns, cgroup.procs")


def _name(pid: int) -> str:
    try:
        return posix.readlink(f"/proc/{pid}/exe")
    except OSError:
        return "?"


def _reasons(subject: Subject, pid: int, own: dict[str, tuple[int, int] | None], in_cgroup: bool) -> list[str]:
    try:
        text = read_at(None, f"/proc/{pid}/status").decode(errors="replace")
        status = {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}
        reasons = []
        ours = subject.status
        for name in _SETS:
            more = int(status[name], 16) & ~int(ours["CapBnd"], 16)
            if more:
                names = " ".join(each for number, each in enumerate(capability.NAMES) if more >> number & 1)
                reasons.append(f"{name} has more: {names if more.bit_count() < 8 else 'almost all capabilities'}")
                break
        if int(ours.get("Seccomp", "0")) > int(status.get("Seccomp", "0")):
            reasons.append("no seccomp filter")
        elif int(ours.get("Seccomp_filters", "0")) > int(status.get("Seccomp_filters", "0")):
            reasons.append("fewer seccomp filters")
        if ours.get("NoNewPrivs") == "1" and status.get("NoNewPrivs") == "0":
            reasons.append("it may gain privileges: no_new_privs is not set")
        reasons += [f"in another {kind} namespace" for kind in _KINDS if _is_hosts(kind, pid, own)]
        if not in_cgroup:
            reasons.append("in the container's pid namespace, and not in its cgroup")
        return reasons
    except (OSError, KeyError, ValueError):  # it has ended meanwhile
        return []


def _is_hosts(kind: str, pid: int, own: dict[str, tuple[int, int] | None]) -> bool:
    """Whether a process is in this process's own namespace, of which the container has another."""
    status = posix.stat(namespace.namespace_path(kind, pid))
    here = posix.stat(namespace.namespace_path(kind))
    at, mine = (status.st_dev, status.st_ino), (here.st_dev, here.st_ino)
    return at == mine != own[kind]
