"""The builds below PREFIX/lib/gosudacon: one directory for each installation, with all that it runs.

The command in PREFIX/bin names its build, so that replacing the command replaces everything at once. The build before
it stays, and every build that a process was started from, because that process may import more of it.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# What `install` of version 0.1.0 wrote: entry, data and home, as these were called.
_FOLDERS = "folders"  # in a build: the directories that were made for it
_FIRST_FORMAT = r"(pyc|pyc\.[0-9a-f]+|home)"


def directory_of(prefix: str) -> Path:
    """Where the builds are."""
    return Path(prefix).absolute() / "lib" / "gosudacon"


@contextmanager
def locked(prefix: str) -> Iterator[Path]:
    """The directory of builds, made if need be, while no other installation changes it; removed if it is empty then."""
    directory = directory_of(prefix)
    while True:
        directory.mkdir(parents=True, exist_ok=True)
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(fd, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(fd), os.stat(directory)):
                break
        os.close(fd)  # the process that had the lock has removed the directory
    try:
        yield directory
    finally:
        with suppress(OSError):
            directory.rmdir()
        os.close(fd)


def new(directory: Path, name: str) -> Path:
    """A new, empty build for the command ``name``."""
    build = Path(tempfile.mkdtemp(prefix=f"{name}.{sys.implementation.cache_tag}.", dir=directory))
    build.chmod(0o755)
    return build


def of(prefix: str, name: str) -> Iterator[Path]:
    """The builds of the command ``name``, for whatever interpreter, and the files of the first format."""
    pattern = re.escape(name) + rf"\.[^.]+\.([a-z0-9_]{{8}}|{_FIRST_FORMAT})"
    return (path for path in directory_of(prefix).glob("*") if re.fullmatch(pattern, path.name))


def missing_folders(prefix: str, files: Iterable[Path]) -> list[str]:
    """The directories that an installation of these ``files`` has to make: what `uninstall` may remove again."""
    wanted = {above for path in [*files, directory_of(prefix) / "x"] for above in path.parents}
    return sorted(str(path) for path in wanted if not path.exists())


def note_folders(prefix: str, build: Path, made: Iterable[str]) -> None:
    """Note in a new build which directories were made for it, and for those before it. Raises OSError."""
    (build / _FOLDERS).write_text("\n".join({*made, *noted_folders(prefix)}))


def noted_folders(prefix: str) -> set[str]:
    """The directories that were made for the builds that there are."""
    found: set[str] = set()
    for note in directory_of(prefix).glob(f"*/{_FOLDERS}"):
        found.update(note.read_text().splitlines())
    return found


def remove_folders(folders: Iterable[str]) -> None:
    """Remove those that are empty."""
    for folder in sorted(folders, key=len, reverse=True):
        with suppress(OSError):
            os.rmdir(folder)


def remove(paths: Iterable[Path]) -> None:
    """Remove builds. Raises OSError."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def prune(prefix: str, name: str, build: Path, before: bytes) -> None:
    """Remove the builds of a command except ``build``, the one that the command ``before`` named, and those in use."""
    kept = [before, *_command_lines()]
    stale = (path for path in of(prefix, name) if path != build)
    remove([path for path in stale if not any(_mark(path) in text for text in kept)])


def flush(build: Path) -> None:
    """Return when everything in the build's filesystem is on disk: syncfs(2). Raises OSError."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(build, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.syncfs(fd) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(build))
    finally:
        os.close(fd)


def _mark(path: Path) -> bytes:
    """What a command that names this build has in it, and a process that was started from it in its command line."""
    return os.fsencode(str(path).partition(".pyc.")[0])


def _command_lines() -> Iterator[bytes]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            yield path.read_bytes()
