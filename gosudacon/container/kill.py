"""Sending signals to a container."""

from __future__ import annotations

import _signal
from errno import EINVAL

from gosudacon.base import posix
from gosudacon.base.errors import StateError, SyscallError
from gosudacon.container.state import Container, Store


def kill(root: str, id: str, signal: int, every: bool = False) -> None:
    """Send ``signal`` to init, or with ``every`` to all of the container's processes.

    Raises `StateError` ("container not running") for a stopped container, unless ``every``.
    """
    store = Store(root, id)
    store.open()
    try:
        container = Container.load(store)
        if not (every or container.alive()):
            raise StateError("container not running")
        kill_container(container, signal, every)
    finally:
        store.close()


def kill_container(container: Container, signal: int, every: bool = False) -> None:
    """As `kill`, for a loaded container. SIGKILL without a pid namespace of its own reaches the whole cgroup.

    SIGKILL ends a paused container, too, which is thawed for it: on cgroup v1 frozen processes do not die.
    """
    whole = every or (signal == _signal.SIGKILL and container.data["shares_pid_namespace"])
    if whole and container.data.get("cgroups"):
        from gosudacon.linux.cgroup import processes

        processes.signal_all(container.data["cgroups"], signal)
    signal_init(container, signal)
    if signal == _signal.SIGKILL and container.frozen():
        from gosudacon.linux.cgroup import processes

        processes.thaw(container.data["cgroups"])


def signal_init(container: Container, signal: int) -> None:
    """Signal init through a pidfd, after making sure that the pid is still init's."""
    pid: int = container.data["pid"]
    try:
        pidfd = posix.pidfd_open(pid)
    except ProcessLookupError:
        return
    except OSError as error:
        if error.errno == EINVAL:  # no process any more, but a session still: Linux before 6.16
            return
        raise SyscallError(error.errno or 0, "pidfd_open", str(pid)) from None
    try:
        if container.alive():  # checked after the pidfd pins the process
            _signal.pidfd_send_signal(pidfd, signal)
    except ProcessLookupError:
        return
    finally:
        posix.close(pidfd)
