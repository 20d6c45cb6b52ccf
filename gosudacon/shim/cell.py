"""A fork in the cgroup of a container, for a worker that is about to become one of its processes.

Only a fork gets into a cgroup of the unified hierarchy at once (clone3(2), CLONE_INTO_CGROUP); to write to cgroup.procs
waits for all processors. What the worker does before it is confined is then charged to the container, as that of any
runtime's process in there is, and held up with it. So it stays outside of one that is frozen, where it could not even
say so, and of one that is small.
"""

from __future__ import annotations

from errno import ENOENT

from gosudacon.base import posix
from gosudacon.base.errors import SyscallError
from gosudacon.linux import namespace
from gosudacon.linux.cgroup import files

_ROOM = 64 << 20  # bytes, of which a worker needs a tenth


def fork(cgroup: str) -> int:
    """fork(2), into this directory of the unified hierarchy if a process is well off there, else where this one is.

    Raises OSError if neither can be.
    """
    try:
        fd = files.open_directory(cgroup)
    except OSError:  # it is gone, as the worker will find
        return posix.fork()
    try:
        if _is_open(fd):
            return namespace.clone(0, fd)
    except OSError:  # it takes no process, or there is no clone3(2)
        pass
    finally:
        posix.close(fd)
    return posix.fork()


def _is_open(fd: int) -> bool:
    if "frozen 1" in files.read(fd, "cgroup.events"):
        return False
    try:
        limit = files.read(fd, "memory.max").strip()
    except SyscallError as error:
        if error.errno != ENOENT:  # this cgroup has no memory controller
            raise
        return True
    return limit == "max" or int(limit) >= _ROOM
