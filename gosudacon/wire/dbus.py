"""D-Bus: values on the wire, and a connection that calls methods and hears signals (D-Bus Specification 0.41).

As much as talking to systemd takes: little-endian messages over a stream socket of this machine, SASL's EXTERNAL,
no file descriptors. A variant is a pair ``(signature, value)``; structs and entries of dictionaries are sequences.
"""

from __future__ import annotations

import _socket
import struct
import time

from gosudacon.base import posix, user
from gosudacon.base.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    #: What D-Bus carries: bool, int, str, a list or tuple of values, a dict, and for a variant (signature, value).
    Value = Any

METHOD_CALL, METHOD_RETURN, ERROR, SIGNAL = 1, 2, 3, 4
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION, _SIGNATURE = 1, 2, 3, 4, 5, 6, 8
_FIELD_TYPES = {
    **dict.fromkeys((_INTERFACE, _MEMBER, _ERROR_NAME, _DESTINATION), "s"),
    _PATH: "o",
    _REPLY_SERIAL: "u",
    _SIGNATURE: "g",
}
_FIXED = {"y": "B", "n": "h", "q": "H", "b": "I", "i": "i", "u": "I", "x": "q", "t": "Q", "d": "d", "h": "I"}
_ALIGNMENT = {
    **{kind: struct.calcsize(f"<{code}") for kind, code in _FIXED.items()},
    **dict.fromkeys("soa", 4),
    **dict.fromkeys("gv", 1),
    **dict.fromkeys("({", 8),
}
_CLOSING = {"(": ")", "{": "}"}
_LARGEST = 1 << 27  # bytes of a message, by the specification
_DEEPEST = 64
_BUS = "org.freedesktop.DBus"


