"""The shim's parts that need no container: arguments, options, places, mounts of root filesystems, the loop, exits."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import signal
import struct
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gosudacon.base import interrupt, posix
from gosudacon.base.errors import Error
from gosudacon.linux import loop
from gosudacon.linux.cgroup import processes
from gosudacon.shim import arguments, idmapped, likeness, options, place, rootfs, service, stdio
from gosudacon.shim.known import Known
from gosudacon.shim.loop import READ, Loop
from gosudacon.shim.reaper import Reaper
from gosudacon.shim.worker import Failed, Reporter, Worker
from gosudacon.wire import containerd as wire
from gosudacon.wire import protobuf


def test_arguments_of_start() -> None:
    """As containerd 1.6 gives them."""
    words = [
        "-namespace",
        "moby",
        "-address",
        "/run/c.sock",
        "-publish-binary",
        "/usr/bin/containerd",
        "-id",
        "web",
        "start",
    ]
    given = arguments.parse(words)
    assert (given.namespace, given.address, given.id, given.action) == ("moby", "/run/c.sock", "web", "start")


@pytest.mark.parametrize("words", [["--id=web", "-debug", "delete"], ["-id", "web", "-debug=true", "delete", "more"]])
def test_forms_of_a_flag(words: list[str]) -> None:
    given = arguments.parse(words)
    assert (given.id, given.debug, given.action) == ("web", True, "delete")


@pytest.mark.parametrize(
    ("words", "text"), [(["-id"], "needs an argument: -id"), (["-nonsense"], "not defined: -nonsense")]
)
def test_bad_flags(words: list[str], text: str) -> None:
    with pytest.raises(Error, match=text):
        arguments.parse(words)


def packed(name: str, **fields: object) -> dict[str, object]:
    return wire.pack(name, fields)


def test_options_of_runc() -> None:
    found = options.decode(
        packed("containerd.runc.v1.Options", systemd_cgroup=True, io_uid=7, binary_name="x", root="/r")
    )
    assert found.ignored == ("BinaryName x: this shim is the runtime itself",)
    assert (found.systemd_cgroup, found.io_uid, found.root, found.no_new_keyring) == (True, 7, "/r", False)


def test_options_of_another_runtime(tmp_path: Path) -> None:
    """A table, in the message or in a file; what has another type or another name counts for nothing."""
    table = b'SystemdCgroup = true\nRoot = "/r"\nIoUid = "seven"\nColour = "blue"\n'
    (tmp_path / "options.toml").write_bytes(table)
    for fields in ({"config_body": table}, {"config_path": str(tmp_path / "options.toml")}):
        found = options.decode(packed("runtimeoptions.v1.Options", **fields))
        assert (found.systemd_cgroup, found.root, found.io_uid) == (True, "/r", 0)
        assert found.ignored == ("IoUid = 'seven': a value of another type is wanted", "Colour = 'blue': no option")


@pytest.mark.parametrize("key", ["criu_image_path", "TaskApiAddress", "TaskApiVersion"])
def test_options_that_containerd_acts_upon(key: str) -> None:
    """Are nothing to warn of."""
    found = options.decode(packed("runtimeoptions.v1.Options", config_body=f'{key} = "x"'.encode()))
    assert found.ignored == ()


def test_options_that_are_unknown() -> None:
    assert not vars(options.decode(None))
    found = options.decode({"type_url": "example.org/Options", "value": b"\xff"})
    assert vars(found) == {"ignored": ("options of the type example.org/Options",)}


_PIECES = (
    "a",
    "B2",
    "=",
    " = ",
    "true",
    "false",
    "0",
    "12",
    "007",
    '"',
    '"x y"',
    "'",
    "\\",
    "#",
    "[",
    ".",
    "\t",
    "\r",
    "é",
    " ",
)


@given(st.lists(st.lists(st.sampled_from(_PIECES), max_size=5).map("".join), max_size=4).map("\n".join))
def test_a_table_is_read_as_the_library_reads_it(text: str) -> None:
    try:
        expected: object = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        with pytest.raises(tomllib.TOMLDecodeError, match=re.escape(str(error))):
            options._read(text)
    else:
        assert options._read(text) == expected


def test_usual_options_need_no_library() -> None:
    """Importing it costs each shim several megabytes."""
    text = 'SystemdCgroup = true\nIoUid = 7\nRoot = "/run/some where"\n'
    script = (
        "import sys; from gosudacon.shim import options; options._read(sys.argv[1]); print('tomllib' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", script, text], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


def test_options_that_are_no_message() -> None:
    with pytest.raises(protobuf.ProtobufError):
        options.decode({"type_url": "containerd.runc.v1.Options", "value": b"\xff"})


def test_the_name_of_the_socket() -> None:
    """Is what containerd's tools work out."""
    found = place.Place("/run/containerd/containerd.sock", "k8s.io", "pod")
    name = hashlib.sha256(b"/run/containerd/containerd.sock/k8s.io/pod").hexdigest()
    assert found.address == f"unix:///run/containerd/s/{name}"
    assert found.root("") != place.Place("/run/other.sock", "k8s.io", "pod").root("")
    assert found.root("/chosen") == "/chosen/k8s.io"


