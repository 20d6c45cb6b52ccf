"""Files that callers name: descriptors and FIFOs instead of config.json, --process, --log and the others."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import console
from tests.support.bundle import Bundle
from tests.support.runtime import Runtime
from tests.support.timing import seconds

STATUS = 7


@contextmanager
def pipe_with(text: str) -> Iterator[int]:
    """A descriptor to read ``text`` from, in pieces."""
    reader, writer = os.pipe()

    def write() -> None:
        with os.fdopen(writer, "wb", buffering=0) as file:
            for start in range(0, len(text), 100):
                file.write(text[start : start + 100].encode())

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield reader
    finally:
        os.close(reader)
        thread.join()


@contextmanager
def socket_with(text: str) -> Iterator[int]:
    mine, theirs = socket.socketpair()
    with mine, theirs:
        mine.sendall(text.encode())
        mine.shutdown(socket.SHUT_WR)
        yield theirs.fileno()


@contextmanager
def fifo_with(text: str, path: Path) -> Iterator[Path]:
    os.mkfifo(path)
    writer = subprocess.Popen(["sh", "-c", 'sleep 0.2; printf %s "$1" > "$0"', str(path), text])
    try:
        yield path
    finally:
        writer.wait(seconds(10))


def process(script: str) -> str:
    return json.dumps(
        {"args": ["/bin/sh", "-c", script], "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["A=" * 999]}
    )


@pytest.mark.parametrize("source", [pipe_with, socket_with])
@pytest.mark.parametrize("verb", ["run", "exec", "explain"])
def test_a_descriptor(runtime: Runtime, bundle: Bundle, verb: str, source: Callable[..., Iterator[int]]) -> None:
    """It is read to its end, and the container's process does not have it."""
    script = f"ls /proc/self/fd | grep -qx 9 && exit 1; exit {STATUS}"
    if verb == "exec":
        runtime.boot(bundle)
        text, words = process(script), ["exec", "--process", "/dev/fd/9", bundle.id]
    else:
        bundle.set("process.args", ["/bin/sh", "-c", script])
        text = bundle.config_path.read_text()
        bundle.config_path.unlink()
        words = ["explain", "-f", "/dev/fd/9", str(bundle.path)]
        if verb == "run":
            words = ["run", "-f", "/dev/fd/9", "--bundle", str(bundle.path), bundle.id]
            runtime.created.append(bundle.id)
    with source(text) as fd:  # type: ignore[attr-defined]

        def give() -> None:
            os.dup2(fd, 9, inheritable=True)

        result = runtime.call(*words, check=False, preexec_fn=give, close_fds=False)
    assert result.returncode == (0 if verb == "explain" else STATUS), result.stderr


