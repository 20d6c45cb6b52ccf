"""Steps that make a container's cgroups, put its process into them and take them away again.

A cgroup that was there before is used if it is empty, as runc does, and refused if it has processes or is
frozen. Whose it is must be known when it is removed, possibly by another process after a crash: what was
entered is noted with its inode in the state directory, and nothing else is ever killed or removed.
"""

from __future__ import annotations

from gosudacon.api import ISOLATE, PREPARE, Context, Error, Step, StepError
from gosudacon.linux import cgroupfs, jsonio
from gosudacon.linux import system as os
from gosudacon.linux.errors import SyscallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_NOTE = "cgroups.json"
_PERMISSION = (1, 13, 30)  # EPERM, EACCES, EROFS
_ENOENT, _EBUSY = 2, 16
_CPUSET = ("cpuset.cpus", "cpuset.mems")
_CLONE_INTO_CGROUP = (5, 7)  # the kernel that has it


class CreateCgroup(Step):
    """Make the container's cgroup in every hierarchy; `undo` removes it with all that is left in it.

    Keeps ``cgroups`` (controller -> directory, for state.json), ``cgroup_dirs`` (controller -> descriptor),
    ``cgroup_joins`` (descriptors to write ``0`` to) and ``cgroup_fd`` (for CLONE_INTO_CGROUP).
    """

    phase = PREPARE
    where = "linux.cgroupsPath"
    lasts = True
    places: list[list[Any]]
    rootless: bool = False  # what the caller may not make is left out

    def describe(self) -> str:
        by_path: dict[str, list[str]] = {}
        for _, path, controllers in self.places:
            by_path.setdefault(path, []).extend(name or "unified" for name in controllers)
        if list(by_path.values()) == [["unified"]]:
            return f"create cgroup /{next(iter(by_path))}"
        return "; ".join(f"create cgroup /{path} in {', '.join(names)}" for path, names in by_path.items())

    def run(self, context: Context) -> None:
        note = Note(context)
        note.begin()
        making = _Making(context, note)
        try:
            for place in self.places:
                try:
                    self._enter(making, *place)
                except (OSError, SyscallError) as error:
                    if not self.rootless or error.errno not in _PERMISSION:
                        raise
            making.refuse_populated()
        except BaseException:
            making.abandon()
            note.drop()
            raise
        making.keep(context)

    def _enter(self, making: _Making, point: str, path: str, controllers: list[str]) -> None:
        making.make(point, path, controllers)

    def undo(self, context: Context) -> None:
        note = Note(context)
        owned = note.read()
        if owned is None:  # never begun, or refused
            return
        left: dict[str, str] = {}
        for point, path, controllers in self.places:
            if not self._remove(point, path, owned):
                left.update((controller, f"{point}/{path}") for controller in controllers)
        if left:
            from gosudacon.linux import cgroup

            cgroup.remove(left)
        note.drop()

    def _remove(self, point: str, path: str, owned: dict[str, int]) -> bool:
        """Remove a cgroup if it is this container's; False if that takes more than rmdir(2)."""
        try:
            base = cgroupfs.open_hierarchy(point)
        except FileNotFoundError:
            return True
        try:
            known = owned.get(f"{point}/{path}", 0)
            if not owned:  # cut short before the inodes were noted: nobody was in yet
                cgroupfs.rmdir(base, path)
            elif known and cgroupfs.inode(base, path) == known:
                return cgroupfs.rmdir(base, path)
        except SyscallError as error:
            if not self.rootless or error.errno not in _PERMISSION:
                raise
        finally:
            os.close(base)
        return True


class CreateUnifiedCgroup(CreateCgroup):
    """Make the container's cgroup in the unified hierarchy, with every controller that can be had on the way."""

    def _enter(self, making: _Making, point: str, path: str, controllers: list[str]) -> None:
        making.make(point, path, controllers, _enable_controllers)
        kind = cgroupfs.read(making.fds[""], "cgroup.type")
        if kind != "domain":
            raise StepError(f"cannot enter cgroup /{path}: it is in {kind} mode", hint="cgroups(7), Thread mode")


