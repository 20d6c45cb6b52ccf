"""Stage ``seccomp``: compile the profile while preparing, load the filter as late as the specification allows.

May use: `api`, `linux`, `base`.
Start with `SeccompStage.plan`, then `steps`.

A profile need not allow what a runtime does: where it does not, the filter is the last thing before execve(2), that of
the process and that of each startContainer hook. Without ``noNewPrivileges`` that means to hold CAP_SYS_ADMIN for so
long, and for a process that is born among others to be seen by them without its filter. So where the profile allows
what is still to come (`rules`), the filter is loaded in `CONFINE`. So is one that notifies an agent, since the process
that called ``create`` has to be there to pass the agent its descriptor. See docs/seccomp.md.
"""

from __future__ import annotations

from gosudacon.api import CONFINE, START, ConfigError, Error, Host, PlanWarning, Rank, Spec, Stage, Step, hookimpl
from gosudacon.base import layout
from gosudacon.linux import seccomp
from gosudacon.stages.seccomp.steps import CompileSeccomp, HoldSysAdmin, LendSeccomp, LetSysAdminGo, LoadSeccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.schema.types import Arg, Features, Process, Seccomp, Syscall

_WHERE = "linux.seccomp"
_CACHE = f"{layout.CACHE}/{layout.SECCOMP_CACHE}"
_USER_CACHE = f"$XDG_RUNTIME_DIR/{layout.USER_CACHE}/{layout.SECCOMP_CACHE}"
_OTHERS = "otherArchitectures"  # ours: the profile's own word on what the setting other-architectures is about
_SETTINGS = {"cache": (str, bool), "library": (str,), "other-architectures": (str,)}

ERRNO, TRACE, NOTIFY = "SCMP_ACT_ERRNO", "SCMP_ACT_TRACE", "SCMP_ACT_NOTIFY"
#: Name -> the value a filter returns, without the number that two of them carry (linux/seccomp.h).
ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    ERRNO: 0x00050000,
    NOTIFY: 0x7FC00000,
    TRACE: 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
#: Name -> enum scmp_compare of seccomp_rule_add(3).
OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
#: Name -> SCMP_ARCH_* of seccomp_arch_add(3), which is AUDIT_ARCH_* of linux/audit.h except for X32.
ARCHITECTURES = {
    "SCMP_ARCH_X86": 0x40000003,
    "SCMP_ARCH_X86_64": 0xC000003E,
    "SCMP_ARCH_X32": 0x4000003E,
    "SCMP_ARCH_ARM": 0x40000028,
    "SCMP_ARCH_AARCH64": 0xC00000B7,
    "SCMP_ARCH_MIPS": 0x00000008,
    "SCMP_ARCH_MIPS64": 0x80000008,
    "SCMP_ARCH_MIPS64N32": 0xA0000008,
    "SCMP_ARCH_MIPSEL": 0x40000008,
    "SCMP_ARCH_MIPSEL64": 0xC0000008,
    "SCMP_ARCH_MIPSEL64N32": 0xE0000008,
    "SCMP_ARCH_PPC": 0x00000014,
    "SCMP_ARCH_PPC64": 0x80000015,
    "SCMP_ARCH_PPC64LE": 0xC0000015,
    "SCMP_ARCH_S390": 0x00000016,
    "SCMP_ARCH_S390X": 0x80000016,
    "SCMP_ARCH_PARISC": 0x0000000F,
    "SCMP_ARCH_PARISC64": 0x8000000F,
    "SCMP_ARCH_RISCV64": 0xC00000F3,
    "SCMP_ARCH_LOONGARCH64": 0xC0000102,
    "SCMP_ARCH_M68K": 0x00000004,
    "SCMP_ARCH_SH": 0x4000002A,
    "SCMP_ARCH_SHEB": 0x0000002A,
}
#: Name -> flag of seccomp(2).
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": seccomp.FLAG_TSYNC,
    "SECCOMP_FILTER_FLAG_LOG": seccomp.FLAG_LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": seccomp.FLAG_SPEC_ALLOW,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": seccomp.FLAG_WAIT_KILLABLE_RECV,
}
_LOGGED = ACTIONS["SCMP_ACT_LOG"]  # from here on, actions let the system call through
_MASKED = "SCMP_CMP_MASKED_EQ"
_DEFAULT_FLAGS = ("SECCOMP_FILTER_FLAG_SPEC_ALLOW",)
_MAX_ERRNO = 4094  # the highest libseccomp takes; the kernel would turn more into 4095
_MAX_TRACE = 0xFFFF
_SYS_ADMIN = "CAP_SYS_ADMIN"


