"""Tell plugins that a container has ended: `gosudacon.hookspecs.gosudacon_container_exited`."""

from __future__ import annotations

import _signal
import select

from gosudacon.base import posix
from gosudacon.base.errors import reason
from gosudacon.linux import process
from gosudacon.pipeline.exited import LIMIT, EndedContainer, Exit
from gosudacon.pipeline.registry import EXITED, implementations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from gosudacon.pipeline.registry import Listeners


def call(told: Listeners, container: EndedContainer, exit: Exit) -> list[str]:
    """Tell them in this process; returns what went wrong."""
    failures = []
    for plugin, function in implementations(told):
        try:
            function(container=container, exit=exit)
        except Exception as error:  # noqa: BLE001 - one plugin's trouble is not another's
            failures.append(f"plugin {plugin!r}: {EXITED}: {reason(error)}")
    return failures


def tell(told: Listeners, container: EndedContainer, exit: Exit) -> list[str]:
    """Tell them in a process of their own, which is killed after `LIMIT` seconds; returns what went wrong."""
    reader, writer = posix.pipe2(posix.O_CLOEXEC)
    pid = posix.fork()
    if pid == 0:
        _call(told, container, exit, writer)
    posix.close(writer)
    pidfd = posix.pidfd_open(pid)
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    in_time = bool(poller.poll(LIMIT * 1000))
    if not in_time:
        posix.kill(pid, _signal.SIGKILL)
    posix.waitpid(pid, 0)
    posix.close(pidfd)
    text = posix.read(reader, 1 << 16).decode(errors="replace")
    posix.close(reader)
    return text.splitlines() + ([] if in_time else [f"{EXITED}: killed after {LIMIT:.0f} seconds"])


def _call(told: Listeners, container: EndedContainer, exit: Exit, writer: int) -> NoReturn:
    try:
        process.set_pdeathsig(_signal.SIGKILL)
        process.restore_signals()
        posix.set_blocking(writer, False)
        posix.write(writer, "\n".join(call(told, container, exit)).encode())
    finally:
        posix._exit(0)
