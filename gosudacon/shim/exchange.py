"""Bytes between a connection that never waits and what speaks its protocol; for clients and servers alike."""

from __future__ import annotations

from gosudacon.shim.loop import READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable
    from typing import Protocol

    from gosudacon.shim.loop import Loop

    class Speaker(Protocol):
        """A side of a protocol: `gosudacon.wire.ttrpc.Client` or ``Server``."""

        outgoing: bytearray

        @property
        def crowded(self) -> bool:
            """Whether nothing more is to be read before the other side has taken what there is."""

        def sent(self, count: int) -> None:
            """So many bytes of ``outgoing`` have been sent."""


_CHUNK = 1 << 16


class Exchange:
    """Sends what ``speaker`` has to say, as far as the other side takes it, and reads what comes.

    ``received`` is called with bytes, ``lost`` at the end of the connection, which is closed then.
    """

    def __init__(
        self,
        loop: Loop,
        socket: _socket.socket,
        speaker: Speaker,
        received: Callable[[bytes], None],
        lost: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._socket = socket
        self._speaker = speaker
        self._received = received
        self._lost = lost
        self.open = True

    def flush(self) -> None:
        """Send what is taken now, the rest when more is taken."""
        if not self.open:
            return
        try:
            while self._speaker.outgoing:
                self._speaker.sent(self._socket.send(self._speaker.outgoing))
        except BlockingIOError:
            pass
        except OSError:
            self._end()
            return
        wanted = (0 if self._speaker.crowded else READ) | (WRITE if self._speaker.outgoing else 0)
        self._loop.watch(self._socket.fileno(), wanted, self._ready)

    def close(self) -> None:
        """Give the connection up."""
        if self.open:
            self.open = False
            self._received = self._lost = _ignore  # they lead to who has this one: a cycle would outlive it for a while
            self._loop.forget(self._socket.fileno())
            self._socket.close()

    def _end(self) -> None:
        lost = self._lost
        self.close()
        lost()

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self.flush()
        if events & ~WRITE and self.open:
            self._read()

    def _read(self) -> None:
        try:
            data = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._received(data)
        else:
            self._end()


def _ignore(_data: bytes = b"") -> None:
    """In the place of callbacks that are not called any more."""
