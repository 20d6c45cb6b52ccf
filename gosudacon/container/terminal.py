"""The terminal of a foreground container: raw mode, bytes both ways, window size, job control."""

from __future__ import annotations

import _signal
import select
import termios

from gosudacon.base import posix
from gosudacon.base.errors import Error
from gosudacon.linux import console

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gosudacon.container.caller import Caller

    Settings = list[Any]  # six numbers and a list of characters, as tcgetattr(3) fills them in

_CHUNK = 65536
_ATOMIC = 4096  # PIPE_BUF: what a pipe takes without a wait once poll(2) says that it takes something
_POLLIN, _POLLOUT = 1, 4


def find(caller: Caller) -> int:
    """The caller's terminal: the one it names, else the first of its error, output and input that is one, else
    /dev/tty (tty(4)), where that is the caller's.

    Raises `Error` if there is no terminal: a container's terminal whose other end is not read would be a mistake, and
    runc refuses it, too.
    """
    if caller.terminal >= 0:
        return caller.terminal
    for fd in reversed(caller.streams):
        if posix.isatty(fd):
            return fd
    if not caller.controlling:
        raise Error("process.terminal is set, but the caller has no terminal", where="process.terminal")
    try:
        fd = posix.open("/dev/tty", posix.O_RDWR | posix.O_NOCTTY | posix.O_CLOEXEC)
    except OSError as error:
        text = posix.strerror(error.errno or 0)
        raise Error(
            f"open /dev/tty: {text[:1].lower()}{text[1:]}",
            call="open",
            errno=error.errno or 0,
            where="process.terminal",
            hint="process.terminal needs one; --detach with --console-socket does without",
        ) from None
    caller.private.append(fd)
    return fd


class Pump:
    """Bytes on their way from one descriptor to another: what was read and could not be written yet is kept."""

    def __init__(self, source: int, target: int) -> None:
        self.source = source
        self.target = target
        self.buffer = b""
        self.open = True
        self.lost = False  # output is discarded; it is still read, or the process that writes it would wait for ever

    def read(self) -> None:
        """Take what is there; at end of file (a terminal's is EIO) there is nothing more to come."""
        try:
            data = self.take()
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not self.lost:
            self.buffer += data
        self.open = self.open and bool(data)

    def take(self) -> bytes:
        """read(2)."""
        return posix.read(self.source, _CHUNK)

    def write(self) -> None:
        """Pass on what the target takes now; one that is gone takes nothing any more."""
        try:
            self.buffer = self.buffer[posix.write(self.target, self.buffer[:_ATOMIC]) :]
        except BlockingIOError:
            return
        except OSError:
            self.buffer, self.lost = b"", True

    def wants(self, events: dict[int, int]) -> None:
        """Say what to wait for: something to read, unless there is still something to write."""
        if self.buffer:
            events[self.target] = events.get(self.target, 0) | _POLLOUT
        elif self.open:
            events[self.source] = events.get(self.source, 0) | _POLLIN


class Keyboard(Pump):
    """Standard input. In the background of a terminal this process is stopped by reading it, as any other."""

    def take(self) -> bytes:
        try:
            return super().take()
        except BlockingIOError:
            raise
        except OSError:
            if not in_background(self.source):
                raise
        # SIGTTIN is blocked, like all signals, which makes it an error. Let it through: in a process group that
        # no process could continue it stays one, and is the end of the input.
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (_signal.SIGTTIN,))
        try:
            return super().take()
        finally:
            _signal.pthread_sigmask(_signal.SIG_BLOCK, (_signal.SIGTTIN,))


def in_background(fd: int) -> bool:
    """Whether ``fd`` is this session's terminal, and another process group has it (tcgetpgrp(3))."""
    try:
        return posix.tcgetpgrp(fd) != posix.getpgrp()
    except OSError:
        return False


class Terminal:
    """The caller's standard ``streams`` joined to the container's terminal; ``host`` is the caller's (`find`)."""

    def __init__(self, master: int, host: int, streams: tuple[int, int, int]) -> None:
        self.master = master
        self.host = host
        self.input: Pump = Keyboard(streams[0], master)
        self.output = Pump(master, streams[1])
        self._saved: Settings | None = None
        posix.set_blocking(master, False)
        _leave_newlines_alone(master)
        self.resize()
        self._enter_raw_mode()

    def resize(self) -> None:
        """Give the container's terminal the size of the caller's."""
        console.copy_size(self.host, self.master)

    def resume(self) -> None:
        """After SIGCONT: another process had the terminal, and may have changed its settings and size."""
        self.resize()
        if self._saved is not None and not in_background(self.host):
            self._set(_raw(self._saved))

    def wants(self) -> dict[int, int]:
        """What to wait for with poll(2): descriptor -> events."""
        events: dict[int, int] = {}
        self.input.wants(events)
        self.output.wants(events)
        return events

    def step(self, ready: list[tuple[int, int]]) -> None:
        """Move bytes for what ``poll`` reported."""
        events = dict(ready)
        for pump in (self.input, self.output):
            if pump.buffer:
                if events.get(pump.target, 0) & ~_POLLIN:
                    pump.write()
            elif pump.open and events.get(pump.source, 0) & ~_POLLOUT:
                pump.read()

    def finish(self) -> None:
        """Pass on what the container wrote before it ended, and give the caller's terminal its settings back."""
        while self.output.open or self.output.buffer:
            if not self.output.buffer:
                self.output.read()
                if not self.output.buffer:
                    break  # nothing more is there, though another process still holds the terminal open
            poller = select.poll()
            poller.register(self.output.target, _POLLOUT)
            poller.poll()
            self.output.write()
        self.restore()
        posix.close(self.master)

    def restore(self) -> None:
        """Leave raw mode, unless another process has the terminal now, with settings of its own."""
        if self._saved is not None and not in_background(self.host):
            self._set(self._saved, termios.TCSADRAIN)
        self._saved = None

    def _enter_raw_mode(self) -> None:
        """In the background this stops the process (SIGTTOU) until the caller brings it to the foreground."""
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (_signal.SIGTTOU,))
        try:
            saved = termios.tcgetattr(self.host)
            if self._set(_raw(saved)):
                self._saved = saved
        finally:
            _signal.pthread_sigmask(_signal.SIG_BLOCK, (_signal.SIGTTOU,))

    def _set(self, settings: Settings, when: int = termios.TCSANOW) -> bool:
        """tcsetattr(3); False where the terminal is gone, or not this process's to set."""
        try:
            termios.tcsetattr(self.host, when, settings)
        except termios.error:
            return False
        return True


def _leave_newlines_alone(master: int) -> None:
    """Have the container's terminal add no carriage return (ONLCR, termios(3)): what is a terminal at the caller's end
    adds its own, and a pipe or a file gets what was written."""
    settings = termios.tcgetattr(master)
    settings[1] &= ~termios.ONLCR
    termios.tcsetattr(master, termios.TCSANOW, settings)


def _raw(settings: Settings) -> Settings:
    """As cfmakeraw(3), except the output, which is processed as before: new lines begin at the left (ONLCR)."""
    raw = [*settings[:6], list(settings[6])]
    raw[0] &= ~(termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP)
    raw[0] &= ~(termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON)
    raw[1] |= termios.OPOST
    raw[2] = raw[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    raw[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
    return raw
