"""kill -9 at every step: of the shim, of a worker, and of containerd, at every call that changes something.

Each operation is done once to list its calls, in the worker that does it and in what that makes, or in the shim where
there is no worker (`tests.support.stepping`); and then again for each place and victim. Afterwards what containerd does
in that case must succeed, another container has not noticed, and nothing is left.

All places take half an hour: by default a sample of them is taken. ``GOSUDACON_TEST_FAULTS=1`` takes every place,
``=10`` every tenth.
"""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("google.protobuf", "6.30", reason="needs protobuf")

from tests.clients.daemon import Template, end_templates
from tests.clients.ttrpc_client import NOT_FOUND, OCI, Client, Events, Failure, Lost, Shim, any_of
from tests.support import processes
from tests.support.bundle import Bundle
from tests.support.containerd_api import message_class
from tests.support.leftovers import Watch
from tests.support.needs import needs
from tests.support.stepping import CHANGES, NOBODY, WORKER, Following, Point
from tests.support.timing import eventually

pytestmark = [needs("root", "busybox", "runtime:gosudacon", "x86-64"), pytest.mark.timeout(1200)]

STRIDE = int(os.environ.get("GOSUDACON_TEST_FAULTS", "0"))
SAMPLE = 5  # places of each operation and victim, if there is no stride
SAME = 3  # of more equal calls in a row than these, the first and the last are places
CREATED, RUNNING, STOPPED, PAUSED = 1, 2, 3, 4
OPERATIONS = ("create", "start", "exec", "kill", "pause", "resume", "update", "delete")
ORDER = ["create", "start", "exec-added", "exec-started", "paused", "resumed", "exit", "delete"]


class Site:
    """The subject of the operations, and another container, which must not notice."""

    def __init__(self, program: Path, bundles: list[Bundle], token: str, scratch: Path) -> None:
        self.events = Events(scratch / "events")
        self.report = scratch / "report"
        self.token = token
        self.bundle, self.other_bundle = bundles
        self.id, self.other_id = (bundle.id for bundle in bundles)
        self.options = any_of(
            "containerd.runc.v1.Options", message_class("containerd.runc.v1.Options")(root=str(scratch / "states"))
        )
        self.shim, self.other = (Shim(program, bundle.path, bundle.id, token, self.events) for bundle in bundles)
        self.client: Client
        self.pid = 0  # of the subject's shim
        self.created = False

    # The other container.

    def begin(self, together: bool) -> None:
        """Have the other container run, in the shim of the subject if they are ``together``."""
        annotations = {"io.containerd.runc.v2.group": self.token} if together else {}
        for bundle in (self.bundle, self.other_bundle):
            bundle.set("annotations", annotations)
        self.other.start(self.options)
        with self.other.client() as client:
            fields = {"bundle": str(self.other_bundle.path), "options": self.options}
            client.call("Create", id=self.other_id, **fields)
            self.other_pid = client.call("Start", id=self.other_id).pid

    def check_other(self) -> None:
        with self.other.client() as client:
            state = client.call("State", id=self.other_id)
            assert (state.status, state.pid) == (RUNNING, self.other_pid), "the other container is not as it was"
            client.call("Exec", id=self.other_id, exec_id="x", spec=self.process(self.other_bundle, "true"))
            client.call("Start", id=self.other_id, exec_id="x")
            assert client.call("Wait", id=self.other_id, exec_id="x").exit_status == 0
            client.call("Delete", id=self.other_id, exec_id="x")

    def end(self) -> None:
        with self.other.client() as client:
            client.call("Kill", id=self.other_id, signal=9, all=True)
            client.call("Wait", id=self.other_id)
            client.call("Delete", id=self.other_id)
            client.call("Shutdown", id=self.other_id)
        self.other.delete()

    def close(self) -> None:
        for each in (self.shim, self.other, self.events):
            each.close()

    # The subject.

    @staticmethod
    def process(bundle: Bundle, script: str) -> Any:
        return any_of(f"{OCI}/Process", {**bundle.config["process"], "args": ["/bin/sh", "-c", script]})

    def prepare(self, operation: str) -> None:
        """Bring the subject to where the operation can be done to it."""
        self.events.seen.clear()
        self.created = operation != "create"
        self.shim.start(self.options)
        self.client = self.shim.client()
        self.pid = self.client.call("Connect", id=self.id).shim_pid
        if operation == "create":
            return
        self.client.call("Create", id=self.id, bundle=str(self.bundle.path), options=self.options)
        if operation == "start":
            return
        self.client.call("Start", id=self.id)
        if operation == "exec":
            spec = self.process(self.bundle, "exec sleep 1000")
            self.client.call("Exec", id=self.id, exec_id="e", spec=spec)
        elif operation == "resume":
            self.client.call("Pause", id=self.id)
        elif operation == "delete":
            self.client.call("Kill", id=self.id, signal=9)
            self.client.call("Wait", id=self.id)

    def ask(self, operation: str) -> int:
        """Send the operation's request; the stream of its answer."""
        limits = any_of(f"{OCI}/LinuxResources", {"pids": {"limit": 77}, "memory": {"limit": 64 << 20}})
        method, fields = {
            "create": ("Create", {"bundle": str(self.bundle.path), "options": self.options}),
            "start": ("Start", {}),
            "exec": ("Start", {"exec_id": "e"}),
            "kill": ("Kill", {"signal": 9, "all": True}),
            "pause": ("Pause", {}),
            "resume": ("Resume", {}),
            "update": ("Update", {"resources": limits}),
            "delete": ("Delete", {}),
        }[operation]
        return self.client.begin(method, id=self.id, **fields)

    def points(self, operation: str) -> tuple[list[Point], Following]:
        """The places in the operation, from doing it once."""
        self.prepare(operation)
        with Following(self.pid, self.report) as following:
            self.client.finish(self.ask(operation))
        self.clean()
        found = [point for point in following.points() if not _is_within(following.calls[point.process], point.index)]
        return sample(found), following

    def clean(self) -> None:
        """What a client does to be rid of the task, and then containerd itself. All of it must succeed."""
        try:
            state = self.client.call("State", id=self.id)
        except Failure as failure:
            assert failure.code == NOT_FOUND, failure
        else:
            if state.status == PAUSED:
                try:
                    self.client.call("Resume", id=self.id)
                except Failure as failure:  # what a containerd that is gone asked for is being done, or has just been
                    assert "not paused" in failure.message or "a running process" in failure.message, failure
            if state.status != STOPPED:
                self._kill()
                self.client.call("Wait", id=self.id)
            self.client.call("Delete", id=self.id)
            self.created = True
        if self.created:
            eventually(lambda: "delete" in self.topics(), 20, "the last event")
        self.client.call("Shutdown", id=self.id)
        self.client.__exit__()
        self.shim.delete()

    def _kill(self) -> None:
        try:
            self.client.call("Kill", id=self.id, signal=9, all=True)
        except Failure as failure:
            if failure.code != NOT_FOUND:
                raise

    def topics(self) -> list[str]:
        """Of the events since the subject was made; an event of the one before may have been sent once more."""
        seen = self.events.topics(self.id)
        return seen[seen.index("create") :] if "create" in seen else seen

    def check_events(self) -> None:
        """In order, and each once."""
        topics = [topic for topic in self.topics() if topic in ("create", "start", "delete")]
        assert topics == sorted({*topics}, key=ORDER.index), topics
        seen = [(topic, event) for topic, event in self.events.seen if event.container_id == self.id]
        made = next((number for number, (topic, _) in enumerate(seen) if topic == "/tasks/create"), 0)
        exits = [event.id for topic, event in seen[made:] if topic == "/tasks/exit"]
        assert len(exits) == len({*exits}), exits
        assert self.id not in exits[:-1], "the end of the container is not the last"


