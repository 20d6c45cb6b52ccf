"""Running a plan: the two sides, how they wait for each other, and how errors are passed between them."""

from __future__ import annotations

import sys
from _signal import SIGKILL
from errno import ESRCH

from gosudacon.base import interrupt, jsonio, posix
from gosudacon.base.errors import Error, StepError, from_record, reason, shortened
from gosudacon.linux import namespace, proc, process
from gosudacon.pipeline.runner import run_step
from gosudacon.pipeline.step import CONTAINER, RUNTIME, Engine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from gosudacon.pipeline.plan import Move, Plan
    from gosudacon.pipeline.recorder import Lane, Recorder
    from gosudacon.pipeline.runner import Observers
    from gosudacon.pipeline.step import Context, Step
    from gosudacon.schema.types import State

# Messages on the channel between the sides, each one packet; the first byte is the kind.
DONE, FAILED, FORKED, WARNED = b"D", b"E", b"P", b"W"
READY, GO, TIMES = b"R", b"G", b"T"
PACKET = 65536  # bytes
_DIGITS = 20
LONGEST_WARNING = 4096  # bytes
MOST_WARNINGS = 100  # that are taken from a process which its neighbours may steer


class Channel:
    """One end of a SOCK_SEQPACKET connection over which the sides talk."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        posix.write(self.fd, kind + payload)

    def receive(self) -> tuple[bytes, bytes]:
        """The next message; an empty kind at end of file, when the other side is gone.

        A side that leaves without having read everything resets the connection, and the kernel reports that once
        before it hands out what that side had sent: its reason, perhaps.
        """
        try:
            packet = posix.read(self.fd, PACKET)
        except ConnectionResetError:
            packet = posix.read(self.fd, PACKET)
        return packet[:1], packet[1:]

    def send_error(self, error: Error) -> None:
        record = error.record()
        limit = PACKET // 4
        while len(payload := jsonio.dumps(_shortened(record, limit)).encode()) >= PACKET:
            limit //= 2
        self.send(FAILED, payload)

    def close(self) -> None:
        if self.fd >= 0:
            posix.close(self.fd)
        self.fd = -1


class InitDied(StepError):
    """Init ended without saying why."""


class RuntimeSide(Engine):
    """Runs the runtime's lane in the calling process and creates the container's process.

    `run` executes everything before `START` and returns when init is ready; `go` lets init go on.
    On failure the caller unwinds: `kill` ends init, `undo_steps` removes what lasts.
    """

    def __init__(
        self,
        plan: Plan,
        context: Context,
        state: Callable[[str, int], State],
        observers: Observers = ((), ()),
    ) -> None:
        self.observers = observers
        self.context = context
        self.channel = Channel(-1)
        self.inherited: Sequence[int] = ()  # what the container's process gets as 0, 1, 2, …
        self.private: list[int] = []  # descriptors that it closes at once
        self.child = "container init"  # for what is said about it
        self.recorder: Recorder | None = None
        self._alone: tuple[list[Move], Callable[[], int]] | None = None
        self._state = state
        self._plan = plan
        self._lanes = plan.lanes()
        self._times: dict[str, Lane] = {}
        self._peer_done = 0
        self._position = 0
        self._peer_ready = False
        self._parents: list[int] = []  # of the container's process, which go by themselves and are to be reaped
        self._forks = sum(move.step.forks for move in self._lanes[CONTAINER])
        context.engine = self

    def run(self) -> None:
        """Execute the lane. Raises `Error`, the container side's as its own."""
        for lane in self._lanes.values():
            for move in lane:
                for module in move.step.modules:
                    __import__(module)
        if self.recorder is not None:
            self._times = self.recorder.watch(self._plan, self._lanes)
        try:
            self._run_lane(self._times.get(RUNTIME))
        finally:
            if self.recorder is not None:
                self.recorder.follow(self.context.pid)
                self.recorder.finish()

    def _run_lane(self, times: Lane | None) -> None:
        for position, move in enumerate(self._lanes[RUNTIME], 1):
            interrupt.check()
            self._position = position
            if self._peer_done < move.wait:
                if times is not None:
                    times.waits(position)
                while self._peer_done < move.wait:
                    self._receive()
            if times is not None:
                times.begins(position)
            self._run_step(move.step)
            if times is not None:
                times.ends(position)
            if move.tell and self.channel.fd >= 0:
                self._tell(position)
                if times is not None:
                    times.told(position)
        if times is not None:
            times.waits(len(self._lanes[RUNTIME]) + 1)
        while not self._peer_ready:
            self._receive()

    def _run_step(self, step: Step) -> None:
        try:
            run_step(step, self.context, self.observers)
        except Error as error:
            if error.errno != ESRCH or not self.context.pid or proc.start_time(self.context.pid):
                raise
            self._drain()  # the process was gone that the step was for: why, is the news

    def spawn(self, flags: int, cgroup: int = -1) -> None:
        if self._alone is not None and not flags:
            self._become_container(*self._alone)
        mine, theirs = process.socketpair()
        try:
            pid = namespace.clone(flags, cgroup)
        except BaseException:
            posix.close(mine)
            posix.close(theirs)
            raise
        if pid == 0:
            side = ContainerSide(self._lanes[CONTAINER], self.context, Channel(theirs), self._position)
            side.observers = self.observers
            side.times = self._times.get(CONTAINER)
            side.inherited, side.private = self.inherited, [mine, *self.private]
            side.main(self._state)
        posix.close(theirs)
        self.channel = Channel(mine)
        self.context.pid = pid

    def go_alone(self, lane: list[Move], hand_over: Callable[[], int]) -> None:
        """Let the calling process run ``lane`` itself, if it is not empty and no recorder and no plugin observes steps.

        `run` then does not return. ``hand_over`` is called once all that comes before that process is done; it gives
        the channel to the process that is the runtime's side from there on.
        """
        observed = self.recorder is not None or any(self.observers)
        self._alone = (lane, hand_over) if lane and not observed else None

    def _become_container(self, lane: list[Move], hand_over: Callable[[], int]) -> NoReturn:
        """Be the container's process: the process at the other end of the channel is the runtime's side now."""
        channel = hand_over()
        self.context.pid = posix.getpid()
        side = ContainerSide(lane, self.context, Channel(channel), 0)
        side.inherited, side.private = self.inherited, [fd for fd in self.private if fd != channel]
        side.main(self._state)

    def close(self) -> None:
        """Give up the connection to init: a container that waits for ``start`` goes on without it."""
        self.channel.close()
        self._reap_parents()

    def go(self) -> None:
        """Let init, which is ready, go on; from here it no longer depends on this process."""
        try:
            self.channel.send(GO)
        except BrokenPipeError:
            self._drain()
        self._reap_parents()

    def await_exec(self) -> None:
        """Wait until init has executed its process, which ends the channel. Raises what it reports instead."""
        kind, payload = self.channel.receive()
        if kind == FAILED:
            raise reported(payload)
        self.channel.close()

    def kill(self) -> None:
        """End init, if it exists and is this process's child, and reap it."""
        self.channel.close()
        if self.context.pid:
            try:
                posix.kill(self.context.pid, SIGKILL)
                posix.waitpid(self.context.pid, 0)
            except OSError:  # gone, or it goes by itself: its channel has ended
                pass

    def _reap_parents(self) -> None:
        while self._parents:
            posix.waitpid(self._parents.pop(), 0)

    def state(self, status: str, pid: int | None = None) -> State:
        return self._state(status, self.context.pid if pid is None else pid)

    def _tell(self, position: int) -> None:
        try:
            self.channel.send(DONE, b"%d" % position)
        except BrokenPipeError:
            self._drain()

    def _drain(self) -> NoReturn:
        """Take in what init has said before it went, to the end, which raises."""
        while True:
            self._receive()

    def _receive(self) -> None:
        if self.channel.fd < 0:
            raise StepError("nothing in the plan creates the container's process", hint="is a stage disabled?")
        kind, payload = self.channel.receive()
        if kind == DONE:
            self._peer_done = number(payload)
        elif kind == READY:
            self._peer_ready = True
        elif kind == FORKED:
            self._follow(number(payload))
        elif kind == WARNED:
            del self.context.warnings[MOST_WARNINGS:]
            self.context.warnings.append(payload.decode(errors="replace"))
        elif kind == FAILED:
            raise reported(payload)
        else:
            raise self._died()

    def _follow(self, pid: int) -> None:
        """Go on with the process that init has become, if the plan knows of it and it is this process's child.

        A process that shares its pid namespace may be steered by its neighbours, and with it the channel.
        """
        if not self._forks:
            raise StepError("the container's process reports a fork that is not in the plan")
        self._forks -= 1
        try:
            posix.waitid(posix.P_PID, pid, posix.WEXITED | posix.WNOHANG | posix.WNOWAIT)
        except ChildProcessError:
            raise StepError(f"the container's process claims to be {pid}, which is not its pid") from None
        self._parents.append(self.context.pid)  # to give up its memory takes a while, in which others can go on
        self.context.pid = pid

    def _died(self) -> InitDied:
        pid, self.context.pid = self.context.pid, 0
        _, status = posix.waitpid(pid, 0)
        code = posix.waitstatus_to_exitcode(status)
        how = f"was killed by signal {-code}" if code < 0 else f"exited with status {code}"
        return InitDied(f"{self.child} {how} before it was ready")


