"""The stage `cgroups` on a real kernel, whatever its cgroup version: create, join, refuse, undo."""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from gosudacon.api import ConfigError, Error
from gosudacon.base import posix
from gosudacon.linux import namespace
from gosudacon.linux.cgroup import files
from gosudacon.linux.cgroup import processes as cgroup
from gosudacon.stages.cgroups import create
from tests.support import cgroups, processes
from tests.support.children import in_child
from tests.support.jail import Jail, cleaned

pytestmark = pytest.mark.vm
MakeJail = Callable[..., Jail]
V1 = cgroups.mode() != "v2"


@pytest.fixture
def make_jail(scratch: Path, token: str) -> Iterator[MakeJail]:
    """A function that makes a `Jail` in a cgroup of this test's own; all are cleaned up."""
    with ExitStack() as stack:
        count = 0

        def make(resources: dict[str, Any] | None = None, *, name: str = "", **more: Any) -> Jail:
            nonlocal count
            count += 1
            path = f"/gosudacon-test/{token}/{name or f'{scratch.name}-{count}'}"
            return stack.enter_context(cleaned(Jail(path, scratch / f"state{count}", resources, **more)))

        yield make


def everywhere(path: str) -> list[Path]:
    return [item.mountpoint / path.lstrip("/") for item in cgroups.hierarchies()]


def nested(jail: Jail, name: str) -> list[Path]:
    made = [path / name for path in everywhere(jail.path)]
    for path in made:
        path.mkdir(parents=True)
    return made


# Create and join.


def test_member_of_every_hierarchy(make_jail: MakeJail) -> None:
    """The process is in the cgroup of every hierarchy."""
    jail = make_jail()
    pid = jail.start()
    assert jail.directories() == set(everywhere(jail.path))
    known = set(jail.context.cgroups)
    assert {name: path for name, path in cgroups.of_process(pid).items() if path == jail.path}.keys() == known
    for controller, directory in jail.context.cgroups.items():
        assert (Path(directory) / "cgroup.procs").read_text() == f"{pid}\n", controller


def test_no_descriptor_is_kept(make_jail: MakeJail) -> None:
    """The process keeps no descriptor of the host's cgroups."""
    pid = make_jail().start()
    links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    assert not [link for link in links if link.startswith("/sys/fs/cgroup")]


def test_a_process_in_a_new_user_namespace_joins_too(make_jail: MakeJail) -> None:
    jail = make_jail()
    pid = jail.start(flags=namespace.CLONE_NEWUSER)
    assert cgroup.pids(jail.context.cgroups) == [pid]
    assert all((path / "cgroup.procs").read_text() == f"{pid}\n" for path in everywhere(jail.path))


def test_cgroup_namespace_after_joining(make_jail: MakeJail) -> None:
    """A cgroup namespace made after joining has its root there."""
    reader, writer = os.pipe()

    def body() -> None:
        namespace.unshare(namespace.CLONE_NEWCGROUP)
        os.write(writer, Path("/proc/self/cgroup").read_bytes())

    jail = make_jail()
    jail.start(body)
    assert jail.wait() == 0
    os.close(writer)
    known = jail.context.cgroups
    lines = os.read(reader, 65536).decode().splitlines()
    assert {line.split(":")[2] for line in lines if line.split(":")[1] in known} == {"/"}
    os.close(reader)


def test_without_clone_into_cgroup(make_jail: MakeJail, monkeypatch: Any) -> None:
    """Without clone3 into a cgroup the process itself joins."""
    jail = make_jail()
    monkeypatch.setattr(jail.host, "clone3", False)
    pid = jail.start()
    assert jail.context.cgroup_fd < 0
    assert all((path / "cgroup.procs").read_text() == f"{pid}\n" for path in everywhere(jail.path))


def test_clone3_can_be_probed() -> None:
    assert namespace.has_clone3()


def test_limits_arrive(make_jail: MakeJail) -> None:
    jail = make_jail({"memory": {"limit": 64 << 20}, "pids": {"limit": 32}, "cpu": {"shares": 512}})
    jail.start()
    assert jail.read("memory", "memory.limit_in_bytes" if V1 else "memory.max") == str(64 << 20)
    assert jail.read("pids", "pids.max") == "32"
    assert jail.read("cpu", "cpu.shares" if V1 else "cpu.weight") == ("512" if V1 else "59")


