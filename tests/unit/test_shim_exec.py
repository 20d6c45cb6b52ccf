"""A worker that becomes a container's process: the shim's part, whatever the other side does."""

from __future__ import annotations

import array
import errno
import gc
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from gosudacon.api import CONFINE, ISOLATE, PREPARE, RUNTIME, START, StepError
from gosudacon.base import posix
from gosudacon.base.errors import SyscallError
from gosudacon.linux import namespace
from gosudacon.linux.cgroup import files
from gosudacon.pipeline import plan
from gosudacon.pipeline.alone import Handover
from gosudacon.pipeline.executor import FAILED, FORKED, GO, MOST_WARNINGS, READY, WARNED, Channel
from gosudacon.pipeline.step import Step
from gosudacon.shim import cell
from gosudacon.shim.loop import READ, Loop
from gosudacon.shim.reaper import Reaper
from gosudacon.shim.worker import Failed, Reporter, Worker
from tests.support.timing import eventually

pytestmark = pytest.mark.timeout(20)

Act = Callable[[Channel], None]


class Shim:
    """A loop, a reaper and one worker that has handed over and then does ``act``."""

    def __init__(self) -> None:
        self.loop = Loop(self._report)
        self.reaper = Reaper(self.loop)
        self.reaper.expect()
        self.outcome: object = None
        self.worker: Worker

    @staticmethod
    def _report(error: BaseException) -> None:
        raise error

    def run(self, act: Act, then: Callable[[Worker], None] = lambda _: None) -> object:
        """What comes of it."""

        def job(reporter: Reporter) -> dict[str, object]:
            act(Channel(reporter.hand_over(["of the plan"])))
            os._exit(9)

        def done(outcome: object) -> None:
            self.outcome = outcome
            self.loop.stop()

        self.worker = Worker(self.loop, job, done, reaper=self.reaper)
        then(self.worker)
        self.loop.run()
        return self.outcome


@pytest.fixture
def shim() -> Iterator[Shim]:
    """As a shim is: SIGCHLD blocked, and nothing left in the end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    gc.collect()  # what other tests have left
    descriptors = len(os.listdir("/proc/self/fd"))
    shim = Shim()
    yield shim
    assert shim.reaper._witnesses == []
    os.close(shim.reaper._signals)
    shim.loop._epoll.close()
    try:
        eventually(_has_no_children, 5, "the end of all that was started")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert len(os.listdir("/proc/self/fd")) <= descriptors


def _has_no_children() -> bool:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return True
    return False


def born(act: Act, late: bool = False) -> Act:
    """Fork as the container's side does, and have the child do ``act``, at once or when the shim knows of it."""

    def run(channel: Channel) -> None:
        told, tell = os.pipe()
        pid = namespace.clone_sibling()
        if pid:
            os.close(told)
            if late:
                time.sleep(0.2)
            channel.send(FORKED, b"%d" % pid)
            channel.close()
            os.write(tell, b"1")
            os._exit(0)
        os.close(tell)
        if not late:
            os.read(told, 1)
        act(channel)
        os._exit(7)

    return run


def is_ready(channel: Channel) -> None:
    channel.send(READY)
    assert channel.receive() == (GO, b"")


def executes(channel: Channel) -> None:
    is_ready(channel)
    os.execv("/bin/true", ["true"])


def is_killed(channel: Channel) -> None:
    is_ready(channel)
    os.kill(os.getpid(), signal.SIGKILL)


def is_ready_twice(channel: Channel) -> None:
    is_ready(channel)
    says(READY)(channel)


def sends_without_end(channel: Channel) -> None:
    while True:
        channel.send(WARNED, b"x")


def says(kind: bytes, payload: bytes = b"") -> Act:
    """Say that, and wait for the end of the shim's side or of this process."""

    def act(channel: Channel) -> None:
        channel.send(kind, payload)
        channel.receive()
        signal.pause()

    return act


def test_it_is_executed(shim: Shim) -> None:
    """Its pid is that of the process that was born, whose end is still to be claimed."""
    outcome = shim.run(born(executes))
    assert isinstance(outcome, dict) and outcome["warnings"] == ["of the plan"]
    ends: list[int] = []

    def ended(status: int, _when: int) -> None:
        ends.append(status)
        shim.loop.stop()

    shim.reaper.claim(int(outcome["pid"]), ended)
    if not ends:
        shim.loop._running = True
        shim.loop.run()
    assert ends == [0]


