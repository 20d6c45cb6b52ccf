"""What the shim knows of a container and its processes, and the order in which their ends are told.

Of all processes of a container init's end is told last, and never before its start: clients rely on that.
"""

from __future__ import annotations

import _signal
from collections import deque

from gosudacon.base import posix
from gosudacon.base.errors import Error, reason
from gosudacon.container import exited
from gosudacon.container.state import Container as Recorded
from gosudacon.container.state import Store
from gosudacon.linux import oom
from gosudacon.linux.cgroup import processes
from gosudacon.linux.process import exit_status
from gosudacon.pipeline.exited import LIMIT, EndedContainer, Exit
from gosudacon.pipeline.registry import EXITED
from gosudacon.shim.loop import READ
from gosudacon.shim.streams import Kept
from gosudacon.shim.worker import Failed, Worker
from gosudacon.wire import containerd as wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from gosudacon.pipeline.registry import Listeners
    from gosudacon.shim.loop import Timer
    from gosudacon.shim.options import Options
    from gosudacon.shim.shim import Shim
    from gosudacon.shim.worker import Job, Note, Reporter
    from gosudacon.wire.protobuf import Message

    Names = tuple[str, str, str]

_PATIENCE = 10.0  # seconds that other processes of a container may outlive its init without its end being told
_LAST_PATIENCE = 1.0  # seconds that a worker has for undoing what it has done when containerd cleans up
_GRACE = 2.0  # seconds that a logger has to read what is left
_OUT_OF_MEMORY = 137  # the exit status of a process that was killed
NEVER_RAN = 255  # the exit status of a process that could not be started
GIVEN_UP = "given up: containerd has asked for the container's end"
_STOPPED = "cannot exec in a stopped container: it has stopped meanwhile"


class Process:
    """One process: the container's init, whose ``exec_id`` is empty, or one that was executed in it."""

    def __init__(self, container: Container, exec_id: str, names: Names, terminal: bool) -> None:
        self.container = container
        self.exec_id = exec_id
        self.names = names
        self.terminal = terminal
        self.spec = b""  # of one that was executed: its OCI process
        self.pid = 0
        self.status: int = wire.CREATED
        self.exit_status = 0
        self.exited_at = 0  # nanoseconds since 1970; 0 while it has not
        self.starting = False
        self.kept = Kept(container.shim.loop)
        self._logger = 0
        self._waiting: list[Callable[[], None]] = []

    def when_ended(self, call: Callable[[], None]) -> None:
        """Call it once the end is told; now, if it is."""
        if self.status == wire.STOPPED:
            call()
        else:
            self._waiting.append(call)

    def take(self, note: Note, descriptors: list[int]) -> None:
        """What a worker has opened for it."""
        if "kept" in note:
            self.kept.take(note["kept"], descriptors, note["copies"])  # type: ignore[arg-type]
            self._claim_logger(int(note["logger"]))  # type: ignore[call-overload]
        else:
            self.kept.take_terminal(descriptors[0])
        if self.terminal == ("terminal" in note):
            self.kept.begin()

    def _claim_logger(self, pid: int) -> None:
        if pid:
            self._logger = pid
            self.container.shim.reaper.claim(pid, self._logger_ended)

    def _logger_ended(self, _status: int, _when: int) -> None:
        self._logger = 0

    def close(self) -> None:
        """It is deleted: nobody wants what it may still write, and one that never ran has no other end."""
        if not self.pid and not self.starting and self.status != wire.STOPPED:
            self.tell_end(NEVER_RAN, 0)
        self.kept.close()
        if self._logger:
            self.container.shim.loop.later(_GRACE, lambda: self._end_logger(_signal.SIGTERM))
            self.container.shim.loop.later(_PATIENCE, lambda: self._end_logger(_signal.SIGKILL))

    def _end_logger(self, number: int) -> None:
        if self._logger:  # not reaped yet
            posix.kill(self._logger, number)

    def tell_end(self, status: int, when: int) -> None:
        """It has ended: tell containerd and all who wait."""
        self.status, self.exit_status, self.exited_at = wire.STOPPED, status, when
        self.kept.finish()
        if self.pid:
            self.container.shim.publish(
                "TaskExit",
                container_id=self.container.id,
                id=self.exec_id or self.container.id,
                pid=self.pid,
                exit_status=status,
                exited_at=wire.timestamp(when),
            )
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call()


