"""The receiving end of ``--console-socket`` and a terminal to talk through."""

from __future__ import annotations

import os
import select
import socket
import time
from pathlib import Path
from types import TracebackType

from tests.support.timing import seconds


class Terminal:
    """The master side of a pseudo terminal."""

    def __init__(self, master: int) -> None:
        self.master = master
        self.seen = b""

    def send(self, text: str) -> None:
        """Type ``text``."""
        os.write(self.master, text.encode())

    def read(self, limit: float = 10.0) -> bytes:
        """Some output, or nothing once the other side has hung up; TimeoutError after ``limit`` seconds."""
        if not select.select([self.master], [], [], seconds(limit))[0]:
            raise TimeoutError(f"nothing came from the terminal; before: {self.seen!r}")
        try:
            data = os.read(self.master, 65536)
        except OSError:  # EIO: the last descriptor of the other side has been closed
            data = b""
        self.seen += data
        return data

    def expect(self, text: str, limit: float = 10.0) -> str:
        """Read until ``text`` has come; return the output up to its end, keep the rest for the next call."""
        deadline = time.monotonic() + seconds(limit)
        wanted = text.encode()
        while wanted not in self.seen:
            if time.monotonic() > deadline or not self.read(limit):
                raise AssertionError(f"{text!r} did not come from the terminal, but {self.seen!r}")
        head, _, self.seen = self.seen.partition(wanted)
        return (head + wanted).decode(errors="replace")

    def read_all(self, limit: float = 10.0) -> str:
        """Everything until the other side hangs up."""
        while self.read(limit):
            pass
        return self.seen.decode(errors="replace")

    def close(self) -> None:
        """Hang up."""
        if self.master >= 0:
            os.close(self.master)
        self.master = -1


class ConsoleSocket:
    """A listening socket for ``--console-socket``; as a context manager it cleans up after itself."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._terminals: list[Terminal] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen(1)

    def receive(self, limit: float = 10.0) -> Terminal:
        """The terminal that the runtime sends; TimeoutError after ``limit`` seconds."""
        self._socket.settimeout(seconds(limit))
        connection, _ = self._socket.accept()
        with connection:
            connection.settimeout(seconds(limit))
            self.message, handles, _, _ = socket.recv_fds(connection, 4096, 4)
        if len(handles) != 1:
            raise AssertionError(f"the runtime sent {len(handles)} descriptors instead of one")
        terminal = Terminal(handles[0])
        self._terminals.append(terminal)
        return terminal

    def __enter__(self) -> ConsoleSocket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for terminal in self._terminals:
            terminal.close()
        self._socket.close()
        self.path.unlink(missing_ok=True)
