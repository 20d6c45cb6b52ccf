"""Readers of namespaces and of what is set in them: names, kernel parameters, clocks, id maps, network devices."""

from __future__ import annotations

from gosudacon.audit import inside
from gosudacon.audit.subject import ranges, read_at
from gosudacon.audit.verdict import ENFORCED, FAULT, Finding, Unseen, difference
from gosudacon.base import posix
from gosudacon.base.errors import reason
from gosudacon.linux import namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.audit.subject import Subject
    from gosudacon.pipeline.expectation import Expectation


_GROUPS = ("net/ipv4/ping_group_range",)  # parameters that are group ids


def space(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """A namespace: not the machine's and not the runtime's, or that at the path that is to be joined."""
    kind, path = wanted.key, str(wanted.asked)
    own = subject.inode(kind)
    if own is None:
        raise Unseen(f"this kernel has no {kind} namespaces")
    evidence, kernel = f"ns/{namespace.KINDS[kind][2]}", f"{kind} {own[1]}"
    if path:
        try:
            other = subject.inode(kind, path)
        except OSError as error:
            raise Unseen(f"{path}: {reason(error)}") from None
        if other is None:
            raise Unseen(f"{path} is gone")
        if other == own:
            yield Finding(wanted.where, path, kernel, ENFORCED, evidence)
            return
        verdict, who = difference(subject, "CAP_SYS_ADMIN", FAULT, untouched=not subject.differs(kind))
        yield Finding(wanted.where, path, kernel, verdict, evidence, who, f"{path} is {other[1]}")
        return
    if subject.differs(kind) and own != _machines(kind):
        yield Finding(wanted.where, f"a {kind} namespace of its own", kernel, ENFORCED, evidence)
        return
    verdict, who = difference(subject, FAULT, untouched=True)
    yield Finding(wanted.where, f"a {kind} namespace of its own", f"the host's ({own[1]})", verdict, evidence, who)


def _machines(kind: str) -> tuple[int, int] | None:
    """That of the kernel's first thread, which no container can be in."""
    try:
        status = posix.stat(f"/proc/2/ns/{namespace.KINDS[kind][2]}")
    except OSError:
        return None
    return status.st_dev, status.st_ino


def id_map(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """uid_map and gid_map, as sets of ranges (user_namespaces(7)); they can be written only once."""
    assert isinstance(wanted.asked, list)
    found = ranges(subject.text(wanted.key))
    texts = _lines(wanted.asked), _lines(found)
    if sorted(found) == sorted(wanted.asked):
        yield Finding(wanted.where, *texts, ENFORCED, wanted.key)
    else:
        verdict, who = difference(subject, FAULT)
        yield Finding(wanted.where, *texts, verdict, wanted.key, who)


def _lines(maps: list[list[int]]) -> str:
    return ", ".join(" ".join(map(str, each)) for each in sorted(maps))


def time_offset(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """timens_offsets (time_namespaces(7)): fixed from the first process on."""
    assert isinstance(wanted.asked, list)
    lines = [line.split() for line in subject.text("timens_offsets").decode().splitlines()]
    found = next(([int(each) for each in line[1:]] for line in lines if line and line[0] == wanted.key), [0, 0])
    texts = f"{wanted.asked[0]} s {wanted.asked[1]} ns", f"{found[0]} s {found[1]} ns"
    if found == wanted.asked:
        yield Finding(wanted.where, *texts, ENFORCED, "timens_offsets")
    else:
        verdict, who = difference(subject, FAULT)
        yield Finding(wanted.where, *texts, verdict, "timens_offsets", who)


def name(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """Host name and domain name, as a process in the UTS namespace reads them."""
    asked = str(wanted.asked)
    found = str(subject.answer(inside.UNAME)[wanted.key]).rstrip("\n")
    evidence = f"/proc/sys/kernel/{wanted.key} in its UTS namespace"
    if found == asked:
        yield Finding(wanted.where, asked, found, ENFORCED, evidence)
        return
    hosts = read_at(None, f"/proc/sys/kernel/{wanted.key}").decode(errors="replace").rstrip("\n")
    verdict, who = difference(subject, "CAP_SYS_ADMIN", untouched=found in (hosts, "(none)"))
    yield Finding(wanted.where, asked, found, verdict, evidence, who)


def sysctl(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """A kernel parameter, as a process in the container's namespaces reads it from the host's /proc."""
    asked = " ".join(str(wanted.asked).split())
    answer = subject.answer(inside.SYSCTL + wanted.key)
    if "value" not in answer:
        raise Unseen(f"/proc/sys/{wanted.key}: {posix.strerror(int(str(answer.get('errno', 0)))).lower()}")
    found = " ".join(str(answer["value"]).split())
    evidence = f"/proc/sys/{wanted.key} in its namespaces"
    if found in (asked, _mapped(subject, wanted.key, asked)) or _same_numbers(asked, found):
        yield Finding(wanted.where, asked, found, ENFORCED, evidence)
        return
    try:
        hosts = " ".join(read_at(None, f"/proc/sys/{wanted.key}").decode(errors="replace").split())
    except OSError:
        hosts = ""
    right = "CAP_NET_ADMIN" if wanted.key.startswith("net/") else "CAP_SYS_ADMIN"
    writable = not any(each in ("/proc", "/proc/sys") for each in subject.spec.linux.get("readonlyPaths") or ())
    rights = (right,) if writable or subject.may("CAP_SYS_ADMIN") else ()
    verdict, who = difference(subject, *rights, untouched=found == hosts)
    yield Finding(wanted.where, asked, found, verdict, evidence, who)


def _mapped(subject: Subject, key: str, asked: str) -> str:
    """Group ids as a reader in this user namespace is shown them."""
    if key not in _GROUPS:
        return asked
    try:
        return " ".join(str(subject.inside(int(each), "gid_map")) for each in asked.split())
    except (ValueError, Unseen):
        return asked


def _same_numbers(asked: str, found: str) -> bool:
    try:
        return [int(each, 0) for each in asked.split()] == [int(each, 0) for each in found.split()]
    except ValueError:
        return False


def device_up(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """A network device of that name in the container's network namespace, and that it is up (netdevice(7))."""
    lines = subject.text("net/dev").decode(errors="replace").splitlines()[2:]
    names = [line.partition(":")[0].strip() for line in lines]
    prefix = wanted.key.partition("%")[0]
    answer = subject.answer(inside.DEVICE + wanted.key)
    if answer.get("up") or ("%" in wanted.key and any(each.startswith(prefix) for each in names)):
        yield Finding(wanted.where, f"{wanted.key} up", "up", ENFORCED, "net/dev, SIOCGIFFLAGS")
        return
    kernel = "down" if wanted.key in names else " ".join(names) or "no device"
    verdict, who = difference(subject, "CAP_NET_ADMIN", untouched=kernel == "down")
    yield Finding(wanted.where, f"{wanted.key} up", kernel, verdict, "net/dev, SIOCGIFFLAGS", who)


def resctrl(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """The class of service: whether init is in its tasks file."""
    assert isinstance(wanted.asked, dict)
    root = wanted.asked["root"]
    try:
        tasks = read_at(None, f"{root}/{wanted.key}/tasks").split()
    except OSError as error:
        raise Unseen(f"{root}/{wanted.key}/tasks: {reason(error)}") from None
    if str(subject.pid).encode() in tasks:
        yield Finding(wanted.where, wanted.key, wanted.key, ENFORCED, f"{root}/{wanted.key}/tasks")
    else:
        verdict, who = difference(subject)
        yield Finding(wanted.where, wanted.key, "another class", verdict, f"{root}/{wanted.key}/tasks", who)