class JoinCgroup(Step):
    """Enter the cgroups made before, as long as this process has one thread.

    Writing ``0`` to ``tasks`` (v1) moves the writer alone, for which the kernel takes no lock on all process
    groups of the machine; the same move through ``cgroup.procs`` waits 5 to 10 ms for an RCU grace period.
    The unified hierarchy is entered by clone3(CLONE_INTO_CGROUP), which needs no such lock either, and
    through ``cgroup.procs`` only where that cannot be.
    """

    phase = ISOLATE
    controllers: list[str]

    def describe(self) -> str:
        v1 = [name for name in self.controllers if name]
        ways = [f"write 0 to tasks of {', '.join(v1)}"] if v1 else []
        if "" in self.controllers:
            ways.append("the unified one by clone3(CLONE_INTO_CGROUP), else write 0 to cgroup.procs")
        return "join the cgroup: " + "; ".join(ways)

    def run(self, context: Context) -> None:
        for name, fd in context.kept.pop("cgroup_joins", {}).items():
            try:
                os.write(fd, b"0")
            except OSError as error:
                raise SyscallError(error.errno or 0, "write", name) from None
            finally:
                os.close(fd)
        for fd in {*context.kept.pop("cgroup_dirs", {}).values()}:
            os.close(fd)
        context.kept.pop("cgroup_fd", None)