class DBusError(Error):
    """An error that came as a reply; ``name`` is D-Bus's, such as ``org.freedesktop.systemd1.NoSuchUnit``."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message or name)
        self.name = name


class UnreachableError(Error):
    """No process answers at the address, or not in the way of D-Bus."""


def split(signature: str) -> list[str]:
    """The single complete types of ``signature``: ``a{sv}us`` is ``a{sv}``, ``u``, ``s``. Raises ValueError."""
    types = []
    while signature:
        end = _end(signature, 0, 0)
        types.append(signature[:end])
        signature = signature[end:]
    return types


def _end(signature: str, at: int, depth: int) -> int:
    if at >= len(signature) or depth > _DEEPEST:
        raise ValueError(f"{signature!r} is not a signature")
    kind = signature[at]
    if kind == "a":
        return _end(signature, at + 1, depth + 1)
    if kind in _CLOSING:
        at += 1
        while at < len(signature) and signature[at] != _CLOSING[kind]:
            at = _end(signature, at, depth + 1)
        if at >= len(signature):
            raise ValueError(f"{signature!r} is not a signature")
        return at + 1
    if kind not in _ALIGNMENT:
        raise ValueError(f"{signature!r} is not a signature")
    return at + 1


def marshal(signature: str, values: Sequence[object]) -> bytes:
    """``values``, one for each type of ``signature``, as the body of a message. Raises ValueError, struct.error."""
    buffer = bytearray()
    for kind, value in zip(split(signature), values, strict=True):
        _put(buffer, kind, value)
    return bytes(buffer)


def _pad(buffer: bytearray, alignment: int) -> None:
    buffer.extend(bytes(-len(buffer) % alignment))


def _put(buffer: bytearray, kind: str, value: Value) -> None:
    first = kind[0]
    _pad(buffer, _ALIGNMENT[first])
    if first in _FIXED:
        buffer.extend(struct.pack(f"<{_FIXED[first]}", value))
    elif first in "so":
        data = _text(value)
        buffer.extend(struct.pack("<I", len(data)) + data + b"\0")
    elif first == "g":
        data = _text(value)
        buffer.extend(struct.pack("<B", len(data)) + data + b"\0")
    elif first == "v":
        of, inner = value
        _put(buffer, "g", of)
        _put(buffer, of, inner)
    elif first == "a":
        _put_array(buffer, kind[1:], value)
    else:
        for each, inner in zip(split(kind[1:-1]), value, strict=True):
            _put(buffer, each, inner)


def _put_array(buffer: bytearray, of: str, values: Value) -> None:
    at = len(buffer)
    buffer.extend(bytes(4))
    _pad(buffer, _ALIGNMENT[of[0]])
    start = len(buffer)
    for value in values:
        _put(buffer, of, value)
    struct.pack_into("<I", buffer, at, len(buffer) - start)


def _text(value: str) -> bytes:
    data = value.encode()
    if b"\0" in data:
        raise ValueError("a string on D-Bus cannot hold a NUL byte")
    return data


def unmarshal(signature: str, data: bytes, at: int = 0) -> tuple[list[Value], int]:
    """The values at ``at`` in ``data``, which begins at an offset that is a multiple of 8, and where they end.

    Raises ValueError if it has none.
    """
    values = []
    try:
        for kind in split(signature):
            value, at = _get(data, kind, at, 0)
            values.append(value)
    except (struct.error, IndexError) as error:
        raise ValueError(f"the message is too short: {error}") from None
    return values, at


def _get(data: bytes, kind: str, at: int, depth: int) -> tuple[Value, int]:
    if depth > _DEEPEST:
        raise ValueError("values are nested too deeply")
    first = kind[0]
    at += -at % _ALIGNMENT[first]
    if first in _FIXED:
        code = f"<{_FIXED[first]}"
        value = struct.unpack_from(code, data, at)[0]
        return bool(value) if first == "b" else value, at + struct.calcsize(code)
    if first in "sog":
        length, at = _get(data, "y" if first == "g" else "u", at, depth)
        if at + length >= len(data):
            raise ValueError("a string is longer than its message")
        return data[at : at + length].decode(), at + length + 1
    if first == "v":
        of, at = _get(data, "g", at, depth)
        if len(split(of)) != 1:
            raise ValueError(f"{of!r} is not the type of a variant")
        inner, at = _get(data, of, at, depth + 1)
        return (of, inner), at
    if first == "a":
        return _get_array(data, kind[1:], at, depth)
    members = []
    for each in split(kind[1:-1]):
        member, at = _get(data, each, at, depth + 1)
        members.append(member)
    return tuple(members), at


def _get_array(data: bytes, of: str, at: int, depth: int) -> tuple[list[object], int]:
    length, at = _get(data, "u", at, depth)
    at += -at % _ALIGNMENT[of[0]]
    end = at + length
    if end > len(data):
        raise ValueError("an array is longer than its message")
    values = []
    while at < end:
        value, at = _get(data, of, at, depth + 1)
        values.append(value)
    return values, at


class Message:
    """A message: its kind (`METHOD_CALL`, …), the header's fields by number, and the values it carries."""

    def __init__(self, kind: int, fields: dict[int, Value], values: Sequence[Value] = ()) -> None:
        self.kind = kind
        self.fields = fields
        self.values = list(values)

    @property
    def member(self) -> str:
        """The method's or signal's name; empty in replies."""
        name: str = self.fields.get(_MEMBER, "")
        return name

    def pack(self, serial: int) -> bytes:
        """The message on the wire."""
        body = marshal(self.fields.get(_SIGNATURE, ""), self.values)
        fields = [(number, (_FIELD_TYPES[number], value)) for number, value in self.fields.items()]
        head = marshal("yyyyuua(yv)", (ord("l"), self.kind, 0, 1, len(body), serial, fields))
        return head + bytes(-len(head) % 8) + body


def lengths(head: bytes) -> tuple[int, int]:
    """How long the header is that begins with these 16 bytes, and the body behind it. Raises ValueError."""
    (order, _, _, version, body, _, fields), _ = unmarshal("yyyyuuu", head)
    if order != ord("l") or version != 1 or body + fields > _LARGEST:
        raise ValueError("not a little-endian message of version 1")
    return 16 + fields + -fields % 8, body


def unpack(head: bytes, body: bytes) -> Message:
    """The message of a header and a body. Raises ValueError."""
    (_, kind, _, _, _, _, pairs), _ = unmarshal("yyyyuua(yv)", head)
    fields = {number: value for number, (_, value) in pairs}
    return Message(kind, fields, unmarshal(fields.get(_SIGNATURE, ""), body)[0])


