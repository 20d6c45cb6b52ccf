"""A mount and a network namespace for the whole test run.

What a runtime under test might leak then never reaches the machine, several runs do not see each other's
mounts and links, and whatever a crash leaves behind vanishes with the last process.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct

_CLONE_NEWNS = 0x00020000
_CLONE_NEWNET = 0x40000000
_MS_REC, _MS_SLAVE, _MS_SHARED = 0x4000, 1 << 19, 1 << 20
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1

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
    _check(_libc.umount2(target.encode(), 2 | 8), f"umount {target}")


def enter_private() -> None:
    """Move this process into a mount and a network namespace of its own, with the loopback link up.

    The mounts are shared among themselves, as on a machine booted by systemd, so that a runtime which forgets
    to cut propagation is found out; they still follow the machine's own.
    """
    _check(_libc.unshare(_CLONE_NEWNS | _CLONE_NEWNET), "unshare")
    mount("none", "/", "none", _MS_REC | _MS_SLAVE)
    mount("none", "/", "none", _MS_REC | _MS_SHARED)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", _IFF_UP))
