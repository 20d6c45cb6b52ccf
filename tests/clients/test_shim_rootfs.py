"""Root filesystems that containerd asks a shim for: mounts of each kind, and what is left of them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("google.protobuf", "6.30", reason="needs protobuf")

from tests.clients.test_shim_alone import Task, events, prepared, refused
from tests.clients.ttrpc_client import UNKNOWN, Events, reader
from tests.support.bundle import Bundle
from tests.support.needs import needs

__all__ = ["events"]  # fixtures

pytestmark = needs("root", "busybox", "program:containerd")
FIRST = 100_000
MAP = [f"{kind}map=0:{FIRST}:65536" for kind in ("uid", "gid")]


@pytest.fixture
def task(program: Path, bundle: Bundle, scratch: Path, events: Events, token: str) -> Iterator[Task]:
    """A shim that has started for a bundle with an empty root filesystem; what was in it is in ``image``."""
    task = prepared("own", program, bundle, scratch, events, token)
    bundle.rootfs.rename(scratch / "image")
    bundle.rootfs.mkdir()
    task.begin(task.options)
    yield task
    task.end()
    assert not os.path.ismount(bundle.path / "rootfs")
    assert not list((bundle.path / "rootfs").iterdir())


def output(task: Task, scratch: Path, script: str, *mounts: dict[str, Any]) -> str:
    """What a container with these mounts writes."""
    contents, errors = reader(scratch / "out"), reader(scratch / "err")
    task.run(script, rootfs=mounts, stdout=str(scratch / "out"), stderr=str(scratch / "err"))
    status = task.client.call("Wait", id=task.id).exit_status
    text = contents()
    assert (status, errors()) == (0, "")
    task.client.call("Delete", id=task.id)
    return text


def overlay(scratch: Path, *options: str, layers: int = 1) -> dict[str, Any]:
    """An overlay on the image, with so many empty layers more."""
    names = []
    for number in range(layers - 1):
        names.append(scratch / f"layers/{number}/fs")
        names[-1].mkdir(parents=True)
        (names[-1] / f"file{number}").touch()
    for name in ("upper", "work"):
        (scratch / name).mkdir()
    lower = ":".join(map(str, [*names, scratch / "image"]))
    places = [f"lowerdir={lower}", f"upperdir={scratch}/upper", f"workdir={scratch}/work"]
    return {"type": "overlay", "source": "overlay", "options": [*places, *options]}


def test_a_bind_mount(task: Task, scratch: Path) -> None:
    mount = {"type": "bind", "source": str(scratch / "image"), "options": ["rbind", "ro"]}
    assert output(task, scratch, "touch /x 2>&1; echo $?", mount).splitlines()[-1] == "1"


def test_an_overlay(task: Task, scratch: Path) -> None:
    assert output(task, scratch, "echo x >/x; cat /x", overlay(scratch)) == "x\n"
    assert (scratch / "upper/x").read_text() == "x\n"


def test_many_layers(task: Task, scratch: Path) -> None:
    """More than their full names may have room for."""
    assert output(task, scratch, "ls -d /file* | wc -l", overlay(scratch, layers=110)).strip() == "109"


@needs("program:mkfs.ext4", "loop")
def test_a_loop_device(task: Task, scratch: Path) -> None:
    """An image in a file, whose device is free again afterwards."""
    image = scratch / "disk"
    with image.open("wb") as file:
        file.truncate(32 << 20)
    words: list[str | Path] = ["mkfs.ext4", "-q", "-d", scratch / "image", image]
    subprocess.run(words, check=True)
    mount = {"type": "ext4", "source": str(image), "options": ["loop", "rw"]}
    assert output(task, scratch, "echo x >/x; cat /x; grep -c ' / ext4' /proc/mounts", mount) == "x\n1\n"
    names = [path.read_text().strip() for path in Path("/sys/block").glob("loop*/loop/backing_file")]
    assert str(image) not in names


@needs("idmapped-mounts")
def test_a_bind_mount_with_a_map(task: Task, scratch: Path) -> None:
    """The owner on disk is the container's, who is another one on the host."""
    task.bundle.map_users(FIRST)
    (scratch / "image/own").touch()
    mount = {"type": "bind", "source": str(scratch / "image"), "options": ["rbind", "rw", *MAP]}
    assert output(task, scratch, "touch /new; stat -c %u:%g /own /new", mount).split() == ["0:0", "0:0"]
    status = (scratch / "image/new").stat()
    assert (status.st_uid, status.st_gid) == (0, 0)


@needs("idmapped-mounts", "kernel>=5.19")
@pytest.mark.parametrize("layers", [1, 110])
def test_an_overlay_with_a_map(task: Task, scratch: Path, layers: int) -> None:
    """Of the layers; what is new belongs to the user on the host."""
    task.bundle.map_users(FIRST)
    (scratch / "image/own").touch()
    mount = overlay(scratch, *MAP, layers=layers)
    for name in ("upper", "work"):
        os.chown(scratch / name, FIRST, FIRST)
    assert output(task, scratch, "touch /new; stat -c %u:%g /own /new", mount).split() == ["0:0", "0:0"]
    status = (scratch / "upper/new").stat()
    assert (status.st_uid, status.st_gid) == (FIRST, FIRST)
    assert not (scratch / "upper/own").exists()


def failing(scratch: Path) -> dict[str, dict[str, Any]]:
    good = {"type": "bind", "source": str(scratch / "image"), "options": ["rbind"]}
    return {
        "wrong map": {**good, "options": ["rbind", "uidmap=0:1"]},
        "too many": {**good, "options": ["rbind", "uidmap=0:1:4294967295", "gidmap=5:6:4294967295"]},
        "no source": {**good, "source": str(scratch / "none")},
        "no layer": {"type": "overlay", "source": "overlay", "options": [f"lowerdir={scratch}/none"]},
        "no layer with a map": {"type": "overlay", "source": "overlay", "options": [f"lowerdir={scratch}/none", *MAP]},
        "no image": {"type": "ext4", "source": str(scratch / "none"), "options": ["loop"]},
        "no filesystem": {"type": "none-such", "source": "x", "options": []},
        "outside": {**good, "target": "../../x"},
        "not for us": {**good, "options": ["rbind", "X-containerd.mkdir"]},
    }


@pytest.mark.parametrize("case", list(failing(Path())))
def test_a_mount_that_fails(task: Task, scratch: Path, case: str) -> None:
    """Says why, and takes with it the one that was made before."""
    good = {"type": "bind", "source": str(scratch / "image"), "options": ["rbind"]}
    task.bundle.write()
    text = refused(UNKNOWN, lambda: task.create(rootfs=[good, failing(scratch)[case]]))
    assert text.startswith("OCI runtime create failed: ") and len(text) > 40
    assert not os.path.ismount(task.bundle.path / "rootfs")
