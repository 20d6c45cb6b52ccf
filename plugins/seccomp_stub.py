"""Stage ``seccomp-stub``: try a seccomp profile before it is enforced.

In the place of ``seccomp`` it loads the same filter with every action that denies turned into SCMP_ACT_LOG: the
container may do everything, and the kernel's log says what the profile would have stopped. In config.toml::

    plugins = ["seccomp-stub"]

    [replace]
    seccomp = "seccomp-stub"

See docs/seccomp.md.
"""

from __future__ import annotations

from gosudacon.api import ConfigError, Host, Spec, Stage, Step, hookimpl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_LOG = "SCMP_ACT_LOG"
_DENYING = (
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_NOTIFY",
)


class SeccompStubStage(Stage):
    """The stage it replaces, given a profile that only logs."""

    name = "seccomp-stub"
    keys = ("linux.seccomp",)

    def plan(self, spec: Spec, host: Host) -> Iterable[Step]:
        if self.replaced is None:
            raise ConfigError(
                "stage seccomp-stub replaces no stage",
                hint='config.toml enables the plugin; it also needs seccomp = "seccomp-stub" below [replace]',
            )
        # An architecture that the profile does not list has no action to turn: the filter kills its programs.
        self.replaced.settings = {**self.replaced.settings, "other-architectures": _LOG}
        linux = {**spec.linux, "seccomp": _logging(spec.linux.get("seccomp") or {})}
        harmless = Spec({**spec.config, "linux": linux}, spec.id, spec.bundle, spec.options)
        for step in self.replaced.plan(harmless, host):
            step.stage = SeccompStubStage.name
            yield step


def _logging(profile: dict[str, Any]) -> dict[str, Any]:
    """The profile with every denying action turned, and without what only those need."""
    gone = ("listenerPath", "listenerMetadata")
    result = _turned(
        {key: value for key, value in profile.items() if key not in gone}, "defaultAction", "defaultErrnoRet"
    )
    result["syscalls"] = [_turned(rule, "action", "errnoRet") for rule in profile.get("syscalls") or ()]
    return result


def _turned(rule: dict[str, Any], action: str, number: str) -> dict[str, Any]:
    if rule.get(action) not in _DENYING:
        return dict(rule)
    return {**{key: value for key, value in rule.items() if key != number}, action: _LOG}


@hookimpl
def gosudacon_stages() -> list[Stage]:
    """The stages of this module."""
    return [SeccompStubStage()]
