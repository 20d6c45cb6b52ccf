"""The one door to system calls: typed, range-checked, raising `SyscallError` with the call's name.

Built on ``_ctypes`` itself: the ``ctypes`` package around it costs 2.5 ms at import and gives nothing needed here.
Every call goes through ``syscall(2)`` of the C library already loaded, so no library is ever searched for.
"""

from __future__ import annotations

from _ctypes import FUNCFLAG_CDECL, FUNCFLAG_USE_ERRNO, CFuncPtr, _SimpleCData, addressof, dlopen, get_errno

from gosudacon.base import posix
from gosudacon.base.errors import SyscallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Calls added since 5.1 have one number on every architecture.
_COMMON = {
    "pidfd_send_signal": 424,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_open": 434,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
    "fchmodat2": 452,
    "statmount": 457,
    "listmount": 458,
}
_BY_MACHINE = {
    "x86_64": {
        "rt_sigaction": 13,
        "close": 3,
        "mmap": 9,
        "munmap": 11,
        "brk": 12,
        "madvise": 28,
        "sendmsg": 46,
        "clone": 56,
        "execve": 59,
        "setgroups": 116,
        "setresuid": 117,
        "setresgid": 119,
        "getcwd": 79,
        "capget": 125,
        "capset": 126,
        "personality": 135,
        "statfs": 137,
        "fstatfs": 138,
        "pivot_root": 155,
        "prctl": 157,
        "chroot": 161,
        "mount": 165,
        "umount2": 166,
        "sethostname": 170,
        "setdomainname": 171,
        "set_mempolicy": 238,
        "sched_setaffinity": 203,
        "keyctl": 250,
        "ioprio_set": 251,
        "ioprio_get": 252,
        "unshare": 272,
        "prlimit64": 302,
        "wait4": 61,
        "exit_group": 231,
        "setns": 308,
        "sched_setattr": 314,
        "sched_getattr": 315,
        "ptrace": 101,
        "statx": 332,
        "renameat2": 316,
        "seccomp": 317,
        "bpf": 321,
        "execveat": 322,
        "socketpair": 53,
        "signalfd4": 289,
        "inotify_add_watch": 254,
        "inotify_init1": 294,
    },
    "aarch64": {
        "rt_sigaction": 134,
        "close": 57,
        "sendmsg": 211,
        "brk": 214,
        "munmap": 215,
        "clone": 220,
        "mmap": 222,
        "madvise": 233,
        "execve": 221,
        "setgroups": 159,
        "setresuid": 147,
        "setresgid": 149,
        "getcwd": 17,
        "capget": 90,
        "capset": 91,
        "personality": 92,
        "statfs": 43,
        "fstatfs": 44,
        "pivot_root": 41,
        "prctl": 167,
        "chroot": 51,
        "mount": 40,
        "umount2": 39,
        "sethostname": 161,
        "setdomainname": 162,
        "set_mempolicy": 237,
        "sched_setaffinity": 122,
        "keyctl": 219,
        "ioprio_set": 30,
        "ioprio_get": 31,
        "unshare": 97,
        "prlimit64": 261,
        "wait4": 260,
        "exit_group": 94,
        "setns": 268,
        "sched_setattr": 274,
        "sched_getattr": 275,
        "ptrace": 117,
        "statx": 291,
        "renameat2": 276,
        "seccomp": 277,
        "bpf": 280,
        "execveat": 281,
        "socketpair": 199,
        "signalfd4": 74,
        "inotify_add_watch": 27,
        "inotify_init1": 26,
    },
}
MACHINE = posix.uname().machine
NUMBERS = {**_COMMON, **_BY_MACHINE.get(MACHINE, {})}


class c_long(_SimpleCData):  # type: ignore[type-arg]
    _type_ = "l"


class c_char_p(_SimpleCData):  # type: ignore[type-arg]
    _type_ = "z"


class c_char(_SimpleCData):  # type: ignore[type-arg]
    _type_ = "c"


