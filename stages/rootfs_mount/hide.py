"""Masked and read-only paths, inside the new root (docs/protections.md).

Each path is resolved once, by the kernel, to a descriptor; what that descriptor is of decides how it is masked,
and it is what gets mounted on. Only a path that does not exist is passed over. Nothing can be mounted over the
root itself: it is made read-only in place, and cannot be masked.
"""

from __future__ import annotations

from _stat import S_ISCHR, S_ISDIR
from errno import ELOOP, ENOENT, ENOSPC, ENOTDIR

from gosudacon.api import CONFINE, MOUNT, ConfigError, Context, Error, Host, PlanWarning, Spec, Step
from gosudacon.base import posix
from gosudacon.linux import mount, path
from gosudacon.stages.rootfs_mount.filesystem import BY_DESCRIPTOR, Held

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_IS_THE_ROOT = "is the container's root, which cannot be masked"
_NULL = posix.makedev(1, 3)
_KEYS = ("readonlyPaths", "maskedPaths")
_OF_ONE_PROCESS = ("/proc/self/", "/proc/thread-self/")
_MAGIC = {"proc": mount.PROC_SUPER_MAGIC, "sysfs": mount.SYSFS_MAGIC}


class OpenNull(Step):
    """Copy the host's /dev/null while it is in reach: the container's may be anything (CVE-2025-31133).

    Why: what covers masked files must be the null device, and the one in the image may be anything.
    Without it: a prepared image could have a file of the host put over a masked path (CVE-2025-31133).
    See: open_tree(2); null(4).
    """

    phase = MOUNT

    def describe(self) -> str:
        return "clone the mount of the host's /dev/null, to mask files with"

    def run(self, context: Context) -> None:
        fd = mount.clone_tree(mount.AT_FDCWD, "/dev/null")
        check_null(fd, "/dev/null of the host")
        # It can be written to all the same, but is nothing that the container could give another owner or mode.
        attributes = mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NOEXEC
        mount.mount_setattr(fd, attributes, 0, mount.MS_PRIVATE)
        context.own(Held).null = fd


class _Path(Step):
    phase = CONFINE
    path: str
    magic: int  # the path must be on this kind of filesystem; 0: on any

    def open(self, context: Context) -> tuple[int, bool]:
        """The path's descriptor, or -1 if it does not exist, and whether it is the root itself."""
        root = self.path == "/" or ".." in self.path
        try:
            fd = path.open_in_root(context.root, self.path, posix.O_PATH, path.RESOLVE_NO_SYMLINKS)
        except OSError as error:
            if error.errno in (ENOENT, ENOTDIR):
                return -1, False
            if error.errno != ELOOP:
                raise
            fd, root = self._follow(context), True  # a link may lead to the root, too
        try:
            if fd >= 0 and self.magic and mount.filesystem_type(fd) != self.magic:
                raise Error(f"{self.path} is not on the filesystem mounted there")
            root = root and fd >= 0 and path.location(fd, context.proc) == path.location(context.root, context.proc)
        except BaseException:
            posix.close(fd)
            raise
        return fd, root

    def _follow(self, context: Context) -> int:
        try:
            return path.open_in_root(context.root, self.path)
        except OSError as error:
            if error.errno in (ENOENT, ENOTDIR):
                return -1
            raise


class MakeReadOnly(_Path):
    """Bind a path on itself, read-only with everything that is mounted below it.

    Why: some files in /proc steer the whole kernel, in every namespace.
    Without it: root in the container could change settings of the host, such as the program for core dumps.
    See: mount_setattr(2); proc_sys(5); runtime-spec config-linux.md, Readonly Paths.
    """

    def describe(self) -> str:
        return f"make {self.path} read-only"

    def run(self, context: Context) -> None:
        below, root = self.open(context)
        if below < 0:
            return
        try:
            if root:
                mount.mount_setattr(context.root, mount.MOUNT_ATTR_RDONLY, recursive=True, about=self.path)
                return
            fd = mount.clone_tree(below, recursive=True, about=self.path)
            try:
                mount.mount_setattr(fd, mount.MOUNT_ATTR_RDONLY, recursive=True)
                mount.move_mount(fd, below, about=self.path)
            finally:
                posix.close(fd)
        finally:
            posix.close(below)


