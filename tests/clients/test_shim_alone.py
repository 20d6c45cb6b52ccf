"""A shim without containerd: the task service as its clients call it, and clients that do not behave.

containerd's shim for runc is the reference, and passes the same tests.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("google.protobuf", "6.30", reason="needs protobuf")

from tests.clients.daemon import Template, own_shim
from tests.clients.ttrpc_client import (
    ALREADY_EXISTS,
    DATA,
    INVALID_ARGUMENT,
    LARGEST,
    NOT_FOUND,
    OCI,
    REQUEST,
    RESOURCE_EXHAUSTED,
    UNIMPLEMENTED,
    Events,
    Failure,
    Lost,
    Shim,
    any_of,
    frame,
    reader,
)
from tests.support.bundle import Bundle
from tests.support.containerd_api import message_class
from tests.support.needs import needs
from tests.support.runtime import runtime_command
from tests.support.timing import eventually, seconds

pytestmark = needs("root", "busybox", "program:containerd-shim-runc-v2", "program:runc")

CREATED, RUNNING, STOPPED, PAUSED = 1, 2, 3, 4
KINDS = ("runc", "own")


@pytest.fixture(scope="module", params=KINDS)
def kind(shims: None, request: pytest.FixtureRequest) -> str:
    """Which shim is under test."""
    return str(request.param)


@pytest.fixture(scope="module")
def program(kind: str) -> Path:
    """The shim under test; ours with a template."""
    if kind == "runc":
        return Path(shutil.which("containerd-shim-runc-v2") or "")
    shim = own_shim(runtime_command())
    Template.begin(shim)
    return shim


class Task:
    """A container and its shim; ``options`` are for the shim that runs runc."""

    def __init__(self, kind: str, shim: Shim, bundle: Bundle, options: Any, events: Events) -> None:
        self.kind = kind
        self.shim = shim
        self.bundle = bundle
        self.options = options
        self.events = events
        self.id = bundle.id
        self.created = False
        self.ended = False

    def begin(self, given: Any) -> None:
        """Have the shim start, with this on its standard input."""
        self.shim.start(given)
        self.client = self.shim.client()

    def create(self, **fields: Any) -> int:
        """Create the container; its pid."""
        fields = {"bundle": str(self.bundle.path), "options": self.options, **fields}
        pid: int = self.client.call("Create", id=self.id, **fields).pid
        self.created = True
        return pid

    def run(self, script: str = "exec sleep 1000", **fields: Any) -> int:
        """Create and start it with a shell; its pid."""
        self.bundle.set("process.args", ["/bin/sh", "-c", script]).write()
        self.create(**fields)
        pid: int = self.client.call("Start", id=self.id).pid
        return pid

    def state(self, exec_id: str = "") -> int:
        status: int = self.client.call("State", id=self.id, exec_id=exec_id).status
        return status

    def exec(self, exec_id: str, script: str, program: str = "/bin/sh", **fields: Any) -> None:
        """Add a process."""
        process = {**self.bundle.config["process"], "args": [program, "-c", script]}
        self.client.call("Exec", id=self.id, exec_id=exec_id, spec=any_of(f"{OCI}/Process", process), **fields)

    def kill(self, signal_: int = signal.SIGKILL, **fields: Any) -> None:
        self.client.call("Kill", id=self.id, signal=signal_, **fields)

    def end(self) -> None:
        """Kill and delete it, if it is there, and end its shim, if that has started."""
        if self.ended:
            return
        self.ended = True
        if not self.shim.address:
            self.shim.close()
            return
        try:
            for method, fields in (("Kill", {"signal": 9, "all": True}), ("Wait", {}), ("Delete", {})):
                try:
                    self.client.call(method, id=self.id, **fields)
                except Failure:
                    pass
            self.client.call("Shutdown", id=self.id)
        except Lost:
            pass
        self.client.__exit__()
        try:
            self.shim.delete(check=self.created)  # runc's fails where nothing was ever created
        finally:
            self.shim.close()


@pytest.fixture
def events(scratch: Path) -> Iterator[Events]:
    service = Events(scratch / "events")
    yield service
    service.close()


@pytest.fixture
def task(kind: str, program: Path, bundle: Bundle, scratch: Path, events: Events, token: str) -> Iterator[Task]:
    """A shim that has started, and no container yet."""
    task = prepared(kind, program, bundle, scratch, events, token)
    task.begin(task.options)
    yield task
    task.end()


def prepared(kind: str, program: Path, bundle: Bundle, scratch: Path, events: Events, token: str) -> Task:
    """A shim that has not started."""
    path = scratch / bundle.id  # containerd's shim takes the directory's name for the id
    bundle.path.rename(path)
    bundle.path = path
    options = any_of(
        "containerd.runc.v1.Options",
        message_class("containerd.runc.v1.Options")(root=str(scratch / "states"), binary_name="runc"),
    )
    return Task(kind, Shim(program, bundle.path, bundle.id, token, events), bundle, options, events)


def refused(code: int, call: Callable[[], object]) -> str:
    """The text with which a call fails, which must be with this code."""
    with pytest.raises(Failure) as info:
        call()
    assert info.value.code == code, info.value
    return info.value.message


@pytest.mark.vm
def test_a_life(task: Task) -> None:
    """The requests of ``ctr run``, and the events."""
    pid = task.create()
    assert task.client.call("Connect", id=task.id).task_pid == pid
    state = task.client.call("State", id=task.id)
    assert (state.pid, state.status, state.bundle) == (pid, CREATED, str(task.bundle.path))
    assert task.client.call("Start", id=task.id).pid == pid
    assert task.state() == RUNNING
    waiting = task.client.begin("Wait", id=task.id)
    assert not task.client.answered(waiting)
    assert [entry.pid for entry in task.client.call("Pids", id=task.id).processes] == [pid]
    task.kill(signal.SIGTERM)
    task.kill(signal.SIGKILL)
    assert task.client.finish(waiting).exit_status == 128 + signal.SIGKILL
    state = task.client.call("State", id=task.id)
    assert (state.status, state.exit_status, state.exited_at.seconds > 1_700_000_000) == (STOPPED, 137, True)
    assert task.client.call("Wait", id=task.id).exit_status == 137
    deleted = task.client.call("Delete", id=task.id)
    assert (deleted.pid, deleted.exit_status) == (pid, 137)
    refused(NOT_FOUND, lambda: task.client.call("State", id=task.id))
    task.events.await_topics(task.id, ["create", "start", "exit", "delete"])
    exit_ = next(event for topic, event in task.events.seen if topic == "/tasks/exit")
    assert (exit_.id, exit_.pid, exit_.exit_status) == (task.id, pid, 137)


@pytest.mark.parametrize("version", [2, 3])
def test_both_versions_of_the_service(task: Task, version: int) -> None:
    """containerd's shim knows one alone: the second in 1.x, the third in 2.x."""
    pid = task.run()
    with task.shim.client(version) as client:
        try:
            assert client.call("Connect", id=task.id).task_pid == pid
        except Failure as failure:
            assert (failure.code, task.kind) == (UNIMPLEMENTED, "runc")
            assert version != task.shim.version


