"""What the hot path needs of `os`, by the same names: the built-in module `posix`, and a little more.

Importing `os` costs 0.8 ms of an interpreter's 4.5, nearly all of it for ``_collections_abc``. Its C half, `posix`, is
built in and already there, and has all that is thin over a system call. The rest is made up for here, for Linux only.
"""

from __future__ import annotations

import sys
from _stat import S_ISDIR, S_ISLNK, S_ISREG
from posix import *  # noqa: F403 - this module is `posix`, and a little more
from posix import (
    O_CLOEXEC,
    O_NOCTTY,
    O_NONBLOCK,
    O_RDONLY,
    _exit,
    close,
    environ,
    fspath,
    fstat,
    getcwd,
    lstat,
    mkdir,
    open,
    read,
    readlink,
    stat,
    strerror,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os

__all__ = ["_exit", "fsdecode", "fsencode", "getenv", "makedirs", "path", "sep", "strerror", "write_all"]

sep = "/"
_ENCODING = sys.getfilesystemencoding()


def fsencode(name: str | bytes | os.PathLike[str]) -> bytes:
    """`os.fsencode`."""
    name = fspath(name)
    return name.encode(_ENCODING, "surrogateescape") if isinstance(name, str) else name


def fsdecode(name: str | bytes | os.PathLike[str]) -> str:
    """`os.fsdecode`."""
    name = fspath(name)
    return name.decode(_ENCODING, "surrogateescape") if isinstance(name, bytes) else name


def getenv(name: str, default: str = "") -> str:
    """The value of an environment variable, or ``default``."""
    value = environ.get(fsencode(name))
    return default if value is None else fsdecode(value)


def makedirs(name: str, mode: int = 0o777, exist_ok: bool = False) -> None:
    """`os.makedirs`, for paths of the host."""
    parent = path.dirname(name.rstrip("/"))
    if parent and parent != name and not path.exists(parent):
        makedirs(parent, mode, exist_ok=True)
    try:
        mkdir(name, mode)
    except OSError:
        if not exist_ok or not path.isdir(name):
            raise


def write_all(fd: int, data: bytes, name: str) -> None:
    """Write all of ``data``. Raises OSError that names it: write(2) knows only the descriptor."""
    from posix import write

    try:
        while data:
            data = data[write(fd, data) :]
    except OSError as error:
        raise OSError(error.errno, error.strerror, name) from None


class path:
    """The functions of `os.path` that are used."""

    @staticmethod
    def join(first: str, *more: str) -> str:
        """`os.path.join`."""
        result = first
        for part in more:
            if part.startswith("/"):
                result = part
            else:
                result += part if not result or result.endswith("/") else f"/{part}"
        return result

    @staticmethod
    def split(name: str) -> tuple[str, str]:
        """`os.path.split`."""
        head, slash, tail = name.rpartition("/")
        return (head.rstrip("/") or "/" if slash else ""), tail

    @staticmethod
    def dirname(name: str) -> str:
        """`os.path.dirname`."""
        return path.split(name)[0]

    @staticmethod
    def basename(name: str) -> str:
        """`os.path.basename`."""
        return name.rpartition("/")[2]

    @staticmethod
    def normpath(name: str) -> str:
        """`os.path.normpath`; of two leading slashes one is left."""
        kept: list[str] = []
        absolute = name.startswith("/")
        for part in name.split("/"):
            if part in ("", "."):
                continue
            if part != "..":
                kept.append(part)
            elif kept and kept[-1] != "..":
                kept.pop()
            elif not absolute:
                kept.append(part)
        return ("/" if absolute else "") + "/".join(kept) or "."

    @staticmethod
    def abspath(name: str) -> str:
        """`os.path.abspath`."""
        return path.normpath(name if name.startswith("/") else path.join(getcwd(), name))

    @staticmethod
    def exists(name: str) -> bool:
        """`os.path.exists`."""
        try:
            stat(name)
        except (OSError, ValueError):
            return False
        return True

    @staticmethod
    def isdir(name: str) -> bool:
        """`os.path.isdir`."""
        try:
            return S_ISDIR(stat(name).st_mode)
        except (OSError, ValueError):
            return False

    @staticmethod
    def islink(name: str) -> bool:
        """`os.path.islink`."""
        try:
            return S_ISLNK(lstat(name).st_mode)
        except (OSError, ValueError):
            return False

    @staticmethod
    def realpath(name: str) -> str:
        """The path that ``name`` leads to, as the kernel says it; `os.path.abspath` where nothing is."""
        from posix import O_CLOEXEC, O_PATH, close, open

        try:
            fd = open(name, O_PATH | O_CLOEXEC)
        except OSError:
            return path.abspath(name)
        try:
            return readlink(f"/proc/self/fd/{fd}")
        finally:
            close(fd)


_OF_DESCRIPTORS = ("/dev/fd/", "/proc/self/fd/")
_STANDARD = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}


def descriptor(path: str) -> int:
    """The number of the descriptor of this process that a path such as ``/dev/fd/3`` names; -1 if it names none."""
    for directory in _OF_DESCRIPTORS:
        if path.startswith(directory):
            number = path[len(directory) :]
            return int(number) if number.isascii() and number.isdigit() and len(number) < 10 else -1
    return _STANDARD.get(path, -1)


def read_file(path: str, most: int) -> bytes:
    """What a file that a caller names contains, at most ``most`` bytes; it may be a pipe, or a descriptor by its name.

    Raises OSError, and `Error` for a FIFO without a writer.
    """
    try:
        fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)
    except OSError:
        if descriptor(path) < 0:
            raise
        from gosudacon.base import pipes

        fd = pipes.duplicate(path)  # a socket cannot be opened again
    try:
        status = fstat(fd)
        if S_ISREG(status.st_mode):
            data = read(
                fd, min(most, status.st_size + 1)
            )  # for ``most`` bytes memory would be mapped, however few come
            return data if len(data) <= status.st_size else data + read(fd, most - len(data))
        from gosudacon.base import pipes

        return pipes.drain(fd, path, most)
    except OSError as error:  # which knows the descriptor, and not the path
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        close(fd)
