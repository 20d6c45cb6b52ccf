"""``gosudacon host``."""

from __future__ import annotations

from gosudacon.cli import output
from gosudacon.container import facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation


def run(invocation: Invocation) -> int:
    """Print the facts about this machine that plans are made with, as JSON."""
    output.write(facts.this())
    return 0
