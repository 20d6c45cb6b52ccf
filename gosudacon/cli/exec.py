"""``gosudacon exec``."""

from __future__ import annotations

from gosudacon.cli.main import caller_of, options_of, root_of
from gosudacon.container.exec import Execution
from gosudacon.container.operation import Operation
from gosudacon.container.process import ExecOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation


def run(invocation: Invocation) -> int:
    """Run another process in a container; in the foreground, wait for it and return its exit status."""
    caller = caller_of(invocation, listen=False)
    options = options_of(invocation, ExecOptions)
    options.foreground = not invocation.options["detach"]
    if "user" in invocation.given:
        options.user = invocation.options["user"]  # an empty one, too: it does not mean the container's user
    execution = Execution(root_of(invocation), invocation.args[0], invocation.args[1:], options, caller)
    return Operation(execution).run()
