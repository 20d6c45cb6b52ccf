"""Bind mounts.

The source is a path of the host, so the runtime opens it: as a detached copy (open_tree(2)) that gets its
propagation, flags and id mapping at once, while nothing can see it, and that init attaches with one
move_mount(2). That needs no more calls than binding inside the container does, works where the container's
root cannot reach the source (user namespaces), and nothing mounted in the container before can redirect it.
A caller without privilege cannot copy mounts of its own namespace: there init does both. mount(2) serves
kernels before 5.12.
"""

from __future__ import annotations

from _stat import S_ISDIR
from errno import EINVAL, ENOTDIR, EPERM

from gosudacon.api import PREPARE, ConfigError, Context, Error, Host, Spec, Step
from gosudacon.base import posix
from gosudacon.base.errors import SyscallError
from gosudacon.linux import mount
from gosudacon.stages.rootfs_mount import destination as places
from gosudacon.stages.rootfs_mount.filesystem import BY_DESCRIPTOR, Held, MountStep
from gosudacon.stages.rootfs_mount.options import Options, attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypedDict

    from gosudacon.schema.types import Mount
    from gosudacon.stages.rootfs_mount.filesystem import Fields

    class _CopyFields(TypedDict):
        """The fields that `_BindStep` adds to those of `MountStep`."""

        index: int
        recursive: bool
        propagation: list[int]
        set: int
        clear: int
        named: int
        tree: list[int]
        idmap: str
        idmap_tree: bool


_LOCKABLE = 0x0F | mount.MOUNT_ATTR_NODIRATIME | mount.MOUNT_ATTR_NOSYMFOLLOW
_ST = {0x400: mount.MS_NOATIME, 0x800: mount.MS_NODIRATIME, 0x2000: mount.MS_NOSYMFOLLOW}  # statfs(2) -> MS_*
_ST_RELATIME = 0x1000


class _BindStep(MountStep):
    index: int
    recursive: bool  # the mounts below the source come along
    propagation: list[int]
    set: int
    clear: int
    named: int  # what of `clear` the words name; the rest goes only where the kernel lets it go
    tree: list[int]  # attributes to set and to clear on the whole tree
    idmap: str
    idmap_tree: bool

    def subject(self) -> str:
        return self.source

    def copy(self, context: Context) -> int:
        """A detached copy of the source with everything set that is asked for."""
        fd = mount.clone_tree(mount.AT_FDCWD, self.source, self.recursive)
        try:
            self._set(fd)
            if self.idmap:
                userns = context.own(Held).idmaps[self.idmap]
                mount.mount_setattr(
                    fd, mount.MOUNT_ATTR_IDMAP, userns_fd=userns, recursive=self.idmap_tree, about=self.source
                )
        except BaseException:
            posix.close(fd)
            raise
        return fd

    def _set(self, fd: int) -> None:
        kinds = list(self.propagation)
        with_flags = kinds.pop() if kinds and not kinds[-1] & mount.MS_REC else 0  # one call for both
        for kind in kinds:
            mount.mount_setattr(fd, 0, 0, kind & ~mount.MS_REC, recursive=bool(kind & mount.MS_REC))
        if self.set or self.clear or with_flags:
            self._set_flags(fd, with_flags)
        if self.tree[0] or self.tree[1]:
            mount.mount_setattr(fd, self.tree[0], self.tree[1], recursive=True)

    def _set_flags(self, fd: int, propagation: int) -> None:
        try:
            mount.mount_setattr(fd, self.set, self.clear, propagation)
        except OSError as error:
            if error.errno != EPERM:
                raise
            # Some flag of the source is locked by a more privileged namespace: keep those it has.
            mount.mount_setattr(fd, *locked(self.set, self.named, mount.mount_flags(fd)), propagation)


class OpenSource(_BindStep):
    """Copy the source of a bind mount, on the runtime's side."""

    phase = PREPARE

    def describe(self) -> str:
        return f"clone the mount of {self.source} for {self.destination}, with its options"

    def mount(self, context: Context) -> None:
        context.own(Held).sources[self.index] = self.copy(context)