def test_it_is_executed_and_over_before_anybody_looks(shim: Shim) -> None:
    """The end of the process and that of the channel come at once: it was executed all the same."""

    def wait(worker: Worker) -> None:
        read = worker._read

        def slowly(events: int) -> None:
            read(events)
            assert worker._alone is not None
            take = worker._alone.read

            def take_late(events: int) -> None:
                time.sleep(0.2)
                take(events)

            shim.loop.watch(worker._channel.fileno(), READ, take_late)

        shim.loop.watch(worker._channel.fileno(), READ, slowly)

    outcome = shim.run(born(executes), wait)
    assert isinstance(outcome, dict)


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (lambda channel: channel.send_error(StepError("the reason")), "the reason"),
        (born(lambda channel: channel.send_error(StepError("the reason"))), "the reason"),
        (lambda _: None, "the worker was killed"),
        (born(lambda _: None), "killed before it was executed"),
        (born(lambda channel: channel.send(READY)), "killed before it was executed"),
        (born(is_killed), "killed before it was executed"),
        (says(READY), "invalid message"),
        (says(GO), "invalid message"),
        (says(FORKED, b"1"), "ended before it was ready"),
        (says(FORKED, b"x"), "invalid message"),
        (says(FORKED, b"9" * 5000), "invalid message"),
        (says(FAILED, b"no JSON"), "invalid report"),
        (says(FAILED, b"[" * 60000), "invalid report"),
        (says(FAILED, b'{"message": {}}'), "invalid report"),
        (says(b'{"result": {"pid": 1}}'), "invalid message"),
        (born(says(b'{"result": {"pid": 1}}')), "invalid message"),
        (born(says(b'{"alone": []}')), "invalid message"),
        (born(says(FORKED, b"%d" % os.getpid())), "invalid message"),
        (born(says(READY), late=True), "for another one"),
        (born(says(FORKED, b"%d" % os.getpid()), late=True), "for another one"),
        (born(says(FAILED, b"{}"), late=True), "for another one"),
        (born(is_ready_twice), "invalid message"),
        (born(sends_without_end), "without end"),
    ],
)
def test_what_goes_wrong(shim: Shim, act: Act, text: str) -> None:
    """Each of these fails the exec, and no process of it is left."""
    outcome = shim.run(act)
    assert isinstance(outcome, Failed) and text in str(outcome)


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (lambda channel: channel.send_error(StepError("the reason")), "the reason"),
        (lambda _: None, "the worker was killed"),
    ],
)
def test_it_is_over_before_anybody_looks(shim: Shim, act: Act, text: str) -> None:
    """What it has said is taken before its number may be another's."""

    def collect(worker: Worker) -> None:
        os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
        shim.loop.forget(worker._channel.fileno())

    outcome = shim.run(act, collect)
    assert isinstance(outcome, Failed) and text in str(outcome)


def test_it_ends_while_somebody_else_has_its_channel(shim: Shim) -> None:
    """The end of the process is enough: the channel may stay open for ever."""

    def act(channel: Channel) -> None:
        pid = namespace.clone_sibling()
        if not pid:
            os._exit(0)
        channel.send(FORKED, b"%d" % pid)
        signal.pause()

    outcome = shim.run(act)
    assert isinstance(outcome, Failed) and "killed" in str(outcome)


def test_it_is_told_to_end(shim: Shim) -> None:
    """At either moment, with the reason for what it fails with."""

    def end_soon(worker: Worker) -> None:
        shim.loop.later(0.2, lambda: worker.end("the reason", 0.2))

    for act in (says(WARNED, b"x"), born(says(WARNED, b"x"))):
        shim.loop._running = True
        outcome = shim.run(act, end_soon)
        assert isinstance(outcome, Failed) and str(outcome) == "the reason"


def test_what_it_warns_of(shim: Shim) -> None:
    """Is bounded, in number and in length."""

    def act(channel: Channel) -> None:
        for number in range(3 * MOST_WARNINGS):
            channel.send(WARNED, b"%d" % number + b"x" * 60000)
        executes(channel)

    outcome = shim.run(born(act))
    assert isinstance(outcome, dict)
    assert MOST_WARNINGS <= len(outcome["warnings"]) <= MOST_WARNINGS + 1
    assert max(map(len, outcome["warnings"])) <= 4096


def test_descriptors_that_it_sends(shim: Shim) -> None:
    """Do not reach the shim: the fixture counts them."""

    def act(channel: Channel) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * 5))]
        with socket.socket(fileno=os.dup(channel.fd)) as other:
            other.sendmsg([WARNED + b"with descriptors"], rights)
        executes(channel)

    outcome = shim.run(born(act))
    assert isinstance(outcome, dict) and "with descriptors" in outcome["warnings"]


