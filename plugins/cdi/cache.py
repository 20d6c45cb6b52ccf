"""What specification files said, kept between commands: reading YAML takes longer than making a container.

One file for each directory, where only the host's root can write. An entry counts while its
file is the one that was read: device, inode, size and times are the same.
"""

from __future__ import annotations

from time import time_ns
from zlib import crc32

from gosudacon import __version__
from gosudacon.base import jsonio, layout, posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.plugins.cdi.document import Document

DIRECTORY = f"{layout.CACHE}/{layout.CDI_CACHE}"
_FORMAT = [__version__, 1]
_SETTLED = 2_000_000_000  # ns: a file that is younger may change again without another time
_READ = posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_CLOEXEC
_WRITE = posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_NOFOLLOW | posix.O_CLOEXEC


class Cache:
    """The documents of one directory of specification files. Nothing of it is an error: then files are read again."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._path = f"{DIRECTORY}/{crc32(directory.encode(errors='surrogateescape')):08x}.json"
        self._known: dict[str, list[object]] = _load(self._path, directory) if posix.geteuid() == 0 else {}
        self._seen: dict[str, list[object]] = {}

    def get(self, name: str, status: posix.stat_result) -> Document | None:
        """What a file of this name and stat(2) said, if that is known."""
        entry = self._known.get(name)
        if entry is None or entry[0] != _stamp(status):
            return None
        self._seen[name] = entry
        return entry[1]  # type: ignore[return-value]  # as `put` has kept it

    def put(self, name: str, status: posix.stat_result, document: Document) -> None:
        """Keep what a file said, unless it has just been written."""
        if time_ns() - max(status.st_ctime_ns, status.st_mtime_ns) > _SETTLED:
            self._seen[name] = [_stamp(status), document]

    def save(self) -> None:
        """Write it down if it is another one than before; what has no file any more is left out."""
        if posix.geteuid() != 0 or self._seen == self._known:
            return
        data = {"format": _FORMAT, "directory": self._directory, "files": self._seen}
        temporary = f"{self._path}.{posix.getpid()}"
        try:
            posix.makedirs(DIRECTORY, 0o755, exist_ok=True)
            if not _is_root_s(posix.lstat(DIRECTORY)):
                return
            fd = posix.open(temporary, _WRITE, 0o644)
            try:
                posix.write_all(fd, jsonio.dumps(data).encode(), temporary)
            finally:
                posix.close(fd)
            posix.rename(temporary, self._path)
        except OSError:  # a full disk, a read-only one
            return


def _load(path: str, directory: str) -> dict[str, list[object]]:
    try:
        fd = posix.open(path, _READ)
        try:
            if not _is_root_s(posix.fstat(fd)):
                return {}
            text = b""
            while chunk := posix.read(fd, 1 << 20):
                text += chunk
        finally:
            posix.close(fd)
        data = jsonio.loads(text)
    except (OSError, ValueError):
        return {}
    if not isinstance(data, dict) or data.get("format") != _FORMAT or data.get("directory") != directory:
        return {}
    files = data.get("files")
    return files if isinstance(files, dict) else {}


def _stamp(status: posix.stat_result) -> list[int]:
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _is_root_s(status: posix.stat_result) -> bool:
    return status.st_uid == 0 and not status.st_mode & 0o022
