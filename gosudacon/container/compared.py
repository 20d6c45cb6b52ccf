"""Showing what differs between two plans."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from gosudacon.base import jsonio
from gosudacon.pipeline.explain import describe_host, wrapped
from gosudacon.pipeline.step import PHASES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.container.comparison import Comparison
    from gosudacon.pipeline.explain import Row

_STYLES = {"+": "green", "-": "red", "~": "yellow", "⇅": "cyan"}
_SIDE, _STAGE = 11, 17  # columns


def show(comparison: Comparison) -> None:
    """Print the differences by phase."""
    console = Console(highlight=False, soft_wrap=False)
    for line in _lines(comparison, console.width):
        console.print(line, no_wrap=True, overflow="ignore", crop=False)


def _lines(comparison: Comparison, width: int) -> Iterator[Text]:
    one, other = comparison.one, comparison.other
    for sign, each in (("---", one), ("+++", other)):
        yield from (Text(part, "bold") for part in wrapped(f"{sign} {each.spec.bundle} as {each.spec.id}", width))
        yield from (Text(f"    {part}", "dim") for part in wrapped(describe_host(each.host), width - 4))
    for phase in PHASES:
        found = [*_of_phase(comparison, phase)]
        if found:
            yield Text()
            yield Text(phase, "bold")
        for sign, row, below in found:
            yield from _row(sign, row, below, width)
    if comparison.equal:
        yield Text("\nno difference")
        return
    counts = {name: len(getattr(comparison, name)) for name in ("removed", "added", "changed", "moved")}
    yield Text("\n" + ", ".join(f"{count} {name}" for name, count in counts.items() if count))
    for sign, reasons in (("-", comparison.lost), ("+", comparison.gained)):
        for reason in reasons:
            text = f"{sign} shared with the host: {reason.what} ({reason.level})"
            yield from (Text(part, _STYLES[sign]) for part in wrapped(text, width))
    if one.risk() != other.risk():
        yield Text(f"risk {one.risk()} → {other.risk()}")


def _of_phase(comparison: Comparison, phase: str) -> Iterator[tuple[str, Row, list[str]]]:
    yield from (("-", row, []) for row in comparison.removed if row["phase"] == phase)
    yield from (("+", row, []) for row in comparison.added if row["phase"] == phase)
    for change in comparison.changed:
        if change.after["phase"] == phase:
            was = [f"was: {change.before['what']}"] if change.before["what"] != change.after["what"] else []
            fields = [f"{name}: {_field(*values)}" for name, values in change.fields.items()]
            yield "~", change.after, [*was, *fields]
    yield from (("⇅", row, ["runs earlier or later"]) for row in comparison.moved if row["phase"] == phase)


def _row(sign: str, row: Row, below: list[str], width: int) -> Iterator[Text]:
    rest = max(width - _SIDE - _STAGE - 2, 24)
    margin = " " * (2 + _SIDE + _STAGE)
    for number, part in enumerate(wrapped(row["what"], rest)):
        head = margin if number else f"{sign} {row['side']:{_SIDE}}{row['stage']:{_STAGE}}"
        yield Text(head + part, _STYLES[sign])
    for line in below:
        for part in wrapped(line, rest - 2):
            yield Text(f"{margin}  {part}", "dim")


def _field(before: object, after: object) -> str:
    """What became of a field: of a list the elements that went and came, unless only their order differs."""
    if isinstance(before, list) and isinstance(after, list):
        gone = [f"-{_value(each)}" for each in before if each not in after]
        come = [f"+{_value(each)}" for each in after if each not in before]
        if gone or come:
            return " ".join(gone + come)
    return f"{_value(before)} → {_value(after)}"


def _value(value: object) -> str:
    return value if isinstance(value, str) and value else jsonio.dumps(value)
