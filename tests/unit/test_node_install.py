"""Passes of the installer over a node that is a directory: what changes, what does not, and what comes back."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from gosudacon.base import layout
from gosudacon.base.errors import Error
from gosudacon.node import engines, install, places, remove, versions
from gosudacon.node.files import Node, Record
from gosudacon.node.install import Image, Installation, Outcome, check

MAIN = "/etc/containerd/config.toml"
ENGINE = engines.of("containerd://1.7.24")
STATE = "/run/containerd/gosudacon/0123456789abcdef/k8s.io/some-container"


class World:
    """A node, an image, and fakes that note how programs are called."""

    def __init__(self, home: Path) -> None:
        self.node = Node(str(home / "node"))
        self.home = home
        self.restarts: list[str] = []
        self.checks: list[tuple[str, str]] = []
        self.breaks: Callable[[], bool] = lambda: False
        for name in ("opt", "etc/containerd", "proc/7", "run"):
            (home / "node" / name).mkdir(parents=True)
        self.write(MAIN, "version = 2\n")

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def restart(self, unit: str) -> None:
        """The service manager's."""
        self.restarts.append(unit)
        if self.breaks():
            raise Error(f"systemd could not restart {unit}: the job ended as 'failed'")

    def check(self, program: Path, path: str) -> str:
        """A configuration with the word ``bad`` is, and one with ``old`` for later versions than 1."""
        text = self.node.read(path) or ""
        self.checks.append((program.name, text))
        return f"{path}: bad" if "bad" in text or ("old" in text and program.name != "1") else ""

    def install(self, name: str = "1", fleet: str | None = None) -> Outcome:
        """A pass with the image of this version."""
        return Installation(self.node, ENGINE, self.image(name), fleet, self.check, lambda: self).run()

    def image(self, name: str) -> Image:
        """That of a version, made when first wanted."""
        source = self.home / f"image-{name}"
        if not source.exists():
            (source / "bin").mkdir(parents=True)
            (source / "bin" / places.SHIM).write_text(name)
        return Image(name, source)

    def remove(self) -> Outcome:
        """A pass of the removal."""
        return remove.run(self.node, ENGINE, lambda: self)

    def write(self, name: str, text: str) -> None:
        """A file of the node's."""
        self.node.path(name).parent.mkdir(parents=True, exist_ok=True)
        self.node.path(name).write_text(text)

    def files(self) -> dict[str, str]:
        """All files and links, and empty directories."""
        paths = [path for path in self.node.root.rglob("*") if not path.is_dir() or not any(path.iterdir())]
        return {str(path.relative_to(self.node.root)): path.read_text() if path.is_file() else "" for path in paths}

    def versions(self) -> list[str]:
        """Those on the node."""
        return sorted(path.name for path in (self.node.prefix / places.VERSIONS).iterdir())


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A node with a containerd that has no runtime of ours."""
    return World(tmp_path)


def test_there_and_back(world: World) -> None:
    before = world.files()
    outcome = world.install(fleet="a")
    assert (outcome.come, outcome.trouble, world.restarts) == (True, [], ["containerd.service"])
    assert "gosudacon" in str(world.node.read(MAIN))
    assert world.node.read(places.CONFIG) == "a"
    assert world.node.path(f"{places.PREFIX}/current/bin/{places.SHIM}").read_text() == "1"
    assert len(outcome.done) == 3
    again = world.files()
    for _ in range(2):
        assert world.install(fleet="a") == Outcome(come=True)
    assert world.files() == again
    assert world.remove().waits == []
    assert world.files() == before
    assert world.restarts == ["containerd.service"] * 2
    assert world.remove() == Outcome()


def test_a_node_without_opt_and_its_own_configuration(world: World) -> None:
    world.node.path("/opt").rmdir()
    world.write(places.CONFIG, "its own")
    before = world.files()
    world.install(fleet="a")
    assert world.node.read(places.CONFIG) == "a"
    world.remove()
    assert world.files() == before


def test_what_the_fleet_does_not_say_is_the_nodes(world: World) -> None:
    world.write(places.CONFIG, "its own")
    assert world.install().come
    assert world.node.read(places.CONFIG) == "its own"
    world.install(fleet="a")
    assert world.install().done == [f"{places.CONFIG} is the node's"]
    assert world.node.read(places.CONFIG) == "its own"


def test_a_bad_configuration_leaves_the_former_one(world: World) -> None:
    world.install(fleet="a")
    for _ in range(2):
        outcome = world.install(fleet="bad")
        assert (outcome.come, outcome.done) == (True, [])
        assert outcome.trouble == ["configuration refused: config.toml: bad"]
    assert world.node.read(places.CONFIG) == "a"
    assert world.checks == [("1", "a"), ("1", "bad")]  # not checked anew in every pass
    assert world.install(fleet="b") == Outcome(come=True, done=[f"{places.CONFIG} is the fleet's"])
    assert world.node.read(places.CONFIG) == "b"
    assert world.restarts == ["containerd.service"]


def test_no_pods_before_the_fleets_rules_hold(world: World) -> None:
    """A node that never had them gets neither the program nor the handler."""
    outcome = world.install(fleet="bad")
    assert (outcome.come, world.restarts) == (False, [])
    assert world.node.read(MAIN) == "version = 2\n"
    assert versions.current(world.node) == ""
    assert world.install(fleet="a").come


def test_an_upgrade(world: World) -> None:
    """Engines call the new version; the old one goes when nothing runs from it, and its template may end."""
    world.install("1")
    build = f"{places.PREFIX}/versions/1/lib/gosudacon/gosudacon.cpython-311.x"
    world.node.path("/proc/7/cmdline").write_bytes(f"gosudacon-shim-template\0{build}\0".encode())
    assert world.install("2").done == ["version 2 in place of 1"]
    assert os.readlink(world.node.prefix / "current") == "versions/2"
    assert not (world.node.prefix / "versions/1/bin" / places.SHIM).exists()
    assert world.install("2") == Outcome(come=True)
    assert world.versions() == ["1", "2"]
    world.node.path("/proc/7/cmdline").write_bytes(b"other\0")
    assert world.install("2").done == ["removed version 1, which nothing runs from any more"]
    assert world.versions() == ["2"]
    assert world.restarts == ["containerd.service"]


def test_the_way_back_to_a_version_that_is_still_there(world: World) -> None:
    world.install("1")
    world.install("2")
    world.install("1")
    assert (world.node.prefix / "current/bin" / places.SHIM).read_text() == "1"


def test_an_upgrade_that_cannot_use_what_is_configured(world: World) -> None:
    """The old version stays the one that is called, with its configuration."""
    world.install("1", "old")
    outcome = world.install("2", "old")
    assert outcome.come
    assert outcome.trouble == ["configuration refused: config.toml: bad"]
    assert versions.current(world.node) == "1"
    assert (world.node.prefix / "current/bin" / places.SHIM).exists()
    assert world.install("2", "new").done == [f"{places.CONFIG} is the fleet's", "version 2 in place of 1"]


def test_an_upgrade_with_a_bad_configuration(world: World) -> None:
    """The new version is put in place if it can use the former one."""
    world.install("1", "a")
    outcome = world.install("2", "bad")
    assert outcome.done == ["version 2 in place of 1"]
    assert world.node.read(places.CONFIG) == "a"
    world.install("1", "old")
    assert world.install("2", "bad").done == []
    assert versions.current(world.node) == "1"


def test_a_copy_that_was_cut_off(world: World) -> None:
    draft = world.node.prefix / "versions/.draft-1"
    draft.mkdir(parents=True)
    (draft / "half").write_text("")
    assert world.install().come
    assert world.versions() == ["1"]
    assert not (world.node.prefix / "versions/1/half").exists()


def test_an_engine_that_does_not_come_up(world: World) -> None:
    """It has its former configuration again, is not tried again with the same, and pods do not come."""
    world.breaks = lambda: "gosudacon" in str(world.node.read(MAIN))
    with pytest.raises(Error, match=r"could not restart containerd\.service.*; its former configuration is back"):
        world.install()
    assert world.node.read(MAIN) == "version = 2\n"
    assert len(world.restarts) == 2
    with pytest.raises(Error, match="did not start with the runtime in its configuration"):
        world.install()
    assert len(world.restarts) == 2
    world.breaks = lambda: False
    world.write(MAIN, "version = 2\n# mended\n")
    assert world.install().come
    assert len(world.restarts) == 3


def test_an_engine_that_does_not_come_up_with_its_former_configuration_either(world: World) -> None:
    """It is not left down: the next pass tries again to restart it with that."""
    world.breaks = lambda: True
    with pytest.raises(Error, match=r"could not restart containerd\.service"):
        world.install()
    assert world.node.read(MAIN) == "version = 2\n"
    with pytest.raises(Error, match=r"could not restart containerd\.service"):
        world.install()
    assert len(world.restarts) == 3
    world.breaks = lambda: False
    for _ in range(2):
        with pytest.raises(Error, match="did not start with the runtime in its configuration"):
            world.install()
    assert len(world.restarts) == 4
    assert world.node.read(MAIN) == "version = 2\n"


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], Path]:
    """``program(script)``: a version whose interpreter is this shell script."""

    def make(script: str) -> Path:
        (tmp_path / "lib/gosudacon/gosudacon.x/packages").mkdir(parents=True)
        python = tmp_path / places.PYTHON / "bin/python3.11"
        python.parent.mkdir(parents=True)
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("exit 0", ""),
        ("echo no; exit 1", "no"),
        ("printf 'a\\nb\\n' >&2; exit 1", "b"),
        ("exit 1", "it cannot be checked"),
    ],
)
def test_what_a_check_says(program: Callable[[str], Path], script: str, found: str) -> None:
    assert check(program(script), "/none") == found


@pytest.mark.parametrize(("script", "message"), [("kill -KILL $$", "signal 9"), ("exec sleep 10", "longer than 0 sec")])
def test_a_check_that_comes_to_no_end_refuses_nothing(
    program: Callable[[str], Path], script: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be noted as wrong, and not be checked again."""
    monkeypatch.setattr(install, "_PATIENCE", 0.3)
    with pytest.raises(Error, match=f"the check of the configuration .*{message}"):
        check(program(script), "/none")


