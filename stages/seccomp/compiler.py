"""From ``linux.seccomp`` to the program that seccomp(2) takes. Not on the hot path: its results are cached."""

from __future__ import annotations

from gosudacon.base.errors import Error
from gosudacon.linux import seccomp
from gosudacon.stages.seccomp import (
    ACTIONS,
    ARCHITECTURES,
    ERRNO,
    FLAGS,
    OPERATORS,
    enosys,
    holds_back,
    leniency,
    value_of,
)
from gosudacon.stages.seccomp.binding import (
    ATTRIBUTE_BAD_ARCHITECTURE,
    ATTRIBUTE_NO_NEW_PRIVILEGES,
    ATTRIBUTE_OPTIMIZE,
    SCMP_ERROR,
    Filter,
    Library,
    comparison,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.schema.types import Arg, Features, FeaturesLinuxSeccomp, Seccomp, Syscall

# From so many system calls on, searching them by halves beats asking for one after the other.
_MANY = 32


def build(profile: Seccomp, others: str, path: str, overlooked: list[str] | None = None) -> bytes:
    """Compile a profile that planning has accepted, with the libseccomp at ``path``.

    ``others`` is the action for architectures that the profile does not list. ``overlooked`` takes what should be
    held back and cannot be, since libseccomp does not know it. Returns an array of struct sock_filter. Raises
    `Error` for what libseccomp or the kernel does not support, and for a rule that would hold nothing back.
    """
    library = Library(path)
    default = value_of(profile["defaultAction"], profile.get("defaultErrnoRet"))
    scratch = Filter(library, default)
    try:
        _prepare(scratch, profile, others)
        tokens = {
            library.native_architecture(),
            *(ARCHITECTURES[name] for name in profile.get("architectures") or ()),
        }
        rules = profile.get("syscalls") or []
        for index, rule in enumerate(rules):
            if holds_back(rule["action"], profile["defaultAction"]):
                unknown = _unknown(scratch, rule["names"], f"linux.seccomp.syscalls[{index}].names")
                if overlooked is not None:
                    overlooked += unknown
        for name, action in _unconditional(rules, profile["defaultAction"], default).items():
            _add(scratch, name, action, default, [[]])
        for rule in rules:
            for name in rule["names"] if rule.get("args") else ():
                _add(
                    scratch, name, value_of(rule["action"], rule.get("errnoRet")), default, _alternatives(rule["args"])
                )
        program = scratch.export()
        if enosys.wanted(default):
            program = enosys.stub(_highest(scratch, profile, tokens)) + program
    finally:
        scratch.release()
    if len(program) > seccomp.MAX_INSTRUCTIONS * seccomp.INSTRUCTION:
        count = len(program) // seccomp.INSTRUCTION
        raise Error(f"the seccomp profile needs {count} instructions, the kernel takes {seccomp.MAX_INSTRUCTIONS}")
    return program


def _prepare(scratch: Filter, profile: Seccomp, others: str) -> None:
    for name in profile.get("architectures") or ():
        scratch.add_architecture(ARCHITECTURES[name], name)
    scratch.set(ATTRIBUTE_BAD_ARCHITECTURE, value_of(others, None))
    scratch.set(ATTRIBUTE_NO_NEW_PRIVILEGES, 0)
    if sum(len(rule["names"]) for rule in profile.get("syscalls") or ()) > _MANY:
        scratch.set(ATTRIBUTE_OPTIMIZE, 2, must=False)


def _unconditional(rules: list[Syscall], default_action: str, default: int) -> dict[str, int]:
    """Name -> what the filter returns for it, by the rules without conditions: the strictest, of equals the first.

    Where the default is an errno already, a rule with another one only says which: what a rule before it allows
    stays allowed, as with libseccomp. Podman's profile counts on it (setns).
    """
    strictest: dict[str, tuple[int, int]] = {}
    for rule in rules:
        if rule.get("args"):
            continue
        action, value = rule["action"], value_of(rule["action"], rule.get("errnoRet"))
        says_which = action == default_action == ERRNO and value != default
        for name in rule["names"]:
            known = strictest.setdefault(name, (leniency(action), value))
            if leniency(action) < known[0] and not says_which:
                strictest[name] = leniency(action), value
    return {name: value for name, (_, value) in strictest.items()}


def _add(scratch: Filter, name: str, action: int, default: int, alternatives: list[list[bytes]]) -> None:
    """The rules for one system call, except a name that no architecture knows, or what the default does anyway."""
    number = SCMP_ERROR if action == default else scratch.number(name)
    if number == SCMP_ERROR:
        return
    for comparisons in alternatives:
        scratch.add_rule(action, number, name, comparisons)


def _unknown(scratch: Filter, names: list[str], where: str) -> list[str]:
    """What to say of names that are to be held back and that libseccomp does not know; `Error` if it knows none."""
    unknown = [name for name in names if scratch.number(name) == SCMP_ERROR]
    if len(unknown) == len(names):
        text = f"libseccomp does not know {', '.join(unknown)}, so this rule would block nothing"
        raise Error(text, where=where, hint="is the name spelled right? a newer libseccomp knows more of them")
    return [f"{where}: libseccomp does not know {name}, which is not held back" for name in unknown]


def _alternatives(arguments: list[Arg]) -> list[list[bytes]]:
    """Conditions on different arguments must all hold; two on one argument make every condition a rule of its own."""
    comparisons = [
        comparison(each["index"], OPERATORS[each["op"]], each["value"], each.get("valueTwo") or 0) for each in arguments
    ]
    if len({each["index"] for each in arguments}) < len(arguments):
        return [[each] for each in comparisons]
    return [comparisons]


def _highest(scratch: Filter, profile: Seccomp, tokens: set[int]) -> dict[int, int]:
    """The highest number among the profile's system calls for each architecture of the filter that has any."""
    names = {name for rule in profile.get("syscalls") or () for name in rule["names"]}
    highest = {token: max((scratch.number_on(token, name) for name in names), default=-1) for token in sorted(tokens)}
    return {token: number for token, number in highest.items() if number > 0}


def features(chosen: str) -> Features:
    """What profiles may say, for the features structure; ``chosen`` is the path of libseccomp, or empty."""
    from gosudacon.stages.seccomp.steps import library

    try:
        found = Library(library(chosen))
        version = found.version()
        architectures = [name for name in ARCHITECTURES if found.knows_architecture(name)]
    except Error:  # none, or one that is too old
        return {"linux": {"seccomp": {"enabled": False}}}
    found_features: FeaturesLinuxSeccomp = {
        "enabled": True,
        "actions": sorted(ACTIONS),
        "operators": sorted(OPERATORS),
        "archs": sorted(architectures),
        "knownFlags": sorted(FLAGS),
        "supportedFlags": [name for name in sorted(FLAGS) if seccomp.knows_flags(_with_companion(FLAGS[name]))],
    }
    return {"linux": {"seccomp": found_features}, "annotations": {"io.github.seccomp.libseccomp.version": version}}


def _with_companion(flag: int) -> int:
    return flag | seccomp.FLAG_NEW_LISTENER if flag == seccomp.FLAG_WAIT_KILLABLE_RECV else flag
