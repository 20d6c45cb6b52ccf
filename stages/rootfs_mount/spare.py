"""Devices for a user namespace that the host has no node of: the runtime, which may, makes them.

They are made in a tmpfs that is mounted nowhere. Init mounts it for as long as it takes to copy each node's mount.
"""

from __future__ import annotations

from _stat import S_IFMT

from gosudacon.api import PREPARE, Context, Spec, Step
from gosudacon.base import posix
from gosudacon.linux import mount
from gosudacon.stages.rootfs_mount.filesystem import Held

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from gosudacon.schema.types import IdMapping
    from gosudacon.stages.rootfs_mount.devices import Node


class MakeMissing(Step):
    """Make the nodes that the host lacks, or that are other devices there, as `Held.spare`; nothing if none is missing.

    ``nodes`` are those of `devices.MakeNodes`, with the file type in place of its letter, and with the host's ids.

    Why: in a user namespace device nodes cannot be made, and the host has not all of them to be bound.
    Without it: these devices would be missing in the container.
    See: mknod(2); user_namespaces(7); runtime-spec config-linux.md, Devices.
    """

    phase = PREPARE
    nodes: list[Node]

    def describe(self) -> str:
        return f"make those of {' '.join(node[0] for node in self.nodes)} that the host lacks, in a tmpfs of their own"

    def run(self, context: Context) -> None:
        missing = [node for node in self.nodes if not _is_there(node)]
        if not missing:
            return
        attributes = mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NOEXEC
        held = context.own(Held)
        held.spare = mount.new_filesystem("tmpfs", {"mode": "0755"}, attributes, "devices")
        umask = posix.umask(0)
        try:
            for index, (path, kind, major, minor, mode, uid, gid) in enumerate(missing):
                name = str(index)
                posix.mknod(name, kind | mode, posix.makedev(major, minor), dir_fd=held.spare)
                posix.chown(name, uid, gid, dir_fd=held.spare)
                held.spares[path] = name
        finally:
            posix.umask(umask)


def copy(context: Context, path: str) -> int:
    """A detached mount of the node that was made for ``path``; -1 if none was."""
    held = context.own(Held)
    if path not in held.spares:
        return -1
    if held.spare >= 0:
        _copy_all(context, held)
    return held.copies.pop(path)


def _copy_all(context: Context, held: Held) -> None:
    """Only a mount that is mounted somewhere can be copied, before Linux 6.15."""
    mount.move_mount(held.spare, context.root, about="a tmpfs with devices")
    try:
        for path, name in held.spares.items():
            node = posix.open(name, posix.O_PATH | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=held.spare)
            try:
                held.copies[path] = mount.clone_tree(node, about=path)
            finally:
                posix.close(node)
    finally:
        posix.fchdir(held.spare)
        mount.umount(".", mount.MNT_DETACH)
        posix.chdir("/")
        posix.close(held.spare)
        held.spare = -1


def _is_there(node: Node) -> bool:
    try:
        found = posix.stat(node[0])
    except OSError:
        return False
    return S_IFMT(found.st_mode) == node[1] and found.st_rdev == posix.makedev(node[2], node[3])


def plan_missing(spec: Spec, nodes: Sequence[Node], kinds: dict[str, int]) -> MakeMissing:
    """The step for these nodes (those of `devices`), all of them devices."""
    uids, gids = spec.linux.get("uidMappings") or [], spec.linux.get("gidMappings") or []
    outside = [
        [path, kinds[kind], major, minor, mode, _outside(uid, uids), _outside(gid, gids)]
        for path, kind, major, minor, mode, uid, gid in nodes
    ]
    return MakeMissing(nodes=outside, where="linux.devices")


def _outside(number: int, mappings: Sequence[IdMapping]) -> int:
    """What the host calls an id of the container; its root where nothing is said."""
    for each in mappings:
        if 0 <= number - each["containerID"] < each["size"]:
            return each["hostID"] + number - each["containerID"]
    return 0
