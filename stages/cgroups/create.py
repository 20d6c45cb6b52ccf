"""The step that makes a container's cgroups and, when undone by another process, removes them.

A cgroup that was there before is used if it is empty, as runc does, and refused if it has processes or is
frozen. Whose it is must be known when it is removed, possibly by another process after a crash. So the note in the
state directory says first which of them are there already, before any is made, and then, before a process enters,
the inode of each that was made or found empty. Nothing else is ever killed or removed.

`delete` imports this module and nothing that only `create` needs, such as system calls through `_ctypes`: what makes
the cgroups is imported when they are made.
"""

from __future__ import annotations

from errno import EACCES, EPERM, EROFS

from gosudacon.api import PREPARE, Context, Step, StepError
from gosudacon.base import jsonio, layout, posix
from gosudacon.base.errors import SyscallError
from gosudacon.linux.cgroup import hierarchy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from gosudacon.stages.cgroups.making import Making
    from gosudacon.stages.cgroups.paths import Place

    class Line(TypedDict, total=False):
        """A line of `Note`: directories with their inodes."""

        before: dict[str, int]
        owned: dict[str, int]
        above: dict[str, int]
        inherits: dict[str, int]


_PERMISSION = (EPERM, EACCES, EROFS)
_INHERITED = b'{"inherits"'
_UNKNOWN = -1  # instead of an inode: not to be looked at, and so nothing that could be made


class Held:
    """What the steps of this stage leave for each other."""

    def __init__(self) -> None:
        self.joins: dict[str, int] = {}  # path -> descriptor to write ``0`` to
        self.note = b""  # the note, where there is no state directory for it


class CreateCgroup(Step):
    """Make the container's cgroup in every hierarchy; `undo` removes it with all that is left in it.

    Leaves `Context.cgroups`, ``cgroup_dirs`` and ``cgroup_fd``, and for `JoinCgroup` the files of `Held.joins`.

    Why: a cgroup counts and limits what the container's processes use, and finds all of them when it is deleted.
    Without it: no limit would hold, and what forks away from init would outlive the container.
    See: cgroups(7); runtime-spec config-linux.md, Cgroups Path.
    """

    phase = PREPARE
    where = "linux.cgroupsPath"
    lasts = True
    modules = ("gosudacon.linux.cgroup.processes",)
    recorded_as = ("cgroups.create", 1)
    places: list[Place]
    rootless: bool = False  # what the caller may not make is left out

    def describe(self) -> str:
        by_path: dict[str, list[str]] = {}
        for _, path, controllers in self.places:
            by_path.setdefault(path, []).extend(name or "unified" for name in controllers)
        if list(by_path.values()) == [["unified"]]:
            made = f"create cgroup /{next(iter(by_path))}"
        else:
            made = "; ".join(f"create cgroup /{path} in {', '.join(names)}" for path, names in by_path.items())
        return f"{made}{self._filled()}" + (", as far as the caller may" if self.rootless else "")

    def _filled(self) -> str:
        """What the cgroup gets at once, without which no limit could be set, or no process could enter."""
        cpuset = any("cpuset" in controllers for _, _, controllers in self.places)
        return "; an empty cpuset gets CPUs and memory nodes from above" if cpuset else ""

    def run(self, context: Context) -> None:
        from gosudacon.stages.cgroups.making import Making

        note = Note(context)
        before = {f"{point}/{path}": self._inode(f"{point}/{path}") for point, path, _ in self.places}
        note.expect(before)
        making = Making(context, note, before)
        try:
            for place in self.places:
                try:
                    self._enter(making, *place)
                except (OSError, SyscallError) as error:
                    if not self._may_not(error):
                        raise
            making.refuse_populated()
            making.keep(context)
        except BaseException:
            making.close()
            raise

    def _enter(self, making: Making, point: str, path: str, controllers: list[str]) -> None:
        making.make(point, path, controllers)

    def _inode(self, directory: str) -> int:
        try:
            return posix.lstat(directory).st_ino
        except FileNotFoundError:
            return 0
        except OSError as error:
            if not self._may_not(error):
                raise
            return _UNKNOWN

    def _may_not(self, error: OSError) -> bool:
        """Whether this is what a caller without privileges has to live with."""
        return self.rootless and error.errno in _PERMISSION

    def undo(self, context: Context) -> None:
        held = context.own(Held)
        for fd in {*context.cgroup_dirs.values(), *held.joins.values()}:  # they may be all that this process can open
            posix.close(fd)
        context.cgroup_dirs, held.joins = {}, {}
        note = Note(context)
        found = note.read()
        if found is None:  # never begun
            return
        left: dict[str, str] = {}
        for point, path, controllers in self.places:
            if not self._remove(point, path, *found):
                left.update((controller, f"{point}/{path}") for controller in controllers)
        if left:
            from gosudacon.linux.cgroup import processes

            processes.remove(left)
        if note.inherited():
            from gosudacon.stages.cgroups import above

            above.remove(note)
        note.drop()

    def _remove(self, point: str, path: str, settled: bool, inodes: dict[str, int]) -> bool:
        """Remove a cgroup if it is this container's; False if that takes more than rmdir(2)."""
        known = inodes.get(f"{point}/{path}", 0)
        try:
            base = hierarchy.open_hierarchy(point)
        except FileNotFoundError:
            return True
        try:
            if settled and known and hierarchy.inode(base, path) == known:
                return hierarchy.rmdir(base, path)
            if not settled and not known:
                hierarchy.rmdir(base, path)  # none of our processes was in yet: if it is not empty, it is not ours
        except SyscallError as error:
            if not self._may_not(error):
                raise
        finally:
            posix.close(base)
        return True


def inode_of(directory: str) -> int:
    """The inode number of a cgroup; 0 if it does not exist."""
    try:
        return posix.lstat(directory).st_ino
    except FileNotFoundError:
        return 0


