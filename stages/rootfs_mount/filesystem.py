"""Mounting a new filesystem: built and attached by descriptor where the kernel can, with mount(2) elsewhere.

fsopen(2) and fsmount(2) give a mount that is complete, with its mode, contents and flags, before anything in the
container can see it, and a descriptor under which it stays known. mount(2) onto the descriptor of the directory
is as safe, but to change anything afterwards the mount must be looked up again; it serves kernels before 5.12
(mount_setattr(2)), and filesystems whose options fsconfig(2) cannot carry.
"""

from __future__ import annotations

from errno import EINVAL, EPERM

from gosudacon.api import MOUNT, Context, Error, Host, Step, StepError
from gosudacon.base import posix
from gosudacon.base.errors import SyscallError, reason
from gosudacon.linux import mount, path
from gosudacon.stages.rootfs_mount import destination as places
from gosudacon.stages.rootfs_mount.options import DEST_NOFOLLOW, PROPAGATION_NAMES, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypedDict

    from gosudacon.schema.types import Mount

    class Fields(TypedDict):
        """The fields of `MountStep`."""

        destination: str
        source: str
        fstype: str
        words: list[str]
        where: str

    class _NewFields(Fields):
        """The fields that both kinds of steps for a new filesystem have."""

        inherit_mode: bool
        recursive: list[int]
        propagation: list[int]
        label: str
        keep: bool


#: What a copy of another mount may have from that one; besides the kind of access times.
_OF_FIRST = (
    mount.MOUNT_ATTR_RDONLY
    | mount.MOUNT_ATTR_NOSUID
    | mount.MOUNT_ATTR_NODEV
    | mount.MOUNT_ATTR_NOEXEC
    | mount.MOUNT_ATTR_NODIRATIME
)
BY_DESCRIPTOR = (5, 12)  # mount_setattr(2); the rest of the family is older

#: Filesystems mounted with fsmount(2). Others get their data in one piece, as they have always got it, with mount(2):
#: fsconfig(2) cuts values (overlay's lowerdir) at 255 bytes, and not every filesystem reads its options there alike.
_WITH_FSMOUNT = frozenset(
    ("proc", "sysfs", "tmpfs", "ramfs", "devpts", "mqueue", "cgroup", "cgroup2", "hugetlbfs", "bpf", "tracefs")
)
_UNLABELLED = ("proc", "sysfs", "mqueue")


class Held:
    """What the steps of this stage leave for each other: descriptors, -1 for none."""

    terminal: tuple[int, int]  # its master and slave

    def __init__(self) -> None:
        self.mounts: dict[str, int] = {}  # place in config.json -> a new filesystem that is needed later
        self.sources: dict[int, int] = {}  # index of a bind mount -> detached copy of its source
        self.links: dict[int, str] = {}  # the same, where the source is a symbolic link -> its text
        self.groups: dict[int, int] = {}  # the same -> a copy that has the peer group, for `peers.JoinPeers`
        self.peers: list[tuple[int, int]] = []  # a mount of the container's, and one whose peer it is to become
        self.idmaps: dict[str, int] = {}  # key of an id mapping -> user namespace
        self.spare = -1  # a tmpfs with devices that the host lacks: `spare`
        self.spares: dict[str, str] = {}  # path of a device -> name in that tmpfs
        self.copies: dict[str, int] = {}  # the same -> detached mount of it
        self.console = -1  # the connection over which the terminal's master goes
        self.null = -1  # the null device, which masks files
        self.empty = -1  # an empty tmpfs, which masks directories
        self.attached: set[int] = set()  # those two once they are mounted somewhere


class MountStep(Step):
    """What all entries of ``mounts`` have in common; an error names the mount."""

    phase = MOUNT
    destination: str
    source: str
    fstype: str
    words: list[str]
    how = ""

    def describe(self) -> str:
        options = f" ({','.join(self.words)})" if self.words else ""
        return f"mount {self.subject()} on {self.destination}{options}{self.how}"

    def subject(self) -> str:
        """The filesystem's type, and its source where that is a thing of its own."""
        return self.fstype if self.source in ("", "none", self.fstype) else f"{self.fstype} {self.source}"

    def run(self, context: Context) -> None:
        try:
            self.mount(context)
        except OSError as error:
            call, number = getattr(error, "call", ""), error.errno or 0
            raise self.failure(reason(error), call=call, errno=number, hint=self.hint(number)) from error
        except Error as error:
            raise self.failure(error.message, call=error.call, errno=error.errno, hint=error.hint) from error

    def failure(self, why: str, call: str = "", errno: int = 0, hint: str = "") -> StepError:
        """The error of this step."""
        source = self.source or self.fstype
        return StepError(
            f'error mounting "{source}" to rootfs at "{self.destination}": {why}', call=call, errno=errno, hint=hint
        )

    def hint(self, number: int) -> str:
        """What a person should know about an errno; may be empty."""
        return ""

    def mount(self, context: Context) -> None:
        """Do it; raises OSError or `Error`."""
        raise NotImplementedError


