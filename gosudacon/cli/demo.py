"""``gosudacon demo``: write a bundle that runs as it is."""

from __future__ import annotations

import os
import shlex

from gosudacon.cli import output
from gosudacon.container import demo, host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation


def run(invocation: Invocation) -> int:
    """``gosudacon demo [--terminal] DIR [COMMAND [ARG ...]]``. Raises `Error` where there is a bundle, OSError."""
    directory, *command = invocation.args
    demo.make(directory, command, invocation.options["terminal"], host.gather().cgroup_mode == "v2")
    where = shlex.quote(os.path.abspath(directory))
    output.write(f"wrote {where}; now try\n\n    gosudacon explain {where}\n    gosudacon run --bundle {where} demo\n")
    return 0
