"""``gosudacon shim ps``."""

from __future__ import annotations

from gosudacon.base import jsonio
from gosudacon.base.errors import Error
from gosudacon.cli import output
from gosudacon.shim import census

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation

_TITLES = ("KIND", "PID", "NAMESPACE", "PRIVATE", "SHARE", "CONTAINERS")


def run(invocation: Invocation) -> int:
    """Print the templates and shims of this machine. Raises `Error`."""
    if invocation.args != ["ps"]:
        raise Error(f"unknown action {invocation.args[0]!r}: ps is known")
    found = [vars(each) for each in census.take()]
    if invocation.options["format"] == "json":
        output.write(jsonio.dumps(found) + "\n")
        return 0
    rows = [
        (
            each["kind"],
            str(each["pid"]),
            each["namespace"],
            f"{each['private']}K",
            f"{each['proportional']}K",
            " ".join(each["containers"]),
        )
        for each in found
    ]
    output.write(output.table([_TITLES, *rows]))
    return 0
