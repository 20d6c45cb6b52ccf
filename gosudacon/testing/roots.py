"""A root filesystem for steps to work on, without namespaces and without root."""

from __future__ import annotations

import os
from pathlib import Path

from gosudacon.api import CONTAINER, Context, Host, Spec
from gosudacon.testing import values

_DIRECTORIES = ("dev", "etc", "proc", "run", "sys", "tmp", "usr", "var")


class ScratchRoot:
    """``path``: the root; ``outside``: a directory next to it, with a file ``canary``, that nothing may touch.

    ``state``: the container's state directory.
    """

    def __init__(self, place: Path) -> None:
        self.place = place  # the directory that has all of them
        self.path: Path = place / "rootfs"
        self.outside: Path = place / "outside"
        self.state: Path = place / "state"
        for directory in (self.outside, self.state, *(self.path / name for name in _DIRECTORIES)):
            directory.mkdir(parents=True)
        (self.outside / "canary").write_text("alive")
        self._contexts: list[Context] = []
        self._before = self._look()

    def context(self, spec: Spec | None = None, host: Host | None = None, side: str = CONTAINER) -> Context:
        """A context with descriptors of the root and of the state directory, which are closed when the test ends."""
        context = Context(spec or values.spec(), host or values.host())
        context.side = side
        context.root = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        context.state_dir = os.open(self.state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._contexts.append(context)
        return context

    def link(self, path: str, target: str = "../outside") -> Path:
        """Put a symbolic link at ``path`` in the root, as a hostile image would; by default it leads out of it."""
        place = self.path / path.lstrip("/")
        if place.is_dir() and not place.is_symlink():
            place.rmdir()
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)
        return place

    def close(self) -> list[str]:
        """Close the descriptors; returns what has changed outside of the root."""
        for context in self._contexts:
            for fd in (context.root, context.state_dir):
                if fd >= 0:
                    os.close(fd)
        now = self._look()
        return sorted(str(path) for path, _ in now.symmetric_difference(self._before))

    def _look(self) -> set[tuple[Path, str]]:
        """What is next to the root and the state directory, and in ``outside``."""
        found = {(path, "") for path in self.place.iterdir()}
        for path in self.outside.rglob("*"):
            found.add((path, path.read_text(errors="replace") if path.is_file() else ""))
        return found
