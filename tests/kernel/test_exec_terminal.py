"""exec with a terminal: on the caller's own in the foreground, otherwise over the console socket."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.bundle import Bundle
from tests.support.console import ConsoleSocket, Terminal
from tests.support.runtime import Runtime
from tests.support.timing import seconds


@pytest.fixture
def running(runtime: Runtime, bundle: Bundle) -> Bundle:
    runtime.boot(bundle.set("process.args", ["/bin/sleep", "1000"]))
    return bundle


@contextmanager
def foreground(
    runtime: Runtime, bundle: Bundle, script: str
) -> Iterator[tuple[Terminal, int, subprocess.Popen[bytes]]]:
    """``exec --tty`` on a terminal of 30 by 100; its master, its slave, and the runtime."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    command = [*runtime.command, "--root", str(runtime.root), "exec", "--tty", bundle.id, "sh", "-c", script]
    child = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    try:
        yield Terminal(master), slave, child
    finally:
        child.kill()
        child.wait()
        os.close(slave)
        os.close(master)


def test_a_foreground_terminal_passes_everything_on(runtime: Runtime, running: Bundle) -> None:
    script = "tty; stty size; read line; echo got $line; exit 5"
    with foreground(runtime, running, script) as (terminal, slave, child):
        before = termios.tcgetattr(slave)
        terminal.expect("/dev/pts/0")
        terminal.expect("30 100")
        terminal.send("hello\n")
        terminal.expect("got hello")
        assert child.wait(seconds(10)) == 5
        assert termios.tcgetattr(slave) == before


def test_control_c_and_window_size(runtime: Runtime, running: Bundle) -> None:
    script = "trap 'stty size' WINCH; trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.05; done"
    with foreground(runtime, running, script) as (terminal, slave, child):
        terminal.expect("ready")
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 41, 132, 0, 0))
        child.send_signal(28)  # SIGWINCH, which the kernel sends to a foreground process group only
        terminal.expect("41 132")
        terminal.send("\x03")
        terminal.expect("caught")
        assert child.wait(seconds(10)) == 9


def test_much_output_arrives_whole(runtime: Runtime, running: Bundle) -> None:
    with foreground(runtime, running, "seq 20000; exit 3") as (terminal, _, child):
        text = terminal.expect("20000\r\n", 30)
        assert text.split() == [str(number) for number in range(1, 20001)]
        assert child.wait(seconds(10)) == 3


def test_the_console_socket_gets_the_terminal(runtime: Runtime, running: Bundle, console_socket: ConsoleSocket) -> None:
    file = running.path / "exec.pid"
    options: list[str | Path] = ["--tty", "--detach", "--console-socket", console_socket.path, "--pid-file", file]
    script = "tty; read x; stat -c %u $(tty); exit 3"
    runtime.call("exec", *options, "--user", "1000", running.id, "sh", "-c", script)
    terminal = console_socket.receive()
    terminal.expect("/dev/pts/0")
    terminal.send("x\n")
    terminal.expect("1000")
    assert processes.wait(int(file.read_text())) == 3
    terminal.close()


def test_console_stays_the_first_process_s(runtime: Runtime, bundle: Bundle, console_socket: ConsoleSocket) -> None:
    bundle.set("process.terminal", True).set("process.args", ["/bin/sh", "-c", "exec sleep 1000"])
    runtime.create(bundle, "--console-socket", console_socket.path)
    first = console_socket.receive()
    runtime.start(bundle)
    with foreground(runtime, bundle, "tty; ls -l /dev/console; echo to the console >/dev/console") as (
        terminal,
        _,
        child,
    ):
        assert "/dev/pts/1" in terminal.expect("/dev/pts/1")
        assert child.wait(seconds(10)) == 0
    first.expect("to the console")
    first.close()


def test_without_tty_there_is_no_terminal(runtime: Runtime, bundle: Bundle, console_socket: ConsoleSocket) -> None:
    """Neither the caller's, nor one because the container's first process has one."""
    bundle.set("process.terminal", True).set("process.args", ["/bin/sleep", "1000"])
    runtime.create(bundle, "--console-socket", console_socket.path)
    console_socket.receive()
    runtime.start(bundle)
    result = runtime.call("exec", bundle.id, "sh", "-c", "tty; cat </dev/tty", check=False)
    assert (result.returncode, result.stdout) == (1, "not a tty\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tty", "--detach"], "cannot allocate tty if gosudacon will detach without setting console socket"),
        (
            ["--detach", "--console-socket", "/s"],
            "cannot use console socket if gosudacon will not detach or allocate tty",
        ),
        (["--tty", "--console-socket", "/s"], "cannot use console socket if gosudacon will not detach or allocate tty"),
        (["--tty", "--detach", "--console-socket", "/no/such"], "connect /no/such: no such file or directory"),
    ],
)
def test_a_terminal_needs_a_receiver(runtime: Runtime, running: Bundle, options: list[str], message: str) -> None:
    result = runtime.call("exec", *options, running.id, "true", check=False)
    assert result.returncode == 255
    assert message in result.stderr


@pytest.mark.parametrize("fake", ["file", "link", "tmpfs"])
def test_a_devpts_that_the_image_makes_up(runtime: Runtime, bundle: Bundle, fake: str) -> None:
    bundle.set("process.args", ["/bin/sleep", "1000"])
    bundle.config["mounts"] = [each for each in bundle.config["mounts"] if not each["destination"].startswith("/dev")]
    bundle.write()
    (bundle.rootfs / "dev").mkdir(exist_ok=True)
    place = bundle.rootfs / "dev/pts"
    if fake == "file":
        place.touch()
    elif fake == "link":
        place.symlink_to("/tmp")
    else:
        place.mkdir()
        os.mkfifo(place / "ptmx")
    runtime.boot(bundle)
    with foreground(runtime, bundle, "echo hi") as (terminal, _, child):
        terminal.expect("exec failed: ")
        assert child.wait(seconds(10)) == 255