@pytest.mark.vm
def test_streams(task: Task, scratch: Path) -> None:
    """FIFOs, whose readers see an end when the container has one."""
    outputs = {name: reader(scratch / name) for name in ("stdout", "stderr")}
    task.run("echo out; echo err >&2; exit 3", **{name: str(scratch / name) for name in outputs})
    assert task.client.call("Wait", id=task.id).exit_status == 3
    assert [contents() for contents in outputs.values()] == ["out\n", "err\n"]


def test_an_input_that_is_closed(task: Task, scratch: Path) -> None:
    os.mkfifo(scratch / "stdin")
    contents, errors = reader(scratch / "stdout"), reader(scratch / "stderr")
    file = os.open(scratch / "stdin", os.O_RDWR)
    task.run("cat; echo end", **{name: str(scratch / name) for name in ("stdin", "stdout", "stderr")})
    os.write(file, b"words\n")
    os.close(file)
    assert task.state() == RUNNING
    task.client.call("CloseIO", id=task.id, stdin=True)
    assert (contents(), errors()) == ("words\nend\n", "")


@pytest.mark.vm
def test_another_process(task: Task, scratch: Path) -> None:
    task.run()
    contents, errors = reader(scratch / "out"), reader(scratch / "err")
    task.exec("one", "echo hello; exit 7", stdout=str(scratch / "out"), stderr=str(scratch / "err"))
    refused(ALREADY_EXISTS, lambda: task.exec("one", "true"))
    waiting = task.client.begin("Wait", id=task.id, exec_id="one")
    pid = task.client.call("Start", id=task.id, exec_id="one").pid
    assert task.client.finish(waiting).exit_status == 7
    assert (contents(), errors()) == ("hello\n", "")
    deleted = task.client.call("Delete", id=task.id, exec_id="one")
    assert (deleted.pid, deleted.exit_status) == (pid, 7)
    refused(NOT_FOUND, lambda: task.client.call("State", id=task.id, exec_id="one"))
    task.events.await_topics(task.id, ["create", "start", "exec-added", "exec-started", "exit"])


