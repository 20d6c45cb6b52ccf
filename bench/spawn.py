"""Spawns whole processes and measures them: posix_spawn, wait4, CLOCK_MONOTONIC.

posix_spawn(3) is vfork underneath: the bench's own size is not copied, and nothing of Python
runs in the child. The measured interval is posix_spawn, the child's life, wait4; nothing else.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class CommandFailed(Exception):
    """A measured command did not exit with 0; the message has its command line and its stderr."""


class TimedOut(Exception):
    """A command ran longer than the watchdog allows."""


@dataclass(frozen=True)
class Sample:
    """One process: wall time and processor time in nanoseconds.

    ``cpu`` is user plus system time of the process and of the children it waited for
    (getrusage(2), RUSAGE_BOTH), so it lacks what an init does that outlives its creator.
    """

    wall: int
    cpu: int


class Spawner:
    """Starts commands with stdin and stdout at /dev/null and stderr in a file of its own."""

    def __init__(self, stderr: Path, timeout: float) -> None:
        self._null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self._errors = os.open(stderr, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._timeout = timeout
        self._stopping = False
        self._reaped: set[int] = set()
        self._actions = [
            (os.POSIX_SPAWN_DUP2, self._null, 0),
            (os.POSIX_SPAWN_DUP2, self._null, 1),
            (os.POSIX_SPAWN_DUP2, self._errors, 2),
        ]

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Within it, the first Ctrl-C or SIGTERM waits for the running command, the second does not."""
        before = {number: signal.signal(number, self._stop) for number in _STOP_SIGNALS}
        before[signal.SIGALRM] = signal.signal(signal.SIGALRM, _alarm)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Within it no signal interrupts: for the removal of what a run has made."""
        before = {number: signal.signal(number, signal.SIG_IGN) for number in _STOP_SIGNALS}
        before[signal.SIGALRM] = signal.signal(signal.SIGALRM, _alarm)
        self._stopping = False
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        if self._stopping:
            raise KeyboardInterrupt
        self._stopping = True

    def check_stop(self) -> None:
        """KeyboardInterrupt when a stop was asked for."""
        if self._stopping:
            raise KeyboardInterrupt

    def start(
        self,
        argv: list[str],
        stdout: int | None = None,
        stderr: int | None = None,
        environment: Mapping[str, str] = ENVIRONMENT,
    ) -> int:
        """Spawn in a process group of its own (a terminal's Ctrl-C reaches the bench alone); its pid."""
        actions = [*self._actions]
        for target, source in ((1, stdout), (2, stderr)):
            if source is not None:
                actions.append((os.POSIX_SPAWN_DUP2, source, target))
        # Python ignores these two, and a runtime would inherit that.
        defaults = (signal.SIGPIPE, signal.SIGXFSZ)
        return os.posix_spawn(argv[0], argv, environment, file_actions=actions, setpgroup=0, setsigdef=defaults)

    def run(self, argv: list[str], stdout: int | None = None, environment: Mapping[str, str] = ENVIRONMENT) -> Sample:
        """Spawn, wait, measure. CommandFailed on any other end than exit status 0, TimedOut on a hang."""
        self.check_stop()
        os.ftruncate(self._errors, 0)
        signal.setitimer(signal.ITIMER_REAL, self._timeout)
        begun = time.monotonic_ns()
        pid = self.start(argv, stdout, environment=environment)
        try:
            _, status, usage = os.wait4(pid, 0)
        except TimedOut as error:
            self._end(pid)
            raise TimedOut(f"{' '.join(argv)}: {error}") from None
        except KeyboardInterrupt:
            self._end(pid)
            raise
        ended = time.monotonic_ns()
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._check(argv, status)
        return Sample(ended - begun, round((usage.ru_utime + usage.ru_stime) * 1e9))

    def run_many(self, jobs: list[list[str]], slots: int) -> int:
        """Run every command, at most ``slots`` at a time; wall time of the whole in nanoseconds.

        A new one is spawned as soon as one ends. CommandFailed for the first that fails, after
        the rest that was already running has ended.
        """
        self.check_stop()
        os.ftruncate(self._errors, 0)
        signal.setitimer(signal.ITIMER_REAL, self._timeout * 4)
        waiting = list(reversed(jobs))
        running: dict[int, list[str]] = {}
        failed: CommandFailed | None = None
        begun = time.monotonic_ns()
        try:
            while running or (waiting and failed is None):
                while waiting and len(running) < slots and failed is None:
                    argv = waiting.pop()
                    running[self.start(argv)] = argv
                pid, status, _ = os.wait4(-1, 0)
                if pid not in running:
                    self._reaped.add(pid)
                    continue
                try:
                    self._check(running.pop(pid), status)
                except CommandFailed as error:
                    failed = failed or error
        except (TimedOut, KeyboardInterrupt):
            for pid in running:
                self._end(pid)
            raise
        ended = time.monotonic_ns()
        signal.setitimer(signal.ITIMER_REAL, 0)
        if failed is not None:
            raise failed
        return ended - begun

    def reap(self, pid: int) -> None:
        """Wait until an init, which became a child of this process (the subreaper), is gone."""
        if pid in self._reaped:
            self._reaped.discard(pid)
            return
        signal.setitimer(signal.ITIMER_REAL, self._timeout)
        try:
            os.wait4(pid, 0)
        except ChildProcessError:
            pass
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def errors(self) -> str:
        """What the last command, and containers still alive, wrote to stderr."""
        return os.pread(self._errors, 4000, 0).decode(errors="replace").strip()

    def close(self) -> None:
        """Close the descriptors."""
        os.close(self._null)
        os.close(self._errors)

    def _check(self, argv: list[str], status: int) -> None:
        if status != 0:
            code = os.waitstatus_to_exitcode(status)
            raise CommandFailed(f"{' '.join(argv)}: exit {code}\n{self.errors()}")

    def _end(self, pid: int) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.kill(pid, signal.SIGKILL)
        os.wait4(pid, 0)


def _alarm(_number: int, _frame: FrameType | None) -> None:
    raise TimedOut("no end in sight; raise --timeout if this machine is that slow")
