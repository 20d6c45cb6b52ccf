"""A fault at one chosen system call of one process of a command: an error in its place, or a signal.

strace(1) injects as well, but counts in all processes at once; here the place is a process and a number in it. A
process is named by its way from the command: ``0`` is the command itself, ``0.0`` the first that it makes, ``0.0.1``
the second of that one. The calls are counted from where our code runs: behind the interpreter's start, and not those of
programs that are executed.

ptrace(2) on x86-64. The tracer is a process of its own, whose end lets go what it still traces.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

_CONT, _GETREGS, _SETREGS, _SYSCALL, _GETEVENTMSG, _SEIZE, _INTERRUPT = 7, 12, 13, 24, 0x4201, 0x4206, 0x4207
_OPTIONS = 0x1 | 0x2 | 0x4 | 0x8 | 0x10  # TRACESYSGOOD, TRACEFORK, TRACEVFORK, TRACECLONE, TRACEEXEC
_FORKS, _EXEC = (1, 2, 3), 4  # PTRACE_EVENT_FORK, VFORK, CLONE
_RAX, _RSI, _ORIG_RAX = 10, 13, 15  # in struct user_regs_struct
_OPENAT = 257
_ENTRIES = ("/__main__.py", "/loader.pyc")  # the first file that our code is in: the checkout's, the installed one
_WALL = 0x40000000  # __WALL: whatever their exit signal

_Registers = ctypes.c_ulonglong * 27


@dataclass(frozen=True)
class Fault:
    """What happens at call ``index`` of process ``process``: ``errno``, or else ``signal`` when it is entered."""

    process: str
    index: int
    errno: int = 0
    signal: int = 0


@dataclass
class Tracee:
    name: str
    counting: bool  # its calls are those of our code
    done: bool = False  # it has executed another program
    entering: bool = True
    children: int = 0
    calls: list[int] = field(default_factory=list)


def run(
    command: Sequence[str], fault: Fault | None, report: Path, stdio: tuple[int, int, int], limit: float
) -> tuple[int, dict[str, list[int]]]:
    """Run a command under a tracer; its wait status as a shell's exit status, and each process's numbers of calls.

    With a fault the counts end there. Raises TimeoutError after ``limit`` seconds, with everything killed.
    """
    pid = os.fork()
    if pid == 0:
        status = 255
        try:
            os.setpgid(0, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, limit)
            Tracer(command, fault, report, stdio).trace()
            status = 0
        except Exception:  # noqa: BLE001 - told to the test
            report.write_text(json.dumps({"error": traceback.format_exc()}))
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        os.killpg(pid, signal.SIGKILL)
        raise TimeoutError(f"not done after {limit:g} s: {fault}")
    data = json.loads(report.read_text())
    if "error" in data:
        raise AssertionError(data["error"])
    return data["status"], data["calls"]


class Tracer:
    """Follows a command and all that it makes, up to its end."""

    def __init__(self, command: Sequence[str], fault: Fault | None, report: Path, stdio: tuple[int, int, int]) -> None:
        self.fault = fault
        self.report = report
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
        self.libc.ptrace.restype = ctypes.c_long
        told, tell = os.pipe()
        self.main = os.fork()
        if self.main == 0:
            os.close(tell)
            self._become(command, stdio, told)
        # Seized, not attached: no tracee has a SIGSTOP to come, which would stop it for good when the tracer is gone.
        self._ptrace(_SEIZE, self.main, 0, _OPTIONS)
        self._ptrace(_INTERRUPT, self.main)
        os.waitpid(self.main, 0)
        self.tracees = {self.main: Tracee("0", counting=False, entering=False)}  # amid read(2)
        self.early: set[int] = set()  # seen before the event of their making
        self._ptrace(_CONT, self.main)
        os.close(tell)

    def trace(self) -> None:
        while True:
            pid, status = os.waitpid(-1, _WALL)
            if os.WIFSTOPPED(status):
                self._stopped(pid, status)
            elif pid == self.main:
                code = os.waitstatus_to_exitcode(status)
                calls = {tracee.name: tracee.calls for tracee in self.tracees.values()}
                self.report.write_text(json.dumps({"status": 128 - code if code < 0 else code, "calls": calls}))
                return

    def _become(self, command: Sequence[str], stdio: tuple[int, int, int], told: int) -> NoReturn:
        try:
            for number, fd in enumerate(stdio):
                os.dup2(fd, number)
            signal.setitimer(signal.ITIMER_REAL, 0)
            os.read(told, 1)  # ends when it is traced
            os.execv(command[0], list(command))
        finally:
            os._exit(126)

    def _stopped(self, pid: int, status: int) -> None:
        number, event = os.WSTOPSIG(status), status >> 16
        tracee = self.tracees.get(pid)
        if tracee is None:
            self.early.add(pid)
            return
        deliver = 0
        if number == signal.SIGTRAP | 0x80:
            self._call(pid, tracee)
        elif event in _FORKS:
            self._made(tracee, self._message(pid))
        elif event == _EXEC:
            tracee.counting, tracee.entering = False, False
            tracee.done = pid != self.main
        elif not event:
            deliver = number
        self._go(pid, tracee, deliver)

    def _call(self, pid: int, tracee: Tracee) -> None:
        entering, tracee.entering = tracee.entering, not tracee.entering
        if not entering or tracee.done:
            return
        registers = self._registers(pid)
        if not tracee.counting:
            opens = registers[_ORIG_RAX] == _OPENAT
            tracee.counting = opens and self._text(pid, registers[_RSI]).endswith(_ENTRIES)
            return
        tracee.calls.append(registers[_ORIG_RAX])
        fault = self.fault
        if fault and (fault.process, fault.index) == (tracee.name, len(tracee.calls) - 1):
            if fault.signal:
                os.kill(pid, fault.signal)
            else:
                registers[_ORIG_RAX] = (1 << 64) - 1
                registers[_RAX] = (1 << 64) - fault.errno
                self._ptrace(_SETREGS, pid, 0, ctypes.addressof(registers))
            for each in self.tracees.values():
                each.done = True

    def _made(self, parent: Tracee, pid: int) -> None:
        counting = parent.counting and not parent.done
        tracee = Tracee(f"{parent.name}.{parent.children}", counting, done=not counting)
        parent.children += 1
        self.tracees[pid] = tracee
        if pid in self.early:
            self.early.discard(pid)
            self._go(pid, tracee, 0)

    def _go(self, pid: int, tracee: Tracee, deliver: int) -> None:
        try:
            self._ptrace(_CONT if tracee.done else _SYSCALL, pid, 0, deliver)
        except ProcessLookupError:
            return  # killed meanwhile

    def _message(self, pid: int) -> int:
        value = ctypes.c_ulong()
        self._ptrace(_GETEVENTMSG, pid, 0, ctypes.addressof(value))
        return value.value

    def _registers(self, pid: int) -> Any:
        registers = _Registers()
        self._ptrace(_GETREGS, pid, 0, ctypes.addressof(registers))
        return registers

    def _text(self, pid: int, address: int) -> str:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            memory.seek(address)
            return memory.read(4096).partition(b"\0")[0].decode(errors="replace")

    def _ptrace(self, request: int, pid: int, address: int = 0, data: int = 0) -> None:
        if self.libc.ptrace(request, pid, address, data) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
