"""A trace as one HTML page that needs nothing from elsewhere: picture, critical path, and the facts of every span."""

from __future__ import annotations

from html import escape

from gosudacon.trace import analysis
from gosudacon.trace.model import Trace
from gosudacon.trace.svg import picture

_STYLE = """
:root{color-scheme:light dark}body{font:14px/1.5 system-ui,sans-serif;margin:24px auto;max-width:1240px;padding:0 16px}
svg{width:100%;height:auto}h1{font-size:20px}h2{font-size:16px;margin-top:28px}.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:2px 10px 2px 0;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td{border-top:1px solid #8884;font-family:ui-monospace,Menlo,Consolas,monospace;font-size:12px}.bad{color:#cf222e}
""".replace("\n", "")


def dumps(trace: Trace) -> str:
    """The page."""
    title = escape(f"gosudacon {trace.command} {trace.id}")
    failed = f'<p class="bad">failed: {escape(trace.error)}</p>' if trace.error else ""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{_STYLE}</style></head><body>'
        f"<h1>{title}</h1>{failed}<div class=scroll>{picture(trace)}</div>{_path(trace)}{_spans(trace)}</body></html>\n"
    )


def _path(trace: Trace) -> str:
    rows = [
        f"<tr><td>{escape(part.side)}<td>{escape(part.name)}<td class=n>{_ms(part.duration)}"
        f"<td class=n>{100 * part.duration / max(trace.duration, 1):.1f} %"
        for part in analysis.critical_path(trace)
        if part.duration * 200 >= trace.duration
    ]
    head = "<tr><th>side<th>what<th class=n>time<th class=n>share"
    return f"<h2>Critical path</h2><div class=scroll><table>{head}{''.join(rows)}</table></div>"


def _spans(trace: Trace) -> str:
    rows = []
    for span in sorted(trace.spans, key=lambda span: span.start):
        processor = _ms(span.processor) if span.processor >= 0 else ""
        cells = [span.side, span.stage or span.kind, span.name, span.where, span.status]
        rows.append(
            f"<tr><td class=n>{_ms(span.start)}<td class=n>{_ms(span.duration)}<td class=n>{processor}"
            + "".join(f"<td>{escape(cell)}" for cell in cells)
        )
    head = "<tr><th class=n>at<th class=n>time<th class=n>processor<th>side<th>stage<th>span<th>config.json<th>end"
    return f"<h2>Every span</h2><div class=scroll><table>{head}{''.join(rows)}</table></div>"


def _ms(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e6:.3f} ms"