def test_a_template_that_accepts_no_connection_holds_nothing_up(world: World, tmp_path: Path) -> None:
    world.install("1")
    folder = world.node.path(layout.TEMPLATES)
    folder.mkdir(parents=True)
    address = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as template, socket.socket(socket.AF_UNIX) as before:
        template.bind(address)
        template.listen(0)
        before.connect(address)  # the backlog is full
        os.link(address, folder / "s")
        assert world.install("2").come


def test_an_installer_that_was_killed_before_the_restart(world: World) -> None:
    """The engine's files are as wanted, but it has not read them."""

    class Killed(Exception):
        pass

    def kill() -> bool:
        raise Killed

    world.breaks = kill
    with pytest.raises(Killed):
        world.install()
    world.breaks = lambda: False
    assert world.install().done == ["restarted containerd.service, which has read /etc/containerd/config.toml"]


def test_no_service_manager_no_change(world: World) -> None:
    before = world.node.read(MAIN)

    def refuse() -> World:
        raise Error("cannot talk to systemd")

    given = Installation(world.node, ENGINE, world.image("1"), None, world.check, refuse)
    with pytest.raises(Error, match="cannot talk to systemd"):
        given.run()
    assert world.node.read(MAIN) == before


def test_a_node_that_is_not_fit_gets_nothing(world: World) -> None:
    world.write(MAIN, "version = 9\n")
    with pytest.raises(Error, match="version 9"):
        world.install()
    assert not world.versions() if (world.node.prefix / places.VERSIONS).exists() else True


