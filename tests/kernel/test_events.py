"""events: what a real container uses, and what happens to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Queue
from typing import Any

import pytest

from tests.support import cgroups
from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import Runtime
from tests.support.timing import eventually, seconds

pytestmark = [needs("root", "busybox"), pytest.mark.vm]

# Fills memory until the kernel ends it, again and again; init is spared, since it is small.
HUNGRY = "while :; do read go </go; dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null; echo fed >>/fed; done"


class Stream:
    """`events` of a container; its lines, as they come."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self.child = child
        self._lines: Queue[str] = Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.child.stdout is not None
        for line in self.child.stdout:
            self._lines.put(line)
        self._lines.put("")

    def next(self) -> dict[str, Any]:
        line = self._lines.get(timeout=seconds(15))
        assert line, "the stream has ended"
        event = json.loads(line)
        assert isinstance(event, dict)
        return event

    def end(self) -> list[dict[str, Any]]:
        """What else came, once it has ended without a signal."""
        assert self.child.wait(seconds(15)) == 0
        self._reader.join()
        return [json.loads(line) for line in iter(self._lines.get, "")]

    def close(self) -> None:
        self.child.kill()
        self.child.wait()
        self._reader.join()
        assert self.child.stdout is not None
        self.child.stdout.close()


@contextmanager
def events(runtime: Runtime, bundle: Bundle, interval: str = "1h") -> Iterator[Stream]:
    words = [*runtime.command, "--root", str(runtime.root), "events", "--interval", interval, bundle.id]
    stream = Stream(subprocess.Popen(words, stdout=subprocess.PIPE, text=True))
    try:
        yield stream
    finally:
        stream.close()


def statistics(runtime: Runtime, bundle: Bundle) -> dict[str, Any]:
    event = json.loads(runtime.call("events", "--stats", bundle.id).stdout)
    assert {key: event[key] for key in ("type", "id")} == {"type": "stats", "id": bundle.id}
    data = event["data"]
    assert isinstance(data, dict)
    return data


