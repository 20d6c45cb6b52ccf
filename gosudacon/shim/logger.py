"""Loggers: programs that a client has named to read what a container writes, as ``binary://PROGRAM?KEY=VALUE``.

A logger has the standard output as descriptor 3, the standard error as 4, and says that it is ready by closing 5, or by
a byte on it (containerd's package runtime/v2/logging).
"""

from __future__ import annotations

import _signal

from gosudacon.base import posix
from gosudacon.base.errors import Error
from gosudacon.linux import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def start(name: str, id: str, namespace: str) -> tuple[int, int, int]:
    """Start the logger of container ``id`` and wait until it is ready.

    Returns its pid, and where its standard output and error are to be written. Raises `Error`, OSError.
    """
    words = _words(name)
    out, err, ready = (posix.pipe2(posix.O_CLOEXEC) for _ in range(3))
    pid = posix.fork()
    if pid == 0:
        _execute(words, (out[0], err[0], ready[1]), {"CONTAINER_ID": id, "CONTAINER_NAMESPACE": namespace})
    for fd in (out[0], err[0], ready[1]):
        posix.close(fd)
    try:
        posix.read(ready[0], 1)
    except BaseException:  # a signal: the caller will not learn of this logger
        posix.kill(pid, _signal.SIGKILL)
        raise
    posix.close(ready[0])
    ended, status = posix.waitpid(pid, posix.WNOHANG)
    if ended:
        raise Error(f"the logger {words[0]} has ended with status {process.exit_status(status)}")
    return pid, out[1], err[1]


def _execute(words: list[str], streams: tuple[int, int, int], environment: dict[str, str]) -> NoReturn:
    try:
        null = posix.open("/dev/null", posix.O_RDWR)
        process.restore_signals()
        process.place((null, null, null, *streams))
        process.close_from(6)
        posix.execve(words[0], words, environment)
    finally:
        posix._exit(127)


def _words(name: str) -> list[str]:
    """The program, and its arguments: each key with its first value."""
    from urllib.parse import parse_qsl, unquote, urlsplit

    address = urlsplit(name)
    arguments: dict[str, str] = {}
    for key, value in parse_qsl(address.query, keep_blank_values=True):
        arguments.setdefault(key, value)
    path = unquote(address.netloc + address.path)
    if not path.startswith("/"):
        raise Error(f"the logger in {name} has no absolute path")
    return [path, *(word for pair in arguments.items() for word in pair)]
