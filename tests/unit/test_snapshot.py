"""The snapshot of the registry: used while it is fresh and trusted, looked past otherwise; the result never differs."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gosudacon.api import ConfigError, Host, Spec
from gosudacon.base import layout
from gosudacon.container.create import compile_plan
from gosudacon.pipeline import explain, order, snapshot
from gosudacon.pipeline.registry import registry

PLUGIN = """
from gosudacon.api import MOUNT, Stage, Step, hookimpl

class Extra(Stage):
    name = "extra"
    after = ("namespaces",)

    def plan(self, spec, host):
        return []

@hookimpl
def gosudacon_stages():
    return [Extra()]

@hookimpl
def gosudacon_amend_plan(plan):
    plan.amended.append("seen")
"""
CONFIG = 'plugins = ["extra"]\ndisable = ["hooks"]\n[stage.extra]\nnumber = 7\nlist = [1, "two", {three = 3.5}]\n'


class World:
    """A configuration with one plugin, and where its snapshot goes. ``discoveries`` counts the ways through pluggy."""

    def __init__(self, tmp_path: Path) -> None:
        self.config = tmp_path / "config.toml"
        self.config.write_text(CONFIG)
        self.cache = tmp_path / "cache"
        self.site = tmp_path / "site"
        self.module = self.site / "gt_snapshot.py"
        self.discoveries = 0
        self.site.mkdir()
        self.module.write_text(PLUGIN)
        info = self.site / "gt_snapshot-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gt_snapshot\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[gosudacon]\nextra = gt_snapshot\n")

    def look(self, use_snapshot: bool = True) -> order.Found:
        """The registry's data, as a new process would see it."""
        sys.modules.pop("gt_snapshot", None)
        return registry(str(self.config), use_snapshot).data

    @property
    def file(self) -> Path:
        (path,) = self.cache.iterdir()
        return path


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    value = World(tmp_path)
    monkeypatch.setattr(layout, "CACHE", str(value.cache))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))  # where it is for others than root
    if os.geteuid() != 0:
        value.cache = tmp_path / "gosudacon-cache"
    monkeypatch.syspath_prepend(str(value.site))
    from gosudacon.pipeline import discovery

    discover = discovery.discover

    def counted(*arguments: Any, **keywords: Any) -> Any:
        value.discoveries += 1
        return discover(*arguments, **keywords)

    monkeypatch.setattr(discovery, "discover", counted)
    yield value
    sys.modules.pop("gt_snapshot", None)


def test_second_look(world: World) -> None:
    """The second look needs no discovery and sees the same."""
    first = world.look()
    assert world.discoveries == 1
    assert world.look() == first
    assert world.discoveries == 1
    assert world.look(use_snapshot=False) == first
    assert world.discoveries == 2
    assert "extra" in [each["name"] for each in first["stages"]]
    assert first["hooks"]["gosudacon_amend_plan"] == [["extra", "gt_snapshot", "gosudacon_amend_plan", ["plan"]]]


def test_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process keeps needs no file any more, and is looked past as soon as it is stale."""
    monkeypatch.setattr(snapshot, "_kept", [])
    snapshot.keep(str(world.config))
    first = world.look()  # there was nothing to keep
    snapshot.keep(str(world.config))
    world.file.unlink()
    assert (world.look(), world.discoveries) == (first, 1)
    world.config.write_text('plugins = ["extra"]\n')
    assert world.look()["stages"] != first["stages"]
    assert world.discoveries == 2


def test_types(world: World) -> None:
    """What is loaded is of the very types that are found."""
    assert repr(world.look()) == repr(world.look()) == repr(world.look(use_snapshot=False))


def test_without_a_snapshot_none_is_written(world: World) -> None:
    world.look(use_snapshot=False)
    assert not world.cache.exists()


def test_owner_and_mode(world: World) -> None:
    """It belongs to the caller and no other user can write to it."""
    before = os.umask(0)
    try:
        world.look()
    finally:
        os.umask(before)
    assert world.cache.stat().st_mode & 0o777 == 0o755
    assert world.file.stat().st_mode & 0o777 == 0o644
    assert world.file.stat().st_uid == os.geteuid()


def later(path: Path) -> None:
    """Change a file's time and nothing else."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def rewrite(path: Path) -> None:
    """Another file with the same content, size and time."""
    status = path.stat()
    copy = path.with_name("copy")
    shutil.copy2(path, copy)
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
    copy.rename(path)


