"""Limits as properties of a systemd unit (systemd.resource-control(5)), so that systemd keeps them. Pure."""

from __future__ import annotations

from gosudacon.api import ConfigError
from gosudacon.base import ranges
from gosudacon.stages.cgroups import convert

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeVar

    from gosudacon.schema.types import Cpu, Memory, Resources

    Given = TypeVar("Given")
    Result = TypeVar("Result")

    #: ``[name, signature, value]``
    Property = list[object]

INFINITY = (1 << 64) - 1
_R = "linux.resources"
_IDLE = 0  # CPUWeight that makes cpu.idle 1
_STEP = 10_000  # µs: systemd keeps a quota in percent of a second
_UNIFIED = {
    "memory.min": "MemoryMin",
    "memory.low": "MemoryLow",
    "memory.high": "MemoryHigh",
    "memory.max": "MemoryMax",
    "memory.swap.max": "MemorySwapMax",
    "memory.zswap.max": "MemoryZSwapMax",
    "cpu.weight": "CPUWeight",
}


def of_resources(resources: Resources) -> list[Property]:
    """The properties for ``linux.resources``, devices aside.

    What systemd has no property for is left out: the cgroup's files alone have it. ``unified`` comes last, as it does
    there. Raises `ConfigError` for values that are none.
    """
    return [*{each[0]: each for each in _all(resources)}.values()]


def _all(resources: Resources) -> Iterator[Property]:
    yield from _memory(resources.get("memory") or {})
    yield from _cpu(resources.get("cpu") or {})
    weight = (resources.get("blockIO") or {}).get("weight")
    if weight:
        yield ["IOWeight", "t", _converted(convert.io_weight, weight, f"{_R}.blockIO.weight")]
    limit = (resources.get("pids") or {}).get("limit")
    if limit is not None:
        yield ["TasksMax", "t", INFINITY if limit < 0 else max(limit, 1)]
    for file, text in (resources.get("unified") or {}).items():
        yield from _unified(file, text.strip(), f"{_R}.unified[{file!r}]")


def _memory(memory: Memory) -> Iterator[Property]:
    limit, swap = memory.get("limit") or 0, memory.get("swap") or 0
    if limit:
        yield ["MemoryMax", "t", _bytes(limit)]
    if memory.get("reservation"):
        yield ["MemoryLow", "t", _bytes(memory["reservation"])]
    try:
        most = convert.memory_swap(limit, swap)
    except ValueError as error:
        raise ConfigError(str(error), where=f"{_R}.memory.swap") from error
    if most is not None:
        yield ["MemorySwapMax", "t", _bytes(most)]


def _bytes(value: int) -> int:
    return INFINITY if value < 0 else value


def _cpu(cpu: Cpu) -> Iterator[Property]:
    if cpu.get("idle") == 1:
        yield ["CPUWeight", "t", _IDLE]
    elif cpu.get("shares"):
        yield ["CPUWeight", "t", convert.cpu_weight(cpu["shares"])]
    elif cpu.get("idle") == 0:
        yield ["CPUWeight", "t", INFINITY]  # the default
    quota, period = cpu.get("quota") or 0, cpu.get("period") or 0
    if quota or period:
        yield from _quota(quota, period)
    for key, name, value in (
        ("cpus", "AllowedCPUs", cpu.get("cpus")),
        ("mems", "AllowedMemoryNodes", cpu.get("mems")),
    ):
        if value:
            yield [name, "ay", _converted(bitmap, value, f"{_R}.cpu.{key}")]


def _quota(quota: int, period: int) -> Iterator[Property]:
    yield ["CPUQuotaPerSecUSec", "t", quota_per_second(quota, period)]
    if period:
        yield ["CPUQuotaPeriodUSec", "t", period]


def quota_per_second(quota: int, period: int) -> int:
    """µs of CPU time in a second, in steps of 10 ms upwards; `INFINITY` without a quota (in µs, as the period)."""
    if quota <= 0:
        return INFINITY
    share = quota * 1_000_000 // (period or convert.DEFAULT_PERIOD)
    return share + -share % _STEP


def bitmap(text: str) -> list[int]:
    """``0-2,9`` as bytes, the lowest bit of the first for 0. Raises ValueError for what is not such a list."""
    numbers = ranges.parse(text, ranges.MOST_CPUS)
    if not numbers:
        raise ValueError(f"no number in {text!r}")
    return list(ranges.mask(numbers).to_bytes((numbers[-1] >> 3) + 1, "little"))


def _unified(file: str, text: str, where: str) -> Iterator[Property]:
    if file in _UNIFIED:
        yield [_UNIFIED[file], "t", _converted(_number, text, where)]
    elif file == "pids.max":
        yield ["TasksMax", "t", _converted(_number, text, where)]
    elif file == "cpu.max":
        quota, _, period = text.partition(" ")
        yield from _quota(
            -1 if quota == "max" else _converted(_number, quota, where),
            _converted(_number, period.strip(), where) if period.strip() else 0,
        )
    elif file == "cpu.idle" and text == "1":
        yield ["CPUWeight", "t", _IDLE]
    elif file in ("cpuset.cpus", "cpuset.mems"):
        name = "AllowedCPUs" if file.endswith("cpus") else "AllowedMemoryNodes"
        yield [name, "ay", _converted(bitmap, text, where)]
    elif file == "memory.oom.group" and text in ("0", "1"):
        yield ["OOMPolicy", "s", "kill" if text == "1" else "continue"]


def _number(text: str) -> int:
    return INFINITY if text == "max" else int(text)


def _converted(conversion: Callable[[Given], Result], value: Given, where: str) -> Result:
    try:
        return conversion(value)
    except ValueError as error:
        raise ConfigError(f"{value!r}: {error}", where=where) from error


def of_devices(rules: Iterable[str], groups: dict[tuple[str, int], str]) -> list[Property]:
    """``DevicePolicy`` and ``DeviceAllow`` for exceptions from "no device" such as ``c 1:3 rwm``.

    ``groups`` are the names that /proc/devices has for (``c`` or ``b``, major): systemd knows all devices of a major
    number by that name only. Nothing for rules that it could not express.
    """
    allowed = []
    for rule in rules:
        kind, numbers, access = rule.split()
        major, _, minor = numbers.partition(":")
        word = "char" if kind == "c" else "block"
        if "*" not in numbers:
            allowed.append([f"/dev/{word}/{numbers}", access])
        elif numbers == "*:*":
            allowed.append([f"{word}-*", access])
        elif minor == "*" and (kind, int(major)) in groups:
            allowed.append([f"{word}-{groups[kind, int(major)]}", access])
        else:
            return []
    return [["DevicePolicy", "s", "strict"], ["DeviceAllow", "a(ss)", allowed]]


def device_groups(text: str) -> dict[tuple[str, int], str]:
    """The names in /proc/devices: (``c`` or ``b``, major) -> name."""
    groups: dict[tuple[str, int], str] = {}
    kind = ""
    for line in text.splitlines():
        words = line.split()
        if line.startswith(("Character", "Block")):
            kind = "c" if line.startswith("Character") else "b"
        elif len(words) == 2:
            groups.setdefault((kind, int(words[0])), words[1])
    return groups
