"""Running a container in the foreground: pass signals on, wait for its end, clean up, return its status."""

from __future__ import annotations

import _signal

from gosudacon.container.create import Creation
from gosudacon.container.delete import remove
from gosudacon.container.kill import kill_container
from gosudacon.linux import process
from gosudacon.linux import system as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.linux.errors import Error

_SIGKILL, _SIGURG, _SIGCHLD, _SIGSTOP, _SIGWINCH = 9, 23, 17, 19, 28
_ALL = _signal.valid_signals()
_NOT_FORWARDED = (_SIGCHLD, _SIGURG, _SIGKILL, _SIGSTOP, _SIGWINCH, 32, 33)


def prepare() -> None:
    """Become a subreaper, and hold back the signals that `wait` will pass on."""
    process.set_child_subreaper()
    _signal.pthread_sigmask(_signal.SIG_BLOCK, _ALL)


def wait(creation: Creation) -> int:
    """Pass signals on to init until it ends; reap orphans. Returns its status, 128 + N if signal N ended it."""
    pid = creation.context.pid
    while True:
        status = _reap(pid)
        if status is not None:
            return status
        received = _signal.sigwaitinfo(_ALL).si_signo
        if received == _SIGWINCH and creation.context.kept.get("tty_resize"):
            creation.context.kept["tty_resize"]()
        elif received not in _NOT_FORWARDED:
            try:
                os.kill(pid, received)
            except ProcessLookupError:
                continue


def finish(creation: Creation) -> list[Error]:
    """Kill what is left of the container and remove it; returns what poststop hooks reported."""
    if creation.container.data["shares_pid_namespace"]:
        kill_container(creation.container, _SIGKILL, every=True)
    return remove(creation.container)


def _reap(pid: int) -> int | None:
    """Collect every child that has ended; init's status once it is among them."""
    result = None
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return result
        if not ended:
            return result
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            result = code if code >= 0 else 128 - code
