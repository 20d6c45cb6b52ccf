"""Cgroups as directories: what `delete` does with them, for which `posix` is enough. `cgroupfs` has the rest."""

from __future__ import annotations

from gosudacon.linux import system as os
from gosudacon.linux.errors import SyscallError

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_EBUSY = 16


def open_hierarchy(point: str) -> int:
    """A descriptor of the root of the hierarchy mounted at ``point``, for the functions here and in `cgroupfs`."""
    return os.open(point, DIRECTORY)


def inode(fd: int, name: str) -> int:
    """The inode number of the cgroup ``name`` below ``fd``, which no later one has again; 0 if there is none."""
    try:
        return os.stat(name, dir_fd=fd, follow_symlinks=False).st_ino
    except FileNotFoundError:
        return 0


def rmdir(parent: int, name: str) -> bool:
    """Remove the cgroup ``name`` below ``parent`` if it is empty; False if it has processes or children."""
    try:
        os.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno == _EBUSY:
            return False
        raise SyscallError(error.errno or 0, "rmdir", f"cgroup {name}") from None
    return True
