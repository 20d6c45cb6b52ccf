"""Pipes, FIFOs and other descriptors instead of a file (fifo(7)): rare, and imported when there is one."""

from __future__ import annotations

import fcntl
import time
from _stat import S_ISFIFO
from errno import ENXIO

from gosudacon.base import posix
from gosudacon.base.errors import Error

_PATIENCE = 3.0  # seconds for the other end of a FIFO to be opened
_TICK = 0.02
_CHUNK = 1 << 20


def drain(fd: int, path: str, most: int) -> bytes:
    """All that comes, to the end or to ``most`` bytes; ``fd`` is in non-blocking mode.

    Raises `Error` if no process opens a FIFO to write within some seconds. A writer is waited for.
    """
    data = b""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            chunk = posix.read(fd, min(_CHUNK, most))
        except BlockingIOError:
            posix.set_blocking(fd, True)  # there is a writer
            continue
        data += chunk
        if len(data) >= most or (not chunk and data):
            return data
        if not chunk:
            if not S_ISFIFO(posix.fstat(fd).st_mode):
                return data
            if time.monotonic() > deadline:
                raise Error(f"read {path}: nothing was written to it within {_PATIENCE:.0f} seconds", call="read")
            time.sleep(_TICK)


def open_to_write(path: str, flags: int, mode: int = 0o644) -> int:
    """Open what is not a regular file, or is named as a descriptor; in non-blocking mode and close-on-exec.

    Raises OSError, and `Error` if no process opens a FIFO to read within some seconds.
    """
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return posix.open(path, flags | posix.O_WRONLY | posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC, mode)
        except OSError as error:
            if error.errno != ENXIO:
                raise
        if posix.descriptor(path) >= 0:
            return duplicate(path)  # a socket cannot be opened again
        if time.monotonic() > deadline:
            text = f"no such device or address: no process has opened it to read within {_PATIENCE:.0f} seconds"
            raise Error(f"open {path}: {text}", call="open", errno=ENXIO)
        time.sleep(_TICK)


def write(path: str, data: bytes) -> None:
    """Write to such a file. Raises as `open_to_write`."""
    fd = open_to_write(path, 0)
    try:
        posix.write(fd, data)
    finally:
        posix.close(fd)


def duplicate(path: str) -> int:
    """A duplicate of the descriptor that a path names, close-on-exec. Raises OSError if it is not open."""
    return fcntl.fcntl(posix.descriptor(path), fcntl.F_DUPFD_CLOEXEC, 3)
