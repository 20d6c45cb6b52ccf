"""ttrpc, which containerd speaks with its shims: calls over a stream socket, many at once (ttrpc's PROTOCOL.md, 1.2).

There is no socket in here: `Server` and `Client` are the two ends of one connection, which take bytes as they come and
leave in ``outgoing`` what is to be sent. Streams of messages are not served: a call is one request and one response.
"""

from __future__ import annotations

from gosudacon.wire import protobuf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.wire.protobuf import Message, Schema

LARGEST = protobuf.LARGEST  # bytes in a frame
MOST_OPEN = 4096  # requests of one connection without an answer
CROWDED = 1 << 20  # bytes that a client has not read, from which on it is not heard
REQUEST, RESPONSE, DATA = 1, 2, 3  # kinds of frames
#: Codes of a status (google.rpc.Code).
OK, CANCELED, UNKNOWN, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED = range(8)
RESOURCE_EXHAUSTED, FAILED_PRECONDITION, ABORTED, OUT_OF_RANGE, UNIMPLEMENTED, INTERNAL = range(8, 14)
UNAVAILABLE, DATA_LOSS, UNAUTHENTICATED = range(14, 17)

_HEADER = 10  # length of the data, stream, kind, flags; big endian
_LONGEST_TEXT = 1 << 16  # characters of a status
_PAIR: Schema = {"key": (1, "string"), "value": (2, "string")}
REQUEST_SCHEMA: Schema = {
    "service": (1, "string"),
    "method": (2, "string"),
    "payload": (3, "bytes"),
    "timeout_nano": (4, "int64"),
    "metadata": (5, [_PAIR]),
}
STATUS_SCHEMA: Schema = {"code": (1, "int32"), "message": (2, "string")}
RESPONSE_SCHEMA: Schema = {"status": (1, STATUS_SCHEMA), "payload": (2, "bytes")}


class TooLongError(ValueError):
    """A message is longer than a frame can be."""


class Frame:
    """A message on the wire; ``data`` is None if it was too long, and not kept."""

    __slots__ = ("data", "flags", "kind", "stream")

    def __init__(self, stream: int, kind: int, flags: int, data: bytes | None) -> None:
        self.stream = stream
        self.kind = kind
        self.flags = flags
        self.data = data


class Frames:
    """Cuts what arrives into frames. There are no bytes that it refuses; it keeps those of one frame at most."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skip = 0  # bytes to come of a frame that is too long
        self._skipped: Frame | None = None

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that end in ``data``."""
        self._buffer += data
        found = []
        while (frame := self._next()) is not None:
            found.append(frame)
        return found

    def _next(self) -> Frame | None:
        if self._skipped is not None:
            return self._discarded()
        if len(self._buffer) < _HEADER:
            return None
        length = int.from_bytes(self._buffer[:4], "big")
        end = _HEADER + length
        if len(self._buffer) < end and length <= LARGEST:
            return None
        stream, kind, flags = int.from_bytes(self._buffer[4:8], "big"), self._buffer[8], self._buffer[9]
        if length > LARGEST:
            self._skip, self._skipped = end, Frame(stream, kind, flags, None)
            return self._discarded()
        frame = Frame(stream, kind, flags, bytes(self._buffer[_HEADER:end]))
        del self._buffer[:end]
        return frame

    def _discarded(self) -> Frame | None:
        """Drop what has come of a frame that is too long; the frame, once nothing of it is to come."""
        count = min(self._skip, len(self._buffer))
        del self._buffer[:count]
        self._skip -= count
        if self._skip:
            return None
        frame, self._skipped = self._skipped, None
        return frame


def frame(stream: int, kind: int, data: bytes, flags: int = 0) -> bytes:
    """A frame on the wire. Raises `TooLongError`."""
    if len(data) > LARGEST:
        raise TooLongError(f"a message of {len(data)} bytes, where {LARGEST} are the most")
    return len(data).to_bytes(4, "big") + stream.to_bytes(4, "big") + bytes((kind, flags)) + data


class Request:
    """A call that waits for its answer on ``stream``. ``timeout`` is in nanoseconds; 0 is none, less is too late."""

    __slots__ = ("metadata", "method", "payload", "service", "stream", "timeout")

    def __init__(self, stream: int, message: Message) -> None:
        self.stream = stream
        self.service: str = message["service"]
        self.method: str = message["method"]
        self.payload: bytes = message["payload"]
        self.timeout: int = message["timeout_nano"]
        self.metadata: dict[str, str] = {pair["key"]: pair["value"] for pair in message["metadata"]}


