"""A shim without containerd, under load and at bad moments: many processes, much data, an end in between, noise."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("google.protobuf", "6.30", reason="needs protobuf")

from tests.clients.daemon import own_shim
from tests.clients.test_shim_alone import RUNNING, Task, events, kind, program, refused, task
from tests.clients.ttrpc_client import (
    FAILED_PRECONDITION,
    NOT_FOUND,
    REQUEST,
    UNKNOWN,
    Client,
    Events,
    Failure,
    Lost,
    Shim,
    frame,
)
from tests.support import processes
from tests.support.bundle import Bundle
from tests.support.installation import Installation
from tests.support.needs import needs
from tests.support.timing import eventually, seconds

__all__ = ["events", "kind", "program", "task"]  # fixtures

pytestmark = needs("root", "busybox", "program:containerd-shim-runc-v2", "program:runc")


def test_much_data(task: Task, scratch: Path) -> None:
    """64 MiB in and out, as it was."""
    paths = {name: scratch / name for name in ("stdin", "stdout", "stderr")}
    for path in paths.values():
        os.mkfifo(path, 0o700)
    chunk = random.Random(1).randbytes(1 << 20)
    came = hashlib.sha256()

    def write() -> None:
        with paths["stdin"].open("wb") as file:
            for _ in range(64):
                file.write(chunk)
        with task.shim.client() as client:
            client.call("CloseIO", id=task.id, stdin=True)

    def read() -> None:
        with paths["stdout"].open("rb") as file:
            while data := file.read(1 << 16):
                came.update(data)

    others = [threading.Thread(target=each, daemon=True) for each in (write, read, paths["stderr"].read_bytes)]
    for thread in others:
        thread.start()
    task.run("exec cat", **{name: str(path) for name, path in paths.items()})
    for thread in others:
        thread.join(seconds(60))
    assert task.client.call("Wait", id=task.id).exit_status == 0
    assert came.digest() == hashlib.sha256(chunk * 64).digest()


@pytest.mark.parametrize("end", ["read", "killed"])
def test_a_fifo_that_nobody_reads(task: Task, scratch: Path, end: str) -> None:
    """It is full, and the process waits. Nobody else does, nor does the end; who reads in the end gets every byte.

    The reference waits for a reader before it creates the container.
    """
    if task.kind == "runc":
        return
    out = scratch / "stdout"
    os.mkfifo(out, 0o700)
    lines = "".join(f"line {number}\n" for number in range(18_000))
    task.run("i=0; while [ $i -lt 18000 ]; do echo line $i; i=$((i+1)); done", stdout=str(out))
    waiting = task.client.begin("Wait", id=task.id)
    assert not task.client.answered(waiting, 0.5)
    task.exec("one", "exit 7")
    task.client.call("Start", id=task.id, exec_id="one")
    assert task.client.call("Wait", id=task.id, exec_id="one").exit_status == 7
    if end == "read":
        with out.open("rb") as file:
            assert file.read().decode() == lines
    else:
        task.kill()
    assert task.client.finish(waiting).exit_status == (0 if end == "read" else 137)
    task.client.call("Delete", id=task.id)


def test_an_input_that_was_closed_before(task: Task, scratch: Path) -> None:
    """A process whose input is closed before its start finds it empty. The reference forgets that."""
    if task.kind == "runc":
        return
    task.run()
    os.mkfifo(scratch / "stdin", 0o700)
    writer = os.open(scratch / "stdin", os.O_RDWR)  # as containerd's client, which has it open before
    task.exec("one", "cat; exit 3", stdin=str(scratch / "stdin"))
    task.client.call("CloseIO", id=task.id, exec_id="one", stdin=True)
    os.close(writer)
    task.client.call("Start", id=task.id, exec_id="one")
    assert task.client.call("Wait", id=task.id, exec_id="one").exit_status == 3


def test_an_input_that_nobody_takes_any_more(task: Task, scratch: Path) -> None:
    """Who writes to a container that has ended is told so, and does not wait."""
    if task.kind == "runc":  # wants all three streams
        return
    stdin = scratch / "stdin"
    os.mkfifo(stdin, 0o700)
    opened = os.open(stdin, os.O_RDWR)
    task.run("read line; exit 5", stdin=str(stdin))
    writer = os.open(stdin, os.O_WRONLY | os.O_NONBLOCK)
    os.close(opened)
    os.write(writer, b"word\n")
    assert task.client.call("Wait", id=task.id).exit_status == 5
    task.client.call("Delete", id=task.id)

    def is_refused() -> bool:
        try:
            os.write(writer, b"x")
        except BrokenPipeError:
            return True
        return False

    eventually(is_refused, what="an error")
    os.close(writer)


def test_a_hundred_processes_at_once(task: Task) -> None:
    """Each has its own pid, and its own exit status. The reference takes minutes for so many."""
    task.run()
    count = 10 if task.kind == "runc" else 100
    names = [f"e{number}" for number in range(count)]
    for number, name in enumerate(names):
        task.exec(name, f"exit {number}")
    starts = [task.client.begin("Start", id=task.id, exec_id=name) for name in names]
    waits = [task.client.begin("Wait", id=task.id, exec_id=name) for name in names]
    assert len({task.client.finish(stream).pid for stream in starts}) == count
    assert [task.client.finish(stream).exit_status for stream in waits] == list(range(count))
    for number, name in enumerate(names):
        assert task.client.call("Delete", id=task.id, exec_id=name).exit_status == number


@pytest.mark.parametrize("tenths", [2, 4])
def test_processes_that_start_as_the_container_ends(task: Task, tenths: int) -> None:
    """Of each that was started an exit is told, once and before the container's."""
    task.run(f"sleep 0.{tenths}")
    streams = {}
    for number in range(20):
        try:
            task.exec(f"e{number}", "exec sleep 1000")
        except Failure:
            break
        streams[f"e{number}"] = task.client.begin("Start", id=task.id, exec_id=f"e{number}")
    started = set()
    for name, stream in streams.items():
        try:
            task.client.finish(stream)
            started.add(name)
        except Failure:
            continue
    assert task.client.call("Wait", id=task.id).exit_status == 0
    for name in started:
        task.client.call("Wait", id=task.id, exec_id=name)

    def exits() -> list[str]:
        return [event.id for topic, event in task.events.seen if topic == "/tasks/exit"]

    eventually(lambda: task.id in exits(), 20, "the container's exit")
    assert exits()[-1] == task.id
    assert started <= set(exits())
    assert len(exits()) == len(set(exits()))


