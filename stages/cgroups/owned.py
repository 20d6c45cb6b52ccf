"""The step that makes a container's cgroups and, from another process, takes them away again.

A cgroup that was there before is used if it is empty, as runc does, and refused if it has processes or is
frozen. Whose it is must be known when it is removed, possibly by another process after a crash: what was
entered is noted with its inode in the state directory, and nothing else is ever killed or removed.

`delete` imports this module and nothing that only `create` needs, such as system calls through `_ctypes`: what makes
the cgroups is imported when they are made.
"""

from __future__ import annotations

from gosudacon.api import PREPARE, Context, Step, StepError
from gosudacon.linux import cgroupdir, jsonio
from gosudacon.linux import system as os
from gosudacon.linux.errors import SyscallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gosudacon.stages.cgroups.create import Making

_NOTE = "cgroups.json"
_PERMISSION = (1, 13, 30)  # EPERM, EACCES, EROFS


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
        from gosudacon.stages.cgroups.create import Making

        note = Note(context)
        note.begin()
        making = Making(context, note)
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

    def _enter(self, making: Making, point: str, path: str, controllers: list[str]) -> None:
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
            base = cgroupdir.open_hierarchy(point)
        except FileNotFoundError:
            return True
        try:
            known = owned.get(f"{point}/{path}", 0)
            if not owned:  # cut short before the inodes were noted: nobody was in yet
                cgroupdir.rmdir(base, path)
            elif known and cgroupdir.inode(base, path) == known:
                return cgroupdir.rmdir(base, path)
        except SyscallError as error:
            if not self.rootless or error.errno not in _PERMISSION:
                raise
        finally:
            os.close(base)
        return True


class CreateUnifiedCgroup(CreateCgroup):
    """Make the container's cgroup in the unified hierarchy, with every controller that can be had on the way."""

    def _enter(self, making: Making, point: str, path: str, controllers: list[str]) -> None:
        from gosudacon.linux import cgroupfs
        from gosudacon.stages.cgroups.create import enable_controllers

        making.make(point, path, controllers, enable_controllers)
        kind = cgroupfs.read(making.fds[""], "cgroup.type")
        if kind != "domain":
            raise StepError(f"cannot enter cgroup /{path}: it is in {kind} mode", hint="cgroups(7), Thread mode")


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
