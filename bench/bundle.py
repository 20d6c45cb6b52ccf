"""The container that every runtime runs: a busybox root filesystem and the configuration of ``runc spec``, adapted."""

from __future__ import annotations

import copy
import json
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import seccomp
from .runtimes import Runtime

APPLETS = ("sh", "sleep", "true", "cat", "echo", "ls")
SLEEP = ["/bin/sleep", "1000"]
TRUE = ["/bin/true"]
#: First host id and number of ids of the user namespace variant.
USERNS_IDS = (100000, 65536)
#: Limits as an orchestrator would set them; the quota is a whole processor, for a tighter one would
#: throttle the part of ``create`` that already runs inside the container's cgroup.
LIMITS: dict[str, object] = {
    "memory": {"limit": 256 << 20},
    "pids": {"limit": 64},
    "cpu": {"shares": 512, "quota": 100000, "period": 100000},
}


class BundleError(Exception):
    """The bundle cannot be made: busybox or a runtime with ``spec`` is missing."""


@dataclass(frozen=True)
class Variant:
    """What differs from the default configuration."""

    seccomp: bool = False
    userns: bool = False
    host_network: bool = False

    def __str__(self) -> str:
        words = (("seccomp", self.seccomp), ("userns", self.userns), ("the host's network", self.host_network))
        parts = [word for word, on in words if on]
        return "+".join(parts) or "default"


def busybox() -> str:
    """Path of a static busybox; BundleError when it is not installed."""
    path = shutil.which("busybox")
    if path is None:
        raise BundleError("busybox not found; apt-get install busybox-static")
    return path


def make_rootfs(path: Path, variant: Variant) -> None:
    """Fill ``path`` with a root filesystem of one static binary and its links."""
    for name in ("bin", "dev", "etc", "proc", "sys", "tmp"):
        (path / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(busybox(), path / "bin/busybox")
    for applet in APPLETS:
        (path / "bin" / applet).symlink_to("busybox")
    path.chmod(0o755)
    if variant.userns:
        base = USERNS_IDS[0]
        for found in [path, *path.rglob("*")]:
            os.chown(found, base, base, follow_symlinks=False)
        (path / "bin/busybox").chmod(0o755)


def spec_of(runtimes: list[Runtime], scratch: Path) -> dict[str, object]:
    """The configuration that ``spec`` of runc writes (or else of the first runtime that can)."""
    for runtime in sorted(runtimes, key=lambda one: one.name != "runc"):
        scratch.mkdir(parents=True, exist_ok=True)
        command = [*runtime.command, "spec"]
        done = subprocess.run(command, cwd=scratch, capture_output=True, timeout=60, check=False)
        if done.returncode == 0 and (scratch / "config.json").exists():
            return dict(json.loads((scratch / "config.json").read_text()))
    raise BundleError("no runtime under test could write a configuration with `spec`")


def adapt(spec: dict[str, object], rootfs: Path, variant: Variant) -> dict[str, object]:
    """The configuration without what differs from container to container; ``spec`` stays as it was."""
    config = copy.deepcopy(spec)
    _part(config, "process").update(terminal=False, args=SLEEP)
    config["root"] = {"path": str(rootfs), "readonly": True}
    linux = _part(config, "linux")
    _part(linux, "resources").update(LIMITS)
    if variant.seccomp:
        linux["seccomp"] = seccomp.profile(platform.machine())
    namespaces = linux["namespaces"]
    assert isinstance(namespaces, list)
    if variant.host_network:
        linux["namespaces"] = namespaces = [each for each in namespaces if each["type"] != "network"]
    if variant.userns:
        namespaces.append({"type": "user"})
        ids = {"containerID": 0, "hostID": USERNS_IDS[0], "size": USERNS_IDS[1]}
        linux["uidMappings"] = linux["gidMappings"] = [ids]
    return config


def write(config: dict[str, object], bundle: Path, cgroups_path: str, args: list[str]) -> None:
    """Write ``bundle``/config.json for one container."""
    mine = copy.deepcopy(config)
    _part(mine, "process")["args"] = args
    _part(mine, "linux")["cgroupsPath"] = cgroups_path
    bundle.mkdir(parents=True, exist_ok=True)
    (bundle / "config.json").write_text(json.dumps(mine, indent=1))


def _part(config: dict[str, object], key: str) -> dict[str, object]:
    part = config.setdefault(key, {})
    assert isinstance(part, dict)
    return part
