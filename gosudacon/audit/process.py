"""Readers of what init is: user, capabilities, limits, scheduling, labels, descriptors (proc_pid_status(5))."""

from __future__ import annotations

from errno import EACCES, EINVAL, ENOENT, ENOSYS, EPERM

from gosudacon.audit import inside
from gosudacon.audit.subject import read_at
from gosudacon.audit.verdict import (
    BROKEN,
    CHANGED,
    ENFORCED,
    FAULT,
    OUTSIDE,
    SELF,
    STRICTER,
    UNSEEN,
    Finding,
    Unseen,
    difference,
)
from gosudacon.base import posix, ranges
from gosudacon.base.errors import SyscallError
from gosudacon.linux import capability, inspect, sched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.audit.subject import Subject
    from gosudacon.pipeline.expectation import Expectation

_INFINITY = (1 << 64) - 1
_CLASSES = {number: name for name, number in sched.IO_CLASSES.items()}
_POLICIES = {number: name for name, number in sched.POLICIES.items()}
_NUMA_WORDS = {
    "MPOL_DEFAULT": "default",
    "MPOL_PREFERRED": "prefer",
    "MPOL_BIND": "bind",
    "MPOL_INTERLEAVE": "interleave",
    "MPOL_LOCAL": "local",
    "MPOL_PREFERRED_MANY": "prefer (many)",
    "MPOL_WEIGHTED_INTERLEAVE": "weighted interleave",
}


