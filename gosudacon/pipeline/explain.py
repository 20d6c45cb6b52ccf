"""Showing a plan: a table for people, JSON for programs."""

from __future__ import annotations

import re

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from gosudacon.base import jsonio
from gosudacon.pipeline.step import PHASES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from gosudacon.base.errors import ConfigError

    Row = dict[str, Any]  # a step as `Plan.to_json` has it

    from gosudacon.pipeline.plan import Plan
    from gosudacon.pipeline.step import Host, Spec

_SIDE_STYLE = {"runtime": "cyan", "container": "magenta"}
_SIGNS = {"added": ("+", "green"), "changed": ("~", "yellow"), "removed": ("-", "red")}
_SIDE, _STAGE = 11, 17  # columns
_OTHER = {"runtime": "container", "container": "runtime"}


def as_json(
    plan: Plan,
    spec: Spec,
    host: Host,
    stages: Sequence[str] = (),
    findings: Sequence[Row] = (),
    more: Row | None = None,
) -> str:
    """The plan as one JSON object: bundle, id, host, assumed, edited, amended, warnings, findings, steps; and ``more``.

    ``stages``: the names of those whose steps are wanted; none for all. ``findings``: what create would trip over.
    """
    steps = plan.to_json()
    data = {
        "bundle": spec.bundle,
        "id": spec.id,
        "host": {key: value for key, value in vars(host).items() if key != "assumed"},
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


def as_table(plan: Plan, spec: Spec, host: Host, stages: Sequence[str] = (), head: Sequence[str] = ()) -> None:
    """Print the plan by phase: side, stage and what is done; barriers where one side waits for the other.

    ``stages``: as for `as_json`. ``head``: lines to stand above it.
    """
    console = Console(highlight=False, soft_wrap=False)
    console.print(f"[bold]{escape(spec.bundle)}[/] as container [bold]{escape(spec.id)}[/]")
    for above in head:
        for part in wrapped(above, console.width):
            console.print(escape(part), no_wrap=True, overflow="ignore", crop=False)
    steps = plan.to_json()
    shown = [step for step in steps if not stages or step["stage"] in stages]
    _edits(console, plan)
    heading = f" {'side':{_SIDE}}{'stage':{_STAGE}}what is done"
    console.print(Text(f"\n{heading}", "dim underline"), no_wrap=True, overflow="ignore", crop=False)
    for phase in PHASES:
        rows = [step for step in shown if step["phase"] == phase]
        if rows:
            for line in _phase(phase, rows, steps, console.width, narrow=bool(stages)):
                console.print(line, no_wrap=True, overflow="ignore", crop=False)
    _footnotes(console, plan, host, shown)


def show_findings(findings: Sequence[tuple[str, str, str]]) -> None:
    """Print what create would trip over: place, what it is, what to do."""
    console = Console(highlight=False, soft_wrap=True)
    for place, message, hint in findings:
        console.print(f"[red]finding[/]{escape(f' {place}' if place else '')}: {escape(message)}")
        if hint:
            console.print(f"  hint: {escape(hint)}")


def _edits(console: Console, plan: Plan) -> None:
    """What plugins changed of the configuration, as a difference."""
    plugin = ""
    for change in (each.to_json() for each in plan.edits or ()):
        if change["plugin"] != plugin:
            plugin = change["plugin"]
            console.print(f"\n[bold]config.json, edited by plugin {escape(plugin)}[/]")
        sign, style = _SIGNS[change["what"]]
        values = [jsonio.dumps(change[name]) for name in ("before", "after") if name in change]
        console.print(f"[{style}]{sign} {escape(change['path'])}[/] {escape(' → '.join(values))}")


def _phase(phase: str, rows: list[Row], steps: list[Row], width: int, narrow: bool) -> Iterator[Text]:
    yield Text()
    yield Text(phase, "bold")
    for step in rows:
        side, style = step["side"], _SIDE_STYLE[step["side"]]
        if "waits_for" in step and not narrow:
            waited = steps[step["waits_for"]]
            barrier = f"waits until {_OTHER[side]} has done: {waited['what']}"
            yield from _row((side, "⇄", _cut(barrier)), ("dim", "dim", "dim italic"), width)
        what = f"{step['what']} ↺" if step["undone_by_delete"] else step["what"]
        yield from _row((side, step["stage"], what), (style, "", ""), width)


def _row(cells: tuple[str, str, str], styles: tuple[str, str, str], width: int) -> Iterator[Text]:
    """The lines of a row; no name is broken, and nothing is behind the last word."""
    for number, part in enumerate(wrapped(cells[2], max(width - _SIDE - _STAGE - 1, 24))):
        line = Text(" ")
        for cell, style, size in zip(cells[:2], styles[:2], (_SIDE, _STAGE), strict=True):
            line.append(("" if number else cell).ljust(size), style)
        line.append(part, styles[2])
        if part.endswith("↺"):
            line.stylize("yellow", len(line) - 1)
        yield line


def wrapped(text: str, width: int) -> list[str]:
    """Lines of a text, broken behind blanks and what joins names; a name that is longer than a line, anywhere."""
    lines, line = [], ""
    for word in re.split(r"(?<=[ |,+])", text):
        while len(line) + len(word.rstrip()) > width:
            if not line:
                line, word = word[:width], word[width:]
            lines.append(line.rstrip())
            line = ""
        line += word
    return [*lines, line.rstrip()]


def _footnotes(console: Console, plan: Plan, host: Host, shown: list[dict[str, object]]) -> None:
    console.print()
    if any("waits_for" in step for step in shown):
        console.print("[dim]⇄[/] one side waits for the other")
    if any(step["undone_by_delete"] for step in shown):
        console.print("[yellow]↺[/] outlives the command; undone by delete and when a step fails")
    for note in plan.amended:
        console.print(f"[yellow]amended[/] {escape(note)}")
    for warning in plan.warnings:
        console.print(f"[yellow]warning[/] {escape(warning.describe())}")
    kernel = ".".join(str(number) for number in host.kernel)
    user = f"uid {host.euid}" + ("" if host.initial_userns else " in a user namespace")
    labels = f"AppArmor {_on(host.apparmor)}, SELinux {_on(host.selinux)}"
    console.print(f"[dim]host: Linux {kernel}, cgroup {host.cgroup_mode}, {user}, {labels}[/]")
    for assumption in host.assumed:
        console.print(f"[yellow]assumed[/] {escape(assumption)}")


def _cut(text: str, width: int = 54) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _on(enabled: bool) -> str:
    return "on" if enabled else "off"


def problems(error: ConfigError, path: str) -> str:
    """Everything that is wrong with a configuration, a line each: place in the file, JSON path, what it is.

    Below it stands what to do about it, where that is known.
    """
    lines = []
    for each in error.problems:
        place = f"{path}:{each['line']}:{each['column']}" if each.get("line") else path
        what = each.get("message") or f"found {each['found']}; allowed: {each['allowed']}"
        lines.append(": ".join(filter(None, (place, each.get("where"), what))) + "\n")
        if each.get("hint"):
            lines.append(f"hint: {each['hint']}\n")
    return "".join(lines)
