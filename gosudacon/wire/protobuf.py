"""Messages of Protocol Buffers, as dictionaries (protobuf.dev, Encoding).

A schema says which number and kind each field has. A kind is the name of a scalar (`_SCALARS`; an enumeration is an
``int32``), the schema of a message inside, ``[kind]`` for a repeated field, which is a list, or the names of two
scalars for a map, which is a dictionary. A message that was decoded has all fields of its schema: what was not sent is
zero, empty, or None for a message inside.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any, TypeAlias

    Kind: TypeAlias = "str | Schema | list[Kind] | tuple[str, str]"
    Schema: TypeAlias = Mapping[str, tuple[int, Kind]]
    Value = Any  # what a kind says
    Message = dict[str, Value]

LARGEST = 4 << 20  # bytes of a message
DEEPEST = 100  # messages inside each other
MOST_FIELDS = 1 << 16  # of a message and those in it, values of packed fields counted: each takes more than its bytes
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types; 3 and 4, groups, are of a former time
_WIDTHS = {_FIXED32: 4, _FIXED64: 8}
_MASK32, _MASK64 = (1 << 32) - 1, (1 << 64) - 1
_LONGEST = 10  # bytes of a varint
_ONE_BYTE = [bytes((value,)) for value in range(0x80)]


class ProtobufError(ValueError):
    """What was received is not a message of that schema, or is larger than any that is sent in earnest."""


def encode(schema: Schema, message: Mapping[str, object]) -> bytes:
    """The bytes of ``message``; fields that are None are left out. Raises KeyError for a field the schema has not."""
    data = bytearray()
    for name, value in message.items():
        if value is not None:
            number, kind = schema[name]
            data += _field(number, kind, value)
    return bytes(data)


def decode(schema: Schema, data: bytes) -> Message:
    """The message in ``data``, without fields the schema does not know. Raises `ProtobufError`."""
    if len(data) > LARGEST:
        raise ProtobufError(f"a message of {len(data)} bytes, where {LARGEST} are the most")
    return _Reader().message(schema, memoryview(data))


def _field(number: int, kind: Kind, value: Value) -> bytes:
    if isinstance(kind, list):
        return _repeated(number, kind[0], value)
    if isinstance(kind, tuple):
        entry = _entry(kind)
        return b"".join(_field(number, entry, {"key": key, "value": item}) for key, item in value.items())
    if isinstance(kind, str):
        wire, _, _, write = _SCALARS[kind]
        data = write(value)
    else:
        wire, data = _BYTES, encode(kind, value)
    if wire == _BYTES:
        return _tag(number, wire) + _to_varint(len(data)) + data
    return _tag(number, wire) + data


def _repeated(number: int, kind: Kind, values: list[Value]) -> bytes:
    """Numbers are packed: one field for all."""
    if isinstance(kind, str) and _wire(kind) != _BYTES:
        return _field(number, "bytes", b"".join(map(_SCALARS[kind][3], values))) if values else b""
    return b"".join(_field(number, kind, value) for value in values)


def _tag(number: int, wire: int) -> bytes:
    return _to_varint(number << 3 | wire)


def _to_varint(value: int) -> bytes:
    """The lowest 64 bits of a number, seven to a byte; of a negative one its two's complement."""
    if 0 <= value <= 0x7F:  # nearly all are
        return _ONE_BYTE[value]
    value &= _MASK64
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


