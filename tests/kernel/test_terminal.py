"""The terminal of a container: in the foreground on the caller's, otherwise over the console socket."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import termios

import pytest

from tests.support.bundle import Bundle
from tests.support.console import ConsoleSocket, Terminal
from tests.support.runtime import Runtime


@pytest.fixture
def on_terminal(bundle: Bundle) -> Bundle:
    return bundle.set("process.terminal", True)


def foreground(runtime: Runtime, bundle: Bundle) -> tuple[Terminal, int, subprocess.Popen[bytes]]:
    """Start ``run`` with a terminal of 30 by 100 as its own; the terminal's master, its slave, and the process."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    runtime.created.append(bundle.id)
    command = [*runtime.command, "--root", str(runtime.root), "run", "--bundle", str(bundle.path), bundle.id]
    child = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    return Terminal(master), slave, child


def test_a_foreground_terminal_passes_everything_on(runtime: Runtime, on_terminal: Bundle) -> None:
    on_terminal.set("process.args", ["/bin/sh", "-c", "tty; stty size; read line; echo got $line; exit 5"])
    terminal, slave, child = foreground(runtime, on_terminal)
    before = termios.tcgetattr(slave)
    terminal.expect("30 100")
    terminal.send("hello\n")
    terminal.expect("got hello")
    assert child.wait(10) == 5
    assert termios.tcgetattr(slave) == before
    os.close(slave)
    terminal.close()


def test_control_c_reaches_the_container_s_process(runtime: Runtime, on_terminal: Bundle) -> None:
    on_terminal.set(
        "process.args", ["/bin/sh", "-c", "trap 'echo interrupted; exit 9' INT; echo ready; sleep 30 & wait"]
    )
    terminal, slave, child = foreground(runtime, on_terminal)
    terminal.expect("ready")
    terminal.send("\x03")
    terminal.expect("interrupted")
    assert child.wait(10) == 9
    os.close(slave)
    terminal.close()


def test_a_new_window_size_is_passed_on(runtime: Runtime, on_terminal: Bundle) -> None:
    on_terminal.set("process.args", ["/bin/sh", "-c", "trap 'stty size; exit 0' WINCH; echo ready; sleep 30 & wait"])
    terminal, slave, child = foreground(runtime, on_terminal)
    terminal.expect("ready")
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 41, 132, 0, 0))
    child.send_signal(28)  # SIGWINCH, which the kernel sends to a foreground process group only
    terminal.expect("41 132")
    assert child.wait(10) == 0
    os.close(slave)
    terminal.close()


def test_the_console_socket_gets_the_terminal(
    runtime: Runtime, on_terminal: Bundle, console_socket: ConsoleSocket
) -> None:
    on_terminal.set("process.args", ["/bin/sh", "-c", "stty size; test -c /dev/console && echo console; exit 3"])
    on_terminal.set("process.consoleSize", {"height": 25, "width": 90})
    runtime.create(on_terminal, "--console-socket", console_socket.path)
    terminal = console_socket.receive()
    pid = runtime.pid(on_terminal)
    runtime.start(on_terminal)
    terminal.expect("25 90")
    terminal.expect("console")
    assert runtime.wait(pid) == 3
    terminal.close()


def test_a_terminal_needs_a_receiver(runtime: Runtime, on_terminal: Bundle) -> None:
    assert runtime.create(on_terminal, check=False).returncode == 1
    assert "cannot allocate tty if" in on_terminal.stderr


def test_a_console_socket_needs_a_terminal(runtime: Runtime, bundle: Bundle, console_socket: ConsoleSocket) -> None:
    result = runtime.create(bundle, "--console-socket", console_socket.path, check=False)
    assert result.returncode == 1
    assert "cannot use console socket if" in bundle.stderr


def test_a_console_socket_that_is_not_there(runtime: Runtime, on_terminal: Bundle) -> None:
    result = runtime.create(on_terminal, "--console-socket", "/no/such/socket", check=False)
    assert result.returncode == 1
    assert "connect /no/such/socket: no such file or directory" in on_terminal.stderr
    assert runtime.status(on_terminal) == "none"


def test_callers_terminal_is_out_of_reach(runtime: Runtime, bundle: Bundle) -> None:
    """No controlling terminal, so no TIOCSTI into the caller's (CVE-2017-5226)."""
    bundle.set("process.args", ["/bin/sh", "-c", "cat </dev/tty; echo status $?"])
    terminal, slave, child = foreground(runtime, bundle)
    assert "status 1" in terminal.expect("status 1")
    assert child.wait(10) == 0
    os.close(slave)
    terminal.close()
