"""The runtime's part of an exec whose worker has become the container's side itself: from its birth to its execve(2).

The worker joins the container, confines itself and forks: what is born in the container is a child of the shim. That
saves a process. The shim waits for nothing: it takes messages as they come, over the socket over which the worker has
reported so far. It never reads another note from there, and no descriptor.

What was born shares its pid namespace with processes that may steer it. So each message counts only from whom the
kernel says that it may come (unix(7), SCM_CREDENTIALS): the pid of what was born from the worker, which the container's
processes cannot see, and all that follows from that pid alone.
"""

from __future__ import annotations

import _signal
import _socket

from gosudacon.base import errors, posix
from gosudacon.linux import proc
from gosudacon.pipeline.executor import (
    FAILED,
    FORKED,
    GO,
    LONGEST_WARNING,
    MOST_WARNINGS,
    PACKET,
    READY,
    WARNED,
    number,
    reported,
)
from gosudacon.shim.loop import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from gosudacon.shim.loop import Loop

_MOST = 1000  # messages: while there are any the loop does nothing else
_CREDENTIALS = 12  # bytes: pid, uid, gid
_ROOM = _socket.CMSG_SPACE(_CREDENTIALS)  # and none for descriptors, which the kernel closes then


class Violation(errors.StepError):
    """A message that the process would not send if it were in its right state."""


class Killed(errors.StateError):
    """The process ended, and nothing in it had a reason to."""


class Alone:
    """``pid`` is that of the worker at first, then of what was born in the container.

    ``done`` is called once, with the pid and warnings of a process that was executed, or with an error; ``lost``, in
    its place, if the worker has ended without a word.
    """

    def __init__(
        self,
        loop: Loop,
        channel: _socket.socket,
        pid: int,
        warnings: list[str],
        done: Callable[[int, list[str]], None],
        failed: Callable[[errors.Error], None],
        lost: Callable[[], None],
    ) -> None:
        self.pid = pid
        self._channel = channel
        self._warnings = warnings
        self._done, self._failed, self._lost = done, failed, lost
        self._born = False
        self._started = 0  # in clock ticks since boot, once it may be executed
        self._over = False
        self._count = 0  # of messages
        loop.watch(channel.fileno(), READ, self.read)

    def read(self, _events: int = 0) -> None:
        """Take what has come."""
        while not self._over:
            try:
                data, told, _, _ = self._channel.recvmsg(PACKET, _ROOM, _socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return
            except ConnectionResetError:  # of a side that left without having read everything: first what it had sent
                continue
            self._count += 1
            if not data:
                self._left()
            elif self._count > _MOST:
                self._fail(Violation("the container's process sends without end"))
            elif _sender(told) != self.pid:
                self._fail(Violation("the container's process sent a message for another one"))
            else:
                self._take(data[:1], data[1:])

    def ends(self, pid: int) -> None:
        """A child of the shim has ended and is about to be collected."""
        self.read()
        if pid == self.pid and not self._over:  # without a word, and perhaps with another one at the channel
            self._left()

    def _take(self, kind: bytes, payload: bytes) -> None:
        try:
            if kind == FORKED and not self._born:
                self._follow(number(payload))
            elif kind == READY and self._born and not self._started:
                self._started = proc.start_time(self.pid)
                self._channel.send(GO)
            elif kind == WARNED:
                del self._warnings[MOST_WARNINGS:]
                self._warnings.append(payload[:LONGEST_WARNING].decode(errors="replace"))
            elif kind == FAILED:
                raise reported(payload)
            else:
                raise Violation("the container's process sent an invalid message")
        except errors.Error as error:
            self._fail(error)
        except (BrokenPipeError, ConnectionResetError):  # it is gone: the end of the channel follows
            return
        except OSError as error:
            self._fail(errors.StepError(errors.reason(error)))

    def _follow(self, pid: int) -> None:
        try:
            posix.waitid(posix.P_PID, pid, posix.WEXITED | posix.WNOHANG | posix.WNOWAIT)
        except ChildProcessError:
            raise errors.StepError("the container's process ended before it was ready") from None
        self.pid, self._born = pid, True

    def _left(self) -> None:
        """Nothing more will come: by execve(2), or since the process has ended."""
        if not self._born:
            self._over = True
            self._lost()
        elif not self._started or proc.never_executed(self.pid, self._started):
            self._fail(Killed("the process was killed before it was executed"))
        else:
            self._over = True
            self._done(self.pid, self._warnings)

    def _fail(self, error: errors.Error) -> None:
        self._over = True
        try:
            posix.kill(self.pid, _signal.SIGKILL)  # it has not been collected
        except ProcessLookupError:
            pass
        self._failed(error)


def _sender(told: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in told:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_CREDENTIALS):
            return int.from_bytes(data[:4], "little")
    return 0
