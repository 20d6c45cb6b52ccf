"""The socket on which containerd finds the shim, its connections, and the requests on them."""

from __future__ import annotations

import _socket
import struct

from gosudacon.base import posix
from gosudacon.shim.exchange import Exchange
from gosudacon.shim.loop import READ
from gosudacon.wire import protobuf, ttrpc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gosudacon.shim.loop import Loop
    from gosudacon.wire.protobuf import Message, Schema

    Handler = Callable[[Message, "Reply"], None]
    Methods = Mapping[tuple[str, str], tuple[Schema, Schema, Handler]]

_PEER = struct.Struct("=iII")  # struct ucred


class Refused(Exception):
    """A request that is refused, with ttrpc's code for it."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Reply:
    """The answer to one request, to be given once; it is dropped if the client has gone."""

    def __init__(self, connection: Connection, stream: int, schema: Schema) -> None:
        self._connection = connection
        self._stream = stream
        self._schema = schema

    def send(self, message: Mapping[str, object]) -> None:
        """The request has been carried out."""
        self._connection.protocol.answer(self._stream, protobuf.encode(self._schema, message))
        self._connection.flush()

    def fail(self, code: int, text: str) -> None:
        """It has not."""
        self._connection.protocol.refuse(self._stream, code, text)
        self._connection.flush()


class Connection:
    """One client."""

    def __init__(self, server: Server, socket: _socket.socket) -> None:
        self.protocol = ttrpc.Server()
        self._server = server
        self._exchange = Exchange(server.loop, socket, self.protocol, self._received, self._lost)
        self._exchange.flush()

    def flush(self) -> None:
        """Send what the client takes now; the rest when it takes more."""
        self._exchange.flush()

    def _received(self, data: bytes) -> None:
        for request in self.protocol.receive(data):
            self._server.serve(self, request)
        self._exchange.flush()

    def _lost(self) -> None:
        self._server.connections.discard(self)


class Server:
    """Accepts clients, which must be of this process's user, and calls the handlers of their requests."""

    def __init__(
        self, loop: Loop, listener: _socket.socket, methods: Methods, report: Callable[[BaseException], None]
    ) -> None:
        self.loop = loop
        self.connections: set[Connection] = set()
        self._listener = listener
        self._methods = methods
        self._report = report
        listener.setblocking(False)
        loop.watch(listener.fileno(), READ, self._accept)

    def close(self) -> None:
        """Accept no more connections."""
        self.loop.forget(self._listener.fileno())
        self._listener.close()

    def serve(self, connection: Connection, request: ttrpc.Request) -> None:
        """Have the request's handler answer it."""
        protocol = connection.protocol
        found = self._methods.get((request.service, request.method))
        if found is None:
            known = any(service == request.service for service, _ in self._methods)
            what = f"method {request.method}" if known else f"service {request.service}"
            protocol.refuse(request.stream, ttrpc.UNIMPLEMENTED, what)
            return
        asked, answered, handler = found
        reply = Reply(connection, request.stream, answered)
        try:
            handler(protobuf.decode(asked, request.payload), reply)
        except Refused as refused:
            reply.fail(refused.code, refused.text)
        except protobuf.ProtobufError as error:
            reply.fail(ttrpc.INVALID_ARGUMENT, f"{request.method}: {error}")
        except Exception as error:  # noqa: BLE001 - a client waits for an answer, whatever happens
            self._report(error)
            try:
                reply.fail(ttrpc.INTERNAL, f"{request.method}: {type(error).__name__}: {error}")
            except KeyError:  # it has been answered
                pass

    def _accept(self, _events: int) -> None:
        fd, _ = self._listener._accept()  # type: ignore[attr-defined]
        socket = _socket.socket(fileno=fd)
        socket.setblocking(False)
        if peer_of(socket)[1] != posix.geteuid():
            socket.close()
            return
        self.connections.add(Connection(self, socket))


def peer_of(socket: _socket.socket) -> tuple[int, int, int]:
    """Pid, uid and gid of who connected (unix(7), SO_PEERCRED)."""
    pid, uid, gid = _PEER.unpack(socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, _PEER.size))
    return pid, uid, gid
