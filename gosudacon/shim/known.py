"""What a shim knows of its containers, and what of the Task service is answered from that: at once, and here alone.

States and errors are those of containerd's shim for runc, on whose codes its clients rely.
"""

from __future__ import annotations

from gosudacon.base import posix
from gosudacon.base.errors import Error
from gosudacon.linux.cgroup import processes
from gosudacon.shim.server import Refused
from gosudacon.wire import containerd as wire
from gosudacon.wire import ttrpc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.shim.server import Reply
    from gosudacon.shim.shim import Shim
    from gosudacon.shim.task import Container, Process
    from gosudacon.wire.protobuf import Message

STATES = {
    wire.CREATED: "created",
    wire.RUNNING: "running",
    wire.STOPPED: "stopped",
    wire.PAUSED: "paused",
    wire.PAUSING: "pausing",
}


class Known:
    """The containers of one shim, by their ids, and the methods that change none of them."""

    def __init__(self, shim: Shim) -> None:
        self._shim = shim
        self._containers: dict[str, Container] = {}

    def state(self, request: Message, reply: Reply) -> None:
        process = self._process(request)
        container = process.container
        status = process.status
        if process.exec_id and status == wire.RUNNING and container.init.status in (wire.PAUSED, wire.PAUSING):
            status = container.init.status
        message: Message = {
            "id": container.id,
            "bundle": container.bundle,
            "pid": process.pid,
            "status": status,
            "stdin": process.names[0],
            "stdout": process.names[1],
            "stderr": process.names[2],
            "terminal": process.terminal,
            "exit_status": process.exit_status,
            "exec_id": process.exec_id,
        }
        if process.exited_at:
            message["exited_at"] = wire.timestamp(process.exited_at)
        reply.send(message)

    def pids(self, request: Message, reply: Reply) -> None:
        container = self._container(request)
        own = {process.pid: process for process in container.execs.values() if process.pid}
        try:
            workers = self._shim.reaper.workers
            found = [pid for pid in processes.pids(container.cgroups) if pid not in workers]
        except (Error, OSError):
            found = []
        init = container.init
        if not found and init.pid and init.status != wire.STOPPED:
            found = [init.pid, *own]
        listed: list[Message] = []
        for pid in found:
            entry: Message = {"pid": pid}
            if pid in own:
                entry["info"] = wire.pack("containerd.runc.v1.ProcessDetails", {"exec_id": own[pid].exec_id})
            listed.append(entry)
        reply.send({"processes": listed})

    def connect(self, request: Message, reply: Reply) -> None:
        container = self._containers.get(request["id"])
        reply.send({"shim_pid": posix.getpid(), "task_pid": container.init.pid if container else 0})

    def wait(self, request: Message, reply: Reply) -> None:
        process = self._process(request)
        process.when_ended(lambda: reply.send(exit_of(process)))

    def stats(self, request: Message, reply: Reply) -> None:
        container = self._container(request)
        try:
            found = (container.init.pid and self._shim.metrics(container)) or container.metrics
        except Error as error:
            raise Refused(ttrpc.FAILED_PRECONDITION, str(error)) from None
        if found is None:
            raise Refused(ttrpc.NOT_FOUND, "cgroup does not exist")
        reply.send({"stats": found})

    def resizepty(self, request: Message, reply: Reply) -> None:
        process = self._process(request)
        if process.terminal:
            process.kept.resize(request["height"], request["width"])
        reply.send({})

    def closeio(self, request: Message, reply: Reply) -> None:
        process = self._process(request)
        if request["stdin"]:
            process.kept.close_input()
        reply.send({})

    # Looking up.

    def _container(self, request: Message) -> Container:
        container = self._containers.get(request["id"])
        if container is None:
            raise Refused(ttrpc.NOT_FOUND, "container not created")
        return container

    def _process(self, request: Message) -> Process:
        container = self._container(request)
        exec_id = request["exec_id"]
        if not exec_id:
            return container.init
        process = container.execs.get(exec_id)
        if process is None:
            raise Refused(ttrpc.NOT_FOUND, f"process does not exist {exec_id}")
        return process

    def _expect(self, container: Container, verb: str, *states: int) -> None:
        status = wire.STOPPED if container.ending else container.init.status
        if (container.ending and wire.STOPPED not in states) or status not in states:
            raise Refused(ttrpc.UNKNOWN, f"cannot {verb} a {STATES[status]} process")


def exit_of(process: Process) -> Message:
    """How a process has ended, as the fields of several answers."""
    message: Message = {"exit_status": process.exit_status}
    if process.exited_at:
        message["exited_at"] = wire.timestamp(process.exited_at)
    return message
