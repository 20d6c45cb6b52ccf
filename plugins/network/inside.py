"""Working in a container's network namespace, from outside of it: in a child process that joins it for the purpose.

The runtime itself never leaves its own namespace, so nothing can go wrong on the way back.
"""

from __future__ import annotations

import contextlib
import json
import os

from gosudacon.api import Error
from gosudacon.plugins.network import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import NoReturn


@contextlib.contextmanager
def namespace_of(pid: int) -> Iterator[int]:
    """A descriptor of the network namespace of ``pid``: our own child, so nobody else can have got its number.

    Raises `Error` if it is the one that this process is in, or the process has died.
    """
    try:
        fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
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
    kernel.require()  # here, not anew in every child
    with namespace_of(pid) as namespace:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            _work(namespace, writer, work)
        os.close(writer)
        with open(reader, "rb") as file:
            report = file.read()
        with contextlib.suppress(ChildProcessError):  # whoever ignores SIGCHLD has no children to wait for
            os.waitpid(child, 0)
    if not report:
        raise Error("the process that was to configure the container's network namespace died")
    failure = json.loads(report)
    if failure and failure["errno"]:
        raise OSError(failure["errno"], os.strerror(failure["errno"]), failure["message"])
    if failure:
        raise Error(failure["message"], hint=failure["hint"])


def _work(namespace: int, writer: int, work: Callable[[], None]) -> NoReturn:
    failure: dict[str, object] = {}
    try:
        _enter(namespace)
        work()
    except Error as error:
        failure = {"errno": 0, "message": error.message, "hint": error.hint}
    except OSError as error:
        failure = {"errno": error.errno, "message": str(error.filename or error.strerror), "hint": ""}
    except BaseException as error:  # noqa: BLE001 - the parent reports it
        failure = {"errno": 0, "message": f"{type(error).__name__}: {error}", "hint": ""}
    try:
        os.write(writer, json.dumps(failure).encode())
    finally:
        os._exit(0)


def _enter(namespace: int) -> None:
    """setns(2), which Python has had since 3.12."""
    if hasattr(os, "setns"):
        os.setns(namespace, getattr(os, "CLONE_NEWNET"))  # noqa: B009 - unknown to the type checker before 3.12
        return
    import ctypes

    from pyroute2 import netns  # type: ignore[import-untyped]

    netns.setns(namespace, libc=ctypes.CDLL(None, use_errno=True))  # left to itself, it would run ldconfig