class MountFilesystem(MountStep):
    """A new filesystem: fsopen(2), fsconfig(2), fsmount(2), move_mount(2).

    ``parameters`` are [name, value or None]; ``inherit_mode``: a tmpfs takes the mode of the directory it
    covers; ``label`` is set as an attribute where the filesystem has no option for it; ``keep``: the
    descriptor is needed later, as `Held.mounts`.

    Why: a container needs filesystems of its own: its processes in /proc, terminals in /dev/pts, memory in
    /dev/shm.
    Without it: programs that look there would fail.
    See: fsopen(2); mount(2); runtime-spec config.md, Mounts; config-linux.md, Default Filesystems.
    """

    attributes: int
    parameters: list[list[str | None]]
    inherit_mode: bool
    recursive: list[int]
    propagation: list[int]
    label: str
    keep: bool

    def hint(self, number: int) -> str:
        return _hint(self.fstype, number)

    def mount(self, context: Context) -> None:
        below, existed = _open_place(context, self)
        try:
            fd = self._new(context, below if existed else -1)
            try:
                if existed:
                    self.fill(below, fd)
                if self.recursive[0] or self.recursive[1]:
                    mount.mount_setattr(fd, self.recursive[0], self.recursive[1])
                mount.move_mount(fd, below)
                for flags in self.propagation:
                    mount.mount_setattr(fd, 0, 0, flags & ~mount.MS_REC)
                if self.label:
                    posix.setxattr(f"/proc/self/fd/{fd}", "security.selinux", self.label.encode())
            except BaseException:
                posix.close(fd)
                raise
        finally:
            posix.close(below)
        if self.destination == "/":
            become_root(context, posix.dup(fd))
        _keep(context, self, fd)

    def fill(self, below: int, fd: int) -> None:
        """Put something into the new filesystem before it is attached; ``below`` is what it will cover."""

    def _new(self, context: Context, below: int) -> int:
        parameters = {str(name): value for name, value in self.parameters}
        if self.inherit_mode and below >= 0:
            parameters["mode"] = f"{posix.fstat(below).st_mode & 0o7777:04o}"
        return mount.new_filesystem(self.fstype, parameters, self.attributes, self.source)


class MountProcOfOthers(MountFilesystem):
    """proc of a pid namespace that the process joins, and is not in yet: a copy of the mount that was made for it.

    Before Linux 6.15, a mount that is attached nowhere cannot be copied (open_tree(2)). There the first proc of a
    container is that mount itself, and any further one a copy of it.

    Why: the process that mounts is not in the pid namespace that is to be shown.
    Without it: /proc would show the host's processes.
    See: proc(5); pid_namespaces(7); runtime-spec config.md, Mounts.
    """

    how = " [of the pid namespace to join]"

    def _new(self, context: Context, below: int) -> int:
        made = context.proc_of_others
        try:
            fd = mount.clone_tree(made, about="proc")
        except SyscallError as error:
            if error.errno != EINVAL:
                raise
            fd = posix.dup(made)
        try:
            if self.parameters:
                mount.reconfigure(fd, {str(name): value for name, value in self.parameters})
            mount.mount_setattr(fd, self.attributes, _OF_FIRST & ~self.attributes | mount.MOUNT_ATTR__ATIME)
        except BaseException:
            posix.close(fd)
            raise
        return fd


class MountFilesystemClassic(MountStep):
    """A new filesystem, or a change to one that is there: mount(2) onto /proc/self/fd/N.

    Why: kernels before 5.12, and some filesystems, have mount(2) only.
    Without it: these filesystems could not be mounted.
    See: mount(2); runtime-spec config.md, Mounts; config-linux.md, Default Filesystems.
    """

    how = " [mount(2)]"
    fills = False
    flags: int
    data: list[str]
    inherit_mode: bool
    recursive: list[int]
    propagation: list[int]
    label: str
    keep: bool

    def hint(self, number: int) -> str:
        return _hint(self.fstype, number)

    def mount(self, context: Context) -> None:
        below, existed = self._open(context)
        try:
            data = list(self.data)
            if self.inherit_mode and existed:
                data.insert(0, f"mode={posix.fstat(below).st_mode & 0o7777:04o}")
            target = f"/proc/self/fd/{below}"
            source = self.source or self.fstype
            mount.mount(source, target, self.fstype, self.flags, ",".join(data), about=self.destination)
            over_root = self.destination == "/" and not self.flags & mount.MS_REMOUNT
            if over_root:
                become_root(context)
            if self._more():
                fd = posix.dup(context.root) if over_root else places.reopen(context, self.destination, below)
                self._finish(fd, below if existed else -1)
                _keep(context, self, fd)
        finally:
            posix.close(below)

    def _open(self, context: Context) -> tuple[int, bool]:
        if self.flags & mount.MS_REMOUNT:
            return places.open_existing(context, self.destination), True
        return _open_place(context, self)

    def _more(self) -> bool:
        return bool(self.keep or self.fills or self.propagation or any(self.recursive) or self.label)

    def fill(self, below: int, fd: int) -> None:
        """Put something into the new filesystem; ``below`` is what it covers."""

    def _finish(self, fd: int, below: int) -> None:
        if below >= 0:
            self.fill(below, fd)
        target = f"/proc/self/fd/{fd}"
        if any(self.recursive):
            mount.mount_setattr(fd, self.recursive[0], self.recursive[1])
        for flags in self.propagation:
            mount.set_propagation(target, flags, about=self.destination)
        if self.label:
            posix.setxattr(target, "security.selinux", self.label.encode())


