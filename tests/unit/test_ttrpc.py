"""ttrpc without a socket: frames from any pieces, the rules of streams, answers, and what breaks the protocol."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator

import pytest

from gosudacon.wire import protobuf, ttrpc
from gosudacon.wire.ttrpc import DATA, REQUEST, RESPONSE, Client, Frames, Server, frame


def request(stream: int, method: str = "State", **fields: object) -> bytes:
    """A request on the wire."""
    message = {"service": "containerd.task.v2.Task", "method": method, **fields}
    return frame(stream, REQUEST, protobuf.encode(ttrpc.REQUEST_SCHEMA, message))


def oversized(stream: int, kind: int = REQUEST, length: int = ttrpc.LARGEST + 1) -> bytes:
    """The header of a frame that is too long."""
    return length.to_bytes(4, "big") + stream.to_bytes(4, "big") + bytes((kind, 0))


def answers(server: Server) -> list[tuple[int, int, bytes]]:
    """(stream, code, payload) of what a server has to send, which is taken away."""
    found = []
    for each in Frames().feed(bytes(server.outgoing)):
        assert each.kind == RESPONSE and each.flags == 0 and each.data is not None
        response = protobuf.decode(ttrpc.RESPONSE_SCHEMA, each.data)
        found.append((each.stream, response["status"]["code"] if response["status"] else 0, response["payload"]))
    server.sent(len(server.outgoing))
    return found


def pieces(generator: random.Random, data: bytes, most: int) -> Iterator[bytes]:
    """``data``, cut anywhere."""
    at = 0
    while at < len(data):
        size = generator.randint(1, most)
        yield data[at : at + size]
        at += size


def test_the_bytes_of_a_frame() -> None:
    assert frame(258, REQUEST, b"ab") == bytes.fromhex("00000002 00000102 01 00 6162")
    assert frame(1, RESPONSE, b"", 1) == bytes.fromhex("00000000 00000001 02 01")
    with pytest.raises(ttrpc.TooLongError):
        frame(1, RESPONSE, bytes(ttrpc.LARGEST + 1))


def test_a_request_byte_by_byte() -> None:
    server = Server()
    metadata = [{"key": "containerd-namespace-ttrpc", "value": "k8s.io"}]
    data = request(1, payload=b"\x0a\x01x", timeout_nano=2_000_000_000, metadata=metadata)
    for index in range(len(data) - 1):
        assert server.receive(data[index : index + 1]) == []
    (call,) = server.receive(data[-1:])
    assert (call.stream, call.service, call.method) == (1, "containerd.task.v2.Task", "State")
    assert (call.payload, call.timeout) == (b"\x0a\x01x", 2_000_000_000)
    assert call.metadata == {"containerd-namespace-ttrpc": "k8s.io"}


@pytest.mark.parametrize("most", [1, 7, 100, 10000])
def test_any_pieces(most: int) -> None:
    generator = random.Random(most)
    payloads = [generator.randbytes(generator.choice((0, 1, 9, 300))) for _ in range(50)]
    data = b"".join(request(2 * index + 1, payload=payload) for index, payload in enumerate(payloads))
    server = Server()
    calls = [call for piece in pieces(generator, data, most) for call in server.receive(piece)]
    assert [(call.stream, call.payload) for call in calls] == [(2 * at + 1, each) for at, each in enumerate(payloads)]


def test_answers_in_any_order() -> None:
    server = Server()
    server.receive(request(1) + request(3) + request(5))
    server.answer(5, b"five")
    server.refuse(1, ttrpc.NOT_FOUND, "container not created")
    server.answer(3)
    assert server.outgoing.endswith(bytes.fromhex("00000000 00000003 02 00"))
    assert answers(server) == [(5, 0, b"five"), (1, ttrpc.NOT_FOUND, b""), (3, 0, b"")]


def test_one_answer_each() -> None:
    server = Server()
    server.receive(request(1))
    server.answer(1)
    for stream in (1, 3):
        with pytest.raises(KeyError):
            server.answer(stream)
        with pytest.raises(KeyError):
            server.refuse(stream, ttrpc.UNKNOWN, "")
    assert len(answers(server)) == 1


def test_partial_writes() -> None:
    server = Server()
    server.receive(request(1))
    server.answer(1, b"12345")
    whole, sent = bytes(server.outgoing), b""
    while server.outgoing:
        sent += server.outgoing[:3]
        server.sent(len(server.outgoing[:3]))
    assert sent == whole


@pytest.mark.parametrize(
    ("data", "stream", "code"),
    [
        (request(2), 2, ttrpc.INVALID_ARGUMENT),
        (request(0), 0, ttrpc.INVALID_ARGUMENT),
        (request(7), 7, ttrpc.INVALID_ARGUMENT),
        (request(5), 5, ttrpc.INVALID_ARGUMENT),
        (frame(9, DATA, b"x"), 9, ttrpc.INVALID_ARGUMENT),
        (frame(9, DATA, b"", 4), 9, ttrpc.INVALID_ARGUMENT),
        (frame(8, DATA, b"x"), 8, ttrpc.INVALID_ARGUMENT),
        (frame(9, REQUEST, b"\xff"), 9, ttrpc.INVALID_ARGUMENT),
        (frame(9, REQUEST, b"\x0b"), 9, ttrpc.INVALID_ARGUMENT),
        (oversized(9) + bytes(ttrpc.LARGEST + 1), 9, ttrpc.RESOURCE_EXHAUSTED),
    ],
)
def test_what_is_refused(data: bytes, stream: int, code: int) -> None:
    """On its stream, and the connection goes on."""
    server = Server()
    server.receive(request(7))
    assert server.receive(data) == []
    assert [(on, what) for on, what, _ in answers(server)] == [(stream, code)]
    assert [call.stream for call in server.receive(request(11))] == [11]
    server.answer(7, b"late")
    assert answers(server) == [(7, 0, b"late")]


@pytest.mark.parametrize("kind", [0, RESPONSE, 4, 255])
def test_other_kinds_are_ignored(kind: int) -> None:
    server = Server()
    for stream in (0, 1, 2):
        assert server.receive(frame(stream, kind, b"abc")) == []
        assert server.receive(oversized(stream, kind) + bytes(ttrpc.LARGEST + 1)) == []
    assert not server.outgoing
    assert len(server.receive(request(1))) == 1


def test_the_largest_frame_passes() -> None:
    room = ttrpc.LARGEST - len(request(1, payload=bytes(ttrpc.LARGEST - 100))) + 10 + ttrpc.LARGEST - 100
    data = request(1, payload=bytes(room))
    assert len(data) == ttrpc.LARGEST + 10
    (call,) = Server().receive(data)
    assert len(call.payload) == room


def test_an_oversized_request_is_not_kept() -> None:
    """It is answered when all of it has gone by, and what follows it is heard."""
    server = Server()
    length = 64 << 20
    tracemalloc.start()
    server.receive(oversized(1, length=length))
    chunk = bytes(1 << 16)
    for _ in range(length // len(chunk) - 1):
        assert server.receive(chunk) == []
    assert not server.outgoing
    (call,) = server.receive(chunk + request(3))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert call.stream == 3
    assert [(on, what) for on, what, _ in answers(server)] == [(1, ttrpc.RESOURCE_EXHAUSTED)]
    assert peak < 1 << 20


def test_a_response_too_long_is_refused() -> None:
    server = Server()
    server.receive(request(1))
    server.answer(1, bytes(ttrpc.LARGEST))
    assert answers(server) == [(1, ttrpc.RESOURCE_EXHAUSTED, b"")]


@pytest.mark.parametrize("text", ["/\udcff", "\ud800", "\0", "x" * (5 << 20)])
def test_a_status_is_a_string_of_bounded_length(text: str) -> None:
    server = Server()
    server.receive(request(1))
    server.refuse(1, ttrpc.UNKNOWN, text)
    (answer,) = Frames().feed(bytes(server.outgoing))
    assert answer.data is not None and len(answer.data) < ttrpc.LARGEST
    protobuf.decode(ttrpc.RESPONSE_SCHEMA, answer.data)["status"]["message"].encode()


def test_requests_without_an_answer_have_an_end() -> None:
    server = Server()
    for index in range(ttrpc.MOST_OPEN):
        assert server.receive(request(2 * index + 1))
    stream = 2 * ttrpc.MOST_OPEN + 1
    assert server.receive(request(stream)) == []
    assert [(on, what) for on, what, _ in answers(server)] == [(stream, ttrpc.RESOURCE_EXHAUSTED)]
    server.answer(1)
    assert server.receive(request(stream + 2))


def test_a_client_that_does_not_read_is_noticed() -> None:
    server = Server()
    server.receive(request(1) + request(3))
    server.answer(1, bytes(ttrpc.CROWDED // 2))
    assert not server.crowded
    server.answer(3, bytes(ttrpc.CROWDED // 2))
    assert server.crowded
    server.sent(100)
    assert not server.crowded


def test_any_bytes() -> None:
    """Every request that is understood waits for an answer; nothing raises, hangs or grows."""
    generator = random.Random(9)
    for _ in range(300):
        server = Server()
        data = bytearray()
        for index in range(generator.randrange(8)):
            data += generator.choice(
                (
                    request(2 * index + 1, payload=generator.randbytes(20)),
                    frame(generator.randrange(20), generator.randrange(5), generator.randbytes(9)),
                    generator.randbytes(generator.randrange(30)),
                    oversized(generator.randrange(20), generator.randrange(4)),
                )
            )
            if data and generator.random() < 0.3:
                data[generator.randrange(len(data))] = generator.randrange(256)
        for piece in pieces(generator, bytes(data), 40):
            for call in server.receive(piece):
                server.answer(call.stream, call.payload)
        for _, code, _ in answers(server):
            assert code in (ttrpc.OK, ttrpc.INVALID_ARGUMENT, ttrpc.RESOURCE_EXHAUSTED)


def test_a_call() -> None:
    client, server = Client(), Server()
    for stream, payload in ((1, b"\x0a\x00"), (3, b"")):
        client.call("containerd.services.events.ttrpc.v1.Events", "Forward", payload, 5_000_000_000)
        assert client.waiting
        (call,) = server.receive(bytes(client.outgoing))
        client.sent(len(client.outgoing))
        assert (call.stream, call.method, call.payload, call.timeout) == (stream, "Forward", payload, 5_000_000_000)
        server.answer(stream, b"done")
        replies = [client.receive(bytes((byte,))) for byte in server.outgoing]
        server.sent(len(server.outgoing))
        assert replies[:-1] == [None] * (len(replies) - 1) and replies[-1] is not None
        assert (replies[-1].code, replies[-1].payload, client.waiting) == (ttrpc.OK, b"done", False)


def test_a_call_that_fails() -> None:
    client, server = Client(), Server()
    client.call("service", "method", b"")
    server.receive(bytes(client.outgoing))
    server.refuse(1, ttrpc.INVALID_ARGUMENT, "no topic")
    reply = client.receive(bytes(server.outgoing))
    assert reply is not None and (reply.code, reply.message) == (ttrpc.INVALID_ARGUMENT, "no topic")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(1, RESPONSE, b"\xff"), ttrpc.INTERNAL),
        (oversized(1, RESPONSE) + bytes(ttrpc.LARGEST + 1), ttrpc.RESOURCE_EXHAUSTED),
    ],
)
def test_a_response_that_is_none(data: bytes, code: int) -> None:
    client = Client()
    client.call("service", "method", b"")
    ignored = frame(3, RESPONSE, b"") + frame(1, DATA, b"") + frame(1, REQUEST, b"")
    assert client.receive(ignored) is None and client.waiting
    reply = client.receive(data + frame(1, RESPONSE, b""))
    assert reply is not None and reply.code == code