class Container:
    """One container. Of what changes it, one thing is done at a time; processes are executed beside that."""

    def __init__(self, shim: Shim, id: str, bundle: str, options: Options) -> None:
        self.shim = shim
        self.id = id
        self.bundle = bundle
        self.options = options
        self.root = shim.root_of(options)
        self.checkpoint = ""  # the directory of images from which it comes, if it does
        self.rootfs: list[dict[str, object]] = []
        self.init = Process(self, "", ("", "", ""), False)
        self.execs: dict[str, Process] = {}
        self.cgroups: dict[str, str] = {}
        self.linux: dict[str, object] = {}  # its id mappings, as config.json has them
        self.told: Listeners = []  # plugins that are told of its end
        self.annotations: dict[str, str] = {}
        self.shares_pid_namespace = False
        self._start_time = 0  # of init, in clock ticks since boot
        self._ran_out_of_memory = False
        self.created = False
        self.worker: Worker | None = None
        self._busy = False
        self.metrics: Message | None = None  # of its end, where its cgroup may be gone
        self._executing: dict[Process, Worker] = {}
        self._jobs: deque[Callable[[], None]] = deque()
        self._end: tuple[int, int] | None = None  # init's, not told yet
        self._overdue: Timer | None = None  # when it is told at the latest
        self._watch: oom.Watch | None = None
        self._giving_up: list[Callable[[], None]] = []

    # Workers.

    def queue(
        self,
        job: Job,
        done: Callable[[Note | Failed], None],
        noted: Callable[[Note, list[int]], None] | None = None,
        alone: Callable[[Callable[[Note | Failed], None]], bool] | None = None,
    ) -> None:
        """Have a worker do it when those before have done; none if ``alone`` does it, which then calls what it gets."""

        def begin() -> None:
            self._busy = True
            try:
                if alone is None or not alone(finished):
                    self.worker = self.shim.worker(job, finished, noted)
            except (Error, OSError) as error:
                finished(Failed(reason(error)))

        def finished(outcome: Note | Failed) -> None:
            self.worker = None
            try:
                done(outcome)
            finally:
                self._busy = False
                self._next()

        self._jobs.append(begin)
        self._next()

    def abandon(self, call: Callable[[], None]) -> None:
        """End it, and the worker that is at it, in a second; call it when none is any more."""
        if self.worker is not None:
            self.worker.end(GIVEN_UP, _LAST_PATIENCE)
        if self.init.pid and not self.ending:  # it has not been reaped
            posix.kill(self.init.pid, _signal.SIGKILL)

        def done(finished: Callable[[Note | Failed], None]) -> bool:
            finished({})
            return True

        def over(_outcome: Note | Failed) -> None:
            if self.checkpoint and not self.init.pid:  # nothing else will end it
                self.init.tell_end(NEVER_RAN, 0)
            call()

        self.queue(lambda _: {}, over, alone=done)

    def _next(self) -> None:
        if not self._busy and self._jobs:
            self._jobs.popleft()()

    def execute(self, process: Process, job: Job, done: Callable[[Note | Failed], None]) -> None:
        """Have a worker start a process in it, beside all others."""

        def finished(outcome: Note | Failed) -> None:
            del self._executing[process]
            process.starting = False
            done(outcome)
            self.check_end()

        process.starting = True
        self._executing[process] = self.shim.worker(job, finished, process.take, joins=self.cgroups)

    # Its beginning.

    def begin(self, result: Note) -> None:
        """It has been created, as a worker says."""
        self.created = True
        self.cgroups = result["cgroups"]  # type: ignore[assignment]
        self.linux = result["linux"]  # type: ignore[assignment]
        self.told, self.annotations = result["told"], result["annotations"]  # type: ignore[assignment]
        self.shares_pid_namespace = bool(result["shares_pid_namespace"])
        self.init.pid = int(result["pid"])  # type: ignore[call-overload]
        self._start_time = int(result["start_time"])  # type: ignore[call-overload]
        self._watch_memory()

    def recorded(self) -> Recorded:
        """What the command line's operations ask of its state, without a look at that."""
        return Recorded(
            Store(self.root, self.id),
            {"cgroups": self.cgroups, "pid": self.init.pid, "start_time": self._start_time},
        )

    def claim(self, process: Process) -> None:
        """Hear of the process's end."""
        if process is self.init:
            self.shim.reaper.claim(process.pid, self._init_ended)
        else:
            self.shim.reaper.claim(process.pid, lambda status, when: self._exec_ended(process, status, when))

    # Its end.

    @property
    def ending(self) -> bool:
        """Whether init has ended, told or not: nothing can be started any more."""
        return self._end is not None or self.init.status == wire.STOPPED

    def _exec_ended(self, process: Process, status: int, when: int) -> None:
        process.tell_end(exit_status(status), when)
        self.check_end()

    def _init_ended(self, status: int, when: int) -> None:
        self._end = status, when
        if self.init.status in (wire.PAUSED, wire.PAUSING):
            processes.thaw(self.cgroups)  # frozen processes do not die with it
        for worker in self._executing.values():
            worker.end(_STOPPED)
        if self.shares_pid_namespace and self.cgroups:
            self.shim.worker(lambda _: processes.kill_all(self.cgroups) or {}, lambda _: self.check_end())  # type: ignore[func-returns-value]
        self._overdue = self.shim.loop.later(_PATIENCE, self._tell_end)
        self.check_end()

    def check_end(self) -> None:
        """Tell init's end, if it has come and nothing is left that has to be told before."""
        running = any(process.pid and process.status != wire.STOPPED for process in self.execs.values())
        if not running and not self._executing and not self.init.starting:
            self._tell_end()

    def _tell_end(self) -> None:
        if self._end is None:
            return
        (raw, when), self._end = self._end, None
        if self._overdue is not None:
            self._overdue.cancel()
        status = exit_status(raw)
        try:
            self._look_back(status)
        except Exception as error:  # noqa: BLE001 - its cgroups may go meanwhile; the end is told, whatever happens
            self.shim.report(error)
        self._tell_plugins(raw, when)
        self.init.tell_end(status, when)

    def _look_back(self, status: int) -> None:
        """Whether memory has run out, and what it used, where its cgroups may soon be gone. Raises `Error`, OSError."""
        try:
            self._check_memory()
        finally:
            if self._watch is not None:
                self.shim.loop.forget(self._watch.fd)
                self._watch.close()
                self._watch = None
        if status == _OUT_OF_MEMORY:
            self.metrics = self.shim.metrics(self)

    def _tell_plugins(self, raw: int, when: int) -> None:
        """In a worker, which is killed if it takes too long."""
        if not self.told:
            return
        signal = max(-posix.waitstatus_to_exitcode(raw), 0)
        exit = Exit(self.init.pid, exit_status(raw), signal, self._ran_out_of_memory, when)
        about = EndedContainer(self.id, self.bundle, self.annotations)

        def job(reporter: Reporter) -> dict[str, object]:
            for failure in exited.call(self.told, about, exit):
                reporter.warning(failure)
            return {}

        def done(outcome: Note | Failed) -> None:
            timer.cancel()
            if isinstance(outcome, Failed):
                self.shim.log("warning", f"{EXITED}: {outcome}")

        worker = self.shim.worker(job, done)
        timer = self.shim.loop.later(LIMIT, worker.kill)

    # Memory.

    def _watch_memory(self) -> None:
        try:
            self._watch = oom.watch(self.cgroups)
        except OSError as error:
            self.shim.report(error)
        if self._watch is not None:
            self.shim.loop.watch(self._watch.fd, READ, lambda _: self._check_memory())

    def _check_memory(self) -> None:
        if self._watch is not None and self._watch.happened():
            self._ran_out_of_memory = True
            self.shim.publish("TaskOOM", container_id=self.id)

    @property
    def unwanted(self) -> bool:
        """Whether somebody waits for it not to be there."""
        return bool(self._giving_up)

    def when_given_up(self, call: Callable[[], None]) -> None:
        """Call it once it is clear that the container, which is being made, will not be there."""
        self._giving_up.append(call)

    def forget(self) -> None:
        """It is gone, or was never there: give up what is held for it."""
        waiting, self._giving_up = self._giving_up, []
        for call in waiting:
            call()
        for process in (self.init, *self.execs.values()):
            process.close()
        if self._watch is not None:
            self.shim.loop.forget(self._watch.fd)
            self._watch.close()
            self._watch = None