class c_void_p(_SimpleCData):  # type: ignore[type-arg]
    _type_ = "P"


def _ranged(kind: str, low: int, high: int) -> type:
    """An argument type for C integers: `ctypes` would wrap what does not fit, this raises `OverflowError`."""

    def from_param(value: int) -> c_long:
        if type(value) is not int:
            raise TypeError(f"{kind} expected, not {type(value).__name__}")
        if not low <= value <= high:
            raise OverflowError(f"{value} does not fit {kind}")
        return c_long(value if value < 1 << 63 else value - (1 << 64))

    return type(kind, (), {"from_param": staticmethod(from_param)})


INT = _ranged("int", -(1 << 31), (1 << 31) - 1)
UINT = _ranged("unsigned int", 0, (1 << 32) - 1)
LONG = _ranged("long", -(1 << 63), (1 << 63) - 1)
ULONG = _ranged("unsigned long", 0, (1 << 64) - 1)
SIZE = ULONG


class PATH:
    """A C string: bytes or str (file system encoding); None is NULL; a NUL byte inside raises `ValueError`."""

    @staticmethod
    def from_param(value: bytes | str | None) -> c_char_p:
        if isinstance(value, str):
            value = posix.fsencode(value)
        if value is not None and b"\0" in value:
            raise ValueError("embedded NUL byte in a string for the kernel")
        return c_char_p(value)


class BUFFER:
    """Memory the kernel reads (bytes) or also writes (bytearray); None is NULL."""

    @staticmethod
    def from_param(value: bytes | bytearray | None) -> object:
        if isinstance(value, bytearray):
            return (c_char * len(value)).from_buffer(value)
        return c_char_p(value)  # a pointer into the bytes object: NUL bytes inside are fine


class _Libc:
    # What CFuncPtr wants to see: an object with the handle dlopen(3) gave; None is the program itself.
    _handle = dlopen(None, posix.RTLD_NOW)  # type: ignore[arg-type]


class _Syscall(CFuncPtr):
    _flags_ = FUNCFLAG_CDECL | FUNCFLAG_USE_ERRNO
    _restype_ = c_long


def syscall(name: str, *types: type) -> Callable[..., int]:
    """A function for the system call ``name`` whose arguments are of ``types``.

    The keyword ``about`` names the object concerned in the error (a path, or what a descriptor refers to).
    Raises `SyscallError`; a call this architecture's table does not know raises it with ENOSYS.
    """
    number = c_long(NUMBERS.get(name, -1))
    entry = _Syscall(("syscall", _Libc))  # type: ignore[arg-type]
    entry.argtypes = (c_long, *types)

    def call(*args: object, about: str | bytes = "") -> int:
        result: int = entry(number, *args)
        if result == -1:
            raise SyscallError(get_errno(), name, posix.fsdecode(about))
        return result

    return call


def bare() -> Callable[..., int]:
    """syscall(2) itself, which runs no line of Python: for calls that must follow each other with nothing in between.

    All arguments, the call's number among them, are `c_long`. Returns -1 for a failure; `last_error` says which.
    """
    entry: Callable[..., int] = _Syscall(("syscall", _Libc))  # type: ignore[arg-type]
    return entry


def last_error() -> int:
    """errno of the last call made through `bare`."""
    return get_errno()


def address(buffer: bytearray) -> int:
    """The address of a bytearray's memory, for structures that hold pointers; the bytearray must stay as it is."""
    return addressof((c_char * len(buffer)).from_buffer(buffer))


def pointers(strings: list[bytes]) -> bytearray:
    """A NULL-terminated array of pointers to C strings, as execve(2) wants; keep ``strings`` alive as long as it."""
    array = bytearray()
    for string in strings:
        if b"\0" in string:
            raise ValueError("embedded NUL byte in a string for the kernel")
        array += _pointer(string).to_bytes(8, "little")
    return array + bytes(8)


def _pointer(string: bytes) -> int:
    holder = c_char_p(string)
    return int.from_bytes(bytes((c_char * 8).from_address(addressof(holder))), "little")
