"""``gosudacon spec``: write an example config.json."""

from __future__ import annotations

import os

from gosudacon.base import layout
from gosudacon.container import host
from gosudacon.container.template import default_spec, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation


def run(invocation: Invocation) -> int:
    """Write config.json into the bundle; never over one that is there. Raises `Error` or OSError."""
    directory = invocation.options["bundle"] or "."
    rootless = (os.geteuid(), os.getegid()) if invocation.options["rootless"] else None
    config = default_spec(cgroup_v2=host.gather().cgroup_mode == "v2", rootless=rootless)
    write(os.path.join(directory, layout.CONFIG), config)
    return 0