class Bind(MountStep):
    """Attach the copy that `OpenSource` made: move_mount(2).

    ``again``: changes of propagation to repeat, because the place may be below a shared mount, which makes
    what is attached there shared too.
    """

    index: int
    again: list[int]

    def subject(self) -> str:
        return self.source

    def mount(self, context: Context) -> None:
        self.attach(context, context.own(Held).sources.pop(self.index))

    def attach(self, context: Context, fd: int) -> None:
        """Attach a detached copy, which is closed."""
        try:
            if S_ISDIR(posix.fstat(fd).st_mode):
                below, _ = places.open_directory(context, self.destination, "", fd)
            else:
                below = places.open_file(context, self.destination, fd)
            try:
                mount.move_mount(fd, below)
            except OSError as error:
                if error.errno == EINVAL and S_ISDIR(posix.fstat(below).st_mode):
                    raise SyscallError(ENOTDIR, "move_mount", self.source) from None  # what mount(2) says
                raise
            finally:
                posix.close(below)
            for kind in self.again:
                mount.mount_setattr(fd, 0, 0, kind & ~mount.MS_REC, recursive=bool(kind & mount.MS_REC))
        finally:
            posix.close(fd)


class BindHere(_BindStep, Bind):
    """Copy and attach, both in the container's process: for callers without privilege."""

    how = " [in the container]"

    def mount(self, context: Context) -> None:
        self.attach(context, self.copy(context))


class BindClassic(_BindStep):
    """mount(2) with MS_BIND onto /proc/self/fd/N, then MS_REMOUNT for the flags."""

    how = " [mount(2)]"
    flags: int

    def mount(self, context: Context) -> None:
        source = posix.open(self.source, posix.O_PATH | posix.O_CLOEXEC)
        try:
            if S_ISDIR(posix.fstat(source).st_mode):
                below, _ = places.open_directory(context, self.destination, "", source)
            else:
                below = places.open_file(context, self.destination, source)
        finally:
            posix.close(source)
        try:
            how = mount.MS_BIND | (mount.MS_REC if self.recursive else 0)
            mount.mount(self.source, f"/proc/self/fd/{below}", None, how, about=self.source)
            if self.set or self.clear or self.propagation:
                fd = places.reopen(context, self.destination, below)
                try:
                    self._change(fd)
                finally:
                    posix.close(fd)
        finally:
            posix.close(below)

    def _change(self, fd: int) -> None:
        target = f"/proc/self/fd/{fd}"
        if self.set or self.clear:
            try:
                self._remount(target, self.flags)
            except OSError as error:
                if error.errno != EPERM:
                    raise
                held = mount.mount_flags(fd)
                locked(self.set, self.named, held)
                self._remount(target, self.flags | _as_flags(held))
        for kind in self.propagation:
            mount.set_propagation(target, kind, about=self.destination)

    def _remount(self, target: str, flags: int) -> None:
        mount.mount(None, target, None, mount.MS_BIND | mount.MS_REMOUNT | flags, about=self.destination)


class Remount(MountStep):
    """Change the flags of a mount that is there already (options ``bind,remount``)."""

    how = " [remount]"
    flags: int

    def mount(self, context: Context) -> None:
        fd = places.open_existing(context, self.destination)
        try:
            flags = mount.MS_BIND | mount.MS_REMOUNT | self.flags
            mount.mount(None, f"/proc/self/fd/{fd}", None, flags, about=self.destination)
        finally:
            posix.close(fd)


def locked(set_: int, named: int, held: int) -> tuple[int, int]:
    """What to set and clear where flags of the source cannot be cleared: add to them only.

    ``held``: its flags ST_*. Raises `Error` if the words ask for just that (``named``).
    """
    has = attributes(_as_flags(held))
    if has & named & _LOCKABLE:
        raise Error("the options clear a flag that the source is locked to have", errno=EPERM)
    if named & mount.MOUNT_ATTR__ATIME and has & mount.MOUNT_ATTR__ATIME != set_ & mount.MOUNT_ATTR__ATIME:
        raise Error("the options ask for another kind of atime than the source is locked to", errno=EPERM)
    return set_ & ~mount.MOUNT_ATTR__ATIME, 0


