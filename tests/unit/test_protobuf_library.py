"""Our codec beside the protobuf library: for every message that we use, both read what either has written."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("google.protobuf", "6.30", reason="needs protobuf")

from google.protobuf.message import DecodeError

from gosudacon.container.criu import rpc
from gosudacon.wire import ttrpc
from gosudacon.wire.protobuf import ProtobufError, decode, encode
from tests.support.messages import as_ours, library_class, random_message
from tests.unit.test_protobuf import RECURSIVE, SCHEMA

if TYPE_CHECKING:
    from gosudacon.wire.protobuf import Message, Schema

SCHEMAS: dict[str, Schema] = {
    "every kind": SCHEMA,
    "recursive": RECURSIVE,
    "criu request": rpc.REQUEST,
    "criu response": rpc.RESPONSE,
    "ttrpc request": ttrpc.REQUEST_SCHEMA,
    "ttrpc response": ttrpc.RESPONSE_SCHEMA,
}


def as_text(message: Message) -> str:
    """To be compared: NaN is itself, and maps have no order."""
    return json.dumps(message, sort_keys=True, default=repr)


@pytest.fixture(params=SCHEMAS)
def schema(request: pytest.FixtureRequest) -> Schema:
    return SCHEMAS[request.param]


def test_the_same_messages(schema: Schema) -> None:
    """What we write the library reads, what it writes we read, and neither loses anything."""
    library = library_class(schema)
    generator = random.Random(str(schema.keys()))
    for _ in range(100):
        message = random_message(generator, schema)
        data = encode(schema, message)
        theirs = library.FromString(data)
        assert as_ours(schema, theirs) == message
        assert decode(schema, data) == message
        assert decode(schema, theirs.SerializeToString()) == message


def test_damaged_messages(schema: Schema) -> None:
    """What we accept of a message with bytes changed, added or missing, the library accepts and reads in the same way.

    It takes for an unknown field what has the wrong wire type, and wants strings to be UTF-8.
    """
    library = library_class(schema)
    generator = random.Random(str(schema.keys()))
    same = 0
    for _ in range(1500):
        data = bytearray(encode(schema, random_message(generator, schema, 2)))[: generator.choice((20, 60, 1000))]
        for _ in range(generator.choice((0, 1, 3))):
            at = generator.randrange(len(data) + 1)
            data[at : at + generator.randrange(3)] = generator.randbytes(generator.randrange(3))
        try:
            message = decode(schema, bytes(data))
        except ProtobufError:
            continue
        try:
            theirs = library.FromString(bytes(data))
        except DecodeError:
            assert "\\udc" in ascii(message)
            continue
        assert as_text(as_ours(schema, theirs)) == as_text(message)
        same += 1
    assert same > 30
