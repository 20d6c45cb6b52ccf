"""Stage and step: the two things a plan is made of, and what a running step may know."""

from __future__ import annotations

from gosudacon.base.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, TypeVar, dataclass_transform

    from gosudacon.pipeline.expectation import Expectation
    from gosudacon.pipeline.spec import Host, Spec
    from gosudacon.schema.types import Features, Resources, State

    Kind = TypeVar("Kind")

else:

    def dataclass_transform(**_):
        return lambda kind: kind


RUNTIME = "runtime"
CONTAINER = "container"

PREPARE = "prepare"
ISOLATE = "isolate"
MOUNT = "mount"
CREATE_RUNTIME = "create-runtime"
CREATE_CONTAINER = "create-container"
PIVOT = "pivot"
CONFINE = "confine"
START = "start"
STARTED = "started"
DELETE = "delete"

#: The moments of the OCI lifecycle in order, each with the side its steps run on unless they say otherwise.
PHASES = {
    PREPARE: RUNTIME,
    ISOLATE: CONTAINER,
    MOUNT: CONTAINER,
    CREATE_RUNTIME: RUNTIME,
    CREATE_CONTAINER: CONTAINER,
    PIVOT: CONTAINER,
    CONFINE: CONTAINER,
    START: CONTAINER,
    STARTED: RUNTIME,
    DELETE: RUNTIME,
}
ORDER = {phase: index for index, phase in enumerate(PHASES)}


class Rank:
    """The order within a phase on which stages agree; what is not listed has rank 0.

    `CONFINE` takes away in an order in which each step still may do what it has to. A process that joins a pid
    namespace which others live in is born into it near the end, when there is nothing left to take.
    """

    LIMITS = 15  # CONFINE: resource limits, before the change of user
    IDENTITY = 20  # CONFINE: user, working directory, capabilities
    LOOK_UP = 30  # CONFINE: what is checked as the container's user
    CLOSE = 60  # CONFINE: every descriptor that is not the container's
    FILTER_EARLY = 70  # CONFINE: a seccomp filter that allows what follows
    BIRTH = 80  # CONFINE: the last fork
    BORN = 85  # CONFINE: what is done to the process that was born
    FILTER_NOTIFY = 90  # CONFINE: a filter of which an agent is told, while the runtime is there to send its descriptor

    LAY_OUT = 3  # START: arguments and environment
    HOOKS = 10  # START
    FILTER = 50  # START: the seccomp filter; behind it there is only execve(2)
    EXECVE = 100  # START


@dataclass_transform(kw_only_default=True)
class Fields:
    """A value whose fields are annotated: the type checker checks the constructor's arguments against them."""

    def __init__(self, **fields: object) -> None:
        vars(self).update(fields)


class Step(Fields):
    """The smallest thing worth naming: a value that describes itself, runs, and may undo itself.

    A subclass sets `phase`, and where it differs from the phase's own, `side`; it names its fields as
    annotations, and the type checker checks the constructor's arguments against them. Every field must be JSON
    data, since plans are printed and kept on disk: a step that is needed later (``lasts``, or of a phase after
    `START`) is rebuilt from its fields by another process.

    ``by`` is the first phase in which the other side may rely on this step. It defaults to the next phase;
    a step that is needed later (a cgroup limit) names a later one, so that both sides work at once.
    ``rank`` orders steps within a phase before the order of their stages does: `START` needs it, where waiting
    for ``start``, hooks, the seccomp filter and execve(2) come from three stages.
    ``modules`` names what the step imports while it runs: on the container side nothing new can be imported.
    ``either_side``: a step of the runtime's side that the container's process can also run. It does so in an exec
    without a separate runtime process; `Context.pid` is then its own pid.
    ``joins_by_clone``: the step is about a cgroup that the process enters by clone3(2), in the step that ``spawns``,
    whose ``into_cgroup`` the plan sets for that.
    ``where`` is the place in config.json that asked for the step, ``edited_by`` which plugin put that there, and
    ``edited_for`` what made it do so, if it says.
    ``failing`` begins the message when `run` raises an OSError: words that callers of runc match, with
    ``{names}`` of fields; else `describe`.
    ``recorded_as`` is the name under which the step is on disk, ``PLUGIN.NAME``, and the version of its fields. The
    name outlives the class's; the version goes up when fields change their names or meaning (see `restored`).
    """

    phase: str = ""  # when it runs: `PREPARE`, `MOUNT`, ...; a class must say it
    side: str = ""  # `RUNTIME` or `CONTAINER`; empty: the phase's
    by: str = ""
    where: str = ""
    failing: str = ""
    edited_by: str = ""
    edited_for: str = ""
    stage: str = ""  # which one planned it; the engine sets it
    rank: int = 0
    modules: tuple[str, ...] = ()
    either_side: bool = False  # of the runtime's side, but the container's process can run it, too
    spawns: bool = False  # runtime side: creates the container's process; everything before it is done by then
    into_cgroup: bool = False  # of the one that spawns: with CLONE_INTO_CGROUP
    joins_by_clone: bool = False
    forks: bool = False  # container side: goes on as a child of the runtime's
    filters: bool = False  # container side: behind it the kernel may refuse system calls
    lasts: bool = False  # the effect outlives the process, and `undo` removes it
    recorded_as: tuple[str, int] = ("", 1)

    def describe(self) -> str:
        """What the step does, in one line."""
        raise NotImplementedError

    def details(self) -> list[str]:
        """What its line leaves out of what it sets, for `explain` alone: arguments, environment entries, rules."""
        return []

    def run(self, context: Context) -> None:
        """Do it. Raises OSError or `gosudacon.api.Error`; the engine adds stage and step."""
        raise NotImplementedError

    def undo(self, context: Context) -> None:
        """Remove the effect. If the step has not run, or only partly, `undo` is called, too: then it must not fail."""

    def expect(self, spec: Spec, host: Host) -> Iterable[Expectation] | str:
        """What the kernel shows once the step has run, for ``audit``; or a sentence that says why nothing can be seen.

        Pure, as planning is. An empty string: this kind of step says nothing, and `audit` says so.
        """
        from gosudacon.pipeline import expectation

        return expectation.of(self, spec, host)

    def moves_clock(self) -> bool:
        """Whether the process is in another time namespace when the step has run, where CLOCK_MONOTONIC differs."""
        return False

    def runs_on(self) -> str:
        """`RUNTIME` or `CONTAINER`."""
        return self.side or PHASES[self.phase]

    def record(self) -> list[object]:
        """The step as data for the disk, for `pipeline.kinds.rebuild`: name, version, fields."""
        kind = type(self)
        place = f"{kind.__module__}:{kind.__qualname__}"
        name, version = vars(kind).get("recorded_as", (place, 1))  # its own: what is inherited names another class
        if name == place or place.startswith("gosudacon."):
            return [name, version, vars(self)]
        return [name, version, vars(self), place]

    @classmethod
    def restored(cls, version: int, fields: dict[str, Any]) -> Step:
        """The step of these recorded fields.

        A class whose fields have changed overrides this, and reads the versions before its own, too. Raises `Error`
        for a version that it does not know.
        """
        known = vars(cls).get("recorded_as", ("", 1))[1]
        if version != known:
            raise Error(f"{cls.__name__}: version {version} of the step is on record, and {known} is known")
        return cls(**fields)


