"""Protocol Buffers' wire format for messages that are dictionaries; what CRI's messages need of it.

A message type is a table of fields: name to number and kind. Kinds are ``string``, ``bytes``, ``int``, ``bool``,
``map`` (of strings to strings) and the names of message types; ``[KIND]`` is repeated. The format is that of
protobuf.dev, "Encoding".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Fields = dict[str, tuple[int, str]]
Types = dict[str, Fields]
Message = dict[str, Any]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DEFAULTS: dict[str, Any] = {"string": "", "bytes": b"", "int": 0, "bool": False}


def encode(types: Types, kind: str, message: Message) -> bytes:
    """The bytes of a message; raises KeyError for a field that the type has not."""
    out = bytearray()
    for name, value in message.items():
        number, field = types[kind][name]
        if field == "map":
            for key, text in value.items():
                entry = _field(types, 1, "string", key) + _field(types, 2, "string", text)
                out += _varint(number << 3 | _BYTES) + _varint(len(entry)) + entry
        elif field == "[int]":
            packed = b"".join(_varint(item) for item in value)
            out += _varint(number << 3 | _BYTES) + _varint(len(packed)) + packed
        elif field.startswith("["):
            for item in value:
                out += _field(types, number, field[1:-1], item)
        else:
            out += _field(types, number, field, value)
    return bytes(out)


def _field(types: Types, number: int, kind: str, value: Any) -> bytes:
    if kind in ("int", "bool"):
        return _varint(number << 3 | _VARINT) + _varint(int(value))
    data: bytes
    if kind == "string":
        data = value.encode()
    elif kind == "bytes":
        data = value
    else:
        data = encode(types, kind, value)
    return _varint(number << 3 | _BYTES) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers are in two's complement, ten bytes
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode(types: Types, kind: str, data: bytes) -> Message:
    """The message in ``data``; fields that are not in the table are left out, those that are not sent are empty."""
    table = types[kind]
    message: Message = {name: _empty(field) for name, (_, field) in table.items()}
    names = {number: name for name, (number, _) in table.items()}
    for number, wire, value in _fields(data):
        if number not in names:
            continue
        name = names[number]
        field = table[name][1]
        if field == "map":
            pair = decode({"": {"key": (1, "string"), "value": (2, "string")}}, "", value)
            message[name][pair["key"]] = pair["value"]
        elif field == "[int]" and wire == _BYTES:
            message[name] += [_signed(item) for item in _varints(value)]
        elif field.startswith("["):
            message[name].append(_value(types, field[1:-1], value))
        else:
            message[name] = _value(types, field, value)
    return message


def _empty(kind: str) -> Any:
    if kind.startswith("["):
        return []
    return _DEFAULTS.get(kind, {})


def _value(types: Types, kind: str, value: Any) -> Any:
    if kind == "int":
        return _signed(value)
    if kind == "bool":
        return bool(value)
    if kind == "string":
        return value.decode()
    return value if kind == "bytes" else decode(types, kind, value)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _fields(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """Number, wire type and value (an integer or bytes) of each field."""
    place = 0
    while place < len(data):
        key, place = _read_varint(data, place)
        wire = key & 7
        if wire == _VARINT:
            value, place = _read_varint(data, place)
            yield key >> 3, wire, value
            continue
        if wire == _BYTES:
            size, place = _read_varint(data, place)
        else:
            size = {_FIXED64: 8, _FIXED32: 4}[wire]
        yield key >> 3, wire, data[place : place + size]
        place += size


def _varints(data: bytes) -> Iterator[int]:
    place = 0
    while place < len(data):
        value, place = _read_varint(data, place)
        yield value


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, place
