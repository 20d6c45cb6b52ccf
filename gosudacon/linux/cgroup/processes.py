"""A container's cgroups and the processes in them: list, signal, kill, freeze, remove.

Everything a container owns is given as ``cgroups``, a mapping of controller -> absolute directory as state.json
keeps it: v1 controllers by name, ``name=systemd``, and ``""`` for the unified hierarchy (cgroups(7)).
"""

from __future__ import annotations

import _signal
import time
from errno import EBUSY, ENODEV, ENOENT, EOPNOTSUPP

from gosudacon.base import posix
from gosudacon.base.errors import Error, SyscallError
from gosudacon.linux import proc
from gosudacon.linux.cgroup.files import open_directory, read, rmdir, walk, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_DIRECTORY = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
_ROOT_INODE = 1  # of every cgroup filesystem (kernfs)
_TRIES = 10  # of an operation the kernel answers with EBUSY; the pauses double from 1 ms
_BATCH = 200  # pidfds held at a time
_PATIENCE = 5.0  # seconds for a freeze


def pids(cgroups: Mapping[str, str]) -> list[int]:
    """Pids of all processes in the container's cgroups and below them, as seen from this pid namespace.

    All hierarchies are looked at: a process may have been moved in one of them.
    """
    found: set[int] = set()
    for directory in dict.fromkeys(cgroups.values()):
        found.update(_read_processes(directory))
    return sorted(found)


def signal_all(cgroups: Mapping[str, str], signal: int) -> None:
    """Send ``signal`` to every process of the container; SIGKILL also reaches what forks meanwhile or is frozen."""
    if signal == _signal.SIGKILL:
        kill_all(cgroups)
    else:
        signal_found(lambda: pids(cgroups), signal)


def kill_all(cgroups: Mapping[str, str]) -> None:
    """End every process of the container (cgroup.kill since Linux 5.14; else freeze, kill, thaw), without waiting."""
    if not cgroups:
        return
    at_once = _cgroup_kill(cgroups.get(""))
    if not at_once:
        _try_to_freeze(cgroups)  # so that nothing forks meanwhile; without, the loop has to do
    pause = 0.001
    for _ in range(_TRIES):
        found = signal_found(lambda: pids(cgroups), _signal.SIGKILL)
        thaw_all(cgroups)
        if at_once or not found:
            return
        time.sleep(pause)
        pause *= 2


def _try_to_freeze(cgroups: Mapping[str, str]) -> bool:
    try:
        freeze(cgroups)
    except (Error, OSError):  # no freezer, or a process that will not
        return False
    return True


def _cgroup_kill(directory: str | None) -> bool:
    if directory is None:
        return False
    try:
        fd = open_directory(directory)
        try:
            write(fd, "cgroup.kill", "1")
        finally:
            posix.close(fd)
    except SyscallError as error:
        if error.errno in (ENOENT, ENODEV, EOPNOTSUPP):  # gone, an old kernel, a threaded cgroup
            return False
        raise
    return True


def signal_found(find: Callable[[], list[int]], signal: int) -> bool:
    """Signal the processes that ``find`` lists now; whether there were any.

    Each is found again while a pidfd pins it, so its number cannot have become another process's.
    """
    found = find()
    for start in range(0, len(found), _BATCH):
        pinned: dict[int, int] = {}
        for pid in found[start : start + _BATCH]:
            try:
                pinned[pid] = posix.pidfd_open(pid)
            except OSError:
                continue  # gone
        members = frozenset(find())
        for pid, pidfd in pinned.items():
            try:
                if pid in members:
                    _signal.pidfd_send_signal(pidfd, signal)
            except ProcessLookupError:
                continue
            finally:
                posix.close(pidfd)
    return bool(found)


def _read_processes(directory: str) -> list[int]:
    try:
        top = open_directory(directory)
    except SyscallError as error:
        if error.errno == ENOENT:
            return []
        raise
    found: set[int] = set()
    try:
        if posix.fstat(top).st_ino == _ROOT_INODE:  # everything on the machine
            raise Error(f"{directory} is the root of a hierarchy, not a container's cgroup")
        _add_processes(top, found)
        for parent, name in walk(top):
            try:
                fd = posix.open(name, _DIRECTORY, dir_fd=parent)
            except FileNotFoundError:
                continue
            try:
                _add_processes(fd, found)
            finally:
                posix.close(fd)
    finally:
        posix.close(top)
    found.discard(0)  # a process outside of this pid namespace
    return sorted(found)


def _add_processes(fd: int, found: set[int]) -> None:
    for name in ("cgroup.procs", "cgroup.threads"):  # the second where the first cannot be read: a threaded cgroup
        try:
            numbers = [int(word) for word in read(fd, name).split()]
            found.update(numbers if name == "cgroup.procs" else map(proc.thread_group, numbers))
            return
        except SyscallError as error:
            if error.errno in (ENOENT, ENODEV):
                return  # the cgroup has just been removed
            if error.errno != EOPNOTSUPP:
                raise


