"""A container without a mount namespace of its own: its mounts are the host's, until it is deleted.

All of them are below one, the root filesystem bound on itself, whose unmounting takes them along. Nothing else changes
on the host: neither the propagation of its mounts nor what is at other places.
"""

from __future__ import annotations

from gosudacon.api import PREPARE, ConfigError, Context, Error, Host, Spec
from gosudacon.base import layout, posix
from gosudacon.linux import mount, path
from gosudacon.stages.rootfs_mount.filesystem import BY_DESCRIPTOR, become_root
from gosudacon.stages.rootfs_mount.root import BindRoot

_DIRECTORY = posix.O_PATH | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC


class BindRootOnHost(BindRoot):
    """Bind the root filesystem on itself, as `Context.root`; a note says which mount it is: that one is unmounted.

    Why: without a mount namespace the root must be a mount of the host, and be found again.
    Without it: what is mounted for the container would stay on the host after it.
    See: mount(2), MS_BIND; runtime-spec config.md, Root.
    """

    phase = PREPARE
    lasts = True
    recorded_as = ("rootfs-mount.bind-root-on-host", 1)

    def describe(self) -> str:
        return f"{super().describe()}, in the host's mount namespace"

    def run(self, context: Context) -> None:
        below = posix.open(self.path, _DIRECTORY)
        try:
            place = path.location(below)
            note = [place, " ".join(map(str, _mounted_at(place)))]
            _write(context, note)
            fd = self._clone(below)
            mount.move_mount(fd, below, about=self.path)
        finally:
            posix.close(below)
        become_root(context, fd)
        mount.mount_setattr(fd, 0, 0, mount.MS_PRIVATE, recursive=True)  # it is shared, if what it is mounted on is
        _write(context, [*note, str(mount.mount_id(fd))])

    def undo(self, context: Context) -> None:
        """Unmount it with all below it. Raises `Error` if something else has been mounted over it."""
        note = _read(context)
        if not note:
            return
        place, before, *own = note
        mounted = _mounted_at(place)
        known = [int(number) for number in before.split()]
        left = [each for each in mounted if (each == int(own[0]) if own else each not in known)]
        while left:
            top = posix.open(place, _DIRECTORY)
            try:
                if mount.mount_id(top) not in left:
                    raise Error(f"{place}: something is mounted over the container's root filesystem")
                left.remove(mount.mount_id(top))
                # A peer of a mount of the host's would take along what is mounted in that one.
                mount.mount_setattr(top, 0, 0, mount.MS_PRIVATE, recursive=True, about=place)
            finally:
                posix.close(top)
            mount.umount(place, mount.MNT_DETACH | mount.UMOUNT_NOFOLLOW)
        posix.unlink(layout.ROOT_NOTE, dir_fd=context.state_dir)


def _write(context: Context, lines: list[str]) -> None:
    temporary = f"{layout.ROOT_NOTE}.new"
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC
    fd = posix.open(temporary, flags, 0o600, dir_fd=context.state_dir)
    try:
        posix.write(fd, b"\0".join(posix.fsencode(line) for line in lines))
    finally:
        posix.close(fd)
    posix.rename(temporary, layout.ROOT_NOTE, src_dir_fd=context.state_dir, dst_dir_fd=context.state_dir)


def _read(context: Context) -> list[str]:
    try:
        fd = posix.open(layout.ROOT_NOTE, posix.O_RDONLY | posix.O_CLOEXEC, dir_fd=context.state_dir)
    except FileNotFoundError:
        return []
    try:
        return [posix.fsdecode(line) for line in posix.read(fd, 65536).split(b"\0")]
    finally:
        posix.close(fd)


def _mounted_at(place: str) -> list[int]:
    """The ids of what is mounted at a place of this mount namespace, one over the other (proc(5))."""
    proc = posix.open("/proc", posix.O_PATH | posix.O_CLOEXEC)
    try:
        lines = [line.split(b" ", 5) for line in mount.mountinfo(proc).splitlines()]
    finally:
        posix.close(proc)
    return [int(line[0]) for line in lines if mount.unescaped(line[4]) == posix.fsencode(place)]


def plan_root(spec: Spec, host: Host) -> BindRootOnHost:
    """The step that makes room for mounts. Raises `ConfigError` where there cannot be any."""
    place = "mounts[0]" if spec.config.get("mounts") else "root.readonly"
    if "user" in spec.namespaces() or host.euid:
        raise ConfigError("mounts need a mount namespace of the container's own, or the host's root", where=place)
    if spec.rootfs == "/":
        raise ConfigError("the host's root filesystem takes no mounts of a container", where=place)
    if host.kernel < BY_DESCRIPTOR:
        raise ConfigError("mounts without a mount namespace of the container's own need Linux 5.12", where=place)
    return BindRootOnHost(path=spec.rootfs, private=True)
