"""Every step of a plan fails in turn, by an error and by the death of either side, and nothing is left behind.

The plugin of tests/plugins/faults makes the step fail. What is left is looked for after every single failure: at once
where the runtime has unwound, after ``delete --force`` where it was killed. That ``delete`` gets the container's lock,
and that the next ``create`` gets its id, shows that neither is held any more.
"""

from __future__ import annotations

import copy
import itertools
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support import plugins, processes
from tests.support.bundle import Bundle
from tests.support.leftovers import Watch
from tests.support.runtime import Runtime
from tests.support.timing import eventually, seconds

CONFIG = 'plugins = ["banner", "faults"]\n[stage.banner]\ndirectory = "{notes}"\n'
STOPPED = "stopped at the step"  # what the plugin says where it cannot say it on its socket
TRUE = [{"path": "/bin/true", "timeout": 30}]
MOUNTS = [
    {"destination": "/mnt/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["size=64k", "mode=700"]},
    {"destination": "/mnt/file", "type": "bind", "source": "/etc/passwd", "options": ["bind", "ro"]},
    {"destination": "/mnt/tree", "type": "bind", "source": "/usr/share/doc", "options": ["rbind", "ro", "nosuid"]},
    {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid"]},
]
RICH: dict[str, Any] = {
    "domainname": "example.org",
    "root": {"readonly": True},
    "process": {
        "args": ["/bin/sleep", "1000"],
        "cwd": "/tmp",
        "user": {"uid": 1000, "gid": 1000, "additionalGids": [29], "umask": 63},
        "oomScoreAdj": 100,
        "scheduler": {"policy": "SCHED_BATCH", "nice": 1},
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 5},
    },
    "hooks": {
        kind: TRUE
        for kind in ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
    },
    "linux": {
        "sysctl": {"net.ipv4.ip_forward": "1", "kernel.msgmax": "65536"},
        "devices": [{"path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 438, "uid": 0, "gid": 0}],
        "rootfsPropagation": "slave",
        "resources": {
            "devices": [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 1, "access": "rwm"}],
            "memory": {"limit": 1 << 28},
            "cpu": {"shares": 512, "quota": 50000, "period": 100000},
            "pids": {"limit": 50},
        },
        "seccomp": {
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
            "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_ERRNO"}],
        },
    },
}


class Fixture:
    """A runtime with the plugins, one bundle, its plan, and what can be done to it."""

    def __init__(self, runtime: Runtime, bundle: Bundle, watch: Watch, scratch: Path) -> None:
        self.runtime = runtime
        self.bundle = bundle
        self.watch = watch
        self.notes = scratch / "notes"
        self.path = scratch / "fault.sock"
        self.steps: list[dict[str, Any]] = []
        self.problems: list[str] = []

    def plan(self) -> list[dict[str, Any]]:
        """The steps of the plan that run in ``create`` and ``start``, with their number as ``index``."""
        explained = json.loads(self.runtime.call("explain", "--format", "json", self.bundle.path).stdout)
        steps = [dict(step, index=index) for index, step in enumerate(explained["steps"])]
        waiting = next(step["index"] for step in steps if step["step"] == "WaitForStart")
        for step in steps:
            step["in_start"] = step["index"] > waiting
        steps = [step for step in steps if step["phase"] not in ("started", "delete")]
        if "VM_RUN" in os.environ:  # slow, and there for what is different there
            return [step for step in steps if step["stage"] in ("cgroups", "namespaces", "banner")]
        return steps

    def fault(self, step: dict[str, Any], when: str, what: str) -> None:
        path = self.path if what == "stop" else ""
        self.bundle.set("annotations", {"gosudacon.test.fault": f"{step['index']}:{when}:{what}:{path}"})

    def listen(self) -> socket.socket:
        """The socket on which the plugin says that it has stopped."""
        self.path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(str(self.path))
        listener.listen(1)
        listener.settimeout(seconds(20))
        return listener

    def expect(self, fact: bool, text: str) -> None:
        if not fact:
            raise AssertionError(text)

    def clean(self) -> None:
        """Nothing may be left now."""
        left = self.watch.leftovers() + [f"note {path}" for path in self.notes.iterdir()]
        self.expect(not left, "left behind: " + ", ".join(left))


@pytest.fixture(scope="module")
def site(session_scratch: Path) -> Path:
    path = session_scratch / "faults-site"
    path.mkdir()
    plugins.install(path, "banner", "faults", scratch=session_scratch)
    return path


