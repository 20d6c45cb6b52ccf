"""Seccomp filters: seccomp(2), and the descriptor on which a filter's notifications arrive (seccomp_unotify(2))."""

from __future__ import annotations

import sys
from errno import EFAULT, EINVAL

from gosudacon.base import posix
from gosudacon.base.errors import StepError, SyscallError
from gosudacon.linux import abi

SET_MODE_FILTER = 1

FLAG_TSYNC = 1
FLAG_LOG = 2
FLAG_SPEC_ALLOW = 4
FLAG_NEW_LISTENER = 8
FLAG_WAIT_KILLABLE_RECV = 32

#: The longest program the kernel takes (BPF_MAXINSNS of linux/bpf_common.h), in instructions of 8 bytes.
MAX_INSTRUCTIONS = 4096
INSTRUCTION = 8

# What a kernel that does not know it may leave out, newest first: 5.19, 4.17, 4.14, 3.17.
_DISPENSABLE = (FLAG_WAIT_KILLABLE_RECV, FLAG_SPEC_ALLOW, FLAG_LOG, FLAG_TSYNC)

# An interpreter elsewhere may have come with libraries of its own (tools/node_prefix.py): those fit its C library.
_OF_THE_SYSTEM = ("/usr", "/usr/local")

_seccomp = abi.syscall("seccomp", abi.UINT, abi.UINT, abi.BUFFER)


def load(program: bytes, flags: int = 0) -> int:
    """Put the calling process under a filter (seccomp(2), SECCOMP_SET_MODE_FILTER).

    ``program`` is an array of struct sock_filter in the machine's byte order; ``flags`` are FLAG_*. A flag that
    this kernel does not know is left out. Returns the close-on-exec notification descriptor if ``flags`` has
    FLAG_NEW_LISTENER, 0 otherwise. Makes no system call besides seccomp(2).
    Raises `SyscallError`: EACCES without no_new_privs and CAP_SYS_ADMIN, EINVAL for a bad program.
    """
    code = bytearray(program)
    fprog = bytearray(16)  # struct sock_fprog: unsigned short len; struct sock_filter *filter
    fprog[0:2] = (len(program) // INSTRUCTION).to_bytes(2, sys.byteorder)
    fprog[8:16] = abi.address(code).to_bytes(8, sys.byteorder)
    droppable = [flag for flag in _DISPENSABLE if flags & flag]
    while True:
        try:
            return _seccomp(SET_MODE_FILTER, flags, fprog, about="SECCOMP_SET_MODE_FILTER")
        except SyscallError as error:
            if error.errno != EINVAL or not droppable:
                raise
            flags &= ~droppable.pop(0)


def knows_flags(flags: int) -> bool:
    """Whether this kernel takes these FLAG_*: it looks at them before it looks for a program, here at address 0."""
    try:
        _seccomp(SET_MODE_FILTER, flags, None)
    except SyscallError as error:
        return error.errno == EFAULT
    raise AssertionError("seccomp without a program succeeded")


def take_descriptor(pid: int, number: int) -> int:
    """A duplicate of another process's descriptor ``number`` (pidfd_open(2), pidfd_getfd(2), Linux 5.6).

    Raises OSError, EPERM among others when the caller may not ptrace(2) the process.
    """
    pidfd_getfd = abi.syscall("pidfd_getfd", abi.INT, abi.INT, abi.UINT)
    pidfd = posix.pidfd_open(pid)
    try:
        return pidfd_getfd(pidfd, number, 0, about=f"descriptor {number} of process {pid}")
    finally:
        posix.close(pidfd)


def library(chosen: str = "") -> str:
    """The absolute path of libseccomp: ``chosen``, or the first of the fixed places where it is.

    Never what `ctypes.util.find_library` finds, which runs programs from PATH. Raises `StepError`.
    """
    machine = posix.uname().machine
    triplet = {"armv7l": "arm-linux-gnueabihf"}.get(machine, f"{machine}-linux-gnu")
    directories = (
        *([] if sys.base_prefix in _OF_THE_SYSTEM else [f"{sys.base_prefix}/lib"]),
        f"/usr/lib/{triplet}",
        "/usr/lib64",
        "/lib64",
        "/usr/lib",
        "/lib",
        f"/lib/{triplet}",
        "/usr/local/lib",
    )
    candidates = (chosen,) if chosen else [f"{directory}/libseccomp.so.2" for directory in directories]
    for path in candidates:
        if path.startswith("/") and posix.access(path, posix.R_OK):
            return path
    raise StepError(
        f"libseccomp not found: {chosen}" if chosen else f"no libseccomp.so.2 in {', '.join(directories)}",
        hint="config.json has a seccomp profile; install libseccomp (libseccomp2 on Debian), 2.5 or later",
    )
