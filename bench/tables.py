"""What the tables say, as rows of text: computed here, drawn by :mod:`bench.draw`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .memory import Peaks
from .pods import Many
from .runtimes import BARE
from .scale import PHASES, ScaleRun
from .stats import Summary, percentile, ratio, summarise
from .timing import COMMANDS, Results, Series

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.container.kit.plugins import Cost

NONE = "-"
#: Runtimes every other is divided by, when they are in the run.
BASES = ("runc", "crun")


@dataclass(frozen=True)
class Table:
    """A title, column heads and rows; the first column is text, the others are figures."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    #: How many leading columns are words and not figures.
    words: int = 2


def milliseconds(nanoseconds: float | None) -> str:
    """Two decimals below 100 ms, one from there on; a dash for what was not measured."""
    if nanoseconds is None:
        return NONE
    value = nanoseconds / 1e6
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}"


def times(value: float | None) -> str:
    """A ratio with two decimals."""
    return NONE if value is None else f"{value:.2f}"


def mebibytes(kibibytes: float | None) -> str:
    """KiB as MiB with one decimal."""
    return NONE if kibibytes is None else f"{kibibytes / 1024:.1f}"


def summaries(results: Results) -> dict[str, dict[str, Summary]]:
    """Summary of the wall times of every series, in nanoseconds."""
    return {
        command: {name: summarise(series.wall) for name, series in found.items()} for command, found in results.items()
    }


def timing_table(results: Results, order: Sequence[str]) -> Table:
    """One row per command and runtime: spread, ratio to each base, distance from the bare interpreter."""
    found = summaries(results)
    bare = found.get(BARE, {}).get(BARE)
    bases = [base for base in BASES if base in order]
    rows = []
    for command in (*COMMANDS, BARE):
        for name in order:
            summary = found.get(command, {}).get(name)
            if summary is None:
                continue
            cpu = percentile(results[command][name].cpu, 50)
            row = [command, name, *_spread(summary), milliseconds(cpu)]
            for base in bases:
                other = found[command].get(base)
                row.append(times(ratio(summary.median, other.median if other else None)))
            row.append(milliseconds(summary.median - bare.median) if bare and command != BARE else NONE)
            rows.append(tuple(row))
    heads = ("command", "runtime", "median", "min", "p10..p90", "cpu", *(f"x {b}" for b in bases), "- bare")
    return Table("wall time, milliseconds", heads, _grouped(rows))


def clients_table(results: Results, order: Sequence[str]) -> Table:
    """One row per client and runtime; no processor time, for most of it is spent in daemons."""
    found = summaries(results)
    bases = [base for base in BASES if base in order]
    rows = []
    for client, by in found.items():
        for name in order:
            if name in by:
                others = [by[base].median if base in by else None for base in bases]
                ratios = [times(ratio(by[name].median, other)) for other in others]
                rows.append((client, name, *_spread(by[name]), *ratios))
    heads = ("client", "runtime", "median", "min", "p10..p90", *(f"x {base}" for base in bases))
    return Table("run --rm by a client: wall time, milliseconds", heads, _grouped(rows))


def pods_table(results: Results, order: Sequence[str]) -> Table:
    """One row per measure and runtime: wall time, and the processor time of all but clients and daemons."""
    bases = [base for base in BASES if base in order]
    rows = []
    for what, by in results.items():
        for name in order:
            if name in by:
                wall, cpu = summarise(by[name].wall), summarise(by[name].cpu)
                row = [what, name, milliseconds(wall.median), milliseconds(cpu.median)]
                for base in bases:
                    other = by.get(base)
                    row.append(times(ratio(wall.median, summarise(other.wall).median if other else None)))
                    row.append(times(ratio(cpu.median, summarise(other.cpu).median if other else None)))
                rows.append(tuple(row))
    heads = (
        "what",
        "runtime",
        "wall",
        "cpu",
        *(head for base in bases for head in (f"wall x {base}", f"cpu x {base}")),
    )
    return Table("by containerd: medians, milliseconds; cpu without ctr and containerd", heads, _grouped(rows))


