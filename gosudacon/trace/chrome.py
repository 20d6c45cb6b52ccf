"""Chrome's trace events as JSON: for ui.perfetto.dev, chrome://tracing, and `gosudacon trace`.

Source: "Trace Event Format", and Perfetto's importer. Times are microseconds, with three decimals; spans of one thread
nest or follow each other; the two ends of an arrow lie one nanosecond inside the spans that they join.
"""

from __future__ import annotations

import json

from gosudacon.trace.model import CONTAINER, RUNTIME, STEP, WAIT, Span, Trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_LONGEST = 200  # characters of a name


def dumps(trace: Trace) -> str:
    """The file's content, an event a line."""
    about = {
        "gosudacon": trace.version,
        "command": trace.command,
        "id": trace.id,
        "kernel": trace.kernel,
        "unix_ns": trace.unix,
        "duration_ns": trace.duration,
        "pid": trace.pid,
        "init": trace.init,
    }
    if trace.error:
        about["error"] = trace.error
    if trace.not_run:
        about["not_run"] = trace.not_run
    lines = ",\n".join(json.dumps(event, separators=(",", ":")) for event in _events(trace))
    head = json.dumps({"displayTimeUnit": "ms", "otherData": about}, separators=(",", ":"))[:-1]
    return f'{head},"traceEvents":[\n{lines}\n]}}\n'


def _events(trace: Trace) -> Iterator[dict[str, object]]:
    pids = {RUNTIME: trace.pid, CONTAINER: trace.init}
    names = {RUNTIME: f"runtime: gosudacon {trace.command} {trace.id}", CONTAINER: f"container: init of {trace.id}"}
    for order, (side, pid) in enumerate(pids.items()):
        place = {"ph": "M", "pid": pid, "tid": pid}
        yield {**place, "name": "process_name", "args": {"name": names[side]}}
        yield {**place, "name": "process_sort_index", "args": {"sort_index": order}}
        yield {**place, "name": "thread_name", "args": {"name": side}}
    for side in pids:
        for span in trace.side(side):
            yield _slice(span, pids[side])
    for number, (source, at, target) in enumerate(arrows(trace), 1):
        common = {"cat": "barrier", "name": "barrier", "id": number}
        yield {"ph": "s", "pid": pids[source.side], "tid": pids[source.side], "ts": _us(at), **common}
        to = _us(max(target.end - 1, target.start))
        yield {"ph": "f", "bp": "e", "pid": pids[target.side], "tid": pids[target.side], "ts": to, **common}


def _slice(span: Span, pid: int) -> dict[str, object]:
    event: dict[str, object] = {"ph": "X", "pid": pid, "tid": pid, "ts": _us(span.start), "dur": _us(span.duration)}
    if span.processor >= 0:
        event["tdur"] = _us(span.processor)
    return {**event, "cat": span.stage or span.kind, "name": span.name[:_LONGEST], "args": span.facts()}


def arrows(trace: Trace) -> Iterator[tuple[Span, int, Span]]:
    """From the step that was waited for to the wait that it ended: step, moment inside of it, wait."""
    for span in trace.spans:
        source = trace.step(span.awaits, span.side) if span.kind == WAIT and span.awaits >= 0 else None
        if source is not None and source.duration > 0 and span.duration > 0 and source.end - 1 <= span.end:
            yield source, source.end - 1, span
    spawning = next((span for span in trace.spans if span.spawns), None)
    first = next((span for span in trace.side(CONTAINER) if span.kind == STEP and span.duration > 0), None)
    if spawning is not None and first is not None and spawning.end - 1 <= first.end - 1:
        yield spawning, spawning.end - 1, first


def _us(nanoseconds: int) -> float:
    return nanoseconds / 1000


def loads(text: str) -> Trace:
    """The trace that `dumps` has written. Raises ValueError for other files."""
    data = json.loads(text)
    about = data.get("otherData") if isinstance(data, dict) else None
    if not isinstance(about, dict) or "gosudacon" not in about:
        raise ValueError("not a trace of gosudacon")
    trace = Trace(str(about.get("command", "")), str(about.get("id", "")))
    for name, kind in (("duration_ns", int), ("unix_ns", int), ("pid", int), ("init", int)):
        setattr(trace, name.removesuffix("_ns"), kind(about.get(name) or 0))
    trace.version, trace.kernel = str(about["gosudacon"]), str(about.get("kernel", ""))
    trace.error, trace.not_run = str(about.get("error", "")), [str(name) for name in about.get("not_run") or ()]
    for event in data.get("traceEvents") or ():
        if event.get("ph") == "X":
            start = round(event["ts"] * 1000)
            side = CONTAINER if event["pid"] == trace.init else RUNTIME
            end = start + round(event["dur"] * 1000)
            trace.spans.append(Span.of(side, str(event["name"]), start, end, event["args"]))
    return trace
