"""The project's own targets, judged on a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .clients import SHIM
from .memory import Peaks
from .pods import CTR, ENDS, EXEC, LOADED, POD, Many
from .runtimes import BARE
from .stats import percentile
from .tables import Table, mebibytes, milliseconds, summaries
from .timing import LIFECYCLE, Results

SUBJECT = "gosudacon"
#: create, run and exec take at most this part of runc's time.
FRACTION_OF_RUNC = 0.8
#: start, state, kill and delete take at most this much longer than the bare interpreter, nanoseconds.
ABOVE_BARE = 3_000_000


#: What pods and processes of gosudacon's own shim take at most: a part of runc's wall or processor time.
PODS = ((CTR, 0.65, False), (CTR, 0.5, True), (POD, 0.6, False), (LOADED, 0.6, False), (EXEC, 0.5, False))
#: Of many pods the last take at most so many times as long as the first.
LAST_PODS = 1.1


@dataclass(frozen=True)
class Goal:
    """One target and how far it was met; ``figure`` and ``limit`` have the same unit."""

    name: str
    figure: float
    limit: float
    unit: str

    @property
    def met(self) -> bool:
        """Whether the figure is within the limit."""
        return self.figure <= self.limit


def judge(results: Results, peaks: Peaks) -> list[Goal]:
    """Every target whose figures are in the run; none when gosudacon is not in it."""
    medians = {
        command: {name: summary.median for name, summary in found.items()}
        for command, found in summaries(results).items()
    }
    goals = []
    for command in ("create", "run", "exec", LIFECYCLE):
        part = 1.0 if command == LIFECYCLE else FRACTION_OF_RUNC
        found = medians.get(command, {})
        if SUBJECT in found and "runc" in found:
            text = "runc" if part == 1 else f"{part} x runc"
            goals.append(Goal(f"{command} ≤ {text}", found[SUBJECT], part * found["runc"], "ms"))
    bare = medians.get(BARE, {}).get(BARE)
    for command in ("start", "state", "kill", "delete"):
        mine = medians.get(command, {}).get(SUBJECT)
        if mine is not None and bare is not None:
            goals.append(Goal(f"{command} ≤ bare + {ABOVE_BARE // 10**6} ms", mine, bare + ABOVE_BARE, "ms"))
    create = [peaks.get(name, {}).get("create") for name in (SUBJECT, "runc")]
    if create[0] and create[1]:
        mine, other = percentile(create[0], 50), percentile(create[1], 50)
        goals.append(Goal("peak memory of create ≤ runc", mine, other, "MiB"))
    return goals


def judge_clients(results: Results) -> list[Goal]:
    """The targets of the clients' run: with gosudacon none takes longer than with runc."""
    goals = []
    for client, found in summaries(results).items():
        if SUBJECT in found and "runc" in found:
            mine, other = found[SUBJECT].median, found["runc"].median
            goals.append(Goal(f"{client} run --rm ≤ with runc", mine, other, "ms"))
    return goals


def judge_pods(results: Results, many: Mapping[str, Many]) -> list[Goal]:
    """The targets of gosudacon's own shim, compared with runc through containerd's."""
    goals = []
    for what, part, cpu in PODS:
        mine, other = (results.get(what, {}).get(name) for name in (SHIM, "runc"))
        if mine is not None and other is not None:
            figure, base = (percentile(one.cpu if cpu else one.wall, 50) for one in (mine, other))
            goals.append(Goal(f"{what}{', cpu' if cpu else ''} ≤ {part} x runc", figure, part * base, "ms"))
    found = many.get(SHIM)
    if found is not None:
        first, last = (percentile(ends, 50) for ends in (found.made[:ENDS], found.made[-ENDS:]))
        goals.append(Goal(f"last of many pods ≤ {LAST_PODS} x first", last, LAST_PODS * first, "ms"))
        for name, used, limit in (("own", found.private, 1.6), ("share of", found.proportional, 3.3)):
            if used:
                goals.append(Goal(f"{name} memory of a shim", percentile(used, 50), limit * 1e6 / 1024, "MiB"))
    return goals


def goals_table(goals: list[Goal]) -> Table:
    """A row per target."""
    shown: dict[str, Callable[[float], str]] = {"ms": milliseconds, "MiB": mebibytes}
    rows = []
    for goal in goals:
        show = shown[goal.unit]
        figure, limit, excess = (
            f"{show(value)} {goal.unit}" for value in (goal.figure, goal.limit, goal.figure - goal.limit)
        )
        rows.append((goal.name, figure, limit, "met" if goal.met else f"missed by {excess}"))
    return Table("targets", ("target", "measured", "limit", ""), tuple(rows), words=1)