class SeccompStage(Stage):
    """config-linux.md, Seccomp. Settings: ``cache`` (a directory, or false), ``library`` (a path),
    ``other-architectures`` (the action for programs of an architecture the profile does not list)."""

    name = "seccomp"
    after = ("pivot-root",)
    keys = (_WHERE,)

    def features(self) -> Features:
        """What profiles may say, as far as the libseccomp that there is goes along."""
        from gosudacon.stages.seccomp import compiler

        return compiler.features(self.settings.get("library", ""))

    def plan(self, spec: Spec, host: Host) -> list[Step]:
        profile = spec.linux.get("seccomp") or {}
        if not profile.get("defaultAction") and not profile.get("syscalls"):  # what runc takes for "no profile"
            text = "an empty action and no rules: no system call is filtered"
            return [PlanWarning(message=text, where=f"{_WHERE}.defaultAction")] if profile else []
        profile, warnings = _meant(profile)
        notifies = _check(profile)
        lacking = _lacking(spec.process)
        hooks = spec.target is None and bool((spec.config.get("hooks") or {}).get("startContainer"))
        sooner = spec.joins_pid_namespace or (bool(lacking) and not hooks)
        early = sooner and _allows_what_follows(spec, profile, bool(lacking))
        steps: list[Step] = [*warnings, self._compile(profile, host)]
        if not _restricts(profile):
            steps.append(PlanWarning(message="the filter lets every system call through", where=_WHERE))
        if lacking:
            steps.append(HoldSysAdmin(where=_WHERE))
        flags = _flags(profile, notifies)
        if notifies:
            steps += _notifying(profile, flags, Rank.FILTER_EARLY if early else Rank.FILTER_NOTIFY)
        else:
            phase, rank = (CONFINE, Rank.FILTER_EARLY) if early else (START, Rank.FILTER)
            if hooks and not early:
                steps.append(LendSeccomp(flags=flags, where=_WHERE))
            steps.append(LoadSeccomp(phase=phase, rank=rank, flags=flags, where=_WHERE))
        if early and lacking:
            steps.append(LetSysAdminGo(rank=Rank.FILTER_EARLY, sets=lacking, where=_WHERE))
        return steps

    def plan_exec(self, spec: Spec, host: Host) -> list[Step]:
        """The container's profile, at the same moments; late or early as the new process's ``noNewPrivileges`` says."""
        return self.plan(spec, host)

    def _compile(self, profile: Seccomp, host: Host) -> CompileSeccomp:
        for name, value in self.settings.items():
            if not isinstance(value, _SETTINGS.get(name, ())):
                raise Error(f"invalid setting of stage seccomp in config.toml: {name} = {value!r}")
        cache = self.settings.get("cache", True)
        if cache is True:
            cache = _CACHE if host.euid == 0 and host.initial_userns else _USER_CACHE
        other = self.settings.get("other-architectures", "SCMP_ACT_KILL")
        if other not in ACTIONS or other == NOTIFY:
            raise Error(f"invalid setting of stage seccomp in config.toml: other-architectures = {other!r}")
        other = profile.get(_OTHERS, other)
        if other not in ACTIONS or other == NOTIFY:
            raise ConfigError(f"unknown seccomp action {other!r}", where=f"{_WHERE}.{_OTHERS}")
        return CompileSeccomp(
            profile=_compiled(profile),
            others=other,
            cache=cache or "",
            library=self.settings.get("library", ""),
            where=_WHERE,
        )


def _allows_what_follows(spec: Spec, profile: Seccomp, holding: bool) -> bool:
    from gosudacon.stages.seccomp import rules

    return rules.allow_what_follows(spec, profile, holding)


def _lacking(process: Process) -> list[str]:
    """The sets in which the process has to hold CAP_SYS_ADMIN for loading the filter, and must not have it itself."""
    if process.get("noNewPrivileges"):
        return []
    sets = process.get("capabilities")
    if sets is None:
        return ["effective"]  # which a change of user empties
    both = (("effective", sets.get("effective")), ("permitted", sets.get("permitted")))
    return [name for name, held in both if _SYS_ADMIN not in (held or ())]


