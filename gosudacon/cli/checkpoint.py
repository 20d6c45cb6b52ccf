"""``gosudacon checkpoint``."""

from __future__ import annotations

from gosudacon.cli.main import root_of, spec_options
from gosudacon.container.criu.checkpoint import checkpoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation


def run(invocation: Invocation) -> int:
    """Save a running container to disk."""
    options = spec_options(invocation)
    options["status_fd"] = invocation.options["status-fd"]
    for warning in checkpoint(root_of(invocation), invocation.args[0], options):
        invocation.log.warning(warning.message)
    return 0
