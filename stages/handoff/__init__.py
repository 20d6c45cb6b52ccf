"""Stage ``handoff``: from a confined interpreter to the container's own process.

May use: `api`, `linux`, `base`.
Start with `Handoff.plan`, then `confine` and `execute`.

`plan` decides, `confine` holds the steps that take things away, `execute` those around ``start`` and execve(2).
"""

from __future__ import annotations

from gosudacon.api import CONFINE, PREPARE, RUNTIME, ConfigError, Host, PlanWarning, Rank, Spec, Stage, Step, hookimpl
from gosudacon.base import layout
from gosudacon.linux import capability, sched
from gosudacon.linux.identity import UNCHANGED_ID
from gosudacon.stages.handoff import confine, execute

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.schema.types import Capabilities, Features, MemoryPolicy, Process, Rlimit, Scheduler, User

_INFINITY = (1 << 64) - 1
_MOST_PRIORITY = 99
_LEAST_RUNTIME = 1024  # ns
NOTIFY_SOCKET = f"{layout.NOTIFY_MOUNT}/{layout.NOTIFY_SOCKET}"  # where `rootfs-mount` brings it
KEEP_GROUPS = "run.oci.keep_original_groups"  # crun's: the caller's additional groups stay (docs/annotations.md)
_AFFINITY = "process.execCPUAffinity"
_NICE = ("SCHED_OTHER", "SCHED_BATCH")


class Handoff(Stage):
    """Process attributes, identity, and execution."""

    name = "handoff"
    after = ("seccomp",)

    def features(self) -> Features:
        """Capabilities, labels, memory policies, and the annotation that keeps groups."""
        return {
            "linux": {
                "capabilities": list(capability.NUMBERS),
                "apparmor": {"enabled": True},
                "selinux": {"enabled": True},
                "memoryPolicy": {"modes": list(sched.MEMORY_MODES), "flags": list(sched.MEMORY_FLAGS)},
            },
            "potentiallyUnsafeConfigAnnotations": [KEEP_GROUPS],
        }

    def plan(self, spec: Spec, host: Host) -> Iterator[Step]:
        """Raises `ConfigError` for unknown names and for ids outside the user namespace."""
        process = spec.process
        if not process.get("args"):
            raise ConfigError("args must not be empty", where="process.args")
        user = process.get("user") or {}
        _check_mapped(spec, user)
        if not spec.options.run:
            yield execute.Listen()
        if spec.options.preserve_fds:
            yield execute.CheckDescriptors(first=3, count=spec.options.preserve_fds)
        if process.get("oomScoreAdj") is not None:
            yield _oom_score_adj(spec)
        yield from _placement(process, spec)
        yield from _labels(process, host)
        yield from _identity(spec, host, process, user)
        yield from _execution(spec, process)

    def plan_exec(self, spec: Spec, host: Host) -> Iterator[Step]:
        """The same for another process, which waits for the runtime alone."""
        process = spec.process
        if not process.get("args"):
            raise ConfigError("args must not be empty", where="process.args")
        user = process.get("user") or {}
        _check_mapped(spec, user)
        if spec.options.preserve_fds:
            yield execute.CheckDescriptors(first=3, count=spec.options.preserve_fds)
        affinity = process.get("execCPUAffinity") or {}
        if affinity.get("initial"):
            yield confine.SetAffinity(
                cpus=affinity["initial"], phase=PREPARE, side=RUNTIME, where=f"{_AFFINITY}.initial"
            )
        if process.get("oomScoreAdj") is not None:
            yield _oom_score_adj(spec)
        yield from _placement(process, spec)
        yield from _labels(process, host)
        yield from _identity(spec, host, process, user)
        yield from _execution(spec, process)


def _oom_score_adj(spec: Spec) -> Step:
    """Of a process that forks again it must be there by then: a fork passes it on."""
    value = spec.process["oomScoreAdj"]
    step = confine.SetOomScoreAdj(value=value)
    if spec.joins_pid_namespace:
        step.by = CONFINE
    return step


def _affinity(process: Process, spec: Spec) -> Iterator[Step]:
    """All CPUs, or what ``exec`` is told: then the CPUs to begin with, too, if it is told of no others."""
    affinity = (process.get("execCPUAffinity") or {}) if spec.target else {}
    if affinity.get("final"):
        yield confine.SetAffinity(cpus=affinity["final"], where=f"{_AFFINITY}.final")
    elif not affinity.get("initial"):
        yield confine.ResetAffinity()