def test_a_worker_that_may_not_become_one(shim: Shim) -> None:
    """Says so for nothing: the note is one like others."""
    noted: list[object] = []

    def job(reporter: Reporter) -> dict[str, object]:
        reporter.hand_over([])
        return {}

    def done(outcome: object) -> None:
        shim.outcome = outcome
        shim.loop.stop()

    Worker(shim.loop, job, done, lambda note, _: noted.append(note))
    shim.loop.run()
    assert noted == [{"alone": []}] and shim.outcome == {"warnings": []}


# Which plans one process can carry out.


class Any(Step):
    """A step with a name."""

    name: str

    def describe(self) -> str:
        return self.name


def steps() -> list[Step]:
    return [
        Any(name="open", phase=PREPARE),
        Any(name="spawn", phase=ISOLATE, side=RUNTIME, spawns=True),
        Any(name="join", phase=ISOLATE),
        Any(name="limit", phase=CONFINE, side=RUNTIME, either_side=True, by=CONFINE),
        Any(name="birth", phase=CONFINE, forks=True),
        Any(name="execute", phase=START),
    ]


def lane(steps: list[Step]) -> list[str]:
    moves = Handover(lambda _: -1).lane(plan.Plan(steps))
    assert not any(move.wait or move.tell for move in moves)
    return [move.step.describe() for move in moves]


def test_a_plan_for_one_process() -> None:
    """All that comes once it is there, and what the container's side was to do before that; the rest has been done."""
    assert lane(steps()) == ["join", "limit", "birth", "execute"]
    first = Any(name="first", phase=ISOLATE)
    assert lane([first, *steps()]) == ["first", "join", "limit", "birth", "execute"]


@pytest.mark.parametrize(
    "change",
    [
        lambda steps: steps[:1] + steps[2:],  # none spawns
        lambda steps: [step for step in steps if not step.forks],  # it would be the container's process itself
        lambda steps: [*steps, Any(name="fork", phase=ISOLATE, forks=True)],
        lambda steps: [*steps, Any(name="send", phase=CONFINE, side=RUNTIME)],  # only the runtime can do that
    ],
)
def test_a_plan_for_two(change: Callable[[list[Step]], list[Step]]) -> None:
    assert lane(change(steps())) == []


# Where it is forked.

OUTSIDE = -2


@pytest.mark.parametrize(
    ("there", "inside"),
    [
        ({"cgroup.events": "populated 1\nfrozen 0"}, True),
        ({"cgroup.events": "populated 1\nfrozen 0", "memory.max": "max"}, True),
        ({"cgroup.events": "populated 1\nfrozen 0", "memory.max": str(1 << 30)}, True),
        ({"cgroup.events": "populated 1\nfrozen 0", "memory.max": str(16 << 20)}, False),
        ({"cgroup.events": "populated 1\nfrozen 1"}, False),
        ({}, False),
    ],
)
def test_in_which_cgroup(monkeypatch: pytest.MonkeyPatch, there: dict[str, str], inside: bool) -> None:
    """In that of the container, but for one that is frozen, small, or not to be read."""

    def read(_fd: int, name: str) -> str:
        if name in there:
            return there[name]
        raise SyscallError(errno.ENOENT, "read", name)

    monkeypatch.setattr(files, "open_directory", lambda path: os.open(path, os.O_RDONLY))
    monkeypatch.setattr(files, "read", read)
    monkeypatch.setattr(namespace, "clone", lambda _flags, fd: os.fstat(fd).st_ino)
    monkeypatch.setattr(posix, "fork", lambda: OUTSIDE)
    assert cell.fork("/proc/self") == (os.stat("/proc/self").st_ino if inside else OUTSIDE)


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EAGAIN, errno.ENODEV, errno.ENOSYS])
def test_a_cgroup_that_takes_none(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(_flags: int, _fd: int) -> int:
        raise SyscallError(number, "clone3")

    monkeypatch.setattr(files, "open_directory", lambda path: os.open(path, os.O_RDONLY))
    monkeypatch.setattr(files, "read", lambda _fd, _name: "max")
    monkeypatch.setattr(namespace, "clone", refuse)
    monkeypatch.setattr(posix, "fork", lambda: OUTSIDE)
    before = len(os.listdir("/proc/self/fd"))
    assert cell.fork("/proc/self") == OUTSIDE
    assert len(os.listdir("/proc/self/fd")) == before
