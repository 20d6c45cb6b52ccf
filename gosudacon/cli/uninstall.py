"""``gosudacon uninstall``: remove what ``gosudacon install`` wrote."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from gosudacon.base.errors import Error
from gosudacon.cli import share
from gosudacon.cli.install import is_ours
from gosudacon.cli.main import root_of
from gosudacon.launcher import builds
from gosudacon.pipeline import snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation


def run(invocation: Invocation) -> int:
    """``gosudacon uninstall [--prefix DIR] [--name NAME]``. Raises `Error` or OSError."""
    options, root = invocation.options, root_of(invocation)
    print(f"removed {uninstall(options['prefix'], options.get('name') or 'gosudacon')}")
    with suppress(OSError):  # It is not there, or containers are in it.
        os.rmdir(root)
    return 0


def uninstall(prefix: str, name: str = "gosudacon") -> Path:
    """Remove the command ``name``, its builds, man pages and completions from ``prefix``. Returns the command's path.

    Raises `Error` if there is nothing of ours there, OSError.
    """
    command = Path(prefix).absolute() / "bin" / name
    if command.exists():
        if not is_ours(command):
            raise Error(f"{command} is not gosudacon's")
        command.unlink()
    elif not any(builds.of(prefix, name)):
        raise Error(f"{command} is not installed")
    with builds.locked(prefix):
        builds.remove([*builds.of(prefix, name)])
    snapshot.remove_stale()
    for path in share.installed(prefix, name):
        path.unlink()
    return command