def test_pids_name_the_processes_that_were_added(task: Task) -> None:
    init = task.run()
    task.exec("one", "exec sleep 1000")
    pid = task.client.call("Start", id=task.id, exec_id="one").pid
    found = {entry.pid: entry.info for entry in task.client.call("Pids", id=task.id).processes}
    assert set(found) == {init, pid}
    details: Any = message_class("containerd.runc.v1.ProcessDetails").FromString(found[pid].value)
    assert (found[pid].type_url, details.exec_id) == ("containerd.runc.v1.ProcessDetails", "one")


@pytest.mark.vm
def test_paused(task: Task) -> None:
    task.run()
    task.client.call("Pause", id=task.id)
    assert task.state() == PAUSED
    task.client.call("Resume", id=task.id)
    assert task.state() == RUNNING
    task.events.await_topics(task.id, ["create", "start", "paused", "resumed"])


@pytest.mark.vm
def test_limits_and_statistics(task: Task) -> None:
    task.run()
    limits = {"pids": {"limit": 77}, "memory": {"limit": 64 << 20}}
    task.client.call("Update", id=task.id, resources=any_of(f"{OCI}/LinuxResources", limits))
    packed = task.client.call("Stats", id=task.id).stats
    found: Any = message_class(packed.type_url).FromString(packed.value)
    assert (found.pids.current, found.pids.limit) == (1, 77)
    limit = found.memory.usage_limit if packed.type_url.endswith("v2.Metrics") else found.memory.usage.limit
    assert limit == 64 << 20


@pytest.mark.vm
def test_memory_that_runs_out_at_once(task: Task) -> None:
    """It is told before the end. The reference looks from the start on, and so may miss it."""
    if task.kind == "runc":
        return
    limit = 16 << 20
    task.bundle.set("linux.resources", {"memory": {"limit": limit, "swap": limit}})
    task.run("dd if=/dev/zero of=/dev/null bs=64M count=1; exit $?")
    assert task.client.call("Wait", id=task.id).exit_status == 137
    eventually(lambda: "exit" in task.events.topics(task.id), 20, "the end")
    assert task.events.topics(task.id)[:3] == ["create", "start", "oom"]


@pytest.mark.parametrize("method", ["State", "Start", "Delete", "Pids", "Pause", "Kill", "Exec", "Wait", "Stats"])
def test_an_unknown_container(task: Task, method: str) -> None:
    refused(NOT_FOUND, lambda: task.client.call(method, id="nobody"))


def test_a_create_that_fails(task: Task) -> None:
    """The text says what runc's would, and the shim has nothing then."""
    task.bundle.set("process.args", ["/no/such/program"])
    with pytest.raises(Failure, match="no such file or directory"):
        task.create()
        task.client.call("Start", id=task.id)
    try:
        assert task.state() == CREATED
    except Failure as failure:
        assert failure.code == NOT_FOUND


def test_it_stays_while_it_has_a_container(task: Task) -> None:
    task.run()
    task.client.call("Shutdown", id=task.id)
    assert task.state() == RUNNING


def test_a_client_that_leaves(task: Task) -> None:
    """Its requests are forgotten, and the next client finds all as it was."""
    pid = task.run()
    with task.shim.client() as client:
        for _ in range(20):
            client.begin("Wait", id=task.id)
    with task.shim.client() as client:
        assert client.call("Connect", id=task.id).task_pid == pid


def test_two_clients_at_once(task: Task) -> None:
    """Each gets its own answers; both are told of the end."""
    task.run()
    with task.shim.client() as other:
        waiting = [client.begin("Wait", id=task.id) for client in (task.client, other)]
        for _ in range(20):
            streams = [(client, client.begin("State", id=task.id)) for client in (other, task.client, other)]
            assert [client.finish(stream).status for client, stream in streams] == [RUNNING] * 3
        other.call("Kill", id=task.id, signal=9)
        for client, stream in zip((task.client, other), waiting, strict=True):
            assert client.finish(stream).exit_status == 137


def test_many_requests_at_once(task: Task) -> None:
    """On one connection, with one that is not answered before all others."""
    task.run()
    waiting = task.client.begin("Wait", id=task.id)
    streams = [task.client.begin("State", id=task.id) for _ in range(200)]
    assert {task.client.finish(stream).status for stream in reversed(streams)} == {RUNNING}
    assert not task.client.answered(waiting, 0.05)


def test_events_wait_for_containerd(task: Task) -> None:
    """In their order, and each once. The reference tries one that failed again after those behind it."""
    task.run()
    task.events.await_topics(task.id, ["create", "start"])
    task.events.down()
    task.client.call("Pause", id=task.id)
    task.client.call("Resume", id=task.id)
    task.events.up()
    topics = ["create", "start", "paused", "resumed"]
    task.events.await_topics(task.id, topics, ordered=task.kind != "runc")