def _notifying(profile: Seccomp, flags: list[str], rank: int) -> list[Step]:
    from gosudacon.stages.seccomp import agent

    where, metadata = f"{_WHERE}.listenerPath", profile.get("listenerMetadata")
    return [
        agent.ConnectListener(path=profile["listenerPath"], where=where),
        LoadSeccomp(phase=CONFINE, rank=rank, flags=flags, notify=True, by=CONFINE, where=_WHERE),
        agent.SendListener(rank=rank, metadata=metadata, where=where),
        agent.CloseListener(rank=rank, where=where),
    ]


def _meant(profile: Seccomp) -> tuple[Seccomp, list[Step]]:
    """The profile without rules that name no system call, and what is ignored in it."""
    warnings: list[Step] = []
    rules: list[Syscall] = []
    for index, rule in enumerate(profile.get("syscalls") or ()):
        where = f"{_WHERE}.syscalls[{index}]"
        if not rule.get("names"):
            warnings.append(PlanWarning(message="ignored: the rule names no system call", where=f"{where}.names"))
            continue
        rules.append(rule)
        if rule.get("errnoRet") is not None and rule["action"] not in (ERRNO, TRACE):
            text = f"ignored: {rule['action']} takes no errno"
            warnings.append(PlanWarning(message=text, where=f"{where}.errnoRet"))
    default = profile.get("defaultAction")
    if profile.get("defaultErrnoRet") is not None and default not in (ERRNO, TRACE):
        warnings.append(PlanWarning(message=f"ignored: {default} takes no errno", where=f"{_WHERE}.defaultErrnoRet"))
    return {**profile, "syscalls": rules}, warnings


def _compiled(profile: Seccomp) -> Seccomp:
    """What of the profile goes into the program, which is kept under a hash of this."""
    keys = ("defaultAction", "defaultErrnoRet", "architectures", "syscalls")
    return {key: profile[key] for key in keys if profile.get(key) is not None}  # type: ignore


def value_of(action: str, number: int | None) -> int:
    """What a filter returns for ``action``, whose errno (or number for the tracer) is EPERM unless given."""
    value = ACTIONS[action]
    return value | (1 if number is None else number) if action in (ERRNO, TRACE) else value


def leniency(action: str) -> int:
    """The kernel's order of actions, the strictest first (seccomp(2), "SECCOMP_RET_…"): their values, signed."""
    value = ACTIONS[action]
    return value - (1 << 32) if value >> 31 else value


def holds_back(action: str, default: str) -> bool:
    """Whether a system call with this action is kept from what it may do by default."""
    return leniency(action) < min(leniency(default), _LOGGED)


def _restricts(profile: Seccomp) -> bool:
    """Whether any system call is held back."""
    actions = [profile["defaultAction"], *(rule["action"] for rule in profile.get("syscalls") or ())]
    return any(holds_back(action, "SCMP_ACT_ALLOW") for action in actions)


def _flags(profile: Seccomp, notifies: bool) -> list[str]:
    flags = profile.get("flags")
    names = list(_DEFAULT_FLAGS if flags is None else flags)
    # With one thread TSYNC has nothing to do, and the kernel does not take it together with a listener;
    # WAIT_KILLABLE_RECV is taken only with one.
    without = "SECCOMP_FILTER_FLAG_TSYNC" if notifies else "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"
    return [name for name in names if name != without]


def _check(profile: Seccomp) -> bool:
    """Raise `ConfigError` for what cannot be compiled or loaded; returns whether the profile notifies an agent."""
    default = profile.get("defaultAction")
    _check_action(default, profile.get("defaultErrnoRet"), f"{_WHERE}.defaultAction", f"{_WHERE}.defaultErrnoRet")
    if default == NOTIFY:
        raise ConfigError("SCMP_ACT_NOTIFY cannot be used as default action", where=f"{_WHERE}.defaultAction")
    for key, names, known in (
        ("architectures", profile.get("architectures"), ARCHITECTURES),
        ("flags", profile.get("flags"), FLAGS),
    ):
        for index, name in enumerate(names or ()):
            if name not in known:
                where = f"{_WHERE}.{key}[{index}]"
                raise ConfigError(f"unknown seccomp {key.rstrip('s')} {name!r}", where=where)
    notifies = False
    for index, rule in enumerate(profile.get("syscalls") or ()):
        _check_rule(rule, f"{_WHERE}.syscalls[{index}]")
        notifies = notifies or rule["action"] == NOTIFY
    _check_effect(profile.get("syscalls") or [], str(default))
    path = profile.get("listenerPath")
    if profile.get("listenerMetadata") and not path:
        raise ConfigError("listenerMetadata is given without listenerPath", where=f"{_WHERE}.listenerMetadata")
    if notifies and not path:
        raise ConfigError("SCMP_ACT_NOTIFY is used without listenerPath", where=f"{_WHERE}.listenerPath")
    return notifies


