"""Plugin ``seccomp-stub``: try a seccomp profile before it is enforced.

Every action of the profile that denies is turned into SCMP_ACT_LOG: the container may do everything, and the kernel's
log says what the profile would have stopped. In config.toml::

    plugins = ["seccomp-stub"]

See docs/seccomp.md.
"""

from __future__ import annotations

from gosudacon.api import Edit, Spec, hookimpl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_LOG = "SCMP_ACT_LOG"
_DENYING = ("KILL", "KILL_THREAD", "KILL_PROCESS", "TRAP", "ERRNO", "TRACE", "NOTIFY")


@hookimpl
def gosudacon_edit_spec(spec: Spec) -> Edit | None:
    """Processes that are executed in the container get the container's profile, which has been edited then."""
    profile = spec.linux.get("seccomp")
    if not profile:
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
