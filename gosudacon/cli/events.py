"""``gosudacon events``."""

from __future__ import annotations

import _signal

from gosudacon.base import jsonio
from gosudacon.base.errors import Error
from gosudacon.cli import output
from gosudacon.cli.main import root_of
from gosudacon.container import events

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def run(invocation: Invocation) -> int:
    """Print a container's statistics, once or at intervals, and what happens to it, until it has stopped."""
    interval = duration(invocation.options["interval"])
    if interval <= 0:
        raise Error("duration interval must be greater than 0")
    for number in (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGPIPE):  # the ordinary ways to end it
        _signal.signal(number, _signal.SIG_DFL)
    container = events.load(root_of(invocation), invocation.args[0])
    if invocation.options["stats"]:
        _write(events.statistics(container))
        return 0
    for event in events.stream(container, interval):
        _write(event)
    return 0


def duration(text: str) -> float:
    """A duration as Go writes it, in seconds: ``1m30s``, ``500ms``, ``1.5h``, ``0``. Raises `Error`."""
    rest, total = text.removeprefix("+"), 0.0
    if rest == "0":
        return 0.0
    try:
        while rest:
            digits = len(rest) - len(rest.lstrip("0123456789."))
            value, rest = float(rest[:digits]), rest[digits:]
            letters = len(rest) - len(rest.lstrip("nuµμmsh"))
            total, rest = total + value * _UNITS[rest[:letters]], rest[letters:]
    except (ValueError, KeyError):
        rest = "?"
    if rest or not text.strip("+"):
        raise Error(f'invalid value "{text}" for --interval: time: invalid duration "{text}"')
    return total


def _write(event: dict[str, object]) -> None:
    output.write(jsonio.dumps(event) + "\n")
