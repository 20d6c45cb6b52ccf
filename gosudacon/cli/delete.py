"""``gosudacon delete``."""

from __future__ import annotations

from gosudacon.cli.main import root_of
from gosudacon.container.delete import delete

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation


def run(invocation: Invocation) -> int:
    """Delete a container; failed poststop hooks are warnings, as runtime-spec runtime.md wants."""
    for warning in delete(root_of(invocation), invocation.args[0], invocation.options["force"], invocation):
        invocation.log.warning(warning.message)
    return 0
