"""OCI bundles: a directory with a root filesystem and a ``config.json`` that a test can bend."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]


def default_config(args: list[str], cgroups_path: str) -> dict[str, Any]:
    """What ``runc spec`` writes, less the terminal, the read-only root and the cgroup mount."""
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": args,
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {name: list(_CAPABILITIES) for name in ("bounding", "effective", "permitted", "ambient")},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": False},
        "hostname": "gosudacon",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
            },
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            },
            {
                "destination": "/dev/shm",
                "type": "tmpfs",
                "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
            },
            {
                "destination": "/dev/mqueue",
                "type": "mqueue",
                "source": "mqueue",
                "options": ["nosuid", "noexec", "nodev"],
            },
            {
                "destination": "/sys",
                "type": "sysfs",
                "source": "sysfs",
                "options": ["nosuid", "noexec", "nodev", "ro"],
            },
        ],
        "linux": {
            "cgroupsPath": cgroups_path,
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
            "maskedPaths": [
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
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }


class Bundle:
    """A bundle directory.

    ``config`` is the parsed configuration; ``set``, ``update`` and ``remove`` change it and write the file
    at once, after a direct change to ``config`` call ``write``.  ``id`` is a container id that no other test
    uses.
    """

    def __init__(self, path: Path, container_id: str, config: dict[str, Any]) -> None:
        self.path = path
        self.id = container_id
        self.config = config
        self.write()

    @property
    def rootfs(self) -> Path:
        """The root filesystem's directory on the host."""
        return self.path / str(self.config["root"]["path"])

    @property
    def config_path(self) -> Path:
        """``config.json`` of this bundle; write it yourself to have a broken one."""
        return self.path / "config.json"

    @property
    def cgroups_path(self) -> str:
        """``linux.cgroupsPath``, as configured."""
        return str(self.config["linux"]["cgroupsPath"])

    @property
    def stdout(self) -> str:
        """What the container (and the runtime itself) has written to standard output so far."""
        return self._text("stdout")

    @property
    def stderr(self) -> str:
        """What the container (and the runtime itself) has written to standard error so far."""
        return self._text("stderr")

    def _text(self, name: str) -> str:
        path = self.path / name
        return path.read_text(errors="replace") if path.exists() else ""

    def write(self) -> None:
        """Write ``config`` to ``config.json``."""
        self.config_path.write_text(json.dumps(self.config, indent=2) + "\n")

    def update(self, changes: dict[str, Any]) -> Bundle:
        """Merge ``changes`` into the configuration: objects merge key by key, anything else replaces."""
        _merge(self.config, changes)
        self.write()
        return self

    def set(self, path: str, value: Any) -> Bundle:
        """Set the value at a dotted ``path`` such as ``linux.resources.memory.limit``.

        Missing objects are made; a number in the path is an index of an array.
        """
        *parents, last = path.split(".")
        node: Any = self.config
        for name in parents:
            node = node[int(name)] if isinstance(node, list) else node.setdefault(name, {})
        node[int(last) if isinstance(node, list) else last] = value
        self.write()
        return self

    def remove(self, path: str) -> Bundle:
        """Remove the value at a dotted ``path``; KeyError or IndexError if it does not exist."""
        *parents, last = path.split(".")
        node: Any = self.config
        for name in parents:
            node = node[int(name) if isinstance(node, list) else name]
        del node[int(last) if isinstance(node, list) else last]
        self.write()
        return self

    def add_mount(self, destination: str, kind: str, source: str, *options: str) -> Bundle:
        """Append an entry to ``mounts``."""
        mount = {"destination": destination, "type": kind, "source": source, "options": list(options)}
        self.config["mounts"].append(mount)
        self.write()
        return self

    def add_namespace(self, kind: str, path: str | None = None) -> Bundle:
        """Append a namespace, or give the one of this type a path."""
        namespaces = self.config["linux"]["namespaces"]
        namespaces[:] = [item for item in namespaces if item["type"] != kind]
        namespaces.append({"type": kind} if path is None else {"type": kind, "path": path})
        self.write()
        return self

    def drop_namespace(self, kind: str) -> Bundle:
        """Remove the namespace of this type: the container then shares the caller's."""
        namespaces = self.config["linux"]["namespaces"]
        namespaces[:] = [item for item in namespaces if item["type"] != kind]
        self.write()
        return self

    def map_users(self, host_id: int = 100000, size: int = 65536) -> Bundle:
        """Add a user namespace in which ids from 0 stand for ``size`` of the host's from ``host_id`` on."""
        self.add_namespace("user")
        mapping = [{"containerID": 0, "hostID": host_id, "size": size}]
        return self.update({"linux": {"uidMappings": mapping, "gidMappings": copy.deepcopy(mapping)}})


def _merge(target: dict[str, Any], changes: dict[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        else:
            target[key] = value
