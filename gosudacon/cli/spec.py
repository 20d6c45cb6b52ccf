"""``gosudacon spec``: write a config.json to begin with."""

from __future__ import annotations

import json
import os

from gosudacon.container import host
from gosudacon.container.template import default_spec
from gosudacon.linux.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation


def run(invocation: Invocation) -> int:
    """Write config.json into the bundle; never over one that is there. Raises `Error` or OSError."""
    directory = invocation.options["bundle"] or "."
    rootless = (os.geteuid(), os.getegid()) if invocation.options["rootless"] else None
    config = default_spec(cgroup_v2=host.gather().cgroup_mode == "v2", rootless=rootless)
    write(os.path.join(directory, "config.json"), config)
    return 0


def write(path: str, config: object) -> None:
    """Write ``config`` as JSON, indented by tabs, to the new file ``path`` (0666 less the umask).

    Raises `Error` if the file exists, as runc says it, and OSError; a file half written does not stay.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise Error(
            "File config.json exists. Remove it first",
            call="open",
            hint=f"{path}, or another directory with --bundle",
        ) from None
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(json.dumps(config, indent="\t", ensure_ascii=False) + "\n")
    except OSError:
        os.unlink(path)
        raise
