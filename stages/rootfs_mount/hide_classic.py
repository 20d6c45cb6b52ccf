"""Masked and read-only paths with mount(2), for kernels before 5.12.

mount(2) wants paths. The one safe to use for a descriptor is ``self/fd/N`` below the private proc mount, which
is made the working directory for the moment: the container's own /proc is not to be trusted.
"""

from __future__ import annotations

from _stat import S_ISDIR
from errno import ENOENT, ENOTDIR

from gosudacon.api import Context
from gosudacon.base import posix
from gosudacon.linux import mount, path
from gosudacon.stages.rootfs_mount.hide import (
    MakeReadOnly,
    Mask,
    check_null,
)

_BIND = mount.MS_BIND | mount.MS_REC


class MakeReadOnlyClassic(MakeReadOnly):
    """Bind a path on itself, and remount it and every mount below it read-only.

    Why: some files in /proc steer the whole kernel, and kernels before 5.12 have mount(2) only.
    Without it: root in the container could change settings of the host.
    See: mount(2), MS_REMOUNT; runtime-spec config-linux.md, Readonly Paths.
    """

    def describe(self) -> str:
        return f"{super().describe()} [mount(2)]"

    def run(self, context: Context) -> None:
        below, root = self.open(context)
        if below < 0:
            return
        posix.fchdir(context.proc)
        try:
            if not root:
                target = f"self/fd/{below}"
                mount.mount(target, target, None, _BIND, about=self.path)
            for place in _mount_points(context, path.location(below, context.proc)):
                self._remount(context, place)
        finally:
            posix.close(below)
            posix.chdir("/")

    def _remount(self, context: Context, place: bytes) -> None:
        try:
            top = path.open_in_root(context.root, place, posix.O_PATH, path.RESOLVE_NO_SYMLINKS)
        except OSError as error:
            if error.errno in (ENOENT, ENOTDIR):
                return  # under another mount
            raise
        try:
            flags = mount.MS_BIND | mount.MS_REMOUNT | mount.MS_RDONLY | mount.mount_flags(top) & 0x0F
            mount.mount(None, f"self/fd/{top}", None, flags, about=self.path)
        finally:
            posix.close(top)


def _mount_points(context: Context, top: str) -> set[bytes]:
    """Where something is mounted, from ``top`` down."""
    own = posix.fsencode(top).rstrip(b"/")
    points = {mount.unescaped(line.split(b" ", 5)[4]) for line in mount.mountinfo(context.proc).splitlines()}
    return {point for point in points if point == (own or b"/") or point.startswith(own + b"/")}


class MaskClassic(Mask):
    """Cover a file with the container's null device, which is checked, and a directory with a tmpfs of its own.

    Why: some files in /proc and /sys tell of the host, and kernels before 5.12 have mount(2) only.
    Without it: processes in the container could read them.
    See: mount(2), MS_BIND; runtime-spec config-linux.md, Masked Paths.
    """

    def describe(self) -> str:
        return f"{super().describe()} [mount(2)]"

    def _cover(self, context: Context, below: int) -> None:
        posix.fchdir(context.proc)
        try:
            target = f"self/fd/{below}"
            if S_ISDIR(posix.fstat(below).st_mode):
                flags = mount.MS_RDONLY | mount.MS_NOSUID | mount.MS_NODEV | mount.MS_NOEXEC
                mount.mount("tmpfs", target, "tmpfs", flags, "nr_blocks=1,nr_inodes=2", about=self.path)
                return
            null = path.open_in_root(context.root, "/dev/null", posix.O_PATH | posix.O_NOFOLLOW)
            try:
                check_null(null, "/dev/null of the container")
                mount.mount(f"self/fd/{null}", target, None, mount.MS_BIND, about=self.path)
            finally:
                posix.close(null)
        finally:
            posix.close(below)
            posix.chdir("/")