@pytest.fixture
def fixture(leftovers: Watch, scratch: Path, bundle: Bundle, site: Path) -> Iterator[Fixture]:
    (scratch / "notes").mkdir()
    entry = plugins.entry(site, scratch / "entry.py")
    config = CONFIG.format(notes=scratch / "notes")
    runtime = plugins.runtime(entry, scratch / "config.toml", config, scratch / "root")
    bundle.config["mounts"] += MOUNTS
    bundle.update(copy.deepcopy(RICH))  # tests change it
    (bundle.rootfs / "run").chmod(0o777)
    yield Fixture(runtime, bundle, leftovers, scratch)
    runtime.clean()


def configure(bundle: Bundle, kind: str) -> None:
    """``plain``: one clone3(2). ``mapped``: a user and a time namespace, so that init is made in several steps."""
    bundle.add_namespace("cgroup")
    if kind == "mapped":
        bundle.map_users(host_id=0).add_namespace("time")
        bundle.set("linux.timeOffsets", {"monotonic": {"secs": 100}})
        bundle.remove("linux.devices")  # would be bound from the host's /dev


def each(fixture: Fixture, steps: list[tuple[dict[str, Any], str]], act: Any) -> None:
    """Do it for every step; clean up after a failure, go on, and fail with all of them at the end."""
    problems = []
    for step, when in steps:
        try:
            act(fixture, step, when)
            fixture.clean()
        except (AssertionError, subprocess.TimeoutExpired, OSError) as error:
            problems.append(f"{when} {step['index']} {step['stage']}: {step['what']} ({step['side']}): {error}")
            fixture.runtime.call("delete", "--force", fixture.bundle.id, check=False)
            fixture.watch.clear()
            for note in fixture.notes.iterdir():
                note.unlink()
    assert not problems, f"{len(problems)} of {len(steps)}:\n" + "\n".join(problems)


def before_and_after(steps: list[dict[str, Any]]) -> list[tuple[dict[str, Any], str]]:
    """Before every step; after those whose effect differs from what the next one finds before it."""
    after = [step for step in steps if step["undone_by_delete"] or step["step"] in ("Spawn", "Fork", "Listen")]
    return [(step, "before") for step in steps] + [(step, "after") for step in after]


# An error.


def fail(fixture: Fixture, step: dict[str, Any], when: str, what: str) -> None:
    runtime, bundle = fixture.runtime, fixture.bundle
    fixture.fault(step, when, what)
    if step["in_start"]:
        runtime.create(bundle)
        result = runtime.start(bundle, check=False)
    else:
        result = runtime.create(bundle, check=False)
    fixture.expect(result.returncode == 1, f"exit status {result.returncode}")
    fixture.expect("fault injected" in result.stderr or what == "oserror", f"the error is lost: {result.stderr}")
    fixture.expect("no space left on device" in result.stderr or what == "error", f"errno is lost: {result.stderr}")
    if step["in_start"]:
        runtime.until(bundle, "stopped")
        runtime.delete(bundle)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [pytest.param("plain", marks=pytest.mark.vm), "mapped"])
def test_an_error_in_any_step_is_reported_and_unwound(fixture: Fixture, kind: str) -> None:
    configure(fixture.bundle, kind)
    kinds = itertools.cycle(("error", "oserror"))
    each(fixture, before_and_after(fixture.plan()), lambda fixture, step, when: fail(fixture, step, when, next(kinds)))


# kill -9.


class Stopped:
    """A command that stands still at a step until `finish`."""

    def __init__(self, fixture: Fixture, step: dict[str, Any], process: subprocess.Popen[bytes]) -> None:
        self.fixture = fixture
        self.step = step
        self.process = process
        self.channel = socket.socket()  # of the plugin; its end lets the command go on

    def kill_container(self) -> None:
        """Kill the container's process, or whatever there is of it while it is being made."""
        if self.step["in_start"]:
            os.kill(self.fixture.runtime.pid(self.fixture.bundle), signal.SIGKILL)
            return
        self.fixture.expect(bool(self._children()), "there is no container process")
        eventually(self._kill_children, 20, "its death")

    def _kill_children(self) -> bool:
        children = self._children()
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        return not children

    def _children(self) -> list[int]:
        pid = self.process.pid
        found = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return [child for child in found if processes.alive(child)]

    def await_stop(self) -> None:
        if self.channel.recv(1):
            return
        bundle = self.fixture.bundle  # init has closed its descriptors by now, or something went wrong
        stopped = eventually(lambda: STOPPED in bundle.stderr or self.process.poll() is not None, 20, "the stop")
        self.fixture.expect(stopped and STOPPED in bundle.stderr, f"ended and did not stop: {bundle.stderr}")

    def finish(self) -> int:
        """Let go what stands still, and wait for the command; its exit status."""
        self.channel.close()
        return self.process.wait(seconds(20))


