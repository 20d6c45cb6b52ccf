"""Editing a list of names, and switching tables off and on, in the text of a TOML file; everything else stays.

The standard library reads TOML and does not write it. This finds the one list it is to change by a small scanner,
and the caller compares what the new text means with what it should mean.
"""

from __future__ import annotations

import re

OFF = "#off# "  # in front of each line of a table that has been switched off
_KEY = re.compile(r"[ \t]*(?:\"([^\"\\]*)\"|'([^']*)'|([A-Za-z0-9_-]+))[ \t]*=")
_HEADER = re.compile(r"[ \t]*\[([^\[\]\n]+)\][ \t]*(?:#.*)?$")
_STRING = re.compile(r'"""(?:\\.|[^\\])*?"""|\'\'\'.*?\'\'\'|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'', re.DOTALL)


class Unreadable(Exception):
    """The scanner does not understand the text; a person will have to edit it."""


def append(text: str, key: str, item: str) -> str:
    """``text`` with ``item`` as the last of the list ``key`` at the top level, which is made if need be."""
    span = _find(text, key)
    if span is None:
        at = _end_of_top_level(text)
        return f'{text[:at]}{key} = ["{item}"]\n{text[at:]}'
    begin, end = span
    items = _items(text, begin, end)
    if not items:
        return f'{text[: begin + 1]}"{item}"{text[begin + 1 :]}'
    last = items[-1][1]
    if "\n" not in text[begin:last]:
        return f'{text[:last]}, "{item}"{text[last:]}'
    line = text.rfind("\n", 0, items[-1][0]) + 1
    indent = re.match(r"[ \t]*", text[line:])
    comma = _comma(text, last, end)
    rest = text.find("\n", comma or last)
    at = rest if 0 <= rest < end else end
    head = text[:at] if comma else f"{text[:last]},{text[last:at]}"
    return f'{head}\n{indent[0] if indent else ""}"{item}",{text[at:]}'


def remove(text: str, key: str, item: str) -> str:
    """``text`` without ``item`` in the list ``key``; a comment on its line stays."""
    span = _find(text, key)
    if span is None:
        raise Unreadable(key)
    begin, end = span
    items = _items(text, begin, end)
    for index, (first, last, name) in enumerate(items):
        if name != item:
            continue
        comma = _comma(text, last, end)
        if comma:
            last = comma
            if index < len(items) - 1 and "\n" not in text[last : items[index + 1][0]]:
                last = items[index + 1][0]
        elif index and "\n" not in text[items[index - 1][1] : first]:
            first = _comma(text, items[index - 1][1], end) - 1
        return _without_blank_line(text[:first], text[last:])
    raise Unreadable(key)


def switch_off(text: str, table: str) -> str:
    """``text`` with the lines of ``[table]``, and of tables below it, made comments that `switch_on` knows."""
    lines, inside = [], False
    for line in text.splitlines(keepends=True):
        header = _HEADER.match(line)
        if header:
            inside = _belongs(header[1], table)
        lines.append(OFF + line if inside and line.strip() and not line.startswith("#") else line)
    return "".join(lines)


def switch_on(text: str, table: str) -> str:
    """``text`` with what `switch_off` has made of ``[table]`` as it was."""
    lines, inside = [], False
    for line in text.splitlines(keepends=True):
        header = _HEADER.match(line.removeprefix(OFF))
        if header:
            inside = line.startswith(OFF) and _belongs(header[1], table)
        lines.append(line.removeprefix(OFF) if inside else line)
    return "".join(lines)


def _belongs(header: str, table: str) -> bool:
    name = re.sub(r"[\"' \t]", "", header)
    return name == table or name.startswith(f"{table}.")


def _without_blank_line(head: str, tail: str) -> str:
    """``head`` and ``tail`` in one, without the line between them if nothing is on it any more."""
    line = head.rfind("\n") + 1
    blank = re.match(r"[ \t]*\n", tail)
    return head[:line] + tail[blank.end() :] if blank and not head[line:].strip() else head + tail


def _find(text: str, key: str) -> tuple[int, int] | None:
    """Where the list ``key`` begins and ends, brackets included; None if the top level has no such key."""
    at = 0
    while at < len(text):
        if _HEADER.match(text[at:].partition("\n")[0]) or text[at:].lstrip(" \t").startswith("["):
            return None
        found = _KEY.match(text, at)
        if found is None:
            at = _next_line(text, at)
            continue
        end = _value_end(text, found.end())
        if key in found.groups():
            begin = text.find("[", found.end(), end)
            if begin < 0 or text[found.end() : begin].strip():
                raise Unreadable(key)
            return begin, end
        at = _next_line(text, end)
    return None


def _end_of_top_level(text: str) -> int:
    """Where a key can be added: behind the last key of the top level, else behind the comment that begins the file."""
    at, last = 0, -1
    while at < len(text) and not text[at:].lstrip(" \t").startswith("["):
        found = _KEY.match(text, at)
        at = _next_line(text, _value_end(text, found.end()) if found else at)
        if found:
            last = at
    if last >= 0:
        return last
    comment = re.match(r"(?:#.*\n)+\n", text)
    return comment.end() if comment else 0


def _next_line(text: str, at: int) -> int:
    return text.find("\n", at) + 1 or len(text)


def _value_end(text: str, at: int) -> int:
    """Where the value that begins at ``at`` ends: a line's end outside of brackets, or the last closing bracket."""
    depth = 0
    while at < len(text):
        string = _STRING.match(text, at)
        if string:
            at = string.end()
            continue
        character = text[at]
        if character == "#":
            at = text.find("\n", at)
            if at < 0:
                break
            continue
        depth += (character in "[{") - (character in "]}")
        at += 1
        if character in "]}" and depth == 0:
            return at
        if character == "\n" and depth == 0:
            return at - 1
    if depth:
        raise Unreadable("a bracket that is not closed")
    return len(text)


def _items(text: str, begin: int, end: int) -> list[tuple[int, int, str]]:
    """The strings of a list: where each begins and ends, and what it says."""
    found, at = [], begin + 1
    while at < end - 1:
        string = _STRING.match(text, at)
        if string:
            found.append((at, string.end(), string[0].strip("\"'")))
            at = string.end()
        elif text[at] == "#":
            at = text.find("\n", at)
        elif text[at] in ", \t\r\n":
            at += 1
        else:
            raise Unreadable("a list of something else than strings")
    return found


def _comma(text: str, at: int, end: int) -> int:
    """Behind the comma that follows, comments between them left out; 0 if it does not exist."""
    while at < end - 1:
        if text[at] == ",":
            return at + 1
        if text[at] == "#":
            at = text.find("\n", at)
        elif not text[at].isspace():
            return 0
        else:
            at += 1
    return 0
