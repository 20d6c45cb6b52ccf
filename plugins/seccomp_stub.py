"""Plugin ``seccomp-stub``: try a seccomp profile before it is enforced.

Every action of the profile that denies is turned into SCMP_ACT_LOG: the container may do everything, and the kernel's
log says what the profile would have stopped. In config.toml::

    plugins = ["seccomp-stub"]

See docs/seccomp.md.
"""

from __future__ import annotations

from gosudacon.api import CREATE, RESTORE, Edit, PlanWarning, Spec, hookimpl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from gosudacon.api import Plan

_LOG = "SCMP_ACT_LOG"
_DENYING = ("KILL", "KILL_THREAD", "KILL_PROCESS", "TRAP", "ERRNO", "TRACE", "NOTIFY")


@hookimpl
def gosudacon_edit_spec(spec: Spec) -> Edit | None:
    """Processes that are executed in a container get its profile as it was made, with the stub or without."""
    profile = spec.linux.get("seccomp")
    if not profile or spec.operation not in (CREATE, RESTORE):
        return None
    edit = Edit().remove("linux.seccomp.listenerPath").remove("linux.seccomp.listenerMetadata")
    places: list[tuple[str, str, str, Mapping[str, object]]] = [
        ("linux.seccomp", "defaultAction", "defaultErrnoRet", profile)
    ]
    for index, rule in enumerate(profile.get("syscalls") or ()):
        places.append((f"linux.seccomp.syscalls[{index}]", "action", "errnoRet", rule))
    for place, action, number, part in places:
        if part.get(action) in {f"SCMP_ACT_{name}" for name in _DENYING}:
            edit.set(f"{place}.{action}", _LOG).remove(f"{place}.{number}")
    # An architecture that the profile does not list has no action to turn: the filter would kill its programs.
    return edit.set("linux.seccomp.otherArchitectures", _LOG)


@hookimpl
def gosudacon_amend_plan(plan: Plan, spec: Spec) -> None:
    """What is restored has its filters from the images: say so, since the profile there is now says otherwise."""
    if spec.operation == RESTORE and spec.linux.get("seccomp"):
        text = "restored processes keep the filter that they were saved with; only those that exec starts have the stub"
        plan.warnings.append(PlanWarning(message=text, where="linux.seccomp", stage="seccomp-stub"))
