"""Sockets that a service manager has opened (sd_listen_fds(3)): passed on to the container's process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import Runtime
from tests.support.timing import eventually, seconds

REPORT = 'echo "$LISTEN_FDS $LISTEN_PID $$"; ls /proc/$$/fd; for n in 3 4 5; do readlink /proc/$$/fd/$n; done; true'


def activated(
    runtime: Runtime, command: list[str], fds: list[int], count: int | None = None, pid: int | None = None
) -> int:
    """Call the runtime with ``fds`` from 3 on, as a service manager does; its exit status."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        moved = [os.dup2(os.dup(fd), 200 + index) for index, fd in enumerate(fds)]
        for index, fd in enumerate(moved):
            os.dup2(fd, 3 + index)
        os.closerange(3 + len(fds), 300)
        environment = {**os.environ, "LISTEN_FDS": str(len(fds) if count is None else count)}
        environment["LISTEN_PID"] = str(os.getpid() if pid is None else pid)
        for number in (1, 2):
            os.dup2(os.open(command[-1] + (".out" if number == 1 else ".err"), os.O_WRONLY | os.O_CREAT), number)
        os.closerange(3 + len(fds), 300)
        words = [*runtime.command, "--root", str(runtime.root), *command[:-1]]
        os.execve(words[0], words, environment)
    finally:
        os._exit(127)


def run(runtime: Runtime, bundle: Bundle, fds: list[int], *options: str, **how: int | None) -> tuple[int, list[str]]:
    runtime.created.append(bundle.id)
    output = str(bundle.path / "output")
    command = ["run", *options, "--bundle", str(bundle.path), bundle.id, output]
    status = activated(runtime, command, fds, **how)
    return status, (Path(output + ".out").read_text() + Path(output + ".err").read_text()).splitlines()


def test_run_passes_them_on(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("process.args", ["/bin/sh", "-c", REPORT])
    one, other = socket.socketpair()
    with one, other:
        status, lines = run(runtime, bundle, [one.fileno()])
    assert status == 0
    assert lines[0] == "1 1 1"
    assert lines[1:5] == ["0", "1", "2", "3"]
    assert lines[5].startswith("socket:")


def test_pid_other_than_1(runtime: Runtime, bundle: Bundle) -> None:
    """The pid is the process's own where it is not 1."""
    bundle.set("process.args", ["/bin/sh", "-c", REPORT]).drop_namespace("pid")
    bundle.config["mounts"] = [each for each in bundle.config["mounts"] if each["destination"] != "/proc"]
    bundle.write()
    one, other = socket.socketpair()
    with one, other:
        _, lines = run(runtime, bundle, [one.fileno()])
    count, pid, own = lines[0].split()
    assert (count, pid) == ("1", own)


def test_those_of_preserve_fds_come_after_them(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("process.args", ["/bin/sh", "-c", REPORT])
    one, other = socket.socketpair()
    fd = os.open("/dev/zero", os.O_RDONLY)
    with one, other:
        status, lines = run(runtime, bundle, [one.fileno(), other.fileno(), fd], "--preserve-fds", "1", count=2)
    os.close(fd)
    assert status == 0
    assert lines[0] == "2 1 1"
    assert [line.partition(":")[0] for line in lines[1:]] == [
        "0",
        "1",
        "2",
        "3",
        "4",
        "5",
        "socket",
        "socket",
        "/dev/zero",
    ]


def test_those_of_another_process_are_not(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("process.args", ["/bin/sh", "-c", REPORT])
    one, other = socket.socketpair()
    with one, other:
        _, lines = run(runtime, bundle, [one.fileno()], pid=1)
    assert lines[0] == "  1"
    assert lines[1:4] == ["0", "1", "2"]


def test_what_is_promised_must_be_there(runtime: Runtime, bundle: Bundle) -> None:
    one, other = socket.socketpair()
    with one, other:
        status, lines = run(runtime, bundle, [one.fileno()], count=2)
    assert status == 1
    assert "unable to stat preserved-fd 4 (of 2)" in lines[-1]
    assert runtime.status(bundle) == "none"


def test_between_create_and_start(runtime: Runtime, bundle: Bundle) -> None:
    """They survive the wait between create and start."""
    bundle.set("process.args", ["/bin/sh", "-c", "echo hello >&3"])
    one, other = socket.socketpair()
    runtime.created.append(bundle.id)
    command = ["create", "--bundle", str(bundle.path), bundle.id, str(bundle.path / "output")]
    with one, other:
        assert activated(runtime, command, [one.fileno()]) == 0
        one.close()
        runtime.start(bundle)
        other.settimeout(seconds(10))
        assert other.recv(100) == b"hello\n"


def test_hooks_do_not_get_them(runtime: Runtime, bundle: Bundle) -> None:
    seen = bundle.path / "seen"
    script = f'echo "fds: $LISTEN_FDS" >{seen}; test -e /proc/$$/fd/3 && echo leaked >>{seen}; exit 0'
    bundle.set("hooks", {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]})
    bundle.set("process.args", ["/bin/true"])
    one, other = socket.socketpair()
    with one, other:
        assert run(runtime, bundle, [one.fileno()])[0] == 0
    assert seen.read_text() == "fds: \n"


@needs("program:systemd-socket-activate")
def test_a_service_manager_s_socket_serves(runtime: Runtime, bundle: Bundle) -> None:
    """systemd-socket-activate(1) listens, and calls the runtime when a client connects."""
    bundle.set("process.args", ["/bin/sh", "-c", 'readlink /proc/self/fd/3; test "$LISTEN_FDS/$LISTEN_PID" = 1/$$'])
    path, output = bundle.path / "s.sock", bundle.path / "output"
    words = [*runtime.command, "--root", str(runtime.root), "run", "--bundle", str(bundle.path), bundle.id]
    runtime.created.append(bundle.id)
    with output.open("wb") as out:
        child = subprocess.Popen(["systemd-socket-activate", "-l", str(path), *words], stdout=out, stderr=out)
    client = socket.socket(socket.AF_UNIX)
    try:
        eventually(lambda: client.connect_ex(str(path)) == 0, what="a listener on the socket")
        assert child.wait(seconds(20)) == 0
    finally:
        client.close()
        if child.poll() is None:
            child.send_signal(signal.SIGKILL)
            child.wait()
    assert "socket:[" in output.read_text()