def oom_kills(cgroups: Mapping[str, str]) -> int:
    """How many of the container's processes the kernel has killed for lack of memory; 0 where it cannot be known."""
    directory, name = (
        (cgroups["memory"], "memory.oom_control") if "memory" in cgroups else (cgroups.get(""), "memory.events")
    )
    if directory is None:
        return 0
    try:
        fd = open_directory(directory)
        try:
            return int(_fields(read(fd, name)).get("oom_kill", "0"))
        finally:
            posix.close(fd)
    except OSError:
        return 0


def frozen(cgroups: Mapping[str, str]) -> bool:
    """Whether the container's processes are frozen."""
    directory, unified = _freezer(cgroups)
    fd = open_directory(directory)
    try:
        return _is_frozen(fd, unified)
    finally:
        posix.close(fd)


def freeze(cgroups: Mapping[str, str]) -> None:
    """Stop the container's processes and wait until all are. Raises `Error` when some will not, after thawing."""
    directory, unified = _freezer(cgroups)
    fd = open_directory(directory)
    try:
        deadline = time.monotonic() + _PATIENCE
        for attempt in range(1, 1 << 20):
            # v1: a process caught in a state that cannot freeze is given a moment to run on.
            if attempt % 32 == 0 and not unified:
                write(fd, "freezer.state", "THAWED")
            write(fd, *(("cgroup.freeze", "1") if unified else ("freezer.state", "FROZEN")))
            if _is_frozen(fd, unified):
                return
            if time.monotonic() > deadline:
                break
            time.sleep(min(0.0002 * attempt, 0.01))
        write(fd, *(("cgroup.freeze", "0") if unified else ("freezer.state", "THAWED")))
        raise Error(f"cannot freeze the processes of {directory}", call="write", errno=EBUSY)
    finally:
        posix.close(fd)


def thaw(cgroups: Mapping[str, str]) -> None:
    """Let the container's processes run again."""
    try:
        directory, unified = _freezer(cgroups)
        fd = open_directory(directory)
    except (Error, OSError):
        return  # what is not there is not frozen
    try:
        write(fd, *(("cgroup.freeze", "0") if unified else ("freezer.state", "THAWED")))
    finally:
        posix.close(fd)


def _freezer(cgroups: Mapping[str, str]) -> tuple[str, bool]:
    if "freezer" in cgroups:
        return cgroups["freezer"], False
    if "" in cgroups:
        return cgroups[""], True
    raise Error("the container has no freezer cgroup")


def _is_frozen(fd: int, unified: bool) -> bool:
    if unified:
        return _fields(read(fd, "cgroup.events")).get("frozen") == "1"
    return read(fd, "freezer.state") == "FROZEN"


def thaw_all(cgroups: Mapping[str, str]) -> None:
    """As `thaw`, and on v1 the cgroups below, too: a process that is frozen there does not even die."""
    if "freezer" not in cgroups:
        thaw(cgroups)
        return
    try:
        top = open_directory(cgroups["freezer"])
    except OSError:
        return  # already removed
    try:
        for parent, name in walk(top):
            _thaw_one(parent, name)
        _thaw_one(top, ".")
    finally:
        posix.close(top)


def _thaw_one(parent: int, name: str) -> None:
    try:
        fd = posix.open(name, _DIRECTORY, dir_fd=parent)
    except OSError:
        return  # removed meanwhile
    try:
        write(fd, "freezer.state", "THAWED")
    except SyscallError:
        return
    finally:
        posix.close(fd)


def remove(cgroups: Mapping[str, str]) -> None:
    """Remove the container's cgroups with all cgroups and processes in them; what is not there is fine.

    Raises `SyscallError` (EBUSY) when processes will not die within a second.
    """
    directories = list(dict.fromkeys(cgroups.values()))
    left = [directory for directory in directories if not _rmdir_path(directory)]
    if not left:
        return
    pause = 0.001
    for _ in range(_TRIES):
        kill_all(cgroups)  # again and again: what freezes or moves its own processes may be as quick
        left = [directory for directory in left if not _remove_tree(directory)]
        if not left:
            return
        time.sleep(pause)
        pause *= 2
    raise SyscallError(EBUSY, "rmdir", left[0])


def _rmdir_path(directory: str) -> bool:
    """rmdir(2) below a parent reached without symlinks; whether it is gone."""
    above, _, name = directory.rpartition("/")
    try:
        parent = open_directory(above)
    except SyscallError as error:
        if error.errno == ENOENT:
            return True
        raise
    try:
        return rmdir(parent, name)
    finally:
        posix.close(parent)


def _remove_tree(directory: str) -> bool:
    try:
        top = open_directory(directory)
    except SyscallError as error:
        if error.errno == ENOENT:
            return True
        raise
    try:
        for parent, name in walk(top):
            rmdir(parent, name)  # what is busy keeps its parents, and is tried again with them
    finally:
        posix.close(top)
    return _rmdir_path(directory)


def _fields(text: str) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in text.split("\n") if " " in line)
