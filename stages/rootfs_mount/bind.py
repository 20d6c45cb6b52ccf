"""Bind mounts.

The source is a path of the host, so the runtime opens it: as a detached copy (open_tree(2)) that gets its
propagation, flags and id mapping at once, while nothing can see it, and that init attaches with one
move_mount(2). That needs no more calls than binding inside the container does, works where the container's
root cannot reach the source (user namespaces), and nothing mounted in the container before can redirect it.
Three kinds of sources are copied by init: those inside the container's root, which are to show what earlier mounts
have put there, those in a user namespace, as far as its root can reach them, so that the kernel locks their flags, and
all of a caller without privilege, who cannot copy mounts of its own namespace. mount(2) serves kernels before 5.12.
"""

from __future__ import annotations

from _stat import S_ISDIR
from errno import EACCES, EINVAL, ENOENT, ENOTDIR, EPERM

from gosudacon.api import PREPARE, ConfigError, Context, Host, Spec, Step
from gosudacon.base import posix
from gosudacon.base.errors import SyscallError
from gosudacon.linux import mount, path
from gosudacon.stages.rootfs_mount import destination as places
from gosudacon.stages.rootfs_mount import tree
from gosudacon.stages.rootfs_mount.filesystem import BY_DESCRIPTOR, Held, MountStep, become_root
from gosudacon.stages.rootfs_mount.options import DEST_NOFOLLOW, SRC_NOFOLLOW, Options, attributes
from gosudacon.stages.rootfs_mount.root import Sharing

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
        joins: bool
        set: int
        clear: int
        named: int
        atime: int
        tree: list[int]
        locked: bool
        inside: str
        idmap: str
        idmap_tree: bool


#: Why the container's root may not copy what the runtime can: it may not go there, or mounts below are locked.
_UNREACHABLE = (EACCES, EINVAL, ENOENT, ENOTDIR)


class _BindStep(MountStep):
    index: int
    recursive: bool  # the mounts below the source come along
    propagation: list[int]
    joins: bool  # a peer of the source's, but not before all is mounted: `peers`
    set: int
    clear: int
    named: int  # what of `clear` the words name; the rest goes only where the kernel lets it go
    atime: int  # kinds of atime that go where the source has them
    tree: list[int]  # attributes to set, to clear, and kinds of atime to take away, on the whole tree
    locked: bool  # what the host has set on the source must stay, also in copies
    inside: str  # the source as a path inside the container's root; empty: it is not there
    idmap: str
    idmap_tree: bool

    def subject(self) -> str:
        return self.source

    def copy(self, context: Context) -> int:
        """A detached copy of the source with everything set that is asked for."""
        place = self.open_source(context) if self._needs_place() else -1
        try:
            fd = self._clone(place)
            try:
                if self.joins:
                    self._keep_group(context, fd, self._clone(place))
                self._set(context, fd, place)
                if self.idmap:
                    userns = context.own(Held).idmaps[self.idmap]
                    mount.mount_setattr(
                        fd, mount.MOUNT_ATTR_IDMAP, userns_fd=userns, recursive=self.idmap_tree, about=self.source
                    )
            except BaseException:
                posix.close(fd)
                raise
            return fd
        finally:
            if place >= 0:
                posix.close(place)

    def open_source(self, context: Context) -> int:
        """What is at the source, as this side sees it; a link itself if it is not to be followed."""
        flags = posix.O_PATH | posix.O_CLOEXEC | (posix.O_NOFOLLOW if SRC_NOFOLLOW in self.words else 0)
        if self.inside:
            return path.open_in_root(context.root, self.inside, flags)
        return posix.open(self.source, flags)

    def _needs_place(self) -> bool:
        looks = self.locked and (self.tree[1] or self.tree[2])
        return bool(self.inside or looks or SRC_NOFOLLOW in self.words)

    def _clone(self, place: int) -> int:
        if place < 0:
            return mount.clone_tree(mount.AT_FDCWD, self.source, self.recursive)
        return mount.clone_tree(place, recursive=self.recursive, about=self.source)

    def _keep_group(self, context: Context, fd: int, group: int) -> None:
        context.own(Held).groups[self.index] = group
        for kind in self.propagation:
            mount.mount_setattr(group, 0, 0, kind & ~mount.MS_REC, recursive=bool(kind & mount.MS_REC))
        mount.mount_setattr(fd, 0, 0, mount.MS_PRIVATE, recursive=self.recursive)

    def _set(self, context: Context, fd: int, place: int) -> None:
        kinds = [] if self.joins else list(self.propagation)
        with_flags = kinds.pop() if kinds and not kinds[-1] & mount.MS_REC else 0  # one call for both
        for kind in kinds:
            mount.mount_setattr(fd, 0, 0, kind & ~mount.MS_REC, recursive=bool(kind & mount.MS_REC))
        if self.set or self.clear or self.atime or with_flags:
            self._set_flags(fd, with_flags)
        if any(self.tree):
            tree.change(context, fd, place, self.tree, self.locked)

    def _set_flags(self, fd: int, propagation: int) -> None:
        has = tree.held(fd) if self.atime or (self.named and self.locked) else 0
        lost = tree.lose_atime(has, self.atime)
        if self.locked:
            tree.check(has, self.set, self.named | lost)
        try:
            mount.mount_setattr(fd, self.set, self.clear | lost, propagation)
        except OSError as error:
            if error.errno != EPERM:
                raise
            # Some flag of the source is locked by a more privileged namespace: keep those it has.
            set_, clear = tree.keep(tree.held(fd), self.set, self.named | lost)
            mount.mount_setattr(fd, set_, clear, propagation)


