"""Removing a container's cgroups by the note in its state directory alone, where state.json cannot be read."""

from __future__ import annotations

from gosudacon.api import PREPARE, Context, Step, StepError
from gosudacon.linux import cgroup
from gosudacon.linux import system as os
from gosudacon.stages.cgroups.owned import Note, inode_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_ENOENT, _EBUSY, _ENOTEMPTY = 2, 16, 39


class NotedCgroups(Step):
    """The cgroups that are noted as the container's, whichever step made them. It is in no plan, and only undone."""

    phase = PREPARE
    lasts = True
    recorded_as = ("cgroups.noted", 1)

    def describe(self) -> str:
        return "the cgroups that are noted as the container's"

    def undo(self, context: Context) -> None:
        """End what is in them, and remove them. Raises `StepError` if there is no note of them."""
        note = Note(context)
        settled, inodes = note.read() or (False, {})
        if not settled:
            _remove_empty(path for path, inode in inodes.items() if not inode)
        left = {path for path, inode in inodes.items() if settled and inode and inode_of(path) == inode}
        points = context.host.cgroup_mounts
        cgroups = {name: path for path in left for name, point in points.items() if path.startswith(f"{point}/")}
        if not inodes or set(cgroups.values()) != left:  # the latter: of a hierarchy that is mounted elsewhere now
            raise StepError("no note says which cgroups are the container's")
        cgroup.remove(cgroups)
        note.drop()


def _remove_empty(paths: Iterable[str]) -> None:
    """Remove cgroups in which no process of the container was yet: one with something in it is another's."""
    for path in paths:
        try:
            os.rmdir(path)
        except OSError as error:
            if error.errno not in (_ENOENT, _EBUSY, _ENOTEMPTY):
                raise
