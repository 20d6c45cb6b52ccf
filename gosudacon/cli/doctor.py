"""``gosudacon doctor``."""

from __future__ import annotations

from gosudacon.base import jsonio, posix
from gosudacon.cli import output
from gosudacon.container.doctor import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation

_MARKS = {report.OK: "✓", report.LESS: "!", report.FAILS: "✗"}


def run(invocation: Invocation) -> int:
    """Print what this host has and lacks; 1 if containers do not work here. Raises `Error`."""
    config = posix.path.abspath(invocation.globals["config-file"]) if "config-file" in invocation.given else ""
    rows = report.examine(config, posix.environ)
    fails = any(row.mark == report.FAILS for row in rows)
    if invocation.options["format"] == "json":
        output.write(jsonio.dumps({"works": not fails, "rows": [vars(row) for row in rows]}, 2) + "\n")
    else:
        output.write("".join(_lines(rows)))
    return 1 if fails else 0


def _lines(rows: list[report.Row]) -> list[str]:
    width, lines, area = max(len(row.name) for row in rows) + 2, [], ""
    for row in rows:
        if row.area != area:
            area = row.area
            lines.append(f"{area}\n")
        found = "".join(character if character.isprintable() else "?" for character in row.found)
        lines.append(f"  {_MARKS[row.mark]} {row.name.ljust(width)}{found}\n")
        if row.advice:
            lines.append(f"    {'':{width}}→ {row.advice}\n")
    return lines
