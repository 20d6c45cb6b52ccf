"""A trace as one HTML page that needs nothing from elsewhere: picture, critical path, and the facts of every span."""

from __future__ import annotations

from gosudacon.pages.markup import page, style_of, text
from gosudacon.trace import analysis
from gosudacon.trace.model import Trace
from gosudacon.trace.svg import picture

_STYLE = """
body{font:14px/1.5 system-ui,sans-serif;margin:24px auto;max-width:1240px;padding:0 16px;background:var(--bg);
color:var(--fg);overflow-wrap:anywhere}
svg{width:100%;min-width:900px;height:auto}h1{font-size:20px}h2{font-size:16px;margin-top:28px}
.scroll{overflow-x:auto;overflow-wrap:normal}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:2px 10px 2px 0;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}td{unicode-bidi:isolate}
td{border-top:1px solid var(--line);font-family:ui-monospace,Menlo,Consolas,monospace;font-size:12px}
.bad{color:var(--bad)}.odd{border:1px solid var(--bad);border-radius:3px;color:var(--bad);padding:0 2px}
""".replace("\n", "")


def dumps(trace: Trace) -> str:
    """The page."""
    title = f"gosudacon {trace.command} {trace.id}"
    failed = f'<p class="bad">failed: {text(trace.error)}</p>' if trace.error else ""
    drawn = picture(trace)
    body = f"<h1>{text(title)}</h1>{failed}{_scroll(drawn, 'Spans')}{_path(trace)}{_spans(trace)}"
    return page(title, _STYLE, body, style_of(drawn))


def _scroll(content: str, label: str) -> str:
    """What may be wider than the window; the keyboard reaches it, too."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">{content}</div>'


def _table(title: str, heads: str, rows: list[list[str]]) -> str:
    """A table with a heading. A column whose head ends with ``#`` is of numbers."""
    names = heads.split(",")
    styles = [' class="n"' if name.endswith("#") else "" for name in names]
    columns = zip(names, styles, strict=True)
    head = "".join(f'<th scope="col"{style}>{name.removesuffix("#")}</th>' for name, style in columns)
    lines = []
    for cells in rows:
        found = zip(cells, styles, strict=True)
        lines.append(f"<tr>{''.join(f'<td{style}>{text(cell)}</td>' for cell, style in found)}</tr>")
    return f"<h2>{title}</h2>{_scroll(f'<table><tr>{head}</tr>' + ''.join(lines) + '</table>', title)}"


def _path(trace: Trace) -> str:
    rows = [
        [part.side, part.name, _ms(part.duration), f"{100 * part.duration / max(trace.duration, 1):.1f} %"]
        for part in analysis.critical_path(trace)
        if part.duration * 200 >= trace.duration
    ]
    return _table("Critical path", "side,what,time#,share#", rows)


def _spans(trace: Trace) -> str:
    rows = []
    for span in sorted(trace.spans, key=lambda span: span.start):
        times = [_ms(span.start), _ms(span.duration), _ms(span.processor) if span.processor >= 0 else ""]
        rows.append([*times, span.side, span.stage or span.kind, span.name, span.where, span.status])
    return _table("Every span", "at#,time#,processor#,side,stage,span,config.json,end", rows)


def _ms(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e6:.3f} ms"
