"""Readers of device rules: v1's list, and the programs of v2, which are read back and evaluated (bpf(2))."""

from __future__ import annotations

from gosudacon.audit.subject import read_at
from gosudacon.audit.verdict import ENFORCED, STRICTER, Finding, Unseen, difference
from gosudacon.base import posix
from gosudacon.base.errors import SyscallError, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gosudacon.audit.subject import Subject
    from gosudacon.pipeline.expectation import Expectation

    #: (type b or c, major, minor, one letter of rwm) -> whether it is allowed.
    Answer = Callable[[str, int, int, str], bool]

ANY = -1
_ODD = 241  # a major number that no rule names
#: Asked about in any case: mem, kmem, port, loop, disks, kvm, fuse, tun, rfkill, hpet, and unused numbers.
_PROBES = (
    *(
        ("c", 1, 1),
        ("c", 1, 2),
        ("c", 1, 4),
        ("c", 10, 1),
        ("c", 10, 229),
        ("c", 10, 232),
        ("c", 10, 200),
        ("c", 10, 242),
    ),
    *(
        ("c", 10, 228),
        ("c", 10, 196),
        ("b", 7, 0),
        ("b", 8, 0),
        ("b", 254, 0),
        ("b", 259, 0),
        ("c", 4, 0),
        ("c", 29, 0),
    ),
    *(("c", 195, 0), ("c", 226, 0), ("c", 89, 0), ("c", _ODD, 77), ("b", _ODD, 77)),
)


def v1(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """devices.list of the cgroup: exceptions from a denial, or ``a *:* rwm`` for everything."""
    asked: dict[str, object] = wanted.asked  # type: ignore[assignment]
    directory = subject.cgroups.get("devices")
    if directory is None:
        raise Unseen("its cgroup of the devices controller cannot be seen from here")
    lines = read_at(None, f"{directory}/devices.list").decode().splitlines()
    exceptions = [str(each) for each in asked["exceptions"]] if isinstance(asked["exceptions"], list) else []
    yield from _compared(
        subject,
        wanted.where,
        _by_list(bool(asked["allowed"]), exceptions),
        _by_list(False, lines),
        _named([*exceptions, *lines]),
        f"{len(lines)} exceptions in devices.list",
    )


def _parsed(line: str) -> tuple[str, int, int, str]:
    kind, numbers, access = line.split()
    major, _, minor = numbers.partition(":")
    return kind, ANY if major == "*" else int(major), ANY if minor == "*" else int(minor), access


def _by_list(allowed: bool, exceptions: list[str]) -> Answer:
    parsed = [_parsed(line) for line in exceptions]

    def answer(kind: str, major: int, minor: int, letter: str) -> bool:
        hit = any(
            of in ("a", kind) and one in (ANY, major) and two in (ANY, minor) and letter in access
            for of, one, two, access in parsed
        )
        return allowed != hit

    return answer


def _named(lines: list[str]) -> set[tuple[str, int, int]]:
    found = set()
    for kind, major, minor, _ in map(_parsed, lines):
        for each in ("b", "c") if kind == "a" else (kind,):
            found.add((each, _ODD if major == ANY else major, 77 if minor == ANY else minor))
    return found


def v2(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """The programs on the way from the root to the cgroup: all of them must allow."""
    rules = [list(rule) for rule in wanted.asked if isinstance(rule, list)] if isinstance(wanted.asked, list) else []
    programs = list(_programs(subject))
    names: set[tuple[str, int, int]] = set()
    for _, kind, major, minor, _ in rules:
        for each in ("b", "c") if kind == "a" else (str(kind),):
            names.add((each, _ODD if major == ANY else int(major), 77 if minor == ANY else int(minor)))

    def found(kind: str, major: int, minor: int, letter: str) -> bool:
        from gosudacon.audit import bpf

        return all(bpf.device_allowed(program, kind, major, minor, letter) for program in programs)

    text = f"{len(programs)} programs" if programs else "no program: every device is allowed"
    yield from _compared(subject, wanted.where, _by_rules(rules), found, names, text)


def _by_rules(rules: list[list[object]]) -> Answer:
    def answer(kind: str, major: int, minor: int, letter: str) -> bool:
        for allow, of, one, two, access in reversed(rules):
            if of in ("a", kind) and one in (ANY, major) and two in (ANY, minor) and letter in str(access):
                return bool(allow)
        return False

    return answer


def _programs(subject: Subject) -> Iterator[bytes]:
    from gosudacon.linux import bpf
    from gosudacon.linux.cgroup import files

    directory, point = subject.cgroups.get(""), subject.host.cgroup_mounts.get("", "")
    if not directory:
        raise Unseen("its cgroup of the unified hierarchy cannot be seen from here")
    while directory.startswith(point):
        fd = files.open_directory(directory)
        try:
            for number in bpf.attached(fd):
                yield bpf.instructions(number)
        except SyscallError as error:
            raise Unseen(f"the programs of {directory}: {reason(error)}") from None
        finally:
            posix.close(fd)
        directory = directory.rpartition("/")[0]
        if len(directory) < len(point):
            return


def _compared(
    subject: Subject,
    where: str,
    asked: Answer,
    found: Answer,
    named: set[tuple[str, int, int]],
    kernel: str,
) -> Iterator[Finding]:
    more, less = [], []
    probes = sorted(named.union(_PROBES))
    count = 0
    for kind, major, minor in probes:
        letters = [(letter, asked(kind, major, minor, letter), found(kind, major, minor, letter)) for letter in "rwm"]
        count += len(letters)
        over = "".join(letter for letter, wish, is_ in letters if is_ and not wish)
        under = "".join(letter for letter, wish, is_ in letters if wish and not is_)
        shown = f"{kind} {'*' if major == _ODD else major}:{'*' if minor == 77 else minor}"
        more += [f"{shown} {over}"] if over else []
        less += [f"{shown} {under}"] if under else []
    text = f"{len(probes)} devices, {count} kinds of access evaluated"
    if more:
        verdict, who = difference(subject, untouched="every device" in kernel or len(more) > len(probes) // 2)
        note = f"allowed and not asked for: {', '.join(more[:6])}"
        yield Finding(where, text, kernel, verdict, "devices.list" if "list" in kernel else "bpf", who, note)
    elif less:
        note = f"asked for and denied: {', '.join(less[:6])}"
        yield Finding(where, text, kernel, STRICTER, "devices.list" if "list" in kernel else "bpf", note=note)
    else:
        yield Finding(where, text, kernel, ENFORCED, "devices.list" if "list" in kernel else "bpf")
