"""The parents that `create` has made for a container's cgroups: removed with the last container below them."""

from __future__ import annotations

from gosudacon.api import Context, Host, Spec
from gosudacon.base import posix
from gosudacon.linux.cgroup import hierarchy
from gosudacon.stages.cgroups.create import Note, inode_of

_ROUNDS = 10  # more than containers that end one after the other while one looks at them
_UNREADABLE = (OSError, ValueError, LookupError, TypeError)


def remove(note: Note) -> None:
    """Remove the parents that the note has, as far as they are still those, and empty.

    Those in which others are become the matter of another container below them, if there is one. That one may be
    deleted just now: it looks for what it was left when its own cgroups have gone. So here is looked afterwards whether
    they have; if so, it may not have seen it, and what is still there is left to another one. What cannot be removed or
    handed over stays; it does no harm.
    """
    left = _remove_all(note.above)
    for _ in range(_ROUNDS):
        if not left or note.at < 0:
            return
        missed = _hand_over(note.at, left)
        left = {path: inode for path, inode in _remove_all(left).items() if path in missed}


def _remove_all(above: dict[str, int]) -> dict[str, int]:
    """What is still there, of these."""
    bottom_up = sorted(above.items(), key=lambda item: len(item[0]), reverse=True)
    return {path: inode for path, inode in bottom_up if not _remove(path, inode)}


def _remove(path: str, inode: int) -> bool:
    """Whether it is gone, or another one by now; ``inode`` 0: whichever it is."""
    parent, _, name = path.rpartition("/")
    try:
        fd = hierarchy.open_hierarchy(parent)
    except OSError:
        return True
    try:
        found = hierarchy.inode(fd, name)
        return not found or (inode and found != inode) or hierarchy.rmdir(fd, name)
    except OSError:
        return False
    finally:
        posix.close(fd)


def _hand_over(state_dir: int, left: dict[str, int]) -> set[str]:
    """Add the parents to the notes of containers whose states are next to ``state_dir``.

    Returns those that were left to a container that may have been deleted before it could see that.
    """
    missed: set[str] = set()
    try:
        root = posix.open("..", hierarchy.DIRECTORY, dir_fd=state_dir)
    except OSError:
        return missed
    try:
        here = posix.fstat(state_dir)
        for name in posix.listdir(root):
            if left and posix.stat(name, dir_fd=root, follow_symlinks=False).st_ino != here.st_ino:
                taken, sees_it = _leave_to(root, name, left)
                left = {path: inode for path, inode in left.items() if path not in taken}
                missed |= set() if sees_it else taken
    except FileNotFoundError:  # another one has just been deleted
        return missed | {*left}
    finally:
        posix.close(root)
    return missed


def _leave_to(root: int, name: str, left: dict[str, int]) -> tuple[set[str], bool]:
    """Those of the parents that the container ``name`` is below and has taken; whether it is certain to see them."""
    try:
        fd = posix.open(name, hierarchy.DIRECTORY, dir_fd=root)
    except OSError:
        return set(), True
    try:
        context = Context(Spec({}, name, ""), Host())
        context.state_dir = fd
        heir = Note(context)
        own = _alive(heir)
        taken = {path: left[path] for path in left if any(each.startswith(f"{path}/") for each in own)}
        if taken:
            heir.inherit(taken)
        return {*taken}, not taken or bool(_alive(heir))
    except _UNREADABLE:
        return set(), True
    finally:
        posix.close(fd)


def _alive(heir: Note) -> list[str]:
    """The container's own cgroups that are there, or about to be made."""
    settled, cgroups = heir.read() or (False, {})
    return [path for path, inode in cgroups.items() if not settled or inode_of(path) == inode]