class Connection:
    """A connection to one program, or to a bus and through it to the program called ``destination``.

    Signals that arrive while a reply is awaited are kept for `signal`. ``patience`` is in seconds, for each call.
    Raises `UnreachableError` if there is no answer, `DBusError` for errors that come as replies.
    """

    def __init__(self, address: str, destination: str, is_bus: bool, patience: float = 30.0) -> None:
        self._destination = destination if is_bus else ""
        self._patience = patience
        self._address = address
        self._serial = 0
        self._buffer = b""
        self._signals: list[Message] = []
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        try:
            self._socket.settimeout(patience)
            self._socket.connect(address)
            self._authenticate()
            if is_bus:
                self._request(_BUS, "/org/freedesktop/DBus", _BUS, "Hello", "")
        except OSError as error:
            self._socket.close()
            raise self._lost(error) from error
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def call(self, path: str, interface: str, member: str, signature: str = "", *values: Value) -> list[Value]:
        """Call a method; the values of its reply."""
        return self._request(self._destination, path, interface, member, signature, *values)

    def match(self, rule: str) -> None:
        """Ask the bus for the signals that ``rule`` describes; a program without a bus sends its signals anyway."""
        if self._destination:
            self._request(_BUS, "/org/freedesktop/DBus", _BUS, "AddMatch", "s", rule)

    def signal(self, deadline: float) -> Message | None:
        """The next signal, the oldest first; None if none comes before ``deadline`` (time.monotonic())."""
        while not self._signals:
            message = self._receive(deadline)
            if message is None:
                return None
            self._keep(message)
        return self._signals.pop(0)

    def _request(
        self, destination: str, path: str, interface: str, member: str, signature: str, *values: object
    ) -> list[object]:
        fields = {_PATH: path, _INTERFACE: interface, _MEMBER: member}
        if destination:
            fields[_DESTINATION] = destination
        if signature:
            fields[_SIGNATURE] = signature
        self._serial += 1
        deadline = time.monotonic() + self._patience
        try:
            self._socket.settimeout(self._patience)
            self._socket.sendall(Message(METHOD_CALL, fields, values).pack(self._serial))
        except OSError as error:
            raise self._lost(error) from error
        while True:
            message = self._receive(deadline)
            if message is None:
                raise UnreachableError(f"no answer to {member} within {self._patience:g} s at {self._address}")
            if message.kind == SIGNAL:
                self._keep(message)
            elif message.fields.get(_REPLY_SERIAL) == self._serial:
                if message.kind == ERROR:
                    text = message.values[0] if message.values and isinstance(message.values[0], str) else ""
                    raise DBusError(message.fields.get(_ERROR_NAME, ""), text)
                return message.values

    def _keep(self, message: Message) -> None:
        if message.kind == SIGNAL:
            self._signals.append(message)

    def _receive(self, deadline: float) -> Message | None:
        try:
            head = self._read(16, deadline)
            if head is None:
                return None
            header, body = lengths(head)
            rest = self._read(header - 16 + body, deadline + self._patience)
            if rest is None:
                raise UnreachableError(f"a message from {self._address} was cut short")
            data = head + rest
            return unpack(data[:header], data[header:])
        except ValueError as error:
            raise UnreachableError(f"{self._address} does not speak D-Bus: {error}") from error

    def _read(self, count: int, deadline: float) -> bytes | None:
        """``count`` bytes; None if they do not come in time (those that did are kept)."""
        while len(self._buffer) < count:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            try:
                self._socket.settimeout(left)
                data = self._socket.recv(65536)
            except TimeoutError:
                return None
            except OSError as error:
                raise self._lost(error) from error
            if not data:
                raise UnreachableError(f"{self._address} has closed the connection")
            self._buffer += data
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    def _authenticate(self) -> None:
        """SASL EXTERNAL: the kernel says who we are; a user namespace's root is another user outside.

        BEGIN goes with it: systemd's private socket, if it reads BEGIN and the first message at once, does not look at
        that one before more arrives.
        """
        uid = str(user.outer_uid()).encode().hex()
        self._socket.sendall(f"\0AUTH EXTERNAL {uid}\r\nBEGIN\r\n".encode())
        answer = b""
        deadline = time.monotonic() + self._patience
        while not answer.endswith(b"\r\n"):
            byte = self._read(1, deadline)
            if byte is None or len(answer) > 1024:
                raise UnreachableError(f"{self._address} does not answer as D-Bus does")
            answer += byte
        if not answer.startswith(b"OK "):
            raise UnreachableError(f"{self._address}: authentication rejected for uid {posix.geteuid()}")

    def _lost(self, error: OSError) -> UnreachableError:
        reason = posix.strerror(error.errno).lower() if error.errno else str(error)
        return UnreachableError(f"cannot reach {self._address}: {reason}")