def many_table(many: Mapping[str, Many], ends: int) -> Table:
    """A row per runtime: how long the first and the last pods took, the memory of a pod's shim, and what is left."""
    rows = []
    for name, found in many.items():
        first, last = (percentile(part, 50) for part in (found.made[:ends], found.made[-ends:]))
        memory = [mebibytes(percentile(part, 50)) if part else NONE for part in (found.private, found.proportional)]
        removed = milliseconds(percentile(found.removed, 50))
        left = f"{len(found.left)}: {found.left[0]}" if found.left else "nothing"
        cells = (milliseconds(first), milliseconds(last), times(ratio(last, first)), removed, *memory, left)
        rows.append((name, str(found.count), *cells))
    heads = (
        "runtime",
        "pods",
        f"first {ends}",
        f"last {ends}",
        "ratio",
        "removal",
        "private, MiB",
        "share, MiB",
        "left",
    )
    return Table("many pods at a time: medians, milliseconds each", heads, tuple(rows), words=1)


def plugins_table(imports: Mapping[str, Cost], created: Mapping[str, Series], base: str) -> Table:
    """A row per plugin: what importing it takes, and ``create`` of a container that it has nothing to do with."""
    rows = []
    medians = {name: (percentile(found.wall, 50), percentile(found.cpu, 50)) for name, found in created.items()}
    for name in (base, *sorted({*medians, *imports} - {base})):
        wall, cpu = medians.get(name, (None, None))
        cost = imports.get(name)
        cells: tuple[str, ...] = (NONE,) * 3
        if cost is not None:
            spent = (cost["milliseconds"], cost["processor_milliseconds"])
            cells = (str(cost["modules"]), *(f"{value:.2f}" for value in spent))
        added = [NONE, NONE]
        if name != base and name in medians:
            added = [f"{(mine - other) / 1e6:+.2f}" for mine, other in zip(medians[name], medians[base], strict=True)]
        rows.append((name, *cells, milliseconds(wall), milliseconds(cpu), *added))
    heads = ("plugin", "modules", "import", "cpu", "create", "cpu", "added", "cpu")
    return Table("medians, milliseconds: importing all of it; create where it has nothing to do", heads, tuple(rows), 1)


def skipped_table(skipped: Sequence[tuple[str, str]]) -> Table:
    """What could not be measured, and why."""
    return Table("not measured", ("what", "why"), tuple(skipped))


def _spread(summary: Summary) -> list[str]:
    span = f"{milliseconds(summary.p10)}..{milliseconds(summary.p90)}"
    return [milliseconds(summary.median), milliseconds(summary.minimum), span]


def _grouped(rows: list[tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    """The rows, with the first column blank where it repeats the row above."""
    result: list[tuple[str, ...]] = []
    last = None
    for row in rows:
        result.append(("", *row[1:]) if row[0] == last else row)
        last = row[0]
    return tuple(result)


def peak_table(peaks: Peaks, order: Sequence[str]) -> Table:
    """Median peak memory by command; a column per runtime."""
    names = [name for name in order if name in peaks]
    commands = [c for c in (*COMMANDS, BARE) if any(c in peaks[name] for name in names)]
    rows = []
    for command in commands:
        cells = []
        for name in names:
            samples = peaks[name].get(command)
            cells.append(mebibytes(percentile(samples, 50)) if samples else NONE)
        rows.append((command, *cells))
    return Table("peak memory of a command (ru_maxrss), MiB", ("command", *names), tuple(rows), words=1)


def waiting_table(waiting: dict[str, dict[str, list[int]]]) -> Table:
    """Median memory of an init between create and start; a row per runtime."""
    rows = [
        (name, *(mebibytes(percentile(found[key], 50)) for key in ("Private", "Pss", "Rss")))
        for name, found in waiting.items()
    ]
    heads = ("runtime", "private", "pss", "rss")
    return Table("memory of an init that waits for start, MiB", heads, tuple(rows), words=1)


def scale_table(runs: Sequence[ScaleRun]) -> Table:
    """A row per scale run: each phase per container, the whole, and what was left over."""
    rows = []
    for one in runs:
        cells = [
            milliseconds(one.phases[p] / (1 if p == "list" else one.containers)) if p in one.phases else NONE
            for p in PHASES
        ]
        rows.append((str(one.slots), one.runtime, *cells, f"{one.total / 1e9:.2f}", str(one.left)))
    count = runs[0].containers if runs else 0
    title = f"{count} containers: milliseconds per container (list: one call), seconds in all"
    return Table(title, ("slots", "runtime", *PHASES, "all, s", "left over"), _grouped(rows))
