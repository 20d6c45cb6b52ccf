"""What rules can say about devices and limits. Pure, as `process`."""

from __future__ import annotations

from gosudacon.plugins.policy import patterns
from gosudacon.plugins.policy.patterns import Wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.plugins.policy.rules import Found, Subject

    Numbers = tuple[str, int | None, int | None]  # type, major, minor; None: any

#: The devices that every container has (runtime-spec config-linux.md, Default Devices), with pts.
_DEFAULT: tuple[Numbers, ...] = (
    *((("c", 1, minor)) for minor in (3, 5, 7, 8, 9)),
    *(("c", 5, 0), ("c", 5, 1), ("c", 5, 2), ("c", 136, None)),
)


class Devices:
    """Devices of a setting: paths with ``*``, and ``c 10:229``, ``b *:*``."""

    def __init__(self, value: object) -> None:
        """Raises `Wrong`."""
        listed = patterns.words(value)
        self.paths = [each for each in listed if each.startswith("/")]
        self.numbers = [_numbers(each) for each in listed if not each.startswith("/")]


def _numbers(text: str) -> Numbers:
    kind, _, pair = text.partition(" ")
    major, colon, minor = pair.partition(":")
    if kind not in ("c", "b", "a") or not colon or not all(_is_number(part) for part in (major, minor)):
        raise Wrong(f"has {text!r}, which is neither an absolute path nor like c 10:229 or b *:*")
    first, second = (None if part == "*" else int(part) for part in (major, minor))
    return kind, first, second


def _is_number(text: str) -> bool:
    return text == "*" or (text.isascii() and text.isdigit())


def allow_devices(allowed: object, subject: Subject) -> Iterator[Found]:
    """No other device node, and no permission for another device; those of every container are not meant."""
    if not isinstance(allowed, Devices):
        return
    known = [*_DEFAULT, *allowed.numbers]
    for where, path, numbers in _nodes(subject):
        if patterns.among(allowed.paths, path):
            known.append(numbers)
        elif not any(_covers(each, numbers) for each in known):
            yield where, f"is {path}, {_told(numbers)}"
    for where, numbers in _permissions(subject):
        if not any(_covers(each, numbers) for each in known):
            yield where, f"allows {_told(numbers)}"


def deny_devices(denied: object, subject: Subject) -> Iterator[Found]:
    """None of these, neither as a node nor by permission."""
    if not isinstance(denied, Devices):
        return
    for where, path, numbers in _nodes(subject):
        if patterns.among(denied.paths, path) or any(_overlap(each, numbers) for each in denied.numbers):
            yield where, f"is {path}, {_told(numbers)}"
    for where, numbers in _permissions(subject):
        if any(_overlap(each, numbers) for each in denied.numbers):
            yield where, f"allows {_told(numbers)}"


def _nodes(subject: Subject) -> Iterator[tuple[str, str, Numbers]]:
    for index, device in enumerate(subject.spec.linux.get("devices") or ()):
        kind = "c" if device.get("type") == "u" else device.get("type", "")
        if kind != "p":
            numbers = kind, device.get("major", 0), device.get("minor", 0)
            yield f"linux.devices[{index}].path", device.get("path", ""), numbers


def _permissions(subject: Subject) -> Iterator[tuple[str, Numbers]]:
    """What is allowed and not taken back by a later rule for all; to make nodes and not open them is nothing."""
    rules = (subject.spec.linux.get("resources") or {}).get("devices") or []
    found: list[tuple[str, Numbers]] = []
    for index, rule in enumerate(rules):
        numbers = rule.get("type") or "a", _number(rule.get("major")), _number(rule.get("minor"))
        access = rule.get("access") or "rwm"
        if not rule.get("allow"):
            if numbers == ("a", None, None) and set(access) == set("rwm"):
                found.clear()
        elif not set(access) <= {"m"}:
            found.append((f"linux.resources.devices[{index}]", numbers))
    yield from found


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


def _covers(one: Numbers, other: Numbers) -> bool:
    """Whether all that the other covers is in the one."""
    return one[0] in ("a", other[0]) and all(
        mine is None or mine == its for mine, its in zip(one[1:], other[1:], strict=True)
    )


def _overlap(one: Numbers, other: Numbers) -> bool:
    """Whether a device can be in both."""
    kinds = "a" in (one[0], other[0]) or one[0] == other[0]
    return kinds and all(None in (mine, its) or mine == its for mine, its in zip(one[1:], other[1:], strict=True))


def _told(numbers: Numbers) -> str:
    kind, major, minor = numbers
    if (major, minor) == (None, None):
        return {"a": "every device", "c": "every character device", "b": "every block device"}.get(kind, kind)
    return f"{kind} {'*' if major is None else major}:{'*' if minor is None else minor}"


def limits_table(value: object) -> object:
    """The setting ``limits``. Raises `Wrong`."""
    if not isinstance(value, dict) or not value:
        raise Wrong("must be a table of memory, pids and cpus")
    found: dict[str, float | bool] = {}
    for name, most in value.items():
        if name not in _LIMITS:
            raise Wrong(f"has the unknown limit {name!r}; known: {', '.join(_LIMITS)}")
        if most is True:
            found[name] = True
        elif name == "memory":
            found[name] = patterns.size(most)
        elif isinstance(most, bool) or not isinstance(most, (int, float)) or most <= 0:
            raise Wrong(f"has {name} = {most!r}: a number above 0, or true for any limit")
        else:
            found[name] = most
    return found


def limits(wanted: object, subject: Subject) -> Iterator[Found]:
    """Limits that must be set, and the most that they may be."""
    for name, most in wanted.items() if isinstance(wanted, dict) else ():
        where, value = _LIMITS[name](subject)
        if value is None:
            yield where, "is not set"
        elif most is not True and value > most:
            yield where, f"is {value:g}, more than {most:g}" if name == "cpus" else f"is {int(value)}, more than {most}"


def _memory(subject: Subject) -> tuple[str, float | None]:
    value = ((subject.spec.linux.get("resources") or {}).get("memory") or {}).get("limit")
    return _unified(subject, "memory.max") or ("linux.resources.memory.limit", _above_zero(value))


def _pids(subject: Subject) -> tuple[str, float | None]:
    value = ((subject.spec.linux.get("resources") or {}).get("pids") or {}).get("limit")
    return _unified(subject, "pids.max") or ("linux.resources.pids.limit", _above_zero(value))


def _cpus(subject: Subject) -> tuple[str, float | None]:
    cpu = (subject.spec.linux.get("resources") or {}).get("cpu") or {}
    quota, period = cpu.get("quota") or 0, cpu.get("period") or 100000
    found = "linux.resources.cpu.quota", quota / period if quota > 0 else None
    return _unified(subject, "cpu.max") or found


def _above_zero(value: int | None) -> float | None:
    return value if value is not None and value > 0 else None


def _unified(subject: Subject, file: str) -> tuple[str, float | None] | None:
    """What ``linux.resources.unified`` says of a file of cgroup v2: it has the last word there."""
    unified: object = (subject.spec.linux.get("resources") or {}).get("unified")
    if subject.host.cgroup_mode != "v2" or not isinstance(unified, dict) or file not in unified:
        return None
    most, _, period = str(unified[file]).strip().partition(" ")
    value = float(most) if most.isascii() and most.isdigit() else None  # max: none
    if value is not None and file == "cpu.max":
        value /= int(period) if period.isascii() and period.isdigit() and int(period) else 100000
    return f"linux.resources.unified.{file}", value


_LIMITS = {"memory": _memory, "pids": _pids, "cpus": _cpus}