class OpenSource(_BindStep):
    """Copy the source of a bind mount, on the runtime's side.

    Why: the path is the host's, and the process that mounts it may not see the host any more.
    Without it: sources could be swapped, or not be in reach.
    See: open_tree(2); runtime-spec config.md, Mounts.
    """

    phase = PREPARE

    def describe(self) -> str:
        return f"clone the mount of {self.source} for {self.destination}, with its options"

    def mount(self, context: Context) -> None:
        context.own(Held).sources[self.index] = self.copy(context)


class Bind(MountStep):
    """Attach the copy that `OpenSource` made: move_mount(2).

    ``again``: changes of propagation to repeat, because the place may be below a shared mount, which makes
    what is attached there shared too.

    Why: a directory or file of the host appears in the container: data, sockets, configuration.
    Without it: the container would have nothing but its image, and nothing that outlives it.
    See: mount(2), MS_BIND; mount_setattr(2); runtime-spec config.md, Mounts.
    """

    index: int
    again: list[int]
    atime_tree: int  # kinds of atime to take away on the whole tree

    def subject(self) -> str:
        return self.source

    def mount(self, context: Context) -> None:
        self.attach(context, context.own(Held).sources.pop(self.index))

    def attach(self, context: Context, fd: int) -> None:
        """Attach a detached copy, which is closed."""
        try:
            below = _open_place(context, self, fd)
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
            if self.atime_tree:
                tree.take_atime(context, fd, self.atime_tree)
            group = context.own(Held).groups.pop(self.index, -1)
            if group >= 0:
                from gosudacon.stages.rootfs_mount import peers

                peers.remember(context, fd, group)
            if self.destination == "/":
                become_root(context, posix.dup(fd))
        finally:
            posix.close(fd)


class BindHere(_BindStep, Bind):
    """Copy and attach, both in the container's process.

    For callers without privilege, and for sources inside the container's root.

    Why: a caller without privilege may copy mounts only in its own user namespace, and some sources are in the image.
    Without it: such bind mounts would fail.
    See: open_tree(2); move_mount(2); runtime-spec config.md, Mounts.
    """

    how = " [in the container]"

    def subject(self) -> str:
        return f"{self.inside} of the container" if self.inside else self.source

    def mount(self, context: Context) -> None:
        self.attach(context, self.copy(context))