class _RefusedError(Exception):
    """A frame breaks the protocol."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Server:
    """The server's end of a connection.

    What breaks the protocol is answered with a status, and the connection goes on. Send ``outgoing`` whenever the
    socket takes it, and tell `sent` how much it took. While the connection is `crowded`, do not read from it.
    """

    def __init__(self) -> None:
        self.outgoing = bytearray()
        self._frames = Frames()
        self._last = 0
        self._open: set[int] = set()

    @property
    def crowded(self) -> bool:
        """Whether the client does not read its answers."""
        return len(self.outgoing) > CROWDED

    def receive(self, data: bytes) -> list[Request]:
        """The calls that are complete with ``data``, in their order. Each is to be answered once, at any time."""
        calls = []
        for found in self._frames.feed(data):
            if found.kind not in (REQUEST, DATA):
                continue  # of a later version
            try:
                calls.append(self._accept(found))
            except _RefusedError as error:
                self._status(found.stream, error.code, str(error))
        return calls

    def answer(self, stream: int, payload: bytes = b"") -> None:
        """Answer a call that succeeded. Raises KeyError for a stream that waits for no answer."""
        response = protobuf.encode(RESPONSE_SCHEMA, {"payload": payload or None})
        if len(response) > LARGEST:
            self.refuse(stream, RESOURCE_EXHAUSTED, f"the response is longer than {LARGEST} bytes")
            return
        self._open.remove(stream)
        self.outgoing += frame(stream, RESPONSE, response)

    def refuse(self, stream: int, code: int, message: str) -> None:
        """Answer a call that failed. Raises KeyError for a stream that waits for no answer."""
        self._open.remove(stream)
        self._status(stream, code, message)

    def sent(self, count: int) -> None:
        """The socket took ``count`` bytes of ``outgoing``."""
        del self.outgoing[:count]

    def _accept(self, found: Frame) -> Request:
        stream = found.stream
        if found.data is None:
            raise _RefusedError(RESOURCE_EXHAUSTED, f"the message is longer than {LARGEST} bytes")
        if stream % 2 == 0:
            raise _RefusedError(INVALID_ARGUMENT, "the streams of a client have odd numbers")
        if found.kind == DATA:
            raise _RefusedError(INVALID_ARGUMENT, "this stream is not open for data")
        if stream <= self._last:
            raise _RefusedError(INVALID_ARGUMENT, "the number of a stream must be greater than that of the last")
        self._last = stream
        if len(self._open) >= MOST_OPEN:
            raise _RefusedError(RESOURCE_EXHAUSTED, f"{MOST_OPEN} requests wait for an answer already")
        try:
            message = protobuf.decode(REQUEST_SCHEMA, found.data)
        except protobuf.ProtobufError as error:
            raise _RefusedError(INVALID_ARGUMENT, f"not a request: {error}") from None
        self._open.add(stream)
        return Request(stream, message)

    def _status(self, stream: int, code: int, message: str) -> None:
        """The text is made UTF-8: containerd drops a connection on which it gets other strings."""
        text = message[:_LONGEST_TEXT].encode("utf-8", "replace").decode()
        response = protobuf.encode(RESPONSE_SCHEMA, {"status": {"code": code, "message": text}})
        self.outgoing += frame(stream, RESPONSE, response)


class Reply:
    """What became of a call: its response, or a code other than `OK` and a text."""

    __slots__ = ("code", "message", "payload")

    def __init__(self, code: int, message: str, payload: bytes) -> None:
        self.code = code
        self.message = message
        self.payload = payload


class Client:
    """The client's end of a connection, for one call at a time. Send ``outgoing``, and tell `sent`."""

    crowded = False  # one answer at most is to come

    def __init__(self) -> None:
        self.outgoing = bytearray()
        self.waiting = False
        self._frames = Frames()
        self._stream = -1

    def call(self, service: str, method: str, payload: bytes, timeout: int = 0) -> None:
        """Begin a call, with a ``timeout`` in nanoseconds; one at a time. Raises `TooLongError`."""
        assert not self.waiting
        request = {"service": service, "method": method, "payload": payload, "timeout_nano": timeout or None}
        data = frame(self._stream + 2, REQUEST, protobuf.encode(REQUEST_SCHEMA, request))
        self._stream += 2
        self.waiting = True
        self.outgoing += data

    def receive(self, data: bytes) -> Reply | None:
        """The reply to the call, if it is complete with ``data``; anything else is ignored."""
        reply = None
        for found in self._frames.feed(data):
            if self.waiting and found.stream == self._stream and found.kind == RESPONSE:
                self.waiting = False
                reply = _reply(found.data)
        return reply

    def sent(self, count: int) -> None:
        """The socket took ``count`` bytes of ``outgoing``."""
        del self.outgoing[:count]


def _reply(data: bytes | None) -> Reply:
    if data is None:
        return Reply(RESOURCE_EXHAUSTED, f"the response is longer than {LARGEST} bytes", b"")
    try:
        message = protobuf.decode(RESPONSE_SCHEMA, data)
    except protobuf.ProtobufError as error:
        return Reply(INTERNAL, f"not a response: {error}", b"")
    status = message["status"] or {"code": OK, "message": ""}
    return Reply(status["code"], status["message"], message["payload"])
