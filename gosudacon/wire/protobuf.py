"""The wire format of Protocol Buffers, as far as CRIU's messages need it (protobuf.dev, Encoding).

A message is a dictionary of field names; its schema says which number and kind each has. Kinds are ``int`` (also
enumerations), ``uint``, ``bool``, ``string``, or the schema of a message inside. A list is a repeated field.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    Schema = Mapping[str, tuple[int, "str | Schema"]]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MASK64 = (1 << 64) - 1
_LONGEST = 10  # bytes of a varint


class ProtobufError(ValueError):
    """What was received is not a message of that schema."""


def encode(schema: Schema, message: Mapping[str, object]) -> bytes:
    """The bytes of ``message``; fields that are None are left out. Raises KeyError for a field the schema has not."""
    data = bytearray()
    for name, value in message.items():
        number, kind = schema[name]
        for item in value if isinstance(value, list) else [value]:
            if item is not None:
                data += _field(number, kind, item)
    return bytes(data)


def decode(schema: Schema, data: bytes) -> dict[str, object]:
    """The fields of a message; those the schema does not know are skipped, of one that comes twice the last counts.

    Raises `ProtobufError`.
    """
    names = {number: (name, kind) for name, (number, kind) in schema.items()}
    message: dict[str, object] = {}
    for number, value in fields(data):
        if number in names:
            name, kind = names[number]
            message[name] = _as(kind, value, name)
    return message


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a message, whatever they mean. Raises `ProtobufError`."""
    position = 0
    while position < len(data):
        tag, position = varint(data, position)
        value, position = _value(data, position, tag & 7)
        yield tag >> 3, value


def _field(number: int, kind: str | Schema, value: Any) -> bytes:
    if kind in ("int", "uint", "bool"):
        return field(number, int(value))
    return field(number, value.encode("utf-8", "surrogateescape") if isinstance(kind, str) else encode(kind, value))


def field(number: int, value: int | bytes) -> bytes:
    """One field: a number, of which the lowest 64 bits count, or the bytes of anything else."""
    if isinstance(value, int):
        return to_varint(number << 3 | _VARINT) + to_varint(value)
    return to_varint(number << 3 | _BYTES) + to_varint(len(value)) + value


def to_varint(value: int) -> bytes:
    """The lowest 64 bits of a number, seven to a byte; of a negative one its two's complement."""
    value &= _MASK64
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def varint(data: bytes, position: int) -> tuple[int, int]:
    """The unsigned number at ``position``, and where it ends. Raises `ProtobufError`."""
    value = 0
    for shift, byte in enumerate(data[position : position + _LONGEST]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value & _MASK64, position + shift + 1
    raise ProtobufError("a number without an end")


def _value(data: bytes, position: int, wire: int) -> tuple[int | bytes, int]:
    if wire == _VARINT:
        return varint(data, position)
    if wire == _BYTES:
        length, position = varint(data, position)
    elif wire in (_FIXED32, _FIXED64):
        length = 4 if wire == _FIXED32 else 8
    else:
        raise ProtobufError(f"unknown wire type {wire}")
    if position + length > len(data):
        raise ProtobufError("a field that is longer than its message")
    return data[position : position + length], position + length


def _as(kind: str | Schema, value: int | bytes, name: str) -> object:
    if isinstance(value, int) != (kind in ("int", "uint", "bool")):
        raise ProtobufError(f"field {name} has the wrong wire type")
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape") if isinstance(kind, str) else decode(kind, value)
    if kind == "int":
        return signed(value)
    return bool(value) if kind == "bool" else value


def signed(value: int) -> int:
    """The number that these 64 bits are as two's complement."""
    return value - (1 << 64) if value >> 63 else value
