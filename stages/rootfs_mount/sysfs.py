"""sysfs in a user namespace whose network namespace is another's: the host's /sys, read-only, as crun does it.

The kernel lets a user namespace mount sysfs only together with a network namespace of its own, which sysfs shows.
"""

from __future__ import annotations

from errno import EPERM

from gosudacon.api import Context
from gosudacon.base import posix
from gosudacon.linux import mount
from gosudacon.stages.rootfs_mount import destination as places
from gosudacon.stages.rootfs_mount.filesystem import MountFilesystem

_HOST = "/sys"


class MountSysfs(MountFilesystem):
    """A new sysfs or, if the kernel refuses one, a copy of the host's, with all that is mounted in it read-only.

    Why: sysfs shows the network devices of the process that mounts it.
    Without it: programs would not find their devices, or the host's instead.
    See: sysfs(5); network_namespaces(7); runtime-spec config.md, Mounts.
    """

    how = f", or the host's {_HOST} read-only"

    def mount(self, context: Context) -> None:
        try:
            super().mount(context)
        except OSError as error:
            if error.errno != EPERM:
                raise
            self._bind(context)

    def _bind(self, context: Context) -> None:
        below, _ = places.open_directory(context, self.destination, self.fstype)
        try:
            fd = mount.clone_tree(mount.AT_FDCWD, _HOST, recursive=True)
            try:
                flags = self.attributes & ~mount.MOUNT_ATTR__ATIME | mount.MOUNT_ATTR_RDONLY
                mount.mount_setattr(fd, flags, 0, mount.MS_SLAVE, recursive=True)
                mount.move_mount(fd, below)
                for kind in self.propagation:
                    mount.mount_setattr(fd, 0, 0, kind & ~mount.MS_REC, recursive=bool(kind & mount.MS_REC))
            finally:
                posix.close(fd)
        finally:
            posix.close(below)
