"""Our schemas as classes of the protobuf library, its messages as our dictionaries, and random messages."""

from __future__ import annotations

import random
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message as LibraryMessage

if TYPE_CHECKING:
    from gosudacon.wire.protobuf import Kind, Message, Schema

Field = descriptor_pb2.FieldDescriptorProto
_TYPES = {
    "int32": Field.TYPE_INT32,
    "int64": Field.TYPE_INT64,
    "uint32": Field.TYPE_UINT32,
    "uint64": Field.TYPE_UINT64,
    "bool": Field.TYPE_BOOL,
    "fixed32": Field.TYPE_FIXED32,
    "fixed64": Field.TYPE_FIXED64,
    "double": Field.TYPE_DOUBLE,
    "string": Field.TYPE_STRING,
    "bytes": Field.TYPE_BYTES,
}
_RANGES = {
    "int32": (-(1 << 31), (1 << 31) - 1),
    "int64": (-(1 << 63), (1 << 63) - 1),
    "uint32": (0, (1 << 32) - 1),
    "uint64": (0, (1 << 64) - 1),
    "fixed32": (0, (1 << 32) - 1),
    "fixed64": (0, (1 << 64) - 1),
}


class _File:
    """A .proto file with a message for each schema that is reached from one."""

    def __init__(self) -> None:
        self.proto = descriptor_pb2.FileDescriptorProto(name="ours.proto", package="ours", syntax="proto3")
        self._names: dict[int, str] = {}

    def add(self, schema: Schema) -> str:
        """The name of a schema's message."""
        if id(schema) not in self._names:
            self._names[id(schema)] = name = f"M{len(self._names)}"
            message = descriptor_pb2.DescriptorProto(name=name)
            for field, (number, kind) in schema.items():
                self._field(message, name, field, number, kind)
            self.proto.message_type.append(message)
        return self._names[id(schema)]

    def _field(self, message: descriptor_pb2.DescriptorProto, owner: str, name: str, number: int, kind: Kind) -> None:
        field = message.field.add(name=name, number=number, label=Field.LABEL_OPTIONAL)
        if isinstance(kind, tuple):
            entry = message.nested_type.add(name=f"{''.join(part.title() for part in name.split('_'))}Entry")
            entry.options.map_entry = True
            self._field(entry, "", "key", 1, kind[0])
            self._field(entry, "", "value", 2, kind[1])
            field.label, field.type = Field.LABEL_REPEATED, Field.TYPE_MESSAGE
            field.type_name = f".ours.{owner}.{entry.name}"
            return
        if isinstance(kind, list):
            field.label = Field.LABEL_REPEATED
            kind = kind[0]
        if isinstance(kind, str):
            field.type = _TYPES[kind]
        else:
            assert isinstance(kind, Mapping)
            field.type, field.type_name = Field.TYPE_MESSAGE, f".ours.{self.add(kind)}"


def library_class(schema: Schema) -> type[LibraryMessage]:
    """The library's class for messages of a schema."""
    file = _File()
    name = file.add(schema)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file.proto)
    found: type[LibraryMessage] = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"ours.{name}"))
    return found


def as_ours(schema: Schema, message: Any) -> Message:
    """The library's message as `gosudacon.wire.protobuf.decode` gives it."""
    found: Message = {}
    for name, (_, kind) in schema.items():
        value = getattr(message, name)
        if isinstance(kind, str):
            found[name] = value
        elif isinstance(kind, tuple):
            found[name] = dict(value)
        elif isinstance(kind, list):
            inner = kind[0]
            found[name] = list(value) if isinstance(inner, str) else [as_ours(_schema(inner), each) for each in value]
        else:
            found[name] = as_ours(_schema(kind), value) if message.HasField(name) else None
    return found


def random_message(generator: random.Random, schema: Schema, depth: int = 4) -> Message:
    """Any message of a schema, as `decode` gives it; what is inside of it may be missing."""
    return {name: _random(generator, kind, depth) for name, (_, kind) in schema.items()}


def _random(generator: random.Random, kind: Kind, depth: int) -> Any:
    if isinstance(kind, list):
        items = [_random(generator, kind[0], depth) for _ in range(generator.choice((0, 1, 3)) if depth else 0)]
        return [item for item in items if item is not None]
    if isinstance(kind, tuple):
        return {_random(generator, kind[0], depth): _random(generator, kind[1], depth) for _ in range(3)}
    if not isinstance(kind, str):
        return random_message(generator, _schema(kind), depth - 1) if depth and generator.random() < 0.8 else None
    if kind in _RANGES:
        least, most = _RANGES[kind]
        return generator.choice((0, 1, least, most, generator.randint(least, most), generator.randint(0, 300)))
    if kind == "bool":
        return generator.random() < 0.5
    if kind == "double":
        return generator.choice((0.0, -0.0, 1.5, float("inf"), struct.unpack("<f", generator.randbytes(3) + b"\0")[0]))
    if kind == "bytes":
        return generator.randbytes(generator.choice((0, 3, 200)))
    return "".join(generator.choice("a/é€\U0001f600\0 ") for _ in range(generator.choice((0, 3, 200))))


def _schema(kind: Kind) -> Schema:
    assert isinstance(kind, Mapping)
    return kind
