"""Files of the state directory that cannot be read: one line says so, none is hidden or orphaned for it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.bundle import Bundle
from tests.support.cgroups import hierarchies, mode
from tests.support.needs import needs
from tests.support.runtime import Completed, Runtime, messages

pytestmark = needs("runtime:gosudacon")

Damage = Callable[[Path], object]
RUNC = {
    "id": "@ID@",
    "init_process_pid": 4711,
    "init_process_start": 123456,
    "created": "2024-01-01T00:00:00Z",
    "config": {"version": "1.0.2-dev", "rootfs": "/srv/web/rootfs"},
    "cgroup_paths": {"": "/sys/fs/cgroup/web"},
}
COMMANDS = [
    ["state", "@ID@"],
    ["start", "@ID@"],
    ["kill", "@ID@", "TERM"],
    ["kill", "--all", "@ID@", "KILL"],
    ["delete", "@ID@"],
    ["ps", "@ID@"],
    ["events", "--stats", "@ID@"],
    ["update", "--pids-limit", "5", "@ID@"],
    ["exec", "@ID@", "true"],
    ["pause", "@ID@"],
    ["resume", "@ID@"],
    ["checkpoint", "@ID@"],
    ["explain", "@ID@"],
]


def changed(**members: Any) -> Damage:
    """Other values for members; None leaves one out."""

    def damage(path: Path) -> None:
        data = json.loads(path.read_text()) | members
        path.write_text(json.dumps({name: value for name, value in data.items() if value is not None}))

    return damage


def text(content: str) -> Damage:
    return lambda path: path.write_text(content)


def replaced(make: Damage) -> Damage:
    def damage(path: Path) -> None:
        path.unlink()
        make(path)

    return damage


def listening(path: Path) -> None:
    here = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{here}/{path.name}")
    os.close(here)


FILES: dict[str, Damage] = {
    "empty": text(""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "list": text("[1, 2]"),
    "null": text("null"),
    "not-utf-8": lambda path: path.write_bytes(b"\xff\xfe{}"),
    "nul": lambda path: path.write_bytes(b"\0" * 4096),
    "directory": replaced(lambda path: path.mkdir()),
    "symlink": replaced(lambda path: path.symlink_to("/etc/passwd")),
    "dangling": replaced(lambda path: path.symlink_to("/nonexistent")),
    "fifo": replaced(os.mkfifo),
    "socket": replaced(listening),
    "missing": replaced(lambda path: None),
}
STATES: dict[str, Damage] = FILES | {
    "object": text("{}"),
    "runc": text(json.dumps(RUNC)),
    "no-version": changed(version=None),
    "version-text": changed(version="1"),
    "version-true": changed(version=True),
    "version-0": changed(version=0),
    "no-pid": changed(pid=None),
    "pid-text": changed(pid="17"),
    "pid-negative": changed(pid=-1),
    "pid-huge": changed(pid=10**30),
    "pid-float": changed(pid=1.5),
    "no-lasting": changed(lasting=None),
    "started-object": changed(started={}),
    "annotations-list": changed(annotations=["x"]),
    "no-bundle": changed(bundle=None),
    "cgroups-list": changed(cgroups=["/x"]),
    "cgroups-number": changed(cgroups={"": 1}),
    "cgroups-relative": changed(cgroups={"": "x"}),
    "another-id": changed(id="another"),
}


def one_line(result: Completed, *words: str) -> None:
    """The command failed, with one record that has the words."""
    assert result.returncode != 0 and result.stdout == ""
    assert len(messages(result.stderr)) == 1 and "internal error" not in result.stderr, result.stderr
    for word in words:
        assert word in result.stderr


def listed(runtime: Runtime) -> tuple[dict[str, str], str]:
    """The statuses of all containers, and what was said of them."""
    result = runtime.call("list", "--format", "json")
    ids = [record["id"] for record in json.loads(result.stdout) or ()]
    assert runtime.call("list", "--quiet").stdout.split() == ids
    table = runtime.call("list").stdout.splitlines()[1:]
    assert [row.split()[0] for row in table] == ids
    return {record["id"]: record["status"] for record in json.loads(result.stdout) or ()}, result.stderr


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/exe").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]


def cgroups_of(directory: Path) -> list[Path]:
    return [Path(path) for path in json.loads((directory / "state.json").read_text())["cgroups"].values()]


def note(directory: Path) -> Path:
    (found,) = directory.glob("cgroups.*")
    return found


@pytest.fixture
def healthy(runtime: Runtime, make_bundle: Callable[..., Bundle]) -> Bundle:
    """A container that has nothing to do with the damage."""
    bundle = make_bundle(name="healthy")
    runtime.boot(bundle)
    return bundle


@pytest.mark.parametrize("name", [*FILES, "runc", "pid-text"])
def test_a_state_that_cannot_be_read(runtime: Runtime, healthy: Bundle, bundle: Bundle, name: str) -> None:
    pid = runtime.boot(bundle)
    directory = runtime.root / bundle.id
    cgroups = cgroups_of(directory)
    STATES[name](directory / "state.json")
    one_line(runtime.delete(bundle, check=False), f"cannot read the state of container {bundle.id}", "state.json")
    statuses, said = listed(runtime)
    assert statuses == {bundle.id: "unknown", healthy.id: "running"}
    assert f"load container {bundle.id}" in said and "level=warning" in said
    assert alive(pid)
    result = runtime.delete(bundle, "--force")
    assert "poststop hooks" in result.stderr
    assert not alive(pid) and not directory.exists() and not any(path.exists() for path in cgroups)
    assert listed(runtime) == ({healthy.id: "running"}, "")


def test_whatever_is_wrong_with_it(runtime: Runtime, bundle: Bundle) -> None:
    runtime.boot(bundle)
    state = runtime.root / bundle.id / "state.json"
    content = state.read_text()
    for name, damage in STATES.items():
        if name not in FILES:
            damage(state)
            one_line(runtime.call("state", bundle.id, check=False), "cannot read the state of container")
            assert json.loads(runtime.call("list", "--format", "json").stdout)[0]["status"] == "unknown", name
            state.write_text(content)
    assert runtime.status(bundle) == "running"


@pytest.mark.parametrize("name", ["empty", "fifo", "runc", "pid-text"])
def test_every_command_names_the_damage(runtime: Runtime, bundle: Bundle, name: str) -> None:
    pid = runtime.boot(bundle)
    STATES[name](runtime.root / bundle.id / "state.json")
    for command in COMMANDS:
        words = [word.replace("@ID@", bundle.id) for word in command]
        one_line(runtime.call(*words, check=False), f"cannot read the state of container {bundle.id}", "state.json")
    assert alive(pid)
    runtime.delete(bundle, "--force")


@pytest.mark.parametrize("damage", FILES.values(), ids=FILES)
@pytest.mark.parametrize("before", [False, True], ids=["made", "there-before"])
def test_no_note_left(runtime: Runtime, bundle: Bundle, damage: Damage, before: bool) -> None:
    """Where no note is left either the container is kept."""
    for hierarchy in hierarchies() if before and mode() != "v2" else ():
        (hierarchy.mountpoint / bundle.cgroups_path.strip("/")).mkdir(parents=True)
    pid = runtime.boot(bundle)
    directory = runtime.root / bundle.id
    state, owned = directory / "state.json", note(directory)
    contents = state.read_bytes(), owned.read_bytes()
    damage(owned)
    state.write_text("")
    one_line(runtime.delete(bundle, "--force", check=False), "cannot read the state", "state.json")
    assert alive(pid) and state.exists()
    if owned.is_dir() and not owned.is_symlink():
        owned.rmdir()
    else:
        owned.unlink(missing_ok=True)
    state.write_bytes(contents[0])
    owned.write_bytes(contents[1])


@pytest.mark.parametrize("damage", FILES.values(), ids=FILES)
@pytest.mark.parametrize("shared", [False, True], ids=["", "shared-pid"])
def test_a_note_that_cannot_be_read(runtime: Runtime, bundle: Bundle, damage: Damage, shared: bool) -> None:
    """With the state at hand it takes no more to end the container; cgroups that are empty then are removed."""
    if shared:
        bundle.drop_namespace("pid")
    pid = runtime.boot(bundle)
    directory = runtime.root / bundle.id
    cgroups = cgroups_of(directory)
    damage(note(directory))
    assert runtime.status(bundle) == "running"
    runtime.delete(bundle, "--force")
    assert not alive(pid) and not directory.exists() and not any(path.exists() for path in cgroups)


@pytest.mark.parametrize("damage", FILES.values(), ids=FILES)
def test_a_configuration_that_cannot_be_read(runtime: Runtime, bundle: Bundle, damage: Damage) -> None:
    """Only what needs it fails."""
    runtime.boot(bundle)
    config = runtime.root / bundle.id / "config.json"
    damage(config)
    for words in (["exec", bundle.id, "true"], ["update", "--pids-limit", "5", bundle.id]):
        one_line(runtime.call(*words, check=False), f"cannot read the state of container {bundle.id}", str(config))
    assert listed(runtime) == ({bundle.id: "running"}, "")
    for command in (["ps"], ["events", "--stats"], ["pause"], ["resume"], ["kill", "--all"]):
        runtime.call(*command, bundle.id)
    runtime.delete(bundle, "--force")
    assert not (runtime.root / bundle.id).exists()


def test_a_state_of_a_newer_version_is_left_alone(runtime: Runtime, bundle: Bundle) -> None:
    pid = runtime.boot(bundle)
    state = runtime.root / bundle.id / "state.json"
    content = state.read_text()
    changed(version=99, pid="in another form")(state)
    for command in (*COMMANDS, ["delete", "--force", "@ID@"]):
        words = [word.replace("@ID@", bundle.id) for word in command]
        one_line(runtime.call(*words, check=False), "its format is 99", "reads formats up to")
    assert listed(runtime)[0] == {bundle.id: "unknown"}
    assert alive(pid) and note(state.parent).exists()
    state.write_text(content)
    assert runtime.status(bundle) == "running"


@pytest.mark.parametrize("make", ["runc", "files", "link", "file"])
def test_what_is_no_container_of_ours_is_left_alone(runtime: Runtime, healthy: Bundle, make: str) -> None:
    foreign = runtime.root / "foreign"
    if make in ("runc", "files"):
        foreign.mkdir()
        (foreign / ("state.json" if make == "runc" else "data")).write_text(json.dumps(RUNC).replace("@ID@", "foreign"))
    elif make == "link":
        foreign.symlink_to("/etc")
    else:
        foreign.write_text("x")
    for command in (*COMMANDS, ["delete", "--force", "@ID@"]):
        one_line(runtime.call(*(word.replace("@ID@", "foreign") for word in command), check=False), "foreign")
    statuses, _ = listed(runtime)
    assert statuses == {healthy.id: "running"} | ({"foreign": "unknown"} if make == "runc" else {})
    if foreign.is_dir() and not foreign.is_symlink():
        (file,) = foreign.iterdir()
        file.unlink()
        foreign.rmdir()
    else:
        foreign.unlink()


def test_a_create_that_was_cut_short_is_no_container(runtime: Runtime, healthy: Bundle) -> None:
    (runtime.root / "new").mkdir()
    (runtime.root / "new/.state.json.17").write_text('{"ver')
    one_line(runtime.call("state", "new", check=False), "container does not exist")
    assert listed(runtime) == ({healthy.id: "running"}, "")
    runtime.call("delete", "--force", "new")
    assert not (runtime.root / "new").exists()


@pytest.mark.parametrize("state", ["created", "paused", "stopped", "shared-pid", "nested"])
def test_processes_end(runtime: Runtime, bundle: Bundle, state: str) -> None:
    """All processes end whatever state cannot be read."""
    if state == "shared-pid":
        bundle.drop_namespace("pid").set("process.args", ["sh", "-c", "sleep 1001 & exec sleep 1000"])
    runtime.create(bundle)
    pid = runtime.pid(bundle)
    directory = runtime.root / bundle.id
    cgroups = cgroups_of(directory)
    if state != "created":
        runtime.start(bundle)
    if state == "nested":
        for path in cgroups:
            (path / "below").mkdir()
    if state == "paused":
        runtime.call("pause", bundle.id)
    if state == "stopped":
        runtime.kill(bundle, "KILL")
        runtime.wait(pid)
    (directory / "state.json").write_text("")
    runtime.delete(bundle, "--force")
    assert not alive(pid) and not directory.exists() and not any(path.exists() for path in cgroups)


@pytest.mark.parametrize("member", ["lasting", "started", "deleted"])
@pytest.mark.parametrize("record", [None, "x", ["gosudacon_gone:Thing", 1, {"stage": "gone"}], ["hooks.run", 77, {}]])
def test_a_step_that_cannot_be_rebuilt(runtime: Runtime, bundle: Bundle, member: str, record: Any) -> None:
    """start and delete refuse before they change anything; by force all else is undone, and what is left is said."""
    runtime.create(bundle)
    pid = runtime.pid(bundle)
    state = runtime.root / bundle.id / "state.json"
    cgroups = cgroups_of(state.parent)
    content = json.loads(state.read_text())
    state.write_text(json.dumps(content | {member: [*content[member], record]}))
    if member == "started":
        one_line(runtime.start(bundle, check=False))
        assert runtime.status(bundle) == "created"
    if member == "lasting":
        one_line(runtime.delete(bundle, check=False))
        assert alive(pid) and runtime.status(bundle) == "created"
    result = runtime.delete(bundle, "--force", check=False)
    assert not alive(pid) and not any(path.exists() for path in cgroups)
    assert result.returncode == (1 if member == "lasting" else 0)
    assert (result.stderr == "") == (member == "started")
    if member == "lasting":
        one_line(result)
        assert runtime.status(bundle) == "stopped"
        state.write_text(json.dumps(content))
        runtime.delete(bundle)