def test_fifos(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    """Their writers may come a little later."""
    bundle.set("process.args", ["sleep", "1000"])
    text = bundle.config_path.read_text()
    bundle.config_path.unlink()
    with fifo_with(text, bundle.config_path):
        runtime.boot(bundle)
    with fifo_with(process(f"exit {STATUS}"), scratch / "process") as path:
        assert runtime.call("exec", "--process", path, bundle.id, check=False).returncode == STATUS


@pytest.mark.parametrize("verb", ["run", "exec", "explain", "update"])
def test_a_fifo_without_a_writer(runtime: Runtime, bundle: Bundle, scratch: Path, verb: str) -> None:
    if verb in ("exec", "update"):
        runtime.boot(bundle)
    fifo = scratch / "fifo"
    os.mkfifo(fifo)
    words: dict[str, list[str | Path]] = {
        "run": ["run", "--bundle", bundle.path, "--config", fifo, bundle.id],
        "exec": ["exec", "--process", fifo, bundle.id],
        "explain": ["explain", "-f", fifo, bundle.path],
        "update": ["update", "--resources", fifo, bundle.id],
    }
    result = runtime.call(*words[verb], check=False)
    assert result.returncode != 0
    assert str(fifo) in result.stderr and "nothing was written to it" in result.stderr


def test_pid_file(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    """What is not a regular file is written to, and stays what it is."""
    reader, writer = os.pipe()

    def give() -> None:
        os.dup2(writer, 9, inheritable=True)

    runtime.create(bundle, "--pid-file", "/dev/fd/9", preexec_fn=give, close_fds=False)
    os.close(writer)
    assert os.read(reader, 99) == b"%d" % runtime.pid(bundle)
    assert os.read(reader, 99) == b"", "the container's process holds it"
    os.close(reader)
    runtime.start(bundle)
    fifo = scratch / "fifo"
    os.mkfifo(fifo)
    fd = os.open(fifo, os.O_RDWR)
    runtime.call("exec", "--detach", "--pid-file", fifo, bundle.id, "true")
    assert runtime.wait(int(os.read(fd, 99))) == 0 and fifo.is_fifo()
    os.close(fd)
    result = runtime.call("exec", "--pid-file", fifo, bundle.id, "true", check=False)
    assert result.returncode == 255 and "no process has opened it to read" in result.stderr


@pytest.mark.parametrize("place", ["/dev/fd/9", "/proc/self/fd/9", "/dev/stdout"])
@pytest.mark.parametrize("kind", ["pipe", "file", "socket"])
def test_log(runtime: Runtime, scratch: Path, place: str, kind: str) -> None:
    if kind == "pipe":
        reader, writer = os.pipe()
    elif kind == "file":
        writer, reader = (os.open(scratch / "log", flags | os.O_CREAT) for flags in (os.O_WRONLY, os.O_RDONLY))
    else:
        ends = socket.socketpair()
        reader, writer = (end.detach() for end in ends)
    number = 1 if place == "/dev/stdout" else 9

    def give() -> None:
        os.dup2(writer, number, inheritable=True)

    options = ["--log", place, "--log-format", "json"]
    result = runtime.call("state", "none", options=options, check=False, preexec_fn=give, close_fds=False)
    os.close(writer)
    assert result.returncode == 1
    assert json.loads(os.read(reader, 9999))["level"] == "error"
    os.close(reader)


def test_log_into_a_fifo(runtime: Runtime, scratch: Path) -> None:
    fifo, got = scratch / "fifo", scratch / "got"
    os.mkfifo(fifo)
    with got.open("wb") as file:
        reader = subprocess.Popen(["sh", "-c", f"sleep 0.2; exec cat {fifo}"], stdout=file)
        runtime.call("state", "none", options=["--log", fifo], check=False)
        reader.wait(seconds(10))
    assert "level=error" in got.read_text()


@pytest.mark.parametrize("kind", ["connection", "path"])
def test_console_socket(runtime: Runtime, bundle: Bundle, scratch: Path, kind: str) -> None:
    """A connection of the caller's, or a descriptor of a socket's file."""
    bundle.set("process.terminal", True).set("process.args", ["echo", "hello"])
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(scratch / "s"))
    listener.listen()
    if kind == "connection":
        mine, theirs = socket.socketpair()
        given = theirs.detach()
    else:
        given = os.open(scratch / "s", os.O_PATH)

    def give() -> None:
        os.dup2(given, 9, inheritable=True)

    runtime.run(bundle, "--detach", "--console-socket", "/dev/fd/9", preexec_fn=give, close_fds=False)
    os.close(given)
    if kind == "path":
        mine, _ = listener.accept()
    listener.close()
    _, [master], _, _ = socket.recv_fds(mine, 99, 1)
    mine.close()
    terminal = console.Terminal(master)
    terminal.expect("hello")
    terminal.close()


def test_a_console_socket_that_is_not_accepted(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    """With a full backlog, or of another kind."""
    bundle.set("process.terminal", True)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(scratch / "s"))
        listener.listen(0)
        first.connect(str(scratch / "s"))
        result = runtime.create(bundle, "--console-socket", scratch / "s", check=False)
        assert result.returncode == 1 and "resource temporarily unavailable" in result.stderr
    os.mkfifo(scratch / "fifo")
    result = runtime.create(bundle, "--console-socket", scratch / "fifo", check=False)
    assert result.returncode == 1 and "connection refused" in result.stderr