def _placement(process: Process, spec: Spec) -> Iterator[Step]:
    if not spec.options.no_new_keyring:
        yield confine.JoinSessionKeyring(name=f"_ses.{spec.id}")
    yield from _affinity(process, spec)
    if process.get("scheduler"):
        scheduler = _scheduler(process["scheduler"])
        if scheduler.nice and scheduler.policy not in _NICE:
            yield PlanWarning(message=f"ignored: {scheduler.policy} has no nice value", where="process.scheduler.nice")
        cpus = ((spec.linux.get("resources") or {}).get("cpu") or {}).get("cpus")
        scheduler.restricted = bool(cpus)
        if spec.joins_pid_namespace:
            scheduler.side, scheduler.rank = RUNTIME, Rank.BORN
        yield scheduler
    if process.get("ioPriority"):
        io = process["ioPriority"]
        yield confine.SetIoPriority(io_class=io["class"], priority=io.get("priority") or 0)
    if spec.linux.get("personality"):
        yield confine.SetPersonality(domain=spec.linux["personality"]["domain"])
        if spec.linux["personality"].get("flags"):
            yield PlanWarning(message="ignored: no flags are defined", where="linux.personality.flags")
    if spec.linux.get("memoryPolicy"):
        yield _memory_policy(spec.linux["memoryPolicy"])
    limits = _rlimits(process.get("rlimits") or [])
    if limits:
        yield execute.SetRlimits(limits=limits)


def _labels(process: Process, host: Host) -> Iterator[Step]:
    profile, label = process.get("apparmorProfile"), process.get("selinuxLabel")
    if profile:
        if not host.apparmor:
            raise ConfigError("apparmor is not enabled on this host", where="process.apparmorProfile")
        yield confine.SetApparmorProfile(profile=profile)
    if label:
        if not host.selinux:
            raise ConfigError(
                "selinux label is specified in config, but selinux is disabled or not supported",
                where="process.selinuxLabel",
            )
        yield confine.SetSelinuxLabel(label=label)


def _identity(spec: Spec, host: Host, process: Process, user: User) -> Iterator[Step]:
    uid, gid = user.get("uid") or 0, user.get("gid") or 0
    groups = user.get("additionalGids") or []
    environment = _environment(process, spec)
    if not any(entry.startswith("HOME=") and entry != "HOME=" for entry in environment):
        yield confine.FindHome(uid=uid)
    umask = user.get("umask")
    if umask is not None or spec.target is None:
        yield confine.SetUmask(umask=0o022 if umask is None else umask)
    if process.get("noNewPrivileges"):
        yield confine.SetNoNewPrivileges()
    yield confine.OwnStdio(uid=uid)
    privileged = host.euid == 0
    if groups and not privileged:
        raise ConfigError("additional groups need root", where="process.user.additionalGids")
    unknown: list[str] = []
    sets = _capabilities(process.get("capabilities"), unknown)
    yield from _warnings(sets, uid, unknown)
    keep = KEEP_GROUPS in (spec.config.get("annotations") or ())
    cwd, changes = process["cwd"], bool(uid or gid)
    yield confine.ChangeDirectory(cwd=cwd, last=not changes)
    yield confine.SetIdentity(uid=uid, gid=gid, groups=groups if privileged and not keep else None, sets=sets)
    if changes:
        yield confine.ChangeDirectoryAsUser(cwd=cwd, last=True)
    yield confine.DropInheritedCapabilities() if sets is None else confine.SetCapabilities(sets=sets)


def _execution(spec: Spec, process: Process) -> Iterator[Step]:
    environment = _environment(process, spec)
    born = spec.joins_pid_namespace
    yield execute.LookUp(name=process["args"][0], search_path=_search_path(environment), outside=born)
    yield execute.RestoreSignals(waits=spec.target is None and not spec.options.run)
    if spec.options.pidfd_socket:
        from gosudacon.stages.handoff import pidfd

        yield pidfd.SendPidfd(path=spec.options.pidfd_socket, word="setns" if spec.target else "standard")
    yield execute.WaitForStart() if spec.target is None else execute.WaitForRuntime()
    yield execute.CloseDescriptors(first=3 + spec.options.preserve_fds)
    listening = bool(spec.options.listen_fds)
    lay_out = execute.PrepareExecve(args=process["args"], environment=environment, listening=listening)
    if born and not listening:  # before the last fork, each of whose pages is copied when it is written to
        lay_out.phase, lay_out.rank = CONFINE, Rank.CLOSE
    yield lay_out
    yield execute.Execve(args=process["args"])


