"""The recorder: a process of the host that answers for every system call of one container, and writes down which.

It lives as long as a process can still be recorded: while a process is under one of its filters, or the connection over
which the first of them will send its filter's descriptor is open. So it ends with the container, whichever
process has been killed meanwhile, and is a copy of the runtime that no longer has anything of the runtime's.
"""

from __future__ import annotations

import array
import os
import select
import signal
import socket
import struct
import syslog
import time
from errno import ENOSYS

from gosudacon.api import listener as listeners
from gosudacon.plugins.learn import program as programs
from gosudacon.plugins.learn.processes import Programs, group_of, handles, never_executed
from gosudacon.plugins.learn.record import Call, Record, note_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.api import SyscallNames
    from gosudacon.plugins.learn.files import Output

READY = b"+"
NAME = "gosudacon-learn"
_EVERY = 10.0  # seconds after which something new is written: so much is lost if this process is killed
_LATE = 2.0  # seconds to wait for a descriptor that init should have sent at once
_MOST_CALLS = 2000  # of all architectures together
_NEW_LISTENER, _SET_MODE_FILTER = 8, 1  # seccomp(2)
_CREDENTIALS = struct.Struct("=III")


class Job:
    """What a recorder is to do: of which container, under which filter (empty: none), written where."""

    def __init__(self, container: str, code: bytes, names: SyscallNames, output: Output) -> None:
        self.container = container
        self.program = programs.Program(code)
        self.names = names
        self.output = output


def log(text: str) -> None:
    """Write to the host's log: the command has ended long ago."""
    syslog.openlog(NAME, syslog.LOG_PID, syslog.LOG_DAEMON)
    syslog.syslog(syslog.LOG_ERR, text)


