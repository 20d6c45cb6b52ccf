"""The program ``containerd-shim-gosudacon-v1``: what containerd executes to get a shim, to clean up, and to ask."""

from __future__ import annotations

import _socket
import sys

from gosudacon import __version__
from gosudacon.base import posix
from gosudacon.base.errors import Error, reason
from gosudacon.shim import arguments
from gosudacon.shim.arguments import NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gosudacon.shim.arguments import Arguments
    from gosudacon.shim.start import Request

_PACKAGE = __file__.rpartition("/shim/")[0]


def main(words: Sequence[str]) -> int:
    """Do what ``words`` say, the program's arguments; returns the exit status."""
    try:
        given = arguments.parse(words)
        if given.version:
            posix.write(1, f"{NAME}:\n  Version: {__version__}\n".encode())
            return 0
        action = _ACTIONS.get("info" if given.info else given.action)
        if action is None:
            raise Error(f"unknown action {given.action!r}: start and delete are known")
        return action(given, words)
    except (Error, OSError) as error:
        posix.write(2, f"{NAME}: {reason(error)}\n".encode(errors="backslashreplace"))
        return 1


def _start(_given: Arguments, words: Sequence[str]) -> int:
    """Have a fork become the shim, of the template or of this process, and say what it answers."""
    from gosudacon.shim import asking, start, template

    directory = posix.open(".", posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    request = start.Request(words, dict(posix.environ), directory, posix.dup(0), posix.getpid())
    text = b""
    for path in template.paths(_PACKAGE):
        text = text or asking.ask(path, request)
        if not text:
            template.spawn(path, _PACKAGE)
            text = asking.ask(path, request)
    text = text or _fork(request)
    if not text:
        raise Error("the shim ended before it was ready")
    posix.write(1 if text[:1] == b"0" else 2, text[1:])
    return int(text[:1] != b"0")


def _fork(request: Request) -> bytes:
    """What a fork of this process answers that becomes the shim."""
    from gosudacon.shim import start

    mine, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    if posix.fork() == 0:
        start.become(request, theirs)
    theirs.close()
    text = b""
    while chunk := mine.recv(1 << 16):
        text += chunk
    return text


def _template(_given: Arguments, _words: Sequence[str]) -> int:
    """Be the template, for a service manager."""
    from gosudacon.shim import template

    for path in template.paths(_PACKAGE)[:1]:
        template.serve(path, _PACKAGE)
    return 0


def _delete(given: Arguments, _words: Sequence[str]) -> int:
    """Clean up after a shim that is gone, or has done so."""
    from gosudacon.shim import remains

    posix.write(1, remains.remove(given))
    return 0


def _info(_given: Arguments, _words: Sequence[str]) -> int:
    """Say what this shim can do."""
    from gosudacon.shim import info

    posix.write(1, info.encoded(sys.stdin.buffer.read()))
    return 0


_ACTIONS: dict[str, Callable[[Arguments, Sequence[str]], int]] = {
    "start": _start,
    "delete": _delete,
    "info": _info,
    "template": _template,
}
