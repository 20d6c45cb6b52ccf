"""A worker: a fork of the shim that does one thing to one container, and may wait, fail, hang or be killed.

It reports over a socket that keeps message boundaries, in JSON: notes while it works, with descriptors for the shim,
and in the end one ``result`` or ``failure``; or it becomes the container's process, see `gosudacon.shim.alone`.
"""

from __future__ import annotations

import _signal
import _socket
import array
import gc

from gosudacon.base import errors, interrupt, jsonio, posix
from gosudacon.linux import proc, process
from gosudacon.shim import cell
from gosudacon.shim.alone import Alone, Killed, Violation
from gosudacon.shim.loop import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import NoReturn, TypeAlias

    from gosudacon.shim.loop import Loop
    from gosudacon.shim.reaper import Reaper

    Note: TypeAlias = dict[str, object]
    Job: TypeAlias = Callable[["Reporter"], Mapping[str, object]]

_PACKET = 1 << 16  # bytes of a note; a longer one is in a file, for the socket has no room for it
_IN_A_FILE = b"\0"  # in the place of such a note, whose descriptor comes last
_TEXT = 1 << 13  # characters of an error's text: callers show a line
_ROOM = _socket.CMSG_SPACE(4 * 16) + _socket.CMSG_SPACE(12)  # for the descriptors of one note, and who has sent it
_ORPHANED = _signal.SIGUSR1
_ROUNDS = 10  # what was killed may be there for a while
_LAST_PATIENCE = 1.0  # seconds that a worker may live on without the shim
_PATIENCE = 5.0  # seconds that a worker has for undoing what it has done, once it is told to end


class Failed(Exception):
    """What a worker could not do, in the words for containerd. ``killed``: it has left something half done."""

    killed = False


class Reporter:
    """The worker's end of the socket."""

    def __init__(self, channel: _socket.socket) -> None:
        self._channel = channel
        self.warnings: list[str] = []
        self.debugging = False

    @property
    def fd(self) -> int:
        """The descriptor of the socket, which is nothing for a container."""
        return self._channel.fileno()

    def send(self, note: Mapping[str, object], descriptors: Sequence[int] = ()) -> None:
        """Tell the shim something, and hand it descriptors (unix(7), SCM_RIGHTS)."""
        data = jsonio.dumps(note).encode()
        file = -1
        if len(data) > _PACKET:
            file = posix.memfd_create("note", posix.MFD_CLOEXEC)
            posix.write_all(file, data, "note")
            data, descriptors = _IN_A_FILE, [*descriptors, file]
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        try:
            self._channel.sendmsg([data], rights)
        finally:
            if file >= 0:
                posix.close(file)

    def hand_over(self, warnings: list[str]) -> int:
        """Be the container's process from here on, for which the shim is the runtime; returns the channel to it."""
        self.send({"alone": [*self.warnings, *(errors.shortened(message, _TEXT) for message in warnings)]})
        return self.fd

    def warning(self, message: str) -> None:
        """Keep it for the shim's log; as `gosudacon.container.caller.Log`."""
        self.warnings.append(errors.shortened(message, _TEXT))

    def outcome(self, message: str, hint: str) -> None:
        """Nothing is in the foreground here."""

    def debug(self, message: str) -> None:
        """Steps are not logged."""


