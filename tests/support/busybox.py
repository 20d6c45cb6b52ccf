"""A root filesystem made of one static busybox."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

_PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/:/bin/false
user:x:1000:1000:user:/home/user:/bin/sh
"""
_GROUP = "root:x:0:\ndaemon:x:1:\ntty:x:5:\naudio:x:29:user\nuser:x:1000:\n"

DIRECTORIES = {
    "bin": 0o755,
    "dev": 0o755,
    "etc": 0o755,
    "home": 0o755,
    "mnt": 0o755,
    "proc": 0o755,
    "root": 0o700,
    "run": 0o755,
    "sys": 0o755,
    "tmp": 0o1777,
    "usr": 0o755,
    "var": 0o755,
}
"""Directories of the root filesystem and their modes."""


def static_busybox() -> Path | None:
    """The path of a statically linked busybox on this machine, or None."""
    found = shutil.which("busybox", path="/usr/bin:/bin:/usr/local/bin")
    if found is None or b"/ld-linux" in Path(found).read_bytes():
        return None
    return Path(found)


def make_rootfs(target: Path) -> Path:
    """Make a root filesystem in ``target``, which must not exist yet; return it.

    ``/bin`` has busybox and a link for every applet, ``/sbin`` and ``/usr/bin`` lead there.  It has users
    root, daemon (1) and user (1000, also in group audio, 29).  Raises FileNotFoundError without a static
    busybox.
    """
    busybox = static_busybox()
    if busybox is None:
        raise FileNotFoundError("no static busybox on this machine: apt-get install busybox-static")
    for name, mode in {".": 0o755, **DIRECTORIES}.items():
        path = target / name
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)
    shutil.copy(busybox, target / "bin/busybox")
    (target / "bin/busybox").chmod(0o755)
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True, timeout=60)
    for applet in applets.stdout.split():
        if applet != "busybox":
            (target / "bin" / applet).symlink_to("busybox")
    (target / "sbin").symlink_to("bin")
    (target / "usr/bin").symlink_to("../bin")
    (target / "etc/passwd").write_text(_PASSWD)
    (target / "etc/group").write_text(_GROUP)
    (target / "home/user").mkdir()
    os.chown(target / "home/user", 1000, 1000)
    return target


def copy_rootfs(template: Path, target: Path) -> Path:
    """Copy a root filesystem made by ``make_rootfs``, owners and modes included; return ``target``."""
    shutil.copytree(template, target, symlinks=True)
    os.chown(target / "home/user", 1000, 1000)
    return target
