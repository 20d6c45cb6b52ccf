"""The standard streams of a container's process, as containerd names them; opened in a worker, kept by the shim.

A name is a FIFO's path (alone or as ``fifo://PATH``), ``file://PATH``, ``binary://PROGRAM?KEY=VALUE``, or empty for
/dev/null. A process gets the FIFO itself, in an open file description of its own, so that no byte passes through the
shim. A pipe is put between where the process must not have the file: a terminal, a log file (which it could truncate),
and a FIFO that a security label would take away at execve(2).
"""

from __future__ import annotations

import fcntl
import time
from _stat import S_ISFIFO
from errno import ENXIO

from gosudacon.base import posix
from gosudacon.base.errors import Error
from gosudacon.shim import logger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

STDIN, STDOUT, STDERR = "stdin", "stdout", "stderr"
#: What the shim does with a descriptor that it is handed: hold it until the process has ended; hold it until the input
#: is closed; read from it; write to it; write to it what the process reads.
HOLD, INPUT, SOURCE, TARGET, PROCESS_INPUT = "hold", "input", "source", "target", "process-input"
MASTER = -1  # of a copy: the process's terminal, which comes later

_NULL = "/dev/null"
_PATIENCE = 5.0  # seconds for all readers of a process's output; a busy machine lets a client wait for one or two
_FIRST_PAUSE, _LAST_PAUSE = 0.0005, 0.02  # seconds between looks for one


