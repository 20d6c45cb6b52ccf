"""What the steps of ``seccomp`` expect: a filter, and on demand, what it answers."""

from __future__ import annotations

from gosudacon.api import Expectation, Host, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.api import Table
    from gosudacon.stages.seccomp import steps


def _filter(step: steps.CompileSeccomp, spec: Spec, host: Host) -> Iterator[Expectation]:
    rules = step.profile.get("syscalls") or []
    arguments = [
        [each["index"], each["value"], each.get("valueTwo") or 0] for rule in rules for each in rule.get("args") or ()
    ]
    asked = {"action": step.profile["defaultAction"], "rules": len(rules), "arguments": arguments}
    yield Expectation(step.where, "seccomp", asked, work=lambda: _compiled(step))


def _compiled(step: steps.CompileSeccomp) -> dict[str, object]:
    """The program of the profile, the numbers of the calls that it names, and what libseccomp does not know."""
    from gosudacon.stages.seccomp import ARCHITECTURES, compiler
    from gosudacon.stages.seccomp.binding import Filter, Library
    from gosudacon.stages.seccomp.steps import library

    overlooked: list[str] = []
    path = library(step.library)
    program = compiler.build(step.profile, step.others, path, overlooked)
    found = Library(path)
    scratch = Filter(found, 0x7FFF0000)
    try:
        native = found.native_architecture()
        tokens = {native, *(ARCHITECTURES[name] for name in step.profile.get("architectures") or ())}
        names = {name for rule in step.profile.get("syscalls") or () for name in rule["names"]}
        numbers = {str(token): {name: scratch.number_on(token, name) for name in names} for token in tokens}
    finally:
        scratch.release()
    return {"program": program, "native": native, "numbers": numbers, "overlooked": overlooked}


_HELD = "execve(2) has taken it away; seen with the capabilities"

TABLE: Table = {
    "CompileSeccomp": _filter,
    "HoldSysAdmin": _HELD,
    "LetSysAdminGo": _HELD,
    "LoadSeccomp": "seen with the step that compiles the filter",
    "LendSeccomp": "it is for hooks, which have ended",
    "ConnectListener": "the connection is closed when the descriptor has been sent",
    "SendListener": "the descriptor is the agent's",
    "CloseListener": "seen with the descriptors that are open",
}
