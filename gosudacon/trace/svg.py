"""A trace as one picture: a row for each span, the two sides in two colours; no script, no font from elsewhere."""

from __future__ import annotations

from html import escape

from gosudacon.trace import analysis
from gosudacon.trace.chrome import arrows
from gosudacon.trace.model import AROUND, CUT, FAILED, SIDES, UNDO, WAIT, Span, Trace

_ROW, _TEXT, _WIDTH, _HEAD, _FOOT = 16, 420, 1200, 58, 40
_STYLE = """
text{font:11px ui-monospace,Menlo,Consolas,monospace;fill:#1f2328}.dim{fill:#656d76}.h{font-size:15px;font-weight:600}
.bg{fill:#fff}.grid{stroke:#d0d7de;stroke-width:1}.runtime{fill:#1a7f37}.container{fill:#0969da}.around{fill:#8c959f}
.undo{fill:#8250df}.kernel{opacity:.35}.wait{fill:none;stroke:#9a6700;stroke-dasharray:3 2}.bad{fill:#cf222e}
.arrow{stroke:#9a6700;stroke-width:1;fill:none;opacity:.7}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.dim{fill:#8d96a0}.bg{fill:#0d1117}.grid{stroke:#30363d}
.runtime{fill:#3fb950}.container{fill:#58a6ff}.around{fill:#6e7681}.undo{fill:#a371f7}.bad{fill:#f85149}
.wait,.arrow{stroke:#d29922}}
""".replace("\n", "")


def dumps(trace: Trace) -> str:
    """The picture."""
    return picture(trace)


def picture(trace: Trace) -> str:
    """The ``<svg>`` element, which may stand in a page as well."""
    spans = sorted(trace.spans, key=lambda span: (span.start, SIDES.index(span.side)))
    height = _HEAD + len(spans) * _ROW + _FOOT
    rows = {id(span): number for number, span in enumerate(spans)}
    title = escape(f"gosudacon {trace.command} {trace.id}")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{title}">',
        f"<style>{_STYLE}</style>",
        f'<rect class="bg" width="{_WIDTH}" height="{height}"/>',
        f'<text class="h" x="12" y="24">{title}: {_ms(trace.duration)}</text>',
        *_grid(trace, height),
        *(part for span in spans for part in _row(span, rows[id(span)], trace)),
        *(_arrow(source, at, target, rows, trace) for source, at, target in arrows(trace)),
        *_foot(trace, height),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


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
    title = f"<title>{escape(' · '.join(fact for fact in facts if fact))}</title>"
    label = span.name if len(span.name) <= 52 else span.name[:51] + "…"
    time = f'<text class="dim" x="{_TEXT - 10}" y="{y + 11}" text-anchor="end">{_ms(span.duration)}</text>'
    text = f'<text x="12" y="{y + 11}"{" class=" + chr(34) + "bad" + chr(34) if bad else ""}>{escape(label)}</text>'
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
    legend = "runtime: green, container: blue, waiting for the other side: dashed"
    return [
        f'<text class="dim" x="12" y="{height - 22}">{escape(text)}</text>',
        f'<text class="dim" x="12" y="{height - 7}">{escape(legend)}</text>',
    ]


def _ms(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e6:.2f} ms"