def _as_flags(held: int) -> int:
    flags = held & 0x0F
    for st, ms in _ST.items():
        if held & st:
            flags |= ms
    if not held & (0x400 | _ST_RELATIME):
        flags |= mount.MS_STRICTATIME
    return flags


def plan_bind(
    spec: Spec, host: Host, index: int, entry: Mount, options: Options, base: list[int], shared: bool
) -> Iterator[Step]:
    """The steps for a bind mount.

    ``base``: propagation that every copy gets first; ``shared``: some mount so far may be shared.
    Raises `ConfigError` for options that only a filesystem could take.
    """
    where = f"mounts[{index}]"
    if options.data:
        text = "bind mounts cannot have any filesystem-specific options applied"
        raise ConfigError(f"{text}: {','.join(options.data)}", where=f"{where}.options")
    destination = mount.normal(entry["destination"])
    common: Fields = {
        "destination": destination,
        "source": "" if options.remount else _source(spec, entry, where),
        "fstype": "bind",
        "words": options.words,
        "where": where,
    }
    if options.remount:
        flags = options.flags & ~(mount.MS_BIND | mount.MS_REC | mount.MS_REMOUNT)
        yield Remount(flags=flags, **common)
        return
    recursive = bool(options.flags & mount.MS_REC)
    set_, clear, named = options.bind_attributes(replace="user" not in spec.namespaces())
    copy: _CopyFields = {
        "index": index,
        "recursive": recursive,
        "propagation": reduce(base + options.propagation, recursive),
        "set": set_,
        "clear": clear,
        "named": named,
        "tree": options.recursive,
        "idmap": "",
        "idmap_tree": options.idmap == "ridmap",
    }
    if options.idmap or entry.get("uidMappings") or entry.get("gidMappings"):
        from gosudacon.stages.rootfs_mount import idmap

        step = idmap.plan_idmap(spec, host, entry, options, where)
        copy["idmap"] = step.key
        yield step
    again = reduce(options.propagation, recursive) if shared else []
    yield from _steps(host, options, common, copy, again)


def _steps(host: Host, options: Options, common: Fields, copy: _CopyFields, again: list[int]) -> Iterator[Step]:
    kinds = _kinds(options)
    if host.kernel < BY_DESCRIPTOR:
        if any(options.recursive):
            text = "recursive mount options need Linux 5.12"
            raise ConfigError(text, where=f"{common['where']}.options")
        flags = options.flags & ~(mount.MS_BIND | mount.MS_REC)
        yield kinds[0](flags=flags, **common, **copy)
    elif host.euid:
        yield kinds[1](again=again, **common, **copy)
    else:
        yield kinds[2](**common, **copy)
        yield kinds[3](index=copy["index"], again=again, **common)


def _kinds(options: Options) -> tuple[type[BindClassic], type[BindHere], type[OpenSource], type[Bind]]:
    if not options.copy_link:
        return BindClassic, BindHere, OpenSource, Bind
    from gosudacon.stages.rootfs_mount import symlink

    return symlink.BindClassicOrLink, symlink.BindHereOrLink, symlink.OpenSourceOrLink, symlink.BindOrLink


def reduce(kinds: list[int], recursive: bool) -> list[int]:
    """Changes of propagation without those that later ones make void; only for the top where there is no tree."""
    result: list[int] = []
    for flags in kinds:
        flags = flags if recursive else flags & ~mount.MS_REC
        kind, deep = flags & ~mount.MS_REC, flags & mount.MS_REC
        if kind == mount.MS_SLAVE and result and result[-1] in (mount.MS_SLAVE | deep, mount.MS_SLAVE | mount.MS_REC):
            continue
        if kind in (mount.MS_PRIVATE, mount.MS_UNBINDABLE):  # from whatever it was
            while result and (deep or not result[-1] & mount.MS_REC):
                result.pop()
        result.append(flags)
    return result


def _source(spec: Spec, entry: Mount, where: str) -> str:
    source = entry.get("source")
    if not source:
        raise ConfigError("a bind mount needs a source", where=f"{where}.source")
    return str(source) if source.startswith("/") else f"{spec.bundle}/{source}"
