"""The config.json that ``gosudacon spec`` writes, and writing it: a shell on ``rootfs`` with few privileges."""

from __future__ import annotations

import json
import os

from gosudacon.base.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.schema.types import Config, Linux, Mount, Process

_CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")
_MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
)
_READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def default_spec(*, cgroup_v2: bool, rootless: tuple[int, int] | None = None) -> Config:
    """A configuration (runtime-spec config.md) that runs as it is on a bundle with a root filesystem.

    ``cgroup_v2``: the host has the unified cgroup hierarchy only, so the container gets a cgroup namespace.
    ``rootless``: uid and gid of the user who will create the container, without root. Both become 0 in a
    user namespace; the container has the host's network and no limits, and sees the host's /sys.
    """
    return {
        "ociVersion": "1.3.0",
        "process": _process(),
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "gosudacon",
        "mounts": _mounts(rootless is not None),
        "linux": _linux(cgroup_v2, rootless),
    }


def _process() -> Process:
    return {
        "terminal": True,
        "user": {"uid": 0, "gid": 0},
        "args": ["sh"],
        "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
        "cwd": "/",
        "capabilities": {
            "bounding": list(_CAPABILITIES),
            "effective": list(_CAPABILITIES),
            "permitted": list(_CAPABILITIES),
        },
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        "noNewPrivileges": True,
    }


def _mounts(rootless: bool) -> list[Mount]:
    safe = ["nosuid", "noexec", "nodev"]
    # gid 5 is tty; a user namespace with a single group does not have it.
    terminals = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] + ["gid=5"] * (not rootless)
    return [
        _mount("/proc", "proc", "proc"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/dev/pts", "devpts", "devpts", *terminals),
        _mount("/dev/shm", "tmpfs", "shm", *safe, "mode=1777", "size=65536k"),
        _mount("/dev/mqueue", "mqueue", "mqueue", *safe),
        # sysfs cannot be mounted without owning the network namespace; the host's can be bound.
        _mount("/sys", "none", "/sys", "rbind", *safe, "ro")
        if rootless
        else _mount("/sys", "sysfs", "sysfs", *safe, "ro"),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", *safe, "relatime", "ro"),
    ]


def write(path: str, config: object) -> None:
    """Write ``config`` as JSON, indented by tabs, to the new file ``path`` (0666 less the umask).

    Raises `Error` if the file exists, as runc says it, and OSError; a file half written does not stay.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise Error(
            "File config.json exists. Remove it first",
            call="open",
            hint=f"{path}, or another directory with --bundle",
        ) from None
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(json.dumps(config, indent="\t", ensure_ascii=False) + "\n")
    except OSError:
        os.unlink(path)
        raise


def _mount(destination: str, type: str, source: str, *options: str) -> Mount:
    mount: Mount = {"destination": destination, "type": type, "source": source}
    if options:
        mount["options"] = list(options)
    return mount


def _linux(cgroup_v2: bool, rootless: tuple[int, int] | None) -> Linux:
    namespaces = ["pid", "network", "ipc", "uts", "mount"]
    if cgroup_v2:
        namespaces.append("cgroup")
    linux: Linux = {}
    if rootless is None:
        linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    else:
        namespaces.remove("network")
        namespaces.append("user")
        uid, gid = rootless
        linux["uidMappings"] = [{"containerID": 0, "hostID": uid, "size": 1}]
        linux["gidMappings"] = [{"containerID": 0, "hostID": gid, "size": 1}]
    linux["namespaces"] = [{"type": name} for name in namespaces]
    linux["maskedPaths"] = list(_MASKED)
    linux["readonlyPaths"] = list(_READONLY)
    return linux
