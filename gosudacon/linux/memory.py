"""What a process remembers of its caller in memory that others may read: environment and arguments (proc(5)).

Who may trace a process reads its memory, /proc/PID/environ and /proc/PID/cmdline; a fork has all that its parent had.
"""

from __future__ import annotations

import sys
from _ctypes import FUNCFLAG_CDECL, CFuncPtr, dlsym

from gosudacon.linux import abi
from gosudacon.linux import system as os

_BYTES_HEADER = sys.getsizeof(b"") - 1  # of a bytes object, in front of its contents and the final NUL


class _Function(CFuncPtr):
    _flags_ = FUNCFLAG_CDECL
    _restype_ = None


class _Strlen(CFuncPtr):
    _flags_ = FUNCFLAG_CDECL
    _restype_ = abi.c_long


_strlen = _Strlen(("strlen", abi._Libc))  # type: ignore[arg-type]
_strlen.argtypes = (abi.ULONG,)
_memset = _Function(("memset", abi._Libc))  # type: ignore[arg-type]
_memset.argtypes = (abi.ULONG, abi.INT, abi.SIZE)
_memcpy = _Function(("memcpy", abi._Libc))  # type: ignore[arg-type]
_memcpy.argtypes = (abi.ULONG, abi.BUFFER, abi.SIZE)  # type: ignore[assignment]


def forget_caller(title: bytes) -> None:
    """Overwrite environment and arguments with NUL bytes, wherever they are; ``title`` is what ps(1) shows from now on.

    The environment is gone for this process, too. What else it has read, such as config.json, stays.
    """
    array = _pointer(dlsym(abi._Libc._handle, "environ"))
    first = _pointer(array) if array else 0
    if first:
        _retitle(first, title)
    while array and (address := _pointer(array)):
        _memset(address, 0, _strlen(address))
        array += 8
    for name, value in os.environ.items():
        for text in (name, value):
            if len(text) > 1:  # the interpreter keeps one object for each single byte
                _memset(id(text) + _BYTES_HEADER, 0, len(text))
    os.environ.clear()


def _retitle(environment: int, title: bytes) -> None:
    """Replace the arguments, which the kernel puts in front of the first environment entry."""
    arguments = b"\0".join(os.fsencode(text) for text in sys.orig_argv) + b"\0"
    start = environment - len(arguments)
    if bytes((abi.c_char * len(arguments)).from_address(start)) == arguments:
        _memcpy(start, title[: len(arguments) - 1].ljust(len(arguments), b"\0"), len(arguments))


def _pointer(address: int) -> int:
    return int.from_bytes(bytes((abi.c_char * 8).from_address(address)), sys.byteorder)
