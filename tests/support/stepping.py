"""A process that runs already, followed from call to call up to a chosen one, where something happens to somebody.

`tests.support.injection` does so with a command from its start; this is for a daemon: who serves a request, and all
that it makes for that. The calls that count are those that change something; they are numbered in each process.
ptrace(2) on x86-64. The tracer is a process of its own, whose end lets go what it still traces.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from tests.support.injection import _INTERRUPT, _OPTIONS, _SEIZE, _SYSCALL, _WALL, Tracee, Tracer
from tests.support.timing import seconds

WORKER = -1  # as a victim: the process that the followed one has made, to which the call belongs
NOBODY = 0  # all wait while the test does what it wants, see `Following.at_the_point`
_ORIG_RAX = 15
#: Calls that change what others can see, by their names.
_CHANGES = """
write=1 writev=20 connect=42 sendto=44 sendmsg=46 recvmsg=47 clone=56 fork=57 vfork=58 clone3=435 execve=59
exit_group=231 kill=62 flock=73 truncate=76 ftruncate=77 rename=82 mkdir=83 rmdir=84 link=86 unlink=87
symlink=88 chmod=90 chown=92 fchown=93 setsid=112 mknod=133 pivot_root=155 chroot=161 mount=165 umount2=166
sethostname=170 unshare=272 mkdirat=258 mknodat=259 unlinkat=263 renameat=264 symlinkat=266 splice=275
setns=308 renameat2=316 seccomp=317 bpf=321 open_tree=428 move_mount=429 fsopen=430 fsconfig=431 fsmount=432
mount_setattr=442
"""
CHANGES = {int(number): name for name, _, number in (word.partition("=") for word in _CHANGES.split())}


@dataclass(frozen=True)
class Point:
    """Call ``index`` of process ``process``: ``0`` is the followed one, ``0.1`` the second that it makes."""

    process: str
    index: int


class Follower(Tracer):
    """Follows a process and what it makes until it is told to stop, or has come to the point."""

    def __init__(self, pid: int, point: Point | None, victim: int, report: Path, channel: socket.socket) -> None:
        self.fault = None
        self.report = report
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
        self.libc.ptrace.restype = ctypes.c_long
        self.point = point
        self.victim = victim
        self.channel = channel
        self.reached = False
        self.main = pid
        self._ptrace(_SEIZE, pid, 0, _OPTIONS)
        self._ptrace(_INTERRUPT, pid)
        os.waitpid(pid, _WALL)
        self.tracees = {pid: Tracee("0", counting=True)}
        self.early: set[int] = set()
        self._ptrace(_SYSCALL, pid)  # it waited in a call, which it begins again: the next stop is an entry

    def follow(self) -> None:
        """Until the point is reached, the process is gone, or a signal comes. The end of this process lets go all."""
        while not self.reached:
            pid, status = os.waitpid(-1, _WALL)
            if os.WIFSTOPPED(status):
                with suppress(ProcessLookupError):
                    self._stopped(pid, status)
            elif pid == self.main:
                return

    def tell(self) -> None:
        """Write what was seen."""
        calls = {tracee.name: tracee.calls for tracee in self.tracees.values() if tracee.calls}
        self.report.write_text(json.dumps({"reached": self.reached, "calls": calls}))

    def _call(self, pid: int, tracee: Tracee) -> None:
        entering, tracee.entering = tracee.entering, not tracee.entering
        if not entering or tracee.done:
            return
        number = self._registers(pid)[_ORIG_RAX]
        if number not in CHANGES:
            return
        tracee.calls.append(number)
        if self.point == Point(tracee.name, len(tracee.calls) - 1):
            self.reached = True
            self._strike(tracee)

    def _strike(self, tracee: Tracee) -> None:
        if self.victim == NOBODY:
            self.channel.send(b".")
            self.channel.recv(1)
            return
        name = ".".join(tracee.name.split(".")[:2])
        worker = next(pid for pid, each in self.tracees.items() if each.name == name)
        with suppress(ProcessLookupError):
            os.kill(worker if self.victim == WORKER else self.victim, signal.SIGKILL)

    def _go(self, pid: int, tracee: Tracee, deliver: int) -> None:
        if not self.reached:
            super()._go(pid, tracee, deliver)


class Following:
    """A tracer at work. A context manager: at its end nobody is traced, and what was seen can be asked."""

    def __init__(self, pid: int, report: Path, point: Point | None = None, victim: int = WORKER) -> None:
        self.calls: dict[str, list[int]] = {}
        self.reached = False
        self._report = report
        report.unlink(missing_ok=True)
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.settimeout(seconds(60))
        self._pid = os.fork()
        if self._pid == 0:
            self._channel.close()
            _be_tracer(pid, point, victim, report, theirs)
        theirs.close()
        if self._channel.recv(1) != b"!":
            self._end()
            raise AssertionError(f"cannot trace: {report.read_text()}")

    def __enter__(self) -> Following:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        data = json.loads(self._report.read_text())
        if "error" in data:
            raise AssertionError(data["error"])
        self.calls, self.reached = data["calls"], data["reached"]

    def _end(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGTERM)
        os.waitpid(self._pid, 0)
        self._channel.close()

    def at_the_point(self, act: Callable[[], None]) -> None:
        """With `NOBODY`: call it when the point is reached, while all that is followed waits."""
        self._channel.recv(1)
        act()
        self._channel.send(b".")

    def points(self) -> list[Point]:
        """All that were seen, in processes that the followed one has made if there are any, else in itself."""
        names = [name for name in sorted(self.calls) if name != "0"] or ["0"]
        return [Point(name, index) for name in names for index in range(len(self.calls[name]))]

    def name(self, point: Point) -> str:
        """What happens there."""
        return f"{point.process}:{point.index} {CHANGES[self.calls[point.process][point.index]]}"


def _be_tracer(pid: int, point: Point | None, victim: int, report: Path, channel: socket.socket) -> NoReturn:
    def stop(_number: int, _frame: object) -> None:
        raise SystemExit

    try:
        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds(120))
        follower = Follower(pid, point, victim, report, channel)
        try:
            channel.send(b"!")
            follower.follow()
            follower.tell()
        except SystemExit:  # there is one
            follower.tell()
    except BaseException:  # noqa: BLE001 - told to the test
        report.write_text(json.dumps({"error": traceback.format_exc()}))
    finally:
        os._exit(0)
