"""Masked and read-only paths with mount(2), for kernels before 5.12.

mount(2) wants paths. The one safe to use for a descriptor is ``self/fd/N`` below the private proc mount, which
is made the working directory for the moment: the container's own /proc is not to be trusted.
"""

from __future__ import annotations

from gosudacon.api import Context
from gosudacon.linux import mount, path
from gosudacon.linux import system as os
from gosudacon.stages.rootfs_mount.hide import _DIRECTORY, _FORMAT, MakeReadOnly, Mask, check_null

_BIND = mount.MS_BIND | mount.MS_REC


class MakeReadOnlyClassic(MakeReadOnly):
    """Bind a path on itself and remount it read-only."""

    def describe(self) -> str:
        return f"{super().describe()} [mount(2)]"

    def run(self, context: Context) -> None:
        below = self.open(context)
        if below < 0:
            return
        os.fchdir(context.proc)
        try:
            target = f"self/fd/{below}"
            mount.mount(target, target, None, _BIND, about=self.path)
            top = self.open(context)
            try:
                flags = mount.MS_BIND | mount.MS_REMOUNT | mount.MS_RDONLY | mount.mount_flags(top) & 0x0F
                mount.mount(None, f"self/fd/{top}", None, flags, about=self.path)
            finally:
                os.close(top)
        finally:
            os.close(below)
            os.chdir("/")


class MaskClassic(Mask):
    """Cover a file with the container's null device, which is checked, and a directory with a tmpfs of its own."""

    def describe(self) -> str:
        return f"{super().describe()} [mount(2)]"

    def _cover(self, context: Context, below: int) -> None:
        os.fchdir(context.proc)
        try:
            target = f"self/fd/{below}"
            if os.fstat(below).st_mode & _FORMAT == _DIRECTORY:
                flags = mount.MS_RDONLY | mount.MS_NOSUID | mount.MS_NODEV | mount.MS_NOEXEC
                mount.mount("tmpfs", target, "tmpfs", flags, "nr_blocks=1,nr_inodes=2", about=self.path)
                return
            null = path.open_in_root(context.root, "/dev/null", os.O_PATH | os.O_NOFOLLOW)
            try:
                check_null(null, "/dev/null of the container")
                mount.mount(f"self/fd/{null}", target, None, mount.MS_BIND, about=self.path)
            finally:
                os.close(null)
        finally:
            os.close(below)
            os.chdir("/")
