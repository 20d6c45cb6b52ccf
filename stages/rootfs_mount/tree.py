"""Attributes of a copied tree, mount by mount: where mount_setattr(2) for all of them at once would do too much.

Two things need it. A word such as ``ratime`` takes one kind of atime away from the mounts that have it, and leaves the
others as they are. And in a user namespace, a flag that the host has set on a mount must not be taken away: there the
kernel locks such flags, but not for the runtime, which copies the source with the host's rights.
"""

from __future__ import annotations

from errno import EINVAL, ELOOP, ENOENT, ENOTDIR, EPERM

from gosudacon.api import Context, Error
from gosudacon.base import posix
from gosudacon.linux import mount, path
from gosudacon.stages.rootfs_mount.options import attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

#: What the kernel locks (mount_namespaces(7)), as MOUNT_ATTR_* and as MS_*; the kind of atime besides, as one field.
LOCKABLE = 0x0F | mount.MOUNT_ATTR_NODIRATIME
LOCKABLE_FLAGS = 0x0F | mount.MS_NODIRATIME
_ST = {0x400: mount.MS_NOATIME, 0x800: mount.MS_NODIRATIME, 0x2000: mount.MS_NOSYMFOLLOW}  # statfs(2) -> MS_*
_ST_RELATIME = 0x1000
_OTHER_ATIME = "the options ask for another kind of atime than the source is locked to"


def flags(fd: int) -> int:
    """MS_* of the mount behind ``fd``."""
    held = mount.mount_flags(fd)
    found = held & 0x0F
    for st, ms in _ST.items():
        if held & st:
            found |= ms
    return found if held & (0x400 | _ST_RELATIME) else found | mount.MS_STRICTATIME


def held(fd: int) -> int:
    """MOUNT_ATTR_* of the mount behind ``fd``."""
    return attributes(flags(fd))


def check(has: int, set_: int, named: int) -> None:
    """Raise `Error` if the words (``set_``, and ``named`` to be cleared) take away a flag that the source has."""
    if has & named & LOCKABLE:
        raise Error("the options clear a flag that the source is locked to have", errno=EPERM)
    atime = has & mount.MOUNT_ATTR__ATIME
    if named & mount.MOUNT_ATTR__ATIME and atime and atime != set_ & mount.MOUNT_ATTR__ATIME:
        raise Error(_OTHER_ATIME, errno=EPERM)


def keep(has: int, set_: int, named: int) -> tuple[int, int]:
    """What to set and to clear where the kernel has refused: it has locked flags, so only add to them.

    Raises `Error` as `check`, and for any other kind of atime than the source has.
    """
    check(has, set_, named)
    if named & mount.MOUNT_ATTR__ATIME and has & mount.MOUNT_ATTR__ATIME != set_ & mount.MOUNT_ATTR__ATIME:
        raise Error(_OTHER_ATIME, errno=EPERM)
    return set_ & ~mount.MOUNT_ATTR__ATIME, named & mount.MOUNT_ATTR_NOSYMFOLLOW  # that one is never locked


def lose_atime(has: int, atime: int) -> int:
    """What to clear of a mount that ``has`` these, to lose those kinds of ``atime``."""
    return mount.MOUNT_ATTR__ATIME if has & mount.MOUNT_ATTR__ATIME & atime else 0


def change(context: Context, fd: int, place: int, wanted: list[int], locked: bool) -> None:
    """Set and clear (``wanted``) on the whole detached tree ``fd``, a copy of what is at ``place``.

    Raises `Error` if flags are ``locked`` and one is asked away; nothing has been changed then. The third of
    ``wanted``, kinds of atime, is for `take_atime`.
    """
    set_, clear, atime = wanted
    if locked and (clear or atime):
        for each in _each(context, fd, place):
            try:
                has = held(each)
                check(has, set_, clear | lose_atime(has, atime))
            finally:
                if each != fd:
                    posix.close(each)
    if set_ or clear:
        mount.mount_setattr(fd, set_, clear, recursive=True)


def take_atime(context: Context, fd: int, atime: int) -> None:
    """Take kinds of ``atime`` away from each mount of a tree that is attached: only then can each be changed."""
    for each in _each(context, fd, fd):
        try:
            lost = lose_atime(held(each), atime)
            if lost:
                _clear(each, lost)
        finally:
            if each != fd:
                posix.close(each)


def _clear(fd: int, attributes: int) -> None:
    try:
        mount.mount_setattr(fd, 0, attributes)
    except OSError as error:
        if error.errno != EINVAL:  # no mount is there
            raise


def _each(context: Context, fd: int, place: int) -> Iterator[int]:
    """The top of a tree, and a descriptor of each mount in it that is not hidden; ``place``: where that is seen."""
    yield fd
    for name in below(context, place):
        found = open_below(fd, name)
        if found >= 0:
            yield found


def below(context: Context, place: int) -> list[bytes]:
    """The paths, from there, of what is mounted below the directory ``place`` in this mount namespace."""
    proc = context.proc if context.proc >= 0 else posix.open("/proc", posix.O_PATH | posix.O_CLOEXEC)
    try:
        own = posix.fsencode(path.location(place, context.proc)).rstrip(b"/") + b"/"
        points = [mount.unescaped(line.split(b" ", 5)[4]) for line in mount.mountinfo(proc).splitlines()]
    finally:
        if proc != context.proc:
            posix.close(proc)
    return sorted({point[len(own) :] for point in points if point.startswith(own) and point != own})


def open_below(tree: int, name: bytes) -> int:
    """The mount at ``name`` below the top of a tree; -1 if it is hidden, or not there."""
    try:
        return path.openat2(tree, name, posix.O_PATH, path.RESOLVE_BENEATH | path.RESOLVE_NO_SYMLINKS)
    except OSError as error:
        if error.errno not in (ENOENT, ENOTDIR, ELOOP):
            raise
        return -1
