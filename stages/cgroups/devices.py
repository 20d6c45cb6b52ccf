"""Which devices a container may use: ``linux.resources.devices`` with the default ones, and steps that enforce it."""

from __future__ import annotations

from gosudacon.api import (
    CREATE_CONTAINER,
    ISOLATE,
    PIVOT,
    PREPARE,
    RUNTIME,
    ConfigError,
    Context,
    PlanWarning,
    Spec,
    Step,
)
from gosudacon.base import posix
from gosudacon.linux import mount
from gosudacon.linux.cgroup import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.schema.types import ResourcesDevice

WHERE = "linux.resources.devices"
ANY = -1
_ALL = "rwm"
_LARGEST = (1 << 31) - 1

#: A rule is ``[allow, type a|b|c, major, minor, access]``, -1 for any number: JSON, for a step's fields.
Rule = list[object]

#: Allowed to every container, unless it denies them (`rules_of`): mknod of anything, null, zero, full, random,
#: urandom, tty, ptmx, the slaves of pseudo-terminals, and tun.
DEFAULTS: tuple[tuple[str, int, int, str], ...] = (
    ("c", ANY, ANY, "m"),
    ("b", ANY, ANY, "m"),
    ("c", 1, 3, _ALL),
    ("c", 1, 5, _ALL),
    ("c", 1, 7, _ALL),
    ("c", 1, 8, _ALL),
    ("c", 1, 9, _ALL),
    ("c", 5, 0, _ALL),
    ("c", 5, 2, _ALL),
    ("c", 136, ANY, _ALL),
    ("c", 10, 200, _ALL),
)


def rules_of(entries: list[ResourcesDevice]) -> list[Rule]:
    """The rules of config.json and the defaults, in the order they apply; before the first, nothing is allowed.

    A rule without any of the letters that there are says nothing, unless it is for all devices: then it is for all
    access, as in runc.

    A rule that denies a whole type of devices, as the first of most configurations does, does not deny the default
    ones, which the specification wants to be there. A narrower denial after the last of those does.
    Raises `ConfigError` for an entry that the kernel could not enforce.
    """
    rules = [rule for index, entry in enumerate(entries) if (rule := _rule(index, entry))[-1]]
    narrow = len(rules)
    for index in range(len(rules) - 1, -1, -1):
        allow, _, *what = rules[index]
        if what == [ANY, ANY, _ALL] and not allow:
            break
        narrow = narrow if allow else index
    return [*rules[:narrow], *([True, *default] for default in DEFAULTS), *rules[narrow:]]


def _rule(index: int, entry: ResourcesDevice) -> Rule:
    where = f"{WHERE}[{index}]"
    kind = entry.get("type") or "a"
    if kind not in ("a", "b", "c"):
        raise ConfigError(f"invalid device type {kind!r} for a cgroup rule", where=f"{where}.type", hint="a, b or c")
    access = entry.get("access") or ""
    if not access:
        raise ConfigError(f"device access at {index} field cannot be empty", where=f"{where}.access")
    numbers = []
    for key, number in (("major", entry.get("major")), ("minor", entry.get("minor"))):
        number = ANY if number is None else number
        if not ANY <= number <= _LARGEST:
            raise ConfigError(f"invalid device {key} {number}", where=f"{where}.{key}")
        numbers.append(number)
    letters = "".join(mode for mode in _ALL if mode in access)
    return [bool(entry.get("allow")), kind, *numbers, letters or (_ALL if kind == "a" else "")]


def warnings(entries: list[ResourcesDevice]) -> Iterator[Step]:
    """Which letters of the rules say nothing."""
    for index, entry in enumerate(entries):
        others = "".join(dict.fromkeys(letter for letter in entry.get("access") or "" if letter not in _ALL))
        if others:
            text = f"ignored: {others} is not among r, w and m"
            yield PlanWarning(message=text, where=f"{WHERE}[{index}].access")


def show(rule: Rule) -> str:
    """``c 1:3 rwm``, as v1's files take it."""
    kind, major, minor, access = rule[1:]
    return f"{kind} {_number(major)}:{_number(minor)} {access}"


def _number(number: object) -> str:
    return "*" if number == ANY else str(number)


def effective(rules: list[Rule]) -> tuple[bool, list[str]]:
    """What v1's two files must hold for ``rules``: whether devices are allowed by default, and the exceptions.

    v1 keeps one default and exceptions from it. A rule that would make an exception from an exception has no
    form there: raises `ConfigError`. Only that a device which may not be opened can be made (mknod) is let pass:
    all devices of its type can, by default.
    """
    allowed = False
    exceptions: dict[tuple[str, int, int], set[str]] = {}
    for allow, kind, major, minor, access in rules:
        assert isinstance(kind, str) and isinstance(major, int) and isinstance(minor, int) and isinstance(access, str)
        if (kind, major, minor, access) == ("a", ANY, ANY, _ALL):
            allowed = bool(allow)
            exceptions.clear()
            continue
        for one in ("c", "b") if kind == "a" else (kind,):
            if bool(allow) == allowed:
                _take_back(exceptions, (one, major, minor), set(access))
            else:
                exceptions.setdefault((one, major, minor), set()).update(access)
    return allowed, [
        show([None, *device, "".join(mode for mode in _ALL if mode in access)])
        for device, access in exceptions.items()
        if access
    ]


