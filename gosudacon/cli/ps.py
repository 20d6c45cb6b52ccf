"""``gosudacon ps``."""

from __future__ import annotations

from gosudacon.base import jsonio
from gosudacon.cli import output
from gosudacon.cli.main import root_of
from gosudacon.container import ps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation


def run(invocation: Invocation) -> int:
    """Print a container's processes: their pids as JSON, or lines of ps(1)."""
    id, *arguments = invocation.args
    pids = ps.pids(root_of(invocation), id)
    if invocation.options["format"] == "json":
        output.write(jsonio.dumps(pids) + "\n")
    else:
        output.write(ps.table(pids, arguments))
    return 0