@contextmanager
def stopped_at(fixture: Fixture, step: dict[str, Any], when: str) -> Iterator[Stopped]:
    """Run ``create``, and ``start`` if the step belongs there, up to the step."""
    bundle, runtime = fixture.bundle, fixture.runtime
    fixture.fault(step, when, "stop")
    if bundle.id not in runtime.created:
        runtime.created.append(bundle.id)
    command = [*runtime.command, "--root", str(runtime.root)]
    with ExitStack() as stack:
        listener = stack.enter_context(fixture.listen())
        out = stack.enter_context((bundle.path / "stdout").open("wb"))
        err = stack.enter_context((bundle.path / "stderr").open("wb"))
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err}
        create = subprocess.Popen([*command, "create", "--bundle", str(bundle.path), bundle.id], **streams)
        stack.callback(end, create)
        stopped = Stopped(fixture, step, create)
        stopped.channel, _ = listener.accept()
        stack.callback(stopped.channel.close)
        stopped.channel.settimeout(seconds(20))
        if step["in_start"]:
            fixture.expect(create.wait(seconds(20)) == 0, f"create failed: {bundle.stderr}")
            stopped.process = subprocess.Popen([*command, "start", bundle.id], **streams)
            stack.callback(end, stopped.process)
        stopped.await_stop()
        yield stopped


def end(process: subprocess.Popen[bytes]) -> None:
    """Whatever happened, the command does not go on."""
    process.kill()
    process.wait()


def kill_runtime(fixture: Fixture, step: dict[str, Any], when: str) -> None:
    with stopped_at(fixture, step, when) as stopped:
        stopped.process.kill()
        fixture.expect(stopped.finish() == -signal.SIGKILL, "the command was not killed")
    fixture.runtime.delete(fixture.bundle, "--force")


def kill_container(fixture: Fixture, step: dict[str, Any], when: str) -> None:
    with stopped_at(fixture, step, when) as stopped:
        stopped.kill_container()
        status = stopped.finish()
    fixture.expect(status == 1, f"exit status {status}: {fixture.bundle.stderr}")
    if step["in_start"]:
        fixture.runtime.until(fixture.bundle, "stopped")
        fixture.runtime.delete(fixture.bundle)
    else:
        fixture.expect("killed by signal 9" in fixture.bundle.stderr, f"not said why: {fixture.bundle.stderr}")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [pytest.param("plain", marks=pytest.mark.vm), "mapped"])
def test_runtime_killed_at_any_step(fixture: Fixture, kind: str) -> None:
    """The runtime killed at any step leaves what delete can undo."""
    configure(fixture.bundle, kind)
    each(fixture, before_and_after(fixture.plan()), kill_runtime)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [pytest.param("plain", marks=pytest.mark.vm), "mapped"])
def test_container_killed_at_any_step(fixture: Fixture, kind: str) -> None:
    """The container killed at any step is noticed and unwound."""
    configure(fixture.bundle, kind)
    steps = fixture.plan()
    spawn = next(step["index"] for step in steps if step["step"] == "Spawn")
    exists = [(step, when) for step, when in before_and_after(steps) if step["index"] >= spawn + (when == "before")]
    each(fixture, exists, kill_container)


# While undoing.


def kill_while_undoing(fixture: Fixture, *arguments: str | Path) -> None:
    """Kill a command at the step that stops when it is undone."""
    runtime = fixture.runtime
    command = [*runtime.command, "--root", str(runtime.root), *map(str, arguments)]
    with fixture.listen() as listener:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            channel, _ = listener.accept()
            with channel:
                assert channel.recv(1) == b"!"
                process.kill()
        finally:
            end(process)