class Connection:
    """That of a process about to load its filter: it says which number the descriptor will have, then sends it."""

    def __init__(self, peer: socket.socket) -> None:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        peer.setblocking(False)
        self.peer = peer
        self.number = -1
        self.pid = 0
        self.since = 0.0

    def receive(self) -> int | None:
        """The listener, -1 if it does not exist yet, None if the process has gone."""
        try:
            data, ancillary, _, _ = self.peer.recvmsg(64, 256, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return -1
        except OSError:
            return None
        fds = [fd for _, kind, content in ancillary if kind == socket.SCM_RIGHTS for fd in array.array("i", content)]
        for fd in fds[1:]:
            os.close(fd)
        if fds:
            return fds[0]
        if self.number >= 0 or not data.isdigit() or len(data) > 9:
            return None
        for _, kind, content in ancillary:
            if kind == socket.SCM_CREDENTIALS:
                self.pid = _CREDENTIALS.unpack_from(content)[0]
        self.number, self.since = int(data), time.monotonic()
        try:
            self.peer.send(READY)
        except OSError:
            return None
        return -1

    def fetch(self) -> int:
        """The listener, taken out of a process that does not come to send it; -1 if it has none."""
        try:
            return listeners.take_descriptor(self.pid, self.number)
        except OSError:
            return -1


class Filtered:
    """A process and its descendants: their listener, and whether the runtime has become the program yet."""

    def __init__(self, fd: int) -> None:
        self.listener = listeners.Listener(fd)
        self.executes = self.began = False


class Supervisor:
    """The loop: `run` returns when no process is left to be recorded, or on SIGTERM."""

    def __init__(self, job: Job, connection: socket.socket, server: socket.socket, wake: int) -> None:
        self._job = job
        self._record = Record(job.container)
        self._programs = Programs()
        self._calls: dict[tuple[int, int], Call] = {}
        self._server = server
        self._wake = wake
        self._connections = {connection.fileno(): Connection(connection)}
        self._filtered: dict[int, Filtered] = {}
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self._poll.register(server, select.POLLIN)
        self._poll.register(wake, select.POLLIN)
        self._seen = 0  # what has been written of, as `_size` counts
        self._wrote = time.monotonic()
        self._ended = False
        self._began = False  # any program that is to be recorded

    def run(self) -> None:
        """Answer until the end, then write."""
        while (self._connections or self._filtered) and not self._ended:
            for fd, events in self._poll.poll(self._timeout()):
                self._handle(fd, events)
            self._look_after()
        for each in self._filtered.values():
            each.listener.close()
        if self._began or self._record.refused:
            self._write(5.0)

    def _timeout(self) -> int | None:
        """Milliseconds."""
        if any(each.number >= 0 for each in self._connections.values()):
            return 100
        return 1000 if self._size() != self._seen else None

    def _handle(self, fd: int, events: int) -> None:
        filtered = self._filtered.get(fd)
        if filtered is not None:
            if not events & select.POLLIN or not self._answers(filtered):  # no process is under this filter any more
                self._poll.unregister(fd)
                self._filtered.pop(fd).listener.close()
        elif fd == self._server.fileno():
            peer, _ = self._server.accept()
            self._connections[peer.fileno()] = Connection(peer)
            self._poll.register(peer, select.POLLIN)
        elif fd == self._wake:
            self._ended = True
        else:
            found = self._connections[fd].receive()
            if found is None:
                self._forget(fd)
            elif found >= 0:
                self._watch(found)
                self._forget(fd)

    def _watch(self, fd: int) -> None:
        self._filtered[fd] = Filtered(fd)
        self._poll.register(fd, select.POLLIN)

    def _forget(self, fd: int) -> None:
        self._poll.unregister(fd)
        self._connections.pop(fd).peer.close()

    def _look_after(self) -> None:
        """Help a process that waits to send its listener, and write what is new from time to time."""
        now = time.monotonic()
        for fd, each in list(self._connections.items()):
            if each.number >= 0 and now - each.since > _LATE and (found := each.fetch()) >= 0:
                self._watch(found)
                self._forget(fd)
        if now - self._wrote > _EVERY and self._began and self._size() != self._seen:
            self._write(0)

    def _size(self) -> int:
        return len(self._calls) + len(self._record.refused)

    def _write(self, patience: float) -> None:
        try:
            self._job.output.write(self._record, self._programs.notes, patience)
        except BlockingIOError:
            if patience:
                log(f"{self._job.container}: the profile is not written: another recorder holds its directory")
            self._wrote = time.monotonic()
            return
        except (OSError, ValueError) as error:
            log(f"{self._job.container}: the profile is not written: {error}")
        self._record, self._calls = Record(self._job.container), {}
        self._seen, self._wrote = 0, time.monotonic()

    def _answers(self, filtered: Filtered) -> bool:
        """Answer one call. False if that is not a listener: what is in the container may have sent anything."""
        try:
            self._answer(filtered)
        except OSError as error:
            log(f"{self._job.container}: not a listener: {error}")
            return False
        return True

    def _answer(self, filtered: Filtered) -> None:
        listener = filtered.listener
        buffer = listener.receive()
        if buffer is None:
            return
        id, tid, _, number, architecture, _, *arguments = listeners.NOTIFICATION.unpack(buffer)
        if not filtered.began and self._is_the_runtime_s(filtered, tid, number, architecture):
            return listener.go_on(id)
        call = self._calls.get((architecture, number)) or self._new_call(architecture, number)
        verdict = self._job.program.ask(listeners.DATA.unpack_from(buffer, listeners.DATA_OFFSET))
        action = verdict & programs.ACTION
        if action == programs.ALLOW or action == programs.LOG:
            call.count += 1
            if tid not in self._programs.known:
                self._programs.learn(listener, id, tid)
            note_program(call, self._programs.known[tid])
            if call.name in _TELLING:
                self._programs.see(call.name, tid)
                self._check_listener(call.name, arguments)
            listener.go_on(id)
        else:
            self._refuse(listener, id, tid, call, verdict, arguments)

    def _is_the_runtime_s(self, filtered: Filtered, tid: int, number: int, architecture: int) -> bool:
        """Whether the call is not the program's: before execve(2), and behind one that has failed."""
        if (number, architecture) == (listeners.EXECVE, listeners.NATIVE) and not filtered.executes:
            filtered.executes = True
            self._programs.known[tid] = ""  # the runtime, which is about to become the program
            return False
        if not filtered.executes or never_executed(tid):
            return True
        filtered.began = self._began = True
        return False

    def _new_call(self, architecture: int, number: int) -> Call:
        name = self._job.names.name(architecture, number)
        if not name and len(self._calls) >= _MOST_CALLS:  # a program may call any number
            return Call(name, number, "")
        shown = self._job.names.architecture(architecture, number)
        call = Call(name, number, shown)
        if not name:
            self._record.warn(f"{shown}: call {number} has no name, and cannot be in a profile")
        elif not self._job.names.knows(name):
            self._record.warn(f"libseccomp does not know {name} yet: filters that it makes do not allow it")
        self._calls[architecture, number] = self._record.calls[architecture, number] = call
        return call

    def _check_listener(self, name: str, arguments: list[int]) -> None:
        if name == "seccomp" and arguments[0] == _SET_MODE_FILTER and arguments[1] & _NEW_LISTENER:
            self._record.warn(
                "a program asked for a seccomp listener, and got EBUSY: while it is recorded there is one"
            )

    def _refuse(
        self, listener: listeners.Listener, id: int, tid: int, call: Call, verdict: int, arguments: list[int]
    ) -> None:
        """Do what the profile asks for, and note it. Who is killed gets no answer."""
        action, value = verdict & programs.ACTION, verdict & programs.VALUE
        program, comm = self._programs.who(listener, id, tid)
        name = programs.NAMES.get(action, "SCMP_ACT_KILL_PROCESS")  # what the kernel does with an unknown one
        noted = (name, value if action == programs.ERRNO else 0)
        self._record.refuse(call, noted, arguments, program, comm)
        if action == programs.ERRNO:
            listener.refuse(id, min(value, 4095))
        elif action == programs.TRACE:  # it has no tracer
            listener.refuse(id, ENOSYS)
        elif action == programs.TRAP and handles(tid, signal.SIGSYS):
            _signal_process(listener, id, tid, signal.SIGSYS)
            listener.refuse(id, ENOSYS)
        else:
            _signal_process(listener, id, tid, signal.SIGKILL)


_TELLING = ("execve", "execveat", "exit", "exit_group", "seccomp")


def _signal_process(listener: listeners.Listener, id: int, tid: int, number: int) -> None:
    """Signal the process of a thread that waits for an answer, and no other that has got its number."""
    try:
        pidfd = os.pidfd_open(group_of(tid))
    except (OSError, ValueError):
        return
    try:
        if listener.waits(id):
            signal.pidfd_send_signal(pidfd, number)
    except OSError:
        return
    finally:
        os.close(pidfd)
