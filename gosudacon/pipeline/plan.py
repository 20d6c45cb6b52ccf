"""The plan: all steps in order, split into the two sides' lanes, with a barrier wherever one needs the other."""

from __future__ import annotations

from gosudacon.base.errors import ConfigError, Error, reason
from gosudacon.pipeline.step import CONTAINER, ORDER, RUNTIME, START, PlanWarning, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gosudacon.pipeline.edit import Changes
    from gosudacon.pipeline.spec import Host, Spec
    from gosudacon.pipeline.step import Stage
    from gosudacon.schema.types import Resources


_BUILT_IN = ("gosudacon.stages.", "gosudacon.plugins.")


class Move:
    """A step's place in its lane: ``wait`` steps of the other lane must be done first; ``tell`` it when done."""

    __slots__ = ("step", "tell", "wait")

    def __init__(self, step: Step, wait: int) -> None:
        self.step = step
        self.wait = wait
        self.tell = False


class Plan:
    """An ordered list of steps for one bundle on one host: by phase and rank, else in the order in which they came.

    ``as_given``: in the order in which they came, whatever their phases (`update`). ``edits`` is what plugins
    changed of the configuration, None if none did.
    """

    def __init__(self, steps: list[Step], as_given: bool = False) -> None:
        self.amended: list[str] = []  # "PLUGIN added STEP", for `explain`
        self.warnings: list[PlanWarning] = []  # what stages had to say about the configuration
        self.edits: Changes | None = None
        self.as_given = as_given
        self.steps = steps  # all of them, in order; an amendment may change the list
        self._sort()

    def _sort(self) -> None:
        if not self.as_given:
            self.steps = sorted(self.steps, key=lambda step: (ORDER[step.phase], step.rank))  # stable
        if any(step.joins_by_clone for step in self.steps):
            for step in self.steps:
                if step.spawns:  # of a stage that knows nothing of cgroups
                    step.into_cgroup = True

    def insert_before(self, anchor: Step, *steps: Step) -> None:
        """Put steps where they run just before another one: they get its rank.

        Raises ValueError if the anchor is not in the plan, or a step is of another phase.
        """
        self._insert(anchor, 0, steps)

    def insert_after(self, anchor: Step, *steps: Step) -> None:
        """Put steps where they run just after another one; otherwise as `insert_before`."""
        self._insert(anchor, 1, steps)

    def _insert(self, anchor: Step, offset: int, steps: tuple[Step, ...]) -> None:
        places = [index for index, step in enumerate(self.steps) if step is anchor]
        if not places:
            raise ValueError(f"not in the plan: {anchor.describe()}")
        for step in steps:
            if step.phase != anchor.phase:
                raise ValueError(
                    f"{step.describe()} is of phase {step.phase!r}, {anchor.describe()} of {anchor.phase!r}"
                )
            step.rank = anchor.rank
        self.steps[places[0] + offset : places[0] + offset] = steps

    def lanes(self) -> dict[str, list[Move]]:
        """Each side's steps up to `START` in order, with the barriers worked out.

        A step waits for the last step of the other side that must be done ``by`` its phase. What it waits
        for is always earlier in the plan, so the two sides cannot wait for each other.
        """
        lanes: dict[str, list[Move]] = {RUNTIME: [], CONTAINER: []}
        waited = {RUNTIME: 0, CONTAINER: 0}
        for step in self.steps:
            if ORDER[step.phase] > ORDER[START]:
                break
            side = step.runs_on()
            other = lanes[CONTAINER if side == RUNTIME else RUNTIME]
            needed = _needed(other, ORDER[step.phase])
            wait = needed if needed > waited[side] else 0
            if wait:
                waited[side] = wait
                other[wait - 1].tell = True
            lanes[side].append(Move(step, wait))
            if step.spawns:
                waited[CONTAINER] = len(lanes[RUNTIME])
        return lanes

    def note(self) -> list[tuple[Step, str]]:
        """What `note_changes` compares with: the steps and what they are now."""
        return [(step, repr(step.record())) for step in self.steps]

    def note_changes(self, plugin: str, before: list[tuple[Step, str]]) -> None:
        """Put what a plugin left in ``steps`` in order, and note what it added, changed and dropped."""
        self._sort()
        known = {id(step): text for step, text in before}
        left = {id(step) for step in self.steps}
        for step in self.steps:
            if id(step) not in known:
                step.stage = step.stage or plugin
                self.amended.append(f"{plugin} added: {step.describe()}")
            elif repr(step.record()) != known[id(step)]:
                self.amended.append(f"{plugin} changed: {step.describe()}")
        for step, _ in before:
            if id(step) not in left:
                self.amended.append(f"{plugin} dropped: {step.describe()}")

    def of_phase(self, phase: str) -> list[Step]:
        """The steps of one phase."""
        return [step for step in self.steps if step.phase == phase]

    def of_stage(self, name: str) -> list[Step]:
        """The steps of one stage, by the name that `explain` shows."""
        return [step for step in self.steps if step.stage == name]

    def lasting(self) -> list[Step]:
        """The steps whose effect outlives the process, in the order they run."""
        return [step for step in self.steps if step.lasts]

    def to_json(self) -> list[dict[str, object]]:
        """The plan as data: one object a step, with the barriers (``waits_for``: index into this list)."""
        lanes = self.lanes()
        order = {id(step): index for index, step in enumerate(self.steps)}
        waits: dict[int, int] = {}
        for side, moves in lanes.items():
            other = lanes[CONTAINER if side == RUNTIME else RUNTIME]
            for move in moves:
                if move.wait:
                    waits[id(move.step)] = order[id(other[move.wait - 1].step)]
        return [_as_json(step, waits.get(id(step))) for step in self.steps]