def _environment(process: Process, spec: Spec) -> list[str]:
    """The entries in order of first appearance, the last value of each name, and what passes descriptors on."""
    values: dict[str, str] = {}
    for entry in process.get("env") or ():
        name, _, _ = entry.partition("=")
        values[name] = entry
    if spec.options.listen_fds:
        values["LISTEN_FDS"] = f"LISTEN_FDS={spec.options.listen_fds}"
        values.pop("LISTEN_PID", None)  # not known yet
    if spec.options.notify_directory and "mount" in spec.namespaces():
        values["NOTIFY_SOCKET"] = f"NOTIFY_SOCKET={NOTIFY_SOCKET}"
    return list(values.values())


def _search_path(environment: list[str]) -> str:
    for entry in environment:
        if entry.startswith("PATH="):
            return entry[5:]
    return ""


def _rlimits(entries: list[Rlimit]) -> list[list[int | str]]:
    limits: dict[str, list[int | str]] = {}
    for index, entry in enumerate(entries):
        kind, where = entry["type"], f"process.rlimits[{index}]"
        if kind in limits:
            raise ConfigError(f"rlimit {kind} is listed twice", where=where)
        if kind not in sched.RLIMITS:
            raise ConfigError(f"unknown rlimit {kind}", where=f"{where}.type")
        if not 0 <= entry["soft"] <= entry["hard"] <= _INFINITY:
            raise ConfigError(f"{kind}: the soft limit is above the hard one", where=where)
        limits[kind] = [kind, entry["soft"], entry["hard"]]
    return list(limits.values())


def _capabilities(config: Capabilities | None, unknown: list[str]) -> dict[str, list[str]] | None:
    """None when the configuration says nothing: then, as with runc, all but what could be inherited stays as it is.

    Names of capabilities that are not known, since they are newer than this program, go to ``unknown``.
    """
    if config is None:
        return None
    sets = {
        "bounding": list(config.get("bounding") or ()),
        "effective": list(config.get("effective") or ()),
        "permitted": list(config.get("permitted") or ()),
        "inheritable": list(config.get("inheritable") or ()),
        "ambient": list(config.get("ambient") or ()),
    }
    for index, name in enumerate(sets["effective"]):
        if name in capability.NUMBERS and name not in sets["permitted"]:
            raise ConfigError(f"{name} is not permitted", where=f"process.capabilities.effective[{index}]")
    for kind, names in sets.items():
        unknown += [name for name in names if name not in capability.NUMBERS and name not in unknown]
        sets[kind] = [name for name in names if name in capability.NUMBERS]
    return sets


def _warnings(sets: dict[str, list[str]] | None, uid: int, unknown: list[str]) -> Iterator[Step]:
    """What is left out; and what capabilities(7) makes of the sets at execve(2), where that is more than they say."""
    where = "process.capabilities"
    if unknown:
        yield PlanWarning(message=f"ignoring unknown or unavailable capabilities: [{' '.join(unknown)}]", where=where)
    if sets is None:
        yield PlanWarning(message="absent: no capability is taken away from root", where=where)
    elif uid != 0 and not set(sets["ambient"]) <= set(sets["permitted"]).intersection(sets["inheritable"]):
        lost = [name for name in sets["ambient"] if name not in sets["permitted"] or name not in sets["inheritable"]]
        text = f"ambient needs permitted and inheritable; cannot be granted: {' '.join(lost)}"
        yield PlanWarning(message=text, where=f"{where}.ambient")
    elif uid == 0 and not set(sets["bounding"]) <= set(sets["permitted"]):
        more = " ".join(name for name in sets["bounding"] if name not in sets["permitted"])
        yield PlanWarning(message=f"root gets all that is in the bounding set: {more}", where=f"{where}.permitted")


