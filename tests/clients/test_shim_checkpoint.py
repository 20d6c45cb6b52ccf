"""Checkpoint and restore through our shim, with a stand-in for CRIU (`tests.support.fake_criu`)."""

from __future__ import annotations

import json
import os
import platform
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("google.protobuf", "6.30", reason="needs protobuf")

from tests.clients.conftest import IMAGE, new_name
from tests.clients.daemon import Containerd
from tests.clients.tasks import finish, status
from tests.clients.test_shim_alone import CREATED, PAUSED, RUNNING, STOPPED, Task, events, prepared, refused
from tests.clients.ttrpc_client import FAILED_PRECONDITION, NOT_FOUND, UNKNOWN, Events, Lost, any_of, reader
from tests.support import fake_criu
from tests.support.bundle import Bundle
from tests.support.containerd_api import message_class
from tests.support.needs import needs
from tests.support.timing import eventually

__all__ = ["events"]  # fixtures

pytestmark = needs("root", "busybox", "program:containerd")
COUNT = (
    "echo began; i=0; while [ ! -e /stop ]; do i=$((i+1)); echo $i >/new; mv /new /count; sleep 0.1; done; "
    "echo ended; exit 7"
)
SCRIPT = "echo restores: $1; [ -p /f ] || mkfifo /f; read x <>/f"


@pytest.fixture
def task(program: Path, bundle: Bundle, scratch: Path, events: Events, token: str) -> Iterator[Task]:
    """A shim that has started, whose options name the stand-in."""
    task = prepared("own", program, bundle, scratch, events, token)
    task.options = any_of(
        "containerd.runc.v1.Options",
        message_class("containerd.runc.v1.Options")(
            root=str(scratch / "states"), criu_path=str(fake_criu.install(scratch / "criu"))
        ),
    )
    task.begin(task.options)
    yield task
    task.end()


def save(task: Task, images: Path, **options: Any) -> None:
    """Take a checkpoint."""
    name = "containerd.runc.v1.CheckpointOptions"
    task.client.call("Checkpoint", id=task.id, path=str(images), options=any_of(name, message_class(name)(**options)))


def images_of(task: Task, images: Path) -> None:
    """Have the images of a container that has run, and nothing else of it."""
    task.bundle.set("process.args", ["/bin/sh", "-c", SCRIPT, "sh", "%N"]).write()
    task.create()
    task.client.call("Start", id=task.id)
    save(task, images)
    task.kill()
    assert task.client.call("Wait", id=task.id).exit_status == 137
    task.client.call("Delete", id=task.id)


def test_it_goes_on(task: Task, scratch: Path) -> None:
    """Saved and left alone; who asks is told, and nothing is left of CRIU's work but the images."""
    images = scratch / "images"
    pid = task.run()
    task.client.call("Checkpoint", id=task.id, path=str(images))
    assert task.state() == RUNNING
    assert {path.name for path in images.iterdir()} == {"command.json", "descriptors.json"}
    assert not list(task.bundle.path.glob("criu*"))
    assert task.client.call("Connect", id=task.id).task_pid == pid
    task.events.await_topics(task.id, ["create", "start", "checkpointed"])


def test_it_ends(task: Task, scratch: Path) -> None:
    """With the option ``exit``; its log is where the option ``work_path`` says."""
    task.run()
    save(task, scratch / "images", exit=True, work_path=str(scratch / "work"))
    assert task.client.call("Wait", id=task.id).exit_status == 137
    assert task.state() == STOPPED
    assert (scratch / "work/dump.log").exists()
    task.client.call("Delete", id=task.id)


