"""What a test needs of the machine, and the rule that in CI nothing is skipped without a word.

``needs("root", "cgroup-v2")`` marks a test, ``pytestmark = needs(...)`` a file.  A need is one of ``NEEDS``,
``kernel>=5.12``, ``containerd>=2``, ``program:NAME`` (on PATH), ``criu:FEATURE`` (of ``criu check``) or
``runtime:NAME`` (only for this runtime under test).
"""

from __future__ import annotations

import fcntl
import functools
import importlib.util
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from tests.support import busybox, cgroups
from tests.support.runtime import runtime_command, runtime_name

_WITH_NAME = ("kernel>=", "containerd>=", "program:", "criu:", "runtime:")


def needs(*names: str) -> pytest.MarkDecorator:
    """The marker of a test that needs all of ``names``."""
    for name in names:
        if name not in NEEDS and not name.startswith(_WITH_NAME):
            raise ValueError(f"unknown need {name!r}; known: {', '.join((*NEEDS, *_WITH_NAME))}")
    return pytest.mark.needs(*names)


def _idmapped_mounts() -> bool:
    """Whether the tests' scratch directories are on a filesystem that can be mounted with other ids."""
    target = os.environ.get("GOSUDACON_TEST_TMP", "/tmp")
    best, kind = "", ""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        point = left.split()[4]
        if f"{target}/".startswith(point.rstrip("/") + "/") and len(point) >= len(best):
            best, kind = point, right.split()[0]
    if kind == "tmpfs":
        return _kernel() >= (6, 3)
    return kind in ("ext4", "xfs", "btrfs", "vfat", "f2fs", "erofs") and _kernel() >= (5, 12)


def _loop_device() -> bool:
    """Whether there is a free one that has a node here; a container may have to be given that."""
    try:
        with open("/dev/loop-control", "rb", buffering=0) as file:
            number = fcntl.ioctl(file, 0x4C82)
        if not Path(f"/dev/loop{number}").exists():
            os.mknod(f"/dev/loop{number}", 0o600 | stat.S_IFBLK, os.makedev(7, number))
    except OSError:
        return False
    return True


def _kernel() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(c for c in minor if c.isdigit()))


def _containerd() -> int:
    """The major version of the containerd that is found; 0 if none is."""
    try:
        words = subprocess.run(["containerd", "--version"], capture_output=True, text=True, timeout=60).stdout.split()
    except OSError:
        return 0
    return int(words[2].lstrip("v").split(".")[0])


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _exits(*command: str) -> bool:
    """Whether this program is installed and succeeds."""
    try:
        return subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    except OSError:
        return False


def _ordinary_users_can_start_it() -> bool:
    from tests.support import ordinary

    return os.geteuid() == 0 and ordinary.can_start()


NEEDS: dict[str, Callable[[], bool]] = {
    "root": lambda: os.geteuid() == 0,
    "busybox": lambda: busybox.static_busybox() is not None,
    "x86-64": lambda: os.uname().machine == "x86_64",
    "cgroup-v1": lambda: cgroups.mode() in ("v1", "hybrid"),
    "cgroup-hybrid": lambda: cgroups.mode() == "hybrid",
    "cgroup-v2": lambda: cgroups.mode() == "v2",
    "systemd": lambda: Path("/run/systemd/system").is_dir(),
    "apparmor": lambda: _text("/sys/module/apparmor/parameters/enabled") == "Y",
    "selinux": lambda: Path("/sys/fs/selinux/enforce").exists(),
    "userns": lambda: Path("/proc/self/ns/user").exists(),
    "timens": lambda: Path("/proc/self/ns/time").exists(),
    "numa": lambda: Path("/proc/self/numa_maps").exists(),
    "idmapped-mounts": _idmapped_mounts,
    "loop": _loop_device,
    "compiler": lambda: any(shutil.which(name) for name in ("cc", "gcc", "clang")),
    "resource-capability": lambda: bool(int(_status("CapEff"), 16) & 1 << 24),
    "fuse": lambda: Path("/dev/fuse").exists(),
    "criu": lambda: _exits("criu", "check"),
    "public-interpreter": _ordinary_users_can_start_it,
    "pyyaml": lambda: importlib.util.find_spec("yaml") is not None,
    "vm": lambda: "VM_RUN" in os.environ,
}
"""Names of needs and whether this machine meets them."""


def _status(field: str) -> str:
    lines = _text("/proc/self/status").splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{field}:"))


@functools.cache
def missing(name: str) -> str | None:
    """Why the need ``name`` is not met on this machine, or None."""
    if name.startswith("kernel>="):
        major, minor = name.removeprefix("kernel>=").split(".")
        met = _kernel() >= (int(major), int(minor))
    elif name.startswith("containerd>="):
        met = _containerd() >= int(name.removeprefix("containerd>="))
    elif name.startswith("program:"):
        met = shutil.which(name.removeprefix("program:")) is not None
    elif name.startswith("criu:"):
        met = _exits("criu", "check", "--feature", name.removeprefix("criu:"))
    elif name.startswith("runtime:"):
        met = runtime_name(runtime_command()) == name.removeprefix("runtime:")
    else:
        met = NEEDS[name]()
    return None if met else f"needs {name}"


class AllowedSkips:
    """The list of skips that CI accepts: lines ``TEST :: REASON  # why``, both shell patterns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.patterns: list[tuple[str, str]] = []
        for number, line in enumerate(path.read_text().splitlines(), 1):
            rule, mark, why = line.partition("#")
            if not rule.strip():
                continue
            test, colons, reason = rule.partition(" :: ")
            if not colons or not mark or not why.strip():
                raise ValueError(f"{path}:{number}: want 'TEST :: REASON  # why', found {line!r}")
            self.patterns.append((test.strip(), reason.strip()))

    def allow(self, test: str, reason: str) -> bool:
        """Whether the test with this node id may be skipped for this reason."""
        return any(fnmatchcase(test, one) and fnmatchcase(reason, two) for one, two in self.patterns)
