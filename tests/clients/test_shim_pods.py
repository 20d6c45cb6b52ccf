"""Pods as each containerd makes them, of which few releases can be had here: who is started, and who is shut down.

Up to 1.7 and in 2.0.6, 2.1.2 and 2.2 it executes ``start`` and calls Shutdown for each container, in releases before
these Shutdown for the sandbox alone. 2.0.0 to 2.0.4 know the shim of a pod by themselves, and 2.3 does where the shim
has named the third version of the task service.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

pytest.importorskip("google.protobuf", "6.30", reason="needs protobuf")

from tests.clients.test_shim_alone import STOPPED, Task, events, prepared
from tests.clients.test_shim_start import parameters
from tests.clients.ttrpc_client import Events, Failure
from tests.support import processes
from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.timing import eventually

__all__ = ["events"]  # fixtures

pytestmark = needs("root", "busybox", "runtime:gosudacon")

EACH, ONCE, KNOWN, THIRD = "start and Shutdown of each", "start of each", "known address", "third version"


class Pod:
    """A sandbox and two containers, which are called as one of the ways says."""

    def __init__(self, way: str, tasks: list[Task], namespace: str) -> None:
        self.way = way
        self.tasks = tasks
        self.sandbox, *self.others = tasks
        for task in tasks:
            kind = "sandbox" if task is self.sandbox else "container"
            notes = {"io.kubernetes.cri.container-type": kind, "io.kubernetes.cri.sandbox-id": self.sandbox.id}
            task.bundle.set("annotations", notes)
        given = parameters(self.sandbox, namespace) if way == THIRD else self.sandbox.options
        self.sandbox.begin(given)
        self.pid: int = self.sandbox.client.call("Connect", id=self.sandbox.id).shim_pid
        self.socket = Path(self.sandbox.shim.address.removeprefix("unix://"))

    def begin(self, task: Task) -> None:
        """Have one of the others use the shim of the pod."""
        if self.way in (EACH, ONCE):
            task.begin(task.options)
            assert task.shim.address == self.sandbox.shim.address
        else:
            task.shim.address, task.shim.version = self.sandbox.shim.address, self.sandbox.shim.version
            task.client = task.shim.client()

    def remove(self, task: Task) -> None:
        """What containerd does with one that is to end."""
        task.kill()
        task.client.call("Wait", id=task.id)
        task.client.call("Delete", id=task.id)
        if self.way == EACH or task is self.sandbox:
            task.client.call("Shutdown", id=task.id)
        self.leave(task)

    def leave(self, task: Task) -> None:
        """It closes the connection, and cleans up what it has started."""
        task.client.__exit__()
        if self.way in (EACH, ONCE) or task is self.sandbox:
            task.shim.delete()
        task.ended = True


@pytest.fixture(params=[EACH, ONCE, KNOWN, THIRD])
def pod(
    request: pytest.FixtureRequest,
    program: Path,
    make_bundle: Callable[..., Bundle],
    scratch: Path,
    events: Events,
    token: str,
) -> Iterator[Pod]:
    tasks = [prepared("own", program, make_bundle(), scratch, events, token) for _ in range(3)]
    pod = Pod(request.param, tasks, token)
    yield pod
    with suppress(ProcessLookupError):
        os.kill(pod.pid, signal.SIGKILL)
    for task in pod.tasks:
        if not task.ended and task.shim.address:
            task.client.__exit__()
            task.shim.delete()
        task.shim.close()


def states(pod: Pod) -> list[str]:
    return [path.name for path in pod.sandbox.bundle.path.parent.glob("states/*/*")]


def test_a_pod(pod: Pod) -> None:
    """One shim for all, which goes on without one of them, and ends with the sandbox."""
    pod.sandbox.run()
    for task in pod.others:
        pod.begin(task)
        task.run()
        assert task.client.call("Connect", id=task.id).shim_pid == pod.pid
    first, second = pod.others
    pod.remove(first)
    assert second.client.call("Connect", id=second.id).shim_pid == pod.pid
    second.exec("one", "exit 3")
    second.client.call("Start", id=second.id, exec_id="one")
    assert second.client.call("Wait", id=second.id, exec_id="one").exit_status == 3
    pod.remove(second)
    assert pod.sandbox.state() != STOPPED
    pod.remove(pod.sandbox)
    eventually(lambda: not processes.alive(pod.pid), 20, "the shim's end")
    assert not pod.socket.exists()
    for task in pod.tasks:
        topics = [topic for topic in task.events.topics(task.id) if not topic.startswith("exec")]
        assert sorted({*topics}, key=topics.index) == ["create", "start", "exit", "delete"]
    assert not states(pod)


def test_a_create_that_fails_in_a_pod(pod: Pod) -> None:
    """The shim goes on, and the next container comes to it."""
    pod.sandbox.run()
    first, second = pod.others
    pod.begin(first)
    first.bundle.set("process.cwd", "no/absolute/path")
    with pytest.raises(Failure):
        first.create()
    with pytest.raises(Failure):
        first.client.call("Delete", id=first.id)
    if pod.way == EACH:
        first.client.call("Shutdown", id=first.id)
    pod.leave(first)
    pod.begin(second)
    second.run()
    assert second.client.call("Connect", id=second.id).shim_pid == pod.pid
    pod.remove(second)
    pod.remove(pod.sandbox)


def test_a_pod_whose_shim_is_killed(pod: Pod) -> None:
    """Nothing is left when containerd has cleaned up, for the sandbox alone where it has started that alone."""
    inits = [pod.sandbox.run()]
    for task in pod.others:
        pod.begin(task)
        inits.append(task.run())
    os.kill(pod.pid, signal.SIGKILL)
    for task in pod.tasks:
        pod.leave(task)
    assert not [pid for pid in inits if processes.alive(pid)]
    assert not states(pod)
    assert not pod.socket.exists()
