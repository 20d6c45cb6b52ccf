"""A container's process in the foreground: pass signals on, wait for its end, clean up, return its status."""

from __future__ import annotations

import _signal
import gc
import select

from gosudacon.base import posix
from gosudacon.linux import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.base.errors import Error
    from gosudacon.container.caller import Caller
    from gosudacon.container.notify import Notifier
    from gosudacon.container.operation import Work
    from gosudacon.container.state import Container
    from gosudacon.container.terminal import Terminal
    from gosudacon.pipeline.recorder import Recorder
    from gosudacon.pipeline.spec import Spec
    from gosudacon.pipeline.step import Context

_ALL = _signal.valid_signals()
_OUR_OWN = (_signal.SIGCHLD, _signal.SIGURG, _signal.SIGWINCH)


def prepare(caller: Caller, spec: Spec, reaps: bool) -> int:
    """Hold back the signals that `wait` will pass on; with ``reaps``, become a subreaper.

    Returns the caller's terminal for a process that is to have one, else -1. Raises `Error` if the caller has none.
    """
    host = -1
    if spec.process.get("terminal"):
        from gosudacon.container import terminal

        host = terminal.find(caller)
    if reaps:
        process.set_child_subreaper()
    _signal.pthread_sigmask(_signal.SIG_BLOCK, _ALL)
    return host


def receive_terminal(context: Context) -> int:
    """The master of the process's terminal; -1 if it has none, or another one takes it."""
    peer, context.console_peer = context.console_peer, -1
    if peer < 0:
        return -1
    from gosudacon.linux import console

    try:
        return console.receive(peer)
    finally:
        posix.close(peer)


def wait(pid: int, terminal: Terminal | None, notifier: Notifier | None, reaps: bool) -> int:
    """Pass signals and the terminal on until ``pid`` ends. Returns its status as wait(2) has it.

    What ``notifier`` hears is passed on, too: that the container is ready. With ``reaps`` every child of this process
    that ends is collected, the container's orphans among them; else they are left to those who have made them.
    """
    gc.enable()  # off since the start (`gosudacon.launcher.entry`); this may take days
    signals = process.signalfd(_ALL)
    try:
        while (status := _reap(pid, -1 if reaps else pid)) is None:
            poller = select.poll()
            poller.register(signals, select.POLLIN)
            for fd, events in terminal.wants().items() if terminal is not None else ():
                poller.register(fd, events)
            if notifier is not None and not notifier.done:
                poller.register(notifier.fd, select.POLLIN)
            ready = poller.poll()
            if any(fd == signals for fd, _ in ready):
                _handle(process.read_signal(signals), pid, terminal)
            if notifier is not None and any(fd == notifier.fd for fd, _ in ready):
                notifier.handle()
            if terminal is not None:
                terminal.step(ready)
        return status
    finally:
        posix.close(signals)
        if terminal is not None:
            terminal.finish()


def tell(work: Work, status: int) -> None:
    """Tell plugins that want to know it how the container ended; ``status`` is as wait(2) reports it."""
    import time

    from gosudacon.container import exited
    from gosudacon.linux.cgroup import processes
    from gosudacon.pipeline.exited import EndedContainer, Exit

    about = work.container.data
    code = posix.waitstatus_to_exitcode(status)
    exit = Exit(
        about["pid"],
        process.exit_status(status),
        max(-code, 0),
        processes.oom_kills(about["cgroups"]) > 0,
        time.time_ns(),
    )
    container = EndedContainer(about["id"], about["bundle"], about["annotations"])
    for failure in exited.tell(work.told, container, exit):
        work.caller.log.warning(failure)


def finish(container: Container, recorder: Recorder | None = None) -> list[Error]:
    """Kill what is left of the container and remove it, unless it is gone; returns what poststop hooks reported."""
    from gosudacon.container.delete import remove
    from gosudacon.container.kill import kill_container

    if not container.store.lock():
        return []
    if container.data["shares_pid_namespace"]:
        kill_container(container, _signal.SIGKILL, every=True)
    return remove(container, recorder)


def _handle(signal: int, pid: int, terminal: Terminal | None) -> None:
    if terminal is not None and signal in (_signal.SIGWINCH, _signal.SIGCONT):
        terminal.resize() if signal == _signal.SIGWINCH else terminal.resume()
    if signal in _OUR_OWN:
        return
    try:
        posix.kill(pid, signal)
    except ProcessLookupError:
        return  # it has just ended


def _reap(pid: int, whom: int) -> int | None:
    """Collect what has ended of ``whom`` (waitpid(2)); the status of ``pid`` once it is among them."""
    result = None
    while True:
        try:
            ended, status = posix.waitpid(whom, posix.WNOHANG)
        except ChildProcessError:
            return result
        if not ended:
            return result
        if ended == pid:
            result = status
