"""What `start` asks a template for, and how: the words, the environment and two descriptors, over a socket.

The launcher asks in the same way (gosudacon/launcher/launcher.c: ``start_by_template``).
"""

from __future__ import annotations

import _socket
import sys

from gosudacon.base import posix
from gosudacon.shim.start import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_PATIENCE = 5.0  # seconds for a caller to say what it wants
_LARGEST = 32 << 20  # bytes of arguments and environment
_HEAD = 8


def ask(path: str, request: Request) -> bytes:
    """What the template at ``path`` has answered to the request: see `start.answer`; empty if it has not."""
    connection = _connection(path)
    if connection is None:
        return b""
    words = [posix.fsencode(word) for word in request.words]
    entries = [name + b"=" + value for name, value in request.environment.items()]
    body = b"".join(text + b"\0" for text in [*words, *entries])
    head = len(body).to_bytes(4, sys.byteorder) + len(words).to_bytes(4, sys.byteorder)
    text = b""
    try:
        _socket_send(connection, head, [request.directory, request.stdin])
        connection.sendall(body)
        while chunk := connection.recv(1 << 16):
            text += chunk
    except OSError:
        return b""
    finally:
        connection.close()
    return text


def receive(connection: _socket.socket, pid: int) -> Request:
    """The request of process ``pid``. Raises `ValueError`, OSError."""
    connection.settimeout(_PATIENCE)
    head, rights, _, _ = connection.recvmsg(_HEAD, _socket.CMSG_SPACE(8), _socket.MSG_CMSG_CLOEXEC)
    descriptors = [int.from_bytes(data[at : at + 4], sys.byteorder) for _, _, data in rights for at in (0, 4)]
    size, count = (int.from_bytes(head[at : at + 4], sys.byteorder) for at in (0, 4))
    if len(head) != _HEAD or len(descriptors) != 2 or size > _LARGEST:
        raise ValueError("not a request")
    body = b""
    while len(body) < size:
        chunk = connection.recv(size - len(body))
        if not chunk:
            raise ValueError("the request is cut short")
        body += chunk
    connection.settimeout(None)
    texts = body.split(b"\0")[:-1]
    environment = dict(text.split(b"=", 1) for text in texts[count:] if b"=" in text)
    return Request([posix.fsdecode(text) for text in texts[:count]], environment, descriptors[0], descriptors[1], pid)


def _socket_send(connection: _socket.socket, data: bytes, descriptors: Sequence[int]) -> None:
    rights = b"".join(fd.to_bytes(4, sys.byteorder) for fd in descriptors)
    connection.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])


def _connection(path: str) -> _socket.socket | None:
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        return None
    return connection


def connects(path: str) -> bool:
    connection = _connection(path)
    if connection is None:
        return False
    connection.close()
    return True
