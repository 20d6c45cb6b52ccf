"""systemd's notifications (sd_notify(3)): a directory of ours in the container, for the socket that ``start`` makes.

The container gets no socket of the host's. What it says goes to the process that starts it, which passes on no more
than that it is ready (`gosudacon.container.notify`). The directory is mounted read-only, and is root's.
"""

from __future__ import annotations

from gosudacon.api import PREPARE, Context, Host, Spec, Step
from gosudacon.base import layout, posix
from gosudacon.stages.rootfs_mount import bind
from gosudacon.stages.rootfs_mount.options import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.schema.types import Mount
    from gosudacon.stages.rootfs_mount.root import Sharing

_FLAGS = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC


class MakeNotifyDirectory(Step):
    """Make the directory in the state directory, and remove it with all that is in it.

    Why: a service manager waits for the container to say that it is ready.
    Without it: it would wait for ever, or have to give the container its own socket.
    See: sd_notify(3).
    """

    phase = PREPARE
    lasts = True
    recorded_as = ("rootfs-mount.make-notify-directory", 1)

    def describe(self) -> str:
        return f"make the directory {layout.NOTIFY} in the state directory, for NOTIFY_SOCKET"

    def run(self, context: Context) -> None:
        posix.mkdir(layout.NOTIFY, 0o755, dir_fd=context.state_dir)
        fd = posix.open(layout.NOTIFY, _FLAGS, dir_fd=context.state_dir)
        try:
            posix.fchmod(fd, 0o755)  # whatever the umask was: the container's user must find the socket in it
        finally:
            posix.close(fd)

    def undo(self, context: Context) -> None:
        _remove(context.state_dir, layout.NOTIFY)


def _remove(parent: int, name: str) -> None:
    """Remove a file or a tree. A container with all privileges may have made its mount writable, and anything there."""
    try:
        fd = posix.open(name, _FLAGS, dir_fd=parent)
    except FileNotFoundError:
        return
    except OSError:  # no directory
        posix.unlink(name, dir_fd=parent)
        return
    try:
        for each in posix.listdir(fd):
            _remove(fd, each)
    finally:
        posix.close(fd)
    posix.rmdir(name, dir_fd=parent)


def plan_notify(spec: Spec, host: Host, index: int, sharing: Sharing) -> Iterator[Step]:
    """The directory, and its mount after ``index`` others; nothing if the caller has no NOTIFY_SOCKET."""
    source = spec.options.notify_directory
    if not source:
        return
    yield MakeNotifyDirectory()
    entry: Mount = {
        "destination": layout.NOTIFY_MOUNT,
        "type": "bind",
        "source": source,
        "options": ["bind", "ro", "nosuid", "nodev", "noexec"],
    }
    for step in bind.plan_bind(spec, host, index, entry, parse(entry, "mounts"), sharing):
        step.where = ""  # not of config.json
        yield step
