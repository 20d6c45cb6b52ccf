"""The root filesystem as a mount of the container's own, isolated from mount propagation of the host."""

from __future__ import annotations

from errno import EINVAL

from gosudacon.api import CONFINE, MOUNT, ConfigError, Context, Host, Spec, Step
from gosudacon.base import posix
from gosudacon.linux import mount, path
from gosudacon.stages.rootfs_mount.filesystem import BY_DESCRIPTOR, Held
from gosudacon.stages.rootfs_mount.options import PROPAGATION, PROPAGATION_NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_SHARED = ("shared", "rshared")


class SetPropagation(Step):
    """Stop mounts of the container's namespace from reaching the host's."""

    phase = MOUNT
    where = "linux.rootfsPropagation"
    flags: int

    def describe(self) -> str:
        return f"make / {PROPAGATION_NAMES[self.flags]}"

    def run(self, context: Context) -> None:
        mount.set_propagation("/", self.flags)


class MakeParentPrivate(Step):
    """The mount that holds the root filesystem must not be shared, or what follows would show up on the host."""

    phase = MOUNT
    where = "root.path"
    path: str

    def describe(self) -> str:
        return f"make the mount that holds {self.path} private"

    def run(self, context: Context) -> None:
        place = self.path
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
    """Mount the root filesystem on itself: pivot_root(2) needs a mount, and its flags belong to the container."""

    phase = MOUNT
    where = "root.path"
    path: str

    def describe(self) -> str:
        return f"bind the root filesystem {self.path} on itself"

    def run(self, context: Context) -> None:
        below = posix.open(self.path, posix.O_PATH | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC)
        try:
            fd = mount.clone_tree(below, recursive=True, about=self.path)
            mount.move_mount(fd, below, about=self.path)
        finally:
            posix.close(below)
        _replace_root(context, fd)


class BindRootClassic(BindRoot):
    """The same with mount(2)."""

    def describe(self) -> str:
        return f"{super().describe()} [mount(2)]"

    def run(self, context: Context) -> None:
        mount.mount(self.path, self.path, None, mount.MS_BIND | mount.MS_REC)
        flags = posix.O_PATH | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
        _replace_root(context, posix.open(self.path, flags))


def _replace_root(context: Context, fd: int) -> None:
    if context.root >= 0:
        posix.close(context.root)
    context.root = fd


class RemountReadOnly(Step):
    """A mount that had to be writable until now (``ro`` on a tmpfs or on /dev)."""

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
    """The root filesystem, once nothing has to be written into it any more."""

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


def propagation(spec: Spec, host: Host) -> tuple[int, list[int]]:
    """What becomes of ``/`` before anything is mounted, and what every bind mount gets first.

    Whatever is not to be shared is cut off whole: rslave if mounts of the host are to come in, else
    rprivate. Copies of shared mounts stay shared only if the configuration shares the root, as with runc; for
    that the namespace itself must be shared only where mount(2) makes the copies inside it.
    """
    word = spec.linux.get("rootfsPropagation") or "rslave"
    no_pivot = spec.options.no_pivot
    if word not in PROPAGATION:
        raise ConfigError(f"unknown propagation {word!r}", where="linux.rootfsPropagation")
    if no_pivot and word in ("private", "rprivate"):
        text = "rootfsPropagation of [r]private is not safe without pivot_root"
        raise ConfigError(text, where="linux.rootfsPropagation")
    if word in _SHARED:
        inside = host.kernel < BY_DESCRIPTOR and not no_pivot
        return PROPAGATION[word] if inside else mount.MS_SLAVE | mount.MS_REC, []
    kind = mount.MS_SLAVE if word in ("slave", "rslave") else mount.MS_PRIVATE
    return kind | mount.MS_REC, [kind | mount.MS_REC]


def plan_root(spec: Spec, host: Host, flags: int) -> Iterator[Step]:
    """The steps before the first mount."""
    yield SetPropagation(flags=flags)
    if flags & mount.MS_SHARED:
        yield MakeParentPrivate(path=spec.rootfs)
    yield (BindRoot if host.kernel >= BY_DESCRIPTOR else BindRootClassic)(path=spec.rootfs)
