"""What released versions left on disk: containers of theirs can be asked for, started, entered, stopped and deleted.

Each scenario makes a container with today's code and replaces its files with those that a release wrote.
With GOSUDACON_TEST_STATES=RELEASE in the environment there is one more test, `test_take_samples`, which takes the files
instead, for the samples of that release.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gosudacon.linux import proc
from gosudacon.pipeline.kinds import KINDS
from tests.support import plugins, states
from tests.support.bundle import Bundle
from tests.support.leftovers import Watch
from tests.support.needs import needs
from tests.support.network import Net, links
from tests.support.runtime import CHECKOUT, Runtime, runtime_command

pytestmark = needs("runtime:gosudacon")

RECORD = os.environ.get("GOSUDACON_TEST_STATES", "")
MARKS: dict[str, list[pytest.MarkDecorator]] = {
    "hybrid": [needs("cgroup-hybrid")],
    "v2": [needs("cgroup-v2"), pytest.mark.vm],
    "systemd": [needs("cgroup-v2", "systemd"), pytest.mark.vm_systemd],
}
MIB = 1 << 20
CONFIG = 'plugins = ["banner", "witness"]\n[stage.banner]\ndirectory = "{notes}"\n'


class Old:
    """A container in the state of a scenario; ``words`` stand in samples for what is this machine's."""

    def __init__(self, scenario: str, runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
        self.scenario = scenario
        self.runtime = runtime
        self.bundle = bundle
        self.scratch = scratch
        self.notes = scratch / "notes"
        self.book = scratch / "leases/gosudacon0.json"
        self.init = 0
        self.words = {
            "@SCRATCH@": str(scratch),
            "@CGROUP@": bundle.cgroups_path.strip("/"),
            "@ID@": bundle.id,
        }

    @property
    def directory(self) -> Path:
        return self.runtime.root / self.bundle.id

    def limit(self) -> str:
        """How many processes its cgroup may have."""
        found = json.loads((self.directory / "state.json").read_text())["cgroups"]
        return Path(found.get("pids") or found[""], "pids.max").read_text().strip()

    @property
    def status(self) -> str:
        return {"created": "created", "paused": "paused"}.get(
            self.scenario, "stopped" if self.scenario in ("stopped", "cut-short") else "running"
        )

    def hooked(self) -> list[str]:
        """The states that hooks have been given so far."""
        path = self.bundle.path / "hooked"
        return [json.loads(line)["status"] for line in path.read_text().splitlines()] if path.exists() else []

    def make(self) -> None:
        """Bring the container there."""
        runtime, bundle, scenario = self.runtime, self.bundle, self.scenario
        self._configure()
        if scenario == "cut-short":
            assert runtime.create(bundle, options=self._options(), check=False).returncode == -9
            return
        environment = {**os.environ, "NOTIFY_SOCKET": "/nonexistent"}
        runtime.create(bundle, options=self._options(), env=environment)
        self.init = runtime.pid(bundle)
        if scenario == "created":
            return
        if scenario == "network":
            (self.words["@LINK@"],) = json.loads(self.book.read_text())["leases"]
        runtime.start(bundle)
        if scenario == "updated":
            runtime.call("update", "--memory", str(40 * MIB), bundle.id)
        if scenario == "paused":
            runtime.call("pause", bundle.id)
        if scenario == "stopped":
            runtime.kill(bundle, "KILL")
            runtime.wait(self.init)

    def lay(self, sample: dict[str, Any]) -> None:
        """Replace what today's code has written with what a release has written."""
        today = json.loads((self.directory / "state.json").read_text())
        if set(sample["files"]["state.json"]["cgroups"]) != set(today["cgroups"]):
            pytest.skip("needs the cgroup hierarchies of the sample's machine")
        states.lay(sample, self.directory, self.words, self.book)

    def _options(self) -> list[str]:
        if states.layout() == "systemd":
            return ["--systemd-cgroup"]
        return ["--rootless", "true"] if self.scenario == "rootless" else []

    def _configure(self) -> None:
        bundle = self.bundle
        script = f"cat >>{bundle.path}/hooked; echo >>{bundle.path}/hooked"
        hook = {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["A=b"], "timeout": 30}
        bundle.update({"hooks": {"poststart": [hook], "poststop": [hook, {"path": "/bin/true"}]}})
        bundle.update({"annotations": {"org.example.note": "of 0.1.0"}})
        bundle.set("linux.resources.memory", {"limit": 64 * MIB}).set("linux.resources.pids", {"limit": 100})
        bundle.add_mount("/run", "tmpfs", "tmpfs", "tmpcopyup", "mode=755")
        (bundle.path / "link").symlink_to("/etc/target")
        bundle.add_mount("/mnt/link", "bind", str(bundle.path / "link"), "bind", "copy-symlink")
        if states.layout() == "systemd":
            bundle.set("linux.cgroupsPath", f":pre:{bundle.id}")
        if self.scenario == "shared-pid":
            bundle.drop_namespace("pid")
        if self.scenario == "cut-short":
            kill = {"path": "/bin/sh", "args": ["sh", "-c", "kill -9 $PPID; sleep 1"]}
            bundle.set("hooks.createRuntime", [kill])

    def upgrade(self, tree: Path) -> None:
        """From here on, the code in another directory is used."""
        entry = self.scratch / "entry.py"
        if entry.exists():
            # The environment's packages may lie below the checkout.
            entry.write_text(entry.read_text().replace(repr(str(CHECKOUT)), repr(str(tree))))
        else:
            self.runtime.command = [sys.executable, "-B", str(tree / "gosudacon/__main__.py")]


PLAIN = ("created", "running", "paused", "stopped", "updated", "shared-pid", "rootless", "cut-short")
SCENARIOS = (*PLAIN, "plugins", "network")


@pytest.fixture
def arrange(
    leftovers: Watch, scratch: Path, make_bundle: Callable[..., Bundle], request: pytest.FixtureRequest
) -> Iterator[Callable[[str], Old]]:
    """A function that brings a container of today's code into a scenario."""
    made: list[Old] = []

    def arranged(scenario: str) -> Old:
        (scratch / "notes").mkdir()
        if scenario == "network":
            runtime = Net(scratch).configure(nat=bool(shutil.which("nft")))
        elif scenario == "plugins":
            (scratch / "site").mkdir()
            plugins.install(scratch / "site", "banner", "witness", scratch=scratch)
            entry = plugins.entry(scratch / "site", scratch / "entry.py")
            text = CONFIG.format(notes=scratch / "notes")
            runtime = plugins.runtime(entry, scratch / "config.toml", text, scratch / "root", "--no-snapshot")
        else:
            runtime = Runtime(runtime_command(), scratch / "root")
        old = Old(scenario, runtime, make_bundle("exec sleep 1000"), scratch)
        made.append(old)
        old.make()
        return old

    yield arranged
    for old in made:
        old.runtime.clean()


if RECORD:  # it makes samples, and tests nothing

    @pytest.mark.parametrize("scenario", SCENARIOS)
    @pytest.mark.vm
    @pytest.mark.vm_systemd
    def test_take_samples(arrange: Callable[[str], Old], scenario: str) -> None:
        old = arrange(scenario)
        sample = states.take(old.directory, old.words, old.book)
        target = states.SAMPLES / RECORD / f"{states.layout()}-{scenario}.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(sample, indent=1) + "\n")


def sample_ids() -> list[Any]:
    """A parameter for each sample, with the marks of the machines that it can be laid on."""
    return [
        pytest.param(path, id=f"{path.parent.name}-{path.stem}", marks=MARKS[path.stem.partition("-")[0]])
        for path in states.samples()
    ]


@pytest.fixture
def old(arrange: Callable[[str], Old], sample: Path) -> Old:
    """A container of a released version."""
    value = arrange(sample.stem.partition("-")[2])
    value.lay(json.loads(sample.read_text()))
    return value


def live(old: Old) -> None:
    """What can be done with a container before it is deleted."""
    runtime, id = old.runtime, old.bundle.id
    state = runtime.state(id)
    assert state["status"] == old.status and state["annotations"] == {"org.example.note": "of 0.1.0"}
    (listed,) = json.loads(runtime.call("list", "--format", "json").stdout)
    assert (listed["id"], listed["status"], listed["pid"]) == (id, old.status, state["pid"])
    if old.scenario == "created":
        runtime.start(id)
        assert old.hooked() == ["running"]
    if old.status == "paused":
        assert "cannot exec in a paused container" in runtime.call("exec", id, "true", check=False).stderr
        runtime.call("resume", id)
    if old.status == "stopped":
        assert "container not running" in runtime.kill(id, check=False).stderr
        return
    assert runtime.call("exec", id, "echo", "hi").stdout == "hi\n"
    assert state["pid"] in json.loads(runtime.call("ps", "--format", "json", id).stdout)
    runtime.call("update", "--pids-limit", "50", id)
    assert old.limit() == "50"
    assert json.loads(runtime.call("events", "--stats", id).stdout)["data"]["pids"]["limit"] == 50
    for command, status in (("pause", "paused"), ("resume", "running")):
        runtime.call(command, id)
        assert runtime.status(id) == status
    assert "cannot delete container" in runtime.delete(id, check=False).stderr
    runtime.kill(id, "KILL")
    runtime.wait(old.init)
    runtime.until(id, "stopped")


def expect_nothing(old: Old) -> None:
    """All that the container had on the host is gone (the rest is what `leftovers` looks for)."""
    assert old.runtime.status(old.bundle.id) == "none"
    assert old.hooked()[-1:] == ["stopped"]
    assert not old.book.exists() and list(old.notes.iterdir()) == []
    if old.scenario == "network":
        assert set(links()) == {"lo"}
    if old.scenario == "plugins":
        assert "delete finished well" in (old.bundle.path / "witness").read_text()


@pytest.mark.parametrize("sample", sample_ids())
def test_a_container_of_a_release_lives_on(old: Old) -> None:
    live(old)
    old.runtime.delete(old.bundle, *(["--force"] if old.scenario == "cut-short" else []))
    expect_nothing(old)


@pytest.mark.parametrize("sample", sample_ids())
def test_modules_have_moved(old: Old, scratch: Path) -> None:
    """With code in which the modules and classes that the release named cannot be imported."""
    tree = states.moved(scratch / "moved")
    for module, name in (place.split(":") for place in KINDS.values()):
        script = f"import sys; sys.path.insert(0, {str(tree)!r}); from {module} import {name}"
        assert subprocess.run([sys.executable, "-c", script], capture_output=True).returncode == 1
    old.upgrade(tree)
    live(old)
    old.runtime.delete(old.bundle, *(["--force"] if old.scenario == "cut-short" else []))
    expect_nothing(old)


@pytest.mark.parametrize("sample", sample_ids())
def test_a_container_of_a_release_is_deleted_by_force(old: Old) -> None:
    old.runtime.delete(old.bundle, "--force")
    expect_nothing(old)


RECORD_OF_A_FAILURE = {
    "type": "StepError",
    "message": 'exec: "/no": no such file or directory',
    "stage": "handoff",
    "step": "execve(/no)",
    "call": "execve",
    "errno": 2,
    "where": "process.args",
    "hint": "",
}


@pytest.mark.parametrize("answer", ["", "E" + json.dumps(RECORD_OF_A_FAILURE)], ids=["executes", "fails"])
def test_an_init_of_0_1_0_that_waits_is_started(runtime: Runtime, token: str, answer: str) -> None:
    """What it does at ``start.sock``: take one connection, and close it by execve(2), or send why it failed."""
    id = f"{token}-old"
    directory = runtime.root / id
    directory.mkdir(parents=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with in_directory(directory):
        listener.bind("start.sock")
    listener.listen(1)
    pid = os.fork()
    if pid == 0:
        connection, _ = listener.accept()
        if answer:
            connection.send(answer.encode())
            os._exit(1)
        os.execv("/bin/sleep", ["sleep", "1000"])
    listener.close()
    sample = json.loads((states.SAMPLES / "0.1.0/hybrid-created.json").read_text())["files"]["state.json"]
    sample.update(id=id, pid=pid, start_time=proc.start_time(pid), cgroups={}, lasting=[], started=[], deleted=[])
    (directory / "state.json").write_text(json.dumps(sample))
    assert runtime.status(id) == "created"
    result = runtime.start(id, check=False)
    assert (result.returncode, str(RECORD_OF_A_FAILURE["message"]) in result.stderr.replace("\\", "")) == (
        (1, True) if answer else (0, False)
    )
    assert runtime.status(id) == ("stopped" if answer else "running")
    runtime.delete(id, "--force")
    runtime.wait(pid)


@contextlib.contextmanager
def in_directory(path: Path) -> Iterator[None]:
    """The paths of sockets are short."""
    before = Path.cwd()
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(before)