class PlanWarning(Step):
    """What a stage has to say about config.json without refusing it: yielded among the steps, and never run.

    For what is ignored, or restricts less than it seems to. ``where`` is the place in config.json. Collected in
    ``Plan.warnings``, printed by ``explain``, logged by ``create`` and ``run``.
    """

    message: str  # a sentence without a full stop, such as "ignored: Linux has no such limit"

    def describe(self) -> str:
        text = f"{self.message} ({self.edited_by})" if self.edited_by else self.message
        return f"{self.where}: {text}" if self.where else text


class Stage:
    """A named unit of setup, registered through pluggy.

    ``after`` and ``before`` name stages it must follow or precede where they exist; ``keys`` the dotted
    places of config.json it cares about (empty: always), so that a stage a bundle does not need is not
    even imported. ``exec_keys`` is the same for plans of ``exec`` (None: as ``keys``).
    """

    name: str = ""  # unique; what `explain` shows, and config.toml calls it
    after: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    exec_keys: tuple[str, ...] | None = None
    replaced: Stage | None = None  # the stage that this one replaces, by the administrator's choice
    settings: Mapping[str, Any] = {}  # the administrator's settings for it: ``[stage.NAME]`` of config.toml

    def plan(self, spec: Spec, host: Host) -> Iterable[Step]:
        """The steps that this bundle needs on this host. Pure: reads nothing and touches nothing.

        Raises `gosudacon.api.ConfigError` for what is invalid or impossible.
        """
        raise NotImplementedError

    def plan_exec(self, spec: Spec, host: Host) -> Iterable[Step]:
        """The steps for another process in the running container ``spec.target``: by default none. Pure, as `plan`.

        No step of it may be one that ``lasts``: nothing is recorded that could undo it.
        """
        return () if self.replaced is None else self.replaced.plan_exec(spec, host)

    def plan_restore(self, spec: Spec, host: Host) -> Iterable[Step]:
        """The steps for a container whose processes CRIU restores: by default none. Pure, as `plan`.

        Steps of the container's side run in the process that becomes CRIU, in a mount namespace of its own; those of
        `CREATE_RUNTIME` when the container's namespaces exist. What is in the images needs no step: mounts, devices,
        user, capabilities, seccomp filters.
        """
        return () if self.replaced is None else self.replaced.plan_restore(spec, host)

    def plan_update(self, resources: Resources, spec: Spec, host: Host) -> Iterable[Step]:
        """The steps that change limits of a container that exists to ``resources``, in the order in which they run.

        ``resources`` has what is to be written, in the form of ``linux.resources``; ``spec`` the configuration
        with all limits that there are then. The steps run on the runtime's side, with
        `Context.cgroup_dirs`; when one fails, those before it and it itself are undone.
        Pure; raises `gosudacon.api.ConfigError` for what is invalid or impossible.
        """
        return () if self.replaced is None else self.replaced.plan_update(resources, spec, host)

    def plan_mounts(self, spec: Spec, host: Host) -> Iterable[Step]:
        """The steps that add the mounts of ``spec`` to the running container ``spec.target``, or remove them.

        ``spec.operation`` says which. None of them may be one that ``lasts``. Pure, as `plan`; by default none.
        """
        return () if self.replaced is None else self.replaced.plan_mounts(spec, host)

    def features(self) -> Features:
        """What this stage adds to the features structure (runtime-spec features.md), which `features` prints.

        Objects of several stages are merged, lists joined; true from one stage is true. A stage instead of
        another one answers for both: what it leaves to that one it takes from ``replaced.features()``.
        """
        return {}


