"""Work done in the namespaces of another process: in a child that joins them; the caller stays in its own."""

from __future__ import annotations

from gosudacon.base import jsonio, posix
from gosudacon.base.errors import Error, SyscallError, from_record, reason
from gosudacon.linux import namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, NoReturn, TypeVar

    Result = TypeVar("Result")


def open_namespace(kind: str, pid: int) -> int:
    """A close-on-exec descriptor of a namespace of process ``pid``; ``kind`` as in config.json, such as ``network``.

    Raises FileNotFoundError if there is no such process, or the kernel has no such namespaces (namespaces(7)).
    """
    return posix.open(namespace.namespace_path(kind, pid), posix.O_RDONLY | posix.O_CLOEXEC)


def in_namespaces(namespaces: Mapping[str, int], work: Callable[[], Result]) -> Result:
    """What ``work`` returns in a child process that has joined namespaces: kind -> descriptor (setns(2)).

    The user namespace is joined first; with ``pid``, the work is done in a process of that namespace. The result must
    be JSON data. An `Error` or OSError that the work raises is raised here, anything else as an `Error`. The child
    is a copy of this process and shares its descriptors; of ``work``, nothing else remains.
    """
    reader, writer = posix.pipe2(posix.O_CLOEXEC)
    try:
        child = posix.fork()
        if child == 0:
            _work(namespaces, work, writer)
        posix.close(writer)
        writer = -1
        report = _read_all(reader)
    finally:
        posix.close(reader)
        if writer >= 0:
            posix.close(writer)
    _wait(child)
    if not report:
        raise Error(f"the process that worked in the container's {' and '.join(namespaces)} namespace died")
    outcome = jsonio.loads(report)
    assert isinstance(outcome, dict)
    result: Result = _outcome(outcome)
    return result


def _work(namespaces: Mapping[str, int], work: Callable[[], object], writer: int) -> NoReturn:
    report: dict[str, object]
    try:
        _join(namespaces)
        if "pid" in namespaces and (inner := posix.fork()) != 0:  # only a child is in the pid namespace
            posix.close(writer)
            _wait(inner)
            posix._exit(0)
        report = {"result": work()}
        text = jsonio.dumps(report)
    except Error as error:
        text = jsonio.dumps({"error": error.record()})
    except OSError as error:
        path = getattr(error, "path", "") or posix.fsdecode(error.filename or "")
        report = {"errno": error.errno or 0, "text": error.strerror, "call": getattr(error, "call", ""), "path": path}
        text = jsonio.dumps(report)
    except BaseException as error:  # noqa: BLE001 - the parent reports it
        text = jsonio.dumps({"error": Error(reason(error)).record()})
    data = text.encode()
    try:
        while data:
            data = data[posix.write(writer, data) :]
    finally:
        posix._exit(0)


def _join(namespaces: Mapping[str, int]) -> None:
    for kind in sorted(namespaces, key=lambda kind: kind != "user"):
        namespace.setns(namespaces[kind], namespace.KINDS[kind][0], about=kind)


def _outcome(report: dict[str, Any]) -> Any:
    if "error" in report:
        raise from_record(report["error"])
    if report.get("call"):
        raise SyscallError(report["errno"], report["call"], report["path"])
    if "errno" in report:
        raise OSError(report["errno"], report["text"], report["path"] or None)
    return report["result"]


def _read_all(fd: int) -> bytes:
    chunks = []
    while chunk := posix.read(fd, 1 << 16):
        chunks.append(chunk)
    return b"".join(chunks)


def _wait(pid: int) -> None:
    try:
        posix.waitpid(pid, 0)
    except ChildProcessError:  # where SIGCHLD is ignored, there is no child to wait for
        return
