"""Put a compiled program into the cache, and keep the cache small. Runs only after a compilation."""

from __future__ import annotations

import time

from gosudacon.base import posix

#: At most so many programs are kept; each is at most 32 KiB.
LIMIT = 64
_FORGOTTEN = 600.0  # seconds after which a file that was never renamed is taken for a crashed process's


def save(directory: str, name: str, data: bytes) -> None:
    """Keep ``data`` as ``name`` in ``directory``, which is made if its parent's parent exists.

    Failing to is not an error: the next container compiles again. Nothing is written where others could write.
    """
    try:
        fd = _open(directory, 0o700, depth=2)
    except OSError:
        return
    try:
        if _trusted(fd):
            _make_room(fd)
            _write(fd, name, data)
    except OSError:
        return
    finally:
        posix.close(fd)


def _open(path: str, mode: int, depth: int) -> int:
    flags = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
    try:
        return posix.open(path, flags)
    except FileNotFoundError:
        if depth == 0:
            raise
    parent, _, name = path.rstrip("/").rpartition("/")
    above = _open(parent or "/", 0o755, depth - 1)
    try:
        if not _trusted(above):
            raise PermissionError
        _mkdir(name, mode, above)
        return posix.open(name, flags, dir_fd=above)
    finally:
        posix.close(above)


def _mkdir(name: str, mode: int, above: int) -> None:
    try:
        posix.mkdir(name, mode, dir_fd=above)
    except FileExistsError:
        return  # another container's runtime was faster


def _trusted(fd: int) -> bool:
    status = posix.fstat(fd)
    return status.st_uid in (0, posix.geteuid()) and not status.st_mode & 0o022


def _write(directory: int, name: str, data: bytes) -> None:
    temporary = f".{posix.getpid()}.{name[:16]}"
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
    fd = posix.open(temporary, flags, 0o600, dir_fd=directory)
    try:
        try:
            complete = posix.write(fd, data) == len(data)
        finally:
            posix.close(fd)
        if complete:
            posix.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
            return
    except OSError:
        posix.unlink(temporary, dir_fd=directory)
        raise
    posix.unlink(temporary, dir_fd=directory)


def _make_room(directory: int) -> None:
    """Remove the oldest programs above `LIMIT` less one, and what crashed processes left."""
    ages = []
    now = time.time()
    for name in posix.listdir(directory):
        try:
            changed = posix.stat(name, dir_fd=directory, follow_symlinks=False).st_mtime
        except FileNotFoundError:
            continue
        if not name.startswith("."):
            ages.append((changed, name))
        elif now - changed > _FORGOTTEN:
            _unlink(name, directory)
    for _, name in sorted(ages)[: max(len(ages) - LIMIT + 1, 0)]:
        _unlink(name, directory)


def _unlink(name: str, directory: int) -> None:
    try:
        posix.unlink(name, dir_fd=directory)
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        return
