"""Notifications of the OOM killer in a cgroup: eventfd(2) on cgroup v1, inotify(7) on v2."""

from __future__ import annotations

from errno import ENODEV, ENOENT

from gosudacon.base import posix
from gosudacon.base.errors import SyscallError
from gosudacon.linux import abi
from gosudacon.linux.cgroup.files import open_directory, read, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_inotify_init1 = abi.syscall("inotify_init1", abi.INT)
_inotify_add_watch = abi.syscall("inotify_add_watch", abi.INT, abi.PATH, abi.UINT)

_IN_MODIFY = 2
_NONBLOCK_CLOEXEC = posix.O_NONBLOCK | posix.O_CLOEXEC


class Watch:
    """Watches the container's memory cgroup. ``fd`` becomes readable when `happened` is worth a call."""

    def __init__(self, directory: str, unified: bool) -> None:
        """Raises `SyscallError`, with ENOENT where the cgroup is gone or its memory is not accounted."""
        self._directory = open_directory(directory)
        self._unified = unified
        self.fd = -1
        try:
            self._kills = self._count()
            self.fd = self._inotify() if unified else self._eventfd()
        except BaseException:
            self.close()
            raise

    def happened(self) -> bool:
        """Whether the kernel has run out of memory there since the last call. Does not wait."""
        try:
            news = posix.read(self.fd, 4096)
        except BlockingIOError:
            news = b""
        if not self._unified:
            return bool(news) and self._exists()  # the cgroup's end is an event, too
        before, self._kills = self._kills, self._count()
        return self._kills > before

    def close(self) -> None:
        """Stop watching."""
        for fd in (self.fd, self._directory):
            if fd >= 0:
                posix.close(fd)
        self.fd = self._directory = -1

    def _inotify(self) -> int:
        fd = _inotify_init1(_NONBLOCK_CLOEXEC)
        try:
            _inotify_add_watch(fd, f"/proc/self/fd/{self._directory}/memory.events", _IN_MODIFY)
        except BaseException:
            posix.close(fd)
            raise
        return fd

    def _eventfd(self) -> int:
        """Register with ``cgroup.event_control`` (Documentation/admin-guide/cgroup-v1/memory.rst, OOM Control)."""
        control = posix.open("memory.oom_control", posix.O_RDONLY | posix.O_CLOEXEC, dir_fd=self._directory)
        fd = -1
        try:
            fd = posix.eventfd(0, posix.EFD_CLOEXEC | posix.EFD_NONBLOCK)
            write(self._directory, "cgroup.event_control", f"{fd} {control}")
        except BaseException:
            if fd >= 0:
                posix.close(fd)
            raise
        finally:
            posix.close(control)
        return fd

    def _count(self) -> int:
        if not self._unified:
            return 0
        try:
            return int(dict(line.split() for line in read(self._directory, "memory.events").splitlines())["oom_kill"])
        except SyscallError as error:
            if error.errno == ENODEV and self.fd >= 0:  # removed while it is watched
                return self._kills
            raise

    def _exists(self) -> bool:
        try:
            posix.close(posix.open("cgroup.event_control", posix.O_WRONLY | posix.O_CLOEXEC, dir_fd=self._directory))
        except OSError:
            return False
        return True


def watch(cgroups: Mapping[str, str]) -> Watch | None:
    """A watch over the container with these cgroups (controller -> directory); None where memory is not accounted."""
    unified = "memory" not in cgroups
    directory = cgroups.get("" if unified else "memory")
    if not directory:
        return None
    try:
        return Watch(directory, unified)
    except OSError as error:
        if error.errno in (ENOENT, ENODEV):
            return None
        raise