def ids(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """``Uid`` or ``Gid``: real, effective, saved and that of file systems, mapped into this user namespace."""
    assert isinstance(wanted.asked, int)
    asked = subject.inside(wanted.asked, wanted.key.lower() + "_map")
    found = [int(word) for word in subject.field(wanted.key).split()]
    shown = str(found[0]) if len({*found}) == 1 else " ".join(map(str, found))
    if {*found} == {asked}:
        yield Finding(wanted.where, _mapped(wanted.asked, asked), shown, ENFORCED, f"status {wanted.key}")
        return
    right = "CAP_SETUID" if wanted.key == "Uid" else "CAP_SETGID"
    verdict, who = difference(subject, right, FAULT)
    yield Finding(wanted.where, _mapped(wanted.asked, asked), shown, verdict, f"status {wanted.key}", who)


def _mapped(inner: int, outer: int) -> str:
    return str(inner) if inner == outer else f"{inner} ({outer} here)"


def groups(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """``Groups``, as a set; the primary group may be left out of it."""
    assert isinstance(wanted.asked, list)
    primary = int(subject.field("Gid").split()[0])
    asked = {subject.inside(gid, "gid_map") for gid in wanted.asked}
    found = {int(word) for word in subject.field("Groups").split()}
    texts = " ".join(map(str, sorted(asked))) or "none", " ".join(map(str, sorted(found))) or "none"
    if found - {primary} == asked - {primary}:
        yield Finding(wanted.where, *texts, ENFORCED, "status Groups")
    elif found - {primary} < asked:
        yield Finding(wanted.where, *texts, STRICTER, "status Groups")
    else:
        yield Finding(wanted.where, *texts, *_in_order(difference(subject, "CAP_SETGID", FAULT), "status Groups"))


def _in_order(found: tuple[str, str], evidence: str) -> tuple[str, str, str]:
    return found[0], evidence, found[1]


def umask(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """``Umask``, octal."""
    assert isinstance(wanted.asked, int)
    found = int(subject.field("Umask"), 8)
    texts = f"{wanted.asked:04o}", f"{found:04o}"
    if found == wanted.asked:
        yield Finding(wanted.where, *texts, ENFORCED, "status Umask")
    else:
        yield Finding(wanted.where, *texts, *_in_order(difference(subject, SELF), "status Umask"))


def no_new_privileges(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """``NoNewPrivs``: once set, it stays."""
    held = subject.field("NoNewPrivs") == "1"
    if held:
        yield Finding(wanted.where, "yes", "yes", ENFORCED, "status NoNewPrivs")
    else:
        yield Finding(wanted.where, "yes", "no", *_in_order(difference(subject, FAULT), "status NoNewPrivs"))


def capabilities(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """One of the five sets: fewer is stricter; more, where the bounding set and no_new_privs allow it, was gained."""
    assert isinstance(wanted.asked, int)
    asked, found = wanted.asked, int(subject.field(wanted.key), 16)
    evidence = f"status {wanted.key}"
    if found == asked:
        yield Finding(wanted.where, _names(asked), _names(found), ENFORCED, evidence)
    elif not found & ~asked:
        lacking = _names(asked & ~found)
        yield Finding(wanted.where, _names(asked), _names(found), STRICTER, evidence, note=f"without {lacking}")
    else:
        more = found & ~asked
        bounding = int(subject.field("CapBnd"), 16)
        gained = not more & ~bounding and wanted.key != "CapBnd" and subject.status.get("NoNewPrivs") != "1"
        inherits = wanted.key in ("CapInh", "CapAmb") and not more & ~int(subject.field("CapPrm"), 16)
        rights = (SELF,) if gained or inherits else (FAULT,)
        verdict, who = difference(subject, *rights, untouched=False)
        if gained and verdict == CHANGED:
            who = "the container: a program with file capabilities, or set-user-ID, within the bounding set"
        yield Finding(
            wanted.where, _names(asked), _names(found), verdict, evidence, who, note=f"more than asked: {_names(more)}"
        )


def _names(mask: int) -> str:
    names = [name for number, name in enumerate(capability.NAMES) if mask >> number & 1]
    if len(names) == len(capability.NAMES):
        return "all"
    return " ".join(names) or "none"


def rlimit(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """prlimit(2): any process may lower its limits, and move the soft one below the hard one."""
    assert isinstance(wanted.asked, list)
    asked = [int(each) for each in wanted.asked]
    found = [*sched.limits_of(subject.pid, sched.RLIMITS[wanted.key])]
    asked_text, kernel = (f"{wanted.key.removeprefix('RLIMIT_')} {_limits(each)}" for each in (asked, found))
    evidence = f"prlimit({wanted.key})"
    if found == asked:
        yield Finding(wanted.where, asked_text, kernel, ENFORCED, evidence)
    elif found[1] > asked[1]:
        own = [*sched.limits_of(0, sched.RLIMITS[wanted.key])]
        verdict, who = difference(subject, "host:CAP_SYS_RESOURCE", untouched=found == own)
        yield Finding(wanted.where, asked_text, kernel, verdict, evidence, who)
    elif found[0] > asked[0]:
        verdict, who = difference(subject, SELF)
        yield Finding(wanted.where, asked_text, kernel, verdict, evidence, who)
    else:
        yield Finding(
            wanted.where, asked_text, kernel, STRICTER, evidence, f"any process of the container, or {OUTSIDE}"
        )


def _limits(values: list[int]) -> str:
    return "/".join("unlimited" if each == _INFINITY else str(each) for each in values)


def oom_score(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """oom_score_adj (proc_pid_oom_score_adj(5)): raising it is free, lowering it takes CAP_SYS_RESOURCE."""
    assert isinstance(wanted.asked, int)
    found = int(subject.text("oom_score_adj"))
    texts = str(wanted.asked), str(found)
    if found == wanted.asked:
        yield Finding(wanted.where, *texts, ENFORCED, "oom_score_adj")
        return
    own = found == int(read_at(None, "/proc/self/oom_score_adj"))
    rights = (SELF,) if found > wanted.asked else ("host:CAP_SYS_RESOURCE",)
    yield Finding(wanted.where, *texts, *_in_order(difference(subject, *rights, untouched=own), "oom_score_adj"))


def scheduler(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """sched_getattr(2): of each policy only the values that count for it."""
    assert isinstance(wanted.asked, dict)
    all_of_it: dict[str, object] = {**inspect.scheduling(subject.pid)}
    all_of_it["policy"] = _POLICIES.get(int(str(all_of_it["policy"])), str(all_of_it["policy"]))
    found = {name: all_of_it[name] for name in wanted.asked}
    texts = _pairs(wanted.asked), _pairs(found)
    if found == wanted.asked:
        yield Finding(wanted.where, *texts, ENFORCED, "sched_getattr")
        return
    untouched = all_of_it["policy"] == "SCHED_OTHER" and all_of_it["nice"] == 0
    nicer = found["policy"] == wanted.asked["policy"] and int(str(found.get("nice", 0))) > int(
        str(wanted.asked.get("nice", 0))
    )
    idle = found["policy"] in ("SCHED_IDLE", "SCHED_OTHER", "SCHED_BATCH") and nicer
    rights = (SELF,) if idle else ("host:CAP_SYS_NICE",)
    yield Finding(wanted.where, *texts, *_in_order(difference(subject, *rights, untouched=untouched), "sched_getattr"))


def _pairs(values: dict[str, object]) -> str:
    return " ".join(str(value) if name == "policy" else f"{name} {value}" for name, value in values.items())


def io_priority(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """ioprio_get(2)."""
    assert isinstance(wanted.asked, list)
    io_class, level = inspect.io_priority(subject.pid)
    found = [_CLASSES.get(io_class, "none"), level]
    texts = f"{wanted.asked[0]} {wanted.asked[1]}", f"{found[0]} {found[1]}"
    if found == wanted.asked:
        yield Finding(wanted.where, *texts, ENFORCED, "ioprio_get")
        return
    rights = ("host:CAP_SYS_ADMIN",) if io_class == 1 else (SELF,)
    verdict, who = difference(subject, *rights, untouched=io_class == 0)
    yield Finding(wanted.where, *texts, verdict, "ioprio_get", who)


def personality(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """The personality file, which only a tracer may read."""
    assert isinstance(wanted.asked, int)
    found = int(subject.text("personality"), 16)
    texts = f"{wanted.asked:#x}", f"{found:#x}"
    if found & 0xFF == wanted.asked:
        yield Finding(wanted.where, *texts, ENFORCED, "personality")
        return
    verdict, who = difference(subject, SELF, untouched=found == 0)
    yield Finding(wanted.where, *texts, verdict, "personality", who)


def memory_policy(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """numa_maps: what the heap or the stack has, which have no policy of their own."""
    assert isinstance(wanted.asked, list)
    mode, _, nodes = str(wanted.asked[0]), wanted.asked[1], int(wanted.asked[2])
    text = str(subject.answer(inside.NUMA).get("value") or "")
    lines = [line for line in text.splitlines() if " heap" in line or " stack" in line]
    if not lines:
        raise Unseen("/proc/PID/numa_maps shows neither heap nor stack")
    words = lines[0].split(" ", 1)[1]
    word = next((each for each in sorted(_NUMA_WORDS.values(), key=len, reverse=True) if words.startswith(each)), "?")
    shown = words.split(" anon=")[0].split(" stack")[0].split(" heap")[0]
    asked = f"{_NUMA_WORDS[mode]} {nodes:#x}"
    if word == _NUMA_WORDS[mode] or (mode == "MPOL_LOCAL" and word == "prefer"):
        yield Finding(wanted.where, asked, shown, ENFORCED, "numa_maps")
    else:
        verdict, who = difference(subject, SELF, untouched=word == "default")
        yield Finding(wanted.where, asked, shown, verdict, "numa_maps", who)


def affinity(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """``Cpus_allowed_list`` against the CPUs of the cpuset, or all of the machine."""
    text = subject.field("Cpus_allowed_list")
    found = ranges.parse(text, ranges.MOST_CPUS)
    directory = subject.cgroups.get("cpuset") or subject.cgroups.get("")
    every = ""
    for file in ("cpuset.effective_cpus", "cpuset.cpus.effective"):
        try:
            every = every or (read_at(None, f"{directory}/{file}").decode().strip() if directory else "")
        except OSError:
            continue
    every = every or read_at(None, "/sys/devices/system/cpu/online").decode().strip()
    if {*ranges.parse(every, ranges.MOST_CPUS)} <= {*found}:
        yield Finding(wanted.where, every, text, ENFORCED, "status Cpus_allowed_list")
    else:
        yield Finding(
            wanted.where,
            every,
            text,
            STRICTER,
            "status Cpus_allowed_list",
            f"any process of the container, or {OUTSIDE}",
        )


def label(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """The label of the security module, and whether that enforces it."""
    names = ("attr/apparmor/current", "attr/current") if wanted.key == "apparmor" else ("attr/current",)
    found = ""
    for name in names:
        try:
            found = subject.text(name).rstrip(b"\0\n").decode(errors="replace")
            break
        except OSError as error:
            if error.errno not in (EINVAL, ENOENT, EACCES):
                raise
    asked, evidence = str(wanted.asked), names[0]
    if not found:
        yield Finding(wanted.where, asked, "none", BROKEN, evidence, "the runtime", f"this kernel has no {wanted.key}")
        return
    profile, _, mode = found.partition(" ")
    if wanted.key == "apparmor":
        if profile == asked and mode != "(complain)":
            yield Finding(wanted.where, asked, found, ENFORCED, evidence)
        elif profile == asked:
            yield Finding(
                wanted.where, asked, found, *_in_order(difference(subject), evidence), "the profile only complains"
            )
        elif asked in profile.split("//&"):
            yield Finding(wanted.where, asked, found, STRICTER, evidence)
        else:
            yield Finding(wanted.where, asked, found, *_in_order(difference(subject, FAULT), evidence))
        return
    same = found.split(":")[2:] == asked.split(":")[2:]
    if same:
        yield Finding(wanted.where, asked, found, ENFORCED, evidence)
    else:
        yield Finding(wanted.where, asked, found, *_in_order(difference(subject, FAULT), evidence))


def keyring(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """Whether a keyring of that name exists; which process uses it, no interface tells."""
    yield Finding(
        wanted.where, str(wanted.asked), "", UNSEEN, "/proc/keys", note="the kernel does not tell whose it is"
    )


def program(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """The file behind ``exe`` against the file that the first argument names in the container's root.

    The arguments themselves are the process's own memory, and say what that wants them to say.
    """
    assert isinstance(wanted.asked, list)
    name = str(wanted.asked[0])
    exe = posix.readlink("exe", dir_fd=subject.proc)
    running = subject.answer(inside.EXE)
    for question in program_questions(subject, wanted):
        if question == inside.EXE:
            continue
        try:
            found = subject.answer(question)
        except Unseen:
            continue
        if found.get("on") and found.get("on") == running.get("on"):
            yield Finding(wanted.where, name, exe, ENFORCED, "exe")
            return
    yield Finding(
        wanted.where, name, exe, UNSEEN, "exe", note="an interpreter, or a program that was executed since: any may be"
    )


def program_questions(subject: Subject, wanted: Expectation) -> list[str]:
    """Where the program may be: at its path, or in the directories of PATH."""
    assert isinstance(wanted.asked, list)
    name = str(wanted.asked[0])
    if "/" in name:
        cwd = "" if name.startswith("/") else f"{subject.spec.process.get('cwd') or ''}/"
        return [inside.EXE, f"{inside.PATH}{cwd}{name}"]
    entries = [entry[5:] for entry in subject.spec.process.get("env") or () if entry.startswith("PATH=")]
    directories = entries[-1].split(":") if entries else []
    return [inside.EXE, *(f"{inside.PATH}{each}/{name}" for each in directories if each)]


def directory(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """The working directory may be any, but must lie inside the container (CVE-2024-21626)."""
    asked = str(wanted.asked)
    found = posix.readlink("cwd", dir_fd=subject.proc)
    if found.startswith("(unreachable)"):
        verdict, who = difference(subject, "CAP_SYS_CHROOT", "CAP_SYS_ADMIN", FAULT)
        yield Finding(wanted.where, asked, found, verdict, "cwd", who, "the working directory is outside of the root")
    elif (found.rstrip("/") or "/") == (asked.rstrip("/") or "/"):
        yield Finding(wanted.where, asked, found, ENFORCED, "cwd")
    else:
        yield Finding(wanted.where, asked, found, UNSEEN, "cwd", note="any process may change its working directory")


def terminal(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """The terminal of init's session: field 7 of its stat file."""
    fields = subject.text("stat").rpartition(b")")[2].split()
    number = int(fields[4])
    if number >> 8 & 0xFFF == 136:
        yield Finding(wanted.where, "a terminal", f"136:{number & 0xFF}", ENFORCED, "stat tty_nr")
    else:
        yield Finding(wanted.where, "a terminal", "none", *_in_order(difference(subject, SELF), "stat tty_nr"))


def descriptors(subject: Subject, wanted: Expectation) -> Iterator[Finding]:
    """Descriptors of files and directories on mounts that are not the container's: a way out of it."""
    assert isinstance(wanted.asked, int)
    known = {mount.id for mount in subject.mounts}
    try:
        numbers = sorted(int(name) for name in _names_in(subject))
    except OSError as error:
        if error.errno in (EACCES, EPERM, ENOSYS):
            raise Unseen("its descriptors cannot be listed") from None
        raise
    leads = []
    for number in numbers:
        try:
            target = posix.readlink(f"fd/{number}", dir_fd=subject.proc)
            info = read_at(subject.proc, f"fdinfo/{number}")
        except (OSError, SyscallError):
            continue
        if not target.startswith("/"):
            continue
        flags = int(info.partition(b"flags:")[2].split()[0], 8)
        mount_id = int(info.partition(b"mnt_id:")[2].split()[0])
        directory = bool(flags & posix.O_DIRECTORY)
        if mount_id not in known and (directory or number >= 3):
            leads.append(f"{number} -> {target}" + (" (directory)" if directory else ""))
    if not leads:
        yield Finding(wanted.where, "none leads outside", "none", ENFORCED, "fd, fdinfo")
        return
    verdict, who = difference(subject, FAULT)
    note = "they came with the runtime's caller, or over a socket"
    yield Finding(wanted.where, "none leads outside", ", ".join(leads[:5]), verdict, "fd, fdinfo", who, note)


def _names_in(subject: Subject) -> list[str]:
    fd = posix.open("fd", posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC, dir_fd=subject.proc)
    try:
        return posix.listdir(fd)
    finally:
        posix.close(fd)
