"""Working in a container's network namespace, from outside of it: in a child process that joins it for the purpose.

The runtime itself never leaves its own namespace, so nothing can go wrong on the way back.
"""

from __future__ import annotations

import contextlib
import os

from gosudacon.api import Error, in_namespaces, open_namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def namespace_of(pid: int) -> Iterator[int]:
    """A descriptor of the network namespace of ``pid``: our own child, so its number cannot be reused.

    Raises `Error` if it is the one that this process is in, or the process has died.
    """
    try:
        fd = open_namespace("network", pid)
    except (FileNotFoundError, ProcessLookupError):
        raise Error("container init died before its network was ready") from None
    try:
        if os.path.samestat(os.fstat(fd), os.stat("/proc/self/ns/net")):
            raise Error("the container has no network namespace of its own")
        yield fd
    finally:
        os.close(fd)


def inside(pid: int, work: Callable[[], None]) -> None:
    """Do ``work`` in the network namespace of ``pid``. Raises what it raises, as `Error` or OSError."""
    with namespace_of(pid) as namespace:
        in_namespaces({"network": namespace}, work)
