"""OpenTelemetry's spans as JSON, one request a line: what a collector's ``otlpjsonfile`` receiver reads.

Source: the OTLP specification, "JSON Protobuf Encoding": ids in hexadecimal, 64-bit numbers as strings, enumerations as
numbers. TRACEPARENT in the environment names the trace and the span that this command belongs to (W3C Trace Context).
"""

from __future__ import annotations

import json
import os
import re

from gosudacon.trace.model import FAILED, WAIT, Span, Trace

_INTERNAL = 1  # SPAN_KIND_INTERNAL
_STATUS_OK, _STATUS_ERROR = 1, 2
_PARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")


def dumps(trace: Trace, parent: str | None = None) -> str:
    """The file's one line; ``parent``: what TRACEPARENT says, by default the environment's."""
    match = _PARENT.fullmatch(os.environ.get("TRACEPARENT", "") if parent is None else parent)
    trace_id, above = (match[1], match[2]) if match else (os.urandom(16).hex(), "")
    root = os.urandom(8).hex()
    ids = {id(span): os.urandom(8).hex() for span in trace.spans}
    facts: dict[str, object] = {"process.pid": trace.pid, "gosudacon.init_pid": trace.init}
    if trace.not_run:
        facts["gosudacon.not_run"] = "\n".join(trace.not_run)
    first = {
        **_span(trace, trace_id, root, above, f"gosudacon {trace.command}", 0, trace.duration),
        "attributes": _attributes(facts),
        "status": {"code": _STATUS_ERROR, "message": trace.error} if trace.error else {"code": _STATUS_OK},
    }
    spans = [first, *(_of(trace, span, trace_id, ids, root) for span in trace.spans)]
    resource: dict[str, object] = {
        "service.name": "gosudacon",
        "service.version": trace.version,
        "container.id": trace.id,
    }
    resource |= {"container.runtime.name": "gosudacon", "os.type": "linux", "os.version": trace.kernel}
    scope = {"name": "gosudacon", "version": trace.version}
    scoped = [{"scope": scope, "spans": spans}]
    request = {"resourceSpans": [{"resource": {"attributes": _attributes(resource)}, "scopeSpans": scoped}]}
    return json.dumps(request, separators=(",", ":")) + "\n"


def _span(trace: Trace, trace_id: str, span_id: str, parent: str, name: str, start: int, end: int) -> dict[str, object]:
    return {
        "traceId": trace_id,
        "spanId": span_id,
        "parentSpanId": parent,
        "name": name,
        "kind": _INTERNAL,
        "startTimeUnixNano": str(trace.unix + start),
        "endTimeUnixNano": str(trace.unix + end),
    }


def _of(trace: Trace, span: Span, trace_id: str, ids: dict[int, str], root: str) -> dict[str, object]:
    facts = {f"gosudacon.{name}": value for name, value in span.facts().items()}
    facts["gosudacon.side"] = span.side
    made = _span(trace, trace_id, ids[id(span)], root, span.name, span.start, span.end)
    made["attributes"] = _attributes(facts)
    made["status"] = {"code": _STATUS_ERROR, "message": span.message} if span.status == FAILED else {}
    awaited = trace.step(span.awaits, span.side) if span.kind == WAIT and span.awaits >= 0 else None
    if awaited is not None:
        made["links"] = [{"traceId": trace_id, "spanId": ids[id(awaited)]}]
    return made


def _attributes(values: dict[str, object]) -> list[dict[str, object]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items() if value != ""]


def _value(value: object) -> dict[str, object]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"stringValue": str(value)}


def loads(text: str) -> Trace:
    """The trace that `dumps` has written. Raises ValueError for other files."""
    try:
        scoped = json.loads(text)["resourceSpans"][0]
        resource = _plain(scoped["resource"]["attributes"])
        spans = scoped["scopeSpans"][0]["spans"]
        first, about = spans[0], _plain(spans[0]["attributes"])
        start = int(first["startTimeUnixNano"])
        trace = Trace(first["name"].partition(" ")[2], str(resource.get("container.id", "")), unix=start)
        trace.duration = int(first["endTimeUnixNano"]) - start
        trace.version, trace.kernel = str(resource["service.version"]), str(resource.get("os.version", ""))
        trace.error = first["status"].get("message", "")
        trace.pid, trace.init = (int(str(about.get(name) or 0)) for name in ("process.pid", "gosudacon.init_pid"))
        trace.not_run = str(about.get("gosudacon.not_run", "")).splitlines()
        trace.spans = [_read(span, start) for span in spans[1:]]
    except (KeyError, IndexError, TypeError, AttributeError):
        raise ValueError("not a trace of gosudacon") from None
    return trace


def _read(data: dict[str, object], origin: int) -> Span:
    facts = {
        name.removeprefix("gosudacon."): value
        for name, value in _plain(data["attributes"]).items()  # type: ignore[arg-type]
    }
    side = str(facts.pop("side"))
    start, end = (int(str(data[name])) - origin for name in ("startTimeUnixNano", "endTimeUnixNano"))
    return Span.of(side, str(data["name"]), start, end, facts)


def _plain(attributes: list[dict[str, dict[str, object]]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for entry in attributes:
        ((kind, value),) = entry["value"].items()
        found[str(entry["key"])] = int(str(value)) if kind == "intValue" else value
    return found
