"""Reads what ``strace -f -ttt -T`` and ``python -X importtime`` wrote. Pure: text in, values out."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass

_LINE = re.compile(r"^(\d+)\s+(\d+\.\d+) (.*)$")
_CALL = re.compile(r"^(\w+)\((.*)\s<(\d+\.\d+)>$")
_RESUMED = re.compile(r"^<\.\.\. \w+ resumed>(.*)$")
_UNFINISHED = " <unfinished ...>"
_IMPORT = re.compile(r"^import time:\s+(\d+) \|\s+(\d+) \|( +)(\S+)$")


@dataclass(frozen=True)
class Call:
    """One system call: who, when (seconds since the epoch), which, how long (seconds), as strace wrote it."""

    pid: int
    at: float
    name: str
    seconds: float
    text: str


def parse_strace(text: str) -> list[Call]:
    """Completed calls in the order in which they began; calls cut in two by another process are joined.

    Lines about signals and exits, and calls that never returned, are left out.
    """
    calls = []
    begun: dict[int, tuple[float, str]] = {}
    for line in text.splitlines():
        found = _LINE.match(line)
        if not found:
            continue
        pid, at, rest = int(found[1]), float(found[2]), found[3]
        if rest.endswith(_UNFINISHED):
            begun[pid] = (at, rest.removesuffix(_UNFINISHED))
            continue
        resumed = _RESUMED.match(rest)
        if resumed and pid in begun:
            at, start = begun.pop(pid)
            rest = start + resumed[1]
        call = _CALL.match(rest)
        if call:
            calls.append(Call(pid, at, call[1], float(call[3]), rest))
    return sorted(calls, key=lambda call: call.at)


def executed(calls: Iterable[Call], pid: int) -> tuple[list[str], bool] | None:
    """Arguments of the last program that ``pid`` executed, and whether it came by descriptor.

    None when it executed none, or strace shortened the list.
    """
    result = None
    for call in calls:
        if call.pid == pid and call.name in ("execve", "execveat") and " = 0 " in call.text:
            arguments = _string_list(call.text)
            result = None if arguments is None else (arguments, call.name == "execveat")
    return result


def _string_list(text: str) -> list[str] | None:
    start = text.find("[")
    if start < 0:
        return None
    inside, quoted, position = "[", False, start + 1
    while position < len(text):
        letter = text[position]
        inside += letter
        if letter == "\\":
            position += 1
            inside += text[position]
        elif letter == '"':
            quoted = not quoted
        elif letter == "]" and not quoted:
            break
        position += 1
    try:
        value = ast.literal_eval(inside)
    except (SyntaxError, ValueError):
        return None
    return value if all(isinstance(word, str) for word in value) else None


@dataclass(frozen=True)
class Totals:
    """How often, and for how many seconds in all, one system call was made."""

    count: int
    seconds: float


def totals(calls: Iterable[Call]) -> dict[str, Totals]:
    """Totals by system call, the most time first."""
    found: dict[str, Totals] = {}
    for call in calls:
        before = found.get(call.name, Totals(0, 0.0))
        found[call.name] = Totals(before.count + 1, before.seconds + call.seconds)
    return dict(sorted(found.items(), key=lambda item: -item[1].seconds))


@dataclass(frozen=True)
class Import:
    """One module: microseconds of its own and with what it imports, and how deep it was imported."""

    name: str
    own: int
    cumulative: int
    depth: int


def parse_imports(text: str) -> list[Import]:
    """Modules in the order in which their import ended; other lines are left out."""
    found = []
    for line in text.splitlines():
        match = _IMPORT.match(line)
        if match:
            found.append(Import(match[4], int(match[1]), int(match[2]), (len(match[3]) - 1) // 2))
    return found
