"""The few system calls the bench needs and Python 3.11 does not wrap.

The bench stands outside the package on purpose (it must also measure an installed
gosudacon whose sources are elsewhere), so it does not borrow ``gosudacon.linux``.
"""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS = 0x00020000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8
PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)
_libc.unshare.argtypes = [ctypes.c_int]
_libc.setns.argtypes = [ctypes.c_int, ctypes.c_int]
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_void_p]
_libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]
_libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4


def _check(result: int, call: str, path: str | None = None) -> None:
    """Raise OSError with the errno of the call just made when ``result`` says it failed."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}", path)


def unshare(flags: int) -> None:
    """unshare(2)."""
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, nstype: int) -> None:
    """setns(2)."""
    _check(_libc.setns(fd, nstype), "setns")


def make_private(path: str) -> None:
    """mount(2) with MS_REC|MS_PRIVATE: nothing below ``path`` propagates to other namespaces any more."""
    _check(_libc.mount(None, os.fsencode(path), None, MS_REC | MS_PRIVATE, None), "mount", path)


def umount(path: str, flags: int = MNT_DETACH | UMOUNT_NOFOLLOW) -> None:
    """umount2(2)."""
    _check(_libc.umount2(os.fsencode(path), flags), "umount2", path)


def become_subreaper() -> None:
    """prctl(2) PR_SET_CHILD_SUBREAPER: orphaned containers become children of the bench, as they do of a shim."""
    _check(_libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl(PR_SET_CHILD_SUBREAPER)")
