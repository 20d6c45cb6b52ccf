"""The parents that `create` has made for a container's cgroups: removed with the last container below them."""

from __future__ import annotations

from gosudacon.api import Context, Host, Spec
from gosudacon.base import posix
from gosudacon.linux.cgroup import hierarchy
from gosudacon.stages.cgroups.create import Note, inode_of

_UNREADABLE = (OSError, ValueError, LookupError, TypeError)


def remove(note: Note) -> None:
    """Remove the parents that the note has, as far as they are still those, and empty.

    Those in which others are become the matter of another container below them, if there is one. That one may be
    deleted just now: it looks for what it was left when its own cgroups have gone, and here is looked once more whether
    they have. What cannot be removed or handed over stays; it does no harm.
    """
    left = _remove_all(note.above)
    if left and note.at >= 0:
        _hand_over(note.at, left)
        _remove_all(left)


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


def _hand_over(state_dir: int, left: dict[str, int]) -> None:
    """Add the parents to the note of one of the containers whose state is next to ``state_dir``."""
    try:
        root = posix.open("..", hierarchy.DIRECTORY, dir_fd=state_dir)
    except OSError:
        return
    try:
        here = posix.fstat(state_dir)
        for name in posix.listdir(root):
            if left and posix.stat(name, dir_fd=root, follow_symlinks=False).st_ino != here.st_ino:
                left = _leave_to(root, name, left)
    except FileNotFoundError:  # another one has just been deleted
        return
    finally:
        posix.close(root)


def _leave_to(root: int, name: str, left: dict[str, int]) -> dict[str, int]:
    """What is left when the container ``name`` has taken the parents that it is below."""
    try:
        fd = posix.open(name, hierarchy.DIRECTORY, dir_fd=root)
    except OSError:
        return left
    try:
        context = Context(Spec({}, name, ""), Host())
        context.state_dir = fd
        heir = Note(context)
        settled, cgroups = heir.read() or (False, {})
        alive = [path for path, inode in cgroups.items() if not settled or inode_of(path) == inode]
        taken = {path: left[path] for path in left if any(own.startswith(f"{path}/") for own in alive)}
        if taken:
            heir.inherit(taken)
        return {path: inode for path, inode in left.items() if path not in taken}
    except _UNREADABLE:
        return left
    finally:
        posix.close(fd)
