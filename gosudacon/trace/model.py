"""A trace: spans on two sides, and what waits for what. All times are nanoseconds since the command's process began."""

from __future__ import annotations

from gosudacon import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

RUNTIME, CONTAINER = "runtime", "container"
SIDES = (RUNTIME, CONTAINER)
# What a span is: a step of the plan, waiting for the other side, what the command does around its steps, an undoing.
STEP, WAIT, AROUND, UNDO = "step", "wait", "around", "undo"
KINDS = (STEP, WAIT, AROUND, UNDO)
# How it ended: well; with an error; the process ended in it; seen by the other side only; not within this trace.
OK, FAILED, CUT, SEEN, OPEN = "ok", "failed", "cut short", "end seen by the other side", "goes on"


class Span:
    """``name`` is the line of `explain`. ``processor``: nanoseconds, -1 if not known; ``step`` the step's index in the
    plan, ``awaits`` that of the other side's step that is waited for, -1 if none; ``told`` when that had been told.
    """

    __slots__ = (
        *("awaits", "call", "end", "errno", "kind", "message", "name", "phase", "processor", "side", "spawns"),
        *("stage", "start", "status", "step", "told", "where"),
    )

    def __init__(self, kind: str, side: str, name: str, start: int, end: int, **more: object) -> None:
        self.kind = kind
        self.side = side
        self.name = name
        self.start = start
        self.end = max(end, start)
        self.processor = self.step = self.awaits = -1
        self.told = self.errno = 0
        self.spawns = False
        self.stage = self.phase = self.where = self.call = self.message = ""
        self.status = OK
        for key, value in more.items():
            setattr(self, key, value)

    @property
    def duration(self) -> int:
        """Nanoseconds."""
        return self.end - self.start

    def facts(self) -> dict[str, object]:
        """What is known in addition to name and times, for formats that keep it; nothing that is as in most spans."""
        values = {"kind": self.kind, "stage": self.stage, "phase": self.phase, "where": self.where, "call": self.call}
        values |= {"message": self.message, "status": "" if self.status == OK else self.status}
        facts: dict[str, object] = {name: value for name, value in values.items() if value}
        numbers = {"step": self.step, "awaits": self.awaits, "processor_ns": self.processor}
        facts |= {name: value for name, value in numbers.items() if value >= 0}
        facts |= {name: value for name, value in (("told_ns", self.told), ("errno", self.errno)) if value}
        if self.spawns:
            facts["spawns"] = True
        return facts

    @classmethod
    def of(cls, side: str, name: str, start: int, end: int, facts: dict[str, object]) -> Span:
        """The span of these `facts`. Raises ValueError for what are none."""
        renamed = {"processor_ns": "processor", "told_ns": "told"}
        values = {renamed.get(key, key): value for key, value in facts.items()}
        kind = values.pop("kind", STEP)
        if kind not in KINDS or side not in SIDES:
            raise ValueError(f"not a span of a trace: {name}")
        span = cls(str(kind), side, name, start, end)
        for key, value in values.items():
            if key in cls.__slots__ and type(value) is type(getattr(span, key)):
                setattr(span, key, value)
        return span


class Trace:
    """One command. ``unix``: its beginning in nanoseconds since 1970; ``pid`` its process, ``init`` the container's."""

    def __init__(self, command: str, id: str, duration: int = 0, unix: int = 0, pid: int = 0, init: int = 0) -> None:
        self.version = __version__
        self.command = command
        self.id = id
        self.duration = duration
        self.unix = unix
        self.pid = pid
        self.init = init
        self.kernel = ""
        self.error = ""
        self.spans: list[Span] = []
        self.not_run: list[str] = []

    def side(self, side: str) -> list[Span]:
        """The spans of one side in order."""
        return sorted((span for span in self.spans if span.side == side), key=lambda span: (span.start, span.end))

    def step(self, index: int, side: str = "") -> Span | None:
        """The span of the step with this index in the plan."""
        for span in self.spans:
            if span.kind == STEP and span.step == index and span.side != side:
                return span
        return None

    def gaps(self, side: str) -> Iterator[tuple[int, int]]:
        """Where a side has no span: what the engine and the interpreter do between steps."""
        spans = self.side(side)
        at = 0 if side == RUNTIME else (spans[0].start if spans else 0)
        for span in spans:
            if span.start > at:
                yield at, span.start
            at = max(at, span.end)
        if side == RUNTIME and at < self.duration:
            yield at, self.duration

    def total(self, *kinds: str, side: str = "") -> int:
        """Nanoseconds of all spans of these kinds, on one side or both."""
        return sum(span.duration for span in self.spans if span.kind in kinds and side in ("", span.side))

    def processor(self) -> int:
        """Nanoseconds of processor time in steps, as far as it is known."""
        return sum(span.processor for span in self.spans if span.kind == STEP and span.processor > 0)