class BindLocked(BindHere):
    """As `BindHere`, or the runtime's copy where the container's root cannot reach the source.

    In a copy that is made in the user namespace, the kernel locks the flags that the source has: the container cannot
    take them away later either.

    Why: a copy that is made in the container's user namespace keeps the host's flags locked.
    Without it: root in the container could take away nosuid or read-only, which the host has set.
    See: mount_namespaces(7); open_tree(2); runtime-spec config.md, Mounts.
    """

    how = " [in the container, if it can reach that]"

    def mount(self, context: Context) -> None:
        spare = context.own(Held).sources.pop(self.index)
        try:
            fd = self.copy(context)
        except OSError as error:
            if error.errno not in _UNREACHABLE:
                posix.close(spare)
                raise
            fd = spare
        except BaseException:
            posix.close(spare)
            raise
        else:
            posix.close(spare)
        self.attach(context, fd)


class BindClassic(_BindStep):
    """mount(2) with MS_BIND onto /proc/self/fd/N, then MS_REMOUNT for the flags.

    Why: kernels before 5.12 cannot set the flags of a mount that is not attached yet.
    Without it: bind mounts would fail there.
    See: mount(2), MS_BIND; runtime-spec config.md, Mounts.
    """

    how = " [mount(2)]"
    flags: int

    def mount(self, context: Context) -> None:
        source = self.open_source(context)
        try:
            below = _open_place(context, self, source)
            try:
                how = mount.MS_BIND | (mount.MS_REC if self.recursive else 0)
                target = f"/proc/self/fd/{below}"
                mount.mount(f"/proc/self/fd/{source}", target, None, how, about=self.source)
                self._finish(context, below)
            finally:
                posix.close(below)
        finally:
            posix.close(source)

    def _finish(self, context: Context, below: int) -> None:
        if self.destination == "/":
            become_root(context)
        elif not (self.set or self.clear or self.atime or self.propagation):
            return
        fd = posix.dup(context.root) if self.destination == "/" else places.reopen(context, self.destination, below)
        try:
            self._change(fd)
        finally:
            posix.close(fd)

    def _change(self, fd: int) -> None:
        target = f"/proc/self/fd/{fd}"
        if self.set or self.clear or self.atime:
            held = tree.flags(fd)
            lost = tree.lose_atime(attributes(held), self.atime)
            if self.locked:
                tree.check(attributes(held), self.set, self.named | lost)
            flags = self.flags | (mount.MS_RELATIME if lost else 0)
            try:
                self._remount(target, flags)
            except OSError as error:
                if error.errno != EPERM:
                    raise
                tree.keep(attributes(held), self.set, self.named | lost)
                self._remount(target, flags | held)
        for kind in self.propagation:
            mount.set_propagation(target, kind, about=self.destination)

    def _remount(self, target: str, flags: int) -> None:
        mount.mount(None, target, None, mount.MS_BIND | mount.MS_REMOUNT | flags, about=self.destination)


class Remount(MountStep):
    """Change the flags of a mount that is there already (options ``bind,remount``).

    Why: config.json may change the flags of a mount that is there.
    Without it: they would stay as they were.
    See: mount(2), MS_REMOUNT; runtime-spec config.md, Mounts.
    """

    how = " [remount]"
    flags: int
    named: int  # MOUNT_ATTR_* that the words take away
    locked: bool  # as in `_BindStep`

    def mount(self, context: Context) -> None:
        fd = places.open_existing(context, self.destination)
        try:
            held = tree.flags(fd) if self.locked else 0
            if self.locked:
                tree.check(attributes(held), attributes(self.flags), self.named)
            flags = mount.MS_BIND | mount.MS_REMOUNT | self.flags | held & tree.LOCKABLE_FLAGS
            mount.mount(None, f"/proc/self/fd/{fd}", None, flags, about=self.destination)
        finally:
            posix.close(fd)


def _open_place(context: Context, step: MountStep, source: int) -> int:
    """What the step's mount goes on: a directory for a directory, a file for anything else."""
    if DEST_NOFOLLOW in step.words:
        return places.open_unfollowed(context, step.destination, source=source)
    if S_ISDIR(posix.fstat(source).st_mode):
        return places.open_directory(context, step.destination, "", source)[0]
    return places.open_file(context, step.destination, source)


