"""The machine: directories, disks, descriptors, memory, and names of signals."""

from __future__ import annotations

from errno import EACCES, EDQUOT, EMFILE, ENAMETOOLONG, ENFILE, ENOMEM, ENOSPC, EPERM, EROFS

from gosudacon.base import posix
from gosudacon.container.hints import spelling
from gosudacon.container.hints.kinds import Failure, Kind


def _state_directory(failure: Failure) -> str:
    if failure.errno not in (EACCES, EPERM, EROFS) or failure.stage or not failure.root:
        return ""
    root = failure.root
    if root not in failure.message and posix.path.dirname(root) + ":" not in failure.message:
        return ""
    if failure.errno == EROFS:
        return f"{root} is on a read-only filesystem: name another directory with --root"
    return f"user {posix.geteuid()} may not write to {root}: set XDG_RUNTIME_DIR, or --root to a directory of your own"


def _bundle(failure: Failure) -> str:
    if failure.spec is not None or not failure.message.startswith("chdir "):
        return ""
    return "--bundle names the directory in which config.json is, relative to the working directory"


def _disk(failure: Failure) -> str:
    if failure.errno not in (ENOSPC, EDQUOT) or failure.stage in ("cgroups", "namespaces", "rootfs-mount"):
        return ""
    return f"free blocks or inodes there: see `df` and `df -i` (the state of containers is in {failure.root or '/run'})"


def _descriptors(failure: Failure) -> str:
    if failure.errno not in (EMFILE, ENFILE):
        return ""
    return "raise the limit of open files: ulimit -n for the caller, sysctl fs.file-max for the host"


def _memory(failure: Failure) -> str:
    if failure.errno != ENOMEM:
        return ""
    return "the host, or the cgroup of the caller, has no memory left: see `free` and memory.max"


def _long(failure: Failure) -> str:
    if failure.errno != ENAMETOOLONG:
        return ""
    return "a socket's path may have 107 bytes, a name 255, a path 4095: choose a shorter one"


def _signal(failure: Failure) -> str:
    if not failure.message.startswith("unknown signal "):
        return ""
    import _signal

    word = failure.message.split('"')[1]
    names = [name for name in dir(_signal) if name.startswith("SIG") and not name.startswith("SIG_")]
    short = [name.removeprefix("SIG") for name in names]
    return spelling.did_you_mean(word, names if word.upper().startswith("SIG") else short) or "`kill -l` lists them"


KINDS = (
    Kind("state-directory", "a state directory that the caller may not write to", _state_directory),
    Kind("bundle-missing", "a bundle that is not there", _bundle),
    Kind("disk-full", "a disk without room", _disk),
    Kind("descriptors", "too many open files", _descriptors),
    Kind("memory", "no memory", _memory),
    Kind("name-too-long", "a path that is too long", _long),
    Kind("misspelt-signal", "a signal that does not exist", _signal),
)
