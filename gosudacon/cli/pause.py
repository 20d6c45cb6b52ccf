"""``gosudacon pause``."""

from __future__ import annotations

from gosudacon.cli.main import root_of
from gosudacon.container.pause import pause

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation


def run(invocation: Invocation) -> int:
    """Freeze a container's processes."""
    pause(root_of(invocation), invocation.args[0])
    return 0
