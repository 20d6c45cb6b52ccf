"""Events for containerd, over its ttrpc socket: in order, one at a time, and kept while containerd is away."""

from __future__ import annotations

import _socket
import time
from collections import deque
from errno import EINPROGRESS

from gosudacon.shim.exchange import Exchange
from gosudacon.wire import containerd as wire
from gosudacon.wire import ttrpc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gosudacon.shim.loop import Loop, Timer

_METHOD = "Forward"
_TIMEOUT = 5_000_000_000  # nanoseconds for one event
_SLOWEST = 5.0  # seconds between attempts to connect


class Publisher:
    """Sends events to the socket ``address``. ``report`` is told what containerd refuses."""

    def __init__(self, loop: Loop, address: str, namespace: str, report: Callable[[BaseException], None]) -> None:
        self._loop = loop
        self._address = address
        self._namespace = namespace
        self._report = report
        self._queue: deque[bytes] = deque()
        self._exchange: Exchange | None = None
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
        if self._exchange is None:
            self._exchange = self._connect()
        if self._exchange is not None:
            self._client.call(wire.EVENTS_SERVICE, _METHOD, self._queue[0], _TIMEOUT)
            self._exchange.flush()

    def _connect(self) -> Exchange | None:
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
        try:
            connection.connect(self._address)
        except OSError as error:
            if error.errno != EINPROGRESS:
                connection.close()
                self._try_later()
                return None
        self._client = ttrpc.Client()
        return Exchange(self._loop, connection, self._client, self._received, self._lost)

    def _received(self, data: bytes) -> None:
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
        if self._exchange is not None:
            self._exchange.close()
            self._exchange = None
        self._client = ttrpc.Client()

    def _try_later(self) -> None:
        self._timer = self._loop.later(self._pause, self._again)
        self._pause = min(2 * self._pause, _SLOWEST)

    def _again(self) -> None:
        self._timer = None
        self._go_on()
