"""A trace as one picture: a row for each span, the two sides in two colours; no script, no font from elsewhere."""

from __future__ import annotations

from gosudacon.pages.markup import attribute, cut, plain, svg
from gosudacon.trace import analysis
from gosudacon.trace.chrome import arrows
from gosudacon.trace.model import AROUND, CUT, FAILED, SIDES, UNDO, WAIT, Span, Trace

_ROW, _TEXT, _WIDTH, _HEAD, _FOOT = 16, 420, 1200, 58, 40
_STYLE = """
text{font:11px ui-monospace,Menlo,Consolas,monospace;fill:$fg}.dim{fill:$dim}.h{font-size:15px;font-weight:600}
.bg{fill:$bg}.grid{stroke:$line;stroke-width:1}.runtime{fill:$runtime}.container{fill:$container}.around{fill:$around}
.undo{fill:$undo}.kernel{opacity:.35}.wait{fill:none;stroke:$barrier;stroke-dasharray:3 2}.bad{fill:$bad}
.arrow{stroke:$barrier;stroke-width:1;fill:none;opacity:.7}
""".replace("\n", "")


def dumps(trace: Trace) -> str:
    """The picture."""
    return picture(trace)


def picture(trace: Trace) -> str:
    """The ``<svg>`` element, which may be part of a page as well."""
    spans = sorted(trace.spans, key=lambda span: (span.start, SIDES.index(span.side)))
    height = _HEAD + len(spans) * _ROW + _FOOT
    rows = {id(span): number for number, span in enumerate(spans)}
    title = f"gosudacon {trace.command} {trace.id}"
    parts = [
        f'<text class="h" x="12" y="24">{attribute(title)}: {_ms(trace.duration)}</text>',
        *_grid(trace, height),
        *(part for span in spans for part in _row(span, rows[id(span)], trace)),
        *(_arrow(source, at, target, rows, trace) for source, at, target in arrows(trace)),
        *_foot(trace, height),
    ]
    return svg(title, _WIDTH, height, _STYLE, parts)


def _x(at: int, trace: Trace) -> float:
    return round(_TEXT + (_WIDTH - _TEXT - 12) * at / max(trace.duration, 1), 2)


def _grid(trace: Trace, height: int) -> list[str]:
    step = next(
        (size for size in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if trace.duration / 1e6 / size <= 12), 5000
    )
    lines = []
    for ms in range(0, int(trace.duration / 1e6) + 1, step):
        x = _x(ms * 10**6, trace)
        lines.append(f'<line class="grid" x1="{x}" y1="{_HEAD - 8}" x2="{x}" y2="{height - _FOOT}"/>')
        lines.append(f'<text class="dim" x="{x}" y="{_HEAD - 12}">{ms} ms</text>')
    return lines


def _row(span: Span, number: int, trace: Trace) -> list[str]:
    y = _HEAD + number * _ROW
    start, end = _x(span.start, trace), _x(span.end, trace)
    width = max(round(end - start, 2), 0.8)
    bad = span.status in (FAILED, CUT)
    kind = "bad" if bad else {AROUND: "around", UNDO: "undo"}.get(span.kind, span.side)
    facts = [span.name, _ms(span.duration), span.side, span.stage, span.where, span.message]
    title = f"<title>{attribute(' · '.join(fact for fact in facts if fact))}</title>"
    label = attribute(cut(plain(f"{span.side[0]} {span.name}"), 54))
    time = f'<text class="dim" x="{_TEXT - 10}" y="{y + 11}" text-anchor="end">{_ms(span.duration)}</text>'
    text = f'<text x="12" y="{y + 11}"{" class=" + chr(34) + "bad" + chr(34) if bad else ""}>{label}</text>'
    box = f'x="{start}" y="{y + 2}" width="{width}" height="{_ROW - 4}"'
    if span.kind == WAIT:
        return [text, time, f'<rect class="wait" {box}>{title}</rect>']
    parts = [text, time, f'<rect class="{kind} kernel" {box}>{title}</rect>']
    busy = width if span.processor < 0 else round(width * min(span.processor / max(span.duration, 1), 1), 2)
    parts.append(f'<rect class="{kind}" x="{start}" y="{y + 2}" width="{busy}" height="{_ROW - 4}">{title}</rect>')
    return parts


def _arrow(source: Span, at: int, target: Span, rows: dict[int, int], trace: Trace) -> str:
    x1, x2 = _x(at, trace), _x(target.end if target.kind == WAIT else target.start, trace)
    y1, y2 = (_HEAD + rows[id(span)] * _ROW + _ROW // 2 for span in (source, target))
    return f'<path class="arrow" d="M{x1} {y1}C{x1} {y2},{x2} {y1},{x2} {y2}"/>'


def _foot(trace: Trace, height: int) -> list[str]:
    sums = analysis.sums(trace)
    text = (
        f"steps {_ms(sums['steps'])}: {_ms(sums['processor'])} on the processor (full), {_ms(sums['kernel'])} waiting "
        f"in the kernel (light); around them {_ms(sums['around'])}, between {_ms(sums['engine'])}"
    )
    legend = "r: runtime (green), c: container (blue); waiting for the other side: dashed"
    return [
        f'<text class="dim" x="12" y="{height - 22}">{attribute(text)}</text>',
        f'<text class="dim" x="12" y="{height - 7}">{attribute(legend)}</text>',
    ]


def _ms(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e6:.2f} ms"
