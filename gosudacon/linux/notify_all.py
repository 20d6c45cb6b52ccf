"""A filter that asks a supervisor about every system call (seccomp_unotify(2)), for the process that is recorded.

From the moment the filter is in force until the supervisor has its descriptor, any call would wait for ever. So
what hands it over is prepared in advance, and the three calls follow each other without a line of Python between them.
The filter lets two of them pass, told apart from the program's own by arguments that no program has: sendmsg(2) by the
address of its message, close(2) by a random number in the half of the argument that the kernel does not look at.
"""

from __future__ import annotations

import sys

from gosudacon.base import posix
from gosudacon.base.errors import SyscallError
from gosudacon.linux import abi, seccomp
from gosudacon.linux.seccomp import load as load_filter

__all__ = ["EXECVE", "NATIVE", "flag_bits", "load_filter", "notify_all", "program"]

EXECVE = abi.NUMBERS.get("execve", -1)
#: AUDIT_ARCH_* of this machine's own system calls (linux/audit.h).
NATIVE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}.get(abi.MACHINE, 0)

# Opcodes of classic BPF (linux/bpf_common.h, linux/filter.h), offsets in struct seccomp_data, actions.
_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER, _ARGUMENTS = 0, 16
_ALLOW, _ASK = 0x7FFF0000, 0x7FC00000

_LOW = (1 << 32) - 1
_MSG_NOSIGNAL = 0x4000
_SCM_RIGHTS, _SOL_SOCKET = 1, 1
_WARM = 16  # calls that bring the interpreter's free lists to where they stay


def notify_all(connection: int, flags: int) -> None:
    """Put this process under a filter that asks about every call, and send its listener over ``connection``.

    ``connection`` is a socket that preserves messages; first the other side hears the number that the listener will
    have, and answers with one byte that it is there. ``flags`` are FLAG_* of `seccomp`. Only execve(2) may follow.
    Raises OSError while there is no filter yet. If the other side goes away later, all calls fail with ENOSYS.
    """
    listener = posix.dup(connection)
    posix.close(listener)  # the lowest number that is free: the listener gets it
    flags = _accepted(flags)
    magic = int.from_bytes(posix.urandom(4), sys.byteorder) | 1
    message = _Message(connection, listener)
    closing = listener | magic << 32
    code = bytearray(program(connection, message.address, closing))
    fprog = bytearray(16)  # struct sock_fprog: unsigned short len; struct sock_filter *filter
    fprog[0:2] = (len(code) // seccomp.INSTRUCTION).to_bytes(2, sys.byteorder)
    fprog[8:16] = abi.address(code).to_bytes(8, sys.byteorder)
    call = abi.bare()
    load = _words(abi.NUMBERS["seccomp"], seccomp.SET_MODE_FILTER, flags, abi.address(fprog))
    send = _words(abi.NUMBERS["sendmsg"], connection, message.address, _MSG_NOSIGNAL)
    close = _words(abi.NUMBERS["close"], closing, 0, 0)
    warm = _words(abi.NUMBERS["close"], _LOW, 0, 0)  # of no descriptor: EBADF
    _meet(connection, listener)
    for _ in range(_WARM):
        call(*warm)
    number = call(*load)
    if number < 0:
        raise SyscallError(abi.last_error(), "seccomp", "SECCOMP_SET_MODE_FILTER")
    sent = call(*send)
    call(*close)
    if sent < 0:
        posix._exit(1)


def flag_bits(names: list[str]) -> int:
    """The flags of seccomp(2) as a number, for names such as ``SECCOMP_FILTER_FLAG_LOG``.

    TSYNC, which excludes a listener, is left out. Raises AttributeError for an unknown name.
    """
    bits = 0
    for name in names:
        bits |= getattr(seccomp, name.removeprefix("SECCOMP_FILTER_"))
    return bits & ~seccomp.FLAG_TSYNC


def program(connection: int, message: int, closing: int) -> bytes:
    """The filter: everything is asked about but sendmsg(connection, message, …) and close(closing)."""
    send = [(_NUMBER, abi.NUMBERS["sendmsg"]), *_argument(0, connection), *_argument(1, message)]
    close = [(_NUMBER, abi.NUMBERS["close"]), *_argument(0, closing)]
    return _allow_if(send) + _allow_if(close) + _encode(_RETURN, 0, 0, _ASK)


def _argument(index: int, value: int) -> list[tuple[int, int]]:
    """What must be where for an argument to have this value: offset, word."""
    at = _ARGUMENTS + 8 * index
    halves = [value & _LOW, value >> 32]
    if sys.byteorder == "big":
        halves.reverse()
    return [(at, halves[0]), (at + 4, halves[1])]


def _allow_if(conditions: list[tuple[int, int]]) -> bytes:
    code, left = b"", 2 * len(conditions) + 1
    for offset, word in conditions:
        left -= 2
        code += _encode(_LOAD, 0, 0, offset) + _encode(_IF_EQUAL, 0, left, word)
    return code + _encode(_RETURN, 0, 0, _ALLOW)


def _encode(code: int, if_true: int, if_false: int, operand: int) -> bytes:
    return code.to_bytes(2, sys.byteorder) + bytes((if_true, if_false)) + operand.to_bytes(4, sys.byteorder)


def _accepted(flags: int) -> int:
    """With what makes a notified call wait for its answer whatever signals come (Linux 5.19), as the kernel knows it.

    Without it a signal restarts the call, and a program whose threads signal each other, as Go's do, gets nowhere.
    FLAG_LOG is left out: the kernel's log would have a line for every call.
    """
    flags &= seccomp.FLAG_SPEC_ALLOW
    flags |= seccomp.FLAG_NEW_LISTENER | seccomp.FLAG_WAIT_KILLABLE_RECV
    for flag in (seccomp.FLAG_WAIT_KILLABLE_RECV, seccomp.FLAG_SPEC_ALLOW):
        if seccomp.knows_flags(flags):
            break
        flags &= ~flag
    return flags


def _meet(connection: int, listener: int) -> None:
    posix.write(connection, b"%d" % listener)
    if not posix.read(connection, 1):
        raise OSError(32, "the recorder of system calls is gone")  # EPIPE


def _words(*values: int) -> tuple[abi.c_long, ...]:
    return tuple(abi.c_long(value if value < 1 << 63 else value - (1 << 64)) for value in values)


class _Message:
    """struct msghdr with one byte and one descriptor (sendmsg(2), cmsg(3), unix(7)), as it lies in memory.

    It must be kept until the message is sent.
    """

    def __init__(self, connection: int, descriptor: int) -> None:
        self.byte = bytearray(b"L")
        self.vector = bytearray(_word(abi.address(self.byte)) + _word(1))
        control = _word(20) + _half(_SOL_SOCKET) + _half(_SCM_RIGHTS) + _half(descriptor) + bytes(4)
        self.control = bytearray(control)
        header = _word(0) + _half(0) + _half(0) + _word(abi.address(self.vector)) + _word(1)
        header += _word(abi.address(self.control)) + _word(len(control)) + _half(0) + _half(0)
        self.header = bytearray(header)
        self.address = abi.address(self.header)


def _word(value: int) -> bytes:
    return value.to_bytes(8, sys.byteorder)


def _half(value: int) -> bytes:
    return value.to_bytes(4, sys.byteorder)
