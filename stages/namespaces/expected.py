"""What the steps of ``namespaces`` expect: which namespaces the container has, and what is set in them."""

from __future__ import annotations

from gosudacon.api import Expectation, Host, Spec
from gosudacon.linux.namespace import KINDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.api import Table
    from gosudacon.stages import namespaces
    from gosudacon.stages.namespaces import join, maps


def _place(spec: Spec, kind: str) -> str:
    for index, entry in enumerate(spec.linux.get("namespaces") or ()):
        if entry["type"] == kind:
            return f"linux.namespaces[{index}]"
    return "linux.namespaces"


def _new(step: namespaces.Spawn | namespaces.Unshare, spec: Spec, host: Host) -> Iterator[Expectation]:
    for kind, (flag, _, _) in KINDS.items():
        if step.flags & flag:
            yield Expectation(_place(spec, kind), "namespace", "", kind)


def _cgroup(step: namespaces.UnshareCgroup, spec: Spec, host: Host) -> Iterator[Expectation]:
    yield Expectation(_place(spec, "cgroup"), "namespace", "", "cgroup")


def _joined(step: join.OpenNamespace, spec: Spec, host: Host) -> Iterator[Expectation]:
    yield Expectation(_place(spec, step.kind), "namespace", step.path, step.kind)


def _offsets(step: namespaces.TimeOffsets, spec: Spec, host: Host) -> Iterator[Expectation]:
    for clock, at in step.offsets.items():
        if isinstance(at, dict):
            asked = [at.get("secs") or 0, at.get("nanosecs") or 0]
            yield Expectation(f"linux.timeOffsets.{clock}", "time-offset", asked, clock)


def _hostname(step: namespaces.SetHostname, spec: Spec, host: Host) -> Iterator[Expectation]:
    yield Expectation(step.where, "name", step.hostname, "hostname")


def _domainname(step: namespaces.SetDomainname, spec: Spec, host: Host) -> Iterator[Expectation]:
    yield Expectation(step.where, "name", step.domainname, "domainname")


def _maps(step: maps.WriteIdMaps | maps.CheckIdMaps, spec: Spec, host: Host) -> Iterator[Expectation]:
    for name, ranges in (("uid", step.uids), ("gid", step.gids)):
        if ranges:
            asked = [[each["containerID"], each["hostID"], each["size"]] for each in ranges]
            yield Expectation(f"linux.{name}Mappings", "id-map", asked, f"{name}_map")


def _loopback(step: namespaces.BringUpLoopback, spec: Spec, host: Host) -> Iterator[Expectation]:
    yield Expectation("network device lo", "device-up", True, "lo")


_SEEN = "seen with the step that opens the namespace"

TABLE: Table = {
    "OpenNamespace": _joined,
    "Spawn": _new,
    "Setsid": "any process may lead a session of its own at any time",
    "Setns": _SEEN,
    "SetnsForChild": _SEEN,
    "SetnsWhatCanBe": _SEEN,
    "Unshare": _new,
    "TimeOffsets": _offsets,
    "Fork": "seen with the step that makes or opens the namespaces",
    "SetNotDumpable": "execve(2) makes the process dumpable again, unless its program is not readable",
    "BringUpLoopback": _loopback,
    "UnshareCgroup": _cgroup,
    "OpenProc": "the mount is attached nowhere, and gone",
    "SetHostname": _hostname,
    "SetDomainname": _domainname,
    "WriteIdMaps": _maps,
    "SetRootIdentity": "a step that comes later sets the user",
    "CheckIdMaps": _maps,
    "ForkConfined": _SEEN,
    "NewSession": "any process may lead a session of its own at any time",
    "OpenTarget": "it is of a process that exec has started",
    "EnterRoot": "it is of a process that exec has started",
    "MakeProc": "seen with the mounts of proc",
}
