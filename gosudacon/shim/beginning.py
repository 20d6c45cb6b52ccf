"""Letting init go on without a worker, where there is nothing to wait for but init itself.

That is the usual case, and half of what a fork costs is saved. A container that has poststart hooks, or whose
directory another process holds, is left to a worker (`gosudacon.shim.jobs.begin`).
"""

from __future__ import annotations

import fcntl

from gosudacon.base import layout, posix
from gosudacon.base.errors import Error, reason
from gosudacon.container import start
from gosudacon.container.state import Container, Store
from gosudacon.shim.loop import READ
from gosudacon.shim.worker import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from gosudacon.shim.loop import Loop
    from gosudacon.shim.worker import Note


def begin(loop: Loop, root: str, id: str, done: Callable[[Note | Failed], None]) -> bool:
    """Tell init to go on, and call ``done`` when its process has been executed, or could not be.

    False if a worker has to do it: nothing has been done then.
    """
    store = Store(root, id)
    try:
        store.open()
        fcntl.flock(store.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        container = Container.load(store)
        if container.data["started"] or container.data.get("observers") or container.status() != "created":
            raise BlockingIOError
        channel = start.connect(store, wait=False)
    except (Error, OSError):  # the worker says what is wrong, if anything is
        store.close()
        return False
    posix.unlink(layout.START_SOCKET, dir_fd=store.fd)

    def ready(_events: int) -> None:
        outcome: Note | Failed = {}
        loop.forget(channel.fileno())
        try:
            start.await_exec(channel)
            container.check_executed()
        except (Error, OSError) as error:
            outcome = Failed(reason(error))
        channel.close()
        store.close()
        done(outcome)

    loop.watch(channel.fileno(), READ, ready)
    return True
