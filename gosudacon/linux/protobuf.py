"""The wire format of Protocol Buffers, as far as CRIU's messages need it (protobuf.dev, Encoding).

A message is a dictionary of field names; its schema says which number and kind each has. Kinds are ``int`` (also
enumerations), ``uint``, ``bool``, ``string``, or the schema of a message inside. A list is a repeated field.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    Schema = Mapping[str, tuple[int, "str | Schema"]]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MASK64 = (1 << 64) - 1
_LONGEST = 10  # bytes of a varint


class ProtobufError(ValueError):
    """What was received is no message of that schema."""


def encode(schema: Schema, message: Mapping[str, Any]) -> bytes:
    """The bytes of ``message``; fields that are None are left out. Raises KeyError for a field the schema has not."""
    data = bytearray()
    for name, value in message.items():
        number, kind = schema[name]
        for item in value if isinstance(value, list) else [value]:
            if item is not None:
                data += _field(number, kind, item)
    return bytes(data)


def decode(schema: Schema, data: bytes) -> dict[str, Any]:
    """The fields of a message; those the schema does not know are skipped, of one that comes twice the last counts.

    Raises `ProtobufError`.
    """
    names = {number: (name, kind) for name, (number, kind) in schema.items()}
    message: dict[str, Any] = {}
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        value, position = _value(data, position, tag & 7)
        if tag >> 3 in names:
            name, kind = names[tag >> 3]
            message[name] = _as(kind, value, name)
    return message


def _field(number: int, kind: str | Schema, value: Any) -> bytes:
    if kind in ("int", "uint", "bool"):
        return _to_varint(number << 3 | _VARINT) + _to_varint(int(value) & _MASK64)
    content: bytes = value.encode("utf-8", "surrogateescape") if isinstance(kind, str) else encode(kind, value)
    return _to_varint(number << 3 | _BYTES) + _to_varint(len(content)) + content


def _to_varint(value: int) -> bytes:
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift, byte in enumerate(data[position : position + _LONGEST]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value & _MASK64, position + shift + 1
    raise ProtobufError("a number without an end")


def _value(data: bytes, position: int, wire: int) -> tuple[int | bytes, int]:
    if wire == _VARINT:
        return _varint(data, position)
    if wire == _BYTES:
        length, position = _varint(data, position)
    elif wire in (_FIXED32, _FIXED64):
        length = 4 if wire == _FIXED32 else 8
    else:
        raise ProtobufError(f"unknown wire type {wire}")
    if position + length > len(data):
        raise ProtobufError("a field that is longer than its message")
    return data[position : position + length], position + length


def _as(kind: str | Schema, value: int | bytes, name: str) -> Any:
    if isinstance(value, int) != (kind in ("int", "uint", "bool")):
        raise ProtobufError(f"field {name} has the wrong wire type")
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape") if isinstance(kind, str) else decode(kind, value)
    if kind == "int":
        return value - (1 << 64) if value >> 63 else value
    return bool(value) if kind == "bool" else value
