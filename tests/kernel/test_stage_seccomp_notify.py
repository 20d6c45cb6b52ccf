"""SCMP_ACT_NOTIFY: an agent gets the descriptor and the container's state, and answers for system calls."""

from __future__ import annotations

import array
import fcntl
import json
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gosudacon.api import START, Context, Error, Host, Spec, Step
from gosudacon.pipeline.executor import RuntimeSide
from gosudacon.pipeline.plan import Plan, make
from gosudacon.stages.namespaces import Spawn
from gosudacon.stages.seccomp import SeccompStage
from gosudacon.stages.seccomp.steps import Held
from tests.support import processes
from tests.support.timing import seconds

if TYPE_CHECKING:
    from gosudacon.schema.types import State

RECEIVE, SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV and _SEND (seccomp_unotify(2))
PROFILE: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "listenerMetadata": "what the agent was told",
    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
}


class Agent:
    """Listens on a socket of its own; `receive` is what a runtime sent."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen()
        self.socket.settimeout(seconds(10))

    def receive(self) -> tuple[dict[str, Any], int]:
        """The container process state and the descriptor; the connection must be over after it."""
        connection, _ = self.socket.accept()
        with connection:
            connection.settimeout(seconds(10))
            data, fds, _, _ = socket.recv_fds(connection, 65536, 4)
            while more := connection.recv(65536):
                data += more
        (fd,) = array.array("i", fds)
        return json.loads(data), fd


class Settle(Step):
    """What the handoff stage does around the filter."""

    phase = START

    def describe(self) -> str:
        return "wait, then make a directory"

    def run(self, context: Context) -> None:
        assert context.engine is not None
        context.engine.ready()
        answer = 0
        try:
            os.mkdir("/nonexistent/directory")
        except OSError as error:
            answer = error.errno or 0
        os._exit(answer)


@pytest.fixture
def agent(scratch: Path) -> Iterator[Agent]:
    value = Agent(scratch / "agent.sock")
    yield value
    value.socket.close()


def creation(path: str, nnp: bool = False, profile: dict[str, Any] = PROFILE) -> RuntimeSide:
    stage = SeccompStage()
    stage.settings = {"cache": False}
    config: Any = {"process": {"noNewPrivileges": nnp}, "linux": {"seccomp": {**profile, "listenerPath": path}}}
    spec = Spec(config, "notified", "/bundle")
    steps = make([stage], spec, Host()).steps
    context = Context(spec, Host())

    def state(status: str, pid: int) -> State:
        return {"ociVersion": "1.3.0", "id": "notified", "status": status, "pid": pid, "bundle": "/bundle"}

    return RuntimeSide(Plan([*steps, Spawn(flags=0), Settle()]), context, state)


@pytest.mark.parametrize("nnp", [False, True])
def test_the_agent_answers(agent: Agent, nnp: bool) -> None:
    engine = creation(str(agent.path), nnp)
    engine.run()
    pid = engine.context.pid
    message, listener = agent.receive()
    assert message == {
        "ociVersion": "1.3.0",
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": "what the agent was told",
        "state": {"ociVersion": "1.3.0", "id": "notified", "status": "creating", "pid": pid, "bundle": "/bundle"},
    }
    engine.go()
    request = bytearray(80)
    fcntl.ioctl(listener, RECEIVE, request)
    number, caller = struct.unpack_from("QI", request)
    assert caller == pid
    fcntl.ioctl(listener, SEND, struct.pack("QqiI", number, 0, -77, 0))
    assert processes.wait(pid) == 77
    os.close(listener)
    engine.kill()


def test_without_metadata_the_key_is_absent(agent: Agent) -> None:
    engine = creation(str(agent.path), profile={k: v for k, v in PROFILE.items() if k != "listenerMetadata"})
    engine.run()
    message, listener = agent.receive()
    assert "metadata" not in message
    engine.kill()
    os.close(listener)


def test_an_agent_that_goes_away_does_not_hold_init_up(agent: Agent) -> None:
    engine = creation(str(agent.path))
    engine.run()
    _, listener = agent.receive()
    os.close(listener)
    engine.go()
    assert processes.wait(engine.context.pid) == 38  # ENOSYS: no process has the descriptor any more
    engine.kill()


def test_no_agent(scratch: Path) -> None:
    """No agent is an error before there is a process."""
    path = str(scratch / "absent.sock")
    engine = creation(path)
    with pytest.raises(Error, match=r"failed to connect with seccomp agent .*no such file or directory") as caught:
        engine.run()
    assert caught.value.where == "linux.seccomp.listenerPath"
    assert engine.context.pid == 0


def test_a_path_too_long_for_a_socket_is_an_error(scratch: Path) -> None:
    with pytest.raises(Error, match="file name too long"):
        creation(f"{scratch}/{'x' * 120}").run()


def test_init_may_not_write(agent: Agent) -> None:
    """An init that may not write is an error and not a hang."""
    rules = [*PROFILE["syscalls"], {"names": ["write"], "action": "SCMP_ACT_ERRNO"}]
    engine = creation(str(agent.path), profile={**PROFILE, "syscalls": rules})
    with pytest.raises(Error):
        engine.run()
    engine.kill()
    held = engine.context.own(Held)
    for fd in (held.reader, held.writer):  # left to the end of the process
        os.close(fd)
