"""The view of a trace in the terminal, the critical path, and the difference of two traces."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from gosudacon.trace import analysis, chrome, otlp, record
from gosudacon.trace.model import AROUND, CONTAINER, FAILED, OK, OPEN, RUNTIME, STEP, WAIT, Span, Trace
from gosudacon.trace.waterfall import show, show_difference

MS = 10**6


def trace(pivot: int = 3) -> Trace:
    """A create of 20 ms: the container's side decides from the clone on."""
    made = Trace("create", "web", 20 * MS, unix=1795813396 * 10**9, pid=4711, init=4712)
    made.spans = [
        Span(AROUND, RUNTIME, "start the interpreter, read arguments", 0, 7 * MS),
        Span(STEP, RUNTIME, "clone3(PID|NET)", 8 * MS, 10 * MS, step=0, processor=MS, spawns=True, stage="namespaces"),
        Span(WAIT, RUNTIME, "wait for container: pivot_root", 10 * MS, 18 * MS, awaits=2, told=17 * MS),
        Span(STEP, CONTAINER, "bring up lo", 12 * MS, 14 * MS, step=1, processor=2 * MS),
        Span(STEP, CONTAINER, "pivot_root", 14 * MS, (14 + pivot) * MS, step=2, processor=MS, told=17 * MS),
        Span(AROUND, RUNTIME, "write the state", 18 * MS, 19 * MS),
    ]
    return made


def printed(width: int, encoding: str = "utf-8", **more: bool) -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    show(trace(), Console(file=file, width=width, highlight=False), **more)
    file.flush()
    return file.buffer.getvalue().decode(encoding)


def test_critical_path() -> None:
    path = [(part.side, part.name, part.duration // MS) for part in analysis.critical_path(trace())]
    assert path == [
        (RUNTIME, "start the interpreter, read arguments", 7),
        (RUNTIME, "engine", 1),
        (RUNTIME, "clone3(PID|NET)", 2),
        (CONTAINER, "clone to first step", 2),
        (CONTAINER, "bring up lo", 2),
        (CONTAINER, "pivot_root", 3),
        (RUNTIME, "wake up", 1),
        (RUNTIME, "write the state", 1),
        (RUNTIME, "engine", 1),
    ]


@pytest.mark.parametrize("width", [80, 100, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_it_fits(width: int, encoding: str) -> None:
    lines = printed(width, encoding).splitlines()
    assert max(len(line) for line in lines) <= width
    assert all(line == line.rstrip() or "█" in line or "#" in line for line in lines)
    text = " ".join(lines)
    for words in ("bring up lo", "20.00 ms", "critical path", "to be faster", "pivot_root 3.00 ms"):
        assert words in text


def test_bars_show_where_in_time() -> None:
    rows = {line[2:20].strip(): line[55:] for line in printed(100).splitlines() if line[:2] in ("r ", "c ")}
    assert rows["pivot_root"].index("█") > rows["bring up lo"].index("█") > rows["clone3(PID|NET)"].index("█")
    assert "░" in rows["pivot_root"] and "░" not in rows["bring up lo"]


def test_difference() -> None:
    file = io.StringIO()
    show_difference(trace(3), trace(1), Console(file=file, width=100, highlight=False))
    (line,) = [line for line in file.getvalue().splitlines() if line.startswith("c pivot_root")]
    assert line.split()[2:] == ["3.00", "ms", "1.00", "ms", "-2.00", "ms"]


@pytest.mark.parametrize("loads", [chrome.loads, otlp.loads])
@pytest.mark.parametrize("text", ["", "{}", "[]", '{"traceEvents": []}', '{"resourceSpans": [{}]}', "x", "1"])
def test_files_of_others(loads: Callable[[str], Trace], text: str) -> None:
    with pytest.raises(ValueError):
        loads(text)


def test_what_a_container_reports_is_not_believed() -> None:
    """A side, a kind or a fact that does not exist."""
    with pytest.raises(ValueError):
        Span.of("host", "x", 0, 1, {})
    with pytest.raises(ValueError):
        Span.of(RUNTIME, "x", 0, 1, {"kind": "nonsense"})
    span = Span.of(RUNTIME, "x", 0, 1, {"status": FAILED, "errno": "1", "nonsense": 1})
    assert (span.status, span.errno) == (FAILED, 0)


def test_what_happens_after_the_answer_is_not_the_commands() -> None:
    """A caller may call `start` while the trace of `create` is put together."""
    trace = Trace("create", "c", 100)
    trace.spans = [
        Span(STEP, CONTAINER, "early", 10, 20),
        Span(WAIT, CONTAINER, "wait for start", 20, 130),
        Span(STEP, CONTAINER, "late", 130, 140),
    ]
    record._end_with(trace, 100)
    assert [(span.name, span.end, span.status) for span in trace.spans] == [
        ("early", 20, OK),
        ("wait for start", 100, OPEN),
    ]
    assert trace.not_run == ["late"]