def put_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def edit_saved(change: Callable[[Any], Any]) -> Callable[[World, pytest.MonkeyPatch], None]:
    def edit(world: World, _: pytest.MonkeyPatch) -> None:
        saved = json.loads(world.file.read_text())
        world.file.write_text(json.dumps(change(saved)))

    return edit


def other_package(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package's own folder changed: a module was added, or pip installed another build."""
    stamp = snapshot._stamp

    def changed(path: str) -> list[int] | None:
        found = stamp(path)
        return [found[0] + 1, *found[1:]] if found and path == snapshot._PACKAGE else found

    monkeypatch.setattr(snapshot, "_stamp", changed)


STALE: dict[str, Callable[[World, pytest.MonkeyPatch], object]] = {
    "our version": lambda _, patch: patch.setattr(snapshot, "__version__", "99.0"),
    "Python's version": lambda _, patch: patch.setattr(sys, "version", sys.version + "+"),
    "our package": other_package,
    "config.toml's content": lambda world, _: world.config.write_text(CONFIG + "# more\n"),
    "config.toml's time": lambda world, _: later(world.config),
    "config.toml, another file of the same size and time": lambda world, _: rewrite(world.config),
    "the plugin's module": lambda world, _: world.module.write_text(PLUGIN + "# more\n"),
    "the plugin's module's time": lambda world, _: later(world.module),
    "another package beside the plugin's": lambda world, _: (world.site / "other-1.0.dist-info").mkdir(),
}
NOT_TO_BE_TRUSTED: dict[str, Callable[[World, pytest.MonkeyPatch], object]] = {
    "writable by its group": lambda world, _: world.file.chmod(0o664),
    "writable by all": lambda world, _: world.file.chmod(0o646),
    "empty": lambda world, _: world.file.write_bytes(b""),
    "cut off": lambda world, _: os.truncate(world.file, world.file.stat().st_size // 2),
    "no text": lambda world, _: world.file.write_bytes(b"\xff\x00\xfe"),
    "no object": edit_saved(lambda saved: [saved]),
    "null": edit_saved(lambda saved: None),
    "without a key": edit_saved(lambda saved: {"data": saved["data"], "files": {}}),
    "with another key": edit_saved(lambda saved: {**saved, "key": saved["key"][:-1]}),
    "without files": edit_saved(lambda saved: {"key": saved["key"], "data": saved["data"]}),
    "with files that are none": edit_saved(lambda saved: {**saved, "files": ["/"]}),
    "without data": edit_saved(lambda saved: {"key": saved["key"], "files": saved["files"]}),
    "gone": lambda world, _: world.file.unlink(),
    "a link": lambda world, _: world.file.symlink_to(world.file.rename(world.cache.parent / "elsewhere")),
    "a named pipe": lambda world, _: put_pipe(world.file),
}


@pytest.mark.parametrize("change", [*STALE, *NOT_TO_BE_TRUSTED])
def test_it_is_looked_past_and_a_new_one_is_written(world: World, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    first = world.look()
    {**STALE, **NOT_TO_BE_TRUSTED}[change](world, monkeypatch)
    assert world.look() == first
    assert world.discoveries == 2
    assert world.look() == first
    assert world.discoveries == 2, "the new snapshot is not used"
    assert world.file.is_file()
    assert not world.file.is_symlink()


@pytest.mark.needs("root")
def test_that_of_another_user_is_ignored_and_replaced(world: World) -> None:
    first = world.look()
    os.chown(world.file, 1000, 1000)
    assert world.look() == first
    assert (world.discoveries, world.file.stat().st_uid) == (2, 0)


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757])
def test_writable_directory(world: World, mode: int) -> None:
    """In a directory that others can write to none is kept."""
    world.cache.mkdir()
    world.cache.chmod(mode)
    first = world.look()
    assert world.look() == first
    assert world.discoveries == 2
    assert list(world.cache.iterdir()) == []


def test_unwritable_directory(world: World) -> None:
    """Where none can be written every look is a discovery."""
    world.cache.write_text("a file where the directory should be")
    assert world.look() == world.look()
    assert world.discoveries == 2


def test_what_a_killed_process_left_hinders_no_other(world: World) -> None:
    first = world.look()
    left = world.file.with_name(f"{world.file.name}.{os.getpid()}")
    left.write_text("half of")
    later(world.config)
    assert world.look() == first == world.look()
    assert world.discoveries == 2
    assert not left.exists()


def test_what_is_of_no_use_any_more_is_removed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The snapshots of packages and configurations that are gone, damaged ones, and those half written."""
    world.look()
    kept = world.file
    text = kept.read_text()
    for name, content in {
        "stages-00000001.json": "",
        "stages-00000002.json": text[: len(text) // 2],
        "stages-00000003.json": text.replace(json.dumps(snapshot._PACKAGE), '"/none/gosudacon"', 1),
        "stages-00000004.json": text.replace(json.dumps(str(world.config)), '"/none/config.toml"', 1),
        "stages-00000005.json.999999999": "half of",
        f"stages-00000006.json.{os.getppid()}": "being written",
        "stages-00000007.json": text,
        "other": "not ours",
    }.items():
        (world.cache / name).write_text(content)
    later(world.config)
    world.look()
    left = {path.name for path in world.cache.iterdir()}
    assert left == {kept.name, f"stages-00000006.json.{os.getppid()}", "stages-00000007.json", "other"}


def test_each_configuration_file_has_its_own(world: World) -> None:
    first = world.look()
    other = world.config.with_name("other.toml")
    other.write_text('disable = ["seccomp"]')
    found = registry(str(other)).data
    assert world.discoveries == 2
    assert len(list(world.cache.iterdir())) == 2
    assert world.look() == first
    assert registry(str(other)).data == found
    assert world.discoveries == 2
    assert "seccomp" not in [each["name"] for each in found["stages"]]


def test_an_error_is_not_kept(world: World) -> None:
    from gosudacon.base.errors import Error

    shutil.move(world.module, world.site / "away")
    for _ in range(2):
        with pytest.raises(Error):
            world.look()
    assert not world.cache.exists()
    shutil.move(world.site / "away", world.module)
    assert "extra" in [each["name"] for each in world.look()["stages"]]


CORPUS = sorted((Path(__file__).parent / "schema_corpus").glob("config-*.json"))
HOSTS = {
    "hybrid": Host(
        cgroup_mode="hybrid",
        cgroup_mounts={"": "/sys/fs/cgroup/unified", "memory": "/sys/fs/cgroup/memory", "cpu": "/sys/fs/cgroup/cpu"},
        own_cgroups={"": "/", "memory": "/", "cpu": "/"},
    ),
    "v2": Host(apparmor=True, selinux=True),
    "a user's": Host(euid=1000),
}


def explained(config: Any, host: Host, path: str, use_snapshot: bool) -> str:
    """What `explain --format json` prints for a configuration, or why it refuses."""
    sys.modules.pop("gt_snapshot", None)
    spec = Spec(config, "x", "/b", None, json.dumps(config).encode())
    try:
        plan, _ = compile_plan(spec, host, path, use_snapshot)
    except ConfigError as error:
        return repr((error.record(), error.problems))
    return explain.as_json(plan, spec, host)


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_plans_are_the_same_with_and_without(world: World, path: Path, host: str) -> None:
    config = json.loads(path.read_text())
    found = [explained(config, HOSTS[host], str(world.config), use) for use in (False, True, True, False)]
    assert world.discoveries == 3, "the third look should have used the snapshot"
    assert found[0] == found[1] == found[2] == found[3]


def test_most_of_the_corpus_has_a_plan(world: World) -> None:
    found = [explained(json.loads(path.read_text()), HOSTS["v2"], str(world.config), True) for path in CORPUS]
    assert sum('"amended":' in text and '"seen"' in text for text in found) > len(found) / 2
