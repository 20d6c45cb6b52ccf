"""The cgroup filesystems: hierarchies and cgroups opened, made, walked and removed by descriptor, never by path.

Both versions look alike here (cgroups(7)). All names that come from elsewhere are single names or relative
paths that openat2(2) keeps below the hierarchy they were given for. `cgroupdir`, offered here too, has the part
that needs no system call beyond `posix`.
"""

from __future__ import annotations

from errno import ENODEV, ENOENT

from gosudacon.base import posix
from gosudacon.base.errors import SyscallError
from gosudacon.linux import mount, path
from gosudacon.linux.cgroup.hierarchy import DIRECTORY as _DIRECTORY
from gosudacon.linux.cgroup.hierarchy import inode as inode
from gosudacon.linux.cgroup.hierarchy import open_hierarchy as open_hierarchy
from gosudacon.linux.cgroup.hierarchy import rmdir as rmdir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BENEATH = path.RESOLVE_BENEATH | path.RESOLVE_NO_XDEV | path.RESOLVE_NO_SYMLINKS | path.RESOLVE_NO_MAGICLINKS
_STRAIGHT = path.RESOLVE_NO_SYMLINKS | path.RESOLVE_NO_MAGICLINKS
_MAGICS = (mount.CGROUP_SUPER_MAGIC, mount.CGROUP2_SUPER_MAGIC)
_TRIES = 10  # of making parents that others remove
_NEARLY_A_PAGE = 2048  # the kernel hands out a page of short lines at a time: less than this was the last


def open_directory(directory: str) -> int:
    """A descriptor of a cgroup by the absolute path that was kept of it, which may hold no symlinks.

    Raises `SyscallError`: ENODEV if the directory is on no cgroup filesystem.
    """
    fd = path.openat2(mount.AT_FDCWD, directory, posix.O_RDONLY | posix.O_DIRECTORY, _STRAIGHT)
    if mount.filesystem_type(fd) not in _MAGICS:
        posix.close(fd)
        raise SyscallError(ENODEV, "open cgroup", directory)
    return fd


def open_below(fd: int, name: str) -> int:
    """A descriptor of the cgroup ``name`` (a relative path) below ``fd``; leads nowhere else (openat2(2))."""
    return path.openat2(fd, name, posix.O_RDONLY | posix.O_DIRECTORY, _BENEATH)


def make(
    fd: int,
    name: str,
    level: Callable[[int], None] | None = None,
    note: Callable[[str, int], None] = lambda _name, _inode: None,
) -> tuple[int, bool]:
    """Make the cgroup ``name`` (a relative path without ``..``) below ``fd``.

    Returns its descriptor, and whether it was not there before. ``level`` is called with the descriptor of
    every cgroup above it, from ``fd`` down. Existing parents are used; missing ones are made (mode 0755),
    even if another process makes or removes them at the same time. ``note`` is called with the path of each before it
    is made, and 0, and again with its inode if it was this process that made it.
    """
    if ".." in name.split("/"):
        raise ValueError(f"{name!r} could lead out of the hierarchy")
    if level is None:
        try:
            return _make_one(fd, name)
        except SyscallError as error:
            if error.errno != ENOENT:
                raise
    for attempt in range(_TRIES):
        try:
            return _make_below(fd, name, level, note)
        except SyscallError as error:  # a parent was empty, and has been removed with another container
            if error.errno not in (ENOENT, ENODEV) or attempt == _TRIES - 1:
                raise
    raise AssertionError


def _make_below(
    fd: int, name: str, level: Callable[[int], None] | None, note: Callable[[str, int], None]
) -> tuple[int, bool]:
    names = name.split("/")
    here = posix.dup(fd)
    try:
        for depth, part in enumerate(names[:-1], 1):
            if level:
                level(here)
            child = _make_parent(here, part, "/".join(names[:depth]), note)
            posix.close(here)
            here = child
        if level:
            level(here)
        return _make_one(here, names[-1])
    finally:
        posix.close(here)


def _make_parent(fd: int, part: str, name: str, note: Callable[[str, int], None]) -> int:
    try:
        return open_below(fd, part)
    except SyscallError as error:
        if error.errno != ENOENT:
            raise
    note(name, 0)
    child, made = _make_one(fd, part)
    if made:
        note(name, posix.fstat(child).st_ino)
    return child


def _make_one(parent: int, name: str) -> tuple[int, bool]:
    made = True
    try:
        posix.mkdir(name, 0o755, dir_fd=parent)  # a cgroup filesystem holds no symlinks that could lead elsewhere
    except FileExistsError:
        made = False
    except OSError as error:
        raise SyscallError(error.errno or 0, "mkdir", f"cgroup {name}") from None
    return open_below(parent, name), made


def read(fd: int, name: str) -> str:
    """The contents of a cgroup's file, without the final newline. Raises `SyscallError`."""
    try:
        file = posix.open(name, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=fd)
        try:
            data = chunk = posix.read(file, 65536)
            while len(chunk) > _NEARLY_A_PAGE:
                chunk = posix.read(file, 65536)
                data += chunk
        finally:
            posix.close(file)
    except OSError as error:
        raise SyscallError(error.errno or 0, "read", name) from None
    return data.decode().rstrip("\n")


def write(fd: int, name: str, value: str) -> None:
    """Write ``value`` to a cgroup's file in one write(2). Raises `SyscallError`, ValueError for a path as name."""
    if "/" in name or name in ("", ".", ".."):
        raise ValueError(f"{name!r} is not the name of a cgroup's file")
    try:
        file = posix.open(name, posix.O_WRONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=fd)
        try:
            posix.write(file, value.encode())
        finally:
            posix.close(file)
    except OSError as error:
        raise SyscallError(error.errno or 0, "write", name) from None


def walk(top: int) -> Iterator[tuple[int, str]]:
    """Every cgroup below ``top``, children before their parents, as (descriptor of the one above it, name).

    Holds two descriptors however deep a container nests its cgroups: the way back is ``..``, which no
    process can change in a cgroup filesystem.
    """
    here = posix.dup(top)
    path_names: list[str] = []
    pending = [_children(here)]
    try:
        while True:
            if pending[-1]:
                name = pending[-1].pop()
                try:
                    child = posix.open(name, _DIRECTORY, dir_fd=here)
                except FileNotFoundError:
                    continue
                posix.close(here)
                here = child
                path_names.append(name)
                pending.append(_children(here))
            elif path_names:
                pending.pop()
                above = posix.open("..", _DIRECTORY, dir_fd=here)
                posix.close(here)
                here = above
                yield here, path_names.pop()
            else:
                return
    finally:
        posix.close(here)


def _children(fd: int) -> list[str]:
    try:
        with posix.scandir(fd) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
