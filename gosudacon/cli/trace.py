"""``gosudacon trace``."""

from __future__ import annotations

from gosudacon.base.errors import Error, reason
from gosudacon.trace import chrome, otlp
from gosudacon.trace.waterfall import console, show, show_difference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation
    from gosudacon.trace.model import Trace

_LARGEST = 64 << 20  # bytes


def run(invocation: Invocation) -> int:
    """Show a trace in the terminal, or what differs between two."""
    traces = [load(path) for path in invocation.args]
    out = console(int(invocation.options["width"]))
    if len(traces) == 1:
        show(traces[0], out, invocation.options["all"])
    else:
        show_difference(traces[0], traces[1], out, invocation.options["all"])
    return 0


def load(path: str) -> Trace:
    """The trace in a file that ``--trace`` has written. Raises `Error`."""
    try:
        with open(path, "rb") as file:
            text = file.read(_LARGEST).decode(errors="replace")
    except OSError as error:
        raise Error(f"open {reason(error)}") from error
    for loads in (otlp.loads, chrome.loads):
        try:
            return loads(text)
        except (ValueError, KeyError, TypeError, AttributeError):  # json.JSONDecodeError is the first
            continue
    raise Error(
        f"{path}: not a trace of gosudacon",
        hint="`trace` reads what --trace has written to a file whose name ends in .json or .jsonl",
    )
