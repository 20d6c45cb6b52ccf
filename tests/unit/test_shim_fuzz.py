"""What a shim takes from clients, whatever they send: the codec, the frames, and both ends of a connection.

Hypothesis makes the bytes, the same ones each time. GOSUDACON_TEST_EXAMPLES=N looks at N of them, chosen anew.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gosudacon.wire import containerd as wire
from gosudacon.wire import protobuf, ttrpc
from gosudacon.wire.protobuf import ProtobufError
from gosudacon.wire.ttrpc import DATA, REQUEST, RESPONSE, Client, Frames, Server, frame

EXAMPLES = int(os.environ.get("GOSUDACON_TEST_EXAMPLES", "0"))
chosen = settings(
    max_examples=EXAMPLES or 200,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)
SCHEMAS = [asked for asked, _ in wire.TASK.values()] + [wire.BOOTSTRAP_PARAMS, wire.RUNC_OPTIONS, ttrpc.REQUEST_SCHEMA]
schemas = st.sampled_from(SCHEMAS)
# Bytes that look like a message: keys of fields, lengths, and anything.
tags = st.builds(lambda number, kind: bytes([(number << 3 | kind) & 0xFF]), st.integers(0, 15), st.integers(0, 7))
parts = st.one_of(st.binary(max_size=8), tags, st.integers(0, 40).map(lambda size: bytes([size]) + bytes(size)))
payloads = st.lists(parts, max_size=12).map(b"".join)
numbers = st.one_of(st.integers(0, 9), st.integers(0, (1 << 32) - 1))
requests = st.builds(
    lambda service, method, payload: protobuf.encode(
        ttrpc.REQUEST_SCHEMA, {"service": service, "method": method, "payload": payload}
    ),
    st.sampled_from([*wire.TASK_SERVICES, "x"]),
    st.sampled_from([*wire.TASK, "y"]),
    payloads,
)
frames = st.builds(
    frame, numbers, st.one_of(st.sampled_from([REQUEST, RESPONSE, DATA]), st.integers(0, 255)), requests | payloads
)
streams = st.lists(st.one_of(frames, frames, frames, st.binary(max_size=12)), max_size=8).map(b"".join)


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    found, at = [], 0
    for size in [*sizes, len(data) + 1]:
        found.append(data[at : at + size])
        at += size
    return found


@chosen
@given(schemas, payloads)
def test_any_message(schema: protobuf.Schema, data: bytes) -> None:
    """It is understood, or is no message; what was understood comes back when it is written and read again."""
    try:
        found = protobuf.decode(schema, data)
    except ProtobufError:
        return
    assert protobuf.decode(schema, protobuf.encode(schema, found)) == found


@chosen
@given(streams, st.lists(st.integers(0, 30), max_size=20))
def test_any_frames(data: bytes, sizes: list[int]) -> None:
    """They are the same however they arrive, and no more is kept than has come."""
    whole, cut = Frames(), Frames()
    found = [(each.stream, each.kind, each.flags, each.data) for each in whole.feed(data)]
    again = [(e.stream, e.kind, e.flags, e.data) for piece in pieces(data, sizes) for e in cut.feed(piece)]
    assert again == found


@chosen
@given(streams, st.lists(st.integers(0, 30), max_size=20))
def test_any_client(data: bytes, sizes: list[int]) -> None:
    """A server raises nothing, answers each stream once, and can answer all that it has passed on."""
    server = Server()
    calls = [call for piece in pieces(data, sizes) for call in server.receive(piece)]
    assert len({call.stream for call in calls}) == len(calls)
    for call in calls:
        server.answer(call.stream, call.payload)
    answers = Frames().feed(bytes(server.outgoing))
    assert all(each.kind == RESPONSE for each in answers)
    for each in answers:
        protobuf.decode(ttrpc.RESPONSE_SCHEMA, each.data or b"")
    assert {call.stream for call in calls} <= {each.stream for each in answers}


@chosen
@given(streams, st.lists(st.integers(0, 30), max_size=20))
def test_any_server(data: bytes, sizes: list[int]) -> None:
    """A client raises nothing, and takes one reply to its call."""
    client = Client()
    client.call("s", "m", b"")
    replies = [reply for piece in pieces(data, sizes) if (reply := client.receive(piece)) is not None]
    assert len(replies) <= 1
    assert client.waiting == (not replies)


@chosen
@given(payloads, st.text(max_size=8))
def test_any_standard_input_of_start(data: bytes, id: str) -> None:
    """What containerd says to ``start`` is its parameters, or is left alone."""
    try:
        wire.read_bootstrap(data, id)
    except ProtobufError:
        return
