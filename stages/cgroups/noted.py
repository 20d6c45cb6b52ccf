"""Remove a container's cgroups by the note in its state directory, where state.json cannot be read."""

from __future__ import annotations

from gosudacon.api import PREPARE, Context, Step, StepError
from gosudacon.base import posix
from gosudacon.linux.cgroup import hierarchy, processes
from gosudacon.stages.cgroups import above
from gosudacon.stages.cgroups.create import Note, inode_of

_UNKNOWN = "no note says which cgroups are the container's"


class NotedCgroups(Step):
    """The cgroups that are noted as the container's, whichever step made them. It is in no plan, and only undone.

    Why: a command that is killed leaves cgroups that no plan names any more.
    Without it: `delete` could not find them.
    See: cgroups(7).
    """

    phase = PREPARE
    lasts = True
    recorded_as = ("cgroups.noted", 1)

    def describe(self) -> str:
        return "the cgroups that are noted as the container's"

    def undo(self, context: Context) -> None:
        """End what is in them, and remove them. Raises `StepError` if the note does not tell which they are."""
        note = Note(context)
        settled, inodes = note.read() or (False, {})
        if not settled:
            _remove_empty(inodes)
        left = {path for path, inode in inodes.items() if settled and inode and inode_of(path) == inode}
        points = context.host.cgroup_mounts
        cgroups = {name: path for path in left for name, point in points.items() if path.startswith(f"{point}/")}
        if not inodes or set(cgroups.values()) != left:  # the latter: of a hierarchy that is mounted elsewhere now
            raise StepError(_UNKNOWN)
        processes.remove(cgroups)
        above.remove(note)
        note.drop()


def _remove_empty(inodes: dict[str, int]) -> None:
    """Remove the cgroups that were to be made, and have nothing in them.

    Raises `StepError` if one has processes, or cannot be removed: was the note cut, they are the container's.
    """
    for path, inode in inodes.items():
        above, _, name = path.rpartition("/")
        try:
            parent = hierarchy.open_hierarchy(above)
        except FileNotFoundError:
            continue
        try:
            gone = not inode and hierarchy.rmdir(parent, name)
        finally:
            posix.close(parent)
        if not gone and (not inode or processes.pids({"": path})):
            raise StepError(_UNKNOWN)