class Mask(_Path):
    """Cover a file with the null device, a directory with an empty read-only tmpfs; all share these two.

    ``last``: close them.

    Why: some files in /proc and /sys tell of the host: its memory, keys, timers, firmware.
    Without it: processes in the container could read them.
    See: proc(5); runtime-spec config-linux.md, Masked Paths.
    """

    last: bool

    def describe(self) -> str:
        return f"mask {self.path}"

    def run(self, context: Context) -> None:
        below, root = self.open(context)
        if root:
            posix.close(below)
            raise Error(f"{self.path} {_IS_THE_ROOT}")
        if below >= 0:
            self._cover(context, below)
        if self.last:
            held = context.own(Held)
            for fd in {held.null, held.empty} - {-1}:
                posix.close(fd)
            held.null = held.empty = -1

    def _cover(self, context: Context, below: int) -> None:
        try:
            directory = S_ISDIR(posix.fstat(below).st_mode)
            held = context.own(Held)
            if directory and held.empty < 0:
                held.empty = empty_tmpfs()
            cover = held.empty if directory else held.null
            if cover not in held.attached:  # the first takes the thing itself: once attached, it can be copied
                held.attached.add(cover)
                mount.move_mount(cover, below, about=self.path)
                return
            fd = mount.clone_tree(cover)
            try:
                mount.move_mount(fd, below, about=self.path)
            finally:
                posix.close(fd)
        finally:
            posix.close(below)


def check_null(fd: int, what: str) -> None:
    """Raise `Error` unless ``fd`` is of the null device."""
    status = posix.fstat(fd)
    if not S_ISCHR(status.st_mode) or status.st_rdev != _NULL:
        raise Error(f"{what} is not the null device (character device 1:3)")


def empty_tmpfs() -> int:
    """A detached read-only tmpfs without room for anything."""
    attributes = mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NODEV | mount.MOUNT_ATTR_NOEXEC
    options: dict[str, str | None] = {"ro": None, "nr_blocks": "1"}
    for inodes in ("1", "2"):  # some kernels need a second one to mount at all
        try:
            return mount.new_filesystem("tmpfs", options | {"nr_inodes": inodes}, attributes, "tmpfs")
        except OSError as error:
            if error.errno != ENOSPC or inodes == "2":
                raise
    raise AssertionError("unreachable")


def plan_hidden(spec: Spec, host: Host) -> Iterator[Step]:
    """The steps for linux.readonlyPaths and linux.maskedPaths.

    Raises `ConfigError` without a mount namespace, and for a path that would mask the root.
    """
    readonly = list(_each(spec.linux.get("readonlyPaths") or [], f"linux.{_KEYS[0]}"))
    masked = list(_each(spec.linux.get("maskedPaths") or [], f"linux.{_KEYS[1]}"))
    if not readonly and not masked:
        return
    if "mount" not in spec.namespaces():
        where = f"linux.{_KEYS[0] if readonly else _KEYS[1]}"
        raise ConfigError("unable to restrict sys entries without a private MNT namespace", where=where)
    for name, where in masked:
        if name == "/":
            raise ConfigError(f"/ {_IS_THE_ROOT}", where=where)
    if host.kernel < BY_DESCRIPTOR:
        from gosudacon.stages.rootfs_mount import hide_classic

        kinds: tuple[type[MakeReadOnly], type[Mask]] = hide_classic.MakeReadOnlyClassic, hide_classic.MaskClassic
    else:
        kinds = MakeReadOnly, Mask
    if masked and host.kernel >= BY_DESCRIPTOR:
        yield OpenNull(where="linux.maskedPaths")
    mounted = _mounted(spec)
    for name, where in readonly + masked:
        if f"{name}/".startswith(_OF_ONE_PROCESS):
            yield PlanWarning(message=f"{name} is the first process's only, others have their own", where=where)
    for name, where in readonly:
        yield kinds[0](path=name, magic=_magic(name, mounted), where=where)
    for name, where in masked:
        yield kinds[1](path=name, magic=_magic(name, mounted), last=where == masked[-1][1], where=where)


def _each(paths: Iterable[str], where: str) -> Iterator[tuple[str, str]]:
    """Every path once, without what means nothing in it (``//``, ``/./``, a slash at the end), and its place.

    A relative one is taken from the container's root; an empty one is none.
    """
    seen = set()
    for index, written in enumerate(paths):
        name = mount.normal(written)
        if written and name not in seen:
            seen.add(name)
            yield name, f"{where}[{index}]"


def _mounted(spec: Spec) -> dict[str, str]:
    """Destination -> filesystem type of everything mounted that no later mount covers."""
    mounted: dict[str, str] = {}
    for entry in spec.config.get("mounts") or ():
        destination = mount.normal(entry["destination"])
        for other in [each for each in mounted if each.startswith(f"{destination}/")]:
            del mounted[other]
        mounted[destination] = entry.get("type") or ""
    return mounted


def _magic(name: str, mounted: dict[str, str]) -> int:
    """A path on a procfs or a sysfs of the plan's must be found there, and nowhere a link may lead instead."""
    name = posix.path.normpath(name)
    holder = max((each for each in mounted if f"{name}/".startswith(f"{each}/")), key=len, default="")
    return _MAGIC.get(mounted.get(holder, ""), 0)
