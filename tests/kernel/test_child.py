"""Work in the namespaces of another process: what it returns, what it raises, and that nothing of it remains."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gosudacon.api import ConfigError, Error, StepError, SyscallError, in_namespaces, open_namespace, unshare
from gosudacon.linux import namespace
from gosudacon.linux.process import sethostname

pytestmark = pytest.mark.needs("root")


@pytest.fixture
def other() -> Iterator[dict[str, int]]:
    """Descriptors of the uts and pid namespaces of a process with others than ours."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        unshare(namespace.CLONE_NEWUTS | namespace.CLONE_NEWPID)
        sethostname("other")
        init = os.fork()
        if init == 0:
            signal.pause()
        os.write(writer, str(init).encode())
        signal.pause()
    init = int(os.read(reader, 20))
    found = {kind: open_namespace(kind, init) for kind in ("pid", "uts")}
    yield found
    for pid in (init, child):
        os.kill(pid, signal.SIGKILL)
    os.waitpid(child, 0)
    for fd in (*found.values(), reader, writer):
        os.close(fd)


def test_the_result_comes_back(other: dict[str, int]) -> None:
    ours = os.uname().nodename
    found: dict[str, Any] = in_namespaces(
        other, lambda: {"name": os.uname().nodename, "pid": os.getpid(), "big": "x" * 200_000}
    )
    assert (found["name"], len(found["big"])) == ("other", 200_000)
    assert found["pid"] < 10  # of the pid namespace
    assert os.uname().nodename == ours


def _raise(error: BaseException) -> Callable[[], Any]:
    def work() -> None:
        raise error

    return work


def test_what_is_raised_comes_back(other: dict[str, int]) -> None:
    with pytest.raises(Error, match="wrong") as failed:
        in_namespaces(other, _raise(StepError("wrong", where="mounts[0]", hint="h", call="mount", errno=1)))
    assert (failed.value.where, failed.value.hint, failed.value.errno) == ("mounts[0]", "h", 1)
    with pytest.raises(ConfigError):
        in_namespaces(other, _raise(ConfigError("wrong")))
    with pytest.raises(SyscallError) as refused:
        in_namespaces(other, _raise(SyscallError(errno.EPERM, "mount", "/x")))
    assert (refused.value.errno, refused.value.call, refused.value.path) == (errno.EPERM, "mount", "/x")
    with pytest.raises(FileNotFoundError) as missing:
        in_namespaces(other, lambda: os.open("/no/such", os.O_RDONLY))
    assert missing.value.filename == "/no/such"
    with pytest.raises(Error, match="ZeroDivisionError"):
        in_namespaces(other, lambda: 1 // 0)
    with pytest.raises(Error, match="TypeError"):
        in_namespaces(other, lambda: object())


def test_a_process_that_dies_is_an_error(other: dict[str, int]) -> None:
    with pytest.raises(Error, match="worked in the container's pid and uts namespace died"):
        in_namespaces(other, lambda: os._exit(0))


def test_what_is_no_namespace() -> None:
    reader, writer = os.pipe()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(SyscallError) as refused:
        in_namespaces({"network": reader}, lambda: None)
    assert refused.value.call == "setns"
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(reader)
    os.close(writer)
