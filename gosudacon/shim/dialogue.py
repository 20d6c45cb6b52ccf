"""What shims are asked by our own programs, over the same socket: to expect or end a container, and what they have."""

from __future__ import annotations

import _socket
from errno import ECONNREFUSED, ENOENT

from gosudacon.base.errors import Error
from gosudacon.wire import protobuf, ttrpc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from gosudacon.wire.protobuf import Message, Schema

SERVICE = "gosudacon.shim.v1.Shim"
METHODS: Mapping[str, tuple[Schema, Schema]] = {
    "Reserve": ({"id": (1, "string")}, {}),
    "Abandon": ({"id": (1, "string")}, {}),
    "List": ({}, {"pid": (1, "uint32"), "namespace": (2, "string"), "ids": (3, ["string"])}),
}
_PATIENCE = 5.0  # seconds for an answer
_LAST_PATIENCE = 2.5  # the same for `abandon`: containerd gives the action ``delete`` five, for all of it
_CHUNK = 1 << 16


def reserve(path: str, id: str) -> bool:
    """Have the shim at ``path`` stay for the container ``id``; False if no shim is there, or it is about to end.

    Raises `Error` if there is one that does not answer.
    """
    reply = _ask(path, "Reserve", {"id": id})
    return reply is not None


def abandon(path: str, id: str) -> None:
    """Have the shim at ``path`` end the container ``id`` and what it does to it; it may not be there.

    Raises `Error` if there is one that does not answer.
    """
    _ask(path, "Abandon", {"id": id}, _LAST_PATIENCE)


def listed(path: str) -> Message | None:
    """Pid, namespace and containers of the shim at ``path``; None if it is none of ours, or none is there."""
    return _ask(path, "List", {})


def answers(path: str, patience: float = _PATIENCE) -> bool:
    """Whether a process listens there. Raises TimeoutError if it accepts no connection."""
    connection = _connect(path, patience)
    if connection is None:
        return False
    connection.close()
    return True


def _ask(path: str, method: str, message: Message, patience: float = _PATIENCE) -> Message | None:
    connection = _connect(path, patience)
    if connection is None:
        return None
    asked, answered = METHODS[method]
    client = ttrpc.Client()
    client.call(SERVICE, method, protobuf.encode(asked, message))
    try:
        connection.sendall(client.outgoing)
        while True:
            data = connection.recv(_CHUNK)
            if not data:
                return None
            reply = client.receive(data)
            if reply is not None:
                return protobuf.decode(answered, reply.payload) if reply.code == ttrpc.OK else None
    except (BrokenPipeError, ConnectionResetError):
        return None
    except TimeoutError:
        raise Error(f"the shim at {path} does not answer") from None
    finally:
        connection.close()


def _connect(path: str, patience: float = _PATIENCE) -> _socket.socket | None:
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    connection.settimeout(patience)
    try:
        connection.connect(path)
    except OSError as error:
        connection.close()
        if error.errno in (ECONNREFUSED, ENOENT):
            return None
        raise
    return connection
