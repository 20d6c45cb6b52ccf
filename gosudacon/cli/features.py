"""``gosudacon features``."""

from __future__ import annotations

from gosudacon.base import jsonio
from gosudacon.cli import output
from gosudacon.cli.main import options_of
from gosudacon.container.caller import Options
from gosudacon.container.features import features

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation


def run(invocation: Invocation) -> int:
    """Print the features structure, indented by four spaces."""
    options = options_of(invocation, Options)
    found = features(options.config_file, not options.no_snapshot)
    output.write(jsonio.dumps(found, 4) + "\n")
    return 0