def test_a_hook_that_hangs(task: Task) -> None:
    """Others are answered meanwhile; what containerd does when it gives up ends all of it.

    The reference holds a lock meanwhile, and answers nobody.
    """
    if task.kind == "runc":
        return
    task.bundle.set("hooks", {"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "1000"]}]})
    with task.shim.client() as other:
        creating = other.begin("Create", id=task.id, bundle=str(task.bundle.path), options=task.options)
        assert not other.answered(creating, 1)
        assert task.client.call("Connect", id=task.id).shim_pid > 0
        refused(NOT_FOUND, lambda: task.client.call("State", id=task.id))
        refused(NOT_FOUND, lambda: task.client.call("Delete", id=task.id))
        task.client.call("Shutdown", id=task.id)
        with pytest.raises((Failure, Lost)):
            other.finish(creating)


@pytest.mark.parametrize("hook", ["createRuntime", "createContainer", "startContainer", "poststart"])
@pytest.mark.parametrize("shim", ["lives", "killed"])
def test_cleaning_up_while_a_hook_hangs(task: Task, hook: str, shim: str) -> None:
    """containerd gives the action ``delete`` five seconds; then the hook is gone, with all that it has started."""
    if task.kind == "runc":
        return
    mark = f"HOOK_OF={task.id}"
    script = ["sh", "-c", "sleep 1000 & wait"]
    task.bundle.set("hooks", {hook: [{"path": "/bin/sh", "args": script, "env": [mark, "PATH=/bin:/usr/bin"]}]})
    with task.shim.client() as other:
        fields = {"bundle": str(task.bundle.path), "options": task.options}
        request = other.begin("Create", id=task.id, **fields)
        if hook in ("startContainer", "poststart"):
            other.finish(request)
            request = other.begin("Start", id=task.id)
        eventually(lambda: len(marked(mark)) == 2, what="the hook")
        if shim == "killed":
            os.kill(task.client.call("Connect", id=task.id).shim_pid, signal.SIGKILL)
        begun = time.monotonic()
        task.shim.delete()
        assert time.monotonic() - begun < seconds(4)
        with pytest.raises((Failure, Lost)):
            other.finish(request)
    eventually(lambda: not marked(mark), what="the end of the hook and its child")
    if shim == "killed":
        assert not Path(task.shim.address.removeprefix("unix://")).exists()


def marked(variable: str) -> list[str]:
    """The processes with this in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if variable.encode() in path.read_bytes().split(b"\0"):
                found.append(path.parent.name)
        except OSError:
            continue
    return found


@pytest.fixture
def small(scratch: Path) -> Iterator[Path]:
    """A file system of 256 KiB, with 16 of them free; what takes the room is the file ``filler``."""
    path = scratch / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=755", "small", path], check=True)
    (path / "filler").write_bytes(bytes(240 << 10))
    yield path
    subprocess.run(["umount", path], check=True)


def test_no_room_for_a_log(task: Task, small: Path) -> None:
    """The container waits, as for a reader, and no byte is lost once there is room.

    The reference loses the rest.
    """
    if task.kind == "runc":
        return
    log = small / "log"
    lines = "".join(f"line {number}\n" for number in range(18_000))
    script = "i=0; while [ $i -lt 18000 ]; do echo line $i; i=$((i+1)); done"
    task.run(script, stdout=f"file://{log}", stderr=f"file://{log}")
    waiting = task.client.begin("Wait", id=task.id)
    eventually(lambda: log.exists() and log.stat().st_size > 8 << 10, what="a full log")
    assert not task.client.answered(waiting, 0.5)
    assert task.state() == RUNNING
    (small / "filler").unlink()
    assert task.client.finish(waiting).exit_status == 0
    eventually(lambda: log.stat().st_size == len(lines), what="the whole log")
    assert log.read_text() == lines


def test_no_room_for_the_state(task: Task, scratch: Path, small: Path) -> None:
    """A creation fails and says why; with room there is one."""
    if task.kind == "runc":
        return
    with (small / "filler").open("ab") as file, pytest.raises(OSError):
        while True:
            os.write(file.fileno(), bytes(4096))
    (scratch / "states").symlink_to(small)
    with pytest.raises(Failure, match=r"[Nn]o space left"):
        task.create()
    refused(NOT_FOUND, lambda: task.client.call("State", id=task.id))
    left = sorted(path.name for path in small.rglob("*") if not path.is_dir())
    assert left == ["filler"]
    (small / "filler").unlink()
    task.run()
    assert task.state() == RUNNING
    task.kill()
    task.client.call("Wait", id=task.id)
    task.client.call("Delete", id=task.id)


def test_upgraded_meanwhile(
    shims: None, make_bundle: Callable[..., Bundle], scratch: Path, token: str, events: Events
) -> None:
    """A shim outlives its build: what runs is entered and deleted as before, and what is new has the new one."""
    installation = Installation(scratch)
    tasks = []
    for number in range(2):
        if number:
            with (installation.package / "shim/loop.py").open("a") as file:
                file.write("OTHER = True\n")
        installation.install()
        bundle = make_bundle()
        shim = Shim(own_shim([str(installation.command)]), bundle.path, bundle.id, token, events)
        tasks.append(Task("own", shim, bundle, None, events))
        tasks[-1].begin(None)
        tasks[-1].run()
    served = [task.client.call("Connect", id=task.id).shim_pid for task in tasks]
    templates = [processes.parent(pid) for pid in served]
    assert len({Path(f"/proc/{pid}/cmdline").read_bytes() for pid in templates}) == 2
    for each in tasks:
        each.exec("one", "exit 7")
        each.client.call("Start", id=each.id, exec_id="one")
        assert each.client.call("Wait", id=each.id, exec_id="one").exit_status == 7
        each.client.call("Pause", id=each.id)
        each.client.call("Resume", id=each.id)
        each.end()
    for pid in templates:
        os.kill(pid, signal.SIGKILL)


def test_long_annotations(task: Task) -> None:
    """As many as Kubernetes allows, 256 KiB."""
    task.bundle.set("annotations", {"long": "x" * (1 << 18)})
    task.run()
    assert task.state() == RUNNING


def test_cut_off_by_the_end(task: Task, scratch: Path) -> None:
    """A process whose start waits when init ends fails with what happened."""
    if task.kind == "runc":
        return
    task.run()
    logger = scratch / "logger"  # which is waited for, as it does not say that it is ready
    logger.write_text("#!/bin/sh\nexec sleep 1000\n")
    logger.chmod(0o755)
    task.exec("one", "true", stdout=f"binary://{logger}")
    start = task.client.begin("Start", id=task.id, exec_id="one")
    waiting = task.client.begin("Wait", id=task.id, exec_id="one")
    assert not task.client.answered(start, 0.5)
    task.kill()
    with pytest.raises(Failure, match="stopped container"):
        task.client.finish(start)
    assert task.client.finish(waiting).exit_status == 255
    eventually(lambda: not marked(f"CONTAINER_ID={task.id}"), what="the logger's end")


@pytest.mark.parametrize("why", ["gone", "program", "stream", "deleted"])
def test_waiting_for_what_never_starts(task: Task, scratch: Path, why: str) -> None:
    """Is answered when that is clear."""
    if task.kind == "runc" and why != "program":
        return
    task.run()
    stdout = str(scratch / "none" / "out") if why == "stream" else ""
    task.exec("one", "true", stdout=stdout, program="/no/such/program" if why == "program" else "/bin/sh")
    waiting = task.client.begin("Wait", id=task.id, exec_id="one")
    if why == "gone":
        task.kill()
        task.client.call("Wait", id=task.id)
        assert not task.client.answered(waiting)
    if why == "deleted":
        task.client.call("Delete", id=task.id, exec_id="one")
    else:
        with pytest.raises(Failure) as info:
            task.client.call("Start", id=task.id, exec_id="one")
        assert info.value.code == (FAILED_PRECONDITION if why == "gone" else UNKNOWN)
    answer = task.client.finish(waiting)
    assert task.kind == "runc" or answer.exit_status == 255


def test_many_clients_in_a_moment(task: Task) -> None:
    """None is turned away while the shim does something else."""
    if task.kind == "runc":
        return
    task.run()
    shim = task.client.call("Connect", id=task.id).shim_pid
    os.kill(shim, signal.SIGSTOP)
    clients = []
    try:
        for _ in range(400):
            client = socket.socket(socket.AF_UNIX)
            clients.append(client)
            client.setblocking(False)
            client.connect(task.shim.address.removeprefix("unix://"))
    finally:
        os.kill(shim, signal.SIGCONT)
        for client in clients:
            client.close()
    assert task.state() == RUNNING


@pytest.mark.skipif(not Path("/sys/fs/cgroup/pids").is_dir(), reason="needs cgroup v1")
def test_statistics_of_one_that_was_moved(task: Task) -> None:
    """Are refused: in its cgroup it is no more."""
    if task.kind == "runc":
        return
    pid = task.run()
    line = next(line for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if ":pids:" in line)
    home = Path(f"/sys/fs/cgroup/pids{line.split(':')[2]}")
    other = Path(f"/sys/fs/cgroup/pids/{task.id}-other")
    other.mkdir()
    try:
        (other / "cgroup.procs").write_text(str(pid))
        assert "moved" in refused(FAILED_PRECONDITION, lambda: task.client.call("Stats", id=task.id))
        (home / "cgroup.procs").write_text(str(pid))
        assert task.client.call("Stats", id=task.id).stats.value
    finally:
        task.kill()
        task.client.call("Wait", id=task.id)
        eventually(lambda: not (other / "cgroup.procs").read_text(), what="the end")
        other.rmdir()


def test_noise(task: Task) -> None:
    """Clients that send anything and leave: nothing of them stays, and the container does not notice."""
    pid = task.run()
    shim = task.client.call("Connect", id=task.id).shim_pid
    before = len(os.listdir(f"/proc/{shim}/fd"))
    generator = random.Random(1)
    for _ in range(100):
        with task.shim.client() as client:
            try:
                for number in range(generator.randrange(6)):
                    noise(generator, client, 2 * number + 1)
            except Lost:
                continue
    assert task.client.call("Connect", id=task.id).task_pid == pid
    assert task.state() == RUNNING
    if task.kind != "runc":  # which keeps some of them
        eventually(lambda: len(os.listdir(f"/proc/{shim}/fd")) <= before + 4, what="their descriptors are closed")


def noise(generator: random.Random, client: Client, stream: int) -> None:
    """Bytes, a frame, or a request with any payload."""
    methods = ("State", "Create", "Exec", "Update", "Kill", "ResizePty", "CloseIO", "Stats", "Wait", "Checkpoint")
    what = generator.randrange(3)
    if what == 0:
        client.send(generator.randbytes(generator.randrange(200)))
    elif what == 1:
        kind = generator.choice((REQUEST, generator.randrange(256)))
        client.send(frame(stream, kind, generator.randbytes(generator.randrange(60))))
    else:
        client.begin_raw(generator.choice(methods), generator.randbytes(generator.randrange(40)))
