"""What the shim keeps of a process's standard streams: ends that it holds open, and bytes that it passes on.

`gosudacon.shim.stdio` opened them, in a worker.
"""

from __future__ import annotations

import fcntl
import select
from errno import EAGAIN, EDQUOT, EINVAL, ENOSPC

from gosudacon.base import posix
from gosudacon.linux import console
from gosudacon.shim import stdio
from gosudacon.shim.loop import READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gosudacon.shim.loop import Loop

_FIONREAD = 0x541B
_CHUNK = 1 << 16
_FULL = (ENOSPC, EDQUOT)
_AGAIN = 1.0  # seconds between attempts to write to a file system that is full
_SPLICE = 1 | 2  # SPLICE_F_MOVE, SPLICE_F_NONBLOCK
_FIRST_LOOK, _LAST_LOOK = 0.0005, 1.0  # seconds between looks whether a FIFO has been read
_PATIENCE = 3.0  # seconds in which passed on output must be taken once the process has ended


class Copy:
    """Bytes on their way from one descriptor to another, by splice(2) where both can, else through a buffer."""

    def __init__(self, loop: Loop, source: int, target: int, ended: Callable[[], None]) -> None:
        self._loop = loop
        self._source = source
        self._target = target
        self._ended = ended
        self._splices = True
        self._buffer = b""
        self.open = True
        loop.watch(source, READ, self._ready)

    def pump(self) -> None:
        """Pass on what is there and is taken; then wait for whichever side there is to wait for."""
        while self.open:
            try:
                if not self._move():
                    self.close()
                    return
            except OSError as error:
                if error.errno in _FULL:
                    self._wait_for_room()
                elif error.errno == EAGAIN:
                    self._wait()
                else:
                    self.close()
                return

    def close(self) -> None:
        """Stop. The descriptors stay open."""
        if self.open:
            self.open = False
            self._loop.forget(self._source)
            self._loop.forget(self._target)
            self._ended()

    def _ready(self, _events: int) -> None:
        self.pump()

    def _move(self) -> int:
        """How many bytes were moved; 0 at the end. Raises OSError: EAGAIN if one side has to be waited for."""
        if self._splices:
            try:
                return posix.splice(self._source, self._target, _CHUNK, flags=_SPLICE)
            except OSError as error:
                if error.errno != EINVAL:  # a terminal of some kernels, a file that is appended to
                    raise
                self._splices = False
        if not self._buffer:
            self._buffer = posix.read(self._source, _CHUNK)
            if not self._buffer:
                return 0
        written = posix.write(self._target, self._buffer)
        self._buffer = self._buffer[written:]
        return written

    def _wait_for_room(self) -> None:
        """A file system is full: nothing is lost, and the process waits, as with a FIFO without a reader."""
        self._loop.forget(self._source)
        self._loop.later(_AGAIN, self.pump)

    def _wait(self) -> None:
        if self._buffer or not _is_ready(self._target, select.POLLOUT):
            self._loop.forget(self._source)  # it stays ready, and its end would be reported again and again
            self._loop.watch(self._target, WRITE, self._ready)
        else:
            self._loop.forget(self._target)
            self._loop.watch(self._source, READ, self._ready)


