"""Talking to a seccomp agent: the process that answers for a container's system calls (config-linux.md, Seccomp)."""

from __future__ import annotations

import sys

from gosudacon.linux import jsonio

try:
    from _socket import AF_UNIX, SCM_RIGHTS, SOCK_STREAM, SOL_SOCKET, socket
except ImportError:
    from socket import AF_UNIX, SCM_RIGHTS, SOCK_STREAM, SOL_SOCKET, socket  # type: ignore[assignment]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def connect(path: str) -> socket:
    """A close-on-exec connection to the agent's socket. Raises OSError with the path."""
    connection = socket(AF_UNIX, SOCK_STREAM)
    try:
        connection.connect(path)
    except OSError as error:
        connection.close()
        raise OSError(error.errno, error.strerror, path) from error
    return connection


def send(connection: socket, listener: int, state: dict[str, Any], metadata: str | None) -> None:
    """One container process state (runtime-spec config-linux.md), with the descriptor. Raises OSError."""
    message: dict[str, Any] = {
        "ociVersion": state["ociVersion"],
        "fds": ["seccompFd"],
        "pid": state["pid"],
        "state": state,
    }
    if metadata is not None:
        message["metadata"] = metadata
    data = jsonio.dumps(message).encode()
    descriptors = [(SOL_SOCKET, SCM_RIGHTS, listener.to_bytes(4, sys.byteorder))]
    sent = connection.sendmsg([data], descriptors)
    connection.sendall(data[sent:])
