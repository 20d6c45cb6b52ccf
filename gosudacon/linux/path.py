"""Paths inside a root, resolved by the kernel to a descriptor: openat2(2); never by string."""

from __future__ import annotations

from errno import EAGAIN, ELOOP, ENOENT

from gosudacon.base import posix
from gosudacon.base.errors import SyscallError
from gosudacon.linux import abi

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

_openat2 = abi.syscall("openat2", abi.INT, abi.PATH, abi.BUFFER, abi.SIZE)
_TRIES = 128
_LINKS = 40  # as many as the kernel follows in one path


def openat2(dirfd: int, path: str | bytes, flags: int, resolve: int, mode: int = 0) -> int:
    """openat2(2), close-on-exec; EAGAIN (a rename raced with the resolution) is tried again, not for ever."""
    how = b"".join(value.to_bytes(8, "little") for value in (flags | posix.O_CLOEXEC, mode, resolve))
    for attempt in range(_TRIES):
        try:
            return _openat2(dirfd, path, how, 24, about=path)
        except SyscallError as error:
            if error.errno != EAGAIN or attempt == _TRIES - 1:
                raise
    raise AssertionError("unreachable")


def open_in_root(root: int, path: str | bytes, flags: int = posix.O_PATH, resolve: int = 0) -> int:
    """Open ``path`` as a process with the root ``root`` would, following its symlinks but no magic ones.

    ``root`` is a descriptor, ``flags`` are O_*, by default O_PATH, ``resolve`` are further RESOLVE_* (openat2(2)).
    Returns a close-on-exec descriptor. Raises `SyscallError`, ENOENT among others.
    """
    return openat2(root, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve)


def mkdir_in_root(root: int, path: str, mode: int = 0o755, resolve: int = 0) -> int:
    """Make ``path`` and its parents inside ``root``; returns an O_PATH descriptor of the directory.

    What exists is resolved by the kernel, symlinks included; what is missing (also behind a dangling link) is
    made component by component below the descriptor reached, without following a link that appears
    meanwhile. ``..`` in the missing part leads where it would if that part were there, which is not made for it.
    ``mode`` is that of what is made, whatever the umask. Raises `SyscallError`: ENOTDIR for a file in the way.
    """
    fd, missing = _reach(root, path, resolve)
    if not missing:
        return fd
    umask = posix.umask(0)
    try:
        for name in missing:
            fd = _descend(fd, name, mode)
    finally:
        posix.umask(umask)
    return fd


def deepest_in_root(root: int, path: str) -> int:
    """An O_PATH descriptor of the deepest thing on the way to ``path`` inside ``root`` that exists."""
    try:
        return open_in_root(root, path)
    except SyscallError as error:
        if error.errno != ENOENT:
            raise
    return _reach(root, path, 0)[0]


def file_in_root(root: int, path: str, mode: int = 0o644) -> int:
    """An O_PATH descriptor of what is at ``path`` inside ``root``; an empty regular file is made if nothing is."""
    try:
        return open_in_root(root, path)
    except SyscallError as error:
        if error.errno != ENOENT:
            raise
    fd, missing = _reach(root, path, 0)
    umask = posix.umask(0)
    try:
        for name in missing[:-1]:
            fd = _descend(fd, name, 0o755)
        try:
            return create_file(fd, missing[-1] if missing else ".", mode)
        finally:
            posix.close(fd)
    finally:
        posix.umask(umask)


def create_file(directory: int, name: str, mode: int = 0o644) -> int:
    """Make an empty file in ``directory`` if it is missing; an O_PATH descriptor of it; it is not a symlink."""
    try:
        posix.close(
            posix.open(name, posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC, mode, dir_fd=directory)
        )
    except FileExistsError:
        pass
    except OSError as error:
        raise SyscallError(error.errno or 0, "openat", name) from None
    return openat2(directory, name, posix.O_PATH, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)


def _reach(root: int, path: str, resolve: int) -> tuple[int, list[str]]:
    """The deepest directory on the way to ``path`` that exists, and the names missing below it, links expanded."""
    names = [name for name in path.split("/") if name not in ("", ".")]
    for _ in range(_LINKS + names.count("..")):
        fd, count = _longest_existing(root, names, resolve)
        missing = names[count:]
        try:
            target = posix.readlink(missing[0], dir_fd=fd) if missing else ""
        except OSError:
            target = ""
        if not target and ".." not in missing:
            return fd, missing
        posix.close(fd)
        if not target:  # ``missing/..`` is where ``missing`` would be
            above = missing.index("..")
            names = names[:count] + missing[: above - 1] + missing[above + 1 :]
            continue
        # a link to what is missing: make that
        if resolve & RESOLVE_NO_SYMLINKS:
            break
        rest = [name for name in target.split("/") if name not in ("", ".")] + missing[1:]
        names = rest if target.startswith("/") else names[:count] + rest
    raise SyscallError(ELOOP, "openat2", path)


def _longest_existing(root: int, names: list[str], resolve: int) -> tuple[int, int]:
    for count in range(len(names), -1, -1):
        try:
            path = "/".join([".", *names[:count]])
            return open_in_root(root, path, posix.O_PATH | posix.O_DIRECTORY, resolve), count
        except SyscallError as error:
            if error.errno != ENOENT or count == 0:
                raise
    raise AssertionError("unreachable")


def _descend(fd: int, name: str, mode: int) -> int:
    """Make and enter a directory below ``fd``, which is closed."""
    try:
        posix.mkdir(name, mode, dir_fd=fd)
    except FileExistsError:
        pass
    except OSError as error:
        posix.close(fd)
        raise SyscallError(error.errno or 0, "mkdirat", name) from None
    try:
        return posix.open(name, posix.O_PATH | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=fd)
    finally:
        posix.close(fd)


def location(fd: int, proc: int = -1) -> str:
    """Where the kernel says the object behind ``fd`` is now (``/proc/self/fd/N``).

    ``proc``: a descriptor of a proc mount that can be trusted, where /proc itself is the container's.
    """
    return posix.readlink(f"self/fd/{fd}", dir_fd=proc) if proc >= 0 else posix.readlink(f"/proc/self/fd/{fd}")
