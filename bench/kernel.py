"""The few system calls the bench needs and Python 3.11 does not wrap.

The bench is outside the package on purpose (it must also measure an installed
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
AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
OPEN_TREE_CLONE = 1
MOUNT_ATTR_RDONLY = 1
MOUNT_ATTR_NOSUID = 2
MOUNT_ATTR_NODEV = 4
#: Numbers of calls without a wrapper in the C library of Debian 12; the first two are the same everywhere.
_SYS = {"open_tree": 428, "mount_setattr": 442, "execveat-x86_64": 322, "execveat-aarch64": 281}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.unshare.argtypes = [ctypes.c_int]
_libc.setns.argtypes = [ctypes.c_int, ctypes.c_int]
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_void_p]
_libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]
_libc.syscall.restype = ctypes.c_long
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
    """prctl(2) PR_SET_CHILD_SUBREAPER: orphans become the bench's children, as they do a shim's."""
    _check(_libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl(PR_SET_CHILD_SUBREAPER)")


def exec_sealed(argv: list[str]) -> None:
    """Execute ``argv[0]`` from a read-only clone of its mount, as gosudacon's launcher does.

    execveat(2) of an open_tree(2) descriptor after mount_setattr(2). Returns never; OSError when the
    kernel refuses a step.
    """
    path = os.fsencode(argv[0])
    tree = _syscall("open_tree", _SYS["open_tree"], AT_FDCWD, path, OPEN_TREE_CLONE | os.O_CLOEXEC)
    attr = (ctypes.c_uint64 * 4)(MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, 0, 0, 0)
    _syscall("mount_setattr", _SYS["mount_setattr"], tree, b"", AT_EMPTY_PATH, attr, ctypes.sizeof(attr))
    arguments = _strings(argv)
    environment = _strings([f"{name}={value}" for name, value in os.environ.items()])
    number = _SYS[f"execveat-{os.uname().machine}"]
    _syscall("execveat", number, tree, b"", arguments, environment, AT_EMPTY_PATH)


def _syscall(name: str, *words: object) -> int:
    result = int(_libc.syscall(*(ctypes.c_long(w) if isinstance(w, int) else w for w in words)))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def _strings(words: list[str]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * (len(words) + 1))(*(os.fsencode(word) for word in words), None)
