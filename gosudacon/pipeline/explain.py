"""Showing a plan: a table for people, JSON for programs."""

from __future__ import annotations

import re

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from gosudacon.base import jsonio
from gosudacon.pipeline.docstrings import about
from gosudacon.pipeline.step import PHASES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from gosudacon.base.errors import ConfigError
    from gosudacon.pipeline.docstrings import About

    Row = dict[str, Any]  # a step as `Plan.to_json` has it

    from gosudacon.pipeline.plan import Plan
    from gosudacon.pipeline.spec import Host, Spec

_SIDE_STYLE = {"runtime": "cyan", "container": "magenta"}
_SIGNS = {"added": ("+", "green"), "changed": ("~", "yellow"), "removed": ("-", "red")}
_SIDE, _STAGE, _TIME = 11, 17, 11  # columns
_DETAILS = 8  # lines of what a step sets, unless its stage alone is shown
_OTHER = {"runtime": "container", "container": "runtime"}


class Timings:
    """What was measured of a plan. ``title``: what and how long in all.

    ``steps``: index of a step -> ``ns`` it took, ``processor_ns`` of them, ``status``, ``message`` of a failure;
    ``waits``: (side, index of the step that was waited for) -> nanoseconds; ``notes``: what does not fit.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.command = self.id = ""
        self.duration = 0
        self.steps: dict[int, Row] = {}
        self.waits: dict[tuple[str, int], int] = {}
        self.notes: list[str] = []

    def to_json(self) -> Row:
        """What the JSON of the plan has in addition to the steps, whose times they have themselves."""
        return {"command": self.command, "id": self.id, "duration_ns": self.duration, "notes": self.notes}

    def text(self, step: Row) -> str:
        """The time of a step, as `_rows` has it, for the table."""
        took = self.steps.get(step["index"])
        return "not run" if took is None else _ms(took["ns"])

    def waited(self, step: Row) -> str:
        """How long a step's side waited before it."""
        took = self.waits.get((step["side"], step["waits_for"]))
        return "" if took is None else _ms(took)


def as_json(
    plan: Plan,
    spec: Spec,
    host: Host,
    stages: Sequence[str] = (),
    findings: Sequence[Row] = (),
    more: Row | None = None,
    timings: Timings | None = None,
    long: bool = False,
) -> str:
    """The plan as one JSON object: bundle, id, host, assumed, edited, amended, warnings, findings, steps; and ``more``.

    ``stages``: the names of those whose steps are wanted; none for all. ``findings``: what create would fail at.
    """
    steps = plan.to_json()
    if timings is not None:
        more = {**(more or {}), "timings": timings.to_json()}
        for index, step in enumerate(steps):
            step["time"] = timings.steps.get(index)
    if long:
        for row, made_of in zip(steps, plan.steps, strict=True):
            row["about"] = about(type(made_of)).to_json()
    data = {
        "bundle": spec.bundle,
        "id": spec.id,
        "host": host.known(),
        "assumed": list(host.assumed),
        "edited": [change.to_json() for change in plan.edits or ()],
        "amended": plan.amended,
        "warnings": [
            {"where": each.where, "stage": each.stage, "message": each.message}
            for each in plan.warnings
            if not stages or each.stage in stages
        ],
        "findings": list(findings),
        **(more or {}),
        "steps": [step for step in steps if not stages or step["stage"] in stages],
    }
    return jsonio.dumps(data, 2) + "\n"


def as_table(
    plan: Plan,
    spec: Spec,
    host: Host,
    stages: Sequence[str] = (),
    head: Sequence[str] = (),
    timings: Timings | None = None,
    long: bool = False,
) -> None:
    """Print the plan by phase: side, stage and what is done; barriers where one side waits for the other.

    ``stages``: as for `as_json`. ``head``: lines above it. ``timings``: a column more. ``long``: below
    each step why it is done.
    """
    console = Console(highlight=False, soft_wrap=False)
    console.print(Text.assemble((printable(spec.bundle), "bold"), " as container ", (spec.id, "bold")), soft_wrap=True)
    for above in head:
        for part in wrapped(above, console.width):
            console.print(Text(part), no_wrap=True, overflow="ignore", crop=False)
    steps = _rows(plan, long)
    shown = [step for step in steps if not stages or step["stage"] in stages]
    _edits(console, plan)
    columns = _Columns(console.width, timings)
    console.print()
    for line in columns.lines(("side", "stage", "time", "what is done"), ("dim underline",) * 4):
        console.print(line, no_wrap=True, overflow="ignore", crop=False)
    for phase in PHASES:
        rows = [step for step in shown if step["phase"] == phase]
        if rows:
            for line in _phase(phase, rows, steps, columns, bool(stages), long):
                console.print(line, no_wrap=True, overflow="ignore", crop=False)
    _footnotes(console, plan, host, shown, timings)


