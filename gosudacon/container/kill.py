"""Sending signals to a container."""

from __future__ import annotations

import _signal
from errno import EINVAL

from gosudacon.base import posix
from gosudacon.base.errors import StateError, SyscallError
from gosudacon.container.state import Container, Store


def kill(root: str, id: str, signal: int, every: bool = False) -> None:
    """Send ``signal`` to init, or with ``every`` to all of the container's processes.

    Raises `StateError` ("container not running") for a stopped container, unless ``every``. One whose init is gone,
    and that shares a pid namespace in which others of its processes live on, can be killed.
    """
    store = Store(root, id)
    store.open()
    try:
        container = Container.load(store)
        if not (every or container.alive() or (_concerns_all(container, signal) and _lives_on(container))):
            raise StateError("container not running")
        kill_container(container, signal, every)
    finally:
        store.close()


def kill_container(container: Container, signal: int, every: bool = False) -> None:
    """As `kill`, for a loaded container. SIGKILL without a pid namespace of its own reaches the whole cgroup.

    SIGKILL ends what is frozen, too, which is thawed for it: on cgroup v1 frozen processes do not die, and init does
    not before all others in its pid namespace have.
    """
    if every or _concerns_all(container, signal):
        _signal_all(container, signal)
    signal_init(container, signal)
    if signal == _signal.SIGKILL and _may_be_frozen(container):
        from gosudacon.linux.cgroup import processes

        processes.thaw_all(container.data["cgroups"])


def _concerns_all(container: Container, signal: int) -> bool:
    return bool(signal == _signal.SIGKILL and container.data["shares_pid_namespace"])


def _lives_on(container: Container) -> bool:
    from gosudacon.container import whereabouts

    return bool(whereabouts.processes_of(container))


def _signal_all(container: Container, signal: int) -> None:
    from gosudacon.container import whereabouts
    from gosudacon.linux.cgroup import processes

    cgroups = whereabouts.own(container)
    strayed = container.alive() and container.data["pid"] not in processes.pids(cgroups)
    if strayed:  # before its processes lose their parents
        processes.signal_found(lambda: whereabouts.processes_of(container), signal)
    if signal == _signal.SIGKILL or not strayed:
        processes.signal_all(cgroups, signal)


def _may_be_frozen(container: Container) -> bool:
    """Whether a v1 freezer is in use, in the container's cgroup or in one below: a directory has a link of each."""
    freezer = (container.data.get("cgroups") or {}).get("freezer")
    if not freezer:
        return False
    try:
        return container.frozen() or posix.stat(freezer).st_nlink > 2
    except FileNotFoundError:
        return False


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
