"""Namespaces: clone3(2), unshare(2), setns(2) and the kinds that namespaces(7) lists."""

from __future__ import annotations

from _ctypes import FUNCFLAG_CDECL, FUNCFLAG_PYTHONAPI, CFuncPtr
from _signal import SIGCHLD
from errno import ENOSYS

from gosudacon.base import posix
from gosudacon.base.errors import SyscallError
from gosudacon.linux import abi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

CLONE_NEWTIME = 0x00000080
CLONE_PARENT = 0x00008000
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_INTO_CGROUP = 1 << 33

#: config.json's name of a namespace -> (flag, name of the flag, name in /proc/PID/ns)
KINDS = {
    "user": (CLONE_NEWUSER, "CLONE_NEWUSER", "user"),
    "pid": (CLONE_NEWPID, "CLONE_NEWPID", "pid"),
    "network": (CLONE_NEWNET, "CLONE_NEWNET", "net"),
    "ipc": (CLONE_NEWIPC, "CLONE_NEWIPC", "ipc"),
    "uts": (CLONE_NEWUTS, "CLONE_NEWUTS", "uts"),
    "time": (CLONE_NEWTIME, "CLONE_NEWTIME", "time"),
    "cgroup": (CLONE_NEWCGROUP, "CLONE_NEWCGROUP", "cgroup"),
    "mount": (CLONE_NEWNS, "CLONE_NEWNS", "mnt"),
}

_NS_GET_NSTYPE = 0xB703

_unshare = abi.syscall("unshare", abi.INT)
_setns = abi.syscall("setns", abi.INT, abi.INT)
_clone3 = abi.syscall("clone3", abi.BUFFER, abi.SIZE)


class _PythonCall(CFuncPtr):
    _flags_ = FUNCFLAG_CDECL | FUNCFLAG_PYTHONAPI  # keeps the GIL: the child must find it held
    _restype_ = None


class _ForkingSyscall(CFuncPtr):
    _flags_ = FUNCFLAG_CDECL | FUNCFLAG_PYTHONAPI
    _restype_ = abi.c_long


class _ErrnoLocation(CFuncPtr):
    _flags_ = FUNCFLAG_CDECL | FUNCFLAG_PYTHONAPI
    _restype_ = abi.c_void_p


def _forking(name: str, *types: type) -> Callable[..., tuple[int, int]]:
    """A function for this system call, which returns a pid, and errno if that is -1."""
    entry = _ForkingSyscall(("syscall", abi._Libc))  # type: ignore[arg-type]
    entry.argtypes = (abi.c_long, *types)
    number = abi.NUMBERS.get(name, -1)  # ENOSYS

    def call(*arguments: object) -> tuple[int, int]:
        pid: int = entry(number, *arguments)
        return pid, (_c_errno() if pid < 0 else 0)

    return call


def _c_errno() -> int:
    # FUNCFLAG_USE_ERRNO swaps errno per thread, which must not happen between the two sides of a fork.
    return int.from_bytes(bytes((abi.c_char * 4).from_address(_errno_location())), "little")


# Made once: what ctypes makes for a function refers to itself, and only the garbage collector would free it.
_errno_location = _ErrnoLocation(("__errno_location", abi._Libc))  # type: ignore[arg-type]
_fork_by_clone3 = _forking("clone3", abi.BUFFER, abi.SIZE)
_fork_by_clone = _forking("clone", *(abi.ULONG,) * 5)
_before_fork = _PythonCall(("PyOS_BeforeFork", abi._Libc))  # type: ignore[arg-type]
_after_fork = _PythonCall(("PyOS_AfterFork_Parent", abi._Libc))  # type: ignore[arg-type]
_after_fork_in_child = _PythonCall(("PyOS_AfterFork_Child", abi._Libc))  # type: ignore[arg-type]


