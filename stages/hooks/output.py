"""Files for the output of hooks, where annotations name some (`gosudacon.stages.hooks.OUTPUTS`)."""

from __future__ import annotations

from gosudacon.api import PREPARE, Context, Step
from gosudacon.base import posix
from gosudacon.base.errors import SyscallError
from gosudacon.stages.hooks import Opened

_MODE = 0o600  # of a file that is made


class OpenOutputs(Step):
    """Open them for the hooks that run in the container, where their paths lead elsewhere.

    ``keep``: until startContainer hooks have run; execve(2) closes them.

    Why: inside the container the paths of these files lead elsewhere.
    Without it: what hooks in the container print would be lost.
    See: openat(2).
    """

    phase = PREPARE
    where = "annotations"
    stdout: str
    stderr: str
    keep: bool

    def describe(self) -> str:
        return f"open {' and '.join(filter(None, (self.stdout, self.stderr)))} for the output of hooks"

    def run(self, context: Context) -> None:
        files = context.own(Opened).outputs = opened(self.stdout, self.stderr)
        if self.keep:
            context.spared += tuple(fd for fd in files if fd >= 0)


def opened(stdout: str, stderr: str) -> tuple[int, int]:
    """Descriptors of both to append to, close-on-exec; -1 for an empty path. Raises `SyscallError`.

    A FIFO without a reader is an error, and not waited for.
    """
    first = _open(stdout)
    try:
        return first, _open(stderr)
    except BaseException:
        close((first, -1))
        raise


def close(files: tuple[int, int]) -> None:
    """Close what `opened` has opened."""
    for fd in files:
        if fd >= 0:
            posix.close(fd)


def _open(path: str) -> int:
    if not path:
        return -1
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND | posix.O_NOCTTY | posix.O_NONBLOCK | posix.O_CLOEXEC
    try:
        fd = posix.open(path, flags, _MODE)
    except OSError as error:
        raise SyscallError(error.errno or 0, "open", path) from None
    posix.set_blocking(fd, True)
    return fd
