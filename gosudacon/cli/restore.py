"""``gosudacon restore``."""

from __future__ import annotations

from gosudacon.base import posix
from gosudacon.cli.main import bundle_of, caller_of, options_of, root_of
from gosudacon.container.criu.request import CriuOptions
from gosudacon.container.criu.restore import Restoration
from gosudacon.container.operation import Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation


def run(invocation: Invocation) -> int:
    """Restore a container; in the foreground, wait for it and return its exit status."""
    caller = caller_of(invocation, listen=False)
    options = options_of(invocation, CriuOptions)
    options.image_path = options.image_path or posix.path.abspath("checkpoint")
    options.foreground = not invocation.options["detach"]
    restoration = Restoration(root_of(invocation), invocation.args[0], bundle_of(invocation), options, caller)
    return Operation(restoration, subreaper=not invocation.options["no-subreaper"]).run()
