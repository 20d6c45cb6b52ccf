"""Containers of Docker's that go on: exec, signals, pausing, limits that change, health, and violence."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import ioctl
from pathlib import Path

import pytest

from tests.clients.dockerd import Dockerd
from tests.security import programs
from tests.support import cgroups, processes
from tests.support.console import Terminal
from tests.support.timing import eventually, seconds

SLEEP = "exec sleep 1000"
SIZE = "until stty size 2>/dev/null | grep .; do sleep 0.05; done"
"""The client tells the size of its terminal only after the start."""
OBEYS = "trap 'exit 5' TERM; touch /ready; while :; do sleep 0.05; done"


# exec.


def test_exec(docker: Dockerd) -> None:
    name = docker.detached(SLEEP, "--env", "COLOUR=blue", "--workdir", "/tmp")
    result = docker.docker("exec", name, "sh", "-c", "echo $COLOUR; pwd; echo err >&2; exit 7", check=False)
    assert (result.returncode, result.stdout, result.stderr) == (7, "blue\n/tmp\n", "err\n")
    options = ["--user", "user", "--env", "COLOUR=red", "--workdir", "/"]
    result = docker.docker("exec", *options, name, "sh", "-c", "id -un; echo $COLOUR; pwd; echo $HOME")
    assert result.stdout.split() == ["user", "red", "/", "/home/user"]
    assert docker.docker("exec", "--interactive", name, "cat", input="text\n").stdout == "text\n"
    assert docker.docker("exec", name, "sh", "-c", "kill -KILL $$", check=False).returncode == 137


def test_exec_is_as_confined_as_the_container(docker: Dockerd) -> None:
    name = docker.detached(SLEEP)
    kinds = "CapEff|CapBnd|Seccomp:|NoNewPrivs"
    script = f"grep -E '{kinds}' /proc/1/status; echo -; grep -E '{kinds}' /proc/self/status"
    first, mine = docker.docker("exec", name, "sh", "-c", script).stdout.split("-\n")
    assert first == mine
    assert "Seccomp:\t2" in mine
    assert "Operation not permitted" in docker.docker("exec", name, "unshare", "-U", "true", check=False).stderr
    result = docker.docker("exec", "--privileged", name, "unshare", "-U", "true", check=False)
    assert "Operation not permitted" in result.stderr  # more capabilities, the same filter
    path = docker.cgroup(name)
    docker.docker("exec", "--detach", name, "sleep", "1001")
    eventually(lambda: len(cgroups.read("pids", path, "cgroup.procs", "cgroup.procs").split()) == 2, 10, "its process")


@pytest.mark.parametrize(
    ("command", "statuses", "text"),
    [
        ("nosuch", (126, 127), 'exec: "nosuch": executable file not found in $PATH'),
        ("/no/such", (126, 127), 'exec: "/no/such": stat /no/such: no such file or directory'),
        ("/etc/passwd", (126,), 'exec: "/etc/passwd": permission denied'),
        ("/etc", (126,), 'exec: "/etc": '),
    ],
    ids=["unknown", "missing", "not-executable", "directory"],
)
def test_exec_of_a_bad_command(docker: Dockerd, command: str, statuses: tuple[int, ...], text: str) -> None:
    name = docker.detached(SLEEP)
    result = docker.docker("exec", name, command, check=False)
    assert result.returncode in statuses  # Docker before 23 gives 126 for all of them
    assert text in result.stdout + result.stderr
    assert docker.status(name) == "running"


# Terminals.


def _resize(terminal: Terminal, rows: int, columns: int) -> None:
    ioctl(terminal.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


@contextmanager
def on_terminal(docker: Dockerd, *arguments: str | Path) -> Iterator[tuple[subprocess.Popen[bytes], Terminal]]:
    """A client on a new pseudo terminal of 30 rows and 90 columns: its process and the terminal."""
    master, slave = os.openpty()
    terminal = Terminal(master)
    _resize(terminal, 30, 90)
    before = termios.tcgetattr(slave)
    client = subprocess.Popen(docker.words(*arguments), stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    try:
        yield client, terminal
        assert client.wait(seconds(30)) is not None
        assert termios.tcgetattr(slave)[tty.LFLAG] == before[tty.LFLAG]
    finally:
        client.kill()
        client.wait()
        os.close(slave)
        terminal.close()


def test_terminal(docker: Dockerd) -> None:
    script = f"tty; test -c /dev/console; echo $?; echo ready; read line; echo got $line; {SIZE}; read line; exit 4"
    with on_terminal(docker, *docker.run_arguments(script, "-it", "--rm")) as (client, screen):
        assert screen.expect("ready", 30).split() == ["/dev/pts/0", "0", "ready"]
        screen.send("hello\r")
        screen.expect("got hello")
        screen.expect("30 90")
        screen.send("\r")
        assert client.wait(seconds(30)) == 4


def test_terminal_of_another_size(docker: Dockerd) -> None:
    # The client passes the signal on, too; that may come before the size, which may change while it is looked at.
    end = 'size=$(stty size); echo $size; [ "$size" != "40 120" ] || exit 3'
    script = f"{SIZE}; trap '{end}' WINCH; echo ready; while :; do sleep 0.05; done"
    with on_terminal(docker, *docker.run_arguments(script, "-it", "--rm")) as (client, screen):
        screen.expect("30 90", 30)
        screen.expect("ready")
        _resize(screen, 40, 120)

        def told() -> bool:
            # Again and again: a client that is about to tell the first size does not yet heed the signal.
            client.send_signal(signal.SIGWINCH)
            with suppress(TimeoutError):
                screen.read(0.1)
            return b"40 120" in screen.seen

        eventually(told, 30, "the new size")
        assert client.wait(seconds(30)) == 3


def test_control_c_on_a_terminal(docker: Dockerd) -> None:
    loop = "trap 'echo caught; exit 3' INT; echo ready; while :; do sleep 0.05; done"
    with on_terminal(docker, *docker.run_arguments(loop, "-it", "--rm")) as (client, screen):
        screen.expect("ready", 30)
        screen.send("\x03")
        screen.expect("caught")
        assert client.wait(seconds(30)) == 3


def test_exec_on_a_terminal(docker: Dockerd) -> None:
    name = docker.detached(SLEEP)
    script = f"echo ready; read a; tty; {SIZE}; exit 6"
    with on_terminal(docker, "exec", "-it", name, "sh", "-c", script) as (client, screen):
        screen.expect("ready", 30)
        screen.send("\r")
        screen.expect("/dev/pts/0")
        screen.expect("30 90")
        assert client.wait(seconds(30)) == 6


def test_detach_and_attach(docker: Dockerd) -> None:
    name = docker.detached("read line; echo got $line; read line; echo got $line; exit 8", "-it")
    with on_terminal(docker, "attach", name) as (client, screen):
        eventually(lambda: not termios.tcgetattr(screen.master)[tty.LFLAG] & termios.ICANON, 20, "raw mode")
        screen.send("one\r")
        screen.expect("got one")
        screen.send("\x10\x11")
        screen.expect("read escape sequence")
        client.wait(seconds(30))
    assert docker.status(name) == "running"
    with on_terminal(docker, "attach", name) as (client, screen):
        eventually(lambda: not termios.tcgetattr(screen.master)[tty.LFLAG] & termios.ICANON, 20, "raw mode")
        screen.send("two\r")
        screen.expect("got two")
        assert client.wait(seconds(30)) == 8


# Signals and the end.


def test_stop(docker: Dockerd) -> None:
    name = docker.detached(OBEYS)
    docker.ready(name)
    docker.docker("stop", name)
    assert (docker.status(name), docker.inspect(name, ".State.ExitCode")) == ("exited", "5")
    assert not list(docker.states.glob("*"))
    docker.docker("start", name)
    assert docker.status(name) == "running"


def test_stop_of_one_that_does_not_listen(docker: Dockerd) -> None:
    name = docker.detached("sleep 1001 & exec sleep 1000")  # no handler, which is to ignore it for process 1
    first = docker.pid(name)
    docker.docker("stop", "--time", "1", name)
    assert docker.inspect(name, ".State.ExitCode") == "137"
    assert not processes.alive(first)


def test_stop_with_init(docker: Dockerd) -> None:
    name = docker.detached(SLEEP, "--init")
    eventually(lambda: "sleep" in docker.docker("top", name).stdout.split(), 10, "init's child")
    docker.docker("stop", name)
    assert docker.inspect(name, ".State.ExitCode") == "143"


def test_signals(docker: Dockerd) -> None:
    name = docker.detached(OBEYS.replace("TERM", "USR1"), "--stop-signal", "USR1")
    docker.ready(name)
    docker.docker("stop", name)
    assert docker.inspect(name, ".State.ExitCode") == "5"
    docker.docker("start", name)
    docker.docker("kill", name)
    assert docker.wait(name) == 137
    result = docker.docker("kill", name, check=False)
    assert result.returncode == 1
    assert "is not running" in result.stderr


def test_restart(docker: Dockerd) -> None:
    name = docker.detached(OBEYS)
    docker.ready(name)
    first = docker.pid(name)
    docker.docker("restart", name)
    assert docker.status(name) == "running"
    assert docker.pid(name) != first
    assert not processes.alive(first)


def test_restart_policy(docker: Dockerd) -> None:
    name = docker.detached("exit 3", "--restart", "on-failure:2")
    wanted = ["exited", "2", "3"]
    what = '.State.Status " " .RestartCount " " .State.ExitCode'
    eventually(lambda: docker.inspect(name, f"print {what}").replace('"', "").split() == wanted, 30, "two more tries")
    always = docker.detached(SLEEP, "--restart", "always")
    first = docker.pid(always)
    os.kill(first, signal.SIGKILL)
    eventually(lambda: docker.pid(always) not in (0, first), 30, "another first process")
    assert docker.status(always) == "running"


def test_init_killed_from_outside(docker: Dockerd) -> None:
    name = docker.detached("sleep 1001 & exec sleep 1000")
    os.kill(docker.pid(name), signal.SIGKILL)
    assert docker.wait(name) == 137


def test_the_name_of_a_container_is_taken(docker: Dockerd) -> None:
    name = docker.detached(SLEEP, "--name", "taken")
    result = docker.run("true", "--name", "taken", check=False)
    assert result.returncode == 125
    assert "is already in use" in result.stderr
    assert docker.status(name) == "running"


# Standing still.


def test_pause(docker: Dockerd) -> None:
    name = docker.detached("while :; do date +%s%N >/now; sleep 0.01; done")
    docker.ready(name, "now")
    now = Path(f"/proc/{docker.pid(name)}/root/now")
    docker.docker("pause", name)
    assert docker.status(name) == "paused"
    assert docker.docker("exec", name, "true", check=False).returncode == 1
    before = now.read_bytes()
    assert docker.docker("top", name).returncode == 0
    assert now.read_bytes() == before
    docker.docker("unpause", name)
    assert docker.status(name) == "running"
    eventually(lambda: now.read_bytes() != before, 10, "its going on")


def test_end_of_a_paused_container(docker: Dockerd) -> None:
    name = docker.detached("sleep 1001 & exec sleep 1000")
    first = docker.pid(name)
    docker.docker("pause", name)
    docker.remove(name)
    assert not processes.alive(first)


# Looking in.


def test_top(docker: Dockerd) -> None:
    name = docker.detached("sleep 1001 & exec sleep 1000")
    eventually(lambda: "sleep 1001" in docker.docker("top", name, "-eo", "pid,args").stdout, 10, "the second process")
    lines = docker.docker("top", name, "-eo", "pid,args").stdout.splitlines()
    assert lines[0].split() == ["PID", "COMMAND"]
    assert lines[1].split() == [str(docker.pid(name)), "sleep", "1000"]
    assert len(lines) == 3


def test_stats(docker: Dockerd) -> None:
    name = docker.detached("sleep 1001 & exec sleep 1000", "--memory", "64m")
    result = docker.docker("stats", "--no-stream", "--format", "{{json .}}", name)
    figures = json.loads(result.stdout)
    assert figures["PIDs"] == "2"
    used, limit = figures["MemUsage"].split(" / ")
    assert limit == "64MiB"
    assert used != "0B"


def test_update(docker: Dockerd) -> None:
    name = docker.detached(SLEEP, "--memory", "64m", "--memory-swap", "64m")
    path = docker.cgroup(name)
    limits = ["--memory", "48m", "--memory-swap", "48m", "--cpus", "0.25", "--pids-limit", "7", "--cpu-shares", "256"]
    docker.docker("update", *limits, "--cpuset-cpus", "0", name)
    assert cgroups.read("memory", path, "memory.limit_in_bytes", "memory.max") == str(48 << 20)
    assert cgroups.read("pids", path, "pids.max", "pids.max") == "7"
    assert cgroups.read("cpu", path, "cpu.cfs_quota_us", "cpu.max").split()[0] == "25000"
    assert cgroups.read("cpuset", path, "cpuset.cpus", "cpuset.cpus") == "0"
    docker.docker("update", "--memory", "128m", "--memory-swap", "256m", name)
    assert cgroups.read("memory", path, "memory.limit_in_bytes", "memory.max") == str(128 << 20)
    assert cgroups.read("pids", path, "pids.max", "pids.max") == "7"
    script = "for n in 1 2 3 4 5 6 7 8; do sleep 1 & done"
    assert "can't fork" in docker.docker("exec", name, "sh", "-c", script, check=False).stderr


def test_health_checks_show_nothing_of_the_host(docker: Dockerd, scratch: Path) -> None:
    """To a container that may trace the processes it sees (tests/security/test_birth.py)."""
    mark = scratch / "of-the-host"
    mark.touch()
    hunt = programs.build("hunt", scratch / "hunt")
    options = ["--cap-add", "SYS_PTRACE", "--volume", f"{hunt}:/hunt:ro"]
    options += ["--health-cmd", "true", "--health-interval", "100ms"]
    name = docker.detached(["/hunt", str(mark), "word-that-is-nowhere", "1"], *options)
    for _ in range(10):
        docker.docker("exec", name, "true")
    eventually(lambda: docker.inspect(name, ".State.Health.Status") == "healthy", 20, "its health")
    assert docker.docker("logs", name).stdout == "hunting\n"


def test_health(docker: Dockerd) -> None:
    options = ["--health-cmd", "test -e /well", "--health-interval", "100ms", "--health-retries", "2"]
    name = docker.detached(SLEEP, *options)

    def health() -> str:
        return docker.inspect(name, ".State.Health.Status")

    eventually(lambda: health() == "unhealthy", 20, "its illness")
    docker.docker("exec", name, "touch", "/well")
    eventually(lambda: health() == "healthy", 20, "its health")


# Many, and violence.


@pytest.mark.timeout(200)
def test_50_at_once(docker: Dockerd) -> None:
    clients = []
    for number in range(50):
        words = docker.words(*docker.run_arguments(f"echo number {number}; exec sleep 1000", "--detach"))
        clients.append(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    results = [(*client.communicate(timeout=seconds(150)), client.returncode) for client in clients]
    names = [out.strip() for out, _, _ in results]
    docker.detached_ones += [name for name in names if name]
    assert [(err, status) for _, err, status in results] == [("", 0)] * 50
    assert {path.name for path in docker.states.glob("*")} == set(names)
    firsts = [int(pid) for pid in docker.docker("inspect", "--format", "{{.State.Pid}}", *names).stdout.split()]
    assert all(processes.alive(pid) for pid in firsts)
    removers = [subprocess.Popen(docker.words("rm", "--force", *names[n::5]), stdout=-3) for n in range(5)]
    assert [remover.wait(seconds(150)) for remover in removers] == [0] * 5
    docker.detached_ones.clear()
    assert not any(processes.alive(pid) for pid in firsts)
    assert not list(docker.states.glob("*"))


def test_shim_killed(docker: Dockerd) -> None:
    name = docker.detached("sleep 1001 & exec sleep 1000")
    first = docker.pid(name)
    path = docker.cgroup(name)
    processes.kill(docker.shim(name))
    docker.remove(name)
    eventually(lambda: not processes.alive(first), 20, "the end of its processes")
    eventually(lambda: not list(docker.states.glob("*")), 20, "the runtime's deletion of the container")
    assert not cgroups.directory("pids", path).exists()
    # The socket of a killed shim stays; that is containerd's doing.
    for socket in Path("/run/containerd/s").iterdir():
        socket.unlink()


def test_shim_killed_while_paused(docker: Dockerd) -> None:
    name = docker.detached("sleep 1001 & exec sleep 1000")
    first = docker.pid(name)
    docker.docker("pause", name)
    processes.kill(docker.shim(name))
    eventually(lambda: not processes.alive(first), 20, "the end of its processes")
    docker.remove(name)
    for socket in Path("/run/containerd/s").iterdir():
        socket.unlink()
