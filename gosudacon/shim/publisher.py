"""Events for containerd, over its ttrpc socket: in order, one at a time, and kept while containerd is away."""

from __future__ import annotations

import _socket
import time
from collections import deque
from errno import EINPROGRESS

from gosudacon.shim.loop import READ, WRITE
from gosudacon.wire import containerd as wire
from gosudacon.wire import ttrpc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gosudacon.shim.loop import Loop, Timer

_METHOD = "Forward"
_TIMEOUT = 5_000_000_000  # nanoseconds for one event
_SLOWEST = 5.0  # seconds between attempts to connect
_CHUNK = 1 << 16


class Publisher:
    """Sends events to the socket ``address``. ``report`` is told what containerd refuses."""

    def __init__(self, loop: Loop, address: str, namespace: str, report: Callable[[BaseException], None]) -> None:
        self._loop = loop
        self._address = address
        self._namespace = namespace
        self._report = report
        self._queue: deque[bytes] = deque()
        self._socket: _socket.socket | None = None
        self._client = ttrpc.Client()
        self._pause = 0.05
        self._timer: Timer | None = None
        self._emptied: Callable[[], None] | None = None

    def publish(self, event: str, message: Mapping[str, object]) -> None:
        """Send an event after those before it."""
        if self._address:
            self._queue.append(wire.forward_request(self._namespace, event, message, time.time_ns()))
            self._go_on()

    def when_empty(self, call: Callable[[], None]) -> None:
        """Call it when all events have been sent; now, if they have."""
        if self._queue:
            self._emptied = call
        else:
            call()

    def close(self) -> None:
        """Send nothing any more."""
        self._drop()
        if self._timer is not None:
            self._timer.cancel()

    def _go_on(self) -> None:
        """Send the next event, if none is on its way."""
        if self._client.waiting or not self._queue or self._timer is not None:
            return
        if self._socket is None and not self._connect():
            return
        self._client.call(wire.EVENTS_SERVICE, _METHOD, self._queue[0], _TIMEOUT)
        self._flush()

    def _connect(self) -> bool:
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
        try:
            connection.connect(self._address)
        except OSError as error:
            if error.errno != EINPROGRESS:
                connection.close()
                self._try_later()
                return False
        self._socket = connection
        self._client = ttrpc.Client()
        return True

    def _flush(self) -> None:
        if self._socket is None:
            return
        try:
            while self._client.outgoing:
                self._client.sent(self._socket.send(self._client.outgoing))
        except BlockingIOError:
            pass
        except OSError:
            self._lost()
            return
        self._loop.watch(self._socket.fileno(), READ | (WRITE if self._client.outgoing else 0), self._ready)

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if events & ~WRITE and self._socket is not None:
            self._read()

    def _read(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lost()
            return
        reply = self._client.receive(data)
        if reply is not None and reply.code == ttrpc.UNAVAILABLE:
            self._lost()
        elif reply is not None:
            self._pause = 0.05
            self._queue.popleft()  # what is refused once is refused again
            if reply.code != ttrpc.OK:
                self._report(RuntimeError(f"containerd refuses an event: {reply.message}"))
            if self._emptied is not None and not self._queue:
                self._emptied()
            else:
                self._go_on()

    def _lost(self) -> None:
        self._drop()
        if self._queue:
            self._try_later()

    def _drop(self) -> None:
        if self._socket is not None:
            self._loop.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None
        self._client = ttrpc.Client()

    def _try_later(self) -> None:
        self._timer = self._loop.later(self._pause, self._again)
        self._pause = min(2 * self._pause, _SLOWEST)

    def _again(self) -> None:
        self._timer = None
        self._go_on()