class Kept:
    """The descriptors that the shim keeps for one process, from its start to its end."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._roles: list[str] = []
        self._descriptors: list[int] = []
        self._pairs: list[tuple[int, int]] = []
        self._inputs: list[Copy] = []
        self._outputs: list[Copy] = []
        self._master = self._keyboard = -1
        self._size: tuple[int, int] | None = None
        self._waiting: list[Callable[[], None]] = []
        self._input_closed = False
        self._ended = False

    def take(self, roles: Sequence[str], descriptors: Sequence[int], pairs: Sequence[tuple[int, int]]) -> None:
        """Keep these descriptors."""
        self._roles, self._descriptors, self._pairs = [*roles], [*descriptors], [*pairs]
        if self._input_closed:
            self._drop(stdio.INPUT)

    def take_terminal(self, master: int) -> None:
        """Keep the process's terminal."""
        posix.set_blocking(master, False)
        self._master = master
        if self._size is not None:
            self.resize(*self._size)

    def begin(self) -> None:
        """Pass on bytes, if there are any to pass on."""
        for source, target in self._pairs:
            start, end = self._at(source), self._at(target)
            if start < 0 or end < 0:
                continue
            if target == stdio.MASTER:  # watched for itself: the terminal is the output's source, too
                end = self._keyboard = posix.dup(end)
            copies = self._inputs if self._is_input(target) else self._outputs
            copies.append(Copy(self._loop, start, end, self._forwarder(target)))

    def resize(self, height: int, width: int) -> None:
        """Give the terminal a size, now or as soon as there is one."""
        self._size = height, width
        if self._master >= 0:
            console.set_size(self._master, height & 0xFFFF, width & 0xFFFF)

    def close_input(self) -> None:
        """Let the process see the end of its input, once it has read what is there."""
        self._input_closed = True
        self._drop(stdio.INPUT)

    def finish(self) -> None:
        """The process has ended: pass on what it has left, and let the readers see the end."""
        if self._ended:
            return
        self._ended = True
        for copy in self._inputs:
            copy.close()
        self._drop(stdio.INPUT)
        for copy in [*self._outputs]:
            copy.pump()
        if self.busy:
            self._loop.later(_PATIENCE, self.close)
        self._settle(_FIRST_LOOK)

    def when_quiet(self, call: Callable[[], None]) -> None:
        """Call it when no output is on its way through the shim any more; now, if none is."""
        if self.busy:
            self._waiting.append(call)
        else:
            call()

    @property
    def busy(self) -> bool:
        """Whether output of the process is still on its way through the shim."""
        return any(copy.open for copy in self._outputs)

    def close(self) -> None:
        """Close everything, whatever is still on its way."""
        self._ended = True
        for copy in [*self._inputs, *self._outputs]:
            copy.close()
        stdio.close([*self._descriptors, self._master, self._keyboard])
        self._descriptors, self._roles, self._pairs, self._master, self._keyboard = [], [], [], -1, -1
        self._inputs, self._outputs = [], []

    def _settle(self, pause: float) -> None:
        """Close all once what is written has been read: a FIFO that no process has open loses what is in it."""
        if not self._descriptors and self._master < 0:
            return
        if not self.busy and not self._unread():
            self.close()
            return
        self._loop.later(pause, lambda: self._settle(min(2 * pause, _LAST_LOOK)))

    def _unread(self) -> bool:
        for role, fd in zip(self._roles, self._descriptors, strict=True):
            if role == stdio.HOLD and _readable(fd):
                return True
        return False

    def _at(self, position: int) -> int:
        return self._master if position == stdio.MASTER else self._descriptors[position]

    def _is_input(self, target: int) -> bool:
        """Whether what is written there is what the process reads."""
        return target == stdio.MASTER or self._roles[target] == stdio.PROCESS_INPUT

    def _forwarder(self, target: int) -> Callable[[], None]:
        """What to do at the end of a copy: end the process's input with its source, and wait for output no longer."""

        def ended() -> None:
            if target != stdio.MASTER and self._roles[target] == stdio.PROCESS_INPUT:
                self._drop(stdio.PROCESS_INPUT)
            if not self.busy:
                waiting, self._waiting = self._waiting, []
                for call in waiting:
                    call()

        return ended

    def _drop(self, role: str) -> None:
        for position, kind in enumerate(self._roles):
            if kind == role and self._descriptors[position] >= 0:
                posix.close(self._descriptors[position])
                self._descriptors[position] = -1


def _is_ready(fd: int, event: int) -> bool:
    poller = select.poll()
    poller.register(fd, event)
    return bool(poller.poll(0))


def _readable(fd: int) -> bool:
    """Whether a FIFO holds bytes that have not been read."""
    try:
        return fd >= 0 and any(fcntl.ioctl(fd, _FIONREAD, bytes(4)))
    except OSError:
        return False
