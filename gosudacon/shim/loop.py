"""The shim's one loop: descriptors that are ready, and moments that have come (epoll(7)).

Nothing that a handler does may wait. What would, a worker does (`gosudacon.shim.worker`).
"""

from __future__ import annotations

import heapq
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

READ, WRITE = select.EPOLLIN, select.EPOLLOUT
QUIET = 0.5  # seconds after which the loop rests; what one container causes comes in less


class Timer:
    """A call at a moment to come, until it is cancelled."""

    __slots__ = ("call", "due")

    def __init__(self, due: float, call: Callable[[], None]) -> None:
        self.due = due
        self.call: Callable[[], None] | None = call

    def __lt__(self, other: Timer) -> bool:
        return self.due < other.due

    def cancel(self) -> None:
        """Call nothing."""
        self.call = None


class Loop:
    """Calls handlers until `stop`. ``report`` is told of what a handler raises: the loop goes on.

    ``rest`` is called when no descriptor has been ready for a while, and not again before one was. It may wait: for its
    first argument, a descriptor, to be ready to be read, and at most for the second, seconds, below zero for ever.
    """

    def __init__(
        self, report: Callable[[BaseException], None], rest: Callable[[int, float], None] | None = None
    ) -> None:
        self._report = report
        self._rest = rest
        self._awake = rest is not None
        self._woken = time.monotonic()
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._events: dict[int, int] = {}
        self._new: set[int] = set()
        self._timers: list[Timer] = []
        self._running = True

    def watch(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        """Call ``handler`` with what is ready of ``fd``, which must be forgotten before it is closed."""
        before = self._events.get(fd)
        if before is None:
            self._epoll.register(fd, events)
            self._new.add(fd)
        elif before != events:
            self._epoll.modify(fd, events)
        self._events[fd] = events
        self._handlers[fd] = handler

    def forget(self, fd: int) -> None:
        """Watch it no more; one that is not watched is fine."""
        if self._events.pop(fd, None) is not None:
            del self._handlers[fd]
            self._epoll.unregister(fd)

    def later(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call it in so many seconds."""
        timer = Timer(time.monotonic() + seconds, call)
        heapq.heappush(self._timers, timer)
        return timer

    def stop(self) -> None:
        """Have `run` return."""
        self._running = False

    def run(self) -> None:
        """Wait for what is ready and call its handler, until `stop`."""
        while self._running:
            ready = self._epoll.poll(self._patience())
            if ready:
                self._awake = self._rest is not None
            self._new.clear()
            for fd, events in ready:
                handler = self._handlers.get(fd)
                # Not forgotten by a handler before it, nor another one of the same number since then.
                if handler is not None and fd not in self._new:
                    self._guard(lambda handler=handler, events=events: handler(events))  # type: ignore[misc]
            now = time.monotonic()
            if ready:
                self._woken = now
            elif self._awake and now - self._woken >= QUIET:
                self._awake = False
                self._guard(self._call_rest)
            while self._timers and self._timers[0].due <= now:
                call = heapq.heappop(self._timers).call
                if call is not None:
                    self._guard(call)

    def _patience(self) -> float:
        while self._timers and self._timers[0].call is None:
            heapq.heappop(self._timers)
        patience = max(self._timers[0].due - time.monotonic(), 0) if self._timers else -1
        return min(patience, QUIET) if self._awake and self._timers else QUIET if self._awake else patience

    def _call_rest(self) -> None:
        if self._rest is not None:
            self._rest(self._epoll.fileno(), self._patience())

    def _guard(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - one container's trouble is not another's
            self._report(error)
