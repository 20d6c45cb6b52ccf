"""What gosudacon's shim for containerd survives: the ends of others, in the middle of things."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gosudacon.wire import containerd as wire
from gosudacon.wire import protobuf
from tests.clients.conftest import IMAGE, new_name
from tests.clients.daemon import Completed, Containerd, Template
from tests.clients.output import collect as collect_output
from tests.clients.tasks import collect, finish, pid, shim_of, status
from tests.support import processes
from tests.support.leftovers import Watch
from tests.support.timing import eventually, seconds

pytestmark = pytest.mark.own_shim

Run = Callable[..., Completed]
Detached = Callable[..., str]
SLEEP = "exec sleep 1000"


def test_containerd_killed_with_containers(ctr: Containerd, leftovers: Watch, detached: Detached) -> None:
    """What ran goes on; what ended meanwhile has its status; both can be entered and deleted."""
    running, ended = detached(SLEEP), detached("sleep 2; exit 7")
    first = pid(ctr, running)
    ctr.kill()
    eventually(lambda: not processes.alive(pid_of_shell(ctr, ended)), 20, "the end of a container")
    ctr.restart()
    leftovers.keep(*ctr.own_processes())
    assert (status(ctr, running), pid(ctr, running)) == ("RUNNING", first)
    version = subprocess.run(["containerd", "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    if version.lstrip("v").startswith("1.6."):
        assert status(ctr, ended) == "STOPPED"
        assert collect(ctr, ended) == 7
    else:  # from 1.7 on it removes, when it starts, a task whose Pids are none
        assert status(ctr, ended) == "none"
        ctr.ctr("containers", "delete", ended)
    words: list[str | Path] = [
        "tasks",
        "exec",
        "--fifo-dir",
        ctr.base / "fifo",
        "--exec-id",
        new_name(),
        running,
        "echo",
        "hi",
    ]
    assert ctr.ctr(*words).stdout == "hi\n"
    assert finish(ctr, running) == 137


def test_containerd_restarted_with_fifty_containers(ctr: Containerd, leftovers: Watch, scratch: Path) -> None:
    """Afterwards they write on, can be entered, and end with their status."""
    names = [new_name() for _ in range(50)]
    fifos = ctr.base / "fifo"

    def all_of(*words: Callable[[int, str], list[str | Path]]) -> list[str]:
        """Run ctr for each container, ten at a time; what it says."""
        said = []
        for start in range(0, len(names), 10):
            clients = [
                subprocess.Popen(
                    ctr.words(*make(number, name)),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
                for number, name in list(enumerate(names))[start : start + 10]
                for make in words
            ]
            for client in clients:
                said.append(client.communicate(timeout=seconds(120))[0])
        return said

    def begin(number: int, name: str) -> list[str | Path]:
        script = f"echo before; mkfifo /go; read x </go; echo after $x; exit {number + 1}"
        return ctr.run_arguments(IMAGE, name, script, "--detach", "--log-uri", f"file://{scratch}/{name}")

    assert "".join(all_of(begin)) == ""
    eventually(lambda: all((scratch / name).exists() and (scratch / name).read_text() for name in names), 30, "output")
    ctr.kill()
    ctr.restart()
    leftovers.keep(*ctr.own_processes())
    states = {line.split()[0]: line.split()[2] for line in ctr.ctr("tasks", "list").stdout.splitlines()[1:]}
    assert [states[name] for name in names] == ["RUNNING"] * len(names)

    def enter(number: int, name: str) -> list[str | Path]:
        return [
            "tasks",
            "exec",
            "--fifo-dir",
            fifos,
            "--exec-id",
            "e",
            name,
            "sh",
            "-c",
            f"echo ok; echo {number} >/go",
        ]

    assert all_of(enter) == ["ok\n"] * len(names)
    eventually(lambda: ctr.ctr("tasks", "list").stdout.count("STOPPED") == len(names), 60, "their ends")
    assert [(scratch / name).read_text() for name in names] == [f"before\nafter {n}\n" for n in range(len(names))]
    statuses = [
        int(text.rstrip('"\n').rpartition(" ")[2]) for text in all_of(lambda _, name: ["tasks", "delete", name])
    ]
    assert statuses == [*range(1, len(names) + 1)]
    all_of(lambda _, name: ["containers", "delete", name])


def pid_of_shell(ctr: Containerd, name: str) -> int:
    """The first process of a container, as its shim has recorded it."""
    try:
        return int(json.loads((ctr.states / name / "state.json").read_text())["pid"])
    except FileNotFoundError:
        return 0


def test_template_killed(ctr: Containerd, leftovers: Watch, run: Run, detached: Detached) -> None:
    """Its shims go on, and there is another one."""
    name = detached(SLEEP)
    ctr.kill_template()
    leftovers.keep(*ctr.own_processes())
    assert run("echo hi").stdout == "hi\n"
    words: list[str | Path] = [
        "tasks",
        "exec",
        "--fifo-dir",
        ctr.base / "fifo",
        "--exec-id",
        new_name(),
        name,
        "echo",
        "there",
    ]
    assert ctr.ctr(*words).stdout == "there\n"
    assert finish(ctr, name) == 137


def test_no_template(ctr: Containerd, leftovers: Watch, run: Run) -> None:
    """The first start makes one."""
    Template.kill()
    assert run("echo hi").stdout == "hi\n"
    assert run("echo again").stdout == "again\n"
    (made,) = templates()
    os.kill(made, signal.SIGKILL)
    processes.wait(made, 20)
    ctr.kill_template()
    leftovers.keep(*ctr.own_processes())


def templates() -> list[int]:
    found = []
    for process in processes.descendants():
        try:
            if Path(f"/proc/{process.pid}/cmdline").read_bytes().startswith(b"gosudacon-shim-template\0"):
                found.append(process.pid)
        except OSError:
            continue
    return found


@pytest.fixture
def hooked(ctr: Containerd, scratch: Path, busybox_rootfs: Path) -> list[str | Path]:
    """Options of ``ctr run`` for a container whose createRuntime hook says so in ``hook`` and sleeps."""
    spec = json.loads(ctr.ctr("oci", "spec").stdout)
    script = f"echo $$ >{scratch}/hook.new; mv {scratch}/hook.new {scratch}/hook; exec sleep 1000"
    spec["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}
    spec["root"] = {"path": str(busybox_rootfs), "readonly": True}
    spec["process"]["args"] = ["sleep", "1000"]
    spec["linux"]["cgroupsPath"] = f"/{ctr.namespace}/hooked"
    (scratch / "spec.json").write_text(json.dumps(spec))
    fifos = ctr.base / "fifo"
    return [
        "run",
        "--runtime",
        "io.containerd.gosudacon.v1",
        "--fifo-dir",
        fifos,
        "--config",
        scratch / "spec.json",
        "--detach",
    ]


def test_worker_killed(ctr: Containerd, scratch: Path, hooked: list[str | Path], detached: Detached) -> None:
    """In the middle of a creation: that fails, what it had made goes, and other containers go on."""
    other = detached(SLEEP)
    name = new_name()
    words = ctr.words(*hooked, name)
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as client:
        eventually((scratch / "hook").exists, 20, "the hook")
        hook = int((scratch / "hook").read_text())
        worker = int(Path(f"/proc/{hook}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(worker, signal.SIGKILL)
        _, error = client.communicate(timeout=seconds(30))
    assert client.returncode != 0 and "killed" in error
    eventually(lambda: not processes.alive(hook), 20, "the end of the hook")
    assert {path.name for path in ctr.states.iterdir()} == {other}
    ctr.ctr("containers", "delete", name, check=False)
    assert finish(ctr, other) == 137


def test_shim_killed_in_a_creation(ctr: Containerd, scratch: Path, hooked: list[str | Path]) -> None:
    name = new_name()
    words = ctr.words(*hooked, name)
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as client:
        eventually((scratch / "hook").exists, 20, "the hook")
        hook = int((scratch / "hook").read_text())
        processes.kill(shim_of(ctr, name))
        client.communicate(timeout=seconds(60))
    assert client.returncode != 0
    eventually(lambda: not list(ctr.states.glob("*")), 20, "the container's removal")
    eventually(lambda: not processes.alive(hook), 20, "the end of the hook")
    ctr.ctr("tasks", "delete", "--force", name, check=False)
    ctr.ctr("containers", "delete", name, check=False)
    assert not list(Path("/run/containerd/s").iterdir())


def test_64_mib_through_it(ctr: Containerd) -> None:
    """In and out, without loss."""
    data = os.urandom(1 << 20) * 64
    words = ctr.words(*ctr.run_arguments(IMAGE, new_name(), ["cat"], "--rm"))
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        out, _ = client.communicate(data, timeout=seconds(120))
    assert (len(out), hashlib.sha256(out).digest()) == (len(data), hashlib.sha256(data).digest())


def test_many_processes_at_once(ctr: Containerd, detached: Detached) -> None:
    name = detached(SLEEP)
    words = ctr.words("tasks", "exec", "--fifo-dir", ctr.base / "fifo", "--exec-id")
    clients = [
        subprocess.Popen([*words, f"e{number}", name, "sh", "-c", f"exit {number}"], stdin=subprocess.DEVNULL)
        for number in range(60)
    ]
    assert [client.wait(seconds(120)) for client in clients] == [*range(60)]
    assert finish(ctr, name) == 137


def test_a_process_at_the_moment_of_the_end(ctr: Containerd, detached: Detached) -> None:
    """It has run, or is refused; nobody hangs."""
    name = detached(SLEEP)
    words = ctr.words("tasks", "exec", "--fifo-dir", ctr.base / "fifo", "--exec-id")
    clients = [
        subprocess.Popen(
            [*words, f"e{number}", name, "sleep", "1000"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for number in range(10)
    ]
    assert finish(ctr, name) == 137
    assert all(client.wait(seconds(30)) != 0 for client in clients)


def test_nobody_reads(ctr: Containerd, detached: Detached) -> None:
    """A FIFO without a reader fills, and the container waits; who comes later finds what was written."""
    name = detached("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; exec sleep 1000")
    assert status(ctr, name) == "RUNNING"
    status_, out, _ = collect_output(ctr.words("tasks", "kill", "--signal", "KILL", name))
    assert (status_, out) == (0, b"")
    assert collect(ctr, name) == 137


def test_no_descriptor_of_another_container(ctr: Containerd, detached: Detached) -> None:
    names = [detached(SLEEP) for _ in range(3)]
    for name in names:
        links = [os.readlink(path) for path in Path(f"/proc/{pid(ctr, name)}/fd").iterdir()]
        assert len(links) == 3
        assert not [link for link in links for other in names if other != name and other in link]
    for name in names:
        finish(ctr, name)


def test_a_start_that_fails(ctr: Containerd, scratch: Path) -> None:
    """Says why on standard error, and leaves no socket."""
    assert ctr.shim is not None
    (scratch / "config.json").write_text("{}")
    (scratch / ".address").mkdir()
    words: list[str | Path] = [ctr.shim, "-namespace", "n", "-address", "/none", "-id", "x", "start"]
    before = {*Path("/run/containerd/s").iterdir()}
    result = subprocess.run(words, cwd=scratch, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("containerd-shim-gosudacon-v1: ") and "is a directory" in result.stderr
    assert {*Path("/run/containerd/s").iterdir()} == before


def test_nothing_to_delete(ctr: Containerd, scratch: Path) -> None:
    """Answered by the launcher where the container's state is gone, by Python where there never was any."""
    assert ctr.shim is not None
    (scratch / "rootfs").mkdir()
    words: list[str | Path] = [
        ctr.shim,
        "-namespace",
        "n",
        "-address",
        "/none",
        "-id",
        "x",
        "-bundle",
        scratch,
        "delete",
    ]
    answers = []
    for link in (False, True):
        if link:
            (scratch / "gosudacon").symlink_to(scratch / "gone")
        result = subprocess.run(words, cwd=scratch, stdin=subprocess.DEVNULL, capture_output=True, check=True)
        answers.append(protobuf.decode(wire.DELETE_RESPONSE, result.stdout))
    for answer in answers:
        assert (answer["pid"], answer["exit_status"]) == (0, 137)
        assert abs(answer["exited_at"]["seconds"] - time.time()) < 60
