"""Where in a JSON text a value is."""

from __future__ import annotations

from bisect import bisect_right

from gosudacon.base import jsonio

Path = tuple[str | int, ...]
"""The way from the outermost value inwards: names of members and indexes of elements."""


class Positions:
    """Finds values in `text` by their paths.

    `text` must be a JSON text that `gosudacon.base.jsonio.loads` accepts. Only objects and arrays on the
    way to what is asked for are looked through, each once; all else is skipped by the C scanner.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._known: dict[int, dict[str | int, tuple[int, int]]] = {}
        self._lines: list[int] = []

    def value(self, path: Path) -> int:
        """Offset of the value at `path`, or of the innermost value on the way to it that does exist."""
        at = self._skip(0)
        for step in path:
            place = self._inside(at).get(step)
            if place is None:
                break
            at = place[1]
        return at

    def name(self, path: Path) -> int:
        """Offset of the name of the member at `path`; if it has no name, as `value`."""
        place = self._inside(self.value(path[:-1])).get(path[-1]) if path else None
        return self.value(path) if place is None else place[0]

    def found(self, path: Path) -> Path:
        """The part of `path` that exists."""
        at = self._skip(0)
        for number, step in enumerate(path):
            place = self._inside(at).get(step)
            if place is None:
                return path[:number]
            at = place[1]
        return path

    def end(self, path: Path) -> int:
        """The offset behind the value at `path`, or behind the innermost one on the way to it."""
        return jsonio.scan_value(self._text, self.value(path))[1]

    def line_column(self, offset: int) -> tuple[int, int]:
        """Line and column, each counted from 1 and the column in characters, of an offset."""
        if not self._lines:
            at = -1
            while True:
                self._lines.append(at + 1)
                at = self._text.find("\n", at + 1)
                if at < 0:
                    break
        line = bisect_right(self._lines, offset)
        return line, offset - self._lines[line - 1] + 1

    def _skip(self, at: int) -> int:
        """The next offset from `at` on that is not white space."""
        while self._text[at] in " \t\n\r":
            at += 1
        return at

    def _inside(self, start: int) -> dict[str | int, tuple[int, int]]:
        """Offsets of name and value of each member of the object (or element of the array) at `start`.

        Of members with the same name the last counts, as for the parser. Empty for other values.
        """
        known = self._known.get(start)
        if known is not None:
            return known
        found = self._known[start] = {}
        opening = self._text[start]
        if opening not in "{[":
            return found
        at = self._skip(start + 1)
        while self._text[at] not in "}]":
            name_at = at
            key: str | int = len(found)
            if opening == "{":
                key, at = jsonio.scan_string(self._text, at + 1)
                at = self._skip(self._skip(at) + 1)
            found[key] = (name_at, at)
            at = self._skip(jsonio.scan_value(self._text, at)[1])
            if self._text[at] == ",":
                at = self._skip(at + 1)
        return found
