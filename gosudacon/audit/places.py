"""Readers of mounts, of what hides paths, and of device nodes.

Which mount a path leads to, a child in the container's mount namespace has found out by openat2(2); what is mounted
there, the list of mounts tells, which no process in the container can bend.
"""

from __future__ import annotations

from _stat import S_IFBLK, S_IFCHR, S_IFIFO, S_IFMT, S_ISCHR, S_ISDIR, S_ISLNK
from errno import ENOENT, ENOTDIR

from gosudacon.audit import inside
from gosudacon.audit.subject import read_at
from gosudacon.audit.verdict import CHANGED, ENFORCED, FAULT, STRICTER, UNSEEN, Finding, Unseen, difference
from gosudacon.base import posix
from gosudacon.linux import statmount
from gosudacon.linux.mount import normal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.audit.subject import Subject
    from gosudacon.linux.statmount import Mount
    from gosudacon.pipeline.expectation import Expectation

_KINDS = {"c": S_IFCHR, "u": S_IFCHR, "b": S_IFBLK, "p": S_IFIFO}
_HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer")  # which may mount in the container
_RDONLY = 1  # ST_RDONLY
_ABSENT = (ENOENT, ENOTDIR)
_RIGHT = "CAP_SYS_ADMIN"
_UNITS = {"k": 10, "m": 20, "g": 30}


def questions(wanted: Expectation) -> list[str]:
    """What is asked about a path."""
    if wanted.reader == "link":
        return [inside.LINK + wanted.key]
    return [inside.PATH + wanted.key]


