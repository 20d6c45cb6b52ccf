"""The steps for a seccomp agent, the process that answers for a container's system calls (config-linux.md, Seccomp)."""

from __future__ import annotations

import sys
from errno import ENAMETOOLONG

from gosudacon.api import CONFINE, CONTAINER, PREPARE, RUNTIME, Context, Step, StepError
from gosudacon.base import jsonio, posix
from gosudacon.linux import seccomp
from gosudacon.stages.seccomp.steps import Held

try:
    from _socket import AF_UNIX, SCM_RIGHTS, SOCK_STREAM, SOL_SOCKET, socket
except ImportError:
    from socket import AF_UNIX, SCM_RIGHTS, SOCK_STREAM, SOL_SOCKET, socket  # type: ignore[assignment]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.schema.types import State


class ConnectListener(Step):
    """Connect to the agent that answers for the container's system calls, while its path still means something.

    Why: the socket's path is the host's.
    Without it: the agent could not be reached from inside the container.
    See: unix(7); runtime-spec config-linux.md, Seccomp.
    """

    phase = PREPARE
    failing = "failed to connect with seccomp agent specified in the seccomp profile"
    path: str

    def describe(self) -> str:
        return f"connect to the seccomp agent at {self.path}"

    def run(self, context: Context) -> None:
        held = context.own(Held)
        held.agent = connect(self.path)
        held.reader, held.writer = posix.pipe()
        context.spared += (held.agent.fileno(), held.reader, held.writer)


class SendListener(Step):
    """Take the notification descriptor out of init and send it to the agent, with the container's state.

    Why: an agent answers system calls for the container, mknod(2) for example.
    Without it: those system calls would wait for an answer that never comes.
    See: seccomp_unotify(2); pidfd_getfd(2); runtime-spec config-linux.md, The Container Process State.
    """

    phase = CONFINE
    side = RUNTIME
    by = CONFINE
    failing = "failed to send to the seccomp agent"
    metadata: str | None

    def describe(self) -> str:
        return "send the notification descriptor to the seccomp agent"

    def run(self, context: Context) -> None:
        held = context.own(Held)
        posix.close(held.writer)
        number = posix.read(held.reader, 16)  # there since LoadSeccomp is done
        posix.close(held.reader)
        if not number or context.engine is None:
            raise StepError("init has no notification descriptor")
        try:
            listener = seccomp.take_descriptor(context.pid, int(number))
            send(held.agent, listener, context.engine.state("creating"), context.pid, self.metadata)
            posix.close(listener)
        finally:
            held.agent.close()


class CloseListener(Step):
    """Close init's own copy, or its system calls would wait for ever should the agent die.

    Why: the kernel waits for an answer for as long as a listener is open.
    Without it: system calls of the container would wait for ever once the agent is gone.
    See: seccomp_unotify(2).
    """

    phase = CONFINE
    side = CONTAINER

    def describe(self) -> str:
        return "close init's copy of the notification descriptor"

    def run(self, context: Context) -> None:
        held = context.own(Held)
        for fd in (held.listener, held.writer):
            try:
                posix.close(fd)
            except OSError:
                continue  # the filter has an opinion on close(2); execve(2) closes it


def connect(path: str) -> socket:
    """A close-on-exec connection to the agent's socket. Raises OSError with the path."""
    connection = socket(AF_UNIX, SOCK_STREAM)
    try:
        connection.connect(path)
    except OSError as error:
        connection.close()
        raise OSError(error.errno or ENAMETOOLONG, "", path) from error
    return connection


def send(connection: socket, listener: int, state: State, pid: int, metadata: str | None) -> None:
    """One container process state (runtime-spec config-linux.md), with the descriptor. Raises OSError.

    ``pid`` is the process under the filter; in ``state`` it is init's, which for ``exec`` is another.
    """
    message: dict[str, object] = {
        "ociVersion": state["ociVersion"],
        "fds": ["seccompFd"],
        "pid": pid,
        "state": state,
    }
    if metadata is not None:
        message["metadata"] = metadata
    data = jsonio.dumps(message).encode()
    descriptors = [(SOL_SOCKET, SCM_RIGHTS, listener.to_bytes(4, sys.byteorder))]
    sent = connection.sendmsg([data], descriptors)
    if sent < len(data):  # an empty send would fail if the agent has closed the connection already
        connection.sendall(data[sent:])
