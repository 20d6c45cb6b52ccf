"""The wire format of Protocol Buffers: bytes worked out by hand, what comes back, and what is no message."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from gosudacon.container.criu import rpc
from gosudacon.wire.protobuf import ProtobufError, decode, encode

if TYPE_CHECKING:
    from gosudacon.wire.protobuf import Schema

INNER: Schema = {"key": (1, "string"), "fd": (2, "int")}
SCHEMA: Schema = {
    "number": (1, "int"),
    "unsigned": (2, "uint"),
    "flag": (3, "bool"),
    "text": (4, "string"),
    "inner": (5, INNER),
    "far": (1000, "bool"),
}


@pytest.mark.parametrize(
    ("message", "data"),
    [
        ({}, ""),
        ({"number": 150}, "08 96 01"),
        ({"number": 0}, "08 00"),
        ({"number": -1}, "08 ff ff ff ff ff ff ff ff ff 01"),
        ({"unsigned": 0x40000000}, "10 80 80 80 80 04"),
        ({"flag": True}, "18 01"),
        ({"flag": False}, "18 00"),
        ({"text": "testing"}, "22 07 74 65 73 74 69 6e 67"),
        ({"text": "é"}, "22 02 c3 a9"),
        ({"inner": {"key": "a", "fd": 3}}, "2a 05 0a 01 61 10 03"),
        ({"far": True}, "c0 3e 01"),
    ],
)
def test_bytes(message: dict[str, Any], data: str) -> None:
    assert encode(SCHEMA, message) == bytes.fromhex(data)
    assert decode(SCHEMA, bytes.fromhex(data)) == message


def test_none_is_left_out_and_lists_repeat() -> None:
    assert encode(SCHEMA, {"number": None, "text": ["a", "b"]}) == b"\x22\x01a\x22\x01b"
    assert encode(SCHEMA, {"inner": [{"fd": 1}, {"fd": 2}], "text": []}) == bytes.fromhex("2a 02 10 01 2a 02 10 02")


def test_a_path_of_any_bytes_survives() -> None:
    name = b"/\xff\xfe".decode("utf-8", "surrogateescape")
    assert encode(SCHEMA, {"text": name}) == b"\x22\x03/\xff\xfe"
    assert decode(SCHEMA, b"\x22\x03/\xff\xfe") == {"text": name}


def test_unknown_fields_are_skipped() -> None:
    unknown = bytes.fromhex("48 05 52 02 61 62 59 0102030405060708 65 01020304")  # 9, 10, 11 and 12, a wire type each
    assert decode(SCHEMA, unknown + b"\x18\x01" + unknown) == {"flag": True}


def test_the_last_one_counts() -> None:
    assert decode(SCHEMA, b"\x08\x01\x08\x02") == {"number": 2}


@pytest.mark.parametrize(
    "data",
    ["08", "08 ff", "08 " + "ff " * 10 + "01", "22 05 61", "22", "0b", "0a 01 61", "20 01", "2a 02 0a 05"],
)
def test_what_is_no_message(data: str) -> None:
    with pytest.raises(ProtobufError):
        decode(SCHEMA, bytes.fromhex(data))


def test_any_bytes_are_a_message_or_refused() -> None:
    generator = random.Random(3)
    for _ in range(3000):
        try:
            decode(rpc.RESPONSE, generator.randbytes(generator.randrange(40)))
        except ProtobufError:
            continue


def test_an_unknown_name_is_a_bug() -> None:
    with pytest.raises(KeyError):
        encode(SCHEMA, {"nosuch": 1})


@pytest.mark.parametrize("schema", [rpc.OPTIONS, rpc.REQUEST, rpc.RESPONSE, rpc.FEATURES])
def test_numbers_are_used_once(schema: Schema) -> None:
    numbers = [number for number, _ in schema.values()]
    assert len(numbers) == len(set(numbers))
