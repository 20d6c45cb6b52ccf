"""The ends of processes: of containers', which are claimed, and of all others that became the shim's children."""

from __future__ import annotations

import _signal
import time

from gosudacon.base import posix
from gosudacon.linux import process
from gosudacon.shim.loop import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from gosudacon.shim.loop import Loop

    Claim = Callable[[int, int], None]  # takes status, as wait(2) reports it, and time in nanoseconds


class Reaper:
    """Collects children. One that ends before it is claimed is remembered while it may still be claimed."""

    def __init__(self, loop: Loop) -> None:
        self._claims: dict[int, Claim] = {}
        self._unclaimed: dict[int, tuple[int, int]] = {}
        self._expecting = 0
        self._witnesses: list[Callable[[int], None]] = []
        self.workers: set[int] = set()  #: those that were in a container's cgroups, until they are collected
        self._signals = process.signalfd((_signal.SIGCHLD,))
        loop.watch(self._signals, READ, self._collect)

    def expect(self) -> None:
        """From now on a process may end that will be claimed."""
        self._expecting += 1

    def expected(self) -> None:
        """It has been claimed, or there will be none."""
        self._expecting -= 1
        if not self._expecting:
            self._unclaimed.clear()

    def witness(self, call: Callable[[int], None]) -> None:
        """Call it with the number of each process that has ended, before it is collected: /proc still tells of it."""
        self._witnesses.append(call)

    def dismiss(self, call: Callable[[int], None]) -> None:
        """Call it no more."""
        self._witnesses.remove(call)

    def claim(self, pid: int, ended: Claim) -> None:
        """Call ``ended`` when the process has ended; now, if it has."""
        end = self._unclaimed.pop(pid, None)
        if end is not None and not _is_child(pid):
            ended(*end)
        else:
            self._claims[pid] = ended

    def _collect(self, _events: int) -> None:
        process.read_signal(self._signals)
        while True:
            try:
                pid, status = self._next()
            except ChildProcessError:
                return
            if not pid:
                return
            self._ended(pid, status, time.time_ns())

    def _next(self) -> tuple[int, int]:
        """Collect one that has ended; 0 and 0 if none has. Raises ChildProcessError if there is no child at all."""
        if not self._witnesses:
            return posix.waitpid(-1, posix.WNOHANG)
        found = posix.waitid(posix.P_ALL, 0, posix.WEXITED | posix.WNOHANG | posix.WNOWAIT)
        if found is None:
            return 0, 0
        for call in [*self._witnesses]:
            call(found.si_pid)
        return posix.waitpid(found.si_pid, 0)

    def _ended(self, pid: int, status: int, when: int) -> None:
        self.workers.discard(pid)
        claim = self._claims.pop(pid, None)
        if claim is not None:
            claim(status, when)
        elif self._expecting:
            self._unclaimed[pid] = status, when


def _is_child(pid: int) -> bool:
    """Whether there is a child of this number, not reaped yet: then what ended under it before was another one."""
    try:
        posix.waitid(posix.P_PID, pid, posix.WEXITED | posix.WNOHANG | posix.WNOWAIT)
    except ChildProcessError:
        return False
    return True
