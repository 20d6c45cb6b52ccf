"""systemd's readiness protocol (sd_notify(3)) between a container and the NOTIFY_SOCKET of who starts it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.bundle import Bundle
from tests.support.runtime import Runtime
from tests.support.timing import seconds


class Manager:
    """The service manager's end: takes datagrams, and closes the pipes that come with barriers."""

    def __init__(self, address: str | Path) -> None:
        self.address = str(address)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + self.address[1:] if self.address.startswith("@") else self.address)
        self.socket.settimeout(seconds(10))

    def receive(self) -> str:
        text, handles, _, _ = socket.recv_fds(self.socket, 4096, 4)
        for fd in handles:
            os.close(fd)
        return text.decode()

    def silent(self) -> bool:
        self.socket.setblocking(False)
        try:
            self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        finally:
            self.socket.settimeout(seconds(10))
        return False

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "NOTIFY_SOCKET": self.address}


@pytest.fixture
def manager(scratch: Path) -> Iterator[Manager]:
    manager = Manager(scratch / "manager.sock")
    yield manager
    manager.socket.close()


@pytest.fixture
def service(bundle: Bundle) -> Bundle:
    """A container that does what comes in through a pipe: its root has a program that sends datagrams."""
    os.mkfifo(bundle.rootfs / "orders")
    return bundle.set("process.args", ["/bin/sh", "-c", 'while read order </orders; do eval "$order"; done'])


def call(runtime: Runtime, service: Bundle, manager: Manager, *words: str) -> subprocess.Popen[bytes]:
    runtime.created.append(service.id)
    return subprocess.Popen(
        [*runtime.command, "--root", str(runtime.root), *words], env=manager.env, stdin=subprocess.DEVNULL
    )


def notify(pid: int, message: bytes) -> None:
    """Send as a process of the container: by the path that is in its environment, in its root."""
    environment = dict(
        entry.split(b"=", 1) for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if b"=" in entry
    )
    assert environment[b"NOTIFY_SOCKET"] == b"/run/notify/notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(message, b"/proc/%d/root/run/notify/notify.sock" % pid)


def test_start_waits_for_ready(runtime: Runtime, service: Bundle, manager: Manager) -> None:
    """Start waits for ready and hands the service over."""
    runtime.create(service, env=manager.env)
    pid = runtime.pid(service)
    starting = call(runtime, service, manager, "start", service.id)
    runtime.until(service, "running")
    notify(pid, b"STATUS=warming up")
    notify(pid, b"NOT READY=1")
    assert manager.silent() and starting.poll() is None
    notify(pid, b"STATUS=up\nREADY=1\nMAINPID=1")
    assert [manager.receive() for _ in range(3)] == ["READY=1\n", f"MAINPID={pid}\n", "BARRIER=1"]
    assert starting.wait(seconds(10)) == 0
    assert manager.silent()
    assert not (runtime.root / service.id / "start.sock").exists()
    runtime.delete(service, "--force")
    assert not (runtime.root / service.id).exists()


def test_the_container_can_change_nothing_there(runtime: Runtime, service: Bundle, manager: Manager) -> None:
    runtime.create(service, env=manager.env)
    starting = call(runtime, service, manager, "start", service.id)
    runtime.until(service, "running")
    found = runtime.call("exec", service.id, "sh", "-c", "touch /run/notify/x; rm /run/notify/notify.sock", check=False)
    assert found.stderr.count("Read-only file system") == 2
    options = runtime.call("exec", service.id, "grep", " /run/notify ", "/proc/mounts").stdout.split()[3].split(",")
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(options)
    notify(runtime.pid(service), b"READY=1")
    assert manager.receive() == "READY=1\n"
    assert [manager.receive() for _ in range(2)][1] == "BARRIER=1"
    assert starting.wait(seconds(10)) == 0


@pytest.mark.parametrize("user", [0, 1000])
def test_any_user_of_a_user_namespace_can_speak(runtime: Runtime, service: Bundle, manager: Manager, user: int) -> None:
    service.map_users()
    for path in (service.rootfs, service.rootfs / "orders"):
        os.chown(path, 100000, 100000)
    (service.rootfs / "orders").chmod(0o666)
    (service.rootfs / "run/notify").mkdir()
    service.set("process.user", {"uid": user, "gid": user})
    runtime.create(service, env=manager.env)
    starting = call(runtime, service, manager, "start", service.id)
    runtime.until(service, "running")
    notify(runtime.pid(service), b"READY=1")
    assert manager.receive() == "READY=1\n"
    assert [manager.receive() for _ in range(2)][1] == "BARRIER=1"
    assert starting.wait(seconds(10)) == 0


def test_start_does_not_outlive_the_container(runtime: Runtime, service: Bundle, manager: Manager) -> None:
    service.set("process.args", ["/bin/true"])
    runtime.create(service, env=manager.env)
    assert call(runtime, service, manager, "start", service.id).wait(seconds(10)) == 0
    assert manager.silent()