def flag_names(flags: int) -> str:
    """``CLONE_NEWPID|CLONE_NEWNS`` for a set of namespace flags, with or without `CLONE_INTO_CGROUP`."""
    names = [name for flag, name, _ in KINDS.values() if flags & flag]
    if flags & CLONE_INTO_CGROUP:
        names.append("CLONE_INTO_CGROUP")
    return "|".join(names) or "0"


def unshare(flags: int) -> None:
    """Leave namespaces for new ones; ``flags`` are CLONE_NEW* (unshare(2)). Raises `SyscallError`."""
    _unshare(flags, about=flag_names(flags))


def setns(fd: int, flag: int, about: str = "") -> None:
    """Join the namespace behind ``fd``, which must be of the kind ``flag``, CLONE_NEW* or 0 (setns(2)).

    ``about``: words for the error, a `SyscallError`.
    """
    _setns(fd, flag, about=about)


def kind_of(fd: int) -> int:
    """The CLONE_NEW* flag of the namespace behind ``fd`` (ioctl_ns(2)); raises OSError if it is none."""
    import fcntl

    return fcntl.ioctl(fd, _NS_GET_NSTYPE)


def clone(flags: int, cgroup: int = -1) -> int:
    """Fork into new namespaces and, with ``cgroup`` >= 0, into the cgroup v2 behind that descriptor (clone3(2)).

    Returns the child's pid, and 0 in the child, which is a full copy of this single-threaded interpreter.
    """
    if cgroup >= 0:
        flags |= CLONE_INTO_CGROUP
    arguments = bytearray(88)
    signal = 0 if flags & CLONE_PARENT else SIGCHLD
    fields = ((0, flags), (32, signal), (80, max(cgroup, 0)))
    for offset, value in fields:
        arguments[offset : offset + 8] = value.to_bytes(8, "little")
    _before_fork()
    pid, error = _fork_by_clone3(arguments, 88)
    if error == ENOSYS and cgroup < 0:  # a seccomp filter around us may hide clone3(2)
        pid, error = _fork_by_clone(flags | signal, 0, 0, 0, 0)
    (_after_fork_in_child if pid == 0 else _after_fork)()
    if pid < 0:
        raise SyscallError(error, "clone3", flag_names(flags))
    return pid


def has_clone3() -> bool:
    """Whether clone3(2) can be called at all: a seccomp filter around us may answer ENOSYS."""
    try:
        _clone3(None, 0)
    except SyscallError as error:
        return error.errno != ENOSYS
    raise AssertionError("clone3 without arguments succeeded")


def clone_sibling() -> int:
    """Fork a child of this process's own parent (clone(2) with CLONE_PARENT); returns its pid, and 0 in the child.

    One system call and nothing else, since a seccomp filter may be in force. Python's own work after a fork is for
    programs with threads.
    """
    return _clone_bare(CLONE_PARENT)


def clone_child() -> int:
    """Fork a child by one system call, as `clone_sibling`."""
    return _clone_bare(SIGCHLD)


def _clone_bare(flags: int) -> int:
    pid, error = _fork_by_clone(flags, 0, 0, 0, 0)
    if pid < 0:
        raise SyscallError(error, "clone")
    return pid


def namespace_path(kind: str, pid: int | str = "self") -> str:
    """``/proc/PID/ns/net`` for ``network``."""
    return f"/proc/{pid}/ns/{KINDS[kind][2]}"


def same(fd: int, other: int) -> bool:
    """Whether two descriptors are of one namespace (same device and inode, namespaces(7))."""
    a, b = posix.fstat(fd), posix.fstat(other)
    return (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)


def differing(pid: int) -> list[str]:
    """The kinds of namespaces in which a process differs from this one; those the kernel does not have differ not."""
    kinds = []
    for kind in KINDS:
        try:
            if posix.readlink(namespace_path(kind, pid)) != posix.readlink(namespace_path(kind)):
                kinds.append(kind)
        except FileNotFoundError:
            continue
    return kinds
