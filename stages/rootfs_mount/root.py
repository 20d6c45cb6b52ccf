"""The root filesystem as a mount of the container's own, isolated from mount propagation of the host."""

from __future__ import annotations

from errno import EINVAL

from gosudacon.api import CONFINE, MOUNT, ConfigError, Context, Host, Spec, Step
from gosudacon.base import posix
from gosudacon.linux import mount, path
from gosudacon.stages.rootfs_mount.filesystem import BY_DESCRIPTOR, Held, become_root
from gosudacon.stages.rootfs_mount.options import PROPAGATION, PROPAGATION_NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_SHARED = ("shared", "rshared")
JOINS_GROUPS = (5, 15)  # MOVE_MOUNT_SET_GROUP; before, bind mounts are peers from the start, as with other runtimes


class SetPropagation(Step):
    """Stop mounts of the container's namespace from reaching the host's.

    Why: a new mount namespace is a copy whose mounts still are peers of the host's.
    Without it: every mount of the container would appear on the host as well.
    See: mount_namespaces(7); runtime-spec config-linux.md, Rootfs Mount Propagation.
    """

    phase = MOUNT
    where = "linux.rootfsPropagation"
    flags: int

    def describe(self) -> str:
        return f"make / {PROPAGATION_NAMES[self.flags]}"

    def run(self, context: Context) -> None:
        mount.set_propagation("/", self.flags)


class MakeParentPrivate(Step):
    """The mount that holds the root filesystem must not be shared, or what follows would show up on the host.

    Why: pivot_root(2) refuses a root below a shared mount, since others would see it move.
    Without it: mounts of the container would show up on the host.
    See: pivot_root(2); mount_namespaces(7).
    """

    phase = MOUNT
    where = "root.path"
    path: str

    def describe(self) -> str:
        return f"make the mount that holds {self.path} private"

    def run(self, context: Context) -> None:
        _make_holder_private(self.path)


def _make_holder_private(place: str) -> None:
    while True:
        try:
            mount.set_propagation(place, mount.MS_PRIVATE)
        except OSError as error:
            if error.errno != EINVAL or place == "/":  # EINVAL: no mount point, so it is further up
                raise
            place = posix.path.dirname(place)
        else:
            return


class BindRoot(Step):
    """Mount the root filesystem on itself: pivot_root(2) needs a mount, and its flags belong to the container.

    ``private``: what the host mounts below the directory later stays out.

    Why: pivot_root(2) takes a mount, and the flags of the container's root are not the host's.
    Without it: the image's directory could not become the root.
    See: pivot_root(2); mount_setattr(2); runtime-spec config.md, Root.
    """

    phase = MOUNT
    where = "root.path"
    path: str
    private: bool

    def describe(self) -> str:
        return f"bind the root filesystem {self.path} on itself" + ", private" * self.private

    def run(self, context: Context) -> None:
        below = posix.open(self.path, posix.O_PATH | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC)
        try:
            fd = self._clone(below)
            if self.private:
                mount.mount_setattr(fd, 0, 0, mount.MS_PRIVATE)
            mount.move_mount(fd, below, about=self.path)
        finally:
            posix.close(below)
        become_root(context, fd)

    def _clone(self, below: int) -> int:
        try:
            return mount.clone_tree(below, recursive=True, about=self.path)
        except OSError as error:
            if error.errno != EINVAL:
                raise
        _make_holder_private(self.path)  # it is unbindable
        return mount.clone_tree(below, recursive=True, about=self.path)


class BindRootClassic(BindRoot):
    """The same with mount(2).

    Why: pivot_root(2) takes a mount, and kernels before 5.12 have mount(2) only.
    Without it: the image's directory could not become the root.
    See: pivot_root(2); mount(2), MS_BIND; runtime-spec config.md, Root.
    """

    def describe(self) -> str:
        return f"{super().describe()} [mount(2)]"

    def run(self, context: Context) -> None:
        try:
            self._bind()
        except OSError as error:
            if error.errno != EINVAL:
                raise
            _make_holder_private(self.path)  # it is unbindable
            self._bind()
        flags = posix.O_PATH | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
        become_root(context, posix.open(self.path, flags))
        if self.private:
            mount.set_propagation(self.path, mount.MS_PRIVATE)

    def _bind(self) -> None:
        mount.mount(self.path, self.path, None, mount.MS_BIND | mount.MS_REC)


