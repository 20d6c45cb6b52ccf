"""``gosudacon uninstall``: remove what ``gosudacon install`` wrote."""

from __future__ import annotations

import glob
from pathlib import Path

from gosudacon.base.errors import Error
from gosudacon.cli import share
from gosudacon.cli.install import is_ours, shim_of
from gosudacon.cli.main import root_of
from gosudacon.container import query
from gosudacon.launcher import builds
from gosudacon.pipeline import snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation


# Where engines have the states of their containers: Docker, containerd.
_ENGINES = ("/run/docker/runtime-*/*", "/run/containerd/runc/*")


def run(invocation: Invocation) -> int:
    """``gosudacon uninstall [--prefix DIR] [--name NAME]``. Raises `Error` or OSError."""
    options, root = invocation.options, root_of(invocation)
    running = _running(root)  # with the modules that are still there
    print(f"removed {uninstall(options['prefix'], options.get('name') or 'gosudacon')}")
    builds.remove_folders([root])  # it may not be there, or containers are in it
    if running:
        invocation.log.warning(
            f"containers still run: {', '.join(running)}; only an installed gosudacon can stop and delete them"
        )
    return 0


def _running(root: str) -> list[str]:
    """The ids of the containers that have not ended, of the default root and of the engines' own."""
    places = [root, *(place for pattern in _ENGINES for place in sorted(glob.glob(pattern)))]
    found = (each for place in places for each in query.everything(place, explicit=False)[0])
    return [str(each["id"]) for each in found if each["status"] in ("created", "running", "paused")]


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
    shim = shim_of(command)
    if shim.exists() and is_ours(shim):
        shim.unlink()
    with builds.locked(prefix):
        folders = builds.noted_folders(prefix)
        builds.remove([*builds.of(prefix, name)])
    snapshot.clear()
    for path in share.installed(prefix, name):
        path.unlink()
    builds.remove_folders(folders)
    return command
