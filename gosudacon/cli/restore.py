"""``gosudacon restore``."""

from __future__ import annotations

from gosudacon.cli.checkpoint import with_images
from gosudacon.cli.main import bundle_of, caller_of, root_of, spec_options
from gosudacon.container.criu.restore import Restoration
from gosudacon.container.operation import Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation


def run(invocation: Invocation) -> int:
    """Restore a container; in the foreground, wait for it and return its exit status."""
    caller = caller_of(invocation, listen=False)
    options = with_images(spec_options(invocation)) | {"foreground": not invocation.options["detach"]}
    restoration = Restoration(root_of(invocation), invocation.args[0], bundle_of(invocation), options, caller)
    return Operation(restoration, subreaper=not invocation.options["no-subreaper"]).run()