def _needed(other: list[Move], phase: int) -> int:
    for count in range(len(other), 0, -1):
        step = other[count - 1].step
        by = ORDER[step.by] if step.by else ORDER[step.phase] + 1
        if by <= phase:
            return count
    return 0


def _as_json(step: Step, waits_for: int | None) -> dict[str, object]:
    fields = {key: value for key, value in vars(step).items() if key not in _COMMON}
    data: dict[str, object] = {
        "phase": step.phase,
        "side": step.runs_on(),
        "stage": step.stage,
        "step": type(step).__name__,
        "what": step.describe(),
        "where": step.where,
        "undone_by_delete": step.lasts,
        "fields": fields,
    }
    if step.edited_by:
        data["edited_by"] = step.edited_by
    if step.edited_for:
        data["edited_for"] = step.edited_for
    if waits_for is not None:
        data["waits_for"] = waits_for
    return data


_COMMON = ("phase", "side", "by", "stage", "where", "edited_by", "edited_for", "lasts", "rank")


def make(stages: Iterable[Stage], spec: Spec, host: Host) -> Plan:
    """Compile a bundle into its plan. Raises `ConfigError` with everything that stages found wrong."""
    return _compile([(stage, stage.plan) for stage in stages], spec, host)


def make_exec(stages: Iterable[Stage], spec: Spec, host: Host) -> Plan:
    """The plan for another process in the container ``spec.target``. Raises `ConfigError` as `make` does."""
    plan = _compile([(stage, stage.plan_exec) for stage in stages], spec, host)
    check_exec(plan)
    return plan


def make_mounts(stages: Iterable[Stage], spec: Spec, host: Host) -> Plan:
    """The plan that changes the mounts of the container ``spec.target``. Raises `ConfigError` as `make` does."""
    plan = _compile([(stage, stage.plan_mounts) for stage in stages], spec, host)
    check_exec(plan, "mounts")
    return plan


def check_exec(plan: Plan, verb: str = "exec") -> None:
    """Raise `Error` if a step of a plan of ``exec`` lasts."""
    for step in plan.lasting():
        raise Error(f"stage {step.stage!r}: a step of {verb} must not last: nothing would undo it: {step.describe()}")


def make_restore(stages: Iterable[Stage], spec: Spec, host: Host) -> Plan:
    """The stages' part of the plan for a container that CRIU restores. Raises `ConfigError` as `make` does."""
    return _compile([(stage, stage.plan_restore) for stage in stages], spec, host)


def make_update(stages: Iterable[Stage], resources: Resources, spec: Spec, host: Host) -> Plan:
    """The plan that changes limits to ``resources``, in the order of stages. Raises `ConfigError` as `make` does."""

    def planning(stage: Stage) -> Callable[[Spec, Host], Iterable[Step]]:
        return lambda spec, host: stage.plan_update(resources, spec, host)

    return _compile([(stage, planning(stage)) for stage in stages], spec, host, as_given=True)


def _compile(
    stages: list[tuple[Stage, Callable[[Spec, Host], Iterable[Step]]]], spec: Spec, host: Host, as_given: bool = False
) -> Plan:
    steps: list[Step] = []
    warnings: list[PlanWarning] = []
    refusals: list[ConfigError] = []
    for stage, planning in stages:
        try:
            for step in planning(spec, host):
                step.stage = step.stage or stage.name
                if isinstance(step, PlanWarning):
                    warnings.append(step)
                else:
                    steps.append(step)
        except ConfigError as error:
            error.stage = error.stage or stage.name
            if error.problems:  # config.json is malformed: errors of other stages add nothing
                raise
            refusals.append(error)
        except Error as error:
            error.stage = error.stage or stage.name
            raise
        except Exception as error:
            told = _mistake(stage, error)
            if told is None:
                raise
            raise told from error
    if refusals:
        raise _together(refusals)
    plan = Plan(steps, as_given)
    plan.warnings = warnings
    return plan


def _mistake(stage: Stage, error: Exception) -> Error | None:
    """What to say of an exception that a stage does not mean to raise; None for a fault of the program's own."""
    if not type(stage).__module__.startswith(_BUILT_IN):
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else "?"
        return Error(f"stage {stage.name!r} cannot plan: {reason(error)} ({place})", stage=stage.name)
    if isinstance(error, (KeyError, TypeError, AttributeError, ValueError)):
        # A replaced or absent validate-config lets anything through: still a clear error, not a traceback.
        return ConfigError(f"invalid config.json: {reason(error)}", stage=stage.name)
    return None


def _together(refusals: list[ConfigError]) -> ConfigError:
    if len(refusals) == 1:
        return refusals[0]
    first = refusals[0]
    message = "; ".join(f"{each.where}: {each.message}" if each.where else each.message for each in refusals)
    error = ConfigError(message, stage=first.stage, where=first.where)
    error.problems = [{"where": each.where, "message": each.message} for each in refusals]
    return error
