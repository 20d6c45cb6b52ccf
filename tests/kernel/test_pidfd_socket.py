"""--pidfd-socket: the caller gets a descriptor of the process that is executed (runc's option)."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.bundle import Bundle
from tests.support.runtime import Runtime
from tests.support.timing import seconds


class Receiver:
    """A listening socket that takes one message with one pidfd."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(str(path))
        self.socket.listen(1)
        self.socket.settimeout(seconds(10))
        self.pidfd = -1

    def receive(self) -> tuple[bytes, int]:
        """The message, and the pid that the descriptor stands for."""
        connection, _ = self.socket.accept()
        with connection:
            connection.settimeout(seconds(10))
            message, (self.pidfd,), _, _ = socket.recv_fds(connection, 4096, 4)
            assert connection.recv(1) == b"", "no process may hold the connection open"
        lines = Path(f"/proc/self/fdinfo/{self.pidfd}").read_text().splitlines()
        return message, int(dict(line.split(":\t") for line in lines)["Pid"])


@pytest.fixture
def receiver(scratch: Path) -> Iterator[Receiver]:
    receiver = Receiver(scratch / "pidfd.sock")
    yield receiver
    receiver.socket.close()
    if receiver.pidfd >= 0:
        os.close(receiver.pidfd)


def test_create_sends_init_s(runtime: Runtime, bundle: Bundle, receiver: Receiver) -> None:
    bundle.set("process.args", ["/bin/sleep", "1000"])
    runtime.create(bundle, "--pidfd-socket", receiver.path)
    pid = runtime.pid(bundle)
    assert receiver.receive() == (b"standard", pid)
    runtime.start(bundle)
    signal.pidfd_send_signal(receiver.pidfd, signal.SIGKILL)
    assert runtime.wait(pid) == 137
    assert select.select([receiver.pidfd], [], [], seconds(10))[0]


def test_the_process_is_the_one_that_forked_last(runtime: Runtime, bundle: Bundle, receiver: Receiver) -> None:
    """With a time namespace the first process is another one."""
    bundle.set("process.args", ["/bin/sleep", "1000"]).add_namespace("time")
    runtime.create(bundle, "--pidfd-socket", receiver.path)
    assert receiver.receive() == (b"standard", runtime.pid(bundle))


def test_run_sends_it(runtime: Runtime, bundle: Bundle, receiver: Receiver) -> None:
    bundle.set("process.args", ["/bin/sleep", "1000"])
    runtime.run(bundle, "--detach", "--pidfd-socket", receiver.path)
    assert receiver.receive() == (b"standard", runtime.pid(bundle))


def test_exec_sends_the_new_process_s(runtime: Runtime, bundle: Bundle, receiver: Receiver) -> None:
    runtime.boot(bundle.set("process.args", ["/bin/sleep", "1000"]))
    file = bundle.path / "exec.pid"
    runtime.call(
        "exec", "--detach", "--pid-file", file, "--pidfd-socket", receiver.path, bundle.id, "sh", "-c", "sleep 999"
    )
    pid = int(file.read_text())
    assert receiver.receive() == (b"setns", pid)
    signal.pidfd_send_signal(receiver.pidfd, signal.SIGKILL)
    assert processes.wait(pid) == 137


def test_a_relative_path_is_the_caller_s(runtime: Runtime, bundle: Bundle, receiver: Receiver) -> None:
    runtime.create(bundle, "--pidfd-socket", receiver.path.name, cwd=receiver.path.parent)
    assert receiver.receive()[1] == runtime.pid(bundle)


def test_a_socket_that_is_not_there_leaves_nothing(runtime: Runtime, bundle: Bundle) -> None:
    assert runtime.create(bundle, "--pidfd-socket", "/no/such", check=False).returncode == 1
    assert "connect /no/such: no such file or directory" in bundle.stderr
    assert runtime.status(bundle) == "none"


def test_annotation_is_ignored(runtime: Runtime, bundle: Bundle, receiver: Receiver) -> None:
    """crun's run.oci.pidfd_receiver: who writes annotations must not choose sockets of the host for root."""
    bundle.config["annotations"] = {"run.oci.pidfd_receiver": str(receiver.path)}
    bundle.write()
    runtime.create(bundle)
    receiver.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        receiver.socket.accept()


def test_explain_shows_it(runtime: Runtime, bundle: Bundle) -> None:
    shown = runtime.call("explain", "--stage", "handoff", "--pidfd-socket", "/s", bundle.path).stdout
    assert "send a pidfd of the process to /s" in shown
