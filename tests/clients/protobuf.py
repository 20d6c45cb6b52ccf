"""Messages of Protocol Buffers as dictionaries; what CRI's need beyond the fields of `gosudacon.wire.protobuf`.

A message type is a table of fields: name to number and kind. Kinds are ``string``, ``bytes``, ``int``, ``bool``,
``map`` (of strings to strings) and the names of message types; ``[KIND]`` is repeated. The format is that of
protobuf.dev, "Encoding".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from gosudacon.wire.protobuf import field, fields, signed, to_varint, varint

Fields = dict[str, tuple[int, str]]
Types = dict[str, Fields]
Message = dict[str, Any]

_DEFAULTS: dict[str, Any] = {"string": "", "bytes": b"", "int": 0, "bool": False}


def encode(types: Types, kind: str, message: Message) -> bytes:
    """The bytes of a message; raises KeyError for a field that the type has not."""
    out = bytearray()
    for name, value in message.items():
        number, what = types[kind][name]
        if what == "map":
            for key, text in value.items():
                out += field(number, field(1, key.encode()) + field(2, text.encode()))
        elif what == "[int]":
            out += field(number, b"".join(to_varint(item) for item in value))
        elif what.startswith("["):
            for item in value:
                out += field(number, _encoded(types, what[1:-1], item))
        else:
            out += field(number, _encoded(types, what, value))
    return bytes(out)


def _encoded(types: Types, kind: str, value: Any) -> int | bytes:
    if kind in ("int", "bool"):
        return int(value)
    if kind == "string":
        return str(value).encode()
    return bytes(value) if kind == "bytes" else encode(types, kind, value)


def decode(types: Types, kind: str, data: bytes) -> Message:
    """The message in ``data``; fields that are not in the table are left out, those that are not sent are empty."""
    table = types[kind]
    message: Message = {name: _empty(what) for name, (_, what) in table.items()}
    names = {number: name for name, (number, _) in table.items()}
    for number, value in fields(data):
        if number not in names:
            continue
        name = names[number]
        what = table[name][1]
        if what == "map":
            pair = decode({"": {"key": (1, "string"), "value": (2, "string")}}, "", cast(bytes, value))
            message[name][pair["key"]] = pair["value"]
        elif what == "[int]" and isinstance(value, bytes):
            message[name] += [signed(item) for item in _varints(value)]
        elif what.startswith("["):
            message[name].append(_value(types, what[1:-1], value))
        else:
            message[name] = _value(types, what, value)
    return message


def _empty(kind: str) -> Any:
    if kind.startswith("["):
        return []
    return _DEFAULTS.get(kind, {})


def _value(types: Types, kind: str, value: Any) -> Any:
    if kind == "int":
        return signed(value)
    if kind == "bool":
        return bool(value)
    if kind == "string":
        return value.decode()
    return value if kind == "bytes" else decode(types, kind, value)


def _varints(data: bytes) -> Iterator[int]:
    place = 0
    while place < len(data):
        value, place = varint(data, place)
        yield value
