"""containerd, through ctr and its shim, runs further processes in containers with the runtime under test."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.clients.conftest import USER_IMAGE, new_name
from tests.clients.daemon import Completed, Containerd
from tests.support import cgroups, processes
from tests.support.console import Terminal
from tests.support.timing import eventually, seconds

Detached = Callable[..., str]
SLEEP = "exec sleep 1000"


class Task:
    """A running task, and ``ctr tasks exec`` into it."""

    def __init__(self, ctr: Containerd, name: str) -> None:
        self.ctr = ctr
        self.name = name

    def arguments(self, command: str | list[str], *options: str) -> list[str | Path]:
        words = ["sh", "-c", command] if isinstance(command, str) else command
        chosen = ["--fifo-dir", str(self.ctr.base / "fifo"), "--exec-id", new_name(), *options]
        return ["tasks", "exec", *chosen, self.name, *words]

    def __call__(self, command: str | list[str], *options: str, check: bool = True, **kw: object) -> Completed:
        return self.ctr.ctr(*self.arguments(command, *options), check=check, **kw)  # type: ignore[arg-type]

    def pids(self) -> list[int]:
        """The host's numbers of all processes in it."""
        path = cgroups.directory("pids", f"/{self.ctr.namespace}/{self.name}") / "cgroup.procs"
        return [int(line) for line in path.read_text().split()]

    def status(self) -> str:
        lines = self.ctr.ctr("tasks", "list").stdout.splitlines()[1:]
        return next((line.split()[2] for line in lines if line.split()[0] == self.name), "none")

    def finish(self) -> None:
        self.ctr.ctr("tasks", "kill", "--signal", "KILL", self.name, check=False)
        eventually(lambda: self.status() == "STOPPED", 20, f"the end of {self.name}")
        self.ctr.ctr("tasks", "delete", self.name)
        self.ctr.ctr("containers", "delete", self.name)


@pytest.fixture
def task(ctr: Containerd, detached: Detached) -> Iterator[Task]:
    """A task that sleeps, gone after the test."""
    value = Task(ctr, detached(SLEEP))
    yield value
    value.finish()


def test_output_and_exit_status(task: Task) -> None:
    result = task("echo out; echo err >&2; exit 7", check=False)
    assert (result.returncode, result.stdout) == (7, "out\n")
    assert "err" in result.stderr.splitlines()


def test_standard_input(task: Task) -> None:
    assert task("read a; read b; echo $b $a", stdin=None, input="one\ntwo\n").stdout == "two one\n"


def test_16_mib_of_output_arrive_whole(task: Task) -> None:
    script = "dd if=/dev/urandom of=/big bs=1M count=16 2>&-; sha256sum </big >&2; cat /big"
    words = task.ctr.words(*task.arguments(script))
    result = subprocess.run(words, capture_output=True, timeout=seconds(60), check=True)
    assert len(result.stdout) == 16 << 20
    assert hashlib.sha256(result.stdout).hexdigest().encode() in result.stderr


def test_it_is_in_the_container(task: Task) -> None:
    shown = task("readlink /proc/1/ns/* >/a; readlink /proc/self/ns/* >/b; cmp /a /b && cat /proc/1/cgroup >/c && "
                 "cat /proc/self/cgroup >/d && cmp /c /d && hostname && grep -c . /d").stdout  # fmt: skip
    assert len(shown.split()) == 2


def test_user_and_working_directory(ctr: Containerd, detached: Detached) -> None:
    task = Task(ctr, detached(SLEEP, image=USER_IMAGE))
    try:
        assert task("id -u; pwd; echo $COLOUR").stdout.split() == ["1000", "/home/user", "blue"]
        assert task("id -u; pwd", "--cwd", "/tmp", "--user", "1").stdout.split()[1] == "/tmp"
    finally:
        task.finish()


def test_confined_as_the_container_is(ctr: Containerd, detached: Detached) -> None:
    task = Task(ctr, detached(SLEEP, "--seccomp", "--cap-drop", "CAP_CHOWN"))
    try:
        fields = "grep -E '^(Cap(Prm|Eff|Bnd|Amb|Inh)|Seccomp|NoNewPrivs):' /proc/%s/status"
        assert task(fields % "self").stdout == task(fields % "1").stdout
        assert task("unshare -m true", check=False).returncode != 0
    finally:
        task.finish()


def test_detached(task: Task) -> None:
    before = task.pids()
    task(["sleep", "1001"], "--detach")
    (pid,) = set(task.pids()) - set(before)
    shim = {each.pid for each in task.ctr.shims()}

    def parent() -> int:  # at first one that made it, whose end is not waited for
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])

    eventually(lambda: parent() in shim, 10, "its shim to be its parent")
    os.kill(pid, 9)
    eventually(lambda: not Path(f"/proc/{pid}").exists(), 10, "the shim to reap it")


def test_processes_end_with_the_container(ctr: Containerd, detached: Detached) -> None:
    task = Task(ctr, detached(SLEEP))
    for _ in range(3):
        task(["sleep", "1001"], "--detach")
    pids = task.pids()
    assert len(pids) == 4
    task.finish()
    assert not [pid for pid in pids if processes.alive(pid)]


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (["nosuch"], 'exec: "nosuch": executable file not found in $PATH'),
        (["/no/such"], "no such file or directory"),
        (["/etc/passwd"], "permission denied"),
        (["/etc"], "is a directory"),
    ],
    ids=["unknown", "missing", "not-executable", "directory"],
)
def test_what_cannot_be_executed(task: Task, command: list[str], text: str) -> None:
    result = task(command, check=False)
    assert result.returncode == 1
    assert text in result.stderr
    assert "exec failed" in result.stderr
    assert task.status() == "RUNNING"


@contextmanager
def terminal(task: Task, command: str) -> Iterator[tuple[subprocess.Popen[bytes], Terminal]]:
    """``ctr tasks exec -t`` on a new pseudo terminal: the client's process and the terminal."""
    master, slave = os.openpty()
    words = task.ctr.words(*task.arguments(command, "--tty"))
    client = subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    try:
        yield client, Terminal(master)
    finally:
        client.kill()
        client.wait()
        os.close(master)


def test_terminal(task: Task) -> None:
    with terminal(task, "tty; echo ready; read line; echo got $line; exit 4") as (client, screen):
        assert "/dev/pts/0" in screen.expect("ready", 30)
        screen.send("hello\n")
        screen.expect("got hello")
        assert client.wait(seconds(30)) == 4


def test_control_c_on_a_terminal(task: Task) -> None:
    loop = "trap 'echo caught; exit 3' INT; echo ready; while :; do sleep 0.1; done"
    with terminal(task, loop) as (client, screen):
        screen.expect("ready", 30)
        screen.send("\x03")
        screen.expect("caught")
        assert client.wait(seconds(30)) == 3


def test_10_at_a_time(task: Task) -> None:
    clients = []
    for number in range(10):
        words = task.ctr.words(*task.arguments(f"echo number {number}; exit {number}"))
        clients.append(subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True))
    results = []
    for client in clients:
        out, _ = client.communicate(timeout=seconds(60))
        results.append((client.returncode, out))
    assert results == [(number, f"number {number}\n") for number in range(10)]
