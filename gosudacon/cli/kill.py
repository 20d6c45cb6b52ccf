"""``gosudacon kill``."""

from __future__ import annotations

import _signal

from gosudacon.base.errors import Error
from gosudacon.cli.main import root_of
from gosudacon.container.kill import kill

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation

#: Name without SIG -> number, except the real-time signals, which have names such as RTMIN+3.
SIGNALS: dict[str, int] = {
    name.removeprefix("SIG"): getattr(_signal, name)
    for name in dir(_signal)
    if name.startswith("SIG") and not name.startswith(("SIG_", "SIGRT"))
}


def run(invocation: Invocation) -> int:
    """Send a signal."""
    name = invocation.args[1] if len(invocation.args) > 1 else "SIGTERM"
    kill(root_of(invocation), invocation.args[0], signal_number(name), invocation.options["all"])
    return 0


def signal_number(name: str) -> int:
    """The number of a signal given as number or name, with or without SIG, in any case; ``RTMIN+3`` too (signal(7))."""
    if name.isascii() and name.isdigit() and len(name) <= 2 and 0 <= int(name) <= _signal.SIGRTMAX:
        return int(name)
    short = name.upper().removeprefix("SIG")
    number = SIGNALS.get(short, -1)
    if number < 0:
        base, sign, offset = short.partition("+") if "+" in short else short.partition("-")
        start = {"RTMIN": _signal.SIGRTMIN, "RTMAX": _signal.SIGRTMAX}.get(base, -1)
        if start > 0 and (not sign or (offset.isascii() and offset.isdigit() and len(offset) <= 2)):
            number = start + int(f"{sign}{offset}" if sign else 0)
            number = number if _signal.SIGRTMIN <= number <= _signal.SIGRTMAX else -1
    if number < 0:
        raise Error(f'unknown signal "{name}"')
    return number
