"""Readers of cgroups: where init is, the limits in their files, and what an ancestor decides."""

from __future__ import annotations

from errno import ENOENT

from gosudacon.audit.subject import read_at
from gosudacon.audit.verdict import BROKEN, CHANGED, ENFORCED, ROUNDED, STRICTER, Finding, Unseen, difference
from gosudacon.base import ranges
from gosudacon.base.errors import SyscallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.audit.subject import Subject
    from gosudacon.pipeline.expectation import Expectation

_PAGE = 4096
_LISTS = ("cpuset.cpus", "cpuset.mems")
_MEMORY = ("memory.", "hugetlb.")
_MOST = 9223372036854771712  # what v1 shows for no limit: the largest number of whole pages
#: Of these the smallest one on the way to the root counts.
_INHERITED = ("memory.max", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "pids.max", "memory.swap.max")


def cgroup(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """Whether init is where it was put."""
    strayed = subject.strayed()
    places = " ".join(sorted({*subject.cgroups.values()})) or "none"
    asked = str(subject.spec.linux.get("cgroupsPath") or wanted.key or "a cgroup of its own")
    if strayed:
        now = ", ".join(f"{place or 'out of sight'} ({name or 'unified'})" for name, place in strayed.items())
        verdict, who = difference(subject, *_rights(subject))
        yield Finding(wanted.where, asked, now, verdict, "cgroup", who, "its limits are those of another cgroup")
        return
    if not subject.cgroups or places == "none":
        raise Unseen("its cgroups cannot be seen from here")
    if not subject.ours and isinstance(wanted.asked, dict) and wanted.asked and asked.startswith("/"):
        limited = [name for name, path in subject.cgroups.items() if path.endswith(asked)]
        if not limited:
            yield Finding(wanted.where, asked, places, *_blamed(subject, True))
            return
    yield Finding(wanted.where, asked, _shortest(places), ENFORCED, "cgroup")


def _shortest(places: str) -> str:
    first, *others = places.split(" ")
    return f"{first} and {len(others)} more" if others else first


def _blamed(subject: Subject, untouched: bool, evidence: str = "cgroup") -> tuple[str, str, str]:
    verdict, who = difference(subject, *_rights(subject), untouched=untouched)
    return verdict, evidence, who


def _rights(subject: Subject) -> tuple[str, ...]:
    """A container whose root sees its cgroup on a writable mount can lift its own limits."""
    writable = any(each.fstype in ("cgroup", "cgroup2") and not each.readonly for each in subject.mounts)
    if not writable or subject.own_users:
        return ()
    return ("CAP_DAC_OVERRIDE",) if int(subject.field("Uid").split()[1]) else ("self",)


def value(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """One file: equal, equal after the kernel's rounding, or not."""
    asked: dict[str, object] = wanted.asked  # type: ignore[assignment]
    controller, _, file = wanted.key.partition("/")
    yield from _one(subject, wanted.where, controller, file, str(asked["value"]), bool(asked["optional"]))


def first(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """The first of several files that this kernel has."""
    assert isinstance(wanted.asked, list)
    for file, text in wanted.asked:
        if _read(subject, wanted.key, str(file)) is not None:
            yield from _one(subject, wanted.where, wanted.key, str(file), str(text), False)
            return
    names = " or ".join(str(file) for file, _ in wanted.asked)
    yield Finding(wanted.where, str(wanted.asked[0][1]), f"this kernel has no {names}", *_blamed(subject, True, names))


def _one(subject: Subject, where: str, controller: str, file: str, asked: str, optional: bool) -> Iterator[Finding]:
    found = _read(subject, controller, file)
    label = f"{file} {asked}"
    if found is None:
        if optional:
            raise Unseen(f"this kernel has no {file}")
        yield Finding(where, label, "there is no such file", *_blamed(subject, True, file))
        return
    found = _part(asked, found)
    verdict = _compare(file, asked, found)
    if verdict:
        yield Finding(where, label, found, verdict, file, note=_ancestor(subject, controller, file, found))
        return
    since = subject.updated.get(file, asked)
    verdict = _compare(file, since, found)
    if verdict:
        note = f"config.json asks for {asked}; the runtime's state has {since} since an update"
        yield Finding(where, label, found, verdict, file, note=note)
        return
    untouched = found in ("max", "", "-1", str(_MOST)) or found.startswith("max ")
    verdict, evidence, who = _blamed(subject, untouched, file)
    note = "the container can lift its own limits: its cgroup is mounted writable" if verdict == CHANGED else ""
    if verdict != BROKEN and _is_less(asked, found):
        verdict, note = STRICTER, note or "a lower limit than asked"
    yield Finding(where, label, found, verdict, evidence, who, note)


def _directory(subject: Subject, controller: str) -> str:
    found = subject.cgroups.get(controller)
    if found is None:
        raise Unseen(f"the cgroup of the controller {controller or 'unified'} cannot be seen from here")
    return found


def _read(subject: Subject, controller: str, file: str) -> str | None:
    try:
        return read_at(None, f"{_directory(subject, controller)}/{file}").decode(errors="replace").strip()
    except (OSError, SyscallError) as error:
        if error.errno == ENOENT:
            return None
        raise


def _part(asked: str, found: str) -> str:
    """Of a file with a line for each device or key, the line that was asked for."""
    words = asked.split()
    if len(words) < 2 or ("\n" not in found and ":" not in words[0] and words[0] not in found):
        return found
    if "=" in words[-1]:
        line = next((each for each in found.splitlines() if each.split()[:1] == words[:1]), "")
        keys = [word.partition("=")[0] for word in words[1:]]
        return " ".join([*words[:1], *(word for word in line.split() if word.partition("=")[0] in keys)])
    return next((each for each in found.splitlines() if each.split()[:1] == words[:1]), found)


def _compare(file: str, asked: str, found: str) -> str:
    """`ENFORCED` or `ROUNDED`; an empty string if it is another value."""
    if " ".join(asked.split()) == " ".join(found.split()):
        return ENFORCED
    if file.startswith(_LISTS):
        return ENFORCED if _list(asked) == _list(found) else ""
    if asked in ("-1", "max") and found in ("max", "-1", str(_MOST)):
        return ENFORCED
    a, b = _number(asked), _number(found)
    if a is None or b is None:
        return ""
    if a == b:
        return ENFORCED
    if file in ("cpu.shares", "cpu.weight"):
        return ROUNDED if b in (max(2, min(a, 262144)), _linear(a)) else ""
    if file.startswith("hugetlb."):
        size = _page_size(file)
        return ROUNDED if size and a // size * size == b else ""
    if file.startswith(_MEMORY):
        return ROUNDED if a // _PAGE * _PAGE == b else ""
    return ""


def _linear(weight: int) -> int:
    """cpu.weight of runtimes that convert shares by a line: 1024 becomes 39."""
    return weight


def _page_size(file: str) -> int:
    text = file.split(".")[1]
    units = {"KB": 10, "MB": 20, "GB": 30}
    return int(text[:-2]) << units[text[-2:]] if text[-2:] in units and text[:-2].isdigit() else 0


def _list(text: str) -> list[int]:
    try:
        return sorted(ranges.parse(text, 1 << 14))
    except ValueError:
        return []


def _number(text: str) -> int | None:
    last = text.split()[-1] if text.split() else ""
    last = last.rpartition("=")[2]
    return int(last) if last.lstrip("-").isdigit() else None


def _is_less(asked: str, found: str) -> bool:
    a, b = _number(asked), _number(found)
    return False if a is None or b is None else 0 <= b < a


def _ancestor(subject: Subject, controller: str, file: str, found: str) -> str:
    """What a cgroup above allows, if it is less: then that decides."""
    if file not in _INHERITED:
        return ""
    directory, own = _directory(subject, controller), _number(found)
    point = subject.host.cgroup_mounts.get(controller, "")
    least: tuple[int, str] | None = None
    while point and (directory := directory.rpartition("/")[0]).startswith(f"{point}/"):
        try:
            limit = _number(read_at(None, f"{directory}/{file}").decode().strip())
        except OSError:
            continue
        if limit is not None and (own is None or limit < own) and (least is None or limit < least[0]):
            least = limit, directory
    return f"an ancestor decides: {least[1]} allows {least[0]}" if least else ""