def _scheduler(config: Scheduler) -> confine.SetScheduler:
    policy = config.get("policy", "")
    if policy not in sched.POLICIES:
        raise ConfigError(f"unknown scheduling policy {policy}", where="process.scheduler.policy")
    nice, priority = config.get("nice") or 0, config.get("priority") or 0
    runtime, deadline, period = config.get("runtime") or 0, config.get("deadline") or 0, config.get("period") or 0
    rules = (
        ("priority", priority, ("SCHED_FIFO", "SCHED_RR")),
        ("runtime", runtime, ("SCHED_DEADLINE",)),
        ("deadline", deadline, ("SCHED_DEADLINE",)),
        ("period", period, ("SCHED_DEADLINE",)),
    )
    for key, value, policies in rules:
        if value and policy not in policies:
            raise ConfigError(f"{key} is not for {policy}", where=f"process.scheduler.{key}")
    _check_values(policy, priority, runtime, deadline, period)
    flags = 0
    for index, name in enumerate(config.get("flags") or ()):
        if name not in sched.SCHED_FLAGS:
            raise ConfigError(f"unknown scheduling flag {name}", where=f"process.scheduler.flags[{index}]")
        flags |= sched.SCHED_FLAGS[name]
    return confine.SetScheduler(
        policy=policy,
        flags=flags,
        nice=nice,
        priority=priority,
        runtime=runtime,
        deadline=deadline,
        period=period,
    )


def _check_values(policy: str, priority: int, runtime: int, deadline: int, period: int) -> None:
    """What sched_setattr(2) would refuse as invalid, without a word which of its values it was."""
    if policy in ("SCHED_FIFO", "SCHED_RR") and not 1 <= priority <= _MOST_PRIORITY:
        what = f"invalid scheduler.priority {priority}: {policy} takes 1 to {_MOST_PRIORITY}"
        raise ConfigError(what, where="process.scheduler.priority")
    if policy != "SCHED_DEADLINE":
        return
    for key, value, least in (
        ("runtime", runtime, _LEAST_RUNTIME),
        ("deadline", deadline, runtime),
        ("period", period or deadline, deadline),
    ):
        if value < least:
            what = f"invalid scheduler.{key} {value}: want {_LEAST_RUNTIME} <= runtime <= deadline <= period"
            raise ConfigError(what, where=f"process.scheduler.{key}")


def _memory_policy(config: MemoryPolicy) -> confine.SetMemoryPolicy:
    mode = config.get("mode", "")
    if mode not in sched.MEMORY_MODES:
        raise ConfigError(f"invalid memory policy: unknown memory policy {mode}", where="linux.memoryPolicy.mode")
    nodes = _nodes(config.get("nodes") or "")
    if mode in ("MPOL_DEFAULT", "MPOL_LOCAL") and nodes:
        raise ConfigError(f"invalid memory policy: {mode} takes no nodes", where="linux.memoryPolicy.nodes")
    if mode not in ("MPOL_DEFAULT", "MPOL_LOCAL", "MPOL_PREFERRED") and not nodes:
        raise ConfigError(f"invalid memory policy: {mode} needs nodes", where="linux.memoryPolicy.nodes")
    flags = 0
    for index, name in enumerate(config.get("flags") or ()):
        if name not in sched.MEMORY_FLAGS:
            raise ConfigError(
                f"invalid memory policy: unknown memory policy flag {name}", where=f"linux.memoryPolicy.flags[{index}]"
            )
        flags |= sched.MEMORY_FLAGS[name]
    return confine.SetMemoryPolicy(mode=mode, flags=flags, nodes=nodes)


def _nodes(text: str) -> int:
    from gosudacon.base import ranges

    try:
        return ranges.mask(ranges.parse(text, ranges.MOST_NODES))
    except ValueError as error:
        what = f"invalid memory policy: {text!r} is not a list of nodes such as 0-1,3: {error}"
        raise ConfigError(what, where="linux.memoryPolicy.nodes") from None


def _check_mapped(spec: Spec, user: User) -> None:
    """Every id must be one, and mapped in a user namespace that the configuration maps."""
    uids, gids = spec.linux.get("uidMappings"), spec.linux.get("gidMappings")
    checks = [("uid", user.get("uid") or 0, "uidMappings", uids), ("gid", user.get("gid") or 0, "gidMappings", gids)]
    for index, gid in enumerate(user.get("additionalGids") or ()):
        checks.append((f"additionalGids[{index}]", gid, "gidMappings", gids))
    for key, number, mappings, ranges in checks:
        where = f"process.user.{key}"
        if type(number) is not int or not 0 <= number < UNCHANGED_ID:
            raise ConfigError(f"{number!r} is not an id", where=where)
        if ranges and not any(0 <= number - each["containerID"] < each["size"] for each in ranges):
            raise ConfigError(f"{key.partition('[')[0]} {number} is not in linux.{mappings}", where=where)


@hookimpl
def gosudacon_stages() -> list[Stage]:
    """Contribute the stage."""
    return [Handoff()]
