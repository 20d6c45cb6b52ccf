"""A mount and a network namespace for the whole test run, with state directories of the run's own.

What a runtime under test leaks never reaches the machine, other containers on the machine (and other runs of the
tests) come and go unseen, and whatever a crash leaves behind vanishes with the last process.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import stat
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_CLONE_NEWNS = 0x00020000
_CLONE_NEWNET = 0x40000000
MS_BIND, MS_REC, MS_PRIVATE, MS_SHARED = 0x1000, 0x4000, 1 << 18, 1 << 20
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1

EMPTIED: dict[str, tuple[str, ...]] = {
    "/run": ("NetworkManager", "dbus", "resolvconf", "systemd"),
    "/var/lib": ("apt", "dpkg"),
    "/var/cache": (),
    "/dev/shm": (),
}
"""Directories that a run gets empty, and what it sees of the machine's in them: sockets, resolv.conf, packages."""
COPIED = ("/etc",)
"""Directories in which a run sees what the machine has, and only the run sees what it changes."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p] * 3 + [ctypes.c_ulong, ctypes.c_char_p]
_libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]


def _check(result: int, call: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    """mount(2); raises OSError."""
    _check(
        _libc.mount(source.encode(), target.encode(), kind.encode(), flags, data.encode()),
        f"mount {source} on {target}",
    )


def unmount(target: str) -> None:
    """umount2(2) with ``MNT_DETACH`` and ``UMOUNT_NOFOLLOW``; raises OSError."""
    _check(_libc.umount2(target.encode(), _MNT_DETACH | _UMOUNT_NOFOLLOW), f"umount {target}")


def enter_private(needed: Iterable[Path] = ()) -> None:
    """Move this process into a mount and a network namespace of its own, with the loopback link up.

    ``EMPTIED`` and ``COPIED`` say which directories are private there; what holds a path in ``needed`` stays
    visible. No mount of the machine's arrives later, and the mounts of its containers are not held. The mounts
    are shared among themselves, as on a machine booted by systemd, so that a runtime which forgets to cut
    propagation is found out.
    """
    _check(_libc.unshare(_CLONE_NEWNS | _CLONE_NEWNET), "unshare")
    mount("none", "/", "none", MS_REC | MS_PRIVATE)
    paths = [path.resolve() for path in needed]
    for place, names in EMPTIED.items():
        held = {path.relative_to(place).parts[0] for path in paths if Path(place) in path.parents}
        _empty(place, {*names, *held})
    for place in COPIED:
        _copy(place)
    _replace_null()
    mount("none", "/", "none", MS_REC | MS_SHARED)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", _IFF_UP))


def _replace_null() -> None:
    """Mount a null device of this run's own over the machine's: crun gives standard streams away, null devices, too."""
    node = "/run/null"
    os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.chmod(node, 0o666)
    mount(node, "/dev/null", "none", MS_BIND)


def _empty(place: str, kept: set[str]) -> None:
    """Mount a tmpfs over ``place`` which shows these entries of it, and detach the mounts below it."""
    old = {name: os.open(f"{place}/{name}", os.O_PATH) for name in kept if os.path.exists(f"{place}/{name}")}
    below = [os.open(point, os.O_PATH | os.O_NOFOLLOW) for point in _mount_points(place)]
    mount("none", place, "tmpfs", data=f"mode={stat.S_IMODE(os.stat(place).st_mode):o}")
    _bind({f"{place}/{name}": handle for name, handle in old.items()})
    for handle in below:
        with suppress(OSError):  # detached with the mount that it is on
            _check(_libc.umount2(f"/proc/self/fd/{handle}".encode(), _MNT_DETACH), "umount")
        os.close(handle)


def _copy(place: str) -> None:
    """Mount an overlay over ``place`` with the mounts that are below it."""
    lower = os.open(place, os.O_PATH)
    below = {point: os.open(point, os.O_PATH | os.O_NOFOLLOW) for point in _mount_points(place)}
    mount("none", place, "tmpfs")
    for name in ("upper", "work"):
        os.mkdir(f"{place}/{name}", 0o755)
    layers = f"lowerdir=/proc/self/fd/{lower},upperdir={place}/upper,workdir={place}/work"
    mount("overlay", place, "overlay", data=layers)
    os.close(lower)
    _bind(below)


def _bind(handles: dict[str, int]) -> None:
    """Mount what each descriptor stands for at its path, and close it."""
    for target, handle in handles.items():
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            os.makedirs(target, exist_ok=True)
        else:
            Path(target).touch()
        mount(f"/proc/self/fd/{handle}", target, "none", MS_BIND | MS_REC)
        os.close(handle)


def _mount_points(place: str) -> list[str]:
    """The paths below ``place`` on which something is mounted, parents first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = {line.split(" ")[4].encode().decode("unicode_escape") for line in lines}
    return sorted(point for point in points if point.startswith(f"{place}/") and os.path.exists(point))
