"""What a process may set on itself: prctl(2), descriptors, signals, groups and ids, hostname, keyring."""

from __future__ import annotations

import _signal
import fcntl
from errno import EINVAL, ENOSYS, EPERM

from gosudacon.base import posix
from gosudacon.base.errors import SyscallError
from gosudacon.linux import abi

_prctl = abi.syscall("prctl", abi.INT, abi.ULONG, abi.ULONG, abi.ULONG, abi.ULONG)
_close_range = abi.syscall("close_range", abi.UINT, abi.UINT, abi.UINT)
_getcwd = abi.syscall("getcwd", abi.BUFFER, abi.SIZE)
_sethostname = abi.syscall("sethostname", abi.PATH, abi.SIZE)
_setdomainname = abi.syscall("setdomainname", abi.PATH, abi.SIZE)
_signalfd4 = abi.syscall("signalfd4", abi.INT, abi.BUFFER, abi.SIZE, abi.INT)
_rt_sigaction = abi.syscall("rt_sigaction", abi.INT, abi.BUFFER, abi.BUFFER, abi.SIZE)
_socketpair = abi.syscall("socketpair", abi.INT, abi.INT, abi.INT, abi.BUFFER)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
CLOSE_RANGE_CLOEXEC = 4
_ALL = (1 << 32) - 1
_FIXED = (_signal.SIGKILL, _signal.SIGSTOP)
_F_DUPFD_CLOEXEC = 1030
_OF_GLIBC = (32, 33)  # kept from sigaction(3); posix_spawn(3) leaves them ignored in what it starts
_SIGACTION_DEFAULT = bytes(32)  # struct kernel_sigaction


def prctl(option: int, value: int = 0, third: int = 0, about: str = "") -> int:
    """prctl(2) with up to two values; returns what it returns."""
    return _prctl(option, value, third, 0, 0, about=about)


def set_dumpable(dumpable: bool) -> None:
    """PR_SET_DUMPABLE: while off, /proc/PID/{exe,fd,root,mem} is closed to the container (prctl(2))."""
    prctl(PR_SET_DUMPABLE, int(dumpable), about="PR_SET_DUMPABLE")


def set_pdeathsig(signal: int) -> None:
    """PR_SET_PDEATHSIG: the signal this process gets when its parent dies; 0 clears it (prctl(2))."""
    prctl(PR_SET_PDEATHSIG, signal, about="PR_SET_PDEATHSIG")


def set_no_new_privs() -> None:
    """PR_SET_NO_NEW_PRIVS (prctl(2))."""
    prctl(PR_SET_NO_NEW_PRIVS, 1, about="PR_SET_NO_NEW_PRIVS")


def set_child_subreaper() -> None:
    """PR_SET_CHILD_SUBREAPER: orphans below this process become its children (prctl(2))."""
    prctl(PR_SET_CHILD_SUBREAPER, 1, about="PR_SET_CHILD_SUBREAPER")


def cloexec_from(first: int) -> None:
    """Mark every descriptor >= ``first`` close-on-exec (close_range(2) with CLOSE_RANGE_CLOEXEC, Linux 5.11)."""
    try:
        _close_range(first, _ALL, CLOSE_RANGE_CLOEXEC)
    except SyscallError as error:
        if error.errno not in (ENOSYS, EINVAL, EPERM):
            raise
        for name in posix.listdir("/proc/self/fd"):
            if int(name) >= first:
                try:
                    posix.set_inheritable(int(name), False)
                except OSError:
                    continue  # the descriptor of listdir itself


def close_from(first: int, *spare: int) -> None:
    """Close every descriptor >= ``first`` but ``spare`` (close_range(2)), by close(2) where a filter forbids it."""
    low = first
    for kept in sorted(fd for fd in spare if fd >= first):
        _close_between(low, kept - 1)
        low = kept + 1
    _close_between(low, _ALL)


def _close_between(low: int, high: int) -> None:
    if low > high:
        return
    try:
        _close_range(low, high, 0)
    except SyscallError:
        posix.closerange(low, min(high + 1, 4096))  # what is above is close-on-exec since the start


def descriptors() -> list[int]:
    """The descriptors that this process has open (/proc/self/fd)."""
    return [fd for fd in map(int, posix.listdir("/proc/self/fd")) if _is_open(fd)]  # listdir had one itself


def fill_below(count: int) -> list[int]:
    """Open /dev/null, close-on-exec, as every number below ``count`` that is free; returns these numbers."""
    return [posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC) for fd in range(count) if not _is_open(fd)]


def place(descriptors: Sequence[int]) -> None:
    """Have the descriptors, in this order, as 0, 1, 2, …, inherited across execve(2); what had these numbers is closed.

    Those that have their number already are left as they are.
    """
    count = len(descriptors)
    copies = [(fcntl.fcntl(fd, _F_DUPFD_CLOEXEC, count), at) for at, fd in enumerate(descriptors) if fd != at]
    for copy, number in copies:
        posix.dup2(copy, number)
        posix.close(copy)


def _is_open(fd: int) -> bool:
    try:
        posix.fstat(fd)
    except OSError:
        return False
    return True


def restore_signals() -> None:
    """Default dispositions and an empty mask: Python ignores SIGPIPE and SIGXFSZ, callers may ignore or block more.

    Python knows what it found when it started and what it has changed since; only that is put right. A handler that C
    code has installed on its own stays until execve(2).
    """
    for number in range(1, 65):
        if number in _OF_GLIBC:
            _rt_sigaction(number, _SIGACTION_DEFAULT, None, 8)
        elif number not in _FIXED and _signal.getsignal(number) != _signal.SIG_DFL:
            _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def end_on(signals: Iterable[int]) -> None:
    """Exit when one of these signals comes, with the status that a shell gives a process that it ended."""
    for number in signals:
        _signal.signal(number, lambda caught, _frame: posix._exit(128 + caught))


def raw_getcwd() -> bytes:
    """getcwd(2) as the kernel says it: does not start with ``/`` when the directory is outside the root."""
    buffer = bytearray(4096)
    length = _getcwd(buffer, len(buffer))
    return bytes(buffer[: length - 1])


def sethostname(name: str) -> None:
    """sethostname(2)."""
    data = name.encode()
    _sethostname(data, len(data), about=name)


def setdomainname(name: str) -> None:
    """setdomainname(2)."""
    data = name.encode()
    _setdomainname(data, len(data), about=name)


def socketpair() -> tuple[int, int]:
    """Two connected, close-on-exec AF_UNIX descriptors that keep message boundaries (socketpair(2))."""
    pair = bytearray(8)
    _socketpair(1, 5 | 0o2000000, 0, pair)  # AF_UNIX, SOCK_SEQPACKET|SOCK_CLOEXEC
    return int.from_bytes(pair[:4], "little"), int.from_bytes(pair[4:], "little")


def exit_status(status: int) -> int:
    """What wait(2) reports as a shell has it: the exit status, or 128 + N for signal N."""
    code = posix.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def signalfd(signals: Iterable[int]) -> int:
    """A close-on-exec descriptor on which blocked signals are read, see `read_signal` (signalfd(2))."""
    mask = 0
    for number in signals:
        mask |= 1 << number - 1
    return _signalfd4(-1, mask.to_bytes(8, "little"), 8, 0o2000000)


def read_signal(fd: int) -> int:
    """The number of the next signal behind a descriptor of `signalfd`."""
    return int.from_bytes(posix.read(fd, 128)[:4], "little")
