"""``gosudacon run``."""

from __future__ import annotations

from gosudacon.cli.main import bundle_of, caller_of, options_of, root_of
from gosudacon.container.caller import Options
from gosudacon.container.create import Creation
from gosudacon.container.operation import Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation


def run(invocation: Invocation) -> int:
    """Create and start a container; in the foreground, wait for it and return its exit status."""
    caller = caller_of(invocation)
    options = options_of(invocation, Options)
    options.run, options.foreground = True, not invocation.options["detach"]
    creation = Creation(root_of(invocation), invocation.args[0], bundle_of(invocation), options, caller)
    return Operation(creation, invocation.options["keep"], not invocation.options["no-subreaper"]).run()
