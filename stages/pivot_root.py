"""Stage ``pivot-root``: the root filesystem becomes ``/``, and the host's mounts are detached."""

from __future__ import annotations

from _stat import S_ISCHR
from errno import EACCES, EINVAL, ENOENT, EPERM

from gosudacon.api import CONFINE, PIVOT, ConfigError, Context, Host, Spec, Stage, Step, hookimpl
from gosudacon.base import posix
from gosudacon.linux import mount, path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.api import Table
_NULL = posix.makedev(1, 3)
_AFTERWARDS = {
    "shared": mount.MS_SHARED,
    "rshared": mount.MS_SHARED | mount.MS_REC,
    "unbindable": mount.MS_UNBINDABLE,
    "runbindable": mount.MS_UNBINDABLE | mount.MS_REC,
}


class PivotRoot(Step):
    """pivot_root(".", ".") stacks the old root on the new one (pivot_root(2)); it is made a slave and unmounted.

    Why: the image becomes the root, and nothing of the host's is mounted any more.
    Without it: the host's files would be in reach; chroot(2) alone can be escaped.
    See: pivot_root(2); runtime-spec config.md, Root.
    """

    phase = PIVOT
    failing = "error jailing process inside rootfs"

    def describe(self) -> str:
        return 'pivot_root(".", "."), detach the old root'

    def run(self, context: Context) -> None:
        old = posix.open("/", posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
        try:
            posix.fchdir(context.root)
            mount.pivot_root(".", ".")
            posix.fchdir(old)
            # An unmount in a mount that a hook has shared again would reach the host.
            mount.set_propagation(".", mount.MS_SLAVE | mount.MS_REC, about="the old root")
            mount.umount(".", mount.MNT_DETACH)
        finally:
            posix.close(old)
        posix.chdir("/")


class MaskHostMounts(Step):
    """Take away the host's full proc and sysfs mounts, which stay in the namespace without pivot_root(2).

    The kernel lets a user namespace mount these filesystems only where a full one is visible: left there, they
    would lend the container what its own masked ones forbid. Nothing of it reaches the host: without
    pivot_root(2) all that is above the root filesystem has been a slave from the start (rootfs-mount).

    Why: in a user namespace the kernel allows a new proc only where a full one is visible.
    Without it: the container could mount its own /proc without masks.
    See: mount_namespaces(7); user_namespaces(7).
    """

    phase = PIVOT

    def describe(self) -> str:
        return "unmount or cover the host's proc and sysfs mounts"

    def run(self, context: Context) -> None:
        own = path.location(context.root, context.proc)
        for place in _full_mounts(mount.mountinfo(context.proc), own.encode()):
            try:
                mount.umount(place, mount.MNT_DETACH)
            except OSError as error:
                if error.errno == ENOENT:  # went with another mount
                    continue
                if error.errno not in (EINVAL, EPERM):
                    raise
                mount.mount("tmpfs", place, "tmpfs", mount.MS_RDONLY)  # locked: cannot be unmounted


class MoveRoot(Step):
    """Move the root's mount over ``/`` and chroot(2) into it, where pivot_root(2) is impossible (an initramfs).

    Why: the kernel's first filesystem, on which some machines run, cannot be pivoted away.
    Without it: there would be no containers on such a machine.
    See: mount(2), MS_MOVE; chroot(2); runtime-spec config.md, Root.
    """

    phase = PIVOT

    def describe(self) -> str:
        return 'move the root filesystem\'s mount to "/", chroot(".")'

    def run(self, context: Context) -> None:
        posix.fchdir(context.root)
        mount.mount(".", "/", None, mount.MS_MOVE, about="the root filesystem")
        _chroot()


class ChangeRoot(Step):
    """chroot(2), the container shares the host's mount namespace.

    Why: without a mount namespace of its own the container can only look at another root.
    Without it: it would see the host's files; a process with CAP_SYS_CHROOT still can get out.
    See: chroot(2); runtime-spec config.md, Root.
    """

    phase = PIVOT

    def describe(self) -> str:
        return "chroot into the root filesystem (no mount namespace)"

    def run(self, context: Context) -> None:
        posix.fchdir(context.root)
        _chroot()


class SetRootPropagation(Step):
    """Not before the root is the container's own: earlier it would have changed the host's.

    And not before the last mount: what is unbindable could not be made read-only (`rootfs_mount.hide`).

    Why: config.json says whether mounts made in the container reach its copies, or come from them.
    Without it: mounts would be passed on in another way than was asked for.
    See: mount_namespaces(7); runtime-spec config-linux.md, Rootfs Mount Propagation.
    """

    phase = CONFINE
    where = "linux.rootfsPropagation"
    word: str

    def describe(self) -> str:
        return f"make / {self.word}"

    def run(self, context: Context) -> None:
        mount.set_propagation("/", _AFTERWARDS[self.word])


class ReopenNull(Step):
    """Standard streams that are the host's /dev/null become the container's.

    Why: the device is the same, and the file is the host's.
    Without it: /dev/stdin would be a file outside of the container.
    See: null(4); dup(2).
    """

    phase = PIVOT

    def describe(self) -> str:
        return "reopen standard streams that are /dev/null"

    def run(self, context: Context) -> None:
        streams = [fd for fd in (0, 1, 2) if _is_null(fd)]
        if not streams:
            return
        try:
            probe = path.open_in_root(context.root, "/dev/null", posix.O_PATH | posix.O_NOFOLLOW)
        except OSError:
            return  # the container has none: it keeps the host's
        try:
            if not _is_null(probe):
                return
            null = posix.open(f"self/fd/{probe}", posix.O_RDWR | posix.O_CLOEXEC, dir_fd=context.proc)
        except PermissionError:
            return  # the configuration denies the device
        finally:
            posix.close(probe)
        for fd in streams:
            posix.dup2(null, fd, inheritable=True)
        posix.close(null)


class MakeWorkingDirectory(Step):
    """Make the working directory if it is missing; not before the host is out of reach.

    Why: engines name working directories that the image does not have.
    Without it: the program could not begin there.
    See: mkdir(2); runtime-spec config.md, Process.
    """

    phase = PIVOT
    where = "process.cwd"
    failing = "mkdir {path}"
    path: str

    def describe(self) -> str:
        return f"mkdir -p {self.path}"

    def run(self, context: Context) -> None:
        try:
            for part in self._parts():
                posix.close(path.mkdir_in_root(context.root, part))
        except OSError as error:
            if error.errno != EACCES:  # the container's user may be allowed to pass: chdir(2) will tell
                raise

    def _parts(self) -> list[str]:
        """What is made in turn: also what a ``..`` leaves again, which chdir(2) has to pass."""
        names = self.path.split("/")
        return ["/".join(names[:at]) or "/" for at, name in enumerate(names) if name == ".."] + [self.path]


def _chroot() -> None:
    mount.chroot(".")
    posix.chdir("/")


def _is_null(fd: int) -> bool:
    try:
        status = posix.fstat(fd)
    except OSError:
        return False
    return S_ISCHR(status.st_mode) and status.st_rdev == _NULL


def _full_mounts(mountinfo: bytes, own: bytes) -> list[bytes]:
    """Mount points of whole proc and sysfs filesystems outside of ``own``, the last mounted first (proc(5))."""
    found = []
    for line in mountinfo.splitlines():
        left, _, right = line.partition(b" - ")
        fields = left.split()
        inside, place = fields[3], mount.unescaped(fields[4])
        if right.split(b" ", 1)[0] not in (b"proc", b"sysfs") or inside != b"/":
            continue
        if place != own and not place.startswith(own.rstrip(b"/") + b"/"):
            found.append(place)
    return found[::-1]


class PivotRootStage(Stage):
    """Changes the root, makes the working directory."""

    name = "pivot-root"
    after = ("rootfs-mount",)

    def plan(self, spec: Spec, host: Host) -> Iterator[Step]:
        """Raises `ConfigError` where the root could not be left again."""
        if "mount" not in spec.namespaces():
            yield ChangeRoot()
        else:
            if spec.options.no_pivot:
                yield MaskHostMounts()
                yield MoveRoot()
            else:
                yield PivotRoot()
            word = spec.linux.get("rootfsPropagation") or ""
            if word in _AFTERWARDS:
                yield SetRootPropagation(word=word)
        yield ReopenNull()
        cwd = spec.process.get("cwd") or "/"
        if not cwd.startswith("/"):
            raise ConfigError("Cwd must be an absolute path", where="process.cwd")
        if cwd.strip("/"):
            yield MakeWorkingDirectory(path=cwd)


def expected() -> Table:
    """What the steps of this stage expect the kernel to show (`pipeline.expectation`)."""
    from gosudacon.api import Expectation

    return {
        "PivotRoot": lambda step, spec, host: [Expectation("root.path", "old-root-gone", True)],
        "MaskHostMounts": lambda step, spec, host: [Expectation("root.path", "old-root-gone", False)],
        "MoveRoot": "the old root stays below, where nothing can reach it",
        "ChangeRoot": "the container is in the host's mount namespace, and so are all its mounts",
        "SetRootPropagation": lambda step, spec, host: [Expectation(step.where, "propagation", step.word, "/")],
        "ReopenNull": "what standard input and output are is the caller's business",
        "MakeWorkingDirectory": "seen with the working directory",
    }


@hookimpl
def gosudacon_stages() -> list[Stage]:
    """Contribute the stage."""
    return [PivotRootStage()]
