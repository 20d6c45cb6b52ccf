"""Starting a created container: tell init to go on, wait until it has executed the process, run poststart."""

from __future__ import annotations

import _socket

from gosudacon.container.state import SOCKET, Container, Store
from gosudacon.linux import jsonio
from gosudacon.linux import system as os
from gosudacon.linux.errors import Error, StateError, StepError, from_record
from gosudacon.pipeline.executor import run_step
from gosudacon.pipeline.step import Context, Engine, Host, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_REFUSALS = {
    "running": "cannot start an already running container",
    "paused": "cannot start a container in the paused state",
    "stopped": "cannot start a container that has stopped",
}


def start(root: str, id: str) -> None:
    """Start the container. Raises `StateError` if it is not created, `Error` if its process could not be executed."""
    store = Store(root, id)
    store.open(exclusive=True)
    container = Container.load(store)
    status = container.status()
    if status != "created":
        raise StateError(_REFUSALS[status])
    channel = _connect(store)
    os.unlink(SOCKET, dir_fd=store.fd)
    await_exec(channel)
    run_started(container)
    store.close()


def await_exec(channel: Any) -> None:
    """Wait for the end of the channel, which execve(2) closes; an error that comes first is raised."""
    packet = channel.recv(65536)
    if packet[:1] == b"E":
        record = jsonio.loads(packet[1:])
        assert isinstance(record, dict)
        raise from_record(record)
    if packet:
        raise StepError("container init said something unexpected at its start")


def run_started(container: Container) -> None:
    """Run the recorded `STARTED` steps (poststart hooks); a failure stops the container, as runtime-spec 1.3 wants."""
    steps = container.steps("started")
    if not steps:
        return
    context = detached_context(container)
    try:
        for step in steps:
            run_step(step, context)
    except Error:
        from gosudacon.container.kill import kill_container

        kill_container(container, 9, every=True)
        raise


class _Recorded(Engine):
    """The engine of steps that run after create: all they can ask for is the state."""

    def __init__(self, container: Container) -> None:
        self._container = container

    def state(self, status: str, pid: int | None = None) -> dict[str, Any]:
        return self._container.oci_state(status, self._container.data["pid"] if pid is None else pid)


def detached_context(container: Container) -> Context:
    """A context for recorded steps: it has the container's id, bundle, state and directory, and no configuration."""
    context = Context(Spec({}, container.data["id"], container.data["bundle"]), Host())
    context.state_dir = container.store.fd
    context.pid = container.data["pid"]
    context.kept["cgroups"] = container.data.get("cgroups") or {}
    context.engine = _Recorded(container)
    return context


def _connect(store: Store) -> Any:
    channel = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    try:
        channel.connect(store.path(SOCKET))
    except OSError as error:
        raise StateError("cannot start a container that has stopped", errno=error.errno or 0) from error
    return channel
