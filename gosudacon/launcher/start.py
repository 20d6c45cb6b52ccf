"""A start without the launcher: isolate the interpreter from its surroundings, and seal it where that matters."""

from __future__ import annotations

import os
import sys

from gosudacon.base.errors import Error
from gosudacon.launcher import seal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


# What makes the interpreter read a pyvenv.cfg or ._pth of the caller's choice, even with -I.
_STEERING = {b"PYTHONEXECUTABLE", b"__PYVENV_LAUNCHER__"}


def prepare(arguments: Sequence[str], entry: str, package: str) -> None:
    """Make this interpreter fit for the command in ``arguments``; ``package`` is our own directory.

    For a command that enters a container, and where the environment has steered the interpreter: return if it is
    sealed, otherwise start over with ``entry`` and do not return. For any other: forget the directories that
    environment, user and working directory put on ``sys.path``. Exits with a message where the seal is impossible.
    """
    if seal.enters(arguments) or (seal.OPTION not in sys._xoptions and not _STEERING.isdisjoint(seal.given())):
        paths = [] if sys.flags.isolated and sys.flags.no_site else _dependencies(package)
        try:
            seal.ensure(arguments, entry, paths)
        except Error as error:
            if seal.enters(arguments):
                sys.exit(f"gosudacon: {error.message}")
    if not sys.flags.isolated:
        sys.path[:] = [*_library(), os.path.dirname(package), *_dependencies(package)]


def _library() -> list[str]:
    """The standard library's part of ``sys.path``: it lies where the interpreter does."""
    home = os.path.realpath(os.path.dirname(os.__file__))
    archive = f"python{sys.version_info.major}{sys.version_info.minor}.zip"
    return [path for path in sys.path if os.path.basename(path) == archive or _inside(path, home)]


def _inside(path: str, home: str) -> bool:
    real = os.path.realpath(path)
    return real == home or (os.path.dirname(real) == home and os.path.basename(real) == "lib-dynload")


def _dependencies(package: str) -> list[str]:
    """Where the packages that ours needs may be: next to it, or where this Python (or its venv) has packages."""
    import site

    own = os.path.dirname(package)
    return [path for path in site.getsitepackages() if path != own and os.path.isdir(path)]
