"""The report of ``gosudacon learn`` for people."""

from __future__ import annotations

import textwrap

from gosudacon.cli.output import cell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Row = Mapping[str, object]

_WIDTH = 100
_GAP = 2
_NUMBERS = ("COUNT",)  # columns that are aligned at the right
_ARGUMENTS = 3  # of six that a call may have: the JSON has all


def as_table(report: Row) -> str:
    """The report as text: a summary, what was refused, what was called, what was allowed and not used, warnings."""
    calls, refused = _rows(report, "calls"), _rows(report, "refused")
    unused = report.get("unused")
    parts = [_summary(report, calls, refused)]
    if refused:
        heads = ("REFUSED", "ARGUMENTS", "OUTCOME", "COUNT", "PROGRAM", "CONTAINER")
        parts.append(_table(heads, [_refusal(each) for each in refused]))
    more = report.get("refused_more")
    if more:
        parts.append(f"and {more} refusals more\n")
    parts.append(_table(("CALLED", "COUNT", "PROGRAMS"), [_call(each) for each in calls]))
    if isinstance(unused, list) and unused:
        words = " ".join(cell(str(name)) for name in unused)
        text = textwrap.fill(words, _WIDTH, break_long_words=False, break_on_hyphens=False)
        parts.append(f"ALLOWED, AND NOT USED\n{text}\n")
    warnings = report.get("warnings")
    if isinstance(warnings, list) and warnings:
        parts.append("".join(f"warning: {cell(str(text))}\n" for text in warnings))
    return "\n".join(parts)


def _summary(report: Row, calls: Sequence[Row], refused: Sequence[Row]) -> str:
    runs, unused = report.get("runs"), report.get("unused")
    counted = [f"{_number(len({str(each.get('name')) for each in calls}), 'system call')}"]
    counted.append(f"{len({str(each.get('name')) for each in refused})} refused")
    if isinstance(unused, list):
        counted.append(f"{len(unused)} allowed and not used")
    return f"{cell(str(report.get('profile')))}: {', '.join(counted)} ({_number(runs, 'run')})\n"


def _number(count: object, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _name(row: Row) -> str:
    """The call, with its architecture where that is not the machine's usual one."""
    architecture = str(row.get("architecture")).removeprefix("SCMP_ARCH_").lower()
    name = str(row.get("name") or f"#{row.get('number')}")
    return name if architecture in ("x86_64", "aarch64") else f"{name} ({architecture})"


def _call(row: Row) -> list[str]:
    programs = row.get("programs")
    shown = ", ".join(str(each) for each in programs) if isinstance(programs, list) else ""
    return [_name(row), str(row.get("count")), shown]


def _refusal(row: Row) -> list[str]:
    arguments = row.get("arguments")
    words = [str(each) for each in arguments] if isinstance(arguments, list) else []
    shown = ", ".join(words[:_ARGUMENTS]) + (", …" if len(words) > _ARGUMENTS else "")
    outcome = str(row.get("error") or str(row.get("action")).removeprefix("SCMP_ACT_"))
    program, comm = str(row.get("program") or "?"), str(row.get("comm") or "")
    if comm and comm != program.rpartition("/")[2]:  # a busybox, an interpreter, a thread with a name
        program = f"{program} ({comm})"
    return [_name(row), shown, outcome, str(row.get("count")), program, str(row.get("container"))]


def _rows(report: Row, name: str) -> list[Row]:
    found = report.get(name)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [list(heads), *([cell(text) for text in row] for row in rows)]
    widths = [max(len(text) for text in column) for column in zip(*lines, strict=True)]
    return "".join(_line(heads, line, widths) + "\n" for line in lines)


def _line(heads: Sequence[str], line: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        text.rjust(width) if head in _NUMBERS else text.ljust(width)
        for head, text, width in zip(heads, line, widths, strict=True)
    ]
    return (" " * _GAP).join(padded).rstrip()
