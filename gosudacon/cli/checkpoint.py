"""``gosudacon checkpoint``."""

from __future__ import annotations

from gosudacon.base import posix
from gosudacon.cli.main import options_of, root_of
from gosudacon.container.criu.checkpoint import checkpoint
from gosudacon.container.criu.request import CriuOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation


def run(invocation: Invocation) -> int:
    """Save a running container to disk."""
    options = options_of(invocation, CriuOptions)
    options.image_path = options.image_path or posix.path.abspath("checkpoint")
    options.status_fd = invocation.options["status-fd"]
    for warning in checkpoint(root_of(invocation), invocation.args[0], options):
        invocation.log.warning(warning.message)
    return 0
