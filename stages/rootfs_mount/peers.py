"""Bind mounts that are to be peers of the host's: not before the runtime has mounted all it mounts.

With ``rootfsPropagation`` shared, what a container mounts in such a bind mount appears on the host, as it is meant to.
What the runtime itself mounts there (other entries of ``mounts``, masks, read-only paths) must not: it would stay on
the host for good. So a bind mount is made private, and a second copy of its source keeps the peer group. When nothing
is left to be mounted, each mount joins the group of its counterpart in that copy.
"""

from __future__ import annotations

from errno import EINVAL

from gosudacon.api import CONFINE, Context, Step
from gosudacon.base import posix
from gosudacon.linux import mount
from gosudacon.stages.rootfs_mount import tree
from gosudacon.stages.rootfs_mount.filesystem import Held


class JoinPeers(Step):
    """Join the peer groups that were kept.

    Why: with shared propagation, what the host mounts later below the source is to appear in the container.
    Without it: the mount would be a copy of how the source was at the start.
    See: mount_namespaces(7); mount_setattr(2); runtime-spec config.md, Mounts.
    """

    phase = CONFINE
    where = "linux.rootfsPropagation"

    def describe(self) -> str:
        return "join the bind mounts to the peer groups of their sources"

    def run(self, context: Context) -> None:
        held = context.own(Held)
        try:
            for fd, group in held.peers:
                self._join(fd, group)
        finally:
            for pair in held.peers:  # not earlier: without the top's, a kept tree dissolves
                for each in pair:
                    posix.close(each)
            held.peers = []

    def _join(self, fd: int, group: int) -> None:
        try:
            mount.mount_setattr(fd, 0, 0, mount.MS_PRIVATE)  # below a shared mount it has got a group of its own
        except OSError as error:
            if error.errno == EINVAL:  # no mount is there
                return
            raise
        try:
            mount.join_group(fd, group)
        except OSError as error:
            if error.errno != EINVAL:  # the source is private
                raise


def remember(context: Context, fd: int, group: int) -> None:
    """Note for `JoinPeers` which mounts of the tree behind ``fd``, now attached, belong to which behind ``group``."""
    peers = context.own(Held).peers
    peers.append((posix.dup(fd), group))
    for name in tree.below(context, fd):
        below, counterpart = tree.open_below(fd, name), tree.open_below(group, name)
        if below >= 0 and counterpart >= 0:
            peers.append((below, counterpart))
        else:
            for each in {below, counterpart} - {-1}:
                posix.close(each)
