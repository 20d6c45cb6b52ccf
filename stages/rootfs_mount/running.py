"""``mounts add`` and ``mounts remove``: the mounts of a container that runs, changed by a process that enters it.

That process is the container's root, in its mount namespace, and outside of its pid namespace. The container can have
changed its /proc: what needs a path takes it from a private proc mount, and what cannot is refused.
"""

from __future__ import annotations

from errno import EINVAL

from gosudacon.api import MOUNT, PREPARE, START, ConfigError, Context, Error, Host, Spec, Step
from gosudacon.base import posix
from gosudacon.linux import mount, path
from gosudacon.stages.rootfs_mount import bind, filesystem, peers, root
from gosudacon.stages.rootfs_mount import destination as places
from gosudacon.stages.rootfs_mount.options import parse
from gosudacon.stages.rootfs_mount.terminal import OpenRoot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.schema.types import Mount

#: New filesystems that can be made by descriptor, and show the same wherever they are made.
_FILESYSTEMS = ("tmpfs", "ramfs", "devpts", "mqueue", "sysfs", "hugetlbfs")


class _Groups:
    def __init__(self) -> None:
        self.host: set[bytes] = set()


class NoteHostGroups(Step):
    """Note the peer groups of the host's mounts, for `CheckPlace`.

    Why: inside the container the host's mounts cannot be seen any more.
    Without it: there would be nothing to compare the container's mounts with.
    See: mount_namespaces(7); proc_pid_mountinfo(5).
    """

    phase = PREPARE

    def describe(self) -> str:
        return "note the peer groups of the host's mounts"

    def run(self, context: Context) -> None:
        proc = posix.open("/proc", posix.O_PATH | posix.O_CLOEXEC)
        try:
            context.own(_Groups).host = set(_groups(mount.mountinfo(proc)).values()) - {b""}
        finally:
            posix.close(proc)


class CheckPlace(Step):
    """Where a mount goes must not be a peer of a mount of the host's, which would get it as well, for good.

    Why: a mount onto a peer of the host's would be passed on to the host.
    Without it: `mounts add` could mount something on the host, for good.
    See: mount_namespaces(7); statmount(2).
    """

    phase = MOUNT
    destination: str

    def describe(self) -> str:
        return f"check that the host does not share what is at {self.destination}"

    def run(self, context: Context) -> None:
        fd = path.deepest_in_root(context.root, self.destination)
        try:
            groups = _groups(mount.mountinfo(context.proc))
            group = groups.get(mount.mount_id(fd, context.proc), b"")
        finally:
            posix.close(fd)
        if group and group in context.own(_Groups).host:
            raise Error(f"the mount at {self.destination} would appear on the host, with which that place is shared")


class Unmount(Step):
    """umount2(2) with MNT_DETACH of the topmost mount at a place, and of what is mounted in it.

    Why: what was added to a running container can be taken away again.
    Without it: it would stay for as long as the container lives.
    See: umount2(2).
    """

    phase = MOUNT
    destination: str

    def describe(self) -> str:
        return f"unmount {self.destination}"

    def run(self, context: Context) -> None:
        fd = path.open_in_root(context.root, self.destination)
        try:
            if path.location(fd, context.proc) == path.location(context.root, context.proc):
                raise Error("the root filesystem cannot be unmounted")
            try:  # a peer of a mount of the host's would take along what is mounted in that one
                mount.mount_setattr(fd, 0, 0, mount.MS_PRIVATE, recursive=True, about=self.destination)
            except OSError as error:
                if error.errno != EINVAL:
                    raise
                raise Error(f"{self.destination} is not a mount") from None
            posix.fchdir(context.proc)
            mount.umount(f"self/fd/{fd}", mount.MNT_DETACH)
        finally:
            posix.close(fd)


class Leave(Step):
    """The end of the process that has entered the container.

    Why: the process came to mount, and has done it.
    Without it: a process of the runtime would stay in the container.
    See: _exit(2).
    """

    phase = START

    def describe(self) -> str:
        return "end the process"

    def run(self, context: Context) -> None:
        assert context.engine is not None
        context.engine.ready()
        posix._exit(0)


def plan_add(spec: Spec, host: Host) -> Iterator[Step]:
    """The steps that add the entries of ``mounts``. Raises `ConfigError` for those that only `create` can make."""
    check(spec, host)
    sharing = root.propagation(spec, host)
    yield NoteHostGroups()
    yield OpenRoot()
    for index, entry in enumerate(spec.config.get("mounts") or ()):
        where = f"mounts[{index}]"
        options = parse(entry, where)
        fstype = entry.get("type") or ""
        destination = mount.normal(entry["destination"])
        places.check_plan(destination, fstype, options.bind, where)
        if options.remount or destination == "/":
            raise ConfigError("only create can do that", where=where)
        yield CheckPlace(destination=destination, where=where)
        if options.bind:
            yield from bind.plan_bind(spec, host, index, entry, options, sharing)
        else:
            yield from _plan_filesystem(entry, host, where)
    if sharing.joined:
        yield peers.JoinPeers()
    yield Leave()


def _plan_filesystem(entry: Mount, host: Host, where: str) -> Iterator[Step]:
    options = parse(entry, where)
    for step in filesystem.plan_filesystem(
        entry, options, host, where=where, label="", deferred=False, keep=False, of_others=False
    ):
        if entry.get("type") not in _FILESYSTEMS or isinstance(step, filesystem.MountFilesystemClassic):
            names = ", ".join(_FILESYSTEMS)
            raise ConfigError(f"a running container can get bind mounts, and new {names}", where=f"{where}.type")
        yield step


def plan_remove(spec: Spec, host: Host) -> Iterator[Step]:
    """The steps that unmount the destinations of the entries of ``mounts``, the last first."""
    check(spec, host)
    yield OpenRoot()
    for index, entry in reversed([*enumerate(spec.config.get("mounts") or ())]):
        yield Unmount(destination=mount.normal(entry["destination"]), where=f"mounts[{index}]")
    yield Leave()


def check(spec: Spec, host: Host) -> None:
    """Raise `ConfigError` unless the container's mounts can be changed at all."""
    assert spec.target is not None
    if "mount" not in spec.target.namespaces:
        raise ConfigError("the container has no mount namespace of its own", where="linux.namespaces")
    if host.kernel < filesystem.BY_DESCRIPTOR:
        raise ConfigError("mounts of a running container need Linux 5.12", where="mounts")


def _groups(mountinfo: bytes) -> dict[int, bytes]:
    """The peer group of each mount, as ``shared:N``; empty for one that is not shared."""
    found = {}
    for line in mountinfo.splitlines():
        fields = line.partition(b" - ")[0].split()
        found[int(fields[0])] = next((each for each in fields[6:] if each.startswith(b"shared:")), b"")
    return found