class _Reader:
    """Decodes one message and those inside of it, none of whose bytes it copies."""

    def __init__(self) -> None:
        self._left = MOST_FIELDS

    def message(self, schema: Schema, data: memoryview, depth: int = 1, former: Message | None = None) -> Message:
        """The message in ``data``; one that comes in two parts goes on where ``former`` ended."""
        if depth > DEEPEST:
            raise ProtobufError(f"messages are nested more than {DEEPEST} deep")
        message = former or {name: _nothing(kind) for name, (_, kind) in schema.items()}
        names = {number: (name, kind) for name, (number, kind) in schema.items()}
        for number, wire, value in self._fields(data):
            if number not in names:
                continue
            name, kind = names[number]
            if isinstance(kind, list):
                message[name] += self._items(kind[0], wire, value, name, depth)
            elif isinstance(kind, tuple):
                entry = self._value(_entry(kind), wire, value, name, depth)
                message[name][entry["key"]] = entry["value"]
            else:
                message[name] = self._value(kind, wire, value, name, depth, message[name])
        return message

    def _fields(self, data: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
        """Number, wire type and value of each field, whatever it means."""
        at, end = 0, len(data)
        while at < end:
            self._spend(1)
            tag, at = _varint(data, at)
            number, wire = tag >> 3, tag & 7
            if not number or tag > _MASK32:
                raise ProtobufError(f"{number} is not the number of a field")
            if wire == _VARINT:
                value, at = _varint(data, at)
                yield number, wire, value
                continue
            if wire == _BYTES:
                length, at = _varint(data, at)
            elif wire in _WIDTHS:
                length = _WIDTHS[wire]
            else:
                raise ProtobufError(f"unknown wire type {wire}")
            if length > end - at:
                raise ProtobufError("a field that is longer than its message")
            yield number, wire, data[at : at + length]
            at += length

    def _items(self, kind: Kind, wire: int, value: int | memoryview, name: str, depth: int) -> list[Value]:
        """The values in one field of a repeated one, which numbers may share."""
        own = _wire(kind)
        if own == _BYTES or wire != _BYTES or isinstance(value, int):
            return [self._value(kind, wire, value, name, depth)]
        if own == _VARINT:
            parts: list[int | memoryview] = []
            at = 0
            while at < len(value):
                part, at = _varint(value, at)
                parts.append(part)
                self._spend(1)
        else:
            width = _WIDTHS[own]
            if len(value) % width:
                raise ProtobufError(f"field {name} ends within a value")
            self._spend(len(value) // width)
            parts = [value[at : at + width] for at in range(0, len(value), width)]
        return [self._value(kind, own, part, name, depth) for part in parts]

    def _value(
        self, kind: Kind, wire: int, value: int | memoryview, name: str, depth: int, former: Message | None = None
    ) -> Value:
        if wire != _wire(kind):
            raise ProtobufError(f"field {name} has the wrong wire type")
        if isinstance(kind, str):
            return _SCALARS[kind][2](value)
        assert isinstance(value, memoryview) and not isinstance(kind, (list, tuple))
        return self.message(kind, value, depth + 1, former)

    def _spend(self, fields: int) -> None:
        self._left -= fields
        if self._left < 0:
            raise ProtobufError(f"a message of more than {MOST_FIELDS} fields")


def _wire(kind: Kind) -> int:
    return _SCALARS[kind][0] if isinstance(kind, str) else _BYTES


def _entry(kind: tuple[str, str]) -> Schema:
    """What one entry of a map is on the wire."""
    return {"key": (1, kind[0]), "value": (2, kind[1])}


def _nothing(kind: Kind) -> Value:
    """The value of a field that was not sent."""
    if isinstance(kind, list):
        return []
    if isinstance(kind, tuple):
        return {}
    return _SCALARS[kind][1] if isinstance(kind, str) else None


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """The unsigned number at ``position``, and where it ends."""
    if position < len(data) and data[position] < 0x80:
        return data[position], position + 1
    value = 0
    for shift, byte in enumerate(data[position : position + _LONGEST]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            if value > _MASK64:
                raise ProtobufError("a number of more than 64 bits")
            return value, position + shift + 1
    raise ProtobufError("a number without an end")


def _int32(value: int) -> int:
    value &= _MASK32
    return value - (1 << 32) if value >> 31 else value


def _int64(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _little(data: memoryview) -> int:
    return int.from_bytes(data, "little")


def _double(data: memoryview) -> float:
    from _struct import unpack  # what few messages have is not worth its import elsewhere

    number: float = unpack("<d", data)[0]
    return number


def _from_double(value: float) -> bytes:
    from _struct import pack

    return pack("<d", value)


def _text(data: memoryview) -> str:
    return str(data, "utf-8", "surrogateescape")


def _from_text(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


#: Kind -> wire type, what it is when not sent, how it is read from the wire (an int or bytes), how it is written.
_SCALARS: dict[str, tuple[int, Value, Callable[[Value], Value], Callable[[Value], bytes]]] = {
    "int32": (_VARINT, 0, _int32, _to_varint),
    "int64": (_VARINT, 0, _int64, _to_varint),
    "uint32": (_VARINT, 0, lambda value: value & _MASK32, _to_varint),
    "uint64": (_VARINT, 0, int, _to_varint),
    "bool": (_VARINT, False, bool, _to_varint),
    "fixed32": (_FIXED32, 0, _little, lambda value: (value & _MASK32).to_bytes(4, "little")),
    "fixed64": (_FIXED64, 0, _little, lambda value: (value & _MASK64).to_bytes(8, "little")),
    "double": (_FIXED64, 0.0, _double, _from_double),
    "string": (_BYTES, "", _text, _from_text),
    "bytes": (_BYTES, b"", bytes, bytes),
}
