"""Paths inside a root, resolved by the kernel to a descriptor: openat2(2); never by string."""

from __future__ import annotations

import os

from gosudacon.linux import abi
from gosudacon.linux.errors import SyscallError

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

_openat2 = abi.syscall("openat2", abi.INT, abi.PATH, abi.BUFFER, abi.SIZE)
_EAGAIN, _ENOENT, _ELOOP, _ENOTDIR = 11, 2, 40, 20
_TRIES = 128


def openat2(dirfd: int, path: str | bytes, flags: int, resolve: int, mode: int = 0) -> int:
    """openat2(2), close-on-exec; EAGAIN (a rename raced with the resolution) is tried again a bounded number of times."""
    how = b"".join(value.to_bytes(8, "little") for value in (flags | os.O_CLOEXEC, mode, resolve))
    for attempt in range(_TRIES):
        try:
            return _openat2(dirfd, path, how, 24, about=path)
        except SyscallError as error:
            if error.errno != _EAGAIN or attempt == _TRIES - 1:
                raise
    raise AssertionError("unreachable")


def open_in_root(root: int, path: str | bytes, flags: int = os.O_PATH, resolve: int = 0) -> int:
    """Open ``path`` as a process with the root ``root`` would, following its symlinks but no magic ones."""
    return openat2(root, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve)


def mkdir_in_root(root: int, path: str, mode: int = 0o755) -> int:
    """Make ``path`` and its parents inside ``root``; returns an O_PATH descriptor of the directory.

    What exists is resolved by the kernel, symlinks included; what is missing is made component by component
    below the descriptor reached, without following a link that appears meanwhile. ``..`` in the part that
    is missing raises ENOENT.
    """
    fd, missing = _longest_existing(root, path)
    for name in missing:
        fd = _descend(fd, name, mode)
    return fd


def file_in_root(root: int, path: str, mode: int = 0o644) -> int:
    """Make an empty regular file at ``path`` inside ``root`` if nothing is there; an O_PATH descriptor of what is."""
    try:
        return open_in_root(root, path)
    except SyscallError as error:
        if error.errno != _ENOENT:
            raise
    parent, _, name = path.rstrip("/").rpartition("/")
    directory = mkdir_in_root(root, parent or "/")
    try:
        try:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=directory))
        except FileExistsError:
            pass  # somebody was faster, or a dangling link: the next open tells
        return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    finally:
        os.close(directory)


def _longest_existing(root: int, path: str) -> tuple[int, list[str]]:
    names = [name for name in path.split("/") if name not in ("", ".")]
    for count in range(len(names), -1, -1):
        try:
            fd = open_in_root(root, "/".join(["."] + names[:count]), os.O_PATH | os.O_DIRECTORY)
        except SyscallError as error:
            if error.errno != _ENOENT or count == 0:
                raise
            continue
        missing = names[count:]
        if ".." in missing:
            os.close(fd)
            raise SyscallError(_ENOENT, "mkdirat", path)
        return fd, missing
    raise AssertionError("unreachable")


def _descend(fd: int, name: str, mode: int) -> int:
    try:
        try:
            os.mkdir(name, mode, dir_fd=fd)
        except FileExistsError:
            pass
        return os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    finally:
        os.close(fd)


def location(fd: int) -> str:
    """Where the kernel says the object behind ``fd`` is now (``/proc/self/fd/N``)."""
    return os.readlink(f"/proc/self/fd/{fd}")