class _Making:
    """What `CreateCgroup` has made and opened so far."""

    def __init__(self, context: Context, note: Note) -> None:
        self.directories: dict[str, str] = {}
        self.fds: dict[str, int] = {}
        self._note = note
        self._joins: dict[str, int] = {}
        self._inodes: dict[str, int] = {}
        self._made: list[tuple[str, int]] = []  # name, descriptor of the cgroup itself
        self._existing: dict[str, str] = {}
        self._by_clone = context.host.kernel >= _CLONE_INTO_CGROUP and cgroupfs.can_clone_into()

    def make(self, point: str, path: str, controllers: list[str], level: Callable[[int], None] | None = None) -> None:
        base = cgroupfs.open_hierarchy(point)
        try:
            fd, made = cgroupfs.make(base, path, level)
        finally:
            os.close(base)
        directory = f"{point}/{path}"
        self.fds.update((controller, fd) for controller in controllers)
        self.directories.update((controller, directory) for controller in controllers)
        if made:
            self._made.append((path.rpartition("/")[2], fd))
        else:
            self._existing.update((controller, directory) for controller in controllers)
        self._inodes[directory] = os.fstat(fd).st_ino
        if "cpuset" in controllers:
            seed_cpuset(fd, path.count("/") + 1, made)
        name = "cgroup.procs" if "" in controllers else "tasks"
        if name == "tasks" or not self._by_clone:
            flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            self._joins[f"{directory}/{name}"] = os.open(name, flags, dir_fd=fd)

    def refuse_populated(self) -> None:
        """Raise `Error` if a cgroup that was there before is in use."""
        if not self._existing:
            return
        from gosudacon.linux import cgroup

        found: set[int] = set()
        for controller, directory in self._existing.items():
            found.update(cgroup.processes({controller: directory}))
        if found:
            raise Error(f"container's cgroup is not empty: {len(found)} process(es) found")
        for controller in self._existing:
            if controller in ("", "freezer") and _looks_frozen(self.fds[controller], controller):
                raise Error("container's cgroup unexpectedly frozen")

    def abandon(self) -> None:
        """Remove what was made and close everything."""
        for name, fd in reversed(self._made):
            above = os.open("..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
            cgroupfs.rmdir(above, name)
            os.close(above)
        for fd in {*self.fds.values(), *self._joins.values()}:
            os.close(fd)

    def keep(self, context: Context) -> None:
        """Note whose they are and leave everything to the later steps."""
        if self._inodes:
            self._note.settle(self._inodes)
        else:  # no permission anywhere
            self._note.drop()
        kept = context.kept
        kept["cgroups"] = self.directories
        kept["cgroup_dirs"] = self.fds
        kept["cgroup_joins"] = self._joins
        if "" in self.fds and self._by_clone:
            kept["cgroup_fd"] = self.fds[""]


class Note:
    """The note in the state directory: absent, begun (empty), or directory -> inode of what was entered.

    Without a state directory it is kept in memory.
    """

    def __init__(self, context: Context) -> None:
        self._at = context.state_dir
        self._kept = context.kept
        self._fd = -1

    def begin(self) -> None:
        """Note that making starts."""
        if self._at < 0:
            self._kept["cgroup_note"] = {}
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(_NOTE, flags, 0o600, dir_fd=self._at)

    def settle(self, inodes: dict[str, int]) -> None:
        """Note what was made or found empty."""
        if self._at < 0:
            self._kept["cgroup_note"] = inodes
            return
        os.write(self._fd, jsonio.dumps(inodes).encode())
        os.close(self._fd)
        self._fd = -1

    def drop(self) -> None:
        """There is nothing of this container's any more."""
        if self._at < 0:
            self._kept.pop("cgroup_note", None)
            return
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        try:
            os.unlink(_NOTE, dir_fd=self._at)
        except FileNotFoundError:
            return

    def read(self) -> dict[str, int] | None:
        """None for absent, an empty mapping for begun."""
        if self._at < 0:
            found: dict[str, int] | None = self._kept.get("cgroup_note")
            return found
        try:
            fd = os.open(_NOTE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._at)
        except FileNotFoundError:
            return None
        try:
            data = jsonio.loads(os.read(fd, 1 << 20))
        except ValueError:  # killed before or while it was written
            data = {}
        finally:
            os.close(fd)
        return data if isinstance(data, dict) else {}


def _looks_frozen(fd: int, controller: str) -> bool:
    if controller == "freezer":
        return cgroupfs.read(fd, "freezer.state") != "THAWED"
    try:
        return cgroupfs.read(fd, "cgroup.freeze") == "1"
    except SyscallError as error:
        if error.errno != _ENOENT:  # Linux before 5.2
            raise
        return False


def seed_cpuset(fd: int, depth: int, new: bool = False) -> None:
    """Give a v1 cpuset, and those above it, CPUs and memory nodes where it has none: its parent's.

    An empty cpuset cannot be joined (cpuset(7)); ``depth`` is how far below the root of the hierarchy it is.
    """
    empty: list[tuple[int, list[str]]] = []  # from here upwards: descriptor, values
    here = os.dup(fd)
    values = ["" if new else cgroupfs.read(here, name) for name in _CPUSET]
    try:
        while not all(values) and len(empty) < depth:
            empty.append((here, values))
            here = os.open("..", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=here)
            values = [cgroupfs.read(here, name) for name in _CPUSET]
        for child, own in reversed(empty):
            for name, value, inherited in zip(_CPUSET, own, values, strict=True):
                if not value:
                    cgroupfs.write(child, name, inherited)
            values = [value or inherited for value, inherited in zip(own, values, strict=True)]
    finally:
        for used in (here, *(child for child, _ in empty)):
            os.close(used)


def _enable_controllers(fd: int) -> None:
    """Hand all controllers a cgroup has to its children; what cannot be handed on shows when its limit is set.

    A cgroup with processes in it is left as it is (EBUSY): the controllers that it could hand on would make it,
    and with it everybody's cgroups below, threaded (cgroups(7), Thread mode).
    """
    enabled = frozenset(cgroupfs.read(fd, "cgroup.subtree_control").split())
    missing = [name for name in cgroupfs.read(fd, "cgroup.controllers").split() if name not in enabled]
    if not missing:
        return
    try:
        cgroupfs.write(fd, "cgroup.subtree_control", " ".join(f"+{name}" for name in missing))
    except SyscallError as error:
        if error.errno != _EBUSY:
            for name in missing:
                _enable_one(fd, name)


def _enable_one(fd: int, name: str) -> None:
    try:
        cgroupfs.write(fd, "cgroup.subtree_control", f"+{name}")
    except SyscallError:
        return