def _check_rule(rule: Syscall, where: str) -> None:
    action = rule.get("action")
    _check_action(action, rule.get("errnoRet"), f"{where}.action", f"{where}.errnoRet")
    names = rule.get("names")
    if not names or not all(names):
        raise ConfigError("an empty string does not name a system call", where=f"{where}.names")
    if action == NOTIFY and "write" in names:
        # init writes to say where the descriptor is, and no agent could answer before that.
        raise ConfigError("SCMP_ACT_NOTIFY cannot be used for the write syscall", where=f"{where}.names")
    for index, argument in enumerate(rule.get("args") or ()):
        _check_argument(argument, f"{where}.args[{index}]")


def _check_effect(rules: list[Syscall], default: str) -> None:
    """Raise `ConfigError` for a rule with conditions that would hold nothing back though it is to.

    Docker's profile has few rules with conditions, and rules without them are looked at for their names only.
    """
    conditional = [(index, rule) for index, rule in enumerate(rules) if rule.get("args")]
    if not conditional:
        return
    names = {name for _, rule in conditional for name in rule["names"]}
    whole: dict[str, tuple[int, int]] = {}  # name -> the strictest rule without conditions, and which it is
    for index, rule in enumerate(rules):
        if not rule.get("args"):
            for name in names.intersection(rule["names"]):
                whole[name] = min(whole.get(name, (1 << 31, 0)), (leniency(rule["action"]), index))
    same: dict[tuple[str, str], tuple[int, int]] = {}
    for index, rule in conditional:
        where, strict = f"{_WHERE}.syscalls[{index}]", leniency(rule["action"])
        if holds_back(rule["action"], default):
            _check_possible(rule["args"], where)
        value = value_of(rule["action"], rule.get("errnoRet"))
        for name in rule["names"]:
            if name in whole and strict < min(whole[name][0], _LOGGED):
                text = f"{name} is not held back: syscalls[{whole[name][1]}] is for it whatever its arguments"
                raise ConfigError(text, where=where)
            other = same.setdefault((name, repr(sorted(map(_condition, rule["args"])))), (value, index))
            if other[0] != value:
                text = f"two seccomp rules for {name} with the same arguments ask for different actions"
                raise ConfigError(f"{text}: here and in syscalls[{other[1]}]", where=where)


def _condition(argument: Arg) -> tuple[int, str, int, int]:
    second = argument.get("valueTwo") or 0 if argument["op"] == _MASKED else 0
    return argument["index"], argument["op"], argument["value"], second


def _check_possible(arguments: list[Arg], where: str) -> None:
    """Raise `ConfigError` for a condition that no argument meets."""
    for index, argument in enumerate(arguments):
        _, operator, first, second = _condition(argument)
        if operator == _MASKED and second & ~first:
            raise ConfigError(f"no argument masked with {first} is {second}", where=f"{where}.args[{index}]")


def _check_action(action: object, number: object, where: str, where_number: str) -> None:
    if action not in ACTIONS:
        raise ConfigError(f"unknown seccomp action {action!r}", where=where)
    if number is None:
        return
    limit = {ERRNO: _MAX_ERRNO, TRACE: _MAX_TRACE}.get(str(action))
    if limit is None:
        return
    if type(number) is not int or not 0 <= number <= limit:
        raise ConfigError(f"{number!r} is not an errno: an integer from 0 to {limit}", where=where_number)


def _check_argument(argument: Arg, where: str) -> None:
    if argument.get("op") not in OPERATORS:
        raise ConfigError(f"unknown seccomp operator {argument.get('op')!r}", where=f"{where}.op")
    for key, value, limit in (
        ("index", argument.get("index"), 5),
        ("value", argument.get("value"), (1 << 64) - 1),
        ("valueTwo", argument.get("valueTwo", 0), (1 << 64) - 1),
    ):
        if type(value) is not int or not 0 <= value <= limit:
            raise ConfigError(f"{value!r} is not an integer from 0 to {limit}", where=f"{where}.{key}")


@hookimpl
def gosudacon_stages() -> list[Stage]:
    """The stages of this module."""
    return [SeccompStage()]
