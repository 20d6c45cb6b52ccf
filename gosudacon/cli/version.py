"""``gosudacon --version``."""

from __future__ import annotations

from gosudacon.cli import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation


def run(invocation: Invocation) -> int:
    """Print the version."""
    output.write(output.version())
    return 0