class ContainerSide(Engine):
    """Runs the container's lane in the new process, behind the wall; `main` never returns."""

    observers: Observers = ((), ())
    times: Lane | None = None
    inherited: Sequence[int] = ()
    private: Sequence[int] = ()

    def __init__(self, lane: list[Move], context: Context, channel: Channel, peer_done: int) -> None:
        self.lane = lane
        self.context = context
        self.channel = channel
        self._peer_done = peer_done  # what the runtime did before this process existed
        self._told: tuple[int, int] | None = None  # tells a child that the runtime knows of it
        self._confined = False
        self._started = False  # by another process, `start`

    def main(self, state: Callable[[str, int], State]) -> NoReturn:
        """Run the lane, whose last step is expected to execve(2); leave with status 1 otherwise."""
        self._state = state
        try:
            process.set_pdeathsig(SIGKILL)
            self.context.side = CONTAINER
            self.context.engine = self
            self.context.warnings = []
            self._arrange_descriptors()
            if self.context.state_dir >= 0:  # a directory of the host, and the lock on it
                posix.close(self.context.state_dir)
            self.context.state_dir = -1
            if any(move.step.forks for move in self.lane):
                self._told = posix.pipe()  # now: there may be a limit of open files by then
            build_wall()
            self._run()
            raise StepError("the plan ended without starting the container's process")
        except Error as error:
            self._fail(error)
        except interrupt.Interrupted as error:
            self._fail(StepError(f"{error} before it was ready"))
        except BaseException as error:  # noqa: BLE001 - nothing may reach the interpreter's own traceback
            self._fail(StepError(f"internal error: {reason(error)}"))
        posix._exit(1)

    def _arrange_descriptors(self) -> None:
        process.place(self.inherited)
        for fd in self.private:
            posix.close(fd)

    def spawn(self, flags: int, cgroup: int = -1) -> None:
        raise StepError("only the runtime side can spawn")

    def fork(self, confined: bool) -> None:
        assert self._told is not None
        told, tell = self._told
        pid = namespace.clone_sibling()
        if pid:  # the number is good on the runtime's side: this process is still in its pid namespace
            self.channel.send(FORKED, b"%d" % pid)
            self.channel.close()  # its end is to tell of the child alone
            posix.write(tell, b"1")
            posix._exit(0)
        self._confined = confined
        if not confined:
            process.set_pdeathsig(SIGKILL)
        posix.close(tell)
        if not posix.read(told, 1):
            posix._exit(1)  # the parent was killed before the runtime knew of this process
        posix.close(told)
        self._told = None

    def ready(self) -> None:
        if not self._confined:  # a child that was born confined has never set it
            process.set_pdeathsig(0)  # from here on the end of the channel tells that the runtime is gone
        self.channel.send(READY)
        if self.times is not None:
            self.times.ready()
        self._expect(GO)
        listener, self.context.start_listener = self.context.start_listener, None
        if listener is not None:
            self.channel.close()
            fd, _ = listener._accept()  # type: ignore[attr-defined]
            listener.close()
            self.channel = Channel(fd)
            self._started = True
        if self.times is not None:
            self.times.goes_on()

    def descriptors(self) -> list[int]:
        listener = self.context.start_listener
        return [self.channel.fd, *(self._told or ()), *([] if listener is None else [listener.fileno()])]

    def state(self, status: str, pid: int | None = None) -> State:
        return self._state(status, posix.getpid() if pid is None else pid)

    def _run(self) -> None:
        times = self.times
        for position, move in enumerate(self.lane, 1):
            if self._peer_done < move.wait:
                if times is not None:
                    times.waits(position)
                while self._peer_done < move.wait:
                    self._expect(DONE)
            if times is not None:
                times.begins(position)
                if self._started and times.reports_before(position):
                    self.channel.send(TIMES, times.report(position))
            run_step(move.step, self.context, self.observers)
            if times is not None:
                times.ends(position)
            while self.context.warnings:
                self.channel.send(WARNED, self.context.warnings.pop(0).encode(errors="replace")[:LONGEST_WARNING])
            if move.tell:
                self.channel.send(DONE, b"%d" % position)
                if times is not None:
                    times.told(position)

    def _expect(self, wanted: bytes) -> None:
        kind, payload = self.channel.receive()
        if kind == DONE and wanted == DONE:
            self._peer_done = int(payload)
        elif kind == DONE:
            self._expect(wanted)
        elif kind != wanted:
            posix._exit(1)  # the runtime is gone: the error cannot be reported

    def _fail(self, error: Error) -> None:
        try:
            self.channel.send_error(error)
        except OSError:
            posix._exit(1)