@pytest.mark.parametrize("where", ["first", "last"])
def test_delete_killed(fixture: Fixture, where: str) -> None:
    """A delete that was killed is finished by the next."""
    fixture.bundle.set("annotations", {"gosudacon.test.undo": f"{where}:{fixture.path}"})
    fixture.runtime.create(fixture.bundle)
    kill_while_undoing(fixture, "delete", fixture.bundle.id)
    assert fixture.runtime.status(fixture.bundle) == "stopped"
    kill_while_undoing(fixture, "delete", "--force", fixture.bundle.id)
    finish_undoing(fixture)


@pytest.mark.parametrize("where", ["first", "last"])
def test_create_killed_while_unwinding(fixture: Fixture, where: str) -> None:
    """A create that was killed while it unwound is finished by delete."""
    fixture.bundle.set("annotations", {"gosudacon.test.undo": f"{where}:{fixture.path}"})
    fixture.bundle.set("process.args", ["/no/such/program"])
    fixture.runtime.created.append(fixture.bundle.id)
    kill_while_undoing(fixture, "create", "--bundle", fixture.bundle.path, fixture.bundle.id)
    finish_undoing(fixture)


def test_create_cannot_be_undone(fixture: Fixture) -> None:
    """It stays listed until then, and poststop hooks wait for its end."""
    note, over = fixture.notes / fixture.bundle.id, fixture.bundle.path / "over"
    script = f"rm {note} && mkdir {note} && exit 1"
    fixture.bundle.set("hooks.createRuntime", [{"path": "/bin/sh", "args": ["sh", "-c", script]}])
    fixture.bundle.set("hooks.poststop", [{"path": "/usr/bin/touch", "args": ["touch", str(over)]}])
    result = fixture.runtime.create(fixture.bundle, check=False)
    assert (result.returncode, "error running createRuntime hook" in result.stderr) == (1, True)
    assert fixture.runtime.status(fixture.bundle) == "stopped"
    assert fixture.runtime.delete(fixture.bundle, "--force", check=False).returncode == 1
    assert not over.exists()
    note.rmdir()
    fixture.runtime.delete(fixture.bundle, "--force")
    assert over.exists()
    fixture.clean()


def finish_undoing(fixture: Fixture) -> None:
    """`delete --force`, not stopped this time."""
    with fixture.listen() as listener:

        def let_go() -> None:
            channel, _ = listener.accept()
            with channel:
                channel.recv(1)

        thread = threading.Thread(target=let_go)
        thread.start()
        fixture.runtime.delete(fixture.bundle, "--force")
        thread.join()
    fixture.clean()


# Steps that run after create: poststart and poststop hooks.


def test_failing_poststart_hook(fixture: Fixture) -> None:
    """A poststart hook that fails stops the container."""
    fixture.bundle.set("hooks.poststart", [{"path": "/bin/false"}])
    fixture.runtime.create(fixture.bundle)
    result = fixture.runtime.start(fixture.bundle, check=False)
    assert result.returncode == 1
    assert "error running poststart hook #0: exit status 1" in result.stderr
    fixture.runtime.until(fixture.bundle, "stopped")
    fixture.runtime.delete(fixture.bundle)
    fixture.clean()


def test_start_killed_in_a_poststart_hook(fixture: Fixture) -> None:
    fixture.bundle.set("hooks.poststart", [{"path": "/bin/sh", "args": ["sh", "-c", "kill -9 $PPID"]}])
    fixture.runtime.create(fixture.bundle)
    assert fixture.runtime.start(fixture.bundle, check=False).returncode == -signal.SIGKILL
    assert fixture.runtime.status(fixture.bundle) == "running"
    fixture.runtime.delete(fixture.bundle, "--force")
    fixture.clean()


def test_a_poststop_hook_that_fails_keeps_nothing(fixture: Fixture) -> None:
    fixture.bundle.set("hooks.poststop", [{"path": "/bin/false"}])
    fixture.runtime.create(fixture.bundle)
    fixture.runtime.delete(fixture.bundle)
    fixture.clean()


def test_delete_killed_in_a_poststop_hook(fixture: Fixture) -> None:
    fixture.bundle.set("hooks.poststop", [{"path": "/bin/sh", "args": ["sh", "-c", "kill -9 $PPID"]}])
    fixture.runtime.create(fixture.bundle)
    assert fixture.runtime.delete(fixture.bundle, check=False).returncode == -signal.SIGKILL
    fixture.clean()
    fixture.runtime.delete(fixture.bundle, "--force")
