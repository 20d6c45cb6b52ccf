"""``gosudacon create``."""

from __future__ import annotations

from gosudacon.cli.main import bundle_of, caller_of, options_of, root_of
from gosudacon.container.caller import Options
from gosudacon.container.create import Creation
from gosudacon.container.operation import Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation


def run(invocation: Invocation) -> int:
    """Create a container, which then waits for ``start``."""
    caller = caller_of(invocation)
    options = options_of(invocation, Options)
    creation = Creation(root_of(invocation), invocation.args[0], bundle_of(invocation), options, caller)
    return Operation(creation).run()
