"""The text of a JSON file as HTML: highlighted, with numbers of lines, and marks at the places that steps come from."""

from __future__ import annotations

import re

from gosudacon.pages.markup import attribute, limited

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.pages.view import Place

LONGEST_TEXT = 1 << 20  # characters of a file that are shown
LONGEST_STRING = 4000  # characters of one value
_LONG_LINE = 1000  # characters: a file with such a line was not written for people, and is shown indented
_TOKEN = re.compile(
    r"""(?P<key>"(?:[^"\\]|\\.)*"(?=[ \t\r\n]*:))|(?P<string>"(?:[^"\\]|\\.)*")|(?P<number>[-0-9][-+.0-9eE]*)|"""
    r"""(?P<word>[a-z]+)|(?P<sign>\{[ \t\r\n]*\}|\[[ \t\r\n]*\]|[{}\[\]:,])|(?P<blank>[ \t\r\n]+)|(?P<other>.)""",
    re.DOTALL,
)
_CLASS = {"key": "k", "string": "s", "number": "d", "word": "w"}


class Mark:
    """A link from a place to what is about it: the target's id, what the mark looks like, and what it means."""

    def __init__(self, target: str, label: str, kind: str, title: str) -> None:
        self.target, self.label, self.kind, self.title = target, label, kind, title


class Node:
    """A part of the text that something is about."""

    def __init__(self, number: int, start: int, end: int) -> None:
        self.id = f"v{number}"
        self.start, self.end, self.line = start, end, 0
        self.marks: list[Mark] = []


class Source:
    """One file. First `mark` all places, then take its `html`; then `line` knows where a place is."""

    def __init__(self, content: str) -> None:
        self._text = content
        self._nodes: dict[tuple[int, int], Node] = {}
        self.indented = any(len(line) > _LONG_LINE for line in content.split("\n"))

    def mark(self, place: Place, mark: Mark) -> None:
        """Let a place lead to something."""
        if 0 <= place.start < min(place.end, LONGEST_TEXT):
            key = (place.start, place.end)
            node = self._nodes.setdefault(key, Node(len(self._nodes) + 1, *key))
            node.marks.append(mark)

    def line(self, place: Place) -> tuple[str, int]:
        """The id of a place on the page, and its line there; an empty id if it is not shown."""
        node = self._nodes.get((place.start, place.end))
        return (node.id, node.line) if node is not None and node.line else ("", 0)

    def html(self) -> str:
        """The lines, each beginning with its number."""
        return _Writer(self._text, sorted(self._nodes.values(), key=_order), self.indented).html()


def _order(node: Node) -> tuple[int, int]:
    return node.start, -node.end


class _Writer:
    """Goes through the text once. Nodes nest, as values of JSON do."""

    def __init__(self, content: str, nodes: list[Node], indented: bool) -> None:
        self._text, self._nodes, self._indented = content, nodes, indented
        self._out: list[str] = []
        self._open: list[Node] = []
        self._marks: list[Mark] = []  # of the line
        self._next = self._line = self._depth = 0

    def html(self) -> str:
        self._begin()
        for match in _TOKEN.finditer(self._text[:LONGEST_TEXT].rstrip()):
            self._enter(match.start())
            if match.lastgroup == "blank":
                self._blank(match[0])
            elif self._indented:
                self._indent(match[0], match.lastgroup or "")
            else:
                self._out.append(_token(match[0], match.lastgroup or ""))
            self._leave(match.end())
        self._leave(len(self._text) + 1)
        self._out.append(self._flush())
        if len(self._text) > LONGEST_TEXT:
            left = len(self._text) - LONGEST_TEXT
            self._out.append(f'\n<span class="cut">… {left:,} characters more are not shown</span>')
        return "".join(self._out)

    def _enter(self, at: int) -> None:
        while self._next < len(self._nodes) and self._nodes[self._next].start <= at:
            node = self._nodes[self._next]
            self._next += 1
            node.line = self._line
            self._open.append(node)
            self._marks += node.marks
            self._out.append(f'<span class="v" id="{node.id}">')

    def _leave(self, at: int) -> None:
        while self._open and self._open[-1].end <= at:
            self._open.pop()
            self._out.append("</span>")

    def _blank(self, token: str) -> None:
        if not self._indented:
            first, *rest = token.replace("\r", "").split("\n")
            self._out.append(first)
            for part in rest:
                self._break()
                self._out.append(part)

    def _indent(self, token: str, kind: str) -> None:
        if token in ("}", "]"):
            self._depth -= 1
            self._break()
        self._out.append(_token(token if kind != "sign" else re.sub(r"\s", "", token), kind))
        if token in ("{", "["):
            self._depth += 1
        if token in ("{", "[", ","):
            self._break()
        elif token == ":":
            self._out.append(" ")

    def _break(self) -> None:
        self._out.append(f"{self._flush()}\n")
        self._begin()
        self._out.append("  " * self._depth if self._indented else "")

    def _begin(self) -> None:
        self._line += 1
        self._out.append(f'<a class="n" id="L{self._line}" href="#L{self._line}" tabindex="-1">{self._line}</a>')

    def _flush(self) -> str:
        """The marks of a line, at its end."""
        marks = "".join(
            f' <a class="m {mark.kind}" href="#{mark.target}" title="{attribute(mark.title)}">{mark.label}</a>'
            for mark in self._marks
        )
        self._marks = []
        return marks


def _token(token: str, kind: str) -> str:
    html = limited(token, LONGEST_STRING)
    return f'<span class="{_CLASS[kind]}">{html}</span>' if kind in _CLASS else html