_put_away: list[object] = []


def build_wall() -> None:
    """Close the import system: from here on the container's files may be in reach under any path.

    What is imported stays usable. An import of anything else fails, and so do the library calls known to
    load code or data by name. What found modules is put away: to free it would write to hundreds of pages that this
    process shares with the one it was forked from.
    """
    import gc

    gc.disable()
    _put_away.extend((sys.meta_path, sys.path, sys.path_hooks, sys.path_importer_cache))
    sys.meta_path, sys.path, sys.path_hooks, sys.path_importer_cache = [], [], [], {}
    sys.addaudithook(_forbid)


_FORBIDDEN = frozenset(("import", "ctypes.dlopen", "socket.getaddrinfo", "socket.gethostbyname", "subprocess.Popen"))


def _forbid(event: str, _arguments: object) -> None:
    if event in _FORBIDDEN:
        raise ImportError(f"{event} after the container's files came in reach")


def _shortened(record: dict[str, object], limit: int) -> dict[str, object]:
    """The record with strings of about ``limit`` characters: a path or an argument may be of any length."""
    return {name: shortened(value, limit) if isinstance(value, str) else value for name, value in record.items()}


def number(payload: bytes) -> int:
    """The number in a message. Raises `StepError` for anything else."""
    if not (payload.isdigit() and len(payload) < _DIGITS):
        raise StepError("the container's process sent an invalid message")
    return int(payload)


def reported(payload: bytes) -> Error:
    """The error that the container's process reports; some error, whatever it sends."""
    try:
        data = jsonio.loads(payload)
        assert isinstance(data, dict)
        return from_record(data)
    except (ValueError, TypeError, AssertionError, RecursionError):
        return StepError("the container's process sent an invalid report")