class Streams:
    """The streams of one process. ``own`` is what it gets as 0, 1, 2; ``kept``, what the shim keeps, and for what.

    ``copies``: pairs of positions in ``kept``, from where to where the shim passes bytes on. ``logger``: the pid of a
    program that reads its output, 0 for none. ``owner`` gets pipes and FIFOs; with ``pipes`` the process has no FIFO.
    """

    def __init__(self, owner: tuple[int, int] | None, pipes: bool, id: str, namespace: str) -> None:
        self.own = [-1, -1, -1]
        self.kept: list[tuple[str, int]] = []
        self.copies: list[tuple[int, int]] = []
        self.logger = 0
        self._id, self._namespace = id, namespace
        self._owner = owner
        self._pipes = pipes
        self._until = time.monotonic() + _PATIENCE

    def open(self, names: tuple[str, str, str]) -> None:
        """Open the streams of a process without a terminal. Raises `Error`, OSError."""
        if split(names[1])[0] == "binary":
            self.logger, self.own[1], self.own[2] = logger.start(names[1], self._id, self._namespace)
        for position, name in enumerate(names):
            scheme, path = split(name)
            if self.own[position] >= 0:
                continue
            if not path:
                self.own[position] = posix.open(
                    _NULL, (posix.O_WRONLY if position else posix.O_RDONLY) | posix.O_CLOEXEC
                )
            elif scheme == "file" and position:
                self._log(position, path)
            elif scheme != "fifo":
                raise Error(f"cannot use {name} as standard {('input', 'output', 'error')[position]}")
            elif position:
                self._output(position, path)
            else:
                self._input(path)

    def open_terminal(self, names: tuple[str, str, str]) -> None:
        """Open what a terminal is joined to: input and output, whatever the name of standard error."""
        null = posix.open(_NULL, posix.O_RDWR | posix.O_CLOEXEC)
        self.own = [null, null, null]
        scheme, path = split(names[0])
        if path:
            _require(scheme, names[0], "fifo")
            source = self._keep(SOURCE, open_fifo(path, posix.O_RDONLY))
            self._keep(INPUT, open_fifo(path, posix.O_WRONLY))
            self.copies.append((source, MASTER))
        scheme, path = split(names[1])
        if scheme == "binary":
            self.logger, out, err = logger.start(names[1], self._id, self._namespace)
            posix.close(err)
            self.copies.append((MASTER, self._keep(TARGET, _unblocked(out))))
        elif path:
            _require(scheme, names[1], "fifo", "file")
            self.copies.append((MASTER, self._target(scheme, path)))

    def note(self) -> dict[str, object]:
        """What the shim is told of ``kept``, whose descriptors go with it."""
        return {"kept": [role for role, _ in self.kept], "copies": self.copies, "logger": self.logger}

    def descriptors(self) -> list[int]:
        """What the shim keeps."""
        return [fd for _, fd in self.kept]

    def close_kept(self) -> None:
        """Close what the shim has."""
        for fd in self.descriptors():
            posix.close(fd)

    def _input(self, path: str) -> None:
        if self._pipes:
            reader, writer = self._pipe()
            self.own[0] = reader
            source = self._keep(SOURCE, open_fifo(path, posix.O_RDONLY))
            self._keep(INPUT, open_fifo(path, posix.O_WRONLY))
            self.copies.append((source, self._keep(PROCESS_INPUT, _unblocked(writer))))
            return
        self.own[0] = _blocking(open_fifo(path, posix.O_RDONLY))
        self._give(self.own[0])
        self._keep(INPUT, open_fifo(path, posix.O_WRONLY))

    def _output(self, position: int, path: str) -> None:
        if self._pipes:
            self._through(position, "fifo", path)
            return
        writer = self._writer(path)
        self._keep(HOLD, open_fifo(path, posix.O_RDONLY))  # so that the process is not ended for want of a reader
        self._keep(HOLD, writer if writer >= 0 else open_fifo(path, posix.O_WRONLY))  # the reader sees no early end
        self.own[position] = _blocking(open_fifo(path, posix.O_WRONLY))
        self._give(self.own[position])

    def _log(self, position: int, path: str) -> None:
        self._through(position, "file", path)

    def _through(self, position: int, scheme: str, path: str) -> None:
        reader, writer = self._pipe()
        self.own[position] = writer
        self.copies.append((self._keep(SOURCE, _unblocked(reader)), self._target(scheme, path)))

    def _target(self, scheme: str, path: str) -> int:
        if scheme == "file":
            posix.makedirs(posix.path.dirname(path), 0o755, exist_ok=True)
            flags = posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND | posix.O_NOCTTY | posix.O_CLOEXEC
            return self._keep(TARGET, posix.open(path, flags, 0o644))
        writer = self._writer(path)
        self._keep(HOLD, open_fifo(path, posix.O_RDONLY))
        return self._keep(TARGET, writer if writer >= 0 else open_fifo(path, posix.O_WRONLY))

    def _writer(self, path: str) -> int:
        """Open a FIFO to write to, as soon as a process has it open to read; -1 if none has within the patience.

        Clients open it while they call. One that comes after the end of a short process, and after Delete, would find
        it empty.
        """
        pause = _FIRST_PAUSE
        while True:
            try:
                return open_fifo(path, posix.O_WRONLY)
            except OSError as error:
                if error.errno != ENXIO:
                    raise
            if time.monotonic() > self._until:
                return -1
            time.sleep(pause)
            pause = min(2 * pause, _LAST_PAUSE)

    def _pipe(self) -> tuple[int, int]:
        reader, writer = posix.pipe2(posix.O_CLOEXEC)
        self._give(reader)
        return reader, writer

    def _give(self, fd: int) -> None:
        """To the user of the process on the host, who may not be able to open it again otherwise."""
        if self._owner is not None:
            posix.fchown(fd, *self._owner)

    def _keep(self, role: str, fd: int) -> int:
        self.kept.append((role, fd))
        return len(self.kept) - 1


def split(name: str) -> tuple[str, str]:
    """Scheme and path of a stream's name. What follows a ``?`` belongs to the path."""
    scheme, separator, path = name.partition("://")
    return (scheme, path) if separator else ("fifo", name)


def open_fifo(path: str, access: int) -> int:
    """An open file description of its own, which does not wait, of a FIFO (fifo(7)).

    One to write to can be opened only while one to read from is open. Raises `Error` if it is not a FIFO, OSError.
    """
    fd = posix.open(path, access | posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC)
    if not S_ISFIFO(posix.fstat(fd).st_mode):
        posix.close(fd)
        raise Error(f"{path} is not a FIFO")
    return fd


def close(descriptors: Iterable[int]) -> None:
    """Close descriptors."""
    for fd in {*descriptors}:
        if fd >= 0:
            posix.close(fd)


def _require(scheme: str, name: str, *known: str) -> None:
    if scheme not in known:
        raise Error(f"cannot join a terminal to {name}")


def _blocking(fd: int) -> int:
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~posix.O_NONBLOCK)
    return fd


def _unblocked(fd: int) -> int:
    posix.set_blocking(fd, False)
    return fd