def test_a_limit_in_force(make_jail: MakeJail) -> None:
    reader, writer = os.pipe()

    def body() -> None:
        signal.sigwait({signal.SIGUSR1})
        children = 0
        try:
            for _ in range(10):
                if os.fork() == 0:
                    signal.pause()
                children += 1
        except BlockingIOError:
            os.write(writer, b"%d" % children)
        signal.pause()

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    jail = make_jail({"pids": {"limit": 4}})
    pid = jail.start(body)
    os.kill(pid, signal.SIGUSR1)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    os.close(writer)
    assert os.read(reader, 16) == b"3"
    os.close(reader)


def test_refused_limit(make_jail: MakeJail) -> None:
    """A refused limit is an error that names its place."""
    with pytest.raises(Error, match=r'failed to write "4096": write cpuset\.cpus') as caught:
        make_jail({"cpu": {"cpus": "4096"}}).start()
    assert caught.value.where == "linux.resources.cpu.cpus"
    assert caught.value.stage == "cgroups"


def test_a_missing_file_is_an_error_with_a_hint(make_jail: MakeJail) -> None:
    resources: dict[str, Any]
    if V1 and "hugetlb" not in Path("/proc/self/mountinfo").read_text():
        file, resources = "blkio.leaf_weight", {"blockIO": {"leafWeight": 100}}
    else:
        file, resources = "hugetlb.3MB", {"hugepageLimits": [{"pageSize": "3MB", "limit": 0}]}
    with pytest.raises(Error, match=f"no such file {file}") as caught:
        make_jail(resources).start()
    assert "controller is not enabled" in caught.value.hint


# Undo.


def test_undo_of_an_empty_cgroup(make_jail: MakeJail) -> None:
    jail = make_jail()
    jail.start()
    jail.kill()
    jail.undo()
    assert jail.directories() == set()
    jail.undo()


def test_undo_of_a_used_cgroup(make_jail: MakeJail) -> None:
    """Undo ends what is left in it and removes what the container made."""

    def body() -> None:
        for _ in range(3):
            if os.fork() == 0:
                signal.pause()
        signal.pause()

    jail = make_jail()
    pid = jail.start(body)
    inner = nested(jail, "a/b/c")
    for path in inner[:3] if V1 else ():
        (path / "cgroup.procs").write_text(str(pid)) if "cpuset" not in str(path) else None
    jail.undo()
    assert jail.directories() == set()
    assert jail.wait() == 128 + signal.SIGKILL


@pytest.mark.parametrize("where", ["", "inner"])
def test_undo_of_frozen_processes(make_jail: MakeJail, where: str) -> None:
    jail = make_jail()
    pid = jail.start()
    kept = jail.context.cgroups
    directory = Path(kept["freezer"] if "freezer" in kept else kept[""]) / where
    directory.mkdir(exist_ok=True)
    (directory / "cgroup.procs").write_text(str(pid))
    cgroup.freeze({"freezer" if "freezer" in kept else "": str(directory)})
    jail.undo()
    assert jail.directories() == set()
    assert jail.wait() == 128 + signal.SIGKILL


def test_undo_of_processes_that_fork_all_the_time(make_jail: MakeJail) -> None:
    def body() -> None:
        while True:
            if os.fork():
                os._exit(0)
            time.sleep(0.001)

    jail = make_jail()
    jail.start(body)
    jail.undo()
    assert jail.directories() == set()


