"""Watching whether planning is pure: what it opens, looks up, starts, sends or changes is an event.

The interpreter's audit events (sys.addaudithook(3), PEP 578) tell of most; functions of `os` that only look at a path
have none, and are wrapped while a `Watch` is open. What the import system does is left out, since a stage is imported
when it is first needed, and so is what the hook for facts reads. An audit hook cannot be taken away, so this is for
processes that end: tests, and `checks`.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Self

_KINDS = frozenset(
    (
        *("open", "os", "socket", "subprocess", "ctypes", "fcntl", "shutil", "tempfile", "glob", "pathlib", "signal"),
        *("mmap", "pty", "resource", "syslog", "urllib", "sqlite3", "ftplib", "http", "smtplib", "webbrowser"),
    )
)
_LOOKS = ("stat", "lstat", "access", "readlink", "statvfs", "urandom", "getcwd", "uname")
_GATHERING = "gosudacon_gather_facts"  # the hook that may read
_READS = frozenset((*(f"os.{name}" for name in _LOOKS if name != "urandom"), "os.listdir", "os.scandir"))
_CHANGING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_LIBRARY = os.path.dirname(os.__file__)
_watches: list[Watch] = []
_hooked: list[bool] = []


class Watch:
    """A context manager; ``seen`` has a line for each event: what it was, and the line of code that did it.

    ``packages``: only what these packages do, directly or through others, counts; without any, everything does.
    """

    def __init__(self, *packages: str) -> None:
        self.packages = packages
        self.seen: list[str] = []
        self._kept: dict[str, Callable[..., object]] = {}

    def __enter__(self) -> Self:
        if not _hooked:
            sys.addaudithook(_audit)
            _hooked.append(True)
        for name in _LOOKS:
            self._kept[name] = getattr(os, name)
            setattr(os, name, _wrapped(name, self._kept[name]))
        _watches.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _watches.remove(self)
        for name, function in self._kept.items():
            setattr(os, name, function)

    def note(self, event: str, arguments: tuple[object, ...]) -> None:
        """Called for every event while this watches."""
        frames = _frames()
        if any(frame.f_code.co_filename.startswith("<frozen importlib") for frame in frames):
            return
        if _reads(event, arguments) and any(frame.f_code.co_name == _GATHERING for frame in frames):
            return
        names = [str(frame.f_globals.get("__name__", "")) for frame in frames]
        if self.packages and not any(belongs(name, self.packages) for name in names):
            return
        if self.packages:
            guilty = next(frame for frame, name in zip(frames, names, strict=True) if belongs(name, self.packages))
        else:
            guilty = next((frame for frame in frames if not _is_library(frame)), frames[0])
        shown = ", ".join(repr(each) for each in arguments[:1])
        line = f"{event}({shown}) at {guilty.f_code.co_filename}:{guilty.f_lineno}"
        if line not in self.seen:
            self.seen.append(line)


def _reads(event: str, arguments: tuple[object, ...]) -> bool:
    """Whether an event changes nothing, and takes nothing from elsewhere than files."""
    if event == "open":  # path, mode, flags
        return isinstance(arguments[2], int) and not arguments[2] & _CHANGING
    return event in _READS


def belongs(module: str, packages: tuple[str, ...]) -> bool:
    """Whether a module is one of ``packages``, or in one."""
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _is_library(frame: FrameType) -> bool:
    path = frame.f_code.co_filename
    return path.startswith("<") or (path.startswith(f"{_LIBRARY}/") and "-packages/" not in path)


def _frames() -> list[FrameType]:
    """Who called, the innermost first; without this module."""
    frame, found = sys._getframe(1), []
    while frame is not None:
        if frame.f_globals.get("__name__") != __name__:
            found.append(frame)
        frame = frame.f_back  # type: ignore[assignment]
    return found


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if _watches and event.partition(".")[0] in _KINDS:
        for watch in tuple(_watches):
            watch.note(event, arguments)


def _wrapped(name: str, function: Callable[..., object]) -> Callable[..., object]:
    def call(*arguments: object, **options: object) -> object:
        for watch in tuple(_watches):
            watch.note(f"os.{name}", arguments)
        return function(*arguments, **options)

    return call
