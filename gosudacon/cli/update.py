"""``gosudacon update``."""

from __future__ import annotations

from gosudacon.base.errors import Error
from gosudacon.cli.main import options_of, root_of
from gosudacon.container.caller import Options
from gosudacon.container.resources import read
from gosudacon.container.update import update

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation
    from gosudacon.schema.types import Resources

_MOST = 1 << 63
_UNITS = "kmgtp"
#: Option -> (section, member) of linux.resources, by the form of its value.
_NUMBERS = {
    "blkio-weight": ("blockIO", "weight"),
    "cpu-period": ("cpu", "period"),
    "cpu-quota": ("cpu", "quota"),
    "cpu-burst": ("cpu", "burst"),
    "cpu-share": ("cpu", "shares"),
    "cpu-rt-period": ("cpu", "realtimePeriod"),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime"),
    "cpu-idle": ("cpu", "idle"),
    "pids-limit": ("pids", "limit"),
}
_TEXTS = {"cpuset-cpus": ("cpu", "cpus"), "cpuset-mems": ("cpu", "mems")}
_SIZES = {
    "memory": ("memory", "limit"),
    "memory-reservation": ("memory", "reservation"),
    "memory-swap": ("memory", "swap"),
}


def run(invocation: Invocation) -> int:
    """Change a container's limits."""
    options = invocation.options
    for name, what in (("l3-cache-schema", "l3 cache"), ("mem-bw-schema", "memory bandwidth")):
        if options[name]:
            raise Error(
                f"Intel RDT: {what} schema is not enabled",
                hint="create sets what linux.intelRdt says; update cannot change it",
            )
    for name in ("kernel-memory", "kernel-memory-tcp"):
        if options[name]:
            invocation.log.warning(f"--{name} has no effect: kernel memory is part of a container's memory")
    given = read(options["resources"]) if options["resources"] else _from_options(options)
    planning = options_of(invocation, Options)
    root, id = root_of(invocation), invocation.args[0]
    for warning in update(root, id, given, planning.config_file, not planning.no_snapshot, invocation):
        invocation.log.warning(warning)
    return 0


def _from_options(options: dict[str, object]) -> Resources:
    resources: dict[str, dict[str, int | str]] = {}
    for table, convert in ((_NUMBERS, _integer), (_SIZES, _size), (_TEXTS, _text)):
        for name, (section, member) in table.items():
            if options[name] not in ("", 0):
                resources.setdefault(section, {})[member] = convert(name, str(options[name]))
    return resources  # type: ignore[return-value]  # sections and members are of the tables


def _integer(name: str, text: str) -> int:
    digits = text.removeprefix("-")
    if digits.isascii() and digits.isdigit() and len(digits) <= 19 and int(digits) < _MOST:
        return int(text)
    raise Error(f"invalid value for {name}: {text!r} is not an integer")


def _size(name: str, text: str) -> int:
    """Bytes, from a number with an optional unit of 1024: ``512m``, ``1.5GiB``, ``-1``."""
    if text == "-1":
        return -1
    lower = text.lower()
    number = lower.removesuffix("ib") if lower[-3:-2] in tuple(_UNITS) else lower
    number = number.removesuffix("b")
    power = _UNITS.find(number[-1:]) + 1 if number and number[-1] in _UNITS else 0
    number = (number[:-1] if power else number).strip(" ")
    whole, _, fraction = number.partition(".")
    if number.isascii() and whole.isdigit() and (not fraction or fraction.isdigit()) and len(number) <= 20:
        unit = 1 << 10 * power
        size = int(whole) * unit + int(fraction or 0) * unit // int("1" + "0" * len(fraction))
        if size < _MOST:
            return size
    raise Error(f"invalid value for {name}: invalid size: {text!r}")


def _text(name: str, text: str) -> str:
    return text
