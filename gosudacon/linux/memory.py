"""A process's own memory: what others may read of it, such as environment and arguments, and what it has to spare.

Who may trace a process reads its memory, /proc/PID/environ and /proc/PID/cmdline; a fork has all that its parent had.
"""

from __future__ import annotations

import sys
from _ctypes import FUNCFLAG_CDECL, CFuncPtr, dlsym

from gosudacon.base import posix
from gosudacon.linux import abi

_BYTES_HEADER = sys.getsizeof(b"") - 1  # of a bytes object, in front of its contents and the final NUL
_AT_EXECFN = 31  # getauxval(3): the string behind the last environment entry
_LARGEST = 32 << 20  # bytes; the kernel allows arguments and environment a quarter of the stack
_shown = b""  # what is where the arguments were


class _Function(CFuncPtr):
    _flags_ = FUNCFLAG_CDECL
    _restype_ = abi.c_long


def _function(name: str, *types: type) -> _Function:
    function = _Function((name, abi._Libc))  # type: ignore[arg-type]
    function.argtypes = types
    return function


_getauxval = _function("getauxval", abi.ULONG)
_strlen = _function("strlen", abi.ULONG)
_memset = _function("memset", abi.ULONG, abi.INT, abi.SIZE)
_memcpy = _function("memcpy", abi.ULONG, abi.BUFFER, abi.SIZE)


def trim() -> None:
    """Join the pieces of the C library's heap that are free and give whole pages back (malloc_trim(3)).

    For a process of which others are forks: joining them writes to pages all over the heap.
    """
    try:
        _function("malloc_trim", abi.SIZE)(0)
    except AttributeError:  # it is glibc's alone
        return


def forget_caller(title: bytes) -> None:
    """Overwrite environment and arguments with NUL bytes, wherever they are; ``title`` is what ps(1) shows from now on.

    The environment is gone for this process, too. What else it has read, such as config.json, stays.
    """
    retitle(title)
    array = _pointer(dlsym(abi._Libc._handle, "environ"))
    while array and (address := _pointer(array)):  # what putenv(3) has put in their place
        _memset(address, 0, _strlen(address))
        array += 8
    for name, value in posix.environ.items():
        for text in (name, value):
            if len(text) > 1:  # the interpreter keeps one object for each single byte
                _memset(id(text) + _BYTES_HEADER, 0, len(text))
    posix.environ.clear()


def retitle(title: bytes) -> None:
    """Be ``title``, words that end with NUL bytes, for ps(1), and erase what execve(2) has put on the stack.

    That is arguments, environment and, behind them, the file's name; ``posix.environ`` stays. The title is cut where
    there is no more room than the arguments had.
    """
    global _shown
    arguments = b"\0".join(posix.fsencode(text) for text in sys.orig_argv) + b"\0"
    start = _pointer(dlsym(abi._Libc._handle, "program_invocation_name"))
    length = _getauxval(_AT_EXECFN) - start
    if not len(arguments) <= length < _LARGEST:
        return
    if bytes((abi.c_char * len(arguments)).from_address(start)) == (_shown or arguments):
        _memset(start, 0, length)
        shown = title[: len(arguments) - 1]
        _memcpy(start, shown, len(shown))
        _shown = shown.ljust(len(arguments), b"\0")


def _pointer(address: int) -> int:
    return int.from_bytes(bytes((abi.c_char * 8).from_address(address)), sys.byteorder)