@pytest.mark.parametrize(
    ("config", "group"),
    [
        ("{}", "web"),
        ('{"annotations": {"io.kubernetes.cri.sandbox-id": "pod"}}', "pod"),
        ('{"annotations": {"io.kubernetes.cri.sandbox-id": "pod", "io.containerd.runc.v2.group": "all"}}', "all"),
        ('{"annotations": {"colour": "io.kubernetes.cri.sandbox-id"}}', "web"),
    ],
)
def test_the_group(tmp_path: Path, config: str, group: str) -> None:
    (tmp_path / "config.json").write_text(config)
    assert place.group_of(str(tmp_path), "web") == group


def test_no_configuration_no_group(tmp_path: Path) -> None:
    assert place.group_of(str(tmp_path), "web") == "web"


@pytest.mark.parametrize("name", ["status", "attr/current", "loginuid"])
def test_a_caller_who_differs(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """In user, rights, security label or login: a template does not serve such a one."""
    own = likeness.facts()
    assert likeness.facts(os.getpid()) == own
    read = likeness._read

    def other(path: str) -> bytes:
        return b"Uid:\t7\n" if path.endswith(f"/{name}") else read(path)

    monkeypatch.setattr(likeness, "_read", other)
    assert likeness.facts() != own


def test_options_of_a_mount() -> None:
    flags, data, special = rootfs._parsed(["ro", "nosuid", "suid", "rbind", "lowerdir=/a:/b", "index=off"])
    assert (flags, data, special) == (0x1 | 0x1000 | 0x4000, ["lowerdir=/a:/b", "index=off"], {})
    flags, data, special = rootfs._parsed(["loop", "direct-io", "uidmap=0:1:2", "gidmap=0:3:4", "discard"])
    assert (flags, data) == (0, ["discard"])
    assert special == {"loop": "", "direct-io": "", "uidmap": "0:1:2", "gidmap": "0:3:4"}
    with pytest.raises(Error, match="volatile is not supported"):
        rootfs._parsed(["X-containerd.volatile"])


@pytest.mark.parametrize("place", ["/b/1/rootfs", "/b 2/rootfs"])
def test_mount_points(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Of all mounts those at and below a place, also where mountinfo has a code for one of its characters."""
    own = place.replace(" ", "\\040")
    points = ["/", own, f"{own}/a\\040b", f"{own}2", f"/c{own}"]
    text = "".join(f"{number} 1 0:1 / {point} rw - tmpfs {own} rw\n" for number, point in enumerate(points))

    class File(io.BytesIO):
        readall = io.BytesIO.read

    monkeypatch.setattr(rootfs, "open", lambda *_, **__: File(text.encode()), raising=False)
    assert rootfs._points(place) == [place, f"{place}/a b"]


def test_maps_of_a_mount() -> None:
    assert idmapped.parsed("0:100000:65536,65536:7:1", "uidmap") == [
        {"containerID": 0, "hostID": 100000, "size": 65536},
        {"containerID": 65536, "hostID": 7, "size": 1},
    ]
    for text in ("", "0:1", "0:1:2:3", "0:-1:2", "a:b:c", "0:1:2,"):
        with pytest.raises(Error, match="mount option gidmap: CONTAINER:HOST:SIZE"):
            idmapped.parsed(text, "gidmap")


def test_the_configuration_of_a_loop_device() -> None:
    """As struct loop_config has it (linux/loop.h)."""
    path = "/" + "a" * 100
    config = loop.configuration(7, path, read_only=True, direct=True)
    descriptor, _size, _device, _inode, _rdevice, _offset, _limit, _number, _kind, _key, flags, name = (
        struct.unpack_from("=IIQQQQQIIII64s", config)
    )
    assert (len(config), descriptor, flags, name) == (304, 7, 1 | 4 | 16, path.encode()[:63] + b"\0")
    assert loop.configuration(7, "/a", read_only=False, direct=False)[60:64] == b"\4\0\0\0"


def test_layers_are_made_relative(tmp_path: Path) -> None:
    """To the directory that all share, which becomes the working directory."""
    here = os.getcwd()
    for name in ("1/fs", "2/fs"):
        (tmp_path / "snapshots" / name).mkdir(parents=True)
    try:
        data = rootfs._shortened([f"lowerdir={tmp_path}/snapshots/1/fs:{tmp_path}/snapshots/2/fs", "index=off"])
        assert os.getcwd() == f"{tmp_path}/snapshots"
        assert data == ["lowerdir=1/fs:2/fs", "index=off"]
    finally:
        os.chdir(here)


def test_a_mount_stays_in_the_root_filesystem() -> None:
    assert rootfs._target("/b/rootfs", "/data") == "/b/rootfs/data"
    with pytest.raises(Error, match="leads out"):
        rootfs._target("/b/rootfs", "a/../../x")


@pytest.mark.parametrize(
    ("name", "scheme", "path"),
    [("/a/b", "fifo", "/a/b"), ("fifo:///a", "fifo", "/a"), ("file:///l?x", "file", "/l?x"), ("", "fifo", "")],
)
def test_names_of_streams(name: str, scheme: str, path: str) -> None:
    assert stdio.split(name) == (scheme, path)


def test_the_loop_goes_on() -> None:
    """What a handler raises is reported; what is forgotten is not called; moments come in their order."""
    reported: list[BaseException] = []
    called: list[str] = []
    loop = Loop(reported.append)
    reader, writer = os.pipe()

    def ready(_events: int) -> None:
        called.append("ready")
        loop.forget(reader)
        raise ValueError("bad")

    loop.watch(reader, READ, ready)
    os.write(writer, b"x")
    loop.later(0.02, lambda: called.append("second"))
    loop.later(0.01, lambda: called.append("first"))
    loop.later(0.005, lambda: called.append("never")).cancel()
    loop.later(0.03, loop.stop)
    loop.run()
    os.close(reader)
    os.close(writer)
    assert called == ["ready", "first", "second"]
    assert [str(error) for error in reported] == ["bad"]


def test_what_is_ready_of_another_of_the_same_number() -> None:
    """Is not told to a descriptor that a handler has opened meanwhile."""
    reported: list[BaseException] = []
    called: list[str] = []
    loop = Loop(reported.append)
    (one, _), (two, _), (fresh, writer) = pipes = [os.pipe() for _ in range(3)]

    def write() -> None:
        called.append("written")
        os.write(writer, b"x")

    def replace(other: int) -> None:
        for fd in (one, two):
            loop.forget(fd)
        os.dup2(fresh, other)
        loop.watch(other, READ, lambda _: called.append("ready"))
        loop.later(0.01, write)
        loop.later(0.02, loop.stop)

    loop.watch(one, READ, lambda _: replace(two))
    loop.watch(two, READ, lambda _: replace(one))
    for _, end in pipes[:2]:
        os.write(end, b"x")
    loop.run()
    for fd in sum(pipes, ()):
        os.close(fd)
    assert called[:2] == ["written", "ready"]
    assert not reported


def test_a_container_that_is_announced_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is waited for as long as if it had not been before."""
    monkeypatch.setattr(service, "_RESERVED", 0.02)
    loop = Loop(lambda _error: None)
    tasks = service.Tasks(SimpleNamespace(loop=loop, ending=False))  # type: ignore[arg-type]
    reply = SimpleNamespace(send=lambda _message: None)
    idle: list[bool] = []

    def announce() -> None:
        tasks.reserve({"id": "c"}, reply)  # type: ignore[arg-type]

    announce()
    loop.later(0.015, announce)

    def look() -> None:
        idle.append(tasks.idle())
        loop.stop() if idle[-1] else loop.later(0.01, look)

    loop.later(0.03, look)
    loop.run()
    assert idle[0] is False


@pytest.fixture
def reaper() -> Iterator[Reaper]:
    """A reaper, with SIGCHLD blocked as in a shim."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    yield Reaper(Loop(lambda _error: None))
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def child(status: int) -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(status)
    return pid


def test_an_end_before_the_claim(reaper: Reaper) -> None:
    """Is remembered while somebody may claim it, and forgotten then."""
    ends: list[int] = []
    reaper.expect()
    early, other = child(3), child(4)
    for pid in (early, other):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    reaper._collect(0)
    reaper.claim(early, lambda status, _when: ends.append(os.waitstatus_to_exitcode(status)))
    assert ends == [3]
    reaper.expected()
    reaper.claim(other, lambda status, _when: ends.append(status))
    assert ends == [3]


def test_a_number_that_is_used_again(reaper: Reaper) -> None:
    """What ended under it before is not the end of the child that has it now."""
    ends: list[int] = []
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(5)
    reaper.expect()
    reaper._unclaimed[pid] = 0, 0
    reaper.claim(pid, lambda status, _when: ends.append(os.waitstatus_to_exitcode(status)))
    assert ends == []
    os.close(reader)
    os.close(writer)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    reaper._collect(0)
    assert ends == [5]


def test_a_worker_is_no_process_of_the_container(reaper: Reaper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although it may be in its cgroup, until it has been collected, which is after it has done its work."""
    outcomes: list[object] = []
    loop = Loop(outcomes.append)
    shim: Any = SimpleNamespace(reaper=reaper)
    known = Known(shim)
    container: Any = SimpleNamespace(
        execs={}, cgroups={}, init=SimpleNamespace(pid=os.getpid(), status=wire.RUNNING, names=("", "", ""))
    )
    known._containers["c"] = container
    answers: list[Any] = []
    reply: Any = SimpleNamespace(send=answers.append)
    worker = Worker(loop, lambda _reporter: {}, outcomes.append, reaper=reaper)
    monkeypatch.setattr(processes, "pids", lambda _cgroups: [os.getpid(), worker.pid])
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
    worker._read(0)
    assert outcomes == [{"warnings": []}]
    known.pids({"id": "c"}, reply)
    reaper._collect(0)
    known.pids({"id": "c"}, reply)
    assert [[entry["pid"] for entry in answer["processes"]] for answer in answers] == [
        [os.getpid()],
        [os.getpid(), worker.pid],
    ]


def test_no_more_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that cannot be had is an outcome like others: who waits for it hears of it, and nothing stays open."""
    outcomes: list[object] = []
    loop = Loop(lambda error: outcomes.append(error))

    def fork() -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(posix, "fork", fork)
    before = len(os.listdir("/proc/self/fd"))
    made = Worker(loop, lambda _reporter: {}, outcomes.append)
    assert outcomes == []
    made.end("no matter")
    loop.later(0.01, loop.stop)
    loop.run()
    (failure,) = outcomes
    assert isinstance(failure, Failed) and "cannot have a worker" in str(failure)
    assert len(os.listdir("/proc/self/fd")) == before


def run(job: Callable[[], dict[str, object]], act: Callable[[Worker], None]) -> object:
    """What comes of a job whose worker is ended as soon as it says that it is at it."""
    loop = Loop(lambda error: pytest.fail(str(error)))
    outcomes: list[object] = []

    def done(outcome: object) -> None:
        outcomes.append(outcome)
        loop.stop()

    def work(reporter: Reporter) -> dict[str, object]:
        reporter.send({"at": "it"})
        return job()

    made = Worker(loop, work, done, lambda _note, _descriptors: act(made))
    loop.run()
    os.waitpid(made.pid, 0)
    (outcome,) = outcomes
    return outcome


def deaf() -> dict[str, object]:
    """A job that cannot be interrupted."""
    interrupt.defer()
    time.sleep(1000)
    return {}


def test_why_a_worker_was_ended() -> None:
    """Is what its job fails with, however it ends; without a reason that is a signal's name."""
    sleep: Callable[[], dict[str, object]] = lambda: time.sleep(1000) or {}  # type: ignore[func-returns-value]  # noqa: E731
    assert str(run(sleep, lambda worker: worker.end("the reason"))) == "the reason"
    assert str(run(deaf, lambda worker: worker.end("the reason", 0.05))) == "the reason"
    assert str(run(sleep, lambda worker: os.kill(worker.pid, signal.SIGTERM))) == "interrupted by SIGTERM"
    killed = run(sleep, lambda worker: os.kill(worker.pid, signal.SIGKILL))
    assert isinstance(killed, Failed) and killed.killed and str(killed) == "the worker was killed"


@pytest.mark.timeout(60)
def test_a_worker_that_is_killed() -> None:
    """Takes along what it has started and what that has forked, in groups of their own as hooks have them."""
    reader, writer = os.pipe()

    def forks() -> dict[str, object]:
        for _ in range(3):
            subprocess.Popen(["sh", "-c", "sleep 1000 & printf x; wait"], stdout=writer, process_group=0)
        os.close(writer)
        time.sleep(1000)
        return {}

    loop = Loop(lambda error: pytest.fail(str(error)))
    outcomes: list[object] = []

    def done(outcome: object) -> None:
        outcomes.append(outcome)
        loop.stop()

    made = Worker(loop, lambda _: forks(), done, kept=[writer])
    os.close(writer)
    for _ in range(3):
        assert os.read(reader, 1) == b"x"
    os.kill(made.pid, signal.SIGKILL)
    loop.run()
    assert os.read(reader, 1) == b""  # none has the other end any more
    os.close(reader)
    os.waitpid(made.pid, 0)
    (failure,) = outcomes
    assert isinstance(failure, Failed) and failure.killed


@pytest.mark.parametrize("length", [1, 1 << 15, 1 << 22])
def test_what_a_worker_says(length: int) -> None:
    """However long it is, and with the descriptors that go with it."""
    loop = Loop(lambda error: pytest.fail(str(error)))
    noted: list[tuple[dict[str, object], bytes]] = []
    outcomes: list[object] = []

    def work(reporter: Reporter) -> dict[str, object]:
        reader, writer = os.pipe()
        os.write(writer, b"text")
        reporter.send({"long": "x" * length}, [reader])
        return {"annotations": {"name": "y" * length}}

    def note(said: dict[str, object], descriptors: list[int]) -> None:
        (fd,) = descriptors
        noted.append((said, os.read(fd, 9)))
        os.close(fd)

    def done(outcome: object) -> None:
        outcomes.append(outcome)
        loop.stop()

    made = Worker(loop, work, done, note)
    loop.run()
    os.waitpid(made.pid, 0)
    assert noted == [({"long": "x" * length}, b"text")]
    assert outcomes == [{"annotations": {"name": "y" * length}, "warnings": []}]


@pytest.mark.parametrize("job", [lambda: time.sleep(1000), deaf])
def test_a_worker_whose_shim_dies(job: Callable[[], object]) -> None:
    """Ends soon, even if it cannot be interrupted."""
    reader, writer = os.pipe()
    shim = os.fork()
    if shim == 0:
        loop = Loop(lambda _error: None)
        Worker(loop, lambda _: (os.write(writer, b"x"), job(), {})[2], lambda _: None, kept=[writer])
        os.close(writer)
        signal.pause()
    os.close(writer)
    assert os.read(reader, 1) == b"x"
    os.kill(shim, signal.SIGKILL)
    os.waitpid(shim, 0)
    assert os.read(reader, 1) == b""  # the end of the worker, which has the other end
    os.close(reader)
