"""Configuration files of the host that are used only if just root and the caller can write to them."""

from __future__ import annotations

from _stat import S_ISREG

from gosudacon.base import ownership, posix

_DIRECTORY = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
_FILE = posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC
_UNSAFE = "must belong to root and be writable only by its owner"


class Unusable(ValueError):
    """Why a file or a directory does not count."""


def open_directory(path: str) -> int:
    """A descriptor of a directory. Raises OSError, and `Unusable` for one that others can write to."""
    fd = posix.open(path, _DIRECTORY)
    try:
        if not ownership.is_safe(path, posix.fstat(fd)):
            raise Unusable(_UNSAFE)
    except BaseException:
        posix.close(fd)
        raise
    return fd


def open_file(path: str, name: str, directory: int) -> int:
    """A descriptor of the regular file ``name`` in a directory; ``path`` is its full path. Raises as `open_directory`.

    Symbolic links are not followed, and nothing is waited for.
    """
    fd = posix.open(name, _FILE, dir_fd=directory)
    try:
        status = posix.fstat(fd)
        if not S_ISREG(status.st_mode):
            raise Unusable("is not a regular file")
        if not ownership.is_safe(path, status):
            raise Unusable(_UNSAFE)
    except BaseException:
        posix.close(fd)
        raise
    return fd


def read(fd: int, most: int) -> bytes:
    """All that is in a file, of at most ``most`` MiB. Raises `Unusable` for one that is longer, or empty."""
    data = b""
    while chunk := posix.read(fd, 1 << 20):
        data += chunk
        if len(data) > most << 20:
            raise Unusable(f"is longer than {most} MiB")
    if not data.strip():
        raise Unusable("is empty")
    return data