def test_removal_waits_for_containers(world: World) -> None:
    world.install(fleet="a")
    world.node.path(STATE).mkdir(parents=True)
    before = world.files()
    assert world.remove().waits == ["container some-container"]
    assert world.files() == before
    world.node.path(STATE).rmdir()
    assert world.remove().waits == []
    assert not world.node.prefix.exists()
    assert not world.node.path("/run/containerd/gosudacon").exists()


def test_a_container_that_comes_while_the_engine_is_restarted(world: World) -> None:
    """The program stays for it."""
    world.install()

    def come() -> bool:
        world.node.path(STATE).mkdir(parents=True)
        return False

    world.breaks = come
    assert world.remove().waits == ["container some-container"]
    assert world.node.read(MAIN) == "version = 2\n"
    assert (world.node.prefix / "current/bin" / places.SHIM).exists()


def test_removal_waits_for_the_last_template(world: World) -> None:
    world.install()
    build = f"{places.PREFIX}/versions/1/lib/gosudacon/gosudacon.cpython-311.x"
    world.node.path("/proc/7/cmdline").write_bytes(f"gosudacon-shim-template\0{build}\0".encode())
    assert world.remove().waits == ["a process of the runtime that still runs"]
    assert (world.node.prefix / "versions/1").exists()
    world.node.path("/proc/7/cmdline").unlink()
    assert world.remove().waits == []
    assert not world.node.prefix.exists()
    assert world.restarts == ["containerd.service"] * 2


