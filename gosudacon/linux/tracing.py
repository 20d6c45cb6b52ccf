"""Reading the seccomp filters of another process: ptrace(2), PTRACE_SECCOMP_GET_FILTER. Stops it for a moment."""

from __future__ import annotations

import time
from errno import ENOENT

from gosudacon.base import posix
from gosudacon.base.errors import Error, SyscallError
from gosudacon.linux import abi

_ptrace = abi.syscall("ptrace", abi.LONG, abi.LONG, abi.LONG, abi.BUFFER)

_SEIZE, _INTERRUPT, _DETACH, _GET_FILTER = 0x4206, 0x4207, 17, 0x420C
_WALL = 0x40000000
_PATIENCE = 2.0  # seconds; a process that is frozen by cgroup v1 does not stop
_MOST = 64


def filters(pid: int) -> list[bytes]:
    """The programs of a process's first thread, the newest first, each an array of struct sock_filter.

    Takes CAP_SYS_ADMIN in the initial user namespace, and a caller that is itself under no filter. The process is
    stopped for less than a millisecond; system calls such as epoll_wait(2) return EINTR for it. Raises `SyscallError`,
    and `Error` if it does not stop. To be called in a child, whose end lets go of the process in any case.
    """
    _ptrace(_SEIZE, pid, 0, None, about=f"process {pid}")
    try:
        _ptrace(_INTERRUPT, pid, 0, None)
        end = time.monotonic() + _PATIENCE
        while posix.waitpid(pid, posix.WNOHANG | _WALL)[0] != pid:
            if time.monotonic() > end:
                raise Error(f"process {pid} does not stop: it is frozen, or waits for a file system")
            time.sleep(0.0002)
        return list(_programs(pid))
    finally:
        try:
            _ptrace(_DETACH, pid, 0, None)
        except SyscallError:
            pass  # not stopped: the end of this process detaches


def _programs(pid: int) -> list[bytes]:
    found: list[bytes] = []
    while len(found) < _MOST:
        try:
            count = _ptrace(_GET_FILTER, pid, len(found), None)
        except SyscallError as error:
            if error.errno == ENOENT:
                break
            raise
        code = bytearray(8 * count)
        _ptrace(_GET_FILTER, pid, len(found), code)
        found.append(bytes(code))
    return found
