"""Which program a thread runs, from /proc: text alone, nothing of it is opened (proc(5))."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.api import listener as listeners

_MOST = 4096  # threads that are remembered
_LONGEST = 4096
_FLAGS, _FORKNOEXEC = 6, 0x40  # the ninth field of stat, behind pid and name


class Programs:
    """thread -> path of its program, as it is called in its own root; ``notes`` are for the report."""

    def __init__(self) -> None:
        self.known: dict[int, str] = {}
        self.notes: list[str] = []

    def see(self, call: str, tid: int) -> None:
        """A call after which what is known of the thread no longer holds."""
        if call != "seccomp":
            self.known.pop(tid, None)

    def learn(self, listener: listeners.Listener, id: int, tid: int) -> None:
        """Look the program of a thread up, which waits for the answer to ``id``."""
        program, _ = self.who(listener, id, tid)
        if len(self.known) >= _MOST:
            self.known.clear()
        self.known[tid] = program

    def who(self, listener: listeners.Listener, id: int, tid: int) -> tuple[str, str]:
        """Program and command name of a thread; empty if it has gone meanwhile, and the number may be another's."""
        program, comm = _link(f"/proc/{tid}/exe"), _text(f"/proc/{tid}/comm")
        return (program, comm) if listener.waits(id) else ("", "")


def group_of(tid: int) -> int:
    """The process that a thread belongs to. Raises ValueError if it is gone."""
    return int(_field(tid, "Tgid") or "gone")


def handles(tid: int, signal: int) -> bool:
    """Whether the thread's process has a handler for a signal."""
    return bool(int(_field(tid, "SigCgt") or "0", 16) >> (signal - 1) & 1)


def never_executed(tid: int) -> bool:
    """Whether the thread's program is still the one that its parent had: PF_FORKNOEXEC in /proc/TID/stat (proc(5))."""
    fields = _text(f"/proc/{tid}/stat").rpartition(")")[2].split()
    return len(fields) > _FLAGS and bool(int(fields[_FLAGS]) & _FORKNOEXEC)


def _field(tid: int, name: str) -> str:
    for line in _text(f"/proc/{tid}/status").splitlines():
        if line.startswith(f"{name}:"):
            return line.partition(":")[2].strip()
    return ""


def _text(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, _LONGEST).decode(errors="replace").rstrip("\n")
    except OSError:
        return ""
    finally:
        os.close(fd)


def _link(path: str) -> str:
    try:
        return os.fsencode(os.readlink(path)).decode(errors="replace")
    except OSError:
        return ""
