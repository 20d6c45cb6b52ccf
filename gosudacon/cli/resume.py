"""``gosudacon resume``."""

from __future__ import annotations

from gosudacon.cli.main import root_of
from gosudacon.container.pause import resume

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation


def run(invocation: Invocation) -> int:
    """Let a paused container's processes go on."""
    resume(root_of(invocation), invocation.args[0])
    return 0
