"""Cgroups as directories: what `delete` does with them, for which `posix` is enough. `cgroupfs` has the rest."""

from __future__ import annotations

from errno import EBUSY

from gosudacon.base import posix
from gosudacon.base.errors import SyscallError

DIRECTORY = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC


def open_hierarchy(point: str) -> int:
    """A descriptor of the root of the hierarchy mounted at ``point``, for the functions here and in `cgroupfs`."""
    return posix.open(point, DIRECTORY)


def inode(fd: int, name: str) -> int:
    """The inode number of the cgroup ``name`` below ``fd``, which no later one has again; 0 if it does not exist."""
    try:
        return posix.stat(name, dir_fd=fd, follow_symlinks=False).st_ino
    except FileNotFoundError:
        return 0


def rmdir(parent: int, name: str) -> bool:
    """Remove the cgroup ``name`` below ``parent`` if it is empty; False if it has processes or children."""
    try:
        posix.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno == EBUSY:
            return False
        raise SyscallError(error.errno or 0, "rmdir", f"cgroup {name}") from None
    return True
