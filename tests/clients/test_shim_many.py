"""Many pods at a time, of one container each, and then none: nothing of them is left, and the template is as before.

GOSUDACON_TEST_PODS=N makes N of them, by default a few.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("google.protobuf", "6.30", reason="needs protobuf")

from tests.clients.daemon import Template
from tests.clients.test_shim_alone import RUNNING, events, prepared
from tests.clients.test_shim_pods import EACH, THIRD, Pod
from tests.clients.ttrpc_client import Events
from tests.support import processes
from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.timing import eventually

__all__ = ["events"]  # fixtures

COUNT = int(os.environ.get("GOSUDACON_TEST_PODS", "0")) or 12
GROWTH = 128 << 10  # bytes: of the template's memory, for what was counted up in it
pytestmark = [needs("root", "busybox", "runtime:gosudacon"), pytest.mark.timeout(60 + 10 * COUNT)]


def facts() -> tuple[list[str], int]:
    """What the template has open, and the bytes of its own memory, shared or not."""
    assert Template.process is not None
    place = Path(f"/proc/{Template.process.pid}")
    lines = (place / "status").read_text().splitlines()
    own = next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:"))
    return sorted(str(path.readlink()) for path in (place / "fd").iterdir()), own


def test_many_pods(
    program: Path, make_bundle: Callable[..., Bundle], scratch: Path, events: Events, token: str
) -> None:
    sockets = {*Path("/run/containerd/s").glob("*")}

    def pods(count: int) -> None:
        """Make them, look at them, and remove them."""
        assert Template.process is not None
        made = []
        for number in range(count):
            tasks = [prepared("own", program, make_bundle(), scratch, events, token) for _ in range(2)]
            pod = Pod((EACH, THIRD)[number % 2], tasks, token)
            made.append(pod)
            pod.sandbox.run()
            pod.begin(pod.others[0])
            pod.others[0].run()
        assert len({pod.pid for pod in made}) == count
        assert {processes.parent(pod.pid) for pod in made} == {Template.process.pid}
        assert all(task.state() == RUNNING for pod in made for task in pod.tasks)
        for pod in made:
            for task in reversed(pod.tasks):
                pod.remove(task)
                task.shim.close()
                shutil.rmtree(task.bundle.path)
        eventually(lambda: not [pod for pod in made if processes.alive(pod.pid)], 30, "the end of the shims")
        eventually(lambda: not [pod for pod in made if Path(f"/proc/{pod.pid}").exists()], 3, "the end of zombies")
        assert {*Path("/run/containerd/s").glob("*")} == sockets
        assert not [*scratch.glob("states/*/*")]

    pods(2)
    open_before, memory_before = facts()
    pods(COUNT)
    open_after, memory_after = facts()
    assert open_after == open_before
    assert memory_after - memory_before < GROWTH
