"""Processes under this one: who they are, waiting for them, ending what a test has left."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.timing import seconds

_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Process:
    """A process, told apart from later ones with its number by ``starttime`` (clock ticks since boot)."""

    pid: int
    starttime: int

    def describe(self) -> str:
        """Number, name, state and command line, as far as they can still be read."""
        try:
            fields = _stat(self.pid)
            words = Path(f"/proc/{self.pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return f"process {self.pid} (gone by now)"
        line = b" ".join(words).decode(errors="replace").strip()
        return f"process {self.pid} ({fields[0]}, state {fields[1]}): {line[:200]}"


def _stat(pid: int) -> list[str]:
    """The fields of ``/proc/PID/stat`` from the name on, see proc(5); OSError if the process is gone."""
    text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    name, _, rest = text.partition("(")[2].rpartition(")")
    return [name, *rest.split()]


def parent(pid: int) -> int:
    """The number of a process's parent; 0 if the process is gone."""
    try:
        return int(_stat(pid)[2])
    except OSError:
        return 0


def become_subreaper() -> None:
    """Have orphans among the descendants of this process become its children (``PR_SET_CHILD_SUBREAPER``)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def alive(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    try:
        return _stat(pid)[1] not in ("Z", "X")
    except OSError:
        return False


def descendants() -> set[Process]:
    """All processes that descend from this one, zombies included."""
    children: dict[int, list[Process]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            fields = _stat(int(entry))
        except OSError:
            continue
        children.setdefault(int(fields[2]), []).append(Process(int(entry), int(fields[20])))
    found: set[Process] = set()
    queue = [os.getpid()]
    while queue:
        for child in children.get(queue.pop(), []):
            found.add(child)
            queue.append(child.pid)
    return found


def reap(processes: set[Process]) -> None:
    """Collect those of the processes that are zombies and children of this one."""
    for process in processes:
        try:
            os.waitpid(process.pid, os.WNOHANG)
        except ChildProcessError:
            continue


def anonymous_memory(pid: int) -> int:
    """In KiB, what no file has: its own, and what it has from its parent (proc_pid_smaps(5))."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))


def wait(pid: int, limit: float = 10.0) -> int:
    """Wait for a child of this process and return its exit status, 128+N if signal N ended it.

    Raises TimeoutError after ``limit`` seconds (of an ordinary machine), ChildProcessError if it is not a child.
    """
    handle = os.pidfd_open(pid)
    try:
        if not select.select([handle], [], [], seconds(limit))[0]:
            raise TimeoutError(f"still running: {Process(pid, 0).describe()}")
    finally:
        os.close(handle)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def kill(process: Process) -> None:
    """Send SIGKILL, unless the process has gone already."""
    try:
        handle = os.pidfd_open(process.pid)
    except OSError as error:
        if error.errno in (errno.ESRCH, errno.EINVAL):
            return
        raise
    try:
        if int(_stat(process.pid)[20]) == process.starttime:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    except (ProcessLookupError, FileNotFoundError):
        pass
    finally:
        os.close(handle)


def end(child: subprocess.Popen[bytes], limit: float) -> None:
    """Terminate a child and wait for it; kill it after ``limit`` seconds."""
    child.terminate()
    try:
        child.wait(seconds(limit))
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