def test_undo_of_deep_nesting(make_jail: MakeJail) -> None:
    """Undo of cgroups nested deeper than descriptors allow."""
    jail = make_jail()
    jail.prepare()
    deep = everywhere(jail.path)[0]
    fd = os.open(deep, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    jail.undo()
    assert jail.directories() == set()


def test_parents_go(make_jail: MakeJail, token: str) -> None:
    jail = make_jail(name=f"parent-{os.getpid()}/child")
    jail.prepare()
    parents = everywhere(os.path.dirname(jail.path))
    assert all(path.is_dir() for path in parents)
    jail.undo()
    assert not any(path.exists() for path in parents)


def test_nothing_is_undone_that_never_began(make_jail: MakeJail) -> None:
    jail = make_jail()
    for path in everywhere(jail.path):
        path.mkdir(parents=True)
    jail.undo()
    assert jail.directories() == set(everywhere(jail.path))
    for path in everywhere(jail.path):
        path.rmdir()


def test_a_create_killed_before_it_noted_what_it_made(make_jail: MakeJail) -> None:
    """The note was begun; what it announces is removed as far as it is empty, and no process is killed."""
    jail = make_jail()
    made = everywhere(jail.path)
    (jail.state / "cgroups.note").write_text(json.dumps({"before": {str(path): 0 for path in made}}) + "\n")
    for path in made:
        path.mkdir(parents=True)
    other = os.fork()
    if other == 0:
        signal.pause()
    busy = cgroups.directory("pids", jail.path)
    (busy / "cgroup.procs").write_text(str(other))
    jail.undo()
    assert jail.directories() == {busy}
    assert processes.alive(other)
    os.kill(other, signal.SIGKILL)
    os.waitpid(other, 0)
    busy.rmdir()


def test_a_create_killed_before_it_used_what_was_there(make_jail: MakeJail) -> None:
    """Empty cgroups that were there before stay until they are noted as the container's."""
    jail = make_jail()
    there = everywhere(jail.path)
    for path in there:
        path.mkdir(parents=True)
    (jail.state / "cgroups.note").write_text(
        json.dumps({"before": {str(path): path.stat().st_ino for path in there}}) + "\n"
    )
    jail.undo()
    assert jail.directories() == set(there)
    for path in there:
        path.rmdir()


@pytest.mark.parametrize("text", ["", '{"before": {"/sys/fs/cg'])
def test_killed_before_the_note(make_jail: MakeJail, text: str) -> None:
    """A create killed before its note was written has made nothing."""
    jail = make_jail()
    (jail.state / "cgroups.note").write_text(text)
    there = everywhere(jail.path)
    for path in there:
        path.mkdir(parents=True)
    jail.undo()
    assert jail.directories() == set(there)
    for path in there:
        path.rmdir()


@pytest.mark.parametrize("settled", [False, True])
def test_the_note_of_0_1_0(make_jail: MakeJail, settled: bool) -> None:
    """An empty file until all were made, then the inodes."""
    jail = make_jail()
    made = everywhere(jail.path)
    for path in made:
        path.mkdir(parents=True)
    text = json.dumps({str(path): path.stat().st_ino for path in made}) if settled else ""
    (jail.state / "cgroups.json").write_text(text)
    jail.undo()
    assert jail.directories() == set()
    assert list(jail.state.iterdir()) == []


def test_foreign_cgroup_meanwhile(make_jail: MakeJail, monkeypatch: Any) -> None:
    """It was not there when the note was written, and was when it was to be made; then making fails."""
    jail = make_jail()
    theirs = everywhere(jail.path)[0]
    make = files.make

    def late(*arguments: Any) -> tuple[int, bool]:
        theirs.mkdir(parents=True, exist_ok=True)
        return make(*arguments)

    def no_note(*_: object) -> None:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(files, "make", late)
    monkeypatch.setattr(create.Note, "settle", no_note)
    with pytest.raises(Error, match="no space left on device"):
        jail.prepare()
    jail.undo()
    assert jail.directories() == {theirs}
    theirs.rmdir()


@pytest.mark.parametrize("call", ["mkdir", "open_below"])
@pytest.mark.parametrize("at", range(1, 4))
def test_making_that_fails_half_way_is_undone(make_jail: MakeJail, monkeypatch: Any, call: str, at: int) -> None:
    """Before and after a cgroup exists: mkdir(2) fails, or openat2(2) of what it has made."""
    jail = make_jail()
    if len(everywhere(jail.path)) < at:
        pytest.skip("needs cgroup-v1")
    for path in everywhere(os.path.dirname(jail.path)):
        path.mkdir(parents=True, exist_ok=True)
    module = posix if call == "mkdir" else files
    real, calls = getattr(module, call), itertools.count(1)

    def failing(*arguments: Any, **named: Any) -> Any:
        if next(calls) == at:
            raise OSError(24, "too many open files")
        return real(*arguments, **named)

    monkeypatch.setattr(module, call, failing)
    with pytest.raises(Error, match="too many open files"):
        jail.prepare()
    assert at == 1 or jail.directories()  # on v2 the first openat2(2) is of the directory above
    jail.undo()
    assert jail.directories() == set()


def test_undo_spares_a_new_cgroup(make_jail: MakeJail) -> None:
    """A cgroup made anew by another program is left alone."""
    mine = make_jail(name="contested")
    mine.prepare()
    for path in mine.directories():
        path.rmdir()
    theirs = make_jail(name="contested")
    pid = theirs.start()
    mine.undo()
    assert processes.alive(pid)
    assert theirs.directories() == set(everywhere(theirs.path))


# Cgroups that are there already.


def test_cgroup_in_use(make_jail: MakeJail) -> None:
    """A cgroup in use is refused and its processes stay alive."""
    first = make_jail(name="taken")
    pid = first.start()
    second = make_jail(name="taken")
    with pytest.raises(Error, match=r"container's cgroup is not empty: 1 process\(es\) found") as caught:
        second.prepare()
    assert caught.value.where == "linux.cgroupsPath"
    second.undo()
    assert processes.alive(pid)
    assert first.directories() == set(everywhere(first.path))


def test_cgroup_in_use_below(make_jail: MakeJail) -> None:
    """A cgroup in use below is refused and half made ones are removed."""
    other = os.fork()
    if other == 0:
        signal.pause()
    jail = make_jail()
    inner = cgroups.directory("pids", jail.path) / "inner"
    inner.mkdir(parents=True)
    (inner / "cgroup.procs").write_text(str(other))
    with pytest.raises(Error, match="container's cgroup is not empty"):
        jail.prepare()
    jail.undo()
    assert jail.directories() == {inner.parent}
    assert processes.alive(other)
    os.kill(other, signal.SIGKILL)
    os.waitpid(other, 0)
    inner.rmdir()
    inner.parent.rmdir()


def test_an_empty_cgroup_is_used_and_removed(make_jail: MakeJail) -> None:
    jail = make_jail()
    for path in everywhere(jail.path):
        path.mkdir(parents=True)
    jail.start()
    jail.undo()
    assert jail.directories() == set()
    assert jail.wait() == 128 + signal.SIGKILL


def test_a_frozen_cgroup_is_refused(make_jail: MakeJail) -> None:
    jail = make_jail()
    directory = cgroups.directory("freezer", jail.path)
    directory.mkdir(parents=True)
    file, stop, go = ("freezer.state", "FROZEN", "THAWED") if V1 else ("cgroup.freeze", "1", "0")
    (directory / file).write_text(stop)
    with pytest.raises(Error, match="container's cgroup unexpectedly frozen"):
        jail.prepare()
    jail.undo()
    assert jail.directories() == {directory}
    (directory / file).write_text(go)
    directory.rmdir()
    assert jail.directories() == set()


# Many at a time.


def test_concurrent_creates_below_new_parent(make_jail: MakeJail, token: str, scratch: Path) -> None:
    """Concurrent creates below a parent that none has made."""
    parent = f"/gosudacon-test/{token}/crowd-{scratch.name}"
    (gate, opener) = os.pipe()
    children = []
    for number in range(8):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.close(opener)
                os.read(gate, 1)
                with cleaned(Jail(f"{parent}/sub/{number}", scratch / f"c{number}")) as jail:
                    jail.start()
                    status = int(jail.directories() != set(everywhere(jail.path)))
            finally:
                os._exit(status)
        children.append(pid)
    os.close(opener)
    os.close(gate)
    assert [processes.wait(pid, 60) for pid in children] == [0] * 8
    for path in filter(Path.exists, (*everywhere(f"{parent}/sub"), *everywhere(parent))):
        path.rmdir()


# Escapes.


@pytest.mark.parametrize("path", ["../../../../../../tmp/{}", "/..", "/../..", "a/../../..", "/{}/../../x"])
def test_paths_that_escape_create_nothing(path: str, scratch: Path, token: str) -> None:
    name = f"{token}-escaped"
    with pytest.raises(ConfigError) as caught:
        Jail(path.format(name), scratch / "state")
    assert caught.value.where == "linux.cgroupsPath"
    assert not Path("/tmp", name).exists()
    assert list((scratch / "state").iterdir()) == []


def test_directory_functions_stay_inside() -> None:
    """The directory functions do not leave the hierarchy."""
    base = files.open_hierarchy(str(cgroups.hierarchy("pids").mountpoint))
    try:
        with pytest.raises(ValueError, match="could lead out"):
            files.make(base, "../escaped")
        with pytest.raises(OSError, match="openat2"):
            files.open_below(base, "../..")
        with pytest.raises(ValueError, match="not the name"):
            files.write(base, "../../x", "1")
    finally:
        os.close(base)


def test_only_cgroup_filesystems_are_taken_for_such(scratch: Path) -> None:
    with pytest.raises(OSError, match="no such device"):
        files.open_directory(str(scratch))
    link = scratch / "link"
    link.symlink_to(cgroups.hierarchy("pids").mountpoint)
    with pytest.raises(OSError, match="too many levels"):
        files.open_directory(str(link))


def test_root_is_never_signalled() -> None:
    """No process of a whole hierarchy is ever signalled."""
    with pytest.raises(Error, match="root of a hierarchy"):
        cgroup.signal_all({"pids": str(cgroups.hierarchy("pids").mountpoint)}, 0)


# Operations on the processes.


def test_freeze_and_thaw(make_jail: MakeJail) -> None:
    jail = make_jail()
    jail.start()
    kept = jail.context.cgroups
    assert not cgroup.frozen(kept)
    cgroup.freeze(kept)
    assert cgroup.frozen(kept)
    cgroup.freeze(kept)
    cgroup.thaw(kept)
    assert not cgroup.frozen(kept)


def test_signal_all(make_jail: MakeJail) -> None:
    def body() -> None:
        os.fork()
        signal.pause()

    jail = make_jail()
    jail.start(body)
    kept = jail.context.cgroups
    deadline = time.monotonic() + 10
    while len(cgroup.pids(kept)) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(cgroup.pids(kept)) == 2
    cgroup.signal_all(kept, signal.SIGTERM)
    assert jail.wait() == 128 + signal.SIGTERM
    while cgroup.pids(kept) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert cgroup.pids(kept) == []


@pytest.mark.parametrize("way", ["cgroup.kill", *(("one by one", "one by one without a freezer") if V1 else ())])
def test_kill_all(make_jail: MakeJail, way: str) -> None:
    jail = make_jail()
    jail.start()
    kept = dict(jail.context.cgroups)
    if way != "cgroup.kill":
        kept.pop("", None)
    if way.endswith("without a freezer"):
        del kept["freezer"]
    cgroup.kill_all(kept)
    assert jail.wait() == 128 + signal.SIGKILL


def test_remove_again(make_jail: MakeJail) -> None:
    """What is gone has no processes and can be removed again."""
    jail = make_jail()
    jail.start()
    kept = jail.context.cgroups
    jail.kill()
    cgroup.remove(kept)
    assert jail.directories() == set()
    cgroup.remove(kept)
    assert cgroup.pids(kept) == []
    cgroup.kill_all(kept)
    cgroup.signal_all(kept, signal.SIGTERM)
    cgroup.thaw(kept)
    assert cgroup.oom_kills(kept) == 0
    assert cgroup.pids({}) == []
    cgroup.kill_all({})


def test_oom_kills_are_counted(make_jail: MakeJail) -> None:
    def body() -> None:
        signal.sigwait({signal.SIGUSR1})
        hoard = []
        while True:
            hoard.append(b"x" * (1 << 20))

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    jail = make_jail({"memory": {"limit": 32 << 20}})
    pid = jail.start(body)
    kept = jail.context.cgroups
    assert cgroup.oom_kills(kept) == 0
    os.kill(pid, signal.SIGUSR1)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    assert jail.wait() == 128 + signal.SIGKILL
    assert cgroup.oom_kills(kept) == 1


# Without privileges.


def test_caller_without_permission(token: str, scratch: Path) -> None:
    """A caller without permission gets no cgroup unless it wants limits."""
    scratch.chmod(0o777)

    def child() -> list[str]:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        jail = Jail(f"/gosudacon-test/{token}/rootless", scratch / "plain")
        jail.start()
        said = [repr(jail.context.cgroups)]
        jail.undo()
        jail.kill()
        jail = Jail(f"/gosudacon-test/{token}/rootless", scratch / "limits", {"pids": {"limit": 5}})
        try:
            jail.start()
        except Error as error:
            said.append(error.message)
        jail.kill()
        return said

    assert in_child(child) == ["{}", "cannot write 5 to pids.max: no permission to make a cgroup for it"]
    assert not any(path.exists() for path in everywhere(f"/gosudacon-test/{token}/rootless"))
