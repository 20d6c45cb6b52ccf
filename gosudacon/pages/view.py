"""A plan as its page and its picture get it: plain values, and where in the file each has its place."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

RUNTIME, CONTAINER = "runtime", "container"


class Place:
    """A place in the configuration: ``where`` as messages write it, and the part of the text that it is.

    ``start`` and ``end`` are offsets in characters, -1 where the file does not say it. Not ``exact``: the innermost
    value that there is around it.
    """

    def __init__(self, where: str, start: int = -1, end: int = -1, line: int = 0, exact: bool = True) -> None:
        self.where, self.start, self.end, self.line, self.exact = where, start, end, line, exact


class Row:
    """A step. ``waits``: the index of the step that it waits for, -1 if none; ``seconds`` that it took and
    ``waited`` before, -1 if unknown.

    ``begins``: the first step of a process that the step ``waits`` has made. ``edit``: index of the plugin's edit
    behind it, -1 if none. ``verdict``: what an audit says of it.
    """

    def __init__(self, side: str, phase: str, stage: str, what: str, place: Place, kind: str = "") -> None:
        self.side, self.phase, self.stage, self.what, self.place, self.kind = side, phase, stage, what, place, kind
        self.lasts = self.begins = self.late = False
        self.waits = self.edit = -1
        self.edited_by = self.verdict = ""
        self.seconds = self.waited = -1.0
        self.about: list[str] = []  # paragraphs: what it does and why, where to read on
        self.details: list[str] = []  # what its line leaves out of what it sets


class Note:
    """A warning, a finding, an amendment or an assumption."""

    def __init__(self, kind: str, message: str, place: Place | None = None, hint: str = "", stage: str = "") -> None:
        self.kind, self.message, self.hint, self.stage = kind, message, hint, stage
        self.place = place or Place("")


class Share:
    """Something that is shared with the host: what it is, how grave that is, in a word, and why."""

    def __init__(self, topic: str, level: str, what: str, why: str, place: Place) -> None:
        self.topic, self.level, self.what, self.why, self.place = topic, level, what, why, place


class Edit:
    """A change of the configuration by a plugin; ``before`` and ``after`` are JSON, empty for what is not there."""

    def __init__(self, plugin: str, what: str, where: str, before: str, after: str) -> None:
        self.plugin, self.what, self.where, self.before, self.after = plugin, what, where, before, after


class View:
    """A plan with all that its page shows. ``about`` are lines about bundle and host, ``file`` names the text."""

    def __init__(self, id: str, file: str, text: str, rows: Sequence[Row]) -> None:
        self.id, self.file, self.text, self.rows = id, file, text, rows
        self.about: list[str] = []
        self.notes: list[Note] = []
        self.risk = ""  # the gravest level of what is shared
        self.topics: list[str] = []  # of what is shared, those that can be said something about
        self.shared: list[Share] = []
        self.edits: list[Edit] = []
        self.timed_by = ""  # the trace that times are from
