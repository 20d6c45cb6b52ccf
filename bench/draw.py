"""Draws the tables with rich, the bench's only dependency."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from .tables import Table

#: Width where there is no terminal to ask: tables must stay whole in a log.
PIPE_WIDTH = 140


def draw(tables: Sequence[Table], notes: Sequence[str] = ()) -> None:
    """Print tables, then notes, on stdout: coloured on a terminal, plain in a pipe."""
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)
    for table in tables:
        if table.rows:
            console.print(Text(table.title, style="bold"))
            console.print(_rich(table))
    for note in notes:
        console.print(Text(note))


def _rich(table: Table) -> RichTable:
    drawn = RichTable(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for number, head in enumerate(table.heads):
        words = number < table.words or head in ("", "left over")
        drawn.add_column(head, justify="left" if words else "right", no_wrap=number != len(table.heads) - 1)
    for row in table.rows:
        drawn.add_row(*(Text(cell) for cell in row))
    return drawn
