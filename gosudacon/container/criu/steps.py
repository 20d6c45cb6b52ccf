"""Steps that only a restore has: make CRIU's process, prepare its root, execute it."""

from __future__ import annotations

from _stat import S_ISDIR

from gosudacon.base import posix
from gosudacon.base.errors import SyscallError
from gosudacon.linux import console, mount, process
from gosudacon.linux import path as paths
from gosudacon.linux.namespace import CLONE_INTO_CGROUP, CLONE_NEWNS, flag_names
from gosudacon.pipeline.step import ISOLATE, MOUNT, PREPARE, RUNTIME, START, Context, Step

_PLACE = posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC


class Held:
    """What the restore and its steps leave for each other."""

    def __init__(self) -> None:
        self.environment: dict[str, str] = {}  # criu's
        self.directories: tuple[int, int] = (-1, -1)  # of images and of work files, as the runtime has them
        self.socket = -1  # the connection to the runtime; from `OpenDirectories` on criu's end of its own
        self.inherited: dict[str, int] = {}  # name -> descriptor of a namespace, for criu to inherit


class SpawnCriu(Step):
    """A process for CRIU, in a mount namespace of its own: what it mounts goes with it, however it ends.

    Why: CRIU runs in the container's cgroup, and its mounts must not reach the host.
    Without it: restored processes would be outside of the cgroup.
    See: criu(8); clone(2).
    """

    phase = ISOLATE
    side = RUNTIME
    spawns = True
    stage = "criu"

    def describe(self) -> str:
        return (
            f"clone3({flag_names(CLONE_NEWNS | (CLONE_INTO_CGROUP if self.into_cgroup else 0))}): the process for criu"
        )

    def run(self, context: Context) -> None:
        assert context.engine is not None
        context.engine.spawn(CLONE_NEWNS, context.cgroup_fd)


class MountRoot(Step):
    """The root filesystem as CRIU wants it: a mount, at a place that nothing covers. The state directory has one.

    Why: CRIU takes a mount as the root of what it restores.
    Without it: it would refuse the bundle's directory.
    See: criu(8); mount(2), MS_BIND.
    """

    phase = MOUNT
    stage = "criu"
    path: str
    place: str

    def describe(self) -> str:
        return f"mount {self.path} at {self.place}, for criu alone"

    def run(self, context: Context) -> None:
        mount.set_propagation("/", mount.MS_SLAVE | mount.MS_REC)
        try:
            posix.mkdir(self.place, 0o700)
        except FileExistsError:
            pass
        mount.mount(self.path, self.place, None, mount.MS_BIND | mount.MS_REC)
        if context.root >= 0:
            posix.close(context.root)
        context.root = posix.open(self.place, _PLACE)


class OpenDirectories(Step):
    """The directories of images and work files as this mount namespace has them: CRIU mounts something in them.

    It asks for them as descriptors of the process that made its socket, under the numbers that they have on the
    runtime's side. So this process makes the socket, and sends the other end over `Held.socket`.

    Why: the paths are the host's, and CRIU gets descriptors.
    Without it: images and logs could not be found.
    See: criu(8); open(2).
    """

    phase = MOUNT
    stage = "criu"
    images: str
    work: str

    def describe(self) -> str:
        return f"open {self.images}" + (f" and {self.work}" if self.work != self.images else "")

    def run(self, context: Context) -> None:
        for path, number in zip((self.images, self.work), context.own(Held).directories, strict=True):
            fd = posix.open(path, _PLACE)
            posix.dup2(fd, number, inheritable=True)
            posix.close(fd)
        connection = context.own(Held).socket
        ours, theirs = process.socketpair()
        console.send(connection, ours, "criu")
        posix.close(connection)
        posix.close(ours)
        context.own(Held).socket = theirs


class MakeMountPoints(Step):
    """Places to mount on that the root filesystem lacks: [destination, source of a bind mount or an empty string].

    Bind mounts that hold others' places are mounted meanwhile, so that those are made in them, as at creation.

    Why: CRIU mounts what was mounted, and wants the places to be there.
    Without it: it would fail at the first that is missing.
    See: criu(8); mkdir(2).
    """

    phase = MOUNT
    stage = "criu"
    places: list[list[str]]

    def describe(self) -> str:
        return f"make what is missing of {' '.join(place for place, _ in self.places)} in the root filesystem"

    def run(self, context: Context) -> None:
        mounted = []
        for place, source in self.places:
            try:
                self._make(context, place, source)
            except OSError as error:
                raise SyscallError(error.errno or 0, "make mount point", place) from None
            if source and any(other.startswith(f"{place}/") for other, _ in self.places):
                self._bind(context, place, source)
                mounted.append(place)
        for place in reversed(mounted):
            fd = paths.open_in_root(context.root, place)
            mount.umount(f"/proc/self/fd/{fd}")
            posix.close(fd)

    def _make(self, context: Context, place: str, source: str) -> None:
        file = bool(source) and not S_ISDIR(posix.stat(source).st_mode)
        posix.close(paths.file_in_root(context.root, place) if file else paths.mkdir_in_root(context.root, place))

    def _bind(self, context: Context, place: str, source: str) -> None:
        fd = paths.open_in_root(context.root, place)
        try:
            mount.mount(source, f"/proc/self/fd/{fd}", None, mount.MS_BIND | mount.MS_REC, about=place)
        finally:
            posix.close(fd)


class OpenNamespaces(Step):
    """Namespaces that the restored processes share with others, for CRIU to inherit: names and paths.

    Why: namespaces that were joined are joined again, not made.
    Without it: the container would be alone in new ones.
    See: criu(8); setns(2).
    """

    phase = PREPARE
    stage = "criu"
    where = "linux.namespaces"
    namespaces: list[list[str]]

    def describe(self) -> str:
        return f"open {', '.join(path for _, path in self.namespaces)}"

    def run(self, context: Context) -> None:
        for name, path in self.namespaces:
            fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
            context.own(Held).inherited[name] = fd


class Execute(Step):
    """Wait until all is prepared, then execve(2) criu with its end of the connection.

    Why: CRIU rebuilds the container's processes from their images.
    Without it: nothing would be restored.
    See: criu(8).
    """

    phase = START
    stage = "criu"
    path: str

    def describe(self) -> str:
        return f"execve({self.path} swrk)"

    def run(self, context: Context) -> None:
        assert context.engine is not None
        held = context.own(Held)
        for fd in held.inherited.values():
            posix.set_inheritable(fd, True)
        fd = held.socket
        posix.set_inheritable(fd, True)
        process.restore_signals()
        context.engine.ready()
        try:
            posix.execve(self.path, ["criu", "swrk", str(fd)], held.environment)
        except OSError as error:
            raise SyscallError(error.errno or 0, "execve", self.path) from None
