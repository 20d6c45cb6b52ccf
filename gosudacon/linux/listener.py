"""The supervisor's end of a seccomp filter that asks: receive system calls, and answer (seccomp_unotify(2))."""

from __future__ import annotations

import fcntl
from errno import EINTR, ENOENT
from struct import Struct

from gosudacon.base import posix
from gosudacon.linux.notify_all import EXECVE as EXECVE  # for supervisors, too
from gosudacon.linux.notify_all import NATIVE as NATIVE
from gosudacon.linux.seccomp import library as library
from gosudacon.linux.seccomp import take_descriptor as take_descriptor

# SECCOMP_IOCTL_NOTIF_RECV, _SEND, _ID_VALID and _SET_FLAGS of linux/seccomp.h.
_RECEIVE, _SEND, _VALID, _SET_FLAGS = 0xC0502100, 0xC0182101, 0x40082102, 0x40082104
_SYNC_WAKE_UP = 1  # SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP, Linux 6.6
_CONTINUE = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE

#: struct seccomp_notif: id, pid, flags; number, architecture, instruction pointer, six arguments.
NOTIFICATION = Struct("=QIIIIQ6Q")
#: struct seccomp_data in it, as the words that a filter sees.
DATA = Struct("=16I")
DATA_OFFSET = 16
_ANSWER = Struct("=QqiI")  # struct seccomp_notif_resp: id, value, error, flags
_EMPTY = bytes(NOTIFICATION.size)


class Listener:
    """A notification descriptor. It is readable when a call waits, and hangs up when no process is under the filter."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._buffer = bytearray(NOTIFICATION.size)
        try:
            fcntl.ioctl(fd, _SET_FLAGS, _SYNC_WAKE_UP)  # answers on the caller's processor: half the time
        except OSError:
            return  # an older kernel

    def receive(self) -> bytearray | None:
        """A `NOTIFICATION`, which is overwritten by the next; None if who called is gone, or a signal came."""
        buffer = self._buffer
        buffer[:] = _EMPTY
        try:
            fcntl.ioctl(self.fd, _RECEIVE, buffer)
        except OSError as error:
            if error.errno not in (ENOENT, EINTR):
                raise
            return None
        return buffer

    def go_on(self, id: int) -> None:
        """Let the kernel carry the call out."""
        self._send(_ANSWER.pack(id, 0, 0, _CONTINUE))

    def refuse(self, id: int, number: int) -> None:
        """Let the call fail with this errno; with 0 it succeeds without having been made."""
        self._send(_ANSWER.pack(id, 0, -number, 0))

    def waits(self, id: int) -> bool:
        """Whether the call still waits: what was read of the process in /proc is then really its own."""
        try:
            fcntl.ioctl(self.fd, _VALID, id.to_bytes(8, "little"))
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Every call that waits, and every one to come, fails with ENOSYS."""
        posix.close(self.fd)

    def _send(self, answer: bytes) -> None:
        while True:
            try:
                fcntl.ioctl(self.fd, _SEND, answer)
            except OSError as error:
                if error.errno == EINTR:
                    continue
                if error.errno != ENOENT:  # killed meanwhile
                    raise
            return
