"""Operations for a caller without a command line: another process, with three descriptors in hand."""

from __future__ import annotations

import os
import select
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import worker
from tests.support.bundle import Bundle
from tests.support.console import ConsoleSocket, Terminal
from tests.support.runtime import Runtime

SAYS = "echo out; echo err >&2; read line; echo got $line; sleep 1000"


class Pipes:
    """Three pipes for standard input, output and error; ``streams`` are the ends that a container gets."""

    def __init__(self, text: str) -> None:
        stdin, self._keyboard = os.pipe()
        self._out, stdout = os.pipe()
        self._err, stderr = os.pipe()
        self.streams = (stdin, stdout, stderr)
        os.write(self._keyboard, text.encode())

    def said(self) -> tuple[str, str]:
        """What has come so far on standard output and error."""
        return _drain(self._out), _drain(self._err)

    def close(self) -> None:
        for fd in (*self.streams, self._keyboard, self._out, self._err):
            os.close(fd)


def _drain(fd: int) -> str:
    text = b""
    while select.select([fd], [], [], 0)[0] and (data := os.read(fd, 4096)):
        text += data
    return text.decode()


@pytest.fixture
def pipes() -> Iterator[Pipes]:
    pipes = Pipes("hello\nonce more\n")
    yield pipes
    pipes.close()


@pytest.fixture
def root(runtime: Runtime, bundle: Bundle) -> Path:
    """The runtime's ``--root``, with which it cleans up after a test that fails."""
    runtime.created.append(bundle.id)
    return runtime.root


def test_the_life_of_a_container(root: Path, bundle: Bundle, pipes: Pipes) -> None:
    """create, start, exec, kill and delete for three pipes; the worker's own descriptors stay as they are."""
    bundle.set("process.args", ["/bin/sh", "-c", SAYS])
    steps = [
        ["create", {}],
        ["note"],
        ["start"],
        [
            "exec",
            ["/bin/sh", "-c", "read line; echo exec $line; ls /proc/self/fd | wc -l; exit 7"],
            {"foreground": True},
        ],
        ["exec", ["/bin/true"], {}],
        ["exec", ["/no/such"], {}],
        ["kill", 9],
        ["delete"],
    ]
    report = worker.run(root, bundle.id, bundle.path, pipes.streams, steps)
    created, open_in_init, started, status, detached, refused, killed, deleted = report["results"]
    assert (created, started, status, detached, killed, deleted) == (0, None, 7, 0, None, [])
    assert refused == 'exec: "/no/such": stat /no/such: no such file or directory'
    out, err = pipes.said()
    assert sorted(out.splitlines()) == ["4", "exec once more", "got hello", "out"]
    assert err == "err\n"
    assert report["output"] == ""
    assert report["before"] == report["after"]
    assert not report["cli"]
    assert not [name for name in open_in_init if "/etc/hostname" in name]


def test_in_the_foreground(root: Path, bundle: Bundle, pipes: Pipes) -> None:
    bundle.set("process.args", ["/bin/sh", "-c", "read line; echo $line; exit 3"])
    report = worker.run(root, bundle.id, bundle.path, pipes.streams, [["create", {"run": True, "foreground": True}]])
    assert report["results"] == [3]
    assert (report["umask"], report["blocked"]) == (0o27, 0)
    assert pipes.said() == ("hello\n", "")
    assert report["before"] == report["after"]
    assert not (root / bundle.id).exists()


def test_started_and_left_alone(root: Path, bundle: Bundle, pipes: Pipes) -> None:
    pid_file = bundle.path / "pid"
    report = worker.run(
        root, bundle.id, bundle.path, pipes.streams, [["create", {"run": True, "pid_file": str(pid_file)}]]
    )
    assert report["results"] == [0]
    assert (root / bundle.id / "state.json").exists() and pid_file.read_text().isdecimal()


def test_a_console_socket(root: Path, bundle: Bundle, pipes: Pipes, console_socket: ConsoleSocket) -> None:
    """The terminal goes over the socket; the streams stay unused."""
    bundle.set("process.terminal", True).set("process.args", ["/bin/sh", "-c", "tty; read line; echo got $line"])
    options = {"console_socket": str(console_socket.path)}
    report = worker.run(root, bundle.id, bundle.path, pipes.streams, [["create", options], ["start"]])
    assert report["results"] == [0, None]
    terminal = console_socket.receive()
    terminal.send("hello\n")
    terminal.expect("got hello")
    assert pipes.said() == ("", "")


def test_the_terminal_of_a_caller(root: Path, bundle: Bundle, pipes: Pipes) -> None:
    """In the foreground the size comes from the terminal that the caller names, the bytes from and to its streams."""
    bundle.set("process.terminal", True).set("process.args", ["/bin/sh", "-c", "stty size; read line; echo got $line"])
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (31, 107))
    before = termios.tcgetattr(slave)
    steps = [["create", {"run": True, "foreground": True}]]
    report = worker.run(root, bundle.id, bundle.path, pipes.streams, steps, terminal=slave)
    assert report["results"] == [0]
    assert "31 107" in (said := pipes.said()[0]) and "got hello" in said
    assert termios.tcgetattr(slave) == before
    os.close(slave)
    Terminal(master).close()


def test_a_caller_without_a_terminal(root: Path, bundle: Bundle, pipes: Pipes) -> None:
    """The terminal that the worker's own process may have is not the caller's."""
    bundle.set("process.terminal", True)
    steps = [["create", {"run": True, "foreground": True}]]
    report = worker.run(root, bundle.id, bundle.path, pipes.streams, steps)
    assert report["results"] == ["process.terminal is set, but the caller has no terminal"]
    assert not (root / bundle.id).exists()


def test_descriptors_that_are_passed_on(root: Path, bundle: Bundle, pipes: Pipes) -> None:
    """They get the numbers from 3 on, whatever numbers they have in the worker, and none else is passed on."""
    bundle.set(
        "process.args", ["/bin/sh", "-c", "echo three >&3; echo four >&4; echo $LISTEN_FDS; ls /proc/self/fd | wc -l"]
    )
    (one, three), (other, four) = os.pipe(), os.pipe()
    steps = [["create", {"run": True, "foreground": True}]]
    report = worker.run(root, bundle.id, bundle.path, pipes.streams, steps, preserved=[four, three], listening=1)
    assert report["results"] == [0]
    assert (_drain(other), _drain(one)) == ("three\n", "four\n")
    assert pipes.said() == ("1\n6\n", "")
    for fd in (one, three, other, four):
        os.close(fd)


def test_what_fails_leaves_nothing(root: Path, bundle: Bundle, pipes: Pipes) -> None:
    """A create whose pid file cannot be written is undone, and the id can be used again."""
    options = {"pid_file": str(bundle.path / "no" / "pid")}
    steps: list[list[object]] = [
        ["create", {"run": True, "pid_file": str(bundle.path / "pid")}],
        ["create", {}],
        ["kill", 9],
        ["delete"],
    ]
    report = worker.run(root, bundle.id, bundle.path, pipes.streams, [["create", options], *steps])
    assert report["results"] == [
        f"{bundle.path}/no/.pid: no such file or directory",
        0,
        "container with given ID already exists",
        None,
        [],
    ]
    assert report["before"] == report["after"]
    assert not (root / bundle.id).exists()