class Context:
    """What a running step may use: where it is, whom it works for, and what earlier steps left.

    ``pid`` is init's pid as the runtime sees it (runtime side, once it exists); ``root`` an O_PATH
    descriptor of the root filesystem; ``proc`` a descriptor of a private proc mount (container side);
    ``state_dir`` a descriptor of the container's state directory (runtime side). -1 and 0 before it exists.

    What a stage leaves for others: ``cgroups`` (controller -> directory) and ``cgroup_dirs`` (controller -> descriptor)
    are the container's; ``cgroup_fd`` is the cgroup in which clone3(2) makes the process; ``start_listener`` the socket
    on which init waits for ``start``; ``console_peer`` the connection over which a command in the foreground gets the
    terminal's master; ``proc_of_others`` a proc mount of the pid namespace that is joined; ``held_capabilities`` a mask
    of those that stay beyond the process's own sets for a step to come; ``spared`` the descriptors that `Rank.CLOSE`
    leaves open; ``environment`` what a hook without `env` gets: that of the runtime's caller, and from
    `Rank.LAY_OUT` on the process's; ``confine`` puts the process that calls it under the seccomp filter which comes
    after startContainer hooks; ``seccomp_program`` is that filter (an array of struct sock_filter), empty without a
    filter. What the steps of one stage leave for each other is in an object of their own: `own`.

    ``addresses`` are what the container got on networks: the name of its device -> addresses such as ``10.207.0.2/16``.
    ``ports`` are those of the host that lead to it, as ``--publish`` has them. What a step of the runtime's side leaves
    there is kept in the container's state; ``state`` shows both, ``list`` the addresses.

    ``cgroups_entered`` is ``cgroups`` as state.json has it: empty while the container is being created.

    Both sides have what `PREPARE` left, descriptors included.

    ``warnings`` is for what only a running step can find out and `PlanWarning` would have said.
    """

    def __init__(self, spec: Spec, host: Host) -> None:
        self.spec = spec  # what planning saw; in ``start``, ``delete`` and `Step.undo` id and bundle alone
        self.host = host  # what planning saw
        self.side: str = RUNTIME  # the one that runs
        self.pid = 0
        self.root = -1
        self.proc = -1
        self.state_dir = -1
        self.cgroups: dict[str, str] = {}
        self.cgroup_dirs: dict[str, int] = {}
        self.cgroup_fd = -1
        self.cgroups_entered: dict[str, str] = {}
        self.start_listener: socket | None = None
        self.console_peer = -1
        self.proc_of_others = -1
        self.held_capabilities = 0
        self.spared: tuple[int, ...] = ()
        self.environment: Mapping[bytes, bytes] = {}
        self.confine: Callable[[], None] | None = None
        self.seccomp_program = b""
        self.addresses: dict[str, list[str]] = {}
        self.ports: list[str] = []
        self.warnings: list[str] = []
        self.engine: Engine | None = None  # what only the engine can do; ``engine.state(status)`` is the OCI state
        self._own: dict[type, object] = {}

    def own(self, kind: type[Kind]) -> Kind:
        """The one object of the class ``kind`` in this context, made by ``kind()`` when it is first asked for.

        A stage declares a class with what its steps leave for each other; no other stage uses it.
        """
        found = self._own.get(kind)
        if found is None:
            found = self._own[kind] = kind()
        return found  # type: ignore[return-value]

    def forget(self) -> None:
        """Let go of what stages have left: a socket among it would close its number when that is another's already."""
        self.start_listener = None
        self._own.clear()


class Engine:
    """What only the executor can do for a step; steps reach it as ``context.engine``."""

    def spawn(self, flags: int, cgroup: int = -1) -> None:
        """Create the container's process in new namespaces; runtime side, exactly once."""
        raise NotImplementedError

    def fork(self, confined: bool) -> None:
        """Go on as a child, which enters the pid and time namespaces set for children; container side.

        ``confined``: nothing is left to be taken away, and a seccomp filter may be in force.
        """
        raise NotImplementedError

    def ready(self) -> None:
        """Say that everything before `START` is done and wait until `start` is called; container side."""
        raise NotImplementedError

    def descriptors(self) -> list[int]:
        """The descriptors that the engine needs until execve(2), which closes them; container side."""
        return []

    def state(self, status: str, pid: int | None = None) -> State:
        """The container's state as hooks and listeners get it (runtime-spec runtime.md, State)."""
        raise NotImplementedError
