"""Showing a plan: a table for people, JSON for programs."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gosudacon.base import jsonio
from gosudacon.pipeline.step import PHASES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from gosudacon.base.errors import ConfigError

    Row = dict[str, Any]  # a step as `Plan.to_json` has it

    from gosudacon.pipeline.plan import Plan
    from gosudacon.pipeline.step import Host, Spec

_SIDE_STYLE = {"runtime": "cyan", "container": "magenta"}
_SIGNS = {"added": ("+", "green"), "changed": ("~", "yellow"), "removed": ("-", "red")}
_OTHER = {"runtime": "container", "container": "runtime"}


def as_json(plan: Plan, spec: Spec, host: Host, stages: Sequence[str] = (), findings: Sequence[Row] = ()) -> str:
    """The plan as one JSON object: bundle, id, host, assumed, edited, amended, warnings, findings, steps.

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
        "steps": [step for step in steps if not stages or step["stage"] in stages],
    }
    return jsonio.dumps(data, 2) + "\n"


def as_table(plan: Plan, spec: Spec, host: Host, stages: Sequence[str] = ()) -> None:
    """Print the plan by phase: side, stage and what is done; barriers where one side waits for the other.

    ``stages``: as for `as_json`.
    """
    console = Console(highlight=False, soft_wrap=False)
    console.print(f"[bold]{escape(spec.bundle)}[/] as container [bold]{escape(spec.id)}[/]")
    steps = plan.to_json()
    shown = [step for step in steps if not stages or step["stage"] in stages]
    _edits(console, plan)
    for phase in PHASES:
        rows = [step for step in shown if step["phase"] == phase]
        if rows:
            console.print(_phase(phase, rows, steps, narrow=bool(stages)))
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


def _phase(phase: str, rows: list[Row], steps: list[Row], narrow: bool) -> Table:
    table = Table(
        title=f"[bold]{phase}[/]",
        title_justify="left",
        title_style="",
        box=box.SIMPLE_HEAD,
        show_header=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        expand=False,
    )
    table.add_column("side", width=9)
    table.add_column("stage", width=15)
    table.add_column("what", overflow="fold")
    for step in rows:
        if "waits_for" in step and not narrow:
            waited = steps[step["waits_for"]]
            barrier = f"waits until {_OTHER[step['side']]} has done: {waited['what']}"
            table.add_row(f"[dim]{step['side']}[/]", "[dim]⇄[/]", f"[dim italic]{escape(_cut(barrier))}[/]")
        mark = " [yellow]↺[/]" if step["undone_by_delete"] else ""
        table.add_row(
            f"[{_SIDE_STYLE[step['side']]}]{step['side']}[/]",
            escape(step["stage"]),
            escape(step["what"]) + mark,
        )
    return table


def _footnotes(console: Console, plan: Plan, host: Host, shown: list[dict[str, object]]) -> None:
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