def test_delete_while_start_waits(runtime: Runtime, service: Bundle, manager: Manager) -> None:
    """A container that start waits for can be deleted."""
    runtime.create(service, env=manager.env)
    starting = call(runtime, service, manager, "start", service.id)
    runtime.until(service, "running")
    runtime.delete(service, "--force")
    assert starting.wait(seconds(10)) == 0


def test_a_detached_run_waits_like_start(runtime: Runtime, service: Bundle, manager: Manager) -> None:
    running = call(runtime, service, manager, "run", "--detach", "--bundle", str(service.path), service.id)
    runtime.until(service, "running")
    pid = runtime.pid(service)
    notify(pid, b"READY=1")
    assert [manager.receive() for _ in range(3)] == ["READY=1\n", f"MAINPID={pid}\n", "BARRIER=1"]
    assert running.wait(seconds(10)) == 0


def test_a_foreground_run_stays_the_main_process(runtime: Runtime, service: Bundle, manager: Manager) -> None:
    running = call(runtime, service, manager, "run", "--bundle", str(service.path), service.id)
    runtime.until(service, "running")
    notify(runtime.pid(service), b"READY=1")
    assert manager.receive() == "READY=1\n"
    runtime.kill(service, "KILL")
    assert running.wait(seconds(10)) == 137
    assert manager.silent()


def test_an_abstract_address(runtime: Runtime, service: Bundle, token: str) -> None:
    manager = Manager(f"@{token}")
    runtime.create(service, env=manager.env)
    starting = call(runtime, service, manager, "start", service.id)
    runtime.until(service, "running")
    notify(runtime.pid(service), b"READY=1")
    assert manager.receive() == "READY=1\n"
    assert [manager.receive() for _ in range(2)][1] == "BARRIER=1"
    assert starting.wait(seconds(10)) == 0
    manager.socket.close()


def test_no_process_behind_the_address(runtime: Runtime, service: Bundle, scratch: Path) -> None:
    """The container goes on; start says that it could not report it."""
    env = {**os.environ, "NOTIFY_SOCKET": str(scratch / "absent")}
    runtime.create(service, env=env)
    words = [*runtime.command, "--root", str(runtime.root), "start", service.id]
    starting = subprocess.Popen(words, env=env, stderr=subprocess.PIPE)
    runtime.until(service, "running")
    notify(runtime.pid(service), b"READY=1")
    assert b"no such file or directory" in starting.communicate(timeout=seconds(10))[1]
    assert starting.returncode == 1
    assert runtime.status(service) == "running"


def test_an_address_of_another_family_is_refused(runtime: Runtime, service: Bundle) -> None:
    env = {**os.environ, "NOTIFY_SOCKET": "vsock:2:1"}
    runtime.create(service, env=env)
    result = runtime.start(service, env=env, check=False)
    assert result.returncode == 1
    assert "neither a path nor an abstract AF_UNIX address" in result.stderr
    assert runtime.status(service) == "created"


def test_link_at_the_socket(runtime: Runtime, service: Bundle, manager: Manager) -> None:
    """A container with all privileges could make the mount writable, and leave things there for the next start."""
    runtime.create(service, env=manager.env)
    directory = runtime.root / service.id / "notify"
    victim = service.path / "victim"
    victim.mkdir()
    (victim / "file").touch(0o600)
    (directory / "notify.sock").symlink_to(victim / "file")
    (directory / "tree").symlink_to(victim)
    (directory / "deep/er").mkdir(parents=True)
    starting = call(runtime, service, manager, "start", service.id)
    runtime.until(service, "running")
    notify(runtime.pid(service), b"READY=1")
    assert manager.receive() == "READY=1\n"
    assert [manager.receive() for _ in range(2)][1] == "BARRIER=1"
    assert starting.wait(seconds(10)) == 0
    assert (victim / "file").stat().st_mode & 0o777 == 0o600
    runtime.delete(service, "--force")
    assert (victim / "file").exists()
    assert not (runtime.root / service.id).exists()


def test_a_container_created_without_it_starts_as_ever(runtime: Runtime, service: Bundle, manager: Manager) -> None:
    runtime.create(service)
    runtime.start(service, env=manager.env)
    assert runtime.status(service) == "running"


def test_create_that_fails_leaves_nothing(runtime: Runtime, service: Bundle, manager: Manager) -> None:
    service.set("process.args", ["/no/such"])
    assert runtime.create(service, env=manager.env, check=False).returncode == 1
    assert not (runtime.root / service.id).exists()


def test_explain_shows_the_steps(runtime: Runtime, service: Bundle, manager: Manager) -> None:
    plan: dict[str, Any] = json.loads(runtime.call("explain", "--format", "json", service.path, env=manager.env).stdout)
    steps = [step["what"] for step in plan["steps"] if "notify" in step["what"]]
    assert steps[0] == "make the directory notify in the state directory, for NOTIFY_SOCKET"
    assert steps[-1].endswith("on /run/notify (bind,ro,nosuid,nodev,noexec)")
