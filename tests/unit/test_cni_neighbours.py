"""Ports of the host that other containers of the plugin cni have, as their notes say."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gosudacon.api import Context, Error, Host, Spec
from gosudacon.plugins.cni.neighbours import published
from gosudacon.plugins.cni.steps import WriteNote

PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}


class Neighbours:
    """State directories of containers, and a context of one named web."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.context = Context(Spec({}, "web", "/b"), Host())
        (root / "web").mkdir(mode=0o700)
        self.context.state_dir = os.open(root / "web", os.O_RDONLY)

    def note(self, id: str, *attachments: Any, form: int = 1) -> None:
        (self.root / id).mkdir()
        header = {"form": form, "id": id, "attachments": [{"runtime": each} for each in attachments]}
        (self.root / id / "cni.note").write_text(json.dumps(header) + "\n")

    def step(self, *ports: str) -> WriteNote:
        attachment: Any = {"name": "t", "file": "/t", "interface": "eth0", "version": "1.0.0", "versions": []}
        attachment |= {"plugins": [PORTMAP], "runtime": {}}
        return WriteNote(
            container="gsd1",
            bin_dirs=[],
            timeout=1,
            args={},
            attachments=[attachment],
            ports=[*ports],
            publishes=0,
        )


@pytest.fixture
def neighbours(tmp_path: Path) -> Iterator[Neighbours]:
    (tmp_path / "root").mkdir()
    value = Neighbours(tmp_path / "root")
    yield value
    os.close(value.context.state_dir)


def mapped(*ports: tuple[int, int], **more: str) -> dict[str, Any]:
    return {"portMappings": [{"hostPort": host, "containerPort": to, "protocol": "tcp", **more} for host, to in ports]}


def test_a_port_that_another_container_has(neighbours: Neighbours) -> None:
    neighbours.note("first", {}, mapped((40080, 80), (40081, 81)))
    for wanted in ("40080:80", "127.0.0.1:40081:9", "40079-40080:1-2"):
        with pytest.raises(Error) as error:
            neighbours.step(wanted).run(neighbours.context)
        assert "cannot be published: container first has published 4008" in error.value.message
        assert not (neighbours.root / "web" / "cni.note").exists()
    neighbours.step("40080:80/udp", "40082:80").run(neighbours.context)
    assert neighbours.context.ports == ["40080:80/udp", "40082:80/tcp"]


def test_a_port_that_another_container_has_at_one_address(neighbours: Neighbours) -> None:
    neighbours.note("first", mapped((40080, 80), hostIP="127.0.0.1"))
    with pytest.raises(Error, match=r"container first has published 127\.0\.0\.1:40080:80/tcp"):
        neighbours.step("40080:80").run(neighbours.context)
    neighbours.step("127.0.0.2:40080:80").run(neighbours.context)


def test_what_is_no_note_of_a_neighbour(neighbours: Neighbours) -> None:
    """Other directories, files, links, notes of other versions and such as were cut say nothing."""
    root = neighbours.root
    neighbours.note("other", mapped((40080, 80)), form=2)
    neighbours.note("cut")
    (root / "cut" / "cni.note").write_text('{"form": 1, "attach')
    (root / "none").mkdir()
    (root / "file").write_text("")
    neighbours.note("elsewhere", {})
    (root / "link").symlink_to(root / "elsewhere")
    neighbours.step("40080:80").run(neighbours.context)
    assert neighbours.context.ports == ["40080:80/tcp"]


def test_ports_are_taken_one_container_at_a_time(neighbours: Neighbours) -> None:
    """A container holds a lock from reading the notes of the others until its own note is written."""
    with published(neighbours.context):
        fd = os.open(neighbours.root, os.O_RDONLY)
        try:
            with pytest.raises(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(fd)