# What breaks the protocol.


@pytest.mark.parametrize(
    ("data", "stream", "code"),
    [
        (frame(2, REQUEST, b""), 2, INVALID_ARGUMENT),
        (frame(0, REQUEST, b""), 0, INVALID_ARGUMENT),
        (frame(1, REQUEST, b""), 1, INVALID_ARGUMENT),
        (frame(99999, DATA, b"x"), 99999, INVALID_ARGUMENT),
        (frame(99999, REQUEST, b"\xff"), 99999, INVALID_ARGUMENT),
        (frame(99999, REQUEST, bytes(LARGEST + 1)), 99999, RESOURCE_EXHAUSTED),
    ],
    ids=["even", "zero", "again", "data", "no request", "too long"],
)
def test_a_frame_that_is_refused(task: Task, data: bytes, stream: int, code: int) -> None:
    """On its stream; the connection goes on, as do others. Debian's shim does not mind all of them."""
    if task.kind == "runc" and data[8] == DATA:
        return  # it does not answer that, and some releases do not outlive it
    task.run()
    with task.shim.client() as client:
        client.socket.settimeout(seconds(30))
        client.call("Connect", id=task.id)
        client.send(data)
        number, _, answer = client.receive()
        response: Any = message_class("ttrpc.Response").FromString(answer)
        if task.kind == "runc" and response.status.code == UNIMPLEMENTED:
            code = UNIMPLEMENTED  # its version of ttrpc does not look at the number
        assert (number, response.status.code) == (stream, code)
    assert task.state() == RUNNING


@pytest.mark.parametrize(
    ("service", "method", "text"),
    [
        ("containerd.task.v2.Task", "Nonsense", "Nonsense"),
        ("containerd.nonsense.v1.Nonsense", "State", "containerd.nonsense.v1.Nonsense"),
        ("", "", ""),
    ],
)
def test_what_is_not_there(task: Task, service: str, method: str, text: str) -> None:
    stream = task.client.begin_raw(method, b"", service or "x")
    assert text in refused(UNIMPLEMENTED, lambda: task.client.finish(stream))


def test_a_payload_that_is_no_message(task: Task) -> None:
    stream = task.client.begin_raw("State", b"\xff\xff")
    with pytest.raises(Failure):
        task.client.finish(stream)
    assert task.client.call("Connect", id=task.id).shim_pid > 0


@pytest.mark.parametrize(
    "data", [b"\0", b"\xff" * 9, b"\xff" * 1000, frame(1, REQUEST, b"abc", length=4000), b"GET / HTTP/1.1\r\n\r\n"]
)
def test_garbage(task: Task, data: bytes) -> None:
    """Whatever becomes of that connection, others do not notice."""
    pid = task.run()
    with task.shim.client() as client:
        client.send(data)
        assert task.client.call("Connect", id=task.id).task_pid == pid
    assert task.state() == RUNNING


def test_half_a_frame(task: Task) -> None:
    """Others are answered meanwhile, and so is that one when the rest has come."""
    pid = task.run()
    with task.shim.client() as client, task.shim.client() as slow:
        slow.send(frame(1, REQUEST, b"", length=(1 << 32) - 1)[:7])
        sent: list[bytes] = []
        client.send = sent.append  # type: ignore[method-assign,assignment]
        stream = client.begin("Connect", id=task.id)
        del client.send
        (data,) = sent
        for number in range(len(data)):
            client.send(data[number : number + 1])
            if number % 20 == 0:
                assert task.client.call("Connect", id=task.id).task_pid == pid
        assert client.finish(stream).task_pid == pid
        slow.send(b"\xff" * 3 + bytes(1 << 20))  # the rest of a header that promises 4 GiB, and some of them
        assert task.state() == RUNNING


def test_a_client_that_never_reads(task: Task) -> None:
    """Others are answered meanwhile, and the shim does not hoard what that one should have."""
    task.run()
    shim = task.client.call("Connect", id=task.id).shim_pid
    before = memory(shim)
    with task.shim.client() as client:
        client.socket.settimeout(0.5)
        try:
            for _ in range(100_000):
                client.begin("State", id=task.id)
        except Lost:  # it takes no more from this one, as it should
            pass
        assert task.state() == RUNNING
        assert task.kind == "runc" or memory(shim) - before < 64 << 20  # Debian 13's shim for runc hoards
    eventually(lambda: task.state() == RUNNING, what="the shim's answer")


def memory(pid: int) -> int:
    """What a process has of its own, in bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_"))
