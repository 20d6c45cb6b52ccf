"""The registry's data kept in a root-owned file, since finding it anew costs more than the rest of ``create``."""

from __future__ import annotations

import os
import sys
from zlib import crc32

from gosudacon import __version__
from gosudacon.linux import jsonio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_DIRECTORY = "/var/cache/gosudacon"
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def load(config: str) -> dict[str, Any] | None:
    """The data saved for this configuration file; None if there is none, it is stale, or others could write it."""
    try:
        fd = os.open(_path(config), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not _trusted(os.fstat(fd)):
            return None
        saved = jsonio.loads(os.read(fd, 1 << 20))
    except (OSError, ValueError):
        return None
    finally:
        os.close(fd)
    if not isinstance(saved, dict) or saved.get("key") != _key(config):
        return None
    if any(_stamp(path) != stamp for path, stamp in saved["files"].items()):
        return None
    data: dict[str, Any] = saved["data"]
    return data


def save(config: str, data: dict[str, Any], files: list[str]) -> None:
    """Keep the data with what it depends on; failing to is no error, the next command just looks again."""
    path = _path(config)
    text = jsonio.dumps({"key": _key(config), "files": {file: _stamp(file) for file in files}, "data": data})
    temporary = f"{path}.{os.getpid()}"
    try:
        directory = os.path.dirname(path)
        os.makedirs(directory, 0o755, exist_ok=True)
        if not _trusted(os.stat(directory)):
            return
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError:
        return


def _path(config: str) -> str:
    if os.geteuid() == 0:
        directory = _DIRECTORY
    else:
        directory = os.path.join(os.environ.get("XDG_RUNTIME_DIR") or "/nonexistent", "gosudacon-cache")
    name = f"{_PACKAGE}\n{config}\n{sys.implementation.cache_tag}".encode(errors="surrogateescape")
    return f"{directory}/stages-{crc32(name):08x}.json"


def _trusted(status: os.stat_result) -> bool:
    return status.st_uid in (0, os.geteuid()) and not status.st_mode & 0o022


def _key(config: str) -> list[Any]:
    return [__version__, sys.version, _PACKAGE, config, _stamp(config), _stamp(_PACKAGE)]


def _stamp(path: str) -> list[int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_mtime_ns, status.st_size, status.st_ino, status.st_uid, status.st_mode]
