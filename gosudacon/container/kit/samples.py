"""Bundles to try a plugin with: what people and engines write, from little to much. Nothing of them is on the disk."""

from __future__ import annotations

import copy

from gosudacon.container import demo
from gosudacon.container.template import default_spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.schema.types import Config, Hook

_HOOK: list[Hook] = [{"path": "/bin/true", "timeout": 5}]


def samples() -> dict[str, Config]:
    """Name -> configuration."""
    return {
        "spec": default_spec(cgroup_v2=True),
        "rootless": default_spec(cgroup_v2=True, rootless=(1000, 1000)),
        "demo": demo.spec(["true"], cgroup_v2=True),
        "bare": _bare(),
        "rich": _rich(),
    }


def _bare() -> Config:
    """The least that is valid: what is optional in the specification is not there, so `get` is needed everywhere."""
    return {
        "ociVersion": "1.0.2",
        "process": {"args": ["true"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
        "root": {"path": "rootfs"},
        "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}]},
    }


def _rich() -> Config:
    """As an engine writes it: hooks, limits, devices, annotations, a filter."""
    config = copy.deepcopy(default_spec(cgroup_v2=True))
    config["annotations"] = {"org.opencontainers.image.title": "web", "io.kubernetes.cri.container-type": "container"}
    config["hooks"] = {"createRuntime": _HOOK, "createContainer": _HOOK, "startContainer": _HOOK, "poststop": _HOOK}
    process = config["process"]
    process["env"] += ["LANG=C.UTF-8", "EMPTY="]
    process["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [29], "umask": 0o27}
    process["oomScoreAdj"] = 100
    config["mounts"].append(
        {"destination": "/data", "type": "bind", "source": "/srv/data", "options": ["rbind", "ro", "nosuid"]}
    )
    linux = config["linux"]
    linux["devices"] = [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]
    linux["resources"] = {
        "devices": [{"allow": False, "access": "rwm"}],
        "memory": {"limit": 1 << 28},
        "cpu": {"shares": 512, "quota": 50000, "period": 100000},
        "pids": {"limit": 100},
    }
    linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
    linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_ERRNO"}],
    }
    return config
