"""The note in the state directory: what has been asked of which plug-in, and what came of it. DEL goes by it alone.

Its first line says all that a call needs: configurations may change or vanish while the container lives. A line
follows before each call, and one after it. A process may be killed in the middle of a line: that one is passed over.
It is not in /var/lib/cni/results, where others' garbage collection (GC of libcni) would take it for its own.
"""

from __future__ import annotations

import fcntl
import time

from gosudacon.api import Error
from gosudacon.base import jsonio, layout, posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NotRequired, TypedDict

    from gosudacon.api import Context

    class Attachment(TypedDict):
        """A network of the container's: its link there, ``version`` and ``plugins`` of the configuration.

        ``runtime`` is capability -> value, for plug-ins that have the capability (CONVENTIONS.md).
        """

        name: str
        file: str
        interface: str
        version: str
        versions: list[str]
        plugins: list[dict[str, object]]
        runtime: dict[str, object]

    class Header(TypedDict):
        """The first line. ``id`` is CNI_CONTAINERID, ``bin_dirs`` CNI_PATH, ``timeout`` in seconds."""

        id: str
        bin_dirs: list[str]
        timeout: int
        args: dict[str, str]
        attachments: list[Attachment]

    class Line(TypedDict):
        """Another line: ``call`` is (attachment, plug-in), of an ``event`` of `_OPEN` or `_CLOSED`."""

        event: str
        call: NotRequired[tuple[int, int]]
        result: NotRequired[dict[str, object]]
        answer: NotRequired[str]
        namespace: NotRequired[tuple[int, int]]


_FORM = 1
_MOST = 64 << 20  # bytes: some results of 1 MiB
#: Before a call, and after it.
BEGIN, DELETE = "begin", "delete"
ADDED, FAILED, DELETED = "added", "failed", "deleted"
_OPEN = (BEGIN, DELETE)
_CREATE = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
_APPEND = posix.O_WRONLY | posix.O_APPEND | posix.O_NOFOLLOW | posix.O_CLOEXEC
_READ = posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_CLOEXEC
_SETTLED = 5.0  # seconds for what a killed call has left running
_TICK = 0.02


class Record:
    """The note as it is: ``calls`` has the last event of each call, ``results`` the last result of each attachment.

    ``asked`` are the calls that were to be undone, be it in vain.
    ``answers`` has what plug-ins have said instead of a result (`calls.PluginError.answer`).
    ``namespace`` is the pinned network namespace (device, inode), None if there was none yet.
    """

    def __init__(self, context: Context, header: Header) -> None:
        self._directory = context.state_dir
        self.header = header
        self.calls: dict[tuple[int, int], str] = {}
        self.results: dict[int, dict[str, object]] = {}
        self.answers: dict[tuple[int, int], str] = {}
        self.asked: set[tuple[int, int]] = set()
        self.namespace: tuple[int, int] | None = None

    @classmethod
    def create(cls, context: Context, header: Header) -> Record:
        """Write the first line. Raises OSError."""
        fd = posix.open(layout.CNI_NOTE, _CREATE, 0o600, dir_fd=context.state_dir)
        try:
            posix.write_all(fd, jsonio.dumps({"form": _FORM, **header}).encode() + b"\n", layout.CNI_NOTE)
        finally:
            posix.close(fd)
        return cls(context, header)

    @classmethod
    def load(cls, context: Context) -> Record | None:
        """What is noted; None if nothing has been called. Raises OSError, and `Error` for another program's note."""
        found = _read(context.state_dir)
        if found is None:
            return None
        header, lines = found
        if not isinstance(header, dict) or header.get("form") != _FORM:
            raise Error(
                f"{layout.CNI_NOTE} is not a note of this version of gosudacon",
                hint=f"without it, addresses and rules that plug-ins have made stay: {_place(context)}",
            )
        record = cls(context, header)  # type: ignore[arg-type]  # as `create` has written it
        for line in lines:
            entry = _line(line)
            if isinstance(entry, dict):
                record._take(entry)  # type: ignore[arg-type]  # as `add` has written it
        return record

    def add(self, line: Line) -> None:
        """Note it, before anything else is done. Raises OSError."""
        fd = posix.open(layout.CNI_NOTE, _APPEND, dir_fd=self._directory)
        try:  # a newline first: the last line may have been cut
            posix.write_all(fd, b"\n" + jsonio.dumps(line).encode() + b"\n", layout.CNI_NOTE)
        finally:
            posix.close(fd)
        self._take(line)

    def pending(self) -> list[tuple[int, int]]:
        """The calls that have an effect which is not undone, in the order in which they were made."""
        return [call for call, event in sorted(self.calls.items()) if event != DELETED]

    def lock(self) -> int:
        """A descriptor for a plug-in to inherit, which holds a lock as long as it or what it has started lives.

        Where a call was cut short, by a kill of the plug-in or of this program, what it has started may still be at
        work: it is waited for, some seconds, but not for a daemon that means to stay.
        """
        fd = posix.open(layout.CNI_NOTE, _READ, dir_fd=self._directory)
        patience = _SETTLED if any(event in _OPEN for event in self.calls.values()) else 0.0
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return fd
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    return fd
            time.sleep(_TICK)

    def _take(self, line: Line) -> None:
        if "namespace" in line:
            device, inode = line["namespace"]
            self.namespace = device, inode
        if "call" in line:
            attachment, plugin = line["call"]
            self.calls[attachment, plugin] = line["event"]
            if line["event"] == DELETE:
                self.asked.add((attachment, plugin))
            if line["event"] == FAILED and "answer" in line:
                self.answers[attachment, plugin] = line["answer"]
            if "result" in line:
                self.results[attachment] = line["result"]


def noted(directory: str, dir_fd: int | None = None) -> Header | None:
    """What the note of the container in this state directory begins with; None if there is none that can be read."""
    flags = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
    try:
        fd = posix.open(directory, flags, dir_fd=dir_fd)
    except OSError:
        return None
    try:
        found = _read(fd)
    except OSError:
        return None
    finally:
        posix.close(fd)
    if found is None or not isinstance(found[0], dict) or found[0].get("form") != _FORM:
        return None
    return found[0]  # type: ignore[return-value]  # as `Record.create` has written it


def remove(context: Context) -> None:
    """Forget the note; none is fine."""
    try:
        posix.unlink(layout.CNI_NOTE, dir_fd=context.state_dir)
    except FileNotFoundError:
        return


def _read(directory: int) -> tuple[Mapping[str, object] | None, list[bytes]] | None:
    """The first line, None if it is no object, and the others. None for no note, or one that has been cut there."""
    try:
        fd = posix.open(layout.CNI_NOTE, _READ, dir_fd=directory)
    except FileNotFoundError:
        return None
    data = b""
    try:
        while (chunk := posix.read(fd, 1 << 20)) and len(data) < _MOST:
            data += chunk
    finally:
        posix.close(fd)
    first, *lines = data.split(b"\n")
    if not lines:
        return None  # killed while it was written, and so before the first call
    return _line(first), lines


def _line(text: bytes) -> Mapping[str, object] | None:
    try:
        data = jsonio.loads(text) if text else None
    except ValueError:
        return None
    return data if isinstance(data, dict) else None


def _place(context: Context) -> str:
    return posix.readlink(f"/proc/self/fd/{context.state_dir}")