class CreateUnifiedCgroup(CreateCgroup):
    """Make the container's cgroup in the unified hierarchy, with every controller that is available on the way.

    Why: with version 2 there is one hierarchy, in which controllers are handed down from the root to the
    container's cgroup.
    Without it: the files that limits are written to would not be there.
    See: cgroups(7); Documentation/admin-guide/cgroup-v2.rst; runtime-spec config-linux.md, Cgroups Path.
    """

    recorded_as = ("cgroups.create-unified", 1)

    def _filled(self) -> str:
        return " with all available controllers"

    def _enter(self, making: Making, point: str, path: str, controllers: list[str]) -> None:
        from gosudacon.linux.cgroup import files
        from gosudacon.stages.cgroups.making import enable_controllers

        making.make(point, path, controllers, enable_controllers)
        kind = files.read(making.fds[""], "cgroup.type")
        if kind != "domain":
            raise StepError(f"cannot enter cgroup /{path}: it is in {kind} mode", hint="cgroups(7), Thread mode")


class Note:
    """The note in the state directory. A line is added before each change; the last complete one counts.

    ``{"before": …}`` has the directories to be made, with the inode of each that is there already, else 0;
    ``{"owned": …}`` has the inode of each that was made or found empty. Both have ``"above"`` if parents were missing:
    those about to be made, with 0, or made, with their inodes. ``{"inherits": …}`` has parents that another container
    made and left to this one; it counts wherever it is. Without a state directory all is kept in memory.
    """

    def __init__(self, context: Context) -> None:
        self.at = context.state_dir  # where it is; -1: nowhere
        self._held = context.own(Held)
        self._entered = context.cgroups_entered
        self.above: dict[str, int] = {}  # as `read` has found it

    def expect(self, before: dict[str, int], above: dict[str, int] | None = None) -> None:
        """Note what is about to be made, and what is there already."""
        self._add({"before": before, **({"above": above} if above else {})})

    def settle(self, inodes: dict[str, int], above: dict[str, int] | None = None) -> None:
        """Note what was made or found empty."""
        self._add({"owned": inodes, **({"above": above} if above else {})})

    def inherit(self, above: dict[str, int]) -> None:
        """Note parents that another container has left to this one. Raises OSError if there is no note any more."""
        self._add({"inherits": above}, flags=0)

    def inherited(self) -> dict[str, int]:
        """`above`, with what others have left to this container since `read`: its own cgroups have gone meanwhile."""
        if self.at >= 0:
            try:
                self._read_lines()
            except (OSError, ValueError, LookupError, TypeError):
                pass
        return self.above

    def drop(self) -> None:
        """There is nothing of this container's any more."""
        self._held.note = b""
        for name in (layout.CGROUPS_NOTE, layout.OLD_CGROUPS_NOTE) if self.at >= 0 else ():
            try:
                posix.unlink(name, dir_fd=self.at)
            except (FileNotFoundError, IsADirectoryError):
                continue

    def read(self) -> tuple[bool, dict[str, int]] | None:
        """Whether it is settled, and the inodes; None if nothing has been made. Raises OSError.

        Of a container that was complete, state.json knows what was entered, if the note was damaged since. One that is
        gone may have been dropped, and the cgroups be another container's by now: only what is empty is removed.
        """
        entered = self._entered
        found: tuple[bool, dict[str, int]] | None
        try:
            found = self._read_lines()
        except FileNotFoundError:
            return (False, {}) if entered else None
        except (ValueError, LookupError, TypeError):
            found = False, {}
        except OSError:
            if not entered:  # too many open files, for one: what it says is needed
                raise
            found = None
        if entered and not (found and found[0]):
            return True, {path: inode_of(path) for path in entered.values()}
        return found

    def _read_lines(self) -> tuple[bool, dict[str, int]] | None:
        """What the last complete line says."""
        try:
            text = self._held.note if self.at < 0 else self._read(layout.CGROUPS_NOTE)
        except FileNotFoundError:
            return self._read_old()
        lines = text.split(b"\n")[:-1]
        own = [line for line in lines if not line.startswith(_INHERITED)]
        if not own:
            return None
        note: Line = jsonio.loads(own[-1])  # type: ignore[assignment]  # what it is not raises
        settled = "owned" in note
        self.above = dict(note["above"]) if "above" in note else {}
        for line in lines if len(own) < len(lines) else ():
            if line.startswith(_INHERITED):
                self.above |= jsonio.loads(line)["inherits"]  # type: ignore
        return settled, dict(note["owned"] if settled else note["before"])

    def _read_old(self) -> tuple[bool, dict[str, int]]:
        text = self._read(layout.OLD_CGROUPS_NOTE)
        if not text:  # killed before the inodes were written: what is empty is removed
            return False, {}
        inodes: dict[str, int] = jsonio.loads(text)  # type: ignore[assignment]  # as above
        return True, dict(inodes)

    def _add(self, what: dict[str, dict[str, int]], flags: int = posix.O_CREAT) -> None:
        line = jsonio.dumps(what).encode() + b"\n"
        if self.at < 0:
            self._held.note += line
            return
        flags |= posix.O_WRONLY | posix.O_APPEND | posix.O_NOFOLLOW | posix.O_CLOEXEC
        fd = posix.open(layout.CGROUPS_NOTE, flags, 0o600, dir_fd=self.at)
        try:
            posix.write_all(fd, line, layout.CGROUPS_NOTE)
        finally:
            posix.close(fd)

    def _read(self, name: str) -> bytes:
        fd = posix.open(name, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_CLOEXEC, dir_fd=self.at)
        try:
            return posix.read(fd, 1 << 20)
        finally:
            posix.close(fd)
