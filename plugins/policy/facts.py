"""What the host says of a configuration: where paths lead to, and which namespaces are the host's own.

Paths are looked up, not opened (O_PATH): nothing is read, and a device or a FIFO does not notice.
"""

from __future__ import annotations

from gosudacon.api import Spec
from gosudacon.base import posix
from gosudacon.plugins.policy import paths

#: Kind in config.json -> name below /proc/PID/ns.
FILES = {
    "pid": "pid",
    "network": "net",
    "ipc": "ipc",
    "uts": "uts",
    "mount": "mnt",
    "user": "user",
    "cgroup": "cgroup",
    "time": "time",
}
_LOOK = posix.O_PATH | posix.O_CLOEXEC


def gather(spec: Spec) -> dict[str, object]:
    """``paths``: as written -> where it leads; ``root``: where it leads; ``host_namespaces``: joined kinds."""
    found = {path: leads_to(path) for _, path, _ in paths.named(spec)}
    joined = [kind for kind, path in spec.namespaces().items() if path and _is_host_s(kind, path)]
    return {"paths": found, "root": leads_to(spec.rootfs), "host_namespaces": joined}


def leads_to(path: str) -> str:
    """The path without links; empty if there is nothing."""
    try:
        fd = posix.open(path, _LOOK)
    except (OSError, ValueError):
        return ""
    try:
        return posix.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""
    finally:
        posix.close(fd)


def _is_host_s(kind: str, path: str) -> bool:
    """Whether a namespace is that of the host's first process or of the runtime; so is one that cannot be looked at."""
    name = FILES.get(kind, kind)
    try:
        there = posix.stat(path)
    except (OSError, ValueError):
        return False  # joining it will fail
    for process in ("1", "self"):
        try:
            own = posix.stat(f"/proc/{process}/ns/{name}")
        except OSError:
            continue
        if (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino):
            return True
    return False
