"""Working in a container's network namespace, from outside of it: in a child process that joins it for the purpose.

The runtime itself never leaves its own namespace, so nothing can go wrong on the way back.
"""

from __future__ import annotations

from gosudacon.api import Error, in_namespaces, open_namespace
from gosudacon.base import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class namespace_of:
    """A descriptor of the network namespace of ``pid``: our own child, so its number cannot be reused.

    For ``with``, without the module contextlib, whose import costs two milliseconds. Raises `Error` if it is the
    namespace that this process is in, or the process has died.
    """

    def __init__(self, pid: int) -> None:
        try:
            self._fd = open_namespace("network", pid)
        except (FileNotFoundError, ProcessLookupError):
            raise Error("container init died before its network was ready") from None

    def __enter__(self) -> int:
        found, ours = posix.fstat(self._fd), posix.stat("/proc/self/ns/net")
        if (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino):
            posix.close(self._fd)
            raise Error("the container has no network namespace of its own")
        return self._fd

    def __exit__(self, *_: object) -> None:
        posix.close(self._fd)


def inside(pid: int, work: Callable[[], None]) -> None:
    """Do ``work`` in the network namespace of ``pid``. Raises what it raises, as `Error` or OSError."""
    with namespace_of(pid) as namespace:
        in_namespaces({"network": namespace}, work)


_held: dict[str, int] = {}  # name of a link -> descriptor


def hold(link: str, namespace: int) -> None:
    """Keep the network namespace behind a descriptor until `let_go`, though its last process ends before.

    For who waits for the container and removes its links then: else the kernel would take the namespace down at the
    same time, and the two wait for each other.
    """
    let_go(link)
    _held[link] = posix.dup(namespace)


def let_go(link: str) -> None:
    """Give up the namespace that is held for this link; none is fine."""
    if link in _held:
        posix.close(_held.pop(link))
