"""Where in a picture of two lanes each step is, and each barrier between them."""

from __future__ import annotations

from gosudacon.pages.view import CONTAINER, RUNTIME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from gosudacon.pages.view import Row


class Arrow:
    """From a step to one of the other side that waits for it: indexes, and a track of its own next to others."""

    def __init__(self, source: int, target: int) -> None:
        self.source, self.target, self.track = source, target, 0


class Layout:
    """``at``: each row's line, the first is 1. ``headings``: (line, row's index) where a lane comes to another phase.

    What both sides do at a time is side by side; what waits is below what it waits for.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.at: list[int] = []
        self.headings: list[tuple[int, int]] = []
        self.arrows = [Arrow(row.waits, index) for index, row in enumerate(rows) if row.waits >= 0]
        last = {RUNTIME: 0, CONTAINER: 0}
        phase = {RUNTIME: "", CONTAINER: ""}
        for index, row in enumerate(rows):
            line = last[row.side] + 1
            if row.waits >= 0:
                line = max(line, self.at[row.waits] + 1)
            if row.late:  # of another command
                line = max(*last.values(), line - 1) + 1
            if phase[row.side] != row.phase:
                phase[row.side] = row.phase
                self.headings.append((line, index))
                line += 1
            self.at.append(line)
            last[row.side] = line
        self.lines = max(last.values())
        _tracks([(arrow, self.at[arrow.source], self.at[arrow.target]) for arrow in self.arrows])


def _tracks(spans: Sequence[tuple[Arrow, int, int]]) -> None:
    """The first track that is free for all of an arrow's lines."""
    ends: list[int] = []
    for arrow, start, end in sorted(spans, key=lambda span: span[1:]):
        free = next((number for number, until in enumerate(ends) if until < start), len(ends))
        ends[free : free + 1] = [end]
        arrow.track = free