def test_streams_that_only_the_host_reaches(task: Task, scratch: Path) -> None:
    """FIFOs are told to CRIU as files from outside: it could not find them in the container."""
    contents, errors = reader(scratch / "out"), reader(scratch / "err")
    task.run(stdout=str(scratch / "out"), stderr=str(scratch / "err"))
    task.client.call("Checkpoint", id=task.id, path=str(scratch / "images"))
    names = json.loads((scratch / "images/descriptors.json").read_text())
    assert names[1].startswith("file[") and names[2].startswith("file[") and names[1] != names[2]
    saved = json.loads((scratch / "images/command.json").read_text())
    assert set(names[1:]) <= set(saved["external"])
    task.kill()
    assert (contents(), errors()) == ("", "")


def test_a_checkpoint_that_fails(task: Task, scratch: Path) -> None:
    """The container goes on; the log is beside its bundle's files."""
    task.run()
    (task.bundle.rootfs / "refuse").touch()
    log = task.bundle.path / "criu-dump.log"
    text = refused(UNKNOWN, lambda: save(task, scratch / "images", exit=True))
    assert text.startswith("OCI runtime checkpoint failed: criu failed: type DUMP errno 95")
    assert text.endswith(f"path= {log}") and "refused" in log.read_text()
    assert task.state() == RUNNING


@pytest.mark.parametrize(
    ("options", "text"),
    [({"cgroups_mode": "nonsense"}, "cgroups mode"), ({"empty_namespaces": ["pid"]}, "namespace pid is not supported")],
)
def test_options_that_cannot_be(task: Task, scratch: Path, options: dict[str, Any], text: str) -> None:
    task.run()
    assert text in refused(UNKNOWN, lambda: save(task, scratch / "images", **options))
    assert task.state() == RUNNING


def test_only_what_runs_can_be_saved(task: Task, scratch: Path) -> None:
    task.bundle.write()
    task.create()
    assert "cannot checkpoint a created process" in refused(UNKNOWN, lambda: save(task, scratch / "images"))


def test_a_paused_one(task: Task, scratch: Path) -> None:
    """containerd's client pauses what it saves, and has it go on afterwards."""
    task.run()
    task.client.call("Pause", id=task.id)
    save(task, scratch / "images")
    assert task.state() == PAUSED
    task.client.call("Resume", id=task.id)
    assert task.state() == RUNNING
    assert (scratch / "images/command.json").exists()


@pytest.mark.own_shim
def test_as_containerd_asks(ctr: Containerd, scratch: Path) -> None:
    """``ctr tasks checkpoint``, whose result is an image; options for our shim are in a file."""
    options = scratch / "options.toml"
    options.write_text(f'CriuPath = "{fake_criu.install(scratch / "criu")}"\n')
    name = new_name()
    words = ctr.run_arguments(IMAGE, name, "exec sleep 1000", "--detach", "--runtime-config-path", options)
    ctr.ctr(*words)
    made = ctr.ctr("tasks", "checkpoint", name).stdout.strip()
    assert made.startswith("containerd.io/checkpoint/")
    assert status(ctr, name) == "RUNNING"
    ctr.ctr("images", "rm", made)
    assert finish(ctr, name) == 137


def test_a_life_after(task: Task, scratch: Path) -> None:
    """There is no process until it is started; then it is as any other, with streams of its own."""
    if platform.machine() != "x86_64":
        pytest.skip("needs x86-64")
    images = scratch / "images"
    images_of(task, images)
    contents, errors = reader(scratch / "out"), reader(scratch / "err")
    assert task.create(checkpoint=str(images), stdout=str(scratch / "out"), stderr=str(scratch / "err")) == 0
    state = task.client.call("State", id=task.id)
    assert (state.status, state.pid) == (CREATED, 0)
    refused(FAILED_PRECONDITION, task.kill)
    refused(UNKNOWN, lambda: task.exec("one", "true"))
    refused(NOT_FOUND, lambda: task.client.call("Stats", id=task.id))
    pid = task.client.call("Start", id=task.id).pid
    assert task.client.call("Connect", id=task.id).task_pid == pid and task.state() == RUNNING
    assert [entry.pid for entry in task.client.call("Pids", id=task.id).processes] == [pid]
    task.client.call("Stats", id=task.id)
    refused(UNKNOWN, lambda: task.client.call("Start", id=task.id))
    task.kill()
    assert task.client.call("Wait", id=task.id).exit_status == 137
    assert (contents(), errors()) == ("restores: 1\n", "")
    deleted = task.client.call("Delete", id=task.id)
    assert (deleted.pid, deleted.exit_status) == (pid, 137)
    former = ["create", "start", "checkpointed", "exit", "delete"]
    task.events.await_topics(task.id, [*former, "create", "start", "exit", "delete"])
    created = [event for topic, event in task.events.seen if topic == "/tasks/create"]
    assert [(event.checkpoint, bool(event.pid)) for event in created] == [("", True), (str(images), False)]