def _rows(plan: Plan, long: bool) -> list[Row]:
    """The steps as JSON has them, with their index and what they set; ``long``: and what is said about them."""
    rows: list[Row] = []
    for index, (row, step) in enumerate(zip(plan.to_json(), plan.steps, strict=True)):
        rows.append({**row, "index": index, "details": step.details()})
        if long:
            rows[-1]["about"] = about(type(step))
    return rows


def show_findings(findings: Sequence[tuple[str, str, str]]) -> None:
    """Print what create would fail at: place, what it is, what to do."""
    console = Console(highlight=False, soft_wrap=True)
    for place, message, hint in findings:
        text = printable(f" {place}: {message}" if place else f": {message}")
        console.print(Text("finding", "red").append(text, "default"))
        if hint:
            console.print(Text(f"  hint: {printable(hint)}"))


def _edits(console: Console, plan: Plan) -> None:
    """What plugins changed of the configuration, as a difference."""
    plugin = why = ""
    for change in (each.to_json() for each in plan.edits or ()):
        if change["plugin"] != plugin:
            plugin, why = change["plugin"], ""
            console.print(f"\n[bold]config.json, edited by plugin {escape(plugin)}[/]")
        if change.get("for", "") != why:
            why = change.get("for", "")
            console.print(Text(f"for {why}:" if why else "besides:", "dim"))
        sign, style = _SIGNS[change["what"]]
        values = [jsonio.dumps(change[name]) for name in ("before", "after") if name in change]
        _say(console, f"{sign} {change['path']}", style, " → ".join(values))


def _phase(
    phase: str, rows: list[Row], steps: list[Row], columns: _Columns, narrow: bool, long: bool
) -> Iterator[Text]:
    yield Text()
    yield Text(phase, "bold")
    timings = columns.timings
    for step in rows:
        side, style = step["side"], _SIDE_STYLE[step["side"]]
        if "waits_for" in step and not narrow:
            waited = steps[step["waits_for"]]
            barrier = f"waits until {_OTHER[side]} has done: {waited['what']}"
            time = timings.waited(step) if timings else ""
            yield from columns.lines((side, "⇄", time, _cut(barrier)), ("dim", "dim", "dim", "dim italic"))
        what = f"{step['what']} ← {step['edited_for']}" if step.get("edited_for") else step["what"]
        what = f"{what} ↺" if step["undone_by_delete"] else what
        time = timings.text(step) if timings else ""
        yield from columns.lines((side, step["stage"], time, what), (style, "", "dim" if time == "not run" else "", ""))
        yield from columns.below(step["details"], everything=narrow or long)
        if long:
            yield from columns.why(step["about"])


class _Columns:
    """Rows of side, stage, with ``timings`` time, and text, which is wrapped into what is left of ``width``."""

    def __init__(self, width: int, timings: Timings | None) -> None:
        self.timings = timings
        self.said: list[About] = []
        self.sizes = (_SIDE, _STAGE, _TIME if timings else 0)
        self.rest = max(width - sum(self.sizes) - 1, 24)

    def lines(self, cells: tuple[str, str, str, str], styles: tuple[str, ...]) -> Iterator[Text]:
        """The lines of a row; no name is broken, and nothing is behind the last word."""
        side, stage, time, text = cells
        first = (side, stage, time.rjust(_TIME - 2))
        for number, part in enumerate(wrapped(text, self.rest)):
            line = Text(" ")
            for cell, style, size in zip(first, styles, self.sizes, strict=False):
                line.append(("" if number or not size else cell).ljust(size), style)
            line.append(part, styles[3])
            if part.endswith("↺"):
                line.stylize("yellow", len(line) - 1)
            yield line

    def why(self, about: About) -> Iterator[Text]:
        """Why a step is done, what would be missing, and where to read on, under its line; once for each kind."""
        if about in self.said:
            return
        self.said.append(about)
        margin = " " * (1 + sum(self.sizes) + 2)
        said = [
            *(("", text) for text in about.paragraphs()),
            ("why: ", about.why),
            ("without it: ", about.without),
            ("see: ", about.see),
        ]
        for label, text in said:
            for number, part in enumerate(wrapped(label + text, max(self.rest - 2, 22)) if text else ()):
                line = Text(margin + part, "dim" if label else "")
                if not number and label:
                    line.stylize("bold", len(margin), len(margin) + len(label) - 1)
                yield line
        yield Text()

    def below(self, details: Sequence[str], everything: bool) -> Iterator[Text]:
        """What a step sets, under its line; ``everything``: however long it is."""
        margin = " " * (1 + sum(self.sizes) + 2)
        parts = [part for detail in details for part in wrapped(detail, max(self.rest - 2, 22))]
        shown = parts if everything or len(parts) <= _DETAILS + 1 else parts[:_DETAILS]
        for part in shown:
            yield Text(margin + part, "dim")
        if len(shown) < len(parts):
            yield Text(f"{margin}… {len(parts) - len(shown)} more lines: --long shows them", "dim")


