"""A trace in the terminal: a line for each span that matters, with a bar where in time it lies."""

from __future__ import annotations

import sys

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from gosudacon.trace import analysis
from gosudacon.trace.model import AROUND, CONTAINER, CUT, FAILED, OPEN, SEEN, SIDES, STEP, UNDO, WAIT, Span, Trace

_NARROWEST_BAR = 16  # columns; with less room no bar is drawn
_LINES = 24  # of the longest spans, unless all are asked for
_STYLES = {AROUND: "dim", STEP: "", WAIT: "yellow", UNDO: "magenta"}
_MARKS = {FAILED: "✗", CUT: "✗", OPEN: "…", SEEN: "→"}
_PLAIN = str.maketrans({"█": "#", "░": ".", "┄": "-", "│": "|", "✗": "x", "…": "~", "→": ">", "⟶": ">", "±": "~"})


def console(width: int = 0) -> Console:
    """Standard output as wide as the terminal, 100 columns where it is none; ``width``: this wide."""
    made = Console(highlight=False, width=width or None, soft_wrap=False)
    if not width and not sys.stdout.isatty():
        made = Console(highlight=False, width=100)
    return made


def show(trace: Trace, console: Console, everything: bool = False) -> None:
    """Print the trace; ``everything``: a line for every span."""
    plain = not (console.encoding or "").lower().startswith("utf")
    for line in _lines(trace, console.width, everything):
        console.print(Text(line.plain.translate(_PLAIN)) if plain else line, overflow="crop", no_wrap=True, crop=True)


def _lines(trace: Trace, width: int, everything: bool) -> list[Text]:
    spans = sorted(trace.spans, key=lambda span: (span.start, SIDES.index(span.side)))
    least = 0 if everything else _threshold(spans)
    shown = [span for span in spans if span.duration >= least or span.status in (FAILED, CUT)]
    name, bar = _columns(width)
    lines = [Text(f"gosudacon {trace.command} {trace.id}", "bold"), Text()]
    axis = _axis(trace.duration, bar)
    lines.append(Text(f"{'':2}{_cell('span', name)} {'time':>9}  {axis}".rstrip(), "dim"))
    lines += [_line(span, trace, name, bar) for span in shown]
    hidden = [span for span in spans if span not in shown]
    if hidden:
        what = f"{len(hidden)} shorter than {_ms(least)}"
        lines.append(Text(f"  {_cell(what, name)} {_ms(sum(span.duration for span in hidden)):>9}", "dim"))
    lines.append(Text())
    lines += _legend(bar)
    lines += _summary(trace, width)
    return lines


def _threshold(spans: list[Span]) -> int:
    longest = sorted((span.duration for span in spans), reverse=True)
    return longest[_LINES - 1] if len(longest) > _LINES else 0


def _columns(width: int) -> tuple[int, int]:
    name = max(24, min(width * 2 // 5, 72))
    bar = width - name - 15
    return (name, bar) if bar >= _NARROWEST_BAR else (width - 13, 0)


def _line(span: Span, trace: Trace, name: int, bar: int) -> Text:
    side = "c" if span.side == CONTAINER else "r"
    title = f"{_MARKS[span.status]} {span.name}" if span.status in _MARKS else span.name
    style = "bold red" if span.status in (FAILED, CUT) else _STYLES[span.kind]
    line = Text(f"{side} {_cell(title, name)} {_ms(span.duration):>9}", style)
    if bar:
        line.append("  ")
        line.append(_bar(span, trace.duration, bar), "cyan" if span.side == CONTAINER else "green")
    return line


def _bar(span: Span, total: int, width: int) -> str:
    start = min(span.start * width // max(total, 1), width - 1)
    end = max(min(-(-span.end * width // max(total, 1)), width), start + 1)
    length = end - start
    if span.kind == WAIT:
        return " " * start + "┄" * length
    busy = length if span.processor < 0 else -(-length * span.processor // max(span.duration, 1))
    busy = min(max(busy, 0), length)
    return " " * start + "█" * busy + "░" * (length - busy)


def _axis(total: int, width: int) -> str:
    if not width:
        return ""
    right = _ms(total)
    return "0" + right.rjust(width - 1)


def _legend(bar: int) -> list[Text]:
    text = "r runtime, c container"
    if bar:
        text += "; █ on the processor, ░ waiting in the kernel, ┄ waiting for the other side"
    return [Text(text, "dim"), Text()]


def _summary(trace: Trace, width: int) -> list[Text]:
    sums = analysis.sums(trace)
    steps = f"steps {_ms(sums['steps'])}, of which {_ms(sums['processor'])} on the processor"
    names = {"waits": "waits", "around": "around steps", "engine": "between steps"}
    rest = [f"{name} {_ms(sums[key])}" for key, name in names.items()]
    lines = _wrapped(f"{_ms(sums['command'])} in all: ", [steps, *rest], width, "; ")
    path = [part for part in analysis.critical_path(trace) if part.duration * 50 >= trace.duration]
    lines += _wrapped("critical path: ", [f"{part.name} {_ms(part.duration)}" for part in path], width)
    lines += _wrapped("to be faster: ", analysis.advice(trace), width, "; ")
    if trace.error:
        lines.append(Text(f"failed: {trace.error}", "bold red"))
        if trace.not_run:
            lines.append(Text(f"never run: {len(trace.not_run)} steps, from {trace.not_run[0]!r} on", "dim"))
    return lines


def _wrapped(head: str, words: list[str], width: int, join: str = " ⟶ ") -> list[Text]:
    """Words behind a heading, broken between them."""
    lines, line = [], head
    for number, word in enumerate(words):
        word = word if cell_len(word) < width - 4 else set_cell_size(word, width - 5).rstrip() + "…"
        piece = word + (join.rstrip() + " " if number < len(words) - 1 else "")
        if cell_len(line) + cell_len(piece) > width and line.strip():
            lines.append(Text(line.rstrip()))
            line = "  "
        line += piece
    return [*lines, Text(line.rstrip())]


def show_difference(one: Trace, other: Trace, console: Console, everything: bool = False) -> None:
    """Print what differs between two traces: names, both times, and the change."""
    rows = analysis.compare(one, other)
    name = max(24, min(console.width - 36, 80))
    console.print(Text(f"{'':2}{_cell('span', name)} {'first':>9} {'second':>9} {'change':>10}", "dim"))
    for side, what, left, right in rows if everything else rows[:_LINES]:
        change = max(right, 0) - max(left, 0)
        style = "green" if change < 0 else "red" if change > 0 else "dim"
        cells = f"{_ms(left) if left >= 0 else '-':>9} {_ms(right) if right >= 0 else '-':>9}"
        sign = "c" if side == CONTAINER else "r"
        console.print(Text(f"{sign} {_cell(what, name)} {cells} {_signed(change):>10}", style), no_wrap=True)
    total = other.duration - one.duration
    cells = f"{_ms(one.duration):>9} {_ms(other.duration):>9} {_signed(total):>10}"
    console.print(Text(f"  {_cell('in all', name)} {cells}", "bold"), no_wrap=True)


def _signed(nanoseconds: int) -> str:
    return ("+" if nanoseconds > 0 else "") + _ms(nanoseconds)


def _cell(text: str, width: int) -> str:
    printable = "".join(char if char.isprintable() else "?" for char in text)
    if cell_len(printable) > width:
        printable = set_cell_size(printable, width - 1).rstrip() + "…"
    return set_cell_size(printable, width)


def _ms(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e6:.2f} ms"