def plan_bind(spec: Spec, host: Host, index: int, entry: Mount, options: Options, sharing: Sharing) -> Iterator[Step]:
    """The steps for a bind mount. Raises `ConfigError` for options that only a filesystem could take."""
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
    users = "user" in spec.namespaces()
    set_, clear, named, atime = options.bind_attributes(replace=not users)
    if options.remount:
        flags = options.flags & ~(mount.MS_BIND | mount.MS_REC | mount.MS_REMOUNT)
        yield Remount(flags=flags, named=named | atime, locked=users, **common)
        return
    recursive = bool(options.flags & mount.MS_REC)
    copy: _CopyFields = {
        "index": index,
        "recursive": recursive,
        "propagation": reduce(sharing.of_bind(destination) + options.propagation, recursive),
        "joins": False,
        "set": set_,
        "clear": clear,
        "named": named,
        "atime": atime,
        "tree": options.recursive,
        "locked": users,
        "inside": _inside(spec, common["source"]),
        "idmap": "",
        "idmap_tree": options.idmap == "ridmap",
    }
    copy["joins"] = sharing.joins and not copy["inside"] and _may_share(copy["propagation"], recursive)
    sharing.joined = sharing.joined or copy["joins"]
    if options.idmap or entry.get("uidMappings") or entry.get("gidMappings"):
        from gosudacon.stages.rootfs_mount import idmap

        step = idmap.plan_idmap(spec, host, entry, options, where)
        copy["idmap"] = step.key
        if users and copy["inside"]:
            copy["inside"], common["source"] = idmap.seen_by_runtime(spec, index, copy["inside"], common["source"])
        yield step
    again = reduce(options.propagation, recursive) if sharing.some and not copy["joins"] else []
    yield from _steps(host, options, common, copy, again)


def _steps(host: Host, options: Options, common: Fields, copy: _CopyFields, again: list[int]) -> Iterator[Step]:
    kinds = _kinds(options)
    if host.kernel < BY_DESCRIPTOR:
        if any(options.recursive):
            text = "recursive mount options need Linux 5.12"
            raise ConfigError(text, where=f"{common['where']}.options")
        flags = options.flags & ~(mount.MS_BIND | mount.MS_REC)
        yield kinds[0](flags=flags, **common, **copy)
    elif host.euid or copy["inside"]:
        yield kinds[1](again=again, atime_tree=options.recursive[2], **common, **copy)
    else:
        yield kinds[2](**common, **copy)
        if copy["locked"] and not copy["idmap"] and not options.copy_link and not common["source"].startswith("/proc/"):
            yield BindLocked(again=again, atime_tree=options.recursive[2], **common, **copy)
            return
        yield kinds[3](index=copy["index"], again=again, atime_tree=options.recursive[2], **common)


def _kinds(options: Options) -> tuple[type[BindClassic], type[BindHere], type[OpenSource], type[Bind]]:
    if not options.copy_link:
        return BindClassic, BindHere, OpenSource, Bind
    from gosudacon.stages.rootfs_mount import symlink

    return symlink.BindClassicOrLink, symlink.BindHereOrLink, symlink.OpenSourceOrLink, symlink.BindOrLink


def _may_share(propagation: list[int], recursive: bool) -> bool:
    """Whether some mount of the tree may be a peer of its source's when these changes have been made."""
    whole = [kind & ~mount.MS_REC for kind in propagation if kind & mount.MS_REC or not recursive]
    return not whole or whole[0] == mount.MS_SHARED


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


def _inside(spec: Spec, source: str) -> str:
    """A source that lies in the container's root, as a path from there; else empty."""
    root = posix.path.normpath(spec.rootfs).rstrip("/")
    place = posix.path.normpath(source)
    return place[len(root) :] or "/" if root and f"{place}/".startswith(f"{root}/") else ""