@pytest.mark.vm
@needs("criu")
def test_a_life_after_with_criu(
    program: Path, bundle: Bundle, scratch: Path, events: Events, token: str, request: pytest.FixtureRequest
) -> None:
    """With CRIU itself: the process counts on where it was, and writes to the streams of its second life."""
    task = prepared("own", program, bundle, scratch, events, token)
    request.addfinalizer(task.end)
    task.options = any_of(
        "containerd.runc.v1.Options", message_class("containerd.runc.v1.Options")(root=str(scratch / "states"))
    )
    task.begin(task.options)
    images, count = scratch / "images", task.bundle.rootfs / "count"
    first, second = reader(scratch / "first"), reader(scratch / "second")
    task.run(COUNT, stdout=str(scratch / "first"))
    eventually(lambda: count.exists() and int(count.read_text()) > 2, 20, "a count")
    save(task, images, exit=True)
    assert task.client.call("Wait", id=task.id).exit_status == 137
    task.client.call("Delete", id=task.id)
    assert first() == "began\n"
    before = int(count.read_text())
    task.create(checkpoint=str(images), stdout=str(scratch / "second"))
    pid = task.client.call("Start", id=task.id).pid
    eventually(lambda: int(count.read_text()) > before + 2, 20, f"the counter to pass {before}")
    assert task.state() == RUNNING and task.client.call("Connect", id=task.id).task_pid == pid
    (task.bundle.rootfs / "stop").touch()
    assert task.client.call("Wait", id=task.id).exit_status == 7
    task.client.call("Delete", id=task.id)
    assert second() == "ended\n"


@pytest.mark.parametrize("end", ["deleted", "abandoned", "killed"])
def test_a_restore_that_never_comes(task: Task, scratch: Path, end: str) -> None:
    """It is deleted as what was never started, also by containerd's cleaning up, and after the end of its shim."""
    (scratch / "images").mkdir()
    task.bundle.write()
    task.create(checkpoint=str(scratch / "images"))
    if end == "abandoned":
        task.shim.delete()
        assert task.state() == STOPPED
    if end == "killed":
        os.kill(task.client.call("Connect", id=task.id).shim_pid, signal.SIGKILL)
        with pytest.raises(Lost):
            task.state()
        Path(task.shim.address.removeprefix("unix://")).unlink(missing_ok=True)
    else:
        assert task.client.call("Delete", id=task.id).pid == 0
        refused(NOT_FOUND, task.state)


def test_a_restore_that_fails(task: Task, scratch: Path) -> None:
    """Says why, and can be tried again; the streams are no longer held open meanwhile."""
    contents, errors = reader(scratch / "out"), reader(scratch / "err")
    task.bundle.write()
    task.create(checkpoint=str(scratch / "none"), stdout=str(scratch / "out"), stderr=str(scratch / "err"))
    for _ in range(2):
        text = refused(UNKNOWN, lambda: task.client.call("Start", id=task.id))
        assert text == f"OCI runtime restore failed: open {scratch}/none: no such file or directory"
        assert task.state() == CREATED
    task.client.call("Delete", id=task.id)
    assert (contents(), errors()) == ("", "")
