"""containerd's Task service (containerd.task.v2 and v3): what each request does, and when it is answered.

What is known is answered at once, from memory: `gosudacon.shim.known`. What changes a container is left to a worker,
and answered when that has reported. States and errors are those of containerd's shim for runc, on whose codes its
clients rely.
"""

from __future__ import annotations

import _signal
from functools import partial

from gosudacon.base import posix
from gosudacon.base.errors import Error
from gosudacon.linux.cgroup import processes
from gosudacon.shim import beginning, checkpoints, dialogue, jobs, options
from gosudacon.shim.known import STATES, Known, exit_of
from gosudacon.shim.server import Refused
from gosudacon.shim.streams import Kept
from gosudacon.shim.task import GIVEN_UP, NEVER_RAN, Container, Process
from gosudacon.shim.worker import Failed
from gosudacon.wire import containerd as wire
from gosudacon.wire import ttrpc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.shim.loop import Timer
    from gosudacon.shim.server import Handler, Reply
    from gosudacon.shim.shim import Shim
    from gosudacon.shim.worker import Note
    from gosudacon.wire.protobuf import Message, Schema

_RESERVED = 120.0  # seconds within which a container comes that was announced
_REMEMBERED = 64  # containers that were deleted, of which a client may not have heard


class Tasks(Known):
    """The containers of one shim, and the methods of the service, by their names in lower case."""

    def __init__(self, shim: Shim) -> None:
        super().__init__(shim)
        self._making: dict[str, Container] = {}
        self._gone: dict[str, Message] = {}  # the last answers to Delete, for clients that ask again
        self._reserved: dict[str, Timer] = {}  # until they are given up

    def methods(self) -> dict[tuple[str, str], tuple[Schema, Schema, Handler]]:
        """Service and method -> request, response, and what answers it."""
        found: dict[tuple[str, str], tuple[Schema, Schema, Handler]] = {}
        for name, (asked, answered) in wire.TASK.items():
            for service in wire.TASK_SERVICES:
                found[service, name] = asked, answered, getattr(self, name.lower())
        for name, (asked, answered) in dialogue.METHODS.items():
            found[dialogue.SERVICE, name] = asked, answered, getattr(self, name.lower())
        return found

    def idle(self) -> bool:
        """Whether nothing is here, or about to be."""
        return not (self._containers or self._making or self._reserved)

    # For our own programs.

    def reserve(self, request: Message, reply: Reply) -> None:
        """A container is about to come, for which the shim stays."""
        if self._shim.ending:
            raise Refused(ttrpc.UNAVAILABLE, "the shim is about to end")
        id = request["id"]
        self._no_longer_reserved(id)
        self._reserved[id] = self._shim.loop.later(_RESERVED, lambda: self._no_longer_reserved(id))
        reply.send({})

    def _no_longer_reserved(self, id: str) -> None:
        timer = self._reserved.pop(id, None)
        if timer is not None:
            timer.cancel()

    def abandon(self, request: Message, reply: Reply) -> None:
        """containerd cleans up after this shim: end the container and what is being done to it."""
        container = self._making.get(request["id"]) or self._containers.get(request["id"])
        if container is None:
            reply.send({})
        else:
            container.abandon(lambda: reply.send({}))

    def list(self, _request: Message, reply: Reply) -> None:
        """What is here."""
        ids = sorted({**self._containers, **self._making})
        reply.send({"pid": posix.getpid(), "namespace": self._shim.namespace, "ids": ids})

    def forget_deleted(self) -> None:
        """Forget containers that have ended and whose bundles are gone: nobody will ask for them any more."""
        for container in [*self._containers.values()]:
            if container.init.status == wire.STOPPED and not posix.path.exists(container.bundle):
                del self._containers[container.id]
                container.forget()

    # What changes a container.

    def create(self, request: Message, reply: Reply) -> None:
        id = request["id"]
        if id in self._containers or id in self._making:
            raise Refused(ttrpc.ALREADY_EXISTS, f"container {id} already exists")
        chosen = options.decode(request["options"])
        for text in chosen.ignored:
            self._shim.log("warning", f"container {id}: ignored: {text}")
        container = Container(self._shim, id, request["bundle"], chosen)
        container.checkpoint = request["checkpoint"]
        names = request["stdin"], request["stdout"], request["stderr"]
        container.init = Process(container, "", names, request["terminal"])
        self._making[id] = container
        self._no_longer_reserved(id)
        self._gone.pop(id, None)
        self._shim.reaper.expect()

        def failed(outcome: Failed) -> None:
            del self._making[id]
            container.forget()
            reply.fail(ttrpc.UNKNOWN, f"OCI runtime create failed: {outcome}")

        def done(outcome: Note | Failed) -> None:
            if container.unwanted and not isinstance(outcome, Failed):  # it was too late for the worker to give up
                outcome = Failed(GIVEN_UP)
                outcome.killed = True
            if isinstance(outcome, Failed) and outcome.killed:
                container.queue(partial(jobs.clean, container), lambda _: failed(outcome))
            elif isinstance(outcome, Failed):
                failed(outcome)
            else:
                del self._making[id]
                self._containers[id] = container
                if not container.checkpoint:
                    container.begin(outcome)
                self._shim.publish(
                    "TaskCreate",
                    container_id=id,
                    bundle=container.bundle,
                    rootfs=request["rootfs"],
                    io={"stdin": names[0], "stdout": names[1], "stderr": names[2], "terminal": request["terminal"]},
                    checkpoint=container.checkpoint,
                    pid=container.init.pid,
                )
                reply.send({"pid": container.init.pid})
                if container.init.pid:
                    container.claim(container.init)
            self._shim.reaper.expected()

        job = checkpoints.prepare if container.checkpoint else jobs.create
        container.queue(partial(job, container, request["rootfs"]), done, container.init.take)

    def start(self, request: Message, reply: Reply) -> None:
        process = self._process(request)
        if process.exec_id:
            self._start_exec(process, reply)
        elif process.container.checkpoint:
            self._restore(process.container, reply)
        else:
            self._start_init(process, reply)

    def _start_init(self, process: Process, reply: Reply) -> None:
        container = process.container
        self._expect(container, "start", wire.CREATED)
        if process.starting:
            raise Refused(ttrpc.UNKNOWN, "cannot start a container that is being started")
        process.starting = True

        def done(outcome: Note | Failed) -> None:
            process.starting = False
            if isinstance(outcome, Failed):
                reply.fail(ttrpc.UNKNOWN, f"OCI runtime start failed: {outcome}")
            else:
                process.status = wire.RUNNING
                self._shim.publish("TaskStart", container_id=container.id, pid=process.pid)
                reply.send({"pid": process.pid})
            container.check_end()

        alone = partial(beginning.begin, self._shim.loop, container.root, container.id)
        container.queue(partial(jobs.begin, container), done, alone=alone)

    def _restore(self, container: Container, reply: Reply) -> None:
        """Start a container that comes from images; if that fails it can be tried again."""
        self._expect(container, "start", wire.CREATED)
        process = container.init
        if process.starting:
            raise Refused(ttrpc.UNKNOWN, "cannot start a container that is being started")
        process.starting = True
        self._shim.reaper.expect()

        def failed(outcome: Failed) -> None:
            process.kept.close()
            process.kept = Kept(self._shim.loop)
            reply.fail(ttrpc.UNKNOWN, f"OCI runtime restore failed: {outcome}")

        def done(outcome: Note | Failed) -> None:
            process.starting = False
            if isinstance(outcome, Failed) and outcome.killed:
                container.queue(partial(jobs.clean, container), lambda _: failed(outcome))
            elif isinstance(outcome, Failed):
                failed(outcome)
            else:
                container.begin(outcome)
                process.status = wire.RUNNING
                self._shim.publish("TaskStart", container_id=container.id, pid=process.pid)
                reply.send({"pid": process.pid})
                container.claim(process)
            self._shim.reaper.expected()

        container.queue(partial(checkpoints.restore, container), done, process.take)

    def exec(self, request: Message, reply: Reply) -> None:
        container = self._container(request)
        self._expect(container, "exec", wire.CREATED, wire.RUNNING)
        if not container.init.pid:
            raise Refused(ttrpc.UNKNOWN, "cannot exec in a container that is yet to be restored")
        exec_id = request["exec_id"]
        if not exec_id:
            raise Refused(ttrpc.INVALID_ARGUMENT, "an exec needs an id")
        if exec_id in container.execs:
            raise Refused(ttrpc.ALREADY_EXISTS, f"id {exec_id}: already exists")
        names = request["stdin"], request["stdout"], request["stderr"]
        process = Process(container, exec_id, names, request["terminal"])
        process.spec = (request["spec"] or {}).get("value") or b"{}"
        container.execs[exec_id] = process
        self._shim.publish("TaskExecAdded", container_id=container.id, exec_id=exec_id)
        reply.send({})

    def _start_exec(self, process: Process, reply: Reply) -> None:
        container = process.container
        if process.status != wire.CREATED or process.starting:
            raise Refused(ttrpc.UNKNOWN, f"cannot start a {STATES[process.status]} process")
        if container.ending:
            process.tell_end(NEVER_RAN, 0)
            raise Refused(ttrpc.FAILED_PRECONDITION, f"container {container.id} init process is not running")
        self._shim.reaper.expect()

        def done(outcome: Note | Failed) -> None:
            if isinstance(outcome, Failed):
                reply.fail(ttrpc.UNKNOWN, f"OCI runtime exec failed: {outcome}")
                process.tell_end(NEVER_RAN, 0)
            else:
                process.pid = int(outcome["pid"])  # type: ignore[call-overload]
                process.status = wire.RUNNING
                reply.send({"pid": process.pid})  # before the event: the client waits for it
                self._shim.publish(
                    "TaskExecStarted",
                    container_id=container.id,
                    exec_id=process.exec_id,
                    pid=process.pid,
                )
                container.claim(process)
            self._shim.reaper.expected()

        container.execute(process, partial(jobs.execute, process), done)

    def kill(self, request: Message, reply: Reply) -> None:
        process = self._process(request)
        signal, every = request["signal"], request["all"]
        if process.status == wire.STOPPED:
            raise Refused(ttrpc.NOT_FOUND, "process already finished")
        if not process.pid:
            raise Refused(ttrpc.FAILED_PRECONDITION, "process not created")
        container = process.container
        whole = not process.exec_id and (every or (signal == _signal.SIGKILL and container.shares_pid_namespace))
        if whole and not container.ending:
            job = partial(jobs.send, container, signal, every)
            self._shim.worker(job, lambda outcome: _answer(outcome, reply, "unknown error after kill: "))
            return
        try:
            posix.kill(process.pid, signal)  # it has not been reaped: else it would have stopped
        except ProcessLookupError:
            raise Refused(ttrpc.NOT_FOUND, "process already finished") from None
        if signal == _signal.SIGKILL and container.init.status == wire.PAUSED:
            _thaw(container)
        reply.send({})

    def pause(self, request: Message, reply: Reply) -> None:
        container = self._container(request)
        self._expect(container, "pause", wire.RUNNING)
        container.init.status = wire.PAUSING

        def done(outcome: Note | Failed) -> None:
            if isinstance(outcome, Failed) and outcome.killed:
                _thaw(container)  # it may have frozen some
            if container.init.status == wire.PAUSING:
                container.init.status = wire.RUNNING if isinstance(outcome, Failed) else wire.PAUSED
            if not isinstance(outcome, Failed):
                self._shim.publish("TaskPaused", container_id=container.id)
            _answer(outcome, reply, "OCI runtime pause failed: ")

        container.queue(partial(jobs.freeze, container), done)

    def resume(self, request: Message, reply: Reply) -> None:
        container = self._container(request)
        self._expect(container, "resume", wire.PAUSED)

        def done(outcome: Note | Failed) -> None:
            thawed = not isinstance(outcome, Failed) or not _is_frozen(container)
            if thawed and container.init.status == wire.PAUSED:
                container.init.status = wire.RUNNING
            if not isinstance(outcome, Failed):
                self._shim.publish("TaskResumed", container_id=container.id)
            _answer(outcome, reply, "OCI runtime resume failed: ")

        container.queue(partial(jobs.thaw, container), done)

    def update(self, request: Message, reply: Reply) -> None:
        container = self._container(request)
        self._expect(container, "update", wire.CREATED, wire.RUNNING, wire.PAUSED)
        resources = (request["resources"] or {}).get("value") or b"{}"
        job = partial(jobs.change, container, resources)
        container.queue(job, lambda outcome: _answer(outcome, reply, "OCI runtime update failed: "))

    def delete(self, request: Message, reply: Reply) -> None:
        id = request["id"]
        if id in self._making:
            self._give_up(self._making[id], reply)
        elif id in self._gone and not request["exec_id"] and id not in self._containers:
            reply.send(self._gone[id])
        elif request["exec_id"]:
            self._delete_exec(self._process(request), reply)
        else:
            self._delete_container(self._container(request), reply)

    def _delete_exec(self, process: Process, reply: Reply) -> None:
        if process.starting or process.status not in (wire.CREATED, wire.STOPPED):
            raise Refused(ttrpc.UNKNOWN, "cannot delete a running process")
        answer = {"pid": process.pid, **exit_of(process)}
        process.close()
        del process.container.execs[process.exec_id]
        reply.send(answer)

    def _delete_container(self, container: Container, reply: Reply) -> None:
        self._expect(container, "delete", wire.CREATED, wire.STOPPED)
        if container.init.starting:
            raise Refused(ttrpc.UNKNOWN, "cannot delete a container that is being started")

        def done(outcome: Note | Failed) -> None:
            if isinstance(outcome, Failed):
                if self._containers.get(container.id) is container:
                    reply.fail(ttrpc.UNKNOWN, f"OCI runtime delete failed: {outcome}")
                else:  # another request has
                    reply.send(self._gone.get(container.id, {}))
                return
            if not container.init.pid:  # it was to be restored
                container.init.tell_end(NEVER_RAN, 0)
            container.init.when_ended(lambda: container.init.kept.when_quiet(lambda: self._deleted(container, reply)))

        container.queue(partial(jobs.delete, container), done)

    def _deleted(self, container: Container, reply: Reply) -> None:
        init = container.init
        answer: Message = {"pid": init.pid, **exit_of(init)}
        if self._containers.get(container.id) is container:
            del self._containers[container.id]
            self._gone[container.id] = answer
            if len(self._gone) > _REMEMBERED:
                del self._gone[next(iter(self._gone))]  # the oldest
            container.forget()
            self._shim.publish("TaskDelete", container_id=container.id, id=container.id, **answer)
        reply.send(answer)

    def _give_up(self, container: Container, reply: Reply) -> None:
        """Containerd wants no container that is still being made."""
        if container.worker is not None:
            container.worker.end(GIVEN_UP)
        container.when_given_up(lambda: reply.fail(ttrpc.NOT_FOUND, "container not created"))

    def checkpoint(self, request: Message, reply: Reply) -> None:
        container = self._container(request)
        self._expect(container, "checkpoint", wire.RUNNING, wire.PAUSED)

        def done(outcome: Note | Failed) -> None:
            if not isinstance(outcome, Failed):
                self._shim.publish("TaskCheckpointed", container_id=container.id, checkpoint=request["path"])
            _answer(outcome, reply, "OCI runtime checkpoint failed: ")

        container.queue(partial(checkpoints.save, container, request["path"], request["options"]), done)

    def shutdown(self, _request: Message, reply: Reply) -> None:
        if not self.idle():
            reply.send({})
            return
        self._shim.end(reply)


def _is_frozen(container: Container) -> bool:
    try:
        return processes.frozen(container.cgroups)
    except (Error, OSError):  # it has no freezer any more
        return False


def _thaw(container: Container) -> None:
    try:
        processes.thaw(container.cgroups)
    except (Error, OSError):  # it is gone
        return


def _answer(outcome: Note | Failed, reply: Reply, prefix: str) -> None:
    if isinstance(outcome, Failed):
        reply.fail(ttrpc.UNKNOWN, f"{prefix}{outcome}")
    else:
        reply.send({})
