"""A descriptor of the new process for the caller, who asked for it with ``--pidfd-socket``."""

from __future__ import annotations

from gosudacon.api import CONFINE, RUNTIME, Context, Rank, Step
from gosudacon.base import posix
from gosudacon.base.errors import SyscallError
from gosudacon.linux import console


class SendPidfd(Step):
    """Send a pidfd of the process that will be executed, over a socket of the caller's (pidfd_open(2), unix(7)).

    The runtime sends it, once the process has forked for the last time: the path is the host's, and what the
    process could send from inside its pid namespace is the same. ``word`` tells the receiver whose it is.

    Why: a pid may be taken by another process once this one has ended; a pidfd stays what it is.
    Without it: the caller would have to trust a number.
    See: pidfd_open(2); unix(7).
    """

    phase = CONFINE
    side = RUNTIME
    rank = Rank.BORN  # the last thing before the process waits, as it cannot be taken back
    path: str
    word: str

    def describe(self) -> str:
        return f"send a pidfd of the process to {self.path}"

    def run(self, context: Context) -> None:
        connection = console.connect(self.path)
        try:
            pidfd = _open(context.pid)
            try:
                console.send(connection, pidfd, self.word, about=self.path)
            finally:
                posix.close(pidfd)
        finally:
            posix.close(connection)


def _open(pid: int) -> int:
    try:
        return posix.pidfd_open(pid)
    except OSError as error:
        raise SyscallError(error.errno or 0, "pidfd_open", str(pid)) from None
