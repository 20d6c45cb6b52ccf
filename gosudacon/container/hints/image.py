"""Looking into a container's root from outside, at nothing but names, modes, and the beginnings of regular files.

A path is followed name by name, each relative to the descriptor of its directory and never through a link, so that
nothing in the image leads out of it. Nothing is opened that could block: no FIFO, no device.
"""

from __future__ import annotations

from _stat import S_ISDIR, S_ISLNK, S_ISREG
from errno import ELOOP, ENOENT, ENOTDIR, EXDEV

from gosudacon.base import posix
from gosudacon.linux.path import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_XDEV, openat2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.pipeline.spec import Spec

_LINKS = 40  # as many as the kernel follows
_HEAD = 4096
_ENTRIES = 4096


class Unseen(Exception):
    """The path leads to what cannot be seen from outside: a filesystem that the container mounts for itself."""


class Dangling(Exception):
    """A symbolic link leads nowhere: ``link`` is its path, ``text`` what it says."""

    def __init__(self, link: str, text: str) -> None:
        super().__init__(link)
        self.link, self.text = link, text


class Found:
    """What is at a path: ``path`` without links; ``mode``, ``uid``, ``gid`` as in stat(2); ``noexec`` of its mount.

    ``parents``: the modes, owners and groups of the directories that lead there, with their paths.
    """

    def __init__(self, fd: int, path: str, parents: list[tuple[str, int, int, int]]) -> None:
        status = posix.fstat(fd)
        self._fd = fd
        self.path, self.parents = path, parents
        self.mode, self.uid, self.gid = status.st_mode, status.st_uid, status.st_gid

    @property
    def noexec(self) -> bool:
        return bool(posix.fstatvfs(self._fd).f_flag & posix.ST_NOEXEC)

    def is_file(self) -> bool:
        return S_ISREG(self.mode)

    def is_directory(self) -> bool:
        return S_ISDIR(self.mode)

    def head(self) -> bytes:
        """The first bytes of a regular file."""
        fd = posix.open(f"/proc/self/fd/{self._fd}", posix.O_RDONLY | posix.O_NONBLOCK | posix.O_CLOEXEC)
        try:
            return posix.read(fd, _HEAD)
        finally:
            posix.close(fd)

    def names(self) -> list[str]:
        """What is in a directory; nothing of one that is huge."""
        fd = posix.open(f"/proc/self/fd/{self._fd}", posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
        try:
            names = posix.listdir(fd)
        finally:
            posix.close(fd)
        return names if len(names) <= _ENTRIES else []


class Image:
    """The root of a container, with the host's directories that config.json mounts there; or of one that runs.

    Raises OSError if it cannot be opened. `close` closes all that was found.
    """

    def __init__(self, spec: Spec) -> None:
        self._fds: list[int] = []
        self._resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS
        self._mounts: dict[str, str | None] = {}
        if spec.target is not None:  # whose filesystems may be its own, and never answer
            self._resolve |= RESOLVE_NO_XDEV
            self._root = self._open(f"/proc/{spec.target.pid}/root")
            return
        self._root = self._open(spec.rootfs)
        for entry in spec.config.get("mounts") or ():
            destination = posix.path.normpath("/" + entry["destination"].lstrip("/"))
            self._mounts[destination] = _source(entry, spec.bundle)

    def close(self) -> None:
        for fd in self._fds:
            posix.close(fd)
        self._fds.clear()

    def look(self, path: str) -> Found | None:
        """What a process in the container finds at an absolute path; None if there is nothing.

        Raises `Unseen`, `Dangling`, and OSError: ELOOP for too many links.
        """
        levels: list[tuple[str, int]] = [("", self._root)]
        todo = [name for name in reversed(path.split("/")) if name not in ("", ".")]
        link, text, links = "", "", 0
        while todo:
            name = todo.pop()
            above, directory = levels[-1]
            if name == "..":
                if len(levels) > 1:
                    levels.pop()
                continue
            here = f"{above}/{name}"
            try:
                fd = self._enter(directory, name, here)
                target = posix.readlink("", dir_fd=fd) if S_ISLNK(posix.fstat(fd).st_mode) else ""
            except OSError as error:
                if error.errno not in (ENOENT, ENOTDIR):
                    raise
                if link:
                    raise Dangling(link, text) from None
                return None
            if not target:
                levels.append((here, fd))
                continue
            links += 1
            if links > _LINKS:
                raise OSError(ELOOP, "Too many levels of symbolic links", here)
            link, text = here, target
            todo += [part for part in reversed(target.split("/")) if part not in ("", ".")]
            if target.startswith("/"):
                levels = levels[:1]
        parents = [(above or "/", *_owner(fd)) for above, fd in levels[:-1]]
        return Found(levels[-1][1], levels[-1][0] or "/", parents)

    def _enter(self, directory: int, name: str, here: str) -> int:
        if here in self._mounts:
            source = self._mounts[here]
            if source is None:
                raise Unseen(here)
            return self._open(source)
        try:
            fd = openat2(directory, name, posix.O_PATH | posix.O_NOFOLLOW, self._resolve)
        except OSError as error:
            if error.errno == EXDEV:
                raise Unseen(here) from None
            raise
        self._fds.append(fd)
        return fd

    def _open(self, path: str) -> int:
        fd = posix.open(path, posix.O_PATH | posix.O_CLOEXEC)
        self._fds.append(fd)
        return fd


def kind_of(spec: Spec, path: str) -> str:
    """What the image itself has at a path, without what is mounted there: ``directory``, ``file``, or nothing."""
    try:
        image = Image(spec.replace(config={**spec.config, "mounts": []}))
    except OSError:
        return ""
    try:
        found = image.look(path)
    except (Dangling, Unseen, OSError):
        return ""
    finally:
        image.close()
    if found is None:
        return ""
    return "directory" if found.is_directory() else "file"


def _owner(fd: int) -> tuple[int, int, int]:
    status = posix.fstat(fd)
    return status.st_mode, status.st_uid, status.st_gid


def _source(entry: object, bundle: str) -> str | None:
    """What a bind mount shows; None for a filesystem of another kind."""
    assert isinstance(entry, dict)
    options = entry.get("options") or ()
    source = entry.get("source") or ""
    if not source or not ({"bind", "rbind"} & set(options) or entry.get("type") == "bind"):
        return None
    return source if source.startswith("/") else f"{bundle}/{source}"