def test_statistics_are_those_of_the_cgroup(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("linux.resources.memory", {"limit": 64 << 20}).set("linux.resources.pids", {"limit": 77})
    bundle.set("process.args", ["/bin/sleep", "1000"])
    runtime.boot(bundle)
    data = statistics(runtime, bundle)
    assert list(data) == [
        *("cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt", "network_interfaces"),
    ]
    assert data["memory"]["usage"]["limit"] == 64 << 20
    assert 0 < data["memory"]["usage"]["usage"] <= 64 << 20
    assert data["memory"]["raw"]["pgfault"] > 0
    assert data["pids"] == {"current": 1, "limit": 77}
    assert data["cpu"]["usage"]["total"] > 0
    assert data["cpuset"]["cpus"] and data["cpuset"]["mems"] == [0]
    assert data["network_interfaces"] is None  # there is lo alone


@needs("cgroup-v2")
def test_pressure_of_cgroup_v2(runtime: Runtime, bundle: Bundle) -> None:
    runtime.boot(bundle.set("process.args", ["/bin/sleep", "1000"]))
    if not (cgroups.directory("cpu", bundle.cgroups_path) / "cpu.pressure").exists():
        pytest.skip("needs CONFIG_PSI")
    data = statistics(runtime, bundle)
    for key in ("cpu", "memory", "blkio"):
        assert set(data[key]["psi"]["some"]) == {"avg10", "avg60", "avg300", "total"}


def test_interval(runtime: Runtime, bundle: Bundle) -> None:
    """Statistics at every interval until the container ends."""
    runtime.boot(bundle.set("process.args", ["/bin/sleep", "1000"]))
    with events(runtime, bundle, "20ms") as stream:
        totals = [stream.next()["data"]["pids"]["current"] for _ in range(3)]
        assert totals == [1, 1, 1]
        runtime.kill(bundle, "KILL")
        assert {event["type"] for event in stream.end()} <= {"stats"}


def test_a_paused_container_s(runtime: Runtime, bundle: Bundle) -> None:
    """Also where it was paused before the first look, and is killed and deleted as it is."""
    runtime.boot(bundle.set("process.args", ["/bin/sleep", "1000"]))
    runtime.call("pause", bundle.id)
    assert statistics(runtime, bundle)["pids"]["current"] == 1
    with events(runtime, bundle, "20ms") as stream:
        assert stream.next()["type"] == "stats"
        runtime.delete(bundle, "--force")
        stream.end()


def test_one_that_is_created_has_some_too(runtime: Runtime, bundle: Bundle) -> None:
    runtime.create(bundle)
    assert statistics(runtime, bundle)["pids"]["current"] == 1
    with events(runtime, bundle) as stream:
        eventually(lambda: watching(stream.child.pid), what="the watch")
        runtime.delete(bundle)
        assert stream.end() == []


@pytest.mark.parametrize("options", [[], ["--stats"]])
def test_a_stopped_container_has_none(runtime: Runtime, bundle: Bundle, options: list[str]) -> None:
    pid = runtime.boot(bundle.set("process.args", ["/bin/true"]))
    runtime.wait(pid)
    result = runtime.call("events", *options, bundle.id, check=False)
    assert result.returncode == 1
    assert f"container with id {bundle.id} is not running" in result.stderr


def test_no_container(runtime: Runtime) -> None:
    result = runtime.call("events", "--stats", "nothing", check=False)
    assert result.returncode == 1
    assert "container does not exist" in result.stderr


@pytest.mark.parametrize("interval", ["0", "0s"])
def test_an_interval_is_longer_than_nothing(runtime: Runtime, bundle: Bundle, interval: str) -> None:
    result = runtime.call("events", "--interval", interval, bundle.id, check=False)
    assert result.returncode == 1
    assert "duration interval must be greater than 0" in result.stderr


def hungry(runtime: Runtime, bundle: Bundle) -> None:
    os.mkfifo(bundle.rootfs / "go")
    bundle.set("linux.resources.memory", {"limit": 16 << 20, "swap": 16 << 20})
    runtime.boot(bundle.set("process.args", ["/bin/sh", "-c", HUNGRY]))


def feed(bundle: Bundle) -> None:
    with (bundle.rootfs / "go").open("w") as pipe:
        pipe.write("\n")


def meals(bundle: Bundle) -> int:
    file = bundle.rootfs / "fed"
    return file.read_text().count("fed") if file.exists() else 0


def test_memory_that_runs_out_is_an_event_every_time(runtime: Runtime, bundle: Bundle) -> None:
    hungry(runtime, bundle)
    with events(runtime, bundle) as stream:
        eventually(lambda: watching(stream.child.pid), what="the watch")
        for times in (1, 2):
            feed(bundle)
            assert stream.next() == {"type": "oom", "id": bundle.id}
            eventually(lambda times=times: meals(bundle) == times, what="it goes on")  # type: ignore[misc]
        runtime.kill(bundle, "KILL")
        stream.end()


def test_what_happened_before_is_no_event(runtime: Runtime, bundle: Bundle) -> None:
    hungry(runtime, bundle)
    feed(bundle)
    eventually(lambda: meals(bundle) == 1, what="it has eaten")
    with events(runtime, bundle) as stream:
        eventually(lambda: watching(stream.child.pid), what="the watch")
        runtime.kill(bundle, "KILL")
        assert stream.end() == []


def test_init_itself_is_what_died_of_it(runtime: Runtime, bundle: Bundle) -> None:
    os.mkfifo(bundle.rootfs / "go")
    bundle.set("linux.resources.memory", {"limit": 16 << 20, "swap": 16 << 20})
    script = "read go </go; exec dd if=/dev/zero of=/dev/null bs=64M count=1"
    runtime.boot(bundle.set("process.args", ["/bin/sh", "-c", script]))
    with events(runtime, bundle) as stream:
        eventually(lambda: watching(stream.child.pid), what="the watch")
        feed(bundle)
        assert {"type": "oom", "id": bundle.id} in stream.end()


def watching(pid: int) -> bool:
    links = []
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            links.append(os.readlink(f"/proc/{pid}/fd/{number}"))
        except OSError:
            continue
    kinds = {"anon_inode:inotify", "anon_inode:[eventfd]"}
    return bool(kinds & set(links)) and waiting(pid)


def waiting(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "S"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_without_a_word(runtime: Runtime, bundle: Bundle, number: int) -> None:
    runtime.boot(bundle.set("process.args", ["/bin/sleep", "1000"]))
    with events(runtime, bundle, "10ms") as stream:
        stream.next()
        stream.child.send_signal(number)
        assert stream.child.wait(seconds(10)) == -number