def _open_place(context: Context, step: MountStep) -> tuple[int, bool]:
    """The directory that the step's mount goes on, and whether it was there before."""
    if DEST_NOFOLLOW in step.words:
        return places.open_unfollowed(context, step.destination, step.fstype), True
    return places.open_directory(context, step.destination, step.fstype)


def become_root(context: Context, fd: int = -1) -> None:
    """The mount behind ``fd``, or whatever is on top where the root is, becomes the root, which it covers."""
    if fd < 0:
        flags = posix.O_PATH | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
        fd = posix.open(path.location(context.root, context.proc), flags)
    if context.root >= 0:
        posix.close(context.root)
    context.root = fd


def _keep(context: Context, step: MountFilesystem | MountFilesystemClassic, fd: int) -> None:
    if step.keep:
        context.own(Held).mounts[step.where] = fd
    else:
        posix.close(fd)


def _hint(fstype: str, number: int) -> str:
    if fstype == "sysfs" and number == EPERM:
        return "a user namespace mounts sysfs only if it has a network namespace of its own; bind /sys instead"
    if fstype == "proc" and number == EPERM:
        return "a user namespace mounts proc only if it has a pid namespace and sees a proc without overmounts"
    if fstype == "devpts" and number == EINVAL:
        return "is the group of the option gid=… mapped in the user namespace?"
    return ""


def plan_filesystem(
    entry: Mount,
    options: Options,
    host: Host,
    *,
    where: str,
    label: str,
    deferred: bool,
    keep: bool,
    of_others: bool,
    refusable: bool = False,
    context: str = "context",
) -> Iterator[Step]:
    """The step for an entry that is not a bind mount.

    ``deferred``: stays writable until `stages.rootfs_mount.hide.RemountReadOnly`; ``keep`` as in the step;
    ``of_others``: the container joins a pid namespace, which a proc filesystem is to show; ``refusable``: a sysfs
    that the kernel may refuse.
    """
    fstype = str(entry["type"])
    of_others = of_others and fstype == "proc" and not options.remount
    kinds = (MountProcOfOthers, MountFilesystemClassic) if of_others else _kinds(options.copy_up, refusable)
    flags = options.flags & ~mount.MS_RDONLY if deferred else options.flags
    common: _NewFields = {
        "destination": mount.normal(entry["destination"]),
        "source": entry.get("source") or "",
        "fstype": fstype,
        "words": options.words,
        "where": where,
        "inherit_mode": fstype == "tmpfs" and not any(item.startswith("mode=") for item in _split(options)),
        "recursive": options.recursive[:2],
        "propagation": options.propagation,
        "label": label if fstype == "mqueue" else "",
        "keep": keep or deferred,
    }
    label = "" if fstype in _UNLABELLED else label
    if of_others or (host.kernel >= BY_DESCRIPTOR and fstype in _WITH_FSMOUNT and _fits(options)):
        parameters: list[list[str | None]] = [
            [word, None] for word in options.superblock() if not (deferred and word == "ro")
        ]
        parameters += [_parameter(item) for item in _split(options)]
        if label:
            parameters.append([context, label])
        from_flags = options.attributes() & ~(mount.MOUNT_ATTR_RDONLY if deferred else 0)
        yield kinds[0](attributes=from_flags, parameters=parameters, **common)
    else:
        data = options.data + ([f'{context}="{label}"'] if label else [])
        yield kinds[1](flags=flags, data=data, **common)


def _kinds(copy_up: bool, refusable: bool) -> tuple[type[MountFilesystem], type[MountFilesystemClassic]]:
    if refusable:
        from gosudacon.stages.rootfs_mount import sysfs

        return sysfs.MountSysfs, MountFilesystemClassic
    if not copy_up:
        return MountFilesystem, MountFilesystemClassic
    from gosudacon.stages.rootfs_mount import copyup

    return copyup.MountCopy, copyup.MountCopyClassic


def _split(options: Options) -> list[str]:
    return [item for word in options.data for item in word.split(",") if item]


def _parameter(item: str) -> list[str | None]:
    name, equals, value = item.partition("=")
    return [name, value if equals else None]


def _fits(options: Options) -> bool:
    """Whether fsconfig(2) can carry the options."""
    if options.remount or options.flags & (mount.MS_I_VERSION | mount.MS_SILENT):
        return False
    items = [item.partition("=")[2] for item in _split(options)]
    return all(len(value.encode()) <= mount.FSCONFIG_STRING_LIMIT and '"' not in value for value in items)


def propagation_words(flags: list[int]) -> str:
    """``rslave,shared`` for a list of MS_*."""
    return ",".join(PROPAGATION_NAMES[each] for each in flags)
