"""A plan as one compact picture, for a README: two lanes with their barriers. Many steps of one kind are one line."""

from __future__ import annotations

from gosudacon.pages.lanes import Layout
from gosudacon.pages.markup import attribute, cut, duration, plain, svg
from gosudacon.pages.verdicts import of_verdict
from gosudacon.pages.view import CONTAINER, RUNTIME, Row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from gosudacon.pages.lanes import Arrow
    from gosudacon.pages.view import View

_WIDTH, _HEAD, _FOOT, _LINE = 860, 64, 34, 18
_LANES = {RUNTIME: (12, 372), CONTAINER: (440, 848)}  # left and right
_LETTER = 6.65  # width of a letter, in the widest of the usual fonts of 11 pixels
_SHOWN = 2  # of more than three steps of one kind
_MOST = 400  # lines; a longer picture cannot be read
_STYLE = """
text{font:11px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:$fg}
.bg{fill:$bg}.h{font-size:15px;font-weight:600}.dim{fill:$dim}.p{font-weight:600}
.box{fill:$panel;stroke:$line}.runtime{fill:$runtime}.container{fill:$container}.bad{fill:$bad}
.warn{fill:$barrier}.ok{fill:$runtime}.a{fill:none;stroke:$barrier;stroke-width:1.5}.tip{fill:$barrier}
""".replace("\n", "")


def picture(view: View) -> str:
    """The ``<svg>`` element."""
    rows = _grouped(view.rows)
    left = len(rows) - _MOST
    rows = rows[:_MOST]
    layout = Layout(rows)
    height = _HEAD + layout.lines * _LINE + _FOOT
    title = f"gosudacon explain {view.id}"
    steps = "1 step" if len(view.rows) == 1 else f"{len(view.rows)} steps"
    times = f", {duration(sum(max(row.seconds, 0) for row in view.rows))} in steps" if view.timed_by else ""
    parts = [
        f'<text class="h" x="12" y="24">{attribute(cut(f"{title}: {steps}{times}", 90))}</text>',
        *(f'<text class="p {side}" x="{lane[0]}" y="48">{side}</text>' for side, lane in _LANES.items()),
        *(_heading(line, rows[index]) for line, index in layout.headings),
        *(part for row, at in zip(rows, layout.at, strict=True) for part in _box(row, at)),
        *(_arrow(arrow, rows, layout) for arrow in layout.arrows),
        f'<text class="dim" x="12" y="{height - 12}">{attribute(_legend(rows, left))}</text>',
    ]
    return svg(title, _WIDTH, height, _STYLE, parts)


def _legend(rows: Sequence[Row], left: int) -> str:
    words = ["an arrow: one side waits for the other"] if any(row.waits >= 0 for row in rows) else []
    words += ["↺ undone by delete"] if any(row.lasts for row in rows) else []
    looks = {row.verdict: f"{of_verdict(row.verdict)[0]} {cut(row.verdict, 20)}" for row in rows if row.verdict}
    words += list(looks.values())[:8]
    words += [f"{left} lines more are not shown"] if left > 0 else []
    return "; ".join(words)


def _grouped(rows: Sequence[Row]) -> list[Row]:
    """Of more than three steps of one kind that follow each other, the first ones, and how many more there are.

    No step between which and another one there is a barrier is left out.
    """
    needed = {row.waits for row in rows}
    runs: list[list[int]] = []
    for index, row in enumerate(rows):
        last = rows[runs[-1][-1]] if runs else None
        alike = last is not None and (last.kind, last.side, last.phase) == (row.kind, row.side, row.phase)
        if alike and row.waits < 0 and runs[-1][-1] not in needed and not row.verdict:
            runs[-1].append(index)
        else:
            runs.append([index])
    made: list[Row] = []
    at: dict[int, int] = {}
    for run in runs:
        shown = run if len(run) <= _SHOWN + 1 else run[:_SHOWN]
        for index in shown:
            at[index] = len(made)
            made.append(_copy(rows[index], at))
        rest = run[len(shown) :]
        if rest:
            at[rest[-1]] = len(made)
            made.append(_more([rows[index] for index in rest]))
    return made


def _copy(row: Row, at: dict[int, int]) -> Row:
    made = Row(row.side, row.phase, row.stage, row.what, row.place, row.kind)
    vars(made).update(vars(row), waits=at.get(row.waits, -1))
    return made


def _more(rest: Sequence[Row]) -> Row:
    first = rest[0]
    made = Row(first.side, first.phase, first.stage, f"… {len(rest)} more of this kind", first.place)
    made.lasts = any(row.lasts for row in rest)
    timed = [row.seconds for row in rest if row.seconds >= 0]
    made.seconds = sum(timed) if timed else -1
    return made


def _y(line: int) -> int:
    return _HEAD + (line - 1) * _LINE


def _heading(line: int, row: Row) -> str:
    return f'<text class="dim" x="{_LANES[row.side][0]}" y="{_y(line) + 13}">{attribute(row.phase)}</text>'


def _box(row: Row, line: int) -> list[str]:
    left, right = _LANES[row.side]
    y = _y(line)
    sign, style = of_verdict(row.verdict) if row.verdict else ("", "")
    notes = [duration(row.seconds)] if row.seconds >= 0 else []
    notes += ["↺"] if row.lasts else []
    note = " ".join(notes)
    room = int((right - left - 14) / _LETTER) - (len(note) + 1 if note else 0) - (2 if sign else 0)
    name = attribute(cut(plain(row.what), room))
    title = " · ".join(filter(None, (row.what, row.stage, row.place.where, row.verdict)))
    parts = [
        f'<rect class="box" x="{left}" y="{y + 1}" width="{right - left}" height="{_LINE - 3}" rx="2">'
        f"<title>{attribute(title)}</title></rect>",
        f'<rect class="{row.side}" x="{left}" y="{y + 1}" width="3" height="{_LINE - 3}"/>',
        f'<text x="{left + 8}" y="{y + 12}">{name}</text>',
    ]
    if note:
        parts.append(_at_end("dim", right - (17 if sign else 5), y + 12, note))
    if sign:
        parts.append(_at_end(style, right - 5, y + 12, sign))
    return parts


def _at_end(style: str, x: int, y: int, text: str) -> str:
    return f'<text class="{style}" x="{x}" y="{y}" text-anchor="end">{text}</text>'


def _arrow(arrow: Arrow, rows: Sequence[Row], layout: Layout) -> str:
    """From the inner edge of one lane to that of the other, down a track in between. One that comes in ends higher."""
    y1, y2 = _y(layout.at[arrow.source]) + _LINE // 2 + 3, _y(layout.at[arrow.target]) + _LINE // 2 - 3
    step = 14 + 9 * (arrow.track % 5)
    if rows[arrow.source].side == RUNTIME:
        start, end = _LANES[RUNTIME][1], _LANES[CONTAINER][0]
        tip, x = end - 7, start + step
    else:
        start, end = _LANES[CONTAINER][0], _LANES[RUNTIME][1]
        tip, x = end + 7, start - step
    return (
        f'<path class="a" d="M{start} {y1}H{x}V{y2}H{tip}"/>'
        f'<path class="tip" d="M{end} {y2}L{tip} {y2 - 4}V{y2 + 4}Z"/>'
    )
