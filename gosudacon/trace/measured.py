"""A plan with what a trace measured of it: `explain --timings`."""

from __future__ import annotations

from gosudacon.base.errors import Error
from gosudacon.pipeline.explain import Timings
from gosudacon.trace.model import OPEN, STEP, WAIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from gosudacon.trace.model import Span, Trace

#: What a plan is for -> the commands that run steps of it.
_COMMANDS = {"create": ("create", "run", "start"), "exec": ("exec",), "mounts add": ("mounts",)}
_LONGEST = 200  # characters of a name that each format keeps
_NAMED = 3  # steps that a message names


def measure(trace: Trace, path: str, operation: str, steps: Sequence[tuple[str, str, str]]) -> Timings:
    """The times of a plan's steps, by their index. ``steps``: side, stage and line of each.

    Raises `Error` for the trace of another command, or of a plan that has little in common with this one.
    """
    title = f"{trace.command} {trace.id}".strip()
    if trace.command not in _COMMANDS.get(operation, ()):
        raise Error(f"{path}: a trace of `{title}`, and this is a plan for {operation}", hint=_hint(operation))
    spans = [span for span in trace.spans if span.kind == STEP and span.status != OPEN]
    taken = _assign(spans, steps)
    used = {id(span) for span in taken.values()}
    others = [span.name for span in spans if id(span) not in used]
    if len(taken) <= len(others):
        what = f"it has `{others[0]}`" if others else "it has no step"
        raise Error(f"{path}: a trace of another plan: {what}", hint=f"it was made by `{title}`: is this its bundle?")
    timings = Timings(f"{title} took {_ms(trace.duration)}")
    timings.command, timings.id, timings.duration = trace.command, trace.id, trace.duration
    timings.steps = {index: _facts(span) for index, span in taken.items()}
    timings.waits = {(span.side, span.awaits): span.duration for span in trace.spans if span.kind == WAIT}
    if others:
        names = "; ".join(others[:_NAMED]) + ("; …" if len(others) > _NAMED else "")
        timings.notes.append(f"not in this plan, {len(others)} of the trace's steps: {names}")
    if trace.error:
        timings.notes.append(f"it failed: {trace.error}")
    return timings


def _assign(spans: Sequence[Span], steps: Sequence[tuple[str, str, str]]) -> dict[int, Span]:
    """Index of a step -> its span, by side, stage and line; of several alike, in their order.

    A line that goes on where the plan's ends (``of init, process 7``) is that of the step with its index.
    """
    waiting: dict[tuple[str, str, str], list[Span]] = {}
    for span in spans:
        waiting.setdefault((span.side, span.stage, span.name[:_LONGEST]), []).append(span)
    taken: dict[int, Span] = {}
    for index, (side, stage, line) in enumerate(steps):
        alike = waiting.get((side, stage, line[:_LONGEST]))
        if alike:
            taken[index] = alike.pop(0)
    used = {id(span) for span in taken.values()}
    for span in spans:
        if id(span) not in used and 0 <= span.step < len(steps) and span.step not in taken:
            side, stage, line = steps[span.step]
            if (side, stage) == (span.side, span.stage) and span.name.startswith(line[:_LONGEST]):
                taken[span.step] = span
    return taken


def _facts(span: Span) -> dict[str, object]:
    facts: dict[str, object] = {"ns": span.duration, "status": span.status}
    if span.processor >= 0:
        facts["processor_ns"] = span.processor
    if span.message:
        facts["message"] = span.message
    return facts


def _hint(operation: str) -> str:
    return f"give one of {' or '.join(_COMMANDS.get(operation, ()))}"


def _ms(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e6:.2f} ms"
