"""How a container's cgroups are made, and the step that puts its process into them."""

from __future__ import annotations

from errno import EBUSY, ENOENT

from gosudacon.api import ISOLATE, Context, Error, Step
from gosudacon.base import posix
from gosudacon.base.errors import SyscallError
from gosudacon.linux.cgroup import files
from gosudacon.stages.cgroups import joining
from gosudacon.stages.cgroups.create import Held, Note

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_CPUSET = ("cpuset.cpus", "cpuset.mems")


class JoinCgroup(Step):
    """Enter the cgroups made before, as long as this process has one thread.

    Writing ``0`` to ``tasks`` (v1) moves the writer alone, for which the kernel takes no lock on all process
    groups of the machine; the same move through ``cgroup.procs`` waits 5 to 10 ms for an RCU grace period.
    The unified hierarchy is entered by clone3(CLONE_INTO_CGROUP) when the process is made, which needs no such lock
    either, and by this step, through ``cgroup.procs``, only where that cannot be.

    Why: a process moves itself, before it makes others: what it forks later is in the cgroup from birth.
    Without it: the container's processes would be in the caller's cgroup, with its limits.
    See: cgroups(7); runtime-spec config-linux.md, Cgroups Path.
    """

    phase = ISOLATE
    controllers: list[str]

    def describe(self) -> str:
        return joining(self.controllers, self.joins_by_clone)

    def run(self, context: Context) -> None:
        held = context.own(Held)
        joins, held.joins = held.joins, {}
        for name, fd in joins.items():
            try:
                posix.write(fd, b"0")
            except OSError as error:
                raise SyscallError(error.errno or 0, "write", name) from None
            finally:
                posix.close(fd)
        for fd in {*context.cgroup_dirs.values()}:
            posix.close(fd)
        context.cgroup_dirs, context.cgroup_fd = {}, -1


class Making:
    """What `CreateCgroup` has made and opened so far."""

    def __init__(self, context: Context, note: Note, before: dict[str, int]) -> None:
        self.directories: dict[str, str] = {}
        self.fds: dict[str, int] = {}
        self._note = note
        self._before = before
        self._joins: dict[str, int] = {}
        self._inodes: dict[str, int] = {}
        self._existing: dict[str, str] = {}
        self._above: dict[str, int] = {}  # parents that were missing, with the inodes of those made here, else 0
        self._by_clone = context.host.clones_into_cgroup()

    def make(self, point: str, path: str, controllers: list[str], level: Callable[[int], None] | None = None) -> None:
        def above(name: str, inode: int) -> None:
            self._above[f"{point}/{name}"] = inode
            if not inode:
                self._note.expect(self._before, self._above)

        base = files.open_hierarchy(point)
        try:
            fd, made = files.make(base, path, level, above)
        finally:
            posix.close(base)
        directory = f"{point}/{path}"
        self.fds.update((controller, fd) for controller in controllers)
        self.directories.update((controller, directory) for controller in controllers)
        inode = self._inodes[directory] = posix.fstat(fd).st_ino
        if not made:
            self._existing.update((controller, directory) for controller in controllers)
            if not self._before[directory]:  # made by another program since
                self._before[directory] = inode
                self._note.expect(self._before, self._above)
        if "cpuset" in controllers:
            seed_cpuset(fd, path.count("/") + 1, made)
        name = "cgroup.procs" if "" in controllers else "tasks"
        if name == "tasks" or not self._by_clone:
            flags = posix.O_WRONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC
            self._joins[f"{directory}/{name}"] = posix.open(name, flags, dir_fd=fd)

    def refuse_populated(self) -> None:
        """Raise `Error` if a cgroup that was there before is in use."""
        if not self._existing:
            return
        from gosudacon.linux.cgroup import processes

        found: set[int] = set()
        for controller, directory in self._existing.items():
            found.update(processes.pids({controller: directory}))
        if found:
            raise Error(f"container's cgroup is not empty: {len(found)} process(es) found")
        for controller in self._existing:
            if controller in ("", "freezer") and _looks_frozen(self.fds[controller], controller):
                raise Error("container's cgroup unexpectedly frozen")

    def close(self) -> None:
        """Close everything, since nothing comes of it."""
        for fd in {*self.fds.values(), *self._joins.values()}:
            posix.close(fd)

    def keep(self, context: Context) -> None:
        """Note whose they are and leave everything to the later steps."""
        if self._inodes:
            self._note.settle(self._inodes, {path: inode for path, inode in self._above.items() if inode})
        else:  # no permission anywhere
            self._note.drop()
        context.cgroups = self.directories
        context.cgroup_dirs = self.fds
        context.own(Held).joins = self._joins
        if "" in self.fds and self._by_clone:
            context.cgroup_fd = self.fds[""]


def _looks_frozen(fd: int, controller: str) -> bool:
    if controller == "freezer":
        return files.read(fd, "freezer.state") != "THAWED"
    try:
        return files.read(fd, "cgroup.freeze") == "1"
    except SyscallError as error:
        if error.errno != ENOENT:  # Linux before 5.2
            raise
        return False


def seed_cpuset(fd: int, depth: int, new: bool = False) -> None:
    """Give a v1 cpuset, and those above it, CPUs and memory nodes where it has none: its parent's.

    An empty cpuset cannot be joined (cpuset(7)); ``depth`` is how far below the root of the hierarchy it is.
    """
    empty: list[tuple[int, list[str]]] = []  # from here upwards: descriptor, values
    here = posix.dup(fd)
    values = ["" if new else files.read(here, name) for name in _CPUSET]
    try:
        while not all(values) and len(empty) < depth:
            empty.append((here, values))
            here = posix.open("..", posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC, dir_fd=here)
            values = [files.read(here, name) for name in _CPUSET]
        for child, own in reversed(empty):
            for name, value, inherited in zip(_CPUSET, own, values, strict=True):
                if not value:
                    files.write(child, name, inherited)
            values = [value or inherited for value, inherited in zip(own, values, strict=True)]
    finally:
        for used in {here, *(child for child, _ in empty)}:
            posix.close(used)


def enable_controllers(fd: int) -> None:
    """Hand all controllers a cgroup has to its children; what cannot be handed on shows when its limit is set.

    A cgroup with processes in it is left as it is (EBUSY): the controllers that it could hand on would make it,
    and with it all cgroups below it, threaded (cgroups(7), Thread mode).
    """
    enabled = frozenset(files.read(fd, "cgroup.subtree_control").split())
    missing = [name for name in files.read(fd, "cgroup.controllers").split() if name not in enabled]
    if not missing:
        return
    try:
        files.write(fd, "cgroup.subtree_control", " ".join(f"+{name}" for name in missing))
    except SyscallError as error:
        if error.errno != EBUSY:
            for name in missing:
                _enable_one(fd, name)


def _enable_one(fd: int, name: str) -> None:
    try:
        files.write(fd, "cgroup.subtree_control", f"+{name}")
    except SyscallError:
        return