def wrapped(text: str, width: int) -> list[str]:
    """Lines of a text, broken behind blanks and what joins names; a name longer than a line behind ``/``, or anywhere.

    What a terminal would obey is escaped, as are ends of lines: it may come from an untrusted config.json.
    """
    lines, line = [], ""
    for word in re.split(r"(?<=[ |,+])", printable(text)):
        while len(line) + len(word.rstrip()) > width:
            if not line:
                end = word.rfind("/", 1, width) + 1 or width
                line, word = word[:end], word[end:]
            lines.append(line.rstrip())
            line = ""
        line += word
    return [*lines, line.rstrip()]


def printable(text: str) -> str:
    """The text with what a terminal would obey as an escape of a string: ``\\n``, ``\\x1b``."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _say(console: Console, label: str, style: str, text: str) -> None:
    """A line with a coloured word before it, wrapped as the table is."""
    for number, part in enumerate(wrapped(f"{label} {text}".strip(), max(console.width, 24))):
        line = Text(part)
        if not number and label:
            line.stylize(style, 0, len(label))
        console.print(line, no_wrap=True, overflow="ignore", crop=False)


def _footnotes(console: Console, plan: Plan, host: Host, shown: list[Row], timings: Timings | None) -> None:
    console.print()
    if timings is not None:
        _times(console, shown, timings)
    if any("waits_for" in step for step in shown):
        _say(console, "⇄", "dim", "one side waits for the other")
    if any(step["undone_by_delete"] for step in shown):
        _say(console, "↺", "yellow", "outlives the command; undone by delete and when a step fails")
    for note in plan.amended:
        _say(console, "amended", "yellow", note)
    for warning in plan.warnings:
        _say(console, "warning", "yellow", warning.describe())
    _say(console, describe_host(host), "dim", "")
    for assumption in host.assumed:
        _say(console, "assumed", "yellow", assumption)


def _times(console: Console, shown: list[Row], timings: Timings) -> None:
    """What the times are of, and which steps have none."""
    took = [timings.steps[step["index"]] for step in shown if step["index"] in timings.steps]
    rest = len(shown) - len(took)
    line = f"{timings.title}, {_ms(sum(each['ns'] for each in took))} of it in steps of this plan ({len(took)})"
    _say(console, "", "", f"{line}; not run in it: {rest}" if rest else line)
    for step in shown:
        failed = timings.steps.get(step["index"], {}).get("message")
        if failed:
            _say(console, "failed", "red", f"{step['what']}: {failed}")
    for note in timings.notes:
        _say(console, "times", "yellow", note)


def describe_host(host: Host) -> str:
    """The facts about the host that people ask for first, in one line."""
    kernel = ".".join(str(number) for number in host.kernel)
    user = f"uid {host.euid}" + ("" if host.initial_userns else " in a user namespace")
    labels = f"AppArmor {_on(host.apparmor)}, SELinux {_on(host.selinux)}"
    return f"host: Linux {kernel}, cgroup {host.cgroup_mode}, {user}, {labels}"


def _cut(text: str, width: int = 54) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _ms(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e6:.2f} ms"


def _on(enabled: bool) -> str:
    return "on" if enabled else "off"


def problems(error: ConfigError, path: str) -> str:
    """Everything that is wrong with a configuration, a line each: place in the file, JSON path, what it is.

    The line below says what to do about it, where that is known.
    """
    lines = []
    for each in error.problems:
        place = f"{path}:{each['line']}:{each['column']}" if each.get("line") else path
        what = each.get("message") or f"found {each['found']}; allowed: {each['allowed']}"
        lines.append(": ".join(filter(None, (place, each.get("where"), what))) + "\n")
        if each.get("hint"):
            lines.append(f"hint: {each['hint']}\n")
    return "".join(lines)
