"""``gosudacon mounts``."""

from __future__ import annotations

from gosudacon.base.errors import Error
from gosudacon.cli.main import caller_of, options_of, root_of
from gosudacon.container import mounts
from gosudacon.container.caller import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation

_VERBS = {"add": mounts.add, "remove": mounts.remove}


def run(invocation: Invocation) -> int:
    """Add mounts to a running container, or remove them."""
    verb, id, path = invocation.args
    if verb not in _VERBS:
        raise Error(f"unknown command {verb!r} of mounts: it is add or remove")
    options, caller = options_of(invocation, Options), caller_of(invocation, listen=False)
    _VERBS[verb](root_of(invocation), id, mounts.read(path), options, caller)
    return 0
