"""The terminal of a foreground container: raw mode, bytes both ways, window size."""

from __future__ import annotations

import termios

from gosudacon.linux import console
from gosudacon.linux import system as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CHUNK = 65536
_POLLIN, _POLLOUT = 1, 4
_STDIN, _STDOUT = 0, 1


class Pump:
    """Bytes on their way from one descriptor to another: what was read and could not be written yet is kept."""

    def __init__(self, source: int, target: int) -> None:
        self.source = source
        self.target = target
        self.buffer = b""
        self.open = True

    def read(self) -> None:
        """Take what is there; at end of file (a terminal's is EIO) there is nothing more to come."""
        try:
            data = os.read(self.source, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.buffer += data
        self.open = self.open and bool(data)

    def write(self) -> None:
        """Pass on what the target takes now; one that is gone takes nothing any more."""
        try:
            self.buffer = self.buffer[os.write(self.target, self.buffer) :]
        except BlockingIOError:
            return
        except OSError:
            self.buffer, self.open = b"", False

    def wants(self, events: dict[int, int]) -> None:
        """Say what to wait for: something to read, unless there is still something to write."""
        if self.buffer:
            events[self.target] = events.get(self.target, 0) | _POLLOUT
        elif self.open:
            events[self.source] = events.get(self.source, 0) | _POLLIN


class Terminal:
    """The caller's standard streams joined to the container's terminal."""

    def __init__(self, master: int) -> None:
        self.master = master
        self.input = Pump(_STDIN, master)
        self.output = Pump(master, _STDOUT)
        self._saved: list[Any] | None = None
        os.set_blocking(master, False)
        self.resize()
        self._enter_raw_mode()

    def resize(self) -> None:
        """Give the container's terminal the size of the caller's, if that is one."""
        if os.isatty(_STDIN):
            console.copy_size(_STDIN, self.master)

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
                before = self.output.buffer
                self.output.read()
                if self.output.buffer == before:
                    break  # nothing more is there, though somebody still holds the terminal open
            self.output.write()
        self.restore()
        os.close(self.master)

    def restore(self) -> None:
        """Leave raw mode."""
        if self._saved is not None:
            termios.tcsetattr(_STDIN, termios.TCSADRAIN, self._saved)
        self._saved = None

    def _enter_raw_mode(self) -> None:
        """As cfmakeraw(3)."""
        if not os.isatty(_STDIN):
            return
        self._saved = termios.tcgetattr(_STDIN)
        raw = termios.tcgetattr(_STDIN)
        raw[0] &= ~(termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP)
        raw[0] &= ~(termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON)
        raw[1] &= ~termios.OPOST
        raw[2] = raw[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        raw[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
        termios.tcsetattr(_STDIN, termios.TCSANOW, raw)