def assert_clean(watch: Watch) -> None:
    """Nothing is left; in the tests' own process the service for events may have another client meanwhile."""

    def left() -> list[str]:
        processes.reap({each for each in processes.descendants() if not processes.alive(each.pid)})
        return [line for line in watch.snapshot().new(watch.before) if not line.startswith("in the tests' own")]

    try:
        eventually(lambda: not left(), 5)
    except AssertionError:
        raise AssertionError(f"left behind: {left()}") from None


def told(site: Site, place: str, error: BaseException) -> str:
    """What went wrong, where, and what the shims have to say of it."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == __file__]
    shims = "alive" if processes.alive(site.pid) else "gone"
    said = f"{site.shim.log()}{site.other.log()}".strip()
    return f"{place}: {type(error).__name__} {error} (lines {lines}; the shim {site.pid} is {shims}; it said {said!r})"


def sample(points: list[Point]) -> list[Point]:
    """As many as are wanted, evenly spread."""
    if STRIDE:
        return points[::STRIDE]
    count = min(SAMPLE, len(points))
    return [points[(2 * number + 1) * len(points) // (2 * count)] for number in range(count)]


def _is_within(calls: list[int], index: int) -> bool:
    """Whether the call is amid more equal ones than `SAME`."""
    first = last = index
    while first > 0 and calls[first - 1] == calls[index]:
        first -= 1
    while last + 1 < len(calls) and calls[last + 1] == calls[index]:
        last += 1
    return last - first >= SAME and index not in (first, last)


@pytest.fixture
def site(
    program: Path, make_bundle: Callable[..., Bundle], token: str, scratch: Path, leftovers: Watch
) -> Iterator[Site]:
    bundles = [make_bundle(), make_bundle()]
    for bundle in bundles:  # containerd's names for it
        path = scratch / bundle.id
        bundle.path.rename(path)
        bundle.path = path
    site = Site(program, bundles, token, scratch)
    leftovers.add_roots(scratch / "states" / token)
    yield site
    site.close()


def kill_worker(site: Site, operation: str, point: Point) -> None:
    """It fails with that, or had done what it should; the shim serves on."""
    with Following(site.pid, site.report, point, WORKER) as following:
        stream = site.ask(operation)
        try:
            site.client.finish(stream)
        except Failure as failure:
            assert following or "killed" in failure.message
    assert site.client.call("Connect", id=site.id).shim_pid == site.pid
    site.clean()
    site.check_events()


def kill_shim(site: Site, operation: str, point: Point) -> None:
    """containerd loses the connection and executes the action ``delete``, which has five seconds."""
    with Following(site.pid, site.report, point, site.pid), pytest.raises((Lost, Failure)):
        site.client.finish(site.ask(operation))
        os.kill(site.pid, signal.SIGKILL)
        raise Lost("not reached")
    site.client.__exit__()
    with reaping():
        site.shim.delete()


@contextmanager
def reaping() -> Iterator[None]:
    """Collect orphans of containers meanwhile, as the machine's first process does: their init waits for that."""
    over = threading.Event()

    def collect() -> None:
        while not over.wait(0.02):
            for each in processes.descendants():
                with suppress(OSError, StopIteration):
                    lines = Path(f"/proc/{each.pid}/status").read_text().splitlines()
                    within = len(next(line for line in lines if line.startswith("NSpid:")).split()) > 2
                    if within and not processes.alive(each.pid):
                        os.waitpid(each.pid, os.WNOHANG)

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def kill_containerd(site: Site, operation: str, point: Point) -> None:
    """It comes again, asks what there is, and is rid of what it does not find."""

    def die() -> None:
        site.client.__exit__()
        site.events.down()

    with Following(site.pid, site.report, point, NOBODY) as following:
        stream = site.ask(operation)
        try:
            following.at_the_point(die)
        except TimeoutError:
            site.client.finish(stream)
            die()
    site.events.up()
    site.client = site.shim.client()
    assert site.client.call("Connect", id=site.id).shim_pid == site.pid
    try:
        site.client.call("Pids", id=site.id)
    except Failure as failure:
        assert failure.code == NOT_FOUND
        try:
            site.client.call("Delete", id=site.id)
        except Failure as again:
            assert again.code == NOT_FOUND
    site.clean()
    site.check_events()