class Worker:
    """One worker, as the shim sees it.

    ``noted`` is called with each note and its descriptors, ``done`` once: with the result, or with a `Failed`.
    ``kept``: the descriptors of the shim that the job needs; the worker has no other, so that it holds open nothing of
    other containers. With ``reaper`` it may become the container's process; ``cgroup`` is the unified one in which it
    is forked then, if that takes it.
    """

    def __init__(
        self,
        loop: Loop,
        job: Job,
        done: Callable[[Note | Failed], None],
        noted: Callable[[Note, list[int]], None] | None = None,
        kept: Sequence[int] = (),
        reaper: Reaper | None = None,
        cgroup: str = "",
    ) -> None:
        self._loop = loop
        self._done: Callable[[Note | Failed], None] | None = done  # None: it has been called
        self._noted = noted
        self.pid = 0
        self._why = ""  # it was told to end
        self._reaper = reaper
        self._alone: Alone | None = None
        try:
            self._fork(job, kept, cgroup)
        except OSError as error:  # no more processes or descriptors: an outcome like others, and not before its time
            self._done = None
            failure = Failed(f"cannot have a worker: {errors.reason(error)}")
            loop.later(0, lambda: done(failure))

    def _fork(self, job: Job, kept: Sequence[int], cgroup: str) -> None:
        mine, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
        self._channel = mine
        mine.setblocking(False)
        if self._reaper is not None:
            mine.setsockopt(_socket.SOL_SOCKET, _socket.SO_PASSCRED, 1)
        try:
            self._loop.watch(mine.fileno(), READ, self._read)
            shim = posix.getpid()
            self.pid = cell.fork(cgroup) if cgroup else posix.fork()
        except OSError:
            self._loop.forget(mine.fileno())
            mine.close()
            theirs.close()
            raise
        if not self.pid:
            _main(job, theirs, kept, shim)
        theirs.close()
        if self._reaper is not None:
            self._reaper.workers.add(self.pid)
            self._reaper.witness(self._before_collecting)

    def end(self, why: str, patience: float = _PATIENCE) -> None:
        """Have it undo what it has done and end, or be killed after so many seconds; ``why`` is what it fails with."""
        self._why = why
        self._signal(_signal.SIGTERM)
        self._loop.later(patience, self.kill)

    def kill(self) -> None:
        """End it at once; what it has begun is half done."""
        self._signal(_signal.SIGKILL)

    def _signal(self, number: int) -> None:
        # It is not reaped yet, or its number not used again: nothing was forked meanwhile.
        if self._done is not None:
            try:
                posix.kill(self.pid if self._alone is None else self._alone.pid, number)
            except ProcessLookupError:
                return

    def _read(self, _events: int) -> None:
        while self._done is not None and self._alone is None:
            try:
                data, rights, _, _ = self._channel.recvmsg(_PACKET, _ROOM, _socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return
            except ConnectionResetError:
                data, rights = b"", []
            descriptors = _descriptors(rights)
            if not data:
                self._die()
                return
            if data == _IN_A_FILE:
                data = _contents(descriptors.pop())
            note = jsonio.loads(data)
            assert isinstance(note, dict)
            self._take(note, descriptors)

    def _die(self) -> None:
        """It was killed: so are the programs that it has started, hooks for example, and what those have forked.

        They are its session, but for a program that has made one for itself.
        """
        _kill_session(self.pid)
        failure = Failed(self._why or "the worker was killed")
        failure.killed = True
        self._finish(failure)

    def _before_collecting(self, pid: int) -> None:
        """Take what there is to be said of a process while its number is still its own."""
        if self._alone is None:
            self._read(0)
        if self._alone is not None:
            self._alone.ends(pid)

    def _take(self, note: Note, descriptors: list[int]) -> None:
        if "result" in note:
            result = note["result"]
            assert isinstance(result, dict)
            self._finish(result)
        elif "failure" in note:
            self._finish(Failed(self._why if note["interrupted"] and self._why else str(note["failure"])))
        elif "alone" in note and self._reaper is not None:
            warnings = note["alone"]
            assert isinstance(warnings, list)
            self._alone = Alone(self._loop, self._channel, self.pid, warnings, self._executed, self._fail, self._die)
            self._alone.read()
        elif self._noted is not None:
            self._noted(note, descriptors)

    def _executed(self, pid: int, warnings: list[str]) -> None:
        self._finish({"pid": pid, "warnings": warnings})

    def _fail(self, error: errors.Error) -> None:
        if isinstance(error, (Killed, Violation)):
            _kill_session(self.pid)
        self._finish(Failed(self._why or errors.shortened(errors.reason(error), _TEXT)))

    def _finish(self, outcome: Note | Failed) -> None:
        done = self._done
        self._done = self._noted = self._alone = None  # which lead back here: a cycle would outlive this for a while
        self._loop.forget(self._channel.fileno())
        self._channel.close()
        if self._reaper is not None:
            self._reaper.dismiss(self._before_collecting)
        if done is not None:
            done(outcome)


def _kill_session(session: int) -> None:
    """Kill all processes of a session; again, since one may have forked meanwhile."""
    for _ in range(_ROUNDS):
        members = proc.of_session(session)
        for pid in members:
            try:
                posix.kill(pid, _signal.SIGKILL)
            except ProcessLookupError:
                continue
        if not members:
            return


def _descriptors(rights: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for _level, kind, data in rights:
        if kind == _socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return found.tolist()


def _contents(fd: int) -> bytes:
    """What is in a file that another process has written; it is closed."""
    posix.lseek(fd, 0, 0)
    with open(fd, "rb", buffering=0) as file:
        return file.readall() or b""


def _main(job: Job, channel: _socket.socket, kept: Sequence[int], shim: int) -> NoReturn:
    try:
        gc.disable()  # it is over before there is garbage worth looking for, as a command is
        _settle(shim)
        process.close_from(3, channel.fileno(), *kept)
        reporter = Reporter(channel)
        outcome: dict[str, object]
        try:
            outcome = {"result": {**job(reporter), "warnings": reporter.warnings}}
        except Exception as error:  # noqa: BLE001 - the shim tells containerd
            outcome = {"failure": errors.shortened(errors.reason(error), _TEXT), "interrupted": False}
        except interrupt.Interrupted as error:
            outcome = {"failure": str(error), "interrupted": True}
        reporter.send(outcome)
    finally:
        posix._exit(0)


def _settle(shim: int) -> None:
    """Be a process as a command's is: signals as after execve(2), a session of its own, and little life after the shim.

    When that dies the job is interrupted and undone, for only its worker knows all that a hook has started; but not
    for long: whoever cleans up waits.
    """
    posix.setsid()
    process.restore_signals()
    _signal.signal(_signal.SIGPIPE, _signal.SIG_IGN)  # as Python has it, and `process.restore_signals` in the container
    interrupt.arm()
    _signal.signal(_ORPHANED, _be_orphaned)
    process.set_pdeathsig(_ORPHANED)
    if posix.getppid() != shim:
        posix._exit(1)


def _be_orphaned(_number: int, _frame: object) -> None:
    _signal.setitimer(_signal.ITIMER_REAL, _LAST_PATIENCE)  # SIGALRM kills
    posix.kill(posix.getpid(), _signal.SIGTERM)
