"""Stage ``learn``: record a container's system calls, and write the least seccomp profile for it.

May use: `api`, `base`.
Start with `Learn.plan`, then `steps` and `supervisor`.

For containers of any engine, in config.toml::

    plugins = ["learn"]

    [stage.learn]
    directory = "/var/lib/gosudacon/learn"
    names = ["web", "db-*"]     # values of the annotation io.gosudacon.learn that are obeyed

``gosudacon learn`` enables it for one container. See docs/learn.md.
"""

from __future__ import annotations

from gosudacon.api import ConfigError, Error, Host, Plan, PlanWarning, Rank, Spec, Stage, Step, hookimpl
from gosudacon.plugins.learn.settings import ANNOTATION, Settings
from gosudacon.plugins.learn.steps import FindRecorder, HoldSysAdmin, LendProfile, LoadRecorder, StartRecorder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.api import Features

_WHERE = "linux.seccomp"
_KERNEL, _OLD = (5, 9), "it needs Linux 5.9 or later"  # from there on a listener tells when no process is left
_DEFAULT_FLAGS = ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]


class Learn(Stage):
    """Settings: ``directory``, ``names``, ``images``, ``ids``; see `Settings`."""

    name = "learn"
    after = ("seccomp",)
    before = ("handoff",)

    def plan(self, spec: Spec, host: Host) -> Iterator[Step]:
        """Raises `SettingsError`, `ConfigError` for a profile with an agent, `Error` where the kernel is too old."""
        path, refusal = self._profile(spec, host)
        if refusal and spec.options.learn:
            raise Error(f"cannot record system calls: {refusal}")
        if refusal:
            yield PlanWarning(message=f"ignored: {refusal}", where=f"annotations.{ANNOTATION}")
        if not path:
            return
        _check(spec)
        yield StartRecorder(profile=path, anew=spec.options.learn_anew)
        yield from _inside(spec)

    def plan_exec(self, spec: Spec, host: Host) -> Iterator[Step]:
        """The process is recorded as the container's first one is."""
        if self._profile(spec, host)[0]:
            yield FindRecorder()
            yield from _inside(spec)

    def features(self) -> Features:
        """The annotation that has a container recorded, where the administrator lists names for it."""
        return {"potentiallyUnsafeConfigAnnotations": [ANNOTATION] if Settings(self.settings).names else []}

    def _profile(self, spec: Spec, host: Host) -> tuple[str, str]:
        settings = Settings(self.settings)
        path, refusal = (spec.options.learn, "") if spec.options.learn else settings.profile(spec)
        return ("", _OLD) if path and host.kernel < _KERNEL else (path, refusal)


def _inside(spec: Spec) -> Iterator[Step]:
    profile = spec.linux.get("seccomp") or {}
    flags = profile.get("flags")
    names = [*_DEFAULT_FLAGS] if flags is None else [*flags]
    if not spec.process.get("noNewPrivileges"):
        yield HoldSysAdmin()
    if profile.get("defaultAction") and spec.target is None and (spec.config.get("hooks") or {}).get("startContainer"):
        yield LendProfile(flags=names, where=_WHERE)
    yield LoadRecorder(flags=names)


def _check(spec: Spec) -> None:
    profile = spec.linux.get("seccomp") or {}
    for index, rule in enumerate(profile.get("syscalls") or ()):
        if rule.get("action") == "SCMP_ACT_NOTIFY":
            text = (
                "the calls of a container that has a seccomp agent cannot be recorded: the kernel allows one listener"
            )
            raise ConfigError(text, where=f"{_WHERE}.syscalls[{index}].action")


@hookimpl
def gosudacon_stages() -> list[Stage]:
    """The stages of this module."""
    return [Learn()]


@hookimpl
def gosudacon_amend_plan(plan: Plan) -> None:
    """Take out the steps that load the profile's filter, and those that follow it: the recorder knows the profile."""
    if any(isinstance(step, LoadRecorder) for step in plan.steps):
        plan.steps = [step for step in plan.steps if not _loads(step)]


def _loads(step: Step) -> bool:
    return step.stage == "seccomp" and (step.filters or step.rank == Rank.FILTER_EARLY or _lends(step))


def _lends(step: Step) -> bool:
    return step.rank == Rank.LAY_OUT  # learn has a step of its own for that
