"""``tmpcopyup``: a tmpfs that begins with a copy of the directory it covers.

Copied by descriptor, never following a symlink, before the tmpfs can be seen in the container.
"""

from __future__ import annotations

from _stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG

from gosudacon.api import Error
from gosudacon.base import posix
from gosudacon.stages.rootfs_mount.filesystem import MountFilesystem, MountFilesystemClassic

_DEPTH = 256
_CHUNK = 1 << 20


class MountCopy(MountFilesystem):
    """A new tmpfs with the contents of the directory below.

    Why: a directory of the image becomes writable in memory, and keeps what was in it.
    Without it: the files of the image there would be hidden.
    See: tmpfs(5); fsopen(2); runtime-spec config.md, Mounts.
    """

    def fill(self, below: int, fd: int) -> None:
        copy_tree(below, fd)


class MountCopyClassic(MountFilesystemClassic):
    """A new tmpfs with the contents of the directory below, mounted with mount(2).

    Why: a directory of the image becomes writable in memory, and keeps what was in it.
    Without it: the files of the image there would be hidden.
    See: tmpfs(5); mount(2); runtime-spec config.md, Mounts.
    """

    fills = True

    def fill(self, below: int, fd: int) -> None:
        copy_tree(below, fd)


def copy_tree(source: int, target: int, depth: int = 0) -> None:
    """Copy what is in the directory ``source`` into the directory ``target`` (both may be O_PATH descriptors).

    Contents, types, owners, modes, times and extended attributes; hard links become separate files.
    Raises OSError, and `Error` for a tree more than 256 directories deep.
    """
    if depth > _DEPTH:
        raise Error(f"tmpcopyup: more than {_DEPTH} directories deep")
    listing = posix.open(".", posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC, dir_fd=source)
    try:
        for name in posix.listdir(listing):
            _copy(name, listing, target, depth)
    finally:
        posix.close(listing)


def _copy(name: str, source: int, target: int, depth: int) -> None:
    status = posix.stat(name, dir_fd=source, follow_symlinks=False)
    kind = S_IFMT(status.st_mode)
    if kind == S_IFLNK:
        posix.symlink(posix.readlink(name, dir_fd=source), name, dir_fd=target)
    elif kind == S_IFDIR:
        _copy_directory(name, source, target, status, depth)
    elif kind == S_IFREG:
        _copy_file(name, source, target, status)
    else:
        posix.mknod(name, status.st_mode, status.st_rdev, dir_fd=target)
        posix.chmod(name, status.st_mode & 0o7777, dir_fd=target)
    if kind in (S_IFDIR, S_IFREG):
        return
    posix.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
    posix.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=target, follow_symlinks=False)


def _copy_directory(name: str, source: int, target: int, status: posix.stat_result, depth: int) -> None:
    flags = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
    from_fd = posix.open(name, flags, dir_fd=source)
    try:
        posix.mkdir(name, 0o700, dir_fd=target)
        to_fd = posix.open(name, flags, dir_fd=target)
        try:
            copy_tree(from_fd, to_fd, depth + 1)
            _copy_attributes(from_fd, to_fd, status)
        finally:
            posix.close(to_fd)
    finally:
        posix.close(from_fd)


def _copy_file(name: str, source: int, target: int, status: posix.stat_result) -> None:
    flags = posix.O_NOFOLLOW | posix.O_CLOEXEC
    from_fd = posix.open(name, posix.O_RDONLY | posix.O_NONBLOCK | posix.O_NOCTTY | flags, dir_fd=source)
    try:
        to_fd = posix.open(name, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | flags, 0o600, dir_fd=target)
        try:
            while posix.sendfile(to_fd, from_fd, None, _CHUNK):
                pass
            _copy_attributes(from_fd, to_fd, status)
        finally:
            posix.close(to_fd)
    finally:
        posix.close(from_fd)


def _copy_attributes(source: int, target: int, status: posix.stat_result) -> None:
    posix.fchown(target, status.st_uid, status.st_gid)
    posix.fchmod(target, status.st_mode & 0o7777)  # after chown(2), which clears the set-id bits
    try:
        names = posix.listxattr(source)
    except OSError:
        names = []
    for name in names:
        try:
            posix.setxattr(target, name, posix.getxattr(source, name))
        except OSError:  # the tmpfs of older kernels has no user.* attributes
            continue
    posix.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
