"""Mount destinations: made and opened inside the root, refused where a mount would defeat the isolation."""

from __future__ import annotations

from errno import ELOOP, ENOENT, ENOTDIR

from gosudacon.api import ConfigError, Context, Error
from gosudacon.base import posix
from gosudacon.base.errors import SyscallError
from gosudacon.linux import mount, path

#: Places in /proc that others emulate (lxcfs) and that hold no control over the host.
ALLOWED_IN_PROC = frozenset(
    f"/proc/{name}"
    for name in (
        "cpuinfo",
        "diskstats",
        "meminfo",
        "stat",
        "swaps",
        "uptime",
        "loadavg",
        "slabinfo",
        "sys/kernel/ns_last_pid",
        "sys/crypto/fips_enabled",
    )
)
_PROC_ROOT_INODE = 1


def check_plan(destination: str, fstype: str, bind: bool, where: str) -> None:
    """Refuse what the configuration's words alone show to be forbidden. Raises `ConfigError`."""
    problem = _problem(destination, fstype)
    if problem and not (bind and destination == "/proc"):
        raise ConfigError(problem, where=f"{where}.destination")


def open_directory(context: Context, destination: str, fstype: str = "", source: int = -1) -> tuple[int, bool]:
    """The directory to mount on, made if it is missing, and whether it was there before.

    proc and sysfs go only onto a directory reached without any symlink: an image that redirects them would
    lead astray what is masked or written there later (CVE-2019-19921). ``source`` is what a bind mount brings.
    """
    ordinary = fstype in ("proc", "sysfs")
    try:
        fd = path.open_in_root(context.root, destination, posix.O_PATH | posix.O_DIRECTORY, path.RESOLVE_NO_SYMLINKS)
        existed, resolved = True, ".." in destination
    except OSError as error:
        if ordinary and error.errno in (ELOOP, ENOTDIR):
            raise _not_ordinary(fstype) from None
        if error.errno not in (ENOENT, ELOOP):
            raise
        fd, existed, resolved = _beside(context, destination) if error.errno == ENOENT else -1, False, False
        if fd < 0:
            fd, existed = _make(context, destination, ordinary, error.errno)
            resolved = True
    return _checked(context, fd, destination, resolved, fstype, source), existed


def open_file(context: Context, destination: str, source: int = -1) -> int:
    """The file to mount on; an empty one is made if there is nothing."""
    try:
        fd = path.open_in_root(context.root, destination, posix.O_PATH, path.RESOLVE_NO_SYMLINKS)
        resolved = ".." in destination
    except OSError as error:
        if error.errno not in (ENOENT, ELOOP):
            raise
        fd = path.file_in_root(context.root, destination)
        resolved = True
    return _checked(context, fd, destination, resolved, "", source)


def open_unfollowed(context: Context, destination: str, fstype: str = "", source: int = -1) -> int:
    """What is there to mount on, a link itself instead of what it leads to; nothing is made."""
    above, _, name = destination.rpartition("/")
    parent = path.open_in_root(context.root, above or "/", posix.O_PATH | posix.O_DIRECTORY)
    try:
        resolve = path.RESOLVE_BENEATH | path.RESOLVE_NO_MAGICLINKS
        fd = path.openat2(parent, name or ".", posix.O_PATH | posix.O_NOFOLLOW, resolve)
    finally:
        posix.close(parent)
    return _checked(context, fd, destination, True, fstype, source)


def check_place(context: Context, parent: int, name: str) -> None:
    """Raise `Error` unless something may be made as ``name`` in the directory ``parent``, which is inside the root."""
    problem = _problem(_inside(context, parent).rstrip("/") + "/" + name, "")
    if problem:
        raise Error(problem)


def open_existing(context: Context, destination: str) -> int:
    """What is mounted there, to be changed."""
    return path.open_in_root(context.root, destination)


def reopen(context: Context, destination: str, below: int) -> int:
    """The mount that mount(2) has put on the place behind ``below``: opened again, and still at that place."""
    fd = path.open_in_root(context.root, _inside(context, below), posix.O_PATH, path.RESOLVE_NO_SYMLINKS)
    if path.location(fd, context.proc) != path.location(below, context.proc):
        posix.close(fd)
        raise Error(f"{destination} was moved while it was being mounted")
    return fd


def _beside(context: Context, destination: str) -> int:
    """Make just the last component, where all others are there and no links: the common case. -1 if it is not so."""
    above, _, name = destination.rpartition("/")
    if ".." in destination:
        return -1
    try:
        parent = path.open_in_root(
            context.root, above or "/", posix.O_PATH | posix.O_DIRECTORY, path.RESOLVE_NO_SYMLINKS
        )
    except OSError:
        return -1
    umask = posix.umask(0)
    try:
        posix.mkdir(name, 0o755, dir_fd=parent)
        return posix.open(name, posix.O_PATH | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=parent)
    except FileExistsError:
        return -1
    except OSError as error:
        raise SyscallError(error.errno or 0, "mkdirat", destination) from None
    finally:
        posix.umask(umask)
        posix.close(parent)


def _make(context: Context, destination: str, ordinary: bool, number: int) -> tuple[int, bool]:
    if number == ELOOP:
        try:
            return path.open_in_root(context.root, destination, posix.O_PATH | posix.O_DIRECTORY), True
        except OSError as error:
            if error.errno != ENOENT:
                raise
    resolve = path.RESOLVE_NO_SYMLINKS if ordinary else 0
    return path.mkdir_in_root(context.root, destination, resolve=resolve), False


def _checked(context: Context, fd: int, destination: str, resolved: bool, fstype: str, source: int) -> int:
    try:
        where = _inside(context, fd) if resolved else destination
        problem = _problem(where, fstype)
        if where == "/" != destination:
            problem = f"{destination} leads to the root filesystem itself"
        if problem and where == "/proc" and source >= 0:
            problem = "" if _is_proc_root(source) else problem
        if problem:
            raise Error(problem)
    except BaseException:
        posix.close(fd)
        raise
    return fd


def _inside(context: Context, fd: int) -> str:
    root, place = path.location(context.root, context.proc), path.location(fd, context.proc)
    if place != root and not place.startswith(root.rstrip("/") + "/"):
        raise Error(f"{place} is outside of the root filesystem")
    return "/" + place[len(root) :].strip("/")


def _problem(destination: str, fstype: str) -> str:
    if destination == "/" and fstype in ("proc", "sysfs", "cgroup"):
        return f"a {fstype} cannot be the root filesystem"
    if destination == "/proc" and fstype != "proc":
        return '"/proc" cannot be mounted because it is not of type proc'
    if destination.startswith("/proc/") and destination not in ALLOWED_IN_PROC:
        return f'"{destination}" cannot be mounted because it is inside /proc'
    return ""


def _is_proc_root(fd: int) -> bool:
    return mount.filesystem_type(fd) == mount.PROC_SUPER_MAGIC and posix.fstat(fd).st_ino == _PROC_ROOT_INODE


def _not_ordinary(fstype: str) -> Error:
    return Error(
        f'filesystem "{fstype}" must be mounted on ordinary directory',
        hint="the image has a symbolic link or a file where the directory should be",
    )
