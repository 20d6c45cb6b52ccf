"""The tools of the tests: leftovers are found and cleared, a bundle and a runtime do what tests expect."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import cgroups, namespaces, processes
from tests.support.bundle import Bundle
from tests.support.console import ConsoleSocket
from tests.support.leftovers import Watch
from tests.support.runtime import Runtime
from tests.support.timing import eventually


@pytest.fixture
def watch(leftovers: Watch, scratch: Path, token: str) -> Watch:
    """A second watch, with a state directory, so that the first one stays content."""
    (scratch / "state").mkdir()
    return Watch(token, parents=(), roots=(scratch / "state",))


def found(watch: Watch, *words: str) -> None:
    lines = watch.leftovers(patience=0)
    assert len(lines) == 1
    assert all(word in lines[0] for word in words)
    watch.clear()
    assert watch.leftovers() == []


def test_nothing_is_left(watch: Watch) -> None:
    assert watch.leftovers(patience=0) == []


def test_a_mount_is_found(watch: Watch, scratch: Path) -> None:
    (scratch / "m").mkdir()
    namespaces.mount("thing", str(scratch / "m"), "tmpfs")
    found(watch, f"mount {scratch}/m", "tmpfs", "thing")


def test_a_cgroup_is_found(watch: Watch, token: str) -> None:
    path = cgroups.directory("memory", f"/{token}-left")
    path.mkdir()
    found(watch, f"cgroup {path}")


def test_an_orphan_is_found(watch: Watch) -> None:
    subprocess.run(["sh", "-c", "exec 2>&- >&-; setsid sleep 987 &"], check=True)
    eventually(lambda: any("sleep" in line for line in watch.leftovers(patience=0)), 10, "the program of the orphan")
    found(watch, "process", "sleep 987")


def test_a_zombie_is_no_leftover(watch: Watch) -> None:
    subprocess.run(["sh", "-c", "true & exec true"], check=True)
    assert watch.leftovers() == []


def test_a_state_directory_is_found(watch: Watch, scratch: Path) -> None:
    (scratch / "state/one").mkdir()
    found(watch, f"file {scratch}/state/one")


def test_an_open_descriptor_is_found(watch: Watch, scratch: Path) -> None:
    number = os.open(scratch, os.O_PATH)
    lines = watch.leftovers(patience=0)
    os.close(number)
    assert lines == [f"in the tests' own process: descriptor {number} of {scratch}"]


def test_a_network_link_is_found(watch: Watch) -> None:
    subprocess.run(["ip", "link", "add", "gt-left", "type", "bridge"], check=True)
    found(watch, "network interface gt-left")


@pytest.mark.vm
@pytest.mark.vm_systemd
def test_life_of_a_container(runtime: Runtime, make_bundle: Callable[..., Bundle]) -> None:
    item = make_bundle("echo hi; exec sleep 1000")
    pid = runtime.boot(item)
    assert runtime.status(item) == "running"
    runtime.kill(item, "KILL")
    assert runtime.wait(pid) == 137
    runtime.until(item, "stopped")
    runtime.delete(item)
    assert runtime.status(item) == "none"
    assert item.stdout == "hi\n"
    assert not processes.alive(pid)


def test_output_and_status_of_run(runtime: Runtime, make_bundle: Callable[..., Bundle]) -> None:
    assert runtime.output(make_bundle("cat; exit 3"), status=3) == ""
    assert runtime.run(make_bundle("cat; exit 3"), stdin="text").stdout == "text"


def test_a_forgotten_container_is_deleted(runtime: Runtime, make_bundle: Callable[..., Bundle]) -> None:
    runtime.boot(make_bundle())


def test_terminal(runtime: Runtime, make_bundle: Callable[..., Bundle], console_socket: ConsoleSocket) -> None:
    item = make_bundle("read line; echo got $line", {"process": {"terminal": True}})
    runtime.create(item, "--console-socket", console_socket.path)
    terminal = console_socket.receive()
    runtime.start(item)
    terminal.send("hello\n")
    assert terminal.expect("got hello").startswith("hello")


def test_changes_to_a_bundle(make_bundle: Callable[..., Bundle]) -> None:
    item = make_bundle(["true"], {"process": {"user": {"uid": 7}}})
    assert item.config["process"]["user"] == {"uid": 7, "gid": 0}
    item.set("linux.resources.memory.limit", 5).set("process.args.0", "false").remove("hostname")
    assert item.config["linux"]["resources"]["memory"] == {"limit": 5}
    assert item.config["process"]["args"] == ["false"]
    assert "hostname" not in item.config
    item.map_users().drop_namespace("network").add_namespace("pid", "/proc/1/ns/pid")
    kinds = {entry["type"]: entry.get("path") for entry in item.config["linux"]["namespaces"]}
    assert kinds == {"ipc": None, "uts": None, "mount": None, "user": None, "pid": "/proc/1/ns/pid"}
