"""``gosudacon start``."""

from __future__ import annotations

from gosudacon.base import posix
from gosudacon.cli.main import root_of
from gosudacon.container.start import start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation


def run(invocation: Invocation) -> int:
    """Start a created container's process."""
    start(root_of(invocation), invocation.args[0], posix.getenv("NOTIFY_SOCKET"), invocation)
    return 0