class RemountReadOnly(Step):
    """A mount that had to be writable until now (``ro`` on a tmpfs or on /dev).

    Why: the mount was writable for the runtime to fill it.
    Without it: the container could write to what config.json calls read-only.
    See: mount_setattr(2); runtime-spec config.md, Mounts.
    """

    phase = CONFINE
    destination: str

    def describe(self) -> str:
        return f"make {self.destination} read-only"

    def run(self, context: Context) -> None:
        fd = context.own(Held).mounts.pop(self.where)
        try:
            _make_readonly(context, fd, self.destination)
        finally:
            posix.close(fd)


class RemountRootReadOnly(Step):
    """The root filesystem, once nothing has to be written into it any more.

    Why: an image that cannot be written to is the same at every start.
    Without it: the container could change its own programs.
    See: mount_setattr(2); runtime-spec config.md, Root.
    """

    phase = CONFINE
    where = "root.readonly"

    def describe(self) -> str:
        return "make the root filesystem read-only"

    def run(self, context: Context) -> None:
        _make_readonly(context, context.root, "/")


def _make_readonly(context: Context, fd: int, about: str) -> None:
    if context.host.kernel >= BY_DESCRIPTOR:
        mount.mount_setattr(fd, mount.MOUNT_ATTR_RDONLY, about=about)
        return
    flags = mount.mount_flags(fd) & 0x0F | mount.MS_BIND | mount.MS_REMOUNT | mount.MS_RDONLY
    place = path.open_in_root(context.root, about)
    try:  # by a path of the container's: only its own /proc, or none, is there any more
        posix.fchdir(place)
        mount.mount(None, ".", None, flags, about=about)
    finally:
        posix.close(place)
        posix.chdir("/")


class Sharing:
    """What ``linux.rootfsPropagation`` means for the mounts to come.

    ``flags`` become those of ``/`` before anything is mounted. ``root``: the mount that is the root keeps what it then
    has from the host. ``joins``: bind mounts become peers of their sources in the end (`peers`). ``some``: a mount
    so far may be shared. ``own``: the mount namespace is not the host's. ``joined``: some bind mount joins.
    """

    joined = False

    def __init__(self, flags: int, base: list[int], root: bool, joins: bool = False, own: bool = True) -> None:
        self.flags = flags
        self.own = own
        self.root = root
        self.joins = joins
        self.some = False
        self._base = base

    def of_bind(self, destination: str) -> list[int]:
        """What a bind mount gets first of all."""
        return self._base if self.root or destination != "/" else [*self._base, mount.MS_PRIVATE]

    def note(self, kinds: list[int]) -> None:
        """A mount with these changes has been planned."""
        self.some = self.some or not self._base or any(flags & mount.MS_SHARED for flags in kinds)


def propagation(spec: Spec, host: Host) -> Sharing:
    """How far mounts reach, of the host into the container and the other way round.

    Whatever is not to be shared is cut off whole: rslave if mounts of the host are to come in, else
    rprivate. Copies of shared mounts stay shared only if the configuration shares the root, as with runc, and no
    user namespace is between them, across which the kernel lets nothing out. For that, the namespace itself must be
    shared only where mount(2) makes the copies inside it.
    """
    word = spec.linux.get("rootfsPropagation") or "rslave"
    no_pivot = spec.options.no_pivot
    if word not in PROPAGATION:
        raise ConfigError(f"unknown propagation {word!r}", where="linux.rootfsPropagation")
    if no_pivot and word in ("private", "rprivate"):
        text = "rootfsPropagation of [r]private is not safe without pivot_root"
        raise ConfigError(text, where="linux.rootfsPropagation")
    slave = mount.MS_SLAVE | mount.MS_REC
    own = "mount" in spec.namespaces()
    if word not in _SHARED:
        kind = (mount.MS_SLAVE if word in ("slave", "rslave") else mount.MS_PRIVATE) | mount.MS_REC
        return Sharing(kind, [kind], root=False, own=own)
    if "user" in spec.namespaces():
        return Sharing(slave, [slave], root=True, own=own)
    inside = host.kernel < BY_DESCRIPTOR and not no_pivot
    joins = host.kernel >= JOINS_GROUPS and not host.euid
    return Sharing(PROPAGATION[word] if inside else slave, [], root=True, joins=joins, own=own)


def plan_root(spec: Spec, host: Host, sharing: Sharing) -> Iterator[Step]:
    """The steps before the first mount."""
    yield SetPropagation(flags=sharing.flags)
    if sharing.flags & mount.MS_SHARED:
        yield MakeParentPrivate(path=spec.rootfs)
    yield (BindRoot if host.kernel >= BY_DESCRIPTOR else BindRootClassic)(path=spec.rootfs, private=not sharing.root)
