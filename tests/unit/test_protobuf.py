"""The wire format of Protocol Buffers: bytes worked out by hand, what comes back, and what is not a message."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from gosudacon.container.criu import rpc
from gosudacon.wire import protobuf
from gosudacon.wire.protobuf import ProtobufError, decode, encode

if TYPE_CHECKING:
    from gosudacon.wire.protobuf import Kind, Schema

INNER: Schema = {"key": (1, "string"), "fd": (2, "int32")}
SCHEMA: Schema = {
    "number": (1, "int64"),
    "unsigned": (2, "uint64"),
    "flag": (3, "bool"),
    "text": (4, "string"),
    "inner": (5, INNER),
    "small": (6, "int32"),
    "natural": (7, "uint32"),
    "data": (8, "bytes"),
    "texts": (16, ["string"]),
    "inners": (17, [INNER]),
    "numbers": (18, ["uint64"]),
    "labels": (19, ("string", "string")),
    "average": (20, "double"),
    "averages": (21, ["double"]),
    "fixed": (22, "fixed64"),
    "short": (23, "fixed32"),
    "far": (1000, "bool"),
}
NOTHING: dict[str, Any] = {
    **dict.fromkeys(("number", "unsigned", "small", "natural", "fixed", "short"), 0),
    **dict.fromkeys(("flag", "far"), False),
    **{name: [] for name in ("texts", "inners", "numbers", "averages")},
    "text": "",
    "inner": None,
    "data": b"",
    "labels": {},
    "average": 0.0,
}
RECURSIVE: dict[str, tuple[int, Kind]] = {"number": (1, "int32")}
RECURSIVE["inner"] = (2, RECURSIVE)


@pytest.mark.parametrize(
    ("message", "data"),
    [
        ({}, ""),
        ({"number": 150}, "08 96 01"),
        ({"number": 0}, "08 00"),
        ({"number": -1}, "08 ff ff ff ff ff ff ff ff ff 01"),
        ({"unsigned": 0x40000000}, "10 80 80 80 80 04"),
        ({"unsigned": (1 << 64) - 1}, "10 ff ff ff ff ff ff ff ff ff 01"),
        ({"flag": True}, "18 01"),
        ({"flag": False}, "18 00"),
        ({"text": "testing"}, "22 07 74 65 73 74 69 6e 67"),
        ({"text": "é"}, "22 02 c3 a9"),
        ({"inner": {"key": "a", "fd": 3}}, "2a 05 0a 01 61 10 03"),
        ({"inner": {"key": "", "fd": 0}}, "2a 04 0a 00 10 00"),
        ({"small": -4}, "30 fc ff ff ff ff ff ff ff ff 01"),
        ({"data": b"\0\xff"}, "42 02 00 ff"),
        ({"texts": ["a", "", "b"]}, "82 01 01 61 82 01 00 82 01 01 62"),
        ({"inners": [{"key": "", "fd": 1}, {"key": "", "fd": 2}]}, "8a 01 04 0a 00 10 01 8a 01 04 0a 00 10 02"),
        ({"numbers": [1, 300, 0]}, "92 01 04 01 ac 02 00"),
        ({"labels": {"a": "b", "": ""}}, "9a 01 06 0a 01 61 12 01 62 9a 01 04 0a 00 12 00"),
        ({"average": 1.5}, "a1 01 00 00 00 00 00 00 f8 3f"),
        ({"averages": [1.0, -2.0]}, "aa 01 10 00 00 00 00 00 00 f0 3f 00 00 00 00 00 00 00 c0"),
        ({"fixed": 1}, "b1 01 01 00 00 00 00 00 00 00"),
        ({"short": 258}, "bd 01 02 01 00 00"),
        ({"far": True}, "c0 3e 01"),
    ],
)
def test_bytes(message: dict[str, Any], data: str) -> None:
    assert encode(SCHEMA, message) == bytes.fromhex(data)
    assert decode(SCHEMA, bytes.fromhex(data)) == {**NOTHING, **message}


def test_none_and_empty_lists_are_left_out() -> None:
    assert encode(SCHEMA, {"number": None, "texts": [], "numbers": [], "labels": {}, "inner": None}) == b""


def test_decoded_messages_share_nothing() -> None:
    decode(SCHEMA, b"")["texts"].append("a")
    assert decode(SCHEMA, b"") == NOTHING


def test_a_path_of_any_bytes_survives() -> None:
    name = b"/\xff\xfe".decode("utf-8", "surrogateescape")
    assert encode(SCHEMA, {"text": name}) == b"\x22\x03/\xff\xfe"
    assert decode(SCHEMA, b"\x22\x03/\xff\xfe")["text"] == name


def test_unknown_fields_are_skipped() -> None:
    """9, 10, 11 and 12: a wire type each."""
    unknown = bytes.fromhex("48 05 52 02 61 62 59 0102030405060708 65 01020304")
    assert decode(SCHEMA, unknown + b"\x18\x01" + unknown) == {**NOTHING, "flag": True}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("08 01 08 02", {"number": 2}),
        ("2a 03 0a 01 61 2a 02 10 02", {"inner": {"key": "a", "fd": 2}}),
        ("9a 01 06 0a 01 61 12 01 62 9a 01 06 0a 01 61 12 01 63", {"labels": {"a": "c"}}),
    ],
)
def test_one_that_comes_twice(data: str, message: dict[str, Any]) -> None:
    """The last one counts; of messages inside, the last of each field."""
    assert decode(SCHEMA, bytes.fromhex(data)) == {**NOTHING, **message}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("90 01 07 90 01 08", {"numbers": [7, 8]}),
        ("90 01 07 92 01 02 08 09 90 01 0a", {"numbers": [7, 8, 9, 10]}),
        ("a9 01 00 00 00 00 00 00 f0 3f", {"averages": [1.0]}),
        ("92 01 00", {}),
        ("9a 01 02 12 00", {"labels": {"": ""}}),
        ("9a 01 00", {"labels": {"": ""}}),
        ("9a 01 06 12 01 62 0a 01 61", {"labels": {"a": "b"}}),
        ("30 ff ff ff ff 0f", {"small": -1}),
        ("38 ff ff ff ff ff ff ff ff ff 01", {"natural": 0xFFFFFFFF}),
        ("18 80 80 80 80 80 80 80 80 80 01", {"flag": True}),
        ("08 81 80 00", {"number": 1}),
    ],
)
def test_other_ways_to_say_it(data: str, message: dict[str, Any]) -> None:
    """What no encoder of today sends and every decoder takes."""
    assert decode(SCHEMA, bytes.fromhex(data)) == {**NOTHING, **message}


@pytest.mark.parametrize(
    "data",
    [
        *("08", "08 ff", "08 " + "ff " * 10 + "01", "08 " + "ff " * 9 + "02"),  # numbers
        *("22 05 61", "22", "22 ff ff ff ff ff ff ff ff ff 01", "42 ff ff ff ff 07 61"),  # lengths
        *("0b", "0c", "53 54", "0e", "0f"),  # groups, and no wire types
        *("00", "02 00", "80 80 80 80 80 01 00"),  # no field numbers
        *("0a 01 61", "20 01", "a0 01 01", "21 0102030405060708", "b9 01 01", "98 01 01"),  # of another kind
        *("2a 02 0a 05", "2a 01 0b", "8a 01 03 0a 05 61"),  # inside
        *("92 01 01 80", "92 01 02 01 ff", "aa 01 07 00 00 00 00 00 f0 3f", "95 01 01 00 00 00"),  # packed
        *("a1 01 00 00 00", "bd 01 00"),  # cut short
        *("9a 01 02 08 01", "9a 01 03 0a 05 61"),  # an entry
    ],
)
def test_what_is_no_message(data: str) -> None:
    with pytest.raises(ProtobufError):
        decode(SCHEMA, bytes.fromhex(data))


def test_nesting_has_an_end() -> None:
    def nested(deep: int) -> bytes:
        data = b"\x08\x01"
        for _ in range(deep - 1):
            data = encode({"inner": (2, "bytes")}, {"inner": data})
        return data

    inner = decode(RECURSIVE, nested(protobuf.DEEPEST))
    for _ in range(protobuf.DEEPEST - 1):
        inner = inner["inner"]
    assert inner == {"number": 1, "inner": None}
    for deep in (protobuf.DEEPEST + 1, 5000):
        with pytest.raises(ProtobufError, match="nested"):
            decode(RECURSIVE, nested(deep))


def test_size_has_an_end() -> None:
    data = encode(SCHEMA, {"data": bytes(protobuf.LARGEST - 5)})
    assert len(data) == protobuf.LARGEST
    assert len(decode(SCHEMA, data)["data"]) == protobuf.LARGEST - 5
    with pytest.raises(ProtobufError, match="most"):
        decode(SCHEMA, data + b"\x18\x01")


@pytest.mark.parametrize("field", ["82 01 00", "8a 01 00", "9a 01 00", "90 01 00", "48 00", "52 00"])
def test_fields_have_an_end(field: str) -> None:
    """What takes two bytes of a message takes hundreds of memory."""
    data = bytes.fromhex(field)
    decode(SCHEMA, data * protobuf.MOST_FIELDS)
    with pytest.raises(ProtobufError, match="fields"):
        decode(SCHEMA, data * (protobuf.MOST_FIELDS + 1))


@pytest.mark.parametrize("value", [{"numbers": [0]}, {"averages": [0.0]}])
def test_packed_values_are_fields(value: dict[str, list[Any]]) -> None:
    ((name, item),) = value.items()
    decode(SCHEMA, encode(SCHEMA, {name: item * (protobuf.MOST_FIELDS - 1)}))
    with pytest.raises(ProtobufError, match="fields"):
        decode(SCHEMA, encode(SCHEMA, {name: item * protobuf.MOST_FIELDS}))


def test_any_bytes_are_a_message_or_refused() -> None:
    generator = random.Random(3)
    for schema in (rpc.RESPONSE, SCHEMA, RECURSIVE):
        for _ in range(3000):
            try:
                decode(schema, generator.randbytes(generator.randrange(40)))
            except ProtobufError:
                continue


def test_an_unknown_name_is_a_bug() -> None:
    with pytest.raises(KeyError):
        encode(SCHEMA, {"nosuch": 1})


@pytest.mark.parametrize("schema", [rpc.OPTIONS, rpc.REQUEST, rpc.RESPONSE, rpc.FEATURES])
def test_numbers_are_used_once(schema: Schema) -> None:
    numbers = [number for number, _ in schema.values()]
    assert len(numbers) == len(set(numbers))
