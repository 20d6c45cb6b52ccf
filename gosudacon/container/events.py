"""A container's events: statistics at intervals, and every time that memory runs out, until init ends."""

from __future__ import annotations

import select
import time

from gosudacon.base import posix
from gosudacon.base.errors import StateError
from gosudacon.container.state import Container, Store
from gosudacon.container.stats import collect
from gosudacon.linux import oom

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def load(root: str, id: str) -> Container:
    """A container that has not stopped. Raises `StateError`."""
    store = Store(root, id)
    store.open()
    container = Container.load(store)
    if not container.alive():
        raise StateError(f"container with id {id} is not running")
    return container


def statistics(container: Container) -> dict[str, object]:
    """The event ``stats`` of now."""
    return {"type": "stats", "id": container.data["id"], "data": collect(container)}


def stream(container: Container, interval: float) -> Iterator[dict[str, object]]:
    """``stats`` every ``interval`` seconds and ``oom`` whenever it happens; ends when the container's init does."""
    try:
        pidfd = posix.pidfd_open(container.data["pid"])
    except ProcessLookupError:
        return
    watch = None
    try:
        if not container.alive():  # checked after the pidfd pins the process
            return
        watch = oom.watch(container.data["cgroups"])
        yield from _events(container, interval, pidfd, watch)
    finally:
        posix.close(pidfd)
        if watch is not None:
            watch.close()


def _events(container: Container, interval: float, pidfd: int, watch: oom.Watch | None) -> Iterator[dict[str, object]]:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    if watch is not None:
        poller.register(watch.fd, select.POLLIN)
    due = time.monotonic() + interval
    while True:
        left = max(due - time.monotonic(), 0)
        ready = [fd for fd, _ in poller.poll(min(left * 1000 + 1, 1 << 30))]
        # Also when it is init's end that is reported: memory may be what it died of.
        if watch is not None and ready and watch.happened():
            yield {"type": "oom", "id": container.data["id"]}
        if pidfd in ready:
            return
        if time.monotonic() >= due:
            yield statistics(container)
            due = time.monotonic() + interval
