"""``gosudacon list``."""

from __future__ import annotations

from gosudacon.cli import output
from gosudacon.cli.main import root_of
from gosudacon.container.query import everything

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation


def run(invocation: Invocation) -> int:
    """Print all containers; those whose state cannot be read as ``unknown``, and on stderr why."""
    records, broken = everything(root_of(invocation), "root" in invocation.given)
    for error in broken:
        invocation.log.warning(error.message)
    output.write(output.listing(records, invocation.options["format"], invocation.options["quiet"]))
    return 0
