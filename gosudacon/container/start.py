"""Starting a created container: tell init to go on, wait until it has executed the process, run poststart."""

from __future__ import annotations

import _socket

from gosudacon.base import jsonio, layout, posix
from gosudacon.base.errors import StateError, StepError, from_record
from gosudacon.container.state import Container, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.container.caller import Tracing
    from gosudacon.pipeline.recorder import Recorder

_REFUSALS = {
    "running": "cannot start an already running container",
    "paused": "cannot start a container in the paused state",
    "stopped": "cannot start a container that has stopped",
}


def start(root: str, id: str, notify_socket: str = "", tracing: Tracing | None = None) -> None:
    """Start the container; where there is a service manager to tell (NOTIFY_SOCKET), wait until it is ready.

    Raises `StateError` if it is not created, `Error` if its process could not be executed.
    """
    store = Store(root, id)
    store.open(exclusive=True)
    try:
        _start(Container.load(store), notify_socket, tracing)
    finally:
        store.close()


def _start(container: Container, notify_socket: str, tracing: Tracing | None) -> None:
    store = container.store
    status = container.status()
    if status != "created":
        raise StateError(_REFUSALS[status])
    if container.data["started"]:
        container.steps("started")  # says what is missing before the process runs
    notifier = None
    if notify_socket:
        from gosudacon.container import notify

        notifier = notify.listen(store, notify_socket)
    recorder = container.recorder(tracing)
    if recorder is not None:
        recorder.follow(container.data["pid"])
        recorder.mark("read the state")
    channel = connect(store)
    posix.unlink(layout.START_SOCKET, dir_fd=store.fd)
    await_exec(channel, recorder)
    if recorder is not None:
        recorder.executed()
    container.check_executed()
    if container.data["started"]:
        from gosudacon.container.replay import run_started

        run_started(container, recorder=recorder)
    store.close()
    if notifier is not None:  # without the lock: a caller that waits for too long may delete the container
        notifier.wait(container)
        notifier.close()


def await_exec(channel: _socket.socket, recorder: Recorder | None = None) -> None:
    """Wait for the end of the channel, which execve(2) closes; an error that comes first is raised."""
    packet = _receive(channel)
    if packet[:1] == b"T":  # times, of a container whose creation was traced
        if recorder is not None:
            recorder.receive(packet[1:])
        packet = _receive(channel)
    if packet[:1] == b"E":
        record = jsonio.loads(packet[1:])
        assert isinstance(record, dict)
        raise from_record(record)
    if packet:
        raise StepError("container init sent an unexpected message while starting")


def _receive(channel: _socket.socket) -> bytes:
    try:
        return channel.recv(65536)
    except ConnectionResetError:  # it was killed: what it had said before, if anything, comes next
        return channel.recv(65536)


def connect(store: Store, wait: bool = True) -> _socket.socket:
    """The channel to init, which goes on with it; without ``wait`` OSError (EAGAIN) if another process is about to."""
    channel = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    channel.setblocking(wait)
    try:
        channel.connect(store.path(layout.START_SOCKET))
    except OSError as error:
        raise StateError("cannot start a container that has stopped", errno=error.errno or 0) from error
    return channel
