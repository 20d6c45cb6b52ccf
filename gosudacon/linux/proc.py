"""What /proc says about processes (proc(5)); without system calls of our own, for the shortest commands."""

from __future__ import annotations

from errno import EACCES, ENOENT, EPERM, ESRCH

from gosudacon.base import posix

_NOT_THERE = (EPERM, ENOENT, ESRCH, EACCES)  # gone, or none of ours
_PF_FORKNOEXEC = 0x40  # include/linux/sched.h: "Forked but didn't exec"


def start_time(pid: int) -> int:
    """Field 22 of /proc/PID/stat: clock ticks after boot at which the process started; 0 if it is gone or a zombie."""
    fields = _stat(pid)
    return 0 if not fields or fields[0] in (b"Z", b"X") else int(fields[19])


def never_executed(pid: int, start_time: int) -> bool:
    """Whether the process that started at ``start_time`` has not called execve(2) since it was forked (field 9).

    Of a zombie it can still be told; False for a process that is gone.
    """
    fields = _stat(pid)
    return bool(fields) and int(fields[19]) == start_time and bool(int(fields[6]) & _PF_FORKNOEXEC)


def sleeps(pid: int) -> bool:
    """Whether it waits in the kernel, for what may never come (field 3); False if it is gone."""
    return _stat(pid)[:1] == [b"S"]


def of_session(session: int) -> list[int]:
    """The processes of a session that have not ended (field 6), without its leader if that has."""
    found = []
    for name in posix.listdir("/proc"):
        fields = _stat(int(name)) if name.isdigit() else []
        if fields and int(fields[3]) == session and fields[0] not in (b"Z", b"X"):
            found.append(int(name))
    return found


def cgroups(pid: int | str) -> dict[str, str]:
    """Controller (``""``: the unified hierarchy) -> the cgroup of a process, ``/`` for the root (cgroups(7)).

    A process that has ended is said to be in the root. Raises OSError.
    """
    fd = posix.open(f"/proc/{pid}/cgroup", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        chunks = []
        while chunk := posix.read(fd, 65536):
            chunks.append(chunk)
    finally:
        posix.close(fd)
    found: dict[str, str] = {}
    for line in b"".join(chunks).splitlines():
        _, controllers, path = posix.fsdecode(line).split(":", 2)
        found.update(dict.fromkeys(controllers.split(","), path.removesuffix(" (deleted)")))
    return found


def thread_group(tid: int) -> int:
    """The pid of the process that a thread belongs to; 0 if it is gone (``Tgid`` in proc_pid_status(5))."""
    try:
        fd = posix.open(f"/proc/{tid}/status", posix.O_RDONLY | posix.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        text = posix.read(fd, 4096)
    except ProcessLookupError:
        return 0
    finally:
        posix.close(fd)
    return int(text.partition(b"\nTgid:")[2].split(None, 1)[0] or 0)


def descendants(pid: int) -> list[int]:
    """The pids of all processes that process ``pid`` has made, as far as their parents still live."""
    parents = {int(name): parent(int(name)) for name in posix.listdir("/proc") if name.isdigit()}
    found = {pid}
    while more := {child for child, above in parents.items() if above in found and child not in found}:
        found |= more
    return sorted(found - {pid})


def parent(pid: int) -> int:
    """Field 4 of /proc/PID/stat: the pid of the parent; 0 if it has no parent, or is gone."""
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def _stat(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat from the third on; empty if the process is gone."""
    try:
        fd = posix.open(f"/proc/{pid}/stat", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError as error:
        if error.errno not in _NOT_THERE:  # too few descriptors do not prove that the process is gone
            raise
        return []
    try:
        data = posix.read(fd, 4096)
    except ProcessLookupError:
        return []
    finally:
        posix.close(fd)
    return data[data.rindex(b")") + 2 :].split()


def in_pid_namespace(pid: int) -> list[int]:
    """The pids of all processes in the pid namespace of process ``pid``, itself included; empty if it is gone.

    Those in namespaces below it are left out, and those that the caller may not look at (ptrace(2)).
    """
    wanted = _pid_namespace(pid)
    numbers = [int(name) for name in posix.listdir("/proc") if name.isdigit()]
    return sorted(number for number in numbers if _pid_namespace(number) == wanted) if wanted else []


def _pid_namespace(pid: int) -> str:
    try:
        return posix.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""
