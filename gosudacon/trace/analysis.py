"""What a trace says: the critical path, where the time went, what would make the command faster, and differences."""

from __future__ import annotations

from gosudacon.trace.model import AROUND, CONTAINER, RUNTIME, STEP, UNDO, WAIT, Span, Trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

ENGINE = "engine"


class Part:
    """A stretch of the critical path: a span, or the engine between spans."""

    __slots__ = ("duration", "name", "side", "span")

    def __init__(self, side: str, name: str, duration: int, span: Span | None = None) -> None:
        self.side = side
        self.name = name
        self.duration = duration
        self.span = span


def critical_path(trace: Trace) -> list[Part]:
    """What the command's duration consists of, from its beginning to its end; the parts add up to it.

    Followed from the end: a wait leads to the step of the other side that it waited for, the first step of the
    container's side to the one that made the process.
    """
    parts = list(_backwards(trace))
    parts.reverse()
    return _joined(parts)


def _backwards(trace: Trace) -> Iterator[Part]:
    lanes = {side: [span for span in trace.side(side) if span.duration > 0] for side in (RUNTIME, CONTAINER)}
    spawning = next((span for span in trace.spans if span.spawns), None)
    side, at = RUNTIME, trace.duration
    while at > 0:
        span = _last_before(lanes[side], at)
        if span is None and side == CONTAINER:
            side = RUNTIME  # where the process was made, or told to go on
            if spawning is not None:
                yield Part(CONTAINER, "clone to first step", at - min(at, spawning.end))
                at = min(at, spawning.end)
            continue
        if span is None:
            yield Part(side, ENGINE, at)
            return
        if span.end < at:
            yield Part(side, ENGINE, at - span.end)
            at = span.end
        other = CONTAINER if side == RUNTIME else RUNTIME
        if span.kind == WAIT and span.start < span.told <= at and _last_before(lanes[other], span.told):
            yield Part(side, "wake up", at - span.told)
            side, at = other, span.told
            continue
        yield Part(side, span.name, at - span.start, span)
        at = span.start


def _last_before(spans: list[Span], at: int) -> Span | None:
    return next((span for span in reversed(spans) if span.start < at), None)


def _joined(parts: list[Part]) -> list[Part]:
    """Neighbours of one name as one."""
    found: list[Part] = []
    for part in parts:
        if part.duration <= 0:
            continue
        if found and (found[-1].name, found[-1].side) == (part.name, part.side):
            found[-1].duration += part.duration
        else:
            found.append(part)
    return found


def sums(trace: Trace) -> dict[str, int]:
    """Where the time went, in nanoseconds: steps on the processor, steps waiting in the kernel, and what is around."""
    steps = trace.total(STEP)
    timed = sum(span.duration for span in trace.spans if span.kind == STEP and span.processor >= 0)
    return {
        "command": trace.duration,
        "steps": steps,
        "processor": trace.processor(),
        "kernel": max(timed - trace.processor(), 0),
        "waits": trace.total(WAIT),
        "around": trace.total(AROUND),
        "undo": trace.total(UNDO),
        "engine": sum(end - start for side in (RUNTIME, CONTAINER) for start, end in trace.gaps(side)),
    }


def advice(trace: Trace) -> list[str]:
    """What would make the command faster: the largest parts of the critical path, and why they take their time."""
    total = trace.duration or 1
    found = []
    for part in sorted(critical_path(trace), key=lambda part: -part.duration)[:3]:
        share = f"{100 * part.duration / total:.0f} %"
        span = part.span
        if span is None or span.kind in (AROUND, UNDO):
            found.append(f"{part.name}: {share}")
        elif 0 <= span.processor < span.duration // 2:
            found.append(f"{part.name}: {share}, most of it waiting in the kernel, not computing")
        else:
            found.append(f"{part.name}: {share}")
    return found


def compare(one: Trace, other: Trace) -> list[tuple[str, str, int, int]]:
    """Side, name and both durations of what two traces have, -1 where one lacks it. The largest change first."""
    left, right = _durations(one), _durations(other)
    rows = [(side, name, left.get((side, name), -1), right.get((side, name), -1)) for side, name in {**left, **right}]
    return sorted(rows, key=lambda row: -abs(max(row[3], 0) - max(row[2], 0)))


def _durations(trace: Trace) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for span in trace.spans:
        key = (span.side, span.name)
        found[key] = found.get(key, 0) + span.duration
    for side in (RUNTIME, CONTAINER):
        found[side, ENGINE] = sum(end - start for start, end in trace.gaps(side))
    return found