def mounted(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """An entry of ``mounts``: that it is there, its type and source, its words, its propagation, its size and mode."""
    asked: dict[str, object] = wanted.asked  # type: ignore[assignment]
    subject.claimed.add(normal(wanted.key))
    if asked.get("recursive") or asked.get("whole"):
        subject.trees.append(normal(wanted.key))
    found = visible(subject, wanted.key)
    words = [*_strings(asked, "words"), *_strings(asked, "tree")]
    shown = " ".join(filter(None, (str(asked.get("fstype") or ""), str(asked.get("source") or ""), ",".join(words))))
    text = f"{wanted.key}: {shown}"
    if found is None:
        if asked.get("optional"):
            return
        verdict, who = difference(subject, _RIGHT, untouched=True)
        yield Finding(wanted.where, text, "nothing is mounted there", verdict, _EVIDENCE, who)
        return
    subject.claimed.add(found.point)
    if asked.get("recursive") and found.point != "/":
        subject.trees.append(found.point)
    kernel = f"{found.fstype} {','.join(sorted(found.words - {'relatime'}))}".rstrip()
    problems = _problems(subject, asked, found, words)
    if not problems:
        verdict = STRICTER if found.readonly and "ro" not in words and asked.get("fstype") != "sysfs" else ENFORCED
        if verdict == STRICTER and (asked.get("source") or not asked.get("fstype")) and "ro" not in found.words:
            verdict = ENFORCED  # the file system is read-only, and was when it was bound
        yield Finding(wanted.where, text, kernel, verdict, _EVIDENCE, note=_writable_below(subject, asked, found))
        return
    verdict, who = difference(subject, _RIGHT, untouched=True)
    yield Finding(wanted.where, text, kernel, verdict, _EVIDENCE, who, "; ".join(problems))


def _writable_below(subject: Subject, asked: dict[str, object], found: Mount) -> str:
    """``ro`` is for the one mount, ``rro`` for those below it, too: which people find out late."""
    if not asked.get("recursive") or "ro" not in _strings(asked, "words") or "ro" in _strings(asked, "tree"):
        return ""
    writable = [each.point for each in below_of(subject, found) if not each.readonly]
    return f"`ro` is not recursive, `rro` is: writable below it: {', '.join(writable[:4])}" if writable else ""


_EVIDENCE = "statmount"


def _strings(asked: dict[str, object], name: str) -> list[str]:
    value = asked.get(name)
    return [str(each) for each in value] if isinstance(value, list) else []


def _problems(subject: Subject, asked: dict[str, object], found: Mount, words: list[str]) -> list[str]:
    problems = [f"not {word}" for word in words if not _has(found, word)]
    fstype = str(asked.get("fstype") or "")
    if fstype and found.fstype != fstype and not (fstype == "cgroup2" and found.fstype in ("cgroup", "tmpfs")):
        problems.append(f"it is {found.fstype}")
    if asked.get("idmap") and "idmapped" not in found.words:
        problems.append("not id-mapped")
    for word in _strings(asked, "tree"):
        below = [each.point for each in below_of(subject, found) if not _has(each, word)]
        problems += [f"{point} is not {word}" for point in below[:3]]
    propagation = str(asked.get("propagation") or "")
    if propagation in ("private", "slave", "unbindable") and found.shared:
        problems.append(f"it is shared{_with_host(found)}, and was to be {propagation}")
    if propagation == "shared" and not found.shared:
        problems.append("it is not shared")
    if asked.get("source") and not asked.get("inside"):
        problems += _other_source(str(asked["source"]), found)
    problems += _data(_strings(asked, "data"), found)
    return problems


def _has(found: Mount, word: str) -> bool:
    return found.readonly if word == "ro" else word in found.words


def _with_host(found: Mount) -> str:
    text = read_at(None, "/proc/self/mountinfo")
    return " with the host" if f" shared:{found.shared} ".encode() in text else ""


def _other_source(source: str, found: Mount) -> list[str]:
    """Whether the source is on another device, as far as that can be told without looking into it."""
    try:
        status = posix.stat(source)
    except OSError:
        return []
    device = posix.major(status.st_dev), posix.minor(status.st_dev)
    if device == found.device or S_ISLNK(status.st_mode):
        return []
    if device[0] == 0 == found.device[0]:  # btrfs and overlayfs show other numbers than statmount(2)
        return []
    return [f"it is of device {found.device[0]}:{found.device[1]}, and {source} of {device[0]}:{device[1]}"]


def _data(data: list[str], found: Mount) -> list[str]:
    """Differences of the sizes and modes that the file system prints back."""
    if found.fstype not in ("tmpfs", "devpts"):
        return []
    printed = dict(option.partition("=")[::2] for option in found.options)
    problems = []
    for option in data:
        name, _, value = option.partition("=")
        if name == "size" and name in printed and value[-1:] != "%" and _bytes(value) != _bytes(printed[name]):
            problems.append(f"size is {printed[name]}")
        elif name in ("mode", "ptmxmode") and name in printed and int(value, 8) != int(printed[name], 8):
            problems.append(f"{name} is {printed[name]}")
    return problems


def _bytes(text: str) -> int:
    unit = _UNITS.get(text[-1:].lower(), 0)
    try:
        return -(-(int(text[:-1] if unit else text, 0) << unit) // 4096)
    except ValueError:
        return -1


def visible(subject: Subject, place: str) -> Mount | None:
    """The mount whose root a path leads to; None if none is mounted there. By its name where nothing answers."""
    try:
        answer = subject.answer(inside.PATH + place)
    except Unseen:
        return _topmost(subject, normal(place))
    if "id" not in answer:
        return None
    found = next((each for each in subject.mounts if each.id == answer["id"]), None)
    if found is None or normal(place) == found.point:
        return found
    return found if _is_root_of(subject, found, place) else None


def _is_root_of(subject: Subject, found: Mount, place: str) -> bool:
    """Whether a path that leads into a mount by a link leads to its root."""
    try:
        at, top = (subject.answer(inside.PATH + each) for each in (place, found.point))
    except Unseen:
        parent = normal(place).rpartition("/")[0]
        return bool(parent) and found.point.endswith(normal(place).rpartition("/")[2])
    return at.get("on") == top.get("on")


def _topmost(subject: Subject, point: str) -> Mount | None:
    here = [each for each in subject.mounts if each.point == point]
    covered = {each.parent for each in here}
    return next((each for each in here if each.id not in covered), None)


def below_of(subject: Subject, top: Mount) -> list[Mount]:
    """The mounts below one, itself left out."""
    ids, found = {top.id}, []
    again = True
    while again:
        more = [each for each in subject.mounts if each.parent in ids and each.id not in ids]
        ids.update(each.id for each in more)
        found += more
        again = bool(more)
    return found


def masked(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """The null device over a file, an empty read-only tmpfs over a directory; nothing where nothing is to be hidden."""
    place = str(wanted.asked)
    subject.claimed.add(normal(place))
    kernel, note = "", ""
    top = _topmost(subject, normal(place))
    try:
        answer = subject.answer(inside.PATH + place)
    except Unseen:
        if top is None:
            raise
        answer = {}
    if answer.get("errno") in _ABSENT:
        yield Finding(wanted.where, f"{place} masked", "there is no such path", ENFORCED, "openat2")
        return
    if "mode" in answer:
        by_id = next((each for each in subject.mounts if each.id == answer["id"]), None)
        mode = int(str(answer["mode"]))
        top = by_id
        if by_id is not None:
            subject.claimed.add(by_id.point)
        if S_ISCHR(mode) and answer["device"] == [1, 3]:
            yield Finding(wanted.where, f"{place} masked", "the null device", ENFORCED, "openat2, fstat")
            return
        kernel = "a directory" if S_ISDIR(mode) else "a link" if S_ISLNK(mode) else "a file"
    if top is not None and top.fstype == "tmpfs" and top.readonly and top.root == "/" and kernel in ("", "a directory"):
        yield Finding(wanted.where, f"{place} masked", "an empty read-only tmpfs", ENFORCED, "openat2, statmount")
        return
    kernel = f"{kernel or 'something'} of {top.fstype}" if top is not None else kernel or "visible"
    verdict, who = difference(subject, _RIGHT, untouched=True)
    yield Finding(wanted.where, f"{place} masked", kernel, verdict, "openat2, fstat", who, note or "it can be read")


def read_only(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """The flags of the mount that a path leads to (statfs(2), ST_RDONLY)."""
    place = str(wanted.asked)
    subject.trees.append(normal(place))
    try:
        answer = subject.answer(inside.PATH + place)
        if answer.get("errno") in _ABSENT:
            yield Finding(wanted.where, f"{place} read-only", "there is no such path", ENFORCED, "openat2")
            return
        readonly = bool(int(str(answer.get("flags", 0))) & _RDONLY)
        found = next((each for each in subject.mounts if each.id == answer.get("id")), None)
        readonly = readonly or (found is not None and found.readonly)
    except Unseen:
        found = _topmost(subject, normal(place))
        if found is None:
            raise
        readonly = found.readonly
    if found is not None and not f"{normal(place)}/".startswith(f"{found.point.rstrip('/')}/"):  # a link led there
        subject.trees.append(found.point)
    if readonly:
        yield Finding(wanted.where, f"{place} read-only", "read-only", ENFORCED, "openat2, fstatfs")
        return
    verdict, who = difference(subject, _RIGHT, untouched=True)
    yield Finding(wanted.where, f"{place} read-only", "writable", verdict, "openat2, fstatfs", who)


def node(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """A device node: its type and numbers, its mode, and that the mount it is on lets it be used."""
    assert isinstance(wanted.asked, list)
    kind, major, minor, mode, *_ = wanted.asked
    subject.claimed.add(normal(wanted.key))
    answer = subject.answer(inside.PATH + wanted.key)
    text = f"{wanted.key} {kind} {major}:{minor} {mode:04o}" if kind != "p" else f"{wanted.key} p {mode:04o}"
    evidence = "openat2, fstat"
    if "mode" not in answer:
        verdict, who = difference(subject, *_node_rights(subject), untouched=True)
        yield Finding(wanted.where, text, "there is no such path", verdict, evidence, who)
        return
    real = int(str(answer["mode"]))
    is_device = S_IFMT(real) == _KINDS[kind] and (kind == "p" or answer["device"] == [major, minor])
    letter = next((each for each, number in _KINDS.items() if number == S_IFMT(real)), "no device")
    numbers = answer["device"] if isinstance(answer["device"], list) else [0, 0]
    kernel = f"{letter} {numbers[0]}:{numbers[1]} {real & 0o7777:04o}"
    if is_device and real & 0o7777 == mode:
        yield Finding(wanted.where, text, kernel, ENFORCED, evidence)
        return
    on = next((each for each in subject.mounts if each.id == answer.get("id")), None)
    bound = is_device and on is not None and on.point == normal(wanted.key)
    if bound:
        yield Finding(wanted.where, text, kernel, ENFORCED, evidence, note="the host's node, bound, with its mode")
        return
    verdict, who = difference(subject, *_node_rights(subject))
    yield Finding(wanted.where, text, kernel, verdict, evidence, who)


def _node_rights(subject: Subject) -> tuple[str, ...]:
    dev = _topmost(subject, "/dev")
    writable = dev is None or not dev.readonly
    return ("CAP_DAC_OVERRIDE", "CAP_FOWNER", _RIGHT) if writable else (_RIGHT,)


def link(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """A symbolic link in /dev; where it leads is the container's business."""
    answer = subject.answer(inside.LINK + wanted.key)
    if "mode" in answer and S_ISLNK(int(str(answer["mode"]))):
        yield Finding(wanted.where, f"{wanted.key}, a link", "a link", ENFORCED, "openat2, fstat")
    else:
        yield Finding(wanted.where, f"{wanted.key}, a link", "none", UNSEEN, "openat2, fstat", note="it limits nothing")


def root(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """The mount at ``/``: of the device that the root filesystem is on; and whether init has left it (chroot(2))."""
    subject.claimed.add("/")
    asked = str(wanted.asked)
    found = _topmost(subject, "/")
    if found is None:
        raise Unseen("the list of mounts has no root")
    problems = _other_source(asked, found)
    verdict, who = difference(subject, FAULT) if problems else (ENFORCED, "")
    yield Finding(wanted.where, asked, f"{found.fstype} {found.root}", verdict, _EVIDENCE, who, "; ".join(problems))
    own = posix.readlink("root", dir_fd=subject.proc)
    if own != "/":
        verdict, who = difference(subject, "CAP_SYS_CHROOT", FAULT)
        note = "its mountinfo shows only what is below; this audit looks at all of the mount namespace"
        yield Finding(wanted.where, "init's root is /", own, verdict, "root", who, note)


def old_root_gone(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """Whether the whole of the host's root filesystem is mounted anywhere without having been asked for."""
    if not wanted.asked:
        yield Finding(
            "root.path", "the host's root is gone", "", UNSEEN, _EVIDENCE, note="without pivot_root(2) it stays below"
        )
        return
    number = posix.stat("/").st_dev
    device = posix.major(number), posix.minor(number)
    sources = [normal(entry.get("source") or "") for entry in subject.spec.config.get("mounts") or ()]
    found = [each.point for each in subject.mounts if each.device == device and each.root == "/" and each.point != "/"]
    if not found or "/" in sources:
        yield Finding("root.path", "the host's root is gone", "gone", ENFORCED, _EVIDENCE)
        return
    verdict, who = difference(subject, FAULT)
    yield Finding("root.path", "the host's root is gone", f"at {', '.join(found)}", verdict, _EVIDENCE, who)


def propagation(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """The propagation of ``/``."""
    asked = str(wanted.asked)
    found = _topmost(subject, "/")
    if found is None:
        raise Unseen("the list of mounts has no root")
    kernel = "shared" if found.shared else "slave" if found.master else "unbindable" if found.unbindable else "private"
    fine = found.shared if asked.endswith("shared") else not found.shared
    if fine:
        yield Finding(wanted.where, asked, kernel, ENFORCED, _EVIDENCE)
        return
    verdict, who = difference(subject, _RIGHT, untouched=True)
    yield Finding(wanted.where, asked, f"{kernel}{_with_host(found)}", verdict, _EVIDENCE, who)


def unasked(subject: Subject) -> Iterator[Finding]:
    """Mounts that nothing in the configuration asks for."""
    if not subject.differs("mount"):
        return
    claimed = subject.claimed | {"/", "/dev/console"}
    hooks = ", ".join(name for name in _HOOKS if (subject.spec.config.get("hooks") or {}).get(name))
    trees = [*subject.trees, *(["/run/notify"] if subject.ours else [])]
    for each in subject.mounts:
        if each.point in claimed or any(f"{each.point}/".startswith(f"{tree}/") for tree in trees):
            continue
        if each.point == "/" or _covers_own(subject, each):
            continue
        verdict, who = difference(subject, _RIGHT)
        if hooks and verdict != CHANGED:
            verdict, who = CHANGED, f"a hook of the configuration ({hooks}), or root of the host"
        note = "it came from the host's namespace" if each.master and verdict != CHANGED else ""
        kernel = f"{each.fstype} {each.source} {each.root}".strip()
        yield Finding("mounts", f"nothing at {each.point}", kernel, verdict, _EVIDENCE, who, note)


def _covers_own(subject: Subject, each: Mount) -> bool:
    """Whether it came with a file system that itself mounts, as an automount of the kernel's does."""
    return each.fstype in ("autofs", "binfmt_misc") or any(
        other.id == each.parent and other.fstype == "cgroup2" for other in subject.mounts
    )


def host_mounts() -> list[Mount]:
    """The mounts of this process's namespace."""
    return statmount.of_text(read_at(None, "/proc/self/mountinfo"))
