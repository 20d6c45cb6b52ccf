"""run and exec in the foreground of real terminals: which one, raw mode, job control, the ends of input and output."""

from __future__ import annotations

import fcntl
import os
import shlex
import signal
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.bundle import Bundle
from tests.support.console import Terminal
from tests.support.needs import needs
from tests.support.runtime import Runtime
from tests.support.timing import eventually, seconds

Words = Callable[[str], list[str]]
FAILURE = {"run": 1, "exec": 255}


@pytest.fixture(params=["run", "exec"])
def verb(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def words(verb: str, runtime: Runtime, bundle: Bundle) -> Words:
    """The command line that runs a script on a terminal in a container, by ``run`` or by ``exec``."""
    start = [*runtime.command, "--root", str(runtime.root)]
    if verb == "exec":
        runtime.boot(bundle.set("process.args", ["/bin/sleep", "1000"]))
        return lambda script: [*start, "exec", "--tty", bundle.id, "sh", "-c", script]

    def run(script: str) -> list[str]:
        runtime.created.append(bundle.id)
        bundle.set("process.terminal", True).set("process.args", ["/bin/sh", "-c", script])
        return [*start, "run", "--bundle", str(bundle.path), bundle.id]

    return run


class Pty:
    """A terminal of 30 by 100 and what runs on it."""

    def __init__(self) -> None:
        master, self.slave = os.openpty()
        self.resize(30, 100)
        self.terminal = Terminal(master)
        self.children: list[subprocess.Popen[bytes]] = []

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def raw(self) -> bool:
        return not termios.tcgetattr(self.slave)[3] & termios.ICANON

    def start(self, words: list[str], **streams: int) -> subprocess.Popen[bytes]:
        given = {name: streams.get(name, self.slave) for name in ("stdin", "stdout", "stderr")}
        child = subprocess.Popen(words, start_new_session=True, **given)  # type: ignore[call-overload]
        self.children.append(child)
        return child  # type: ignore[no-any-return]


@pytest.fixture
def pty() -> Iterator[Pty]:
    pty = Pty()
    yield pty
    for child in pty.children:
        child.kill()
        child.wait()
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                stream.close()
    os.close(pty.slave)
    pty.terminal.close()


def test_raw_mode_ends_by_signal(words: Words, pty: Pty) -> None:
    """Raw mode ends when a signal to the runtime ends the process."""
    before = termios.tcgetattr(pty.slave)
    child = pty.start(words("trap 'exit 8' TERM; echo ready; while :; do sleep 0.05; done"))
    pty.terminal.expect("ready")
    assert pty.raw()
    child.terminate()
    assert child.wait(seconds(10)) == 8
    assert termios.tcgetattr(pty.slave) == before


def test_raw_mode_ends_when_the_process_is_killed(words: Words, pty: Pty) -> None:
    before = termios.tcgetattr(pty.slave)
    child = pty.start(words("echo ready; while :; do sleep 0.05; done"))
    pty.terminal.expect("ready")
    eventually(pty.raw)
    os.kill(container_s(child.pid), signal.SIGKILL)
    assert child.wait(seconds(10)) == 137
    assert termios.tcgetattr(pty.slave) == before


def container_s(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def test_terminal_after_failed_exec(verb: str, words: Words, pty: Pty) -> None:
    """What cannot be executed leaves the terminal as it was."""
    before = termios.tcgetattr(pty.slave)
    command = words("")
    if verb == "run":
        config = Path(command[command.index("--bundle") + 1]) / "config.json"
        config.write_text(config.read_text().replace('"/bin/sh"', '"/no/such"'))
    else:
        command[command.index("sh")] = "/no/such"
    assert pty.start(command).wait(seconds(10)) == FAILURE[verb]
    assert termios.tcgetattr(pty.slave) == before


def test_control_characters(words: Words, pty: Pty) -> None:
    """Control-Z and its like mean what the container makes of them."""
    child = pty.start(words("trap 'echo suspended; exit 6' TSTP; echo ready; while :; do sleep 0.05; done"))
    pty.terminal.expect("ready")
    pty.terminal.send("\x1a")
    pty.terminal.expect("suspended")
    assert child.wait(seconds(10)) == 6


def test_the_terminal_of_any_stream_will_do(words: Words, pty: Pty) -> None:
    """Its size and raw mode; input is standard input all the same."""
    child = pty.start(words("stty size; read line; echo got $line; read again; echo never"), stdin=subprocess.PIPE)
    assert child.stdin is not None
    pty.terminal.expect("30 100")
    assert pty.raw()
    child.stdin.write(b"hello\n")
    child.stdin.close()
    pty.terminal.expect("got hello")
    pty.resize(41, 132)
    child.send_signal(signal.SIGWINCH)
    assert child.poll() is None  # the end of the input is not the container's: it waits, as with runc
    os.kill(container_s(child.pid), signal.SIGKILL)
    assert child.wait(seconds(10)) == 137
    assert not pty.raw()


def test_no_input_at_all(words: Words, pty: Pty) -> None:
    child = pty.start(words("echo ready; read line; echo never"), stdin=subprocess.DEVNULL)
    pty.terminal.expect("ready")
    os.kill(container_s(child.pid), signal.SIGKILL)
    assert child.wait(seconds(10)) == 137


def test_output_into_a_pipe(words: Words, pty: Pty) -> None:
    script = "stty size; stty -echo; seq 20000; read line; echo got $line"  # an echo would come between the numbers
    child = pty.start(words(script), stdout=subprocess.PIPE)
    assert child.stdout is not None
    pty.terminal.send("x\r")
    lines = child.stdout.read().split(b"\n")
    assert child.wait(seconds(10)) == 0
    numbers = [line for line in lines[1:] if line.isdigit()]
    assert (b"30 100" in lines[0] or b"30 100" in lines[1]) and b"got x" in lines
    assert numbers == [b"%d" % number for number in range(1, 20001)]


@needs("program:runc")
@pytest.mark.parametrize("piped", [True, False], ids=["pipe", "terminal"])
def test_line_ends_as_with_runc(
    verb: str, words: Words, runtime: Runtime, runc: Runtime, bundle: Bundle, pty: Pty, piped: bool
) -> None:
    """Into a pipe goes what was written; on the caller's terminal each line begins at the left all the same."""
    script = "printf 'one\\ntwo\\n'; stty -a 2>/dev/null | tr ' ;' '\\n' | grep -E '^-?(onlcr|opost)'"
    commands = [words(script)]
    if verb == "exec":
        runc.boot(bundle)
    else:
        runc.created.append(bundle.id)
    # runc does it while the process runs already.
    later = f"for i in $(seq 100); do stty -a 2>/dev/null | grep -q -e -onlcr && break; sleep 0.05; done; {script}"
    commands.append(["runc", "--root", str(runc.root), *words(later)[len(runtime.command) + 2 :]])
    results = []
    for command, run in zip(commands, (script, later), strict=True):
        words(run)
        child = pty.start(command, **({"stdout": subprocess.PIPE} if piped else {}))
        if piped:
            assert child.stdout is not None
            results.append(child.stdout.read())
        else:
            results.append(pty.terminal.expect("onlcr").encode() + b"\r\n")
            pty.terminal.expect("\r\n")
        assert child.wait(seconds(10)) == 0
    assert results[0] == results[1]
    end = b"\n" if piped else b"\r\n"
    assert results[0].split(end) == [b"one", b"two", b"opost", b"-onlcr", b""]


def test_raw_mode_processes_output(words: Words, pty: Pty) -> None:
    """The caller's terminal, which other programs write to meanwhile, begins each line at the left."""
    child = pty.start(words("echo ready; read line"))
    pty.terminal.expect("ready")
    assert pty.raw()
    assert termios.tcgetattr(pty.slave)[1] & (termios.OPOST | termios.ONLCR) == termios.OPOST | termios.ONLCR
    pty.terminal.send("\r")
    assert child.wait(seconds(10)) == 0


def test_output_that_is_no_longer_read(words: Words, pty: Pty) -> None:
    """The process is told by SIGPIPE. If it goes on, it is not stopped by what it writes, however much that is."""
    child = pty.start(words("trap '' PIPE; echo ready; seq 100000; exit 5"), stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.read(5) == b"ready"
    child.stdout.close()
    assert child.wait(seconds(20)) == 5


def test_without_any_terminal_nothing_is_started(verb: str, words: Words, runtime: Runtime, bundle: Bundle) -> None:
    result = subprocess.run(
        words("touch /ran"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        start_new_session=True,
        timeout=seconds(20),
        check=False,
    )
    assert result.returncode == FAILURE[verb]
    assert b"open /dev/tty: no such device or address" in result.stderr
    assert not (bundle.rootfs / "ran").exists()
    assert runtime.status(bundle) == ("none" if verb == "run" else "running")


@needs("program:bash")
def test_job_control_of_a_shell(words: Words, pty: Pty) -> None:
    """In the background the runtime is stopped when it needs the terminal; fg gives it that, in raw mode."""
    command = shlex.join(words("echo re''ady; read line; echo got $line; exit 3"))

    def own_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    shell = subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"],
        stdin=pty.slave,
        stdout=pty.slave,
        stderr=pty.slave,
        start_new_session=True,
        preexec_fn=own_terminal,
        env={**os.environ, "PS1": "shell> ", "TERM": "dumb", "INPUTRC": "/dev/null"},
    )
    pty.children.append(shell)
    terminal = pty.terminal
    terminal.expect("shell> ")
    terminal.send(f"{command} & wait -n 2>/dev/null; jobs; echo background''ed\n")
    terminal.expect("Stopped")
    terminal.expect("backgrounded")
    terminal.send("fg\n")
    terminal.expect("ready")
    eventually(pty.raw)
    job = next(pid for pid in children(shell.pid))
    os.kill(job, signal.SIGSTOP)
    terminal.expect("Stopped")
    terminal.expect("shell> ")
    terminal.send("stty icanon echo isig; echo ba''ck\n")
    terminal.expect("back\r\n")
    terminal.send("fg\n")
    eventually(lambda: foreground_is(job, pty) and pty.raw(), what="raw mode again")
    terminal.send("hello\r")
    terminal.expect("got hello")
    terminal.expect("shell> ")
    terminal.send("echo status $?\n")
    terminal.expect("status 3")
    terminal.send("exit\n")
    assert shell.wait(seconds(10)) == 0


def foreground_is(pid: int, pty: Pty) -> bool:
    return bytes(fcntl.ioctl(pty.terminal.master, termios.TIOCGPGRP, bytes(4))) == os.getpgid(pid).to_bytes(4, "little")


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
