"""``gosudacon state``."""

from __future__ import annotations

from gosudacon.cli import output
from gosudacon.cli.main import root_of
from gosudacon.container.query import state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation


def run(invocation: Invocation) -> int:
    """Print a container's state."""
    output.write(output.state(state(root_of(invocation), invocation.args[0])))
    return 0