def test_a_record_that_is_damaged(world: World) -> None:
    world.install()
    (world.node.prefix / places.RECORD).write_text('{"files": [')
    with pytest.raises(Error, match=r"record\.json is damaged"):
        world.install()


def test_mode_and_owner_of_a_file_stay(world: World) -> None:
    path = world.node.path(MAIN)
    path.chmod(0o600)
    world.install()
    assert path.stat().st_mode & 0o7777 == 0o600
    Record.load(world.node).put({"/etc/new/file": "x"})
    assert world.node.path("/etc/new/file").stat().st_mode & 0o7777 == 0o644


class Killed(BaseException):
    """In the place of SIGKILL."""


class Killer:
    """From the ``at``-th change of the file system on, none is made any more: what a kill there leaves."""

    CALLS = ("replace", "rename", "mkdir", "unlink", "rmdir", "symlink")

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
        self.left = at
        for name in self.CALLS:
            monkeypatch.setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, function: Callable[..., None]) -> Callable[..., None]:
        def call(*args: object, **others: object) -> None:
            if self.left == 0:
                raise Killed
            self.left -= 1
            function(*args, **others)

        return call


def test_a_pass_that_is_killed_anywhere(tmp_path: Path) -> None:
    """The next one goes on; in the end the node is as without the kill, and as before after the removal."""

    def world_at(name: str) -> World:
        world = World(tmp_path / name)
        world.image("1")
        world.write(places.CONFIG, "its own")
        return world

    def killed(at: int, work: Callable[[], Outcome]) -> bool:
        with pytest.MonkeyPatch.context() as patch:
            Killer(patch, at)
            try:
                work()
            except Killed:
                return True
        return False

    model = world_at("model")
    before = model.files()
    model.install(fleet="a")
    after = model.files()
    at = 0
    while True:
        world = world_at(f"i{at}")
        was_killed = killed(at, lambda world=world: world.install(fleet="a"))  # type: ignore[misc]
        world.install(fleet="a")
        assert world.files() == after, at
        assert world.restarts[-1:] == ["containerd.service"], at
        if not was_killed:
            break
        at += 1
    assert at > 15
    removals = 0
    while True:
        was_killed = killed(removals, world.remove)
        world.remove()
        assert world.files() == before, removals
        if not was_killed:
            break
        removals += 1
        world.install(fleet="a")
        assert world.files() == after, removals
    assert removals > 10
