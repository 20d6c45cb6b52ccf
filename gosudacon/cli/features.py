"""``gosudacon features``."""

from __future__ import annotations

from gosudacon.cli import output
from gosudacon.cli.main import spec_options
from gosudacon.container.features import features
from gosudacon.linux import jsonio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation


def run(invocation: Invocation) -> int:
    """Print the features structure, indented by four spaces."""
    options = spec_options(invocation)
    found = features(options.get("config", ""), not options.get("no_snapshot"))
    output.write(jsonio.dumps(found, 4) + "\n")
    return 0
