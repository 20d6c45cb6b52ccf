"""The registry's data kept in a root-owned file, since building it again costs more than the rest of ``create``."""

from __future__ import annotations

import sys
from zlib import crc32

from gosudacon import __version__
from gosudacon.base import jsonio, layout, posix
from gosudacon.base.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gosudacon.pipeline import order

_UNREADABLE = (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError)  # or not written by `save`
_PACKAGE = posix.path.dirname(posix.path.dirname(posix.path.abspath(__file__)))
_CHUNK = 1 << 14  # bytes; most snapshots are smaller
_kept: list[object] = []  # what stood in a snapshot


def key(config: str) -> list[object]:
    """What a snapshot for this configuration file is good for: the versions, the file as it is now, the package."""
    return [__version__, sys.version, _PACKAGE, config, _stamp(config), _stamp(_PACKAGE)]


def keep(config: str) -> None:
    """Read the snapshot for this configuration file, if there is one, and have `load` look at that first from now on.

    For a process of which others are forks.
    """
    _kept.clear()
    try:
        saved = _saved(_path(key(config)))
    except _UNREADABLE:
        return
    if saved is not None:
        _kept.append(saved)


def load(key: list[object]) -> order.Found | None:
    """The data saved under this `key`; None if it is missing, stale, or could have been written by others."""
    try:
        return (_fresh(_kept[-1], key) if _kept else None) or _fresh(_saved(_path(key)), key)
    except _UNREADABLE:
        return None


def _saved(path: str) -> Any:
    """What is in a snapshot, None if others could have written it. Raises one of `_UNREADABLE`."""
    fd = posix.open(path, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_CLOEXEC)
    try:
        return jsonio.loads(_read(fd)) if _trusted(posix.fstat(fd)) else None
    finally:
        posix.close(fd)


def _fresh(saved: Any, key: list[object]) -> order.Found | None:
    if saved["key"] != key or any(_stamp(path) != stamp for path, stamp in saved["files"].items()):
        return None
    data: order.Found = saved["data"]
    return data


def _read(fd: int) -> bytes:
    chunks = []
    while chunk := posix.read(fd, _CHUNK):
        chunks.append(chunk)
    return b"".join(chunks)


def save(key: list[object], data: order.Found, files: list[str]) -> None:
    """Keep the data with what it depends on; failing to is not an error, the next command just looks again."""
    path = _path(key)
    text = jsonio.dumps({"key": key, "files": {file: _stamp(file) for file in files}, "data": data}).encode()
    temporary = f"{path}.{posix.getpid()}"
    try:
        directory = posix.path.dirname(path)
        posix.makedirs(directory, 0o755, exist_ok=True)
        if not _trusted(posix.stat(directory)):
            return
        _write(temporary, text)
        posix.rename(temporary, path)
    except OSError:
        return
    remove_stale()


def remove_stale() -> None:
    """Remove the snapshots that no command will use again, and what killed processes have left, as far as possible."""
    directory = _directory()
    try:
        for name in posix.listdir(directory):
            if name.startswith("stages-") and not _is_of_use(f"{directory}/{name}"):
                posix.unlink(f"{directory}/{name}")
    except OSError:
        return


def clear() -> None:
    """Remove the whole cache unless the snapshot of another package is in it, as far as possible."""
    remove_stale()
    directory = _directory()
    try:
        others = [name for name in posix.listdir(directory) if name.startswith("stages-")]
        for name in list(others):
            if _saved(f"{directory}/{name}")["key"][2] == _PACKAGE:
                posix.unlink(f"{directory}/{name}")
                others.remove(name)
        if not others:
            for part in (layout.SECCOMP_CACHE, layout.CDI_CACHE):
                _remove_files(f"{directory}/{part}")
            posix.rmdir(directory)
    except _UNREADABLE:
        return


def _remove_files(directory: str) -> None:
    flags = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
    try:
        fd = posix.open(directory, flags)
    except FileNotFoundError:
        return
    try:
        for name in posix.listdir(fd):
            posix.unlink(name, dir_fd=fd)
    finally:
        posix.close(fd)
    posix.rmdir(directory)


def _is_of_use(path: str) -> bool:
    _, _, writer = path.rpartition(".json.")
    if writer.isdigit():
        return posix.path.exists(f"/proc/{writer}")
    try:
        _version, _python, package, config, stamp, *_ = _saved(path)["key"]
        return posix.path.exists(package) and (stamp is None or posix.path.exists(config))
    except _UNREADABLE:
        return False


def _write(path: str, text: bytes) -> None:
    # O_TRUNC: a process of the same number may have been killed here.
    fd = posix.open(path, posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_NOFOLLOW | posix.O_CLOEXEC, 0o644)
    try:
        if posix.write(fd, text) != len(text):
            raise OSError(28, path)  # ENOSPC
        posix.fsync(fd)  # or a crash leaves the new name with nothing behind it
    except OSError:
        posix.unlink(path)
        raise
    finally:
        posix.close(fd)


def _path(key: list[object]) -> str:
    name = f"{_PACKAGE}\n{key[3]}\n{sys.implementation.cache_tag}".encode(errors="surrogateescape")
    return f"{_directory()}/stages-{crc32(name):08x}.json"


def _directory() -> str:
    if posix.geteuid() == 0 and not posix.getenv("XDG_RUNTIME_DIR"):
        return layout.CACHE
    from gosudacon.base import user

    if user.is_host_root():
        return layout.CACHE
    try:
        return f"{user.runtime_dir(posix.environ)}/{layout.USER_CACHE}"
    except Error:
        return "/nonexistent"


def _trusted(status: posix.stat_result) -> bool:
    return status.st_uid in (0, posix.geteuid()) and not status.st_mode & 0o022


def _stamp(path: str) -> list[int] | None:
    try:
        status = posix.stat(path)
    except OSError:
        return None
    return [status.st_mtime_ns, status.st_size, status.st_ino, status.st_uid, status.st_mode]