def test_given_up_at_the_last_moment(site: Site) -> None:
    """A container that containerd does not want any more when it has just been made is gone, and all are answered."""
    site.begin(together=True)
    points, seen = site.points("create")
    calls = seen.calls["0.0"]
    last = max(index for index, number in enumerate(calls) if CHANGES[number] == "sendmsg")
    assert points
    for _ in range(5):
        site.prepare("create")
        with site.shim.client() as other, Following(site.pid, site.report, Point("0.0", last), NOBODY) as following:
            creating = site.ask("create")
            streams = []
            following.at_the_point(lambda: streams.append(other.begin("Delete", id=site.id)))  # noqa: B023
            for client, stream in ((other, streams[0]), (site.client, creating)):
                with suppress(Failure):
                    client.finish(stream)
        site.clean()
        assert not (site.bundle.path / "gosudacon").exists()
    site.end()


@pytest.mark.parametrize("victim", ["template", "fork"])
def test_at_every_step_of_a_start(site: Site, leftovers: Watch, program: Path, victim: str) -> None:
    """Of the template, or of what is about to become a shim: there is one in the end, or the start says why not."""
    before = leftovers.before
    site.begin(together=False)
    leftovers.before = leftovers.snapshot()
    assert Template.process is not None
    with Following(Template.process.pid, site.report) as following:
        site.prepare("create")
    site.clean()
    calls = following.calls["0.0"]
    points = sample([Point("0.0", index) for index in range(len(calls)) if not _is_within(calls, index)])
    problems = []
    for point in points:
        template = Template.process.pid
        try:
            with Following(template, site.report, point, template if victim == "template" else WORKER):
                try:
                    site.prepare("create")
                except AssertionError as error:  # what `start` has said
                    assert "ended before it was ready" in str(error), error
            if victim == "template":
                Template.kill()
                end_templates()
                Template.begin(program)
                leftovers.keep(Template.process.pid)
            site.clean()
            site.check_other()
            assert_clean(leftovers)
        except (AssertionError, Failure, Lost) as error:
            problems.append(told(site, following.name(point), error))
            site.client.__exit__()
            leftovers.clear()
    leftovers.before = before
    leftovers.keep(Template.process.pid)
    site.end()
    assert not problems, "\n".join(problems)


VICTIMS = {"worker": kill_worker, "shim": kill_shim, "containerd": kill_containerd}


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_at_every_step(site: Site, leftovers: Watch, operation: str, victim: str) -> None:
    if victim == "worker" and operation == "start":
        site.bundle.set("hooks", {"poststart": [{"path": "/bin/true"}]})  # else there is none
    before = leftovers.before
    site.begin(together=victim != "shim")
    leftovers.before = leftovers.snapshot()
    problems = []
    points, seen = site.points(operation)
    assert points
    for point in points:
        try:
            site.prepare(operation)
            VICTIMS[victim](site, operation, point)
            site.check_other()
            assert_clean(leftovers)
        except (AssertionError, Failure, Lost) as error:
            problems.append(told(site, seen.name(point), error))
            site.client.__exit__()
            leftovers.clear()
            if victim != "shim" and not processes.alive(site.pid):
                break
    leftovers.before = before
    site.end()
    assert not problems, "\n".join(problems)
