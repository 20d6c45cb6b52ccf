"""What callers write besides the specification's words: changes of a configuration, and what is said of them.

Runc takes all of `SILENT` and `WARNED`, and none of `REFUSED` (of 1.1.5: what it knows of them).
"""

from __future__ import annotations

from typing import Any

Changes = dict[str, Any]
GONE = object()
UNSET = (1 << 64) - 1
_R = "linux.resources"
_SECCOMP = {"defaultAction": "SCMP_ACT_ALLOW"}


def _rule(**rule: Any) -> Changes:
    return {"linux.seccomp": {**_SECCOMP, "syscalls": [rule]}}


#: Dotted place -> value, as `Bundle.set` has it.
SILENT: list[Changes] = [
    {"process.user": {}},
    {"process.user": {"uid": 5}},
    {"process.user": {"gid": 5}},
    {"process.user": GONE},
    {"process.user.umask": 0o10022},
    {"process.user.username": "x"},
    {"process.consoleSize": {}},
    {"process.consoleSize": {"height": 70000}},
    {"process.unknown": 1, "unknown": {"a": 1}, "linux.unknown": [], f"{_R}.unknown": {"x": 1}},
    {"process.apparmorProfile": "", "process.selinuxLabel": "", "linux.mountLabel": "", "linux.cgroupsPath": ""},
    {"process.rlimits": None, "process.capabilities": {}, "annotations": {"a": None}, "hooks": {"poststart": None}},
    {"process.execCPUAffinity": {"initial": "", "final": ""}},
    {"linux.namespaces.0.path": ""},
    {f"{_R}.devices.0": {"access": "rwm"}},
    {f"{_R}.devices.0.type": ""},
    {f"{_R}.devices.0.major": -1},
    {f"{_R}.memory": {"limit": -1, "swap": -1, "reservation": -1}},
    {f"{_R}.memory": {"swappiness": UNSET}},
    {f"{_R}.memory": {"limit": 0, "swap": 0, "reservation": 0, "unknown": 1}},
    {f"{_R}.cpu": {"quota": -1}},
    {f"{_R}.cpu": {"quota": -2}},
    {f"{_R}.cpu": {"shares": 0, "period": 0, "quota": 0, "realtimePeriod": 0, "realtimeRuntime": 0, "cpus": ""}},
    {f"{_R}.pids": {"limit": -2}},
    {f"{_R}.pids": {}},
    {f"{_R}.blockIO": {"weight": 0, "leafWeight": 0}},
    {"hooks": {"prestart": [{"path": "/bin/true", "env": ["A"]}]}},
    {"hooks": {"unknown": [{"path": "/bin/true"}]}},
    {"linux.devices": [{"path": "/dev/x", "type": "c", "major": 1}]},
    {"linux.seccomp": {}},
    {"linux.seccomp": {**_SECCOMP, "listenerPath": "", "listenerMetadata": ""}},
    _rule(names=["mkdir"], action="SCMP_ACT_ERRNO", args=[{"op": "SCMP_CMP_EQ"}]),
    {"mounts.0.uidMappings": []},
    {"linux.intelRdt": {}, "linux.netDevices": {}, "linux.timeOffsets": {}},
]
#: The same, and words of the warning.
WARNED: list[tuple[Changes, str]] = [
    ({"ociVersion": GONE}, "ociVersion: absent"),
    ({"annotations": {"": "x"}}, "an annotation without a name"),
    *(
        ({"process.capabilities.bounding.0": name}, f"unknown or unavailable capabilities: [{name}]")
        for name in ("CAP_NEW_THING", "cap_kill", "KILL", "")
    ),
    (
        {"process.capabilities.effective.0": "CAP_NEW", "process.capabilities.permitted.0": "CAP_NEW"},
        "unknown or unavailable capabilities: [CAP_NEW]",
    ),
    ({f"{_R}.devices.0.access": "rwma"}, "a is not among r, w and m"),
    ({f"{_R}.devices.0.access": "a"}, "a is not among r, w and m"),
    ({"linux.maskedPaths": ["proc/kcore"]}, "linux.maskedPaths[0]: not absolute, read as /proc/kcore"),
    ({"linux.readonlyPaths": ["proc/bus", ""]}, "linux.readonlyPaths[1]: empty: ignored"),
    ({"linux.devices": [{"path": "dev/x", "type": "p"}]}, "linux.devices[0].path: not absolute, read as /dev/x"),
    ({"mounts.0.destination": "proc"}, "mounts[0].destination: not absolute, read as /proc"),
    ({"linux.sysctl": {"net.ipv4.ip_forward": ""}}, "empty: ignored"),
    ({f"{_R}.memory": {"kernel": 1 << 30}}, "kernel memory"),
    ({f"{_R}.memory": {"Limit": 1 << 30}}, "linux.resources.memory.limit: read as limit, though it is written Limit"),
    ({"process.NoNewPrivileges": False}, "process.noNewPrivileges: read as noNewPrivileges"),
    (_rule(names=["nosuchcall", "mkdir"], action="SCMP_ACT_LOG"), "every system call"),
    (_rule(names=[], action="SCMP_ACT_ERRNO"), "the rule names no system call"),
    (_rule(action="SCMP_ACT_ERRNO"), "the rule names no system call"),
    (_rule(names=["mkdir"], action="SCMP_ACT_KILL", errnoRet=1), "SCMP_ACT_KILL takes no errno"),
]
REFUSED: list[Changes] = [
    {"root": GONE},
    {"process.cwd": GONE},
    {"process.cwd": "tmp"},
    {"process.args": []},
    {"process.user.uid": -1},
    {"process.user.uid": (1 << 32) - 1},
    {"process.user.uid": 1.0},
    {"process.user.additionalGids": [-1]},
    {"process.env": ["A"]},
    {"process.env": ["=A"]},
    {"process.terminal": 0},
    {"process.capabilities.effective.0": "CAP_SYS_BOOT"},
    {"process.rlimits.0.type": "RLIMIT_X"},
    {"process.rlimits.0.hard": GONE},
    {"process.oomScoreAdj": 2000},
    {"linux.namespaces.0.type": "pidd"},
    {"linux.namespaces.0.type": ""},
    {"linux.namespaces.1.type": "pid"},
    {"linux.rootfsPropagation": "x"},
    {f"{_R}.devices.0.access": ""},
    {f"{_R}.devices.0.type": "x"},
    {f"{_R}.memory": {"limit": -2}},
    {f"{_R}.memory": {"swappiness": 101}},
    {f"{_R}.memory": {"limit": "1"}},
    {f"{_R}.cpu": {"shares": 1}},
    {"linux.devices": [{"path": "/dev/x", "type": "a", "major": 1, "minor": 3}]},
    {"linux.sysctl": {"": "x"}},
    {"linux.seccomp": {"defaultAction": "SCMP_ACT_X"}},
    {"linux.seccomp": {**_SECCOMP, "architectures": ["SCMP_ARCH_NEW"]}},
    {"linux.seccomp": {**_SECCOMP, "flags": ["SECCOMP_X"]}},
    {"linux.seccomp": {"defaultAction": "", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}},
    _rule(names=["mkdir"]),
    _rule(names=["mkdir"], action="SCMP_ACT_X"),
    _rule(names=["mkdir"], action="SCMP_ACT_ERRNO", args=[{"index": 1}]),
    _rule(names=["mkdir"], action="SCMP_ACT_ERRNO", args=[{"index": 7, "op": "SCMP_CMP_EQ"}]),
]


def change(config: dict[str, Any], changes: Changes) -> dict[str, Any]:
    """``config``, changed."""
    for place, value in changes.items():
        *parents, last = place.split(".")
        node: Any = config
        for name in parents:
            node = node[int(name)] if isinstance(node, list) else node.setdefault(name, {})
        if value is GONE:
            del node[last]
        else:
            node[int(last) if isinstance(node, list) else last] = value
    return config