def _take_back(
    exceptions: dict[tuple[str, int, int], set[str]], device: tuple[str, int, int], access: set[str]
) -> None:
    for known, has in exceptions.items():
        if not has & access or not _meet(known, device):
            continue
        if not _covers(device, known):
            if has & access == {"m"} != access:
                continue
            raise ConfigError(
                f"cgroup v1 cannot take {show([None, *device, ''.join(sorted(access))])} out of "
                f"{show([None, *known, ''.join(sorted(has))])}",
                where=WHERE,
            )
        has -= access


def _meet(a: tuple[str, int, int], b: tuple[str, int, int]) -> bool:
    return all(x == y or ANY in (x, y) for x, y in zip(a, b, strict=True))


def _covers(wide: tuple[str, int, int], narrow: tuple[str, int, int]) -> bool:
    return all(x in (y, ANY) for x, y in zip(wide, narrow, strict=True))


def allows_everything(rules: list[Rule]) -> bool:
    """Whether no device is denied: the last rule for everything allows, and none denies after it."""
    for allow, kind, major, minor, access in reversed(rules):
        if not allow:
            return False
        if (kind, major, minor, access) == ("a", ANY, ANY, _ALL):
            return True
    return False


def mounts_block_device(spec: Spec) -> bool:
    """Whether a mount opens a block device, for which the container need not have leave itself."""
    return any(
        (entry.get("source") or "").startswith("/dev/")
        and entry.get("type") != "none"
        and not mount.is_bind(entry.get("type"), entry.get("options"))
        for entry in spec.config.get("mounts") or ()
    )


def steps(spec: Spec, rules: list[Rule], unified: bool) -> Iterator[Step]:
    """The step that enforces ``rules``: on v1 before there is a process, since the rules are written one by one and
    must not deny what they allow meanwhile; by eBPF, which takes effect at once, while the other side mounts. In
    both cases after the mounts if one of them opens a block device."""
    if unified and allows_everything(rules):
        return
    step: Step
    if unified:
        step = LimitDevicesByProgram(rules=rules, where=WHERE)
    else:
        allowed, exceptions = effective(rules)
        step = LimitDevices(allowed=allowed, exceptions=exceptions, where=WHERE)
    if mounts_block_device(spec):
        step.phase, step.by = CREATE_CONTAINER, PIVOT
    yield step


class LimitDevices(Step):
    """Write the rules to v1's devices.deny and devices.allow.

    Why: a device node is a door to a driver; the kernel asks the cgroup before it opens one.
    Without it: a container that can make nodes would read the host's disks.
    See: Documentation/admin-guide/cgroup-v1/devices.rst; runtime-spec config-linux.md, Allowed Device list.
    """

    phase = PREPARE
    side = RUNTIME
    allowed: bool
    exceptions: list[str]

    def describe(self) -> str:
        if self.allowed:
            return f"allow all devices{' but ' if self.exceptions else ''}{', '.join(self.exceptions)}"
        return f"allow devices {', '.join(self.exceptions) or 'none'}"

    def run(self, context: Context) -> None:
        fd = context.cgroup_dirs["devices"]
        default, other = ("devices.allow", "devices.deny") if self.allowed else ("devices.deny", "devices.allow")
        files.write(fd, default, "a")
        file = posix.open(other, posix.O_WRONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=fd)
        try:
            for exception in self.exceptions:
                posix.write(file, exception.encode())
        finally:
            posix.close(file)


class LimitDevicesByProgram(Step):
    """Attach an eBPF program of type BPF_PROG_TYPE_CGROUP_DEVICE that answers by the rules.

    Why: version 2 has no files for devices: a program decides, at each open(2) and mknod(2) in the cgroup.
    Without it: a container that can make nodes would read the host's disks.
    See: bpf(2); Documentation/admin-guide/cgroup-v2.rst; runtime-spec config-linux.md, Allowed Device list.
    """

    phase = ISOLATE
    side = RUNTIME
    by = CREATE_CONTAINER
    rules: list[Rule]

    def describe(self) -> str:
        rules = ", ".join(("" if rule[0] else "not ") + show(rule) for rule in self.rules)
        return f"attach an eBPF program for devices: {rules}"

    def run(self, context: Context) -> None:
        from gosudacon.linux import bpf

        bpf.limit_devices(context.cgroup_dirs[""], self.rules)
