"""From ``linux.seccomp`` to the program that seccomp(2) takes. Not on the hot path: its results are cached."""

from __future__ import annotations

from gosudacon.linux import seccomp
from gosudacon.linux.errors import Error
from gosudacon.stages.seccomp import ACTIONS, ARCHITECTURES, FLAGS, OPERATORS, enosys, value_of
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
    from typing import Any

# From so many system calls on, searching them by halves beats asking for one after the other.
_MANY = 32


def build(profile: dict[str, Any], others: str, path: str) -> bytes:
    """Compile a profile that planning has accepted, with the libseccomp at ``path``.

    ``others`` is the action for architectures that the profile does not list. Returns an array of struct
    sock_filter. Raises `Error` for what libseccomp or the kernel does not support.
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
        for rule in profile.get("syscalls") or ():
            _add(scratch, rule, default)
        program = scratch.export()
        if enosys.wanted(default):
            program = enosys.stub(_highest(scratch, profile, tokens)) + program
    finally:
        scratch.release()
    if len(program) > seccomp.MAX_INSTRUCTIONS * seccomp.INSTRUCTION:
        count = len(program) // seccomp.INSTRUCTION
        raise Error(f"the seccomp profile needs {count} instructions, the kernel takes {seccomp.MAX_INSTRUCTIONS}")
    return program


def _prepare(scratch: Filter, profile: dict[str, Any], others: str) -> None:
    for name in profile.get("architectures") or ():
        scratch.add_architecture(ARCHITECTURES[name], name)
    scratch.set(ATTRIBUTE_BAD_ARCHITECTURE, value_of(others, None))
    scratch.set(ATTRIBUTE_NO_NEW_PRIVILEGES, 0)
    if sum(len(rule["names"]) for rule in profile.get("syscalls") or ()) > _MANY:
        scratch.set(ATTRIBUTE_OPTIMIZE, 2, must=False)


def _add(scratch: Filter, rule: dict[str, Any], default: int) -> None:
    """One entry of ``syscalls``. Names that no architecture knows are skipped, as is what the default does anyway."""
    action = value_of(rule["action"], rule.get("errnoRet"))
    if action == default:
        return
    alternatives = _alternatives(rule.get("args") or ())
    for name in rule["names"]:
        number = scratch.number(name)
        if number == SCMP_ERROR:
            continue
        for comparisons in alternatives:
            scratch.add_rule(action, number, name, comparisons)


def _alternatives(arguments: Any) -> list[list[bytes]]:
    """Conditions on different arguments must all hold; two on one argument make every condition a rule of its own."""
    comparisons = [
        comparison(each["index"], OPERATORS[each["op"]], each["value"], each.get("valueTwo") or 0) for each in arguments
    ]
    if len({each["index"] for each in arguments}) < len(arguments):
        return [[each] for each in comparisons]
    return [comparisons]


def _highest(scratch: Filter, profile: dict[str, Any], tokens: set[int]) -> dict[int, int]:
    """The highest number among the profile's system calls for each architecture of the filter that has any."""
    names = {name for rule in profile.get("syscalls") or () for name in rule["names"]}
    highest = {token: max((scratch.number_on(token, name) for name in names), default=-1) for token in sorted(tokens)}
    return {token: number for token, number in highest.items() if number > 0}


def features(chosen: str) -> dict[str, Any]:
    """What profiles may say, for the features structure; ``chosen`` is the path of libseccomp, or empty."""
    from gosudacon.stages.seccomp.steps import library

    try:
        found = Library(library(chosen))
        version = found.version()
        architectures = [name for name in ARCHITECTURES if found.knows_architecture(name)]
    except Error:  # none, or one that is too old
        return {"linux": {"seccomp": {"enabled": False}}}
    seccomp_features = {
        "enabled": True,
        "actions": sorted(ACTIONS),
        "operators": sorted(OPERATORS),
        "archs": sorted(architectures),
        "knownFlags": sorted(FLAGS),
        "supportedFlags": [name for name in sorted(FLAGS) if seccomp.knows_flags(_with_companion(FLAGS[name]))],
    }
    return {"linux": {"seccomp": seccomp_features}, "annotations": {"io.github.seccomp.libseccomp.version": version}}


def _with_companion(flag: int) -> int:
    return flag | seccomp.FLAG_NEW_LISTENER if flag == seccomp.FLAG_WAIT_KILLABLE_RECV else flag
