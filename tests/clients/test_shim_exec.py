"""A process that the shim executes in a container is what the command's ``exec`` makes, with one process less."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("google.protobuf", "6.30", reason="needs protobuf")

from tests.clients.ttrpc_client import OCI, Client, Events, Failure, Shim, any_of
from tests.support.bundle import Bundle
from tests.support.containerd_api import message_class
from tests.support.needs import needs
from tests.support.runtime import runtime_command
from tests.support.stepping import Following
from tests.support.timing import seconds

pytestmark = [pytest.mark.vm, needs("root", "busybox", "runtime:gosudacon", "x86-64")]

STATUS = re.compile(
    r"^(Umask|Uid|Gid|Groups|Cap\w+|NoNewPrivs|Seccomp\w*|Cpus_allowed_list|Shd\w+|Sig\w+|NSpid):[ \t]*(.*)$",
    re.MULTILINE,
)
PROFILE = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["reboot", "clone3"], "action": "SCMP_ACT_ERRNO"}]}
USER = {
    "user": {"uid": 1000, "gid": 1001, "additionalGids": [7], "umask": 0o27},
    "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 99}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}],
    "oomScoreAdj": 321,
    "env": ["PATH=/bin", "A=b c", "HOME=/tmp"],
    "cwd": "/tmp",
}
WITH_NOTHING = {"noNewPrivileges": True, "capabilities": {}}


class Running:
    """A container that sleeps, in a shim of ours."""

    def __init__(self, shim: Shim, bundle: Bundle, scratch: Path, token: str) -> None:
        self.shim, self.bundle, self.scratch = shim, bundle, scratch
        self.states = scratch / "states" / token
        self.options = any_of(
            "containerd.runc.v1.Options", message_class("containerd.runc.v1.Options")(root=str(scratch / "states"))
        )
        self.client: Client
        self.init = 0
        self._number = 0

    def begin(self, **settings: Any) -> None:
        """Create and start it, with these settings of config.json."""
        for key, value in settings.items():
            self.bundle.set(key.replace("__", "."), value)
        self.bundle.set("process.args", ["/bin/sleep", "1000"]).write()
        self.shim.start(self.options)
        self.client = self.shim.client()
        self.client.call("Create", id=self.bundle.id, bundle=str(self.bundle.path), options=self.options)
        self.init = self.client.call("Start", id=self.bundle.id).pid

    def by_shim(self, process: dict[str, Any], **fields: Any) -> tuple[int, int]:
        """Execute it; its pid, and how many processes the shim's worker has made for it."""
        self._number += 1
        exec_id = f"e{self._number}"
        self.client.call("Exec", id=self.bundle.id, exec_id=exec_id, spec=any_of(f"{OCI}/Process", process), **fields)
        shim = self.client.call("Connect", id=self.bundle.id).shim_pid
        with Following(shim, self.scratch / "report") as following:
            pid = self.client.call("Start", id=self.bundle.id, exec_id=exec_id).pid
        return pid, sum(name.startswith("0.0.") for name in following.calls)

    def by_command(self, process: dict[str, Any]) -> int:
        """Execute it with the command; its pid."""
        file, pid_file = self.scratch / "process.json", self.scratch / "pid"
        file.write_text(json.dumps(process))
        words = ["exec", "--detach", "--process", str(file), "--pid-file", str(pid_file), self.bundle.id]
        subprocess.run(
            [*runtime_command(), "--root", str(self.states), *words],
            check=True,
            timeout=seconds(20),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        return int(pid_file.read_text())

    def process(self, **changes: Any) -> dict[str, Any]:
        """The container's, one that sleeps, with changes."""
        return {**self.bundle.config["process"], "oomScoreAdj": 5, "args": ["/bin/sleep", "1000"], **changes}

    def end(self) -> None:
        if self.init:
            self.client.call("Kill", id=self.bundle.id, signal=9, all=True)
            self.client.call("Wait", id=self.bundle.id)
            self.client.call("Delete", id=self.bundle.id)
            self.client.call("Shutdown", id=self.bundle.id)
            self.client.__exit__()
            self.shim.delete()


@pytest.fixture
def running(program: Path, bundle: Bundle, scratch: Path, token: str) -> Iterator[Running]:
    path = scratch / bundle.id
    bundle.path.rename(path)
    bundle.path = path
    events = Events(scratch / "events")
    running = Running(Shim(program, path, bundle.id, token, events), bundle, scratch, token)
    try:
        yield running
        running.end()
    finally:
        running.shim.close()
        events.close()


def facts(pid: int) -> dict[str, object]:
    """What the kernel shows of a process, but for what is its own: numbers, times, files behind its streams."""
    folder = Path(f"/proc/{pid}")
    status: dict[str, object] = dict(STATUS.findall((folder / "status").read_text()))
    status["NSpid"] = len(str(status["NSpid"]).split())
    names = ("limits", "cgroup", "oom_score_adj", "environ", "cmdline", "personality")
    return {
        **status,
        **{name: (folder / name).read_text() for name in names},
        **{f"ns/{name}": os.readlink(folder / "ns" / name) for name in os.listdir(folder / "ns")},
        "cwd": os.readlink(folder / "cwd"),
        "root": os.stat(folder / "root").st_ino,
        "descriptors": sorted(os.listdir(folder / "fd")),
        "leads a session": os.getsid(pid) == pid,
        "dumpable": os.stat(folder / "stat").st_uid,
        "affinity": os.sched_getaffinity(pid),
    }


@pytest.mark.parametrize(
    "changes", [{}, USER, WITH_NOTHING, {**USER, **WITH_NOTHING}], ids=["plain", "user", "nothing", "both"]
)
@pytest.mark.parametrize("settings", [{}, {"linux__seccomp": PROFILE}], ids=["", "seccomp"])
def test_it_is_what_the_command_makes(running: Running, settings: dict[str, Any], changes: dict[str, Any]) -> None:
    running.begin(**settings)
    process = running.process(**changes)
    pid, made = running.by_shim(process)
    assert made == 1
    other = running.by_command(process)
    try:
        assert facts(pid) == facts(other)
    finally:
        os.kill(other, signal.SIGKILL)
        os.waitpid(other, 0)  # init waits for it at its end
    status = Path(f"/proc/{pid}/status").read_text()
    shim = running.client.call("Connect", id=running.bundle.id).shim_pid
    assert f"PPid:\t{shim}\n" in status


def on_a_terminal(running: Running) -> int:
    return running.by_shim(running.process(terminal=True), terminal=True)[1]


def with_a_scheduler(running: Running) -> int:
    return running.by_shim(running.process(scheduler={"policy": "SCHED_BATCH", "nice": 3}))[1]


@pytest.mark.parametrize("way", [on_a_terminal, with_a_scheduler])
def test_what_needs_a_runtime_beside_it(running: Running, way: Callable[[Running], int]) -> None:
    """Has one: the worker stays, and clones a process that joins the container."""
    running.begin()
    assert way(running) == 2


def test_init_has_moved(running: Running) -> None:
    """Out of the container's cgroup: there the process goes, too, and the worker, who is not there, clones it."""
    running.begin()
    lines = Path(f"/proc/{running.init}/cgroup").read_text().splitlines()
    path = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), None)
    mounts = [Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")]
    unified = next((mount for mount in mounts if (mount / "cgroup.procs").exists()), None)
    if path is None or unified is None:
        pytest.skip("no unified hierarchy")
    aside = Path(f"{unified}{path}").with_name(f"{running.bundle.id}-aside")
    aside.mkdir()
    try:
        (aside / "cgroup.procs").write_text(str(running.init))
        pid, made = running.by_shim(running.process())
        assert made == 2
        assert Path(f"/proc/{pid}/cgroup").read_text() == Path(f"/proc/{running.init}/cgroup").read_text()
    finally:
        for each in (aside / "cgroup.procs").read_text().split():
            Path(f"{unified}{path}/cgroup.procs").write_text(each)
        aside.rmdir()


@pytest.mark.parametrize(
    ("process", "text"),
    [
        ({"args": ["/nowhere"]}, "no such file"),
        ({"args": ["nowhere"]}, "not found in $PATH"),
        ({"args": ["/etc"]}, "permission denied"),
        ({"args": ["/bin/true"], "cwd": "/nowhere"}, "no such file"),
        ({"args": ["/text"]}, "exec format error"),
        ({"args": []}, "args"),
    ],
)
def test_what_cannot_be_executed(running: Running, process: dict[str, Any], text: str) -> None:
    running.begin()
    rootfs = Path(f"/proc/{running.init}/root")
    (rootfs / "text").write_bytes(b"\x7fELF" + b"x" * 100)
    (rootfs / "text").chmod(0o755)
    with pytest.raises(Failure, match=re.escape(text)):
        running.by_shim(running.process(**process))


def test_a_process_that_is_killed_while_it_waits(running: Running) -> None:
    """By a signal to all in the container: the request fails, or the process was there."""
    running.begin()
    for number in range(20):
        exec_id = f"k{number}"
        spec = any_of(f"{OCI}/Process", running.process())
        running.client.call("Exec", id=running.bundle.id, exec_id=exec_id, spec=spec)
        stream = running.client.begin("Start", id=running.bundle.id, exec_id=exec_id)
        with Path(f"/proc/{running.init}/cgroup").open() as file:
            own = file.read().splitlines()[0].split(":", 2)
        directory = next(
            (path for path in Path("/sys/fs/cgroup").iterdir() if (Path(f"{path}{own[2]}") / "cgroup.procs").exists()),
            Path("/sys/fs/cgroup"),
        )
        for pid in Path(f"{directory}{own[2]}/cgroup.procs").read_text().split():
            if int(pid) != running.init:
                os.kill(int(pid), signal.SIGKILL)
        try:
            pid = running.client.finish(stream).pid
        except Failure as failure:
            assert "killed" in failure.message or "ended" in failure.message, failure.message
        else:
            assert pid > 0
    assert running.client.call("State", id=running.bundle.id).status == 2
