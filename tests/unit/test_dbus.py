"""D-Bus on the wire, and a peer that answers over a real socket."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gosudacon.base import user
from gosudacon.wire import dbus

PROPERTIES = [
    ("Slice", ("s", "a-b.slice")),
    ("Delegate", ("b", True)),
    ("MemoryMax", ("t", (1 << 64) - 1)),
    ("PIDs", ("au", [7, 8])),
    ("AllowedCPUs", ("ay", [5, 0, 1])),
    ("DeviceAllow", ("a(ss)", [("char-pts", "rwm"), ("/dev/char/1:3", "r")])),
]


@pytest.mark.parametrize(
    ("signature", "values", "data"),
    [
        ("y", [5], b"\x05"),
        ("yu", [5, 6], b"\x05\0\0\0\x06\0\0\0"),
        ("s", ["abc"], b"\x03\0\0\0abc\0"),
        ("g", ["a{sv}"], b"\x05a{sv}\0"),
        ("b", [True], b"\x01\0\0\0"),
        ("v", [("y", 9)], b"\x01y\0\x09"),
        ("v", [("t", 9)], b"\x01t\0\0\0\0\0\0\x09\0\0\0\0\0\0\0"),
        ("au", [[1, 2]], b"\x08\0\0\0\x01\0\0\0\x02\0\0\0"),
        ("at", [[1]], b"\x08\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0"),  # the padding before the first is not counted
        ("at", [[]], b"\0\0\0\0\0\0\0\0"),
        ("y(yu)", [1, (2, 3)], b"\x01\0\0\0\0\0\0\0\x02\0\0\0\x03\0\0\0"),
        (
            "nqixd",
            [-1, 2, -3, -4, 0.5],
            b"\xff\xff\x02\0\xfd\xff\xff\xff\xfc" + b"\xff" * 7 + b"\0" * 6 + b"\xe0?",
        ),
    ],
)
def test_values_have_their_place(signature: str, values: list[Any], data: bytes) -> None:
    assert dbus.marshal(signature, values) == data
    assert dbus.unmarshal(signature, data) == (values, len(data))


def test_what_systemd_is_sent_comes_back() -> None:
    values = ["x.scope", "replace", PROPERTIES, []]
    signature = "ssa(sv)a(sa(sv))"
    assert dbus.unmarshal(signature, dbus.marshal(signature, values))[0] == values


@pytest.mark.parametrize("signature", ["a", "(", "(s", "z", "a{s", "}", "(" * 70 + "y" + ")" * 70])
def test_what_is_no_signature(signature: str) -> None:
    with pytest.raises(ValueError, match="is not a signature"):
        dbus.split(signature)


def test_signatures_are_split() -> None:
    assert dbus.split("a{sv}us(a(sv)y)aau") == ["a{sv}", "u", "s", "(a(sv)y)", "aau"]


@pytest.mark.parametrize(
    ("signature", "data"),
    [
        ("u", b"\0"),
        ("s", b"\x09\0\0\0abc\0"),
        ("ay", b"\xff\xff\xff\x7fabc"),
        ("v", b"\x02uu\0\0\0\0\0"),
        ("v", b"\x01v\0" * 100),
        ("s", b"\x02\0\0\0\xff\xfe\0"),
    ],
)
def test_nonsense_is_an_error_and_no_crash(signature: str, data: bytes) -> None:
    with pytest.raises(ValueError):
        dbus.unmarshal(signature, data)


def test_strings_hold_no_nul() -> None:
    with pytest.raises(ValueError, match="NUL"):
        dbus.marshal("s", ["a\0b"])


def test_a_message() -> None:
    fields = {1: "/a", 2: "b.c", 3: "D", 8: "su"}
    data = dbus.Message(dbus.METHOD_CALL, fields, ["x", 5]).pack(7)
    header, body = dbus.lengths(data[:16])
    assert header + body == len(data) and header % 8 == 0
    found = dbus.unpack(data[:header], data[header:])
    assert (found.kind, found.fields, found.values, found.member) == (dbus.METHOD_CALL, fields, ["x", 5], "D")


def test_who_root_of_a_user_namespace_is_outside() -> None:
    assert user.outside(0, b"         0       1000          1\n         1     100000      65536\n") == 1000
    assert user.outside(5, b"         0       1000          1\n         1     100000      65536\n") == 100004
    assert user.outside(0, b"         0          0 4294967295\n") == 0
    assert user.outside(7, b"") == 7


Peer = Callable[[socket.socket], None]


@pytest.fixture
def peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Peer], str]]:
    """Starts a program that accepts one connection; gives its address."""
    monkeypatch.chdir(tmp_path)  # addresses are short
    listener = socket.socket(socket.AF_UNIX)
    threads = []

    def serve(act: Peer) -> str:
        listener.bind("peer")
        listener.listen()

        def main() -> None:
            connection, _ = listener.accept()
            with connection:
                act(connection)

        threads.append(threading.Thread(target=main))
        threads[0].start()
        return "peer"

    yield serve
    listener.close()
    for thread in threads:
        thread.join(10)


def greet(connection: socket.socket) -> None:
    words = connection.recv(100)
    assert words == f"\0AUTH EXTERNAL {str(os.geteuid()).encode().hex()}\r\nBEGIN\r\n".encode()
    connection.sendall(b"OK 0123\r\n")


def read_call(connection: socket.socket) -> dbus.Message:
    head = connection.recv(16, socket.MSG_WAITALL)
    header, body = dbus.lengths(head)
    rest = connection.recv(header + body - 16, socket.MSG_WAITALL)
    return dbus.unpack(head + rest[: header - 16], rest[header - 16 :])


def test_a_signal_before_the_reply_is_kept(peer: Callable[[Peer], str]) -> None:
    def act(connection: socket.socket) -> None:
        greet(connection)
        call = read_call(connection)
        assert (call.member, call.values) == ("Start", ["x"])
        signal = dbus.Message(dbus.SIGNAL, {1: "/p", 2: "i.f", 3: "Removed", 8: "us"}, [1, "done"]).pack(1)
        reply = dbus.Message(dbus.METHOD_RETURN, {5: 1, 8: "o"}, ["/job/1"]).pack(2)
        for byte in signal + reply:  # as slowly as it can come
            connection.sendall(bytes([byte]))

    with dbus.Connection(peer(act), "d", False, 10) as connection:
        assert connection.call("/p", "i.f", "Start", "s", "x") == ["/job/1"]
        signal = connection.signal(time.monotonic() + 10)
        assert signal is not None and (signal.member, signal.values) == ("Removed", [1, "done"])


def test_an_error_reply(peer: Callable[[Peer], str]) -> None:
    def act(connection: socket.socket) -> None:
        greet(connection)
        read_call(connection)
        connection.sendall(dbus.Message(dbus.ERROR, {4: "x.NoSuchUnit", 5: 1, 8: "s"}, ["not there"]).pack(2))

    with dbus.Connection(peer(act), "d", False, 10) as connection, pytest.raises(dbus.DBusError) as caught:
        connection.call("/p", "i.f", "Stop")
    assert (caught.value.name, caught.value.message) == ("x.NoSuchUnit", "not there")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"REJECTED EXTERNAL\r\n", "authentication rejected for uid"),
        (b"OK 1\r\nHTTP/1.1 400 Bad Request\r\n\r\n", "does not speak D-Bus"),
        (b"x" * 2000, "does not answer"),
        (b"", "has closed the connection"),
        (b"OK 1\r\n", "has closed the connection"),
    ],
)
def test_who_is_no_dbus(peer: Callable[[Peer], str], answer: bytes, message: str) -> None:
    def act(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(answer)
        if answer.startswith(b"OK"):
            read_call(connection)

    with pytest.raises(dbus.UnreachableError, match=message):
        dbus.Connection(peer(act), "d", False, 10).call("/p", "i.f", "X")


def test_no_bus_there(tmp_path: Path) -> None:
    with pytest.raises(dbus.UnreachableError, match="no such file"):
        dbus.Connection(str(tmp_path / "none"), "d", False, 10)
