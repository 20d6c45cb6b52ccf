"""Writes the tables of docs/config.md and docs/properties.md from the schema of config.json, that of docs/explain.md,
docs/a-container-step-by-step.md from the docstrings of steps, and docs/plugin-reference.md from those of the interface.

    python tools/pages.py

What is outside of the marks in these files is kept. tests/unit/test_properties_docs.py compares them with what this
makes.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:0] = [path for path in (str(CHECKOUT),) if path not in sys.path]

from gosudacon.container import risk  # noqa: E402
from gosudacon.schema import compiler, descriptions  # noqa: E402
from tools import course, reference  # noqa: E402
from tools.properties import HOOKS, PROPERTIES  # noqa: E402

if TYPE_CHECKING:
    from gosudacon.schema.compiler import Schema

BEGIN, END = "<!-- Made by tools/pages.py. -->\n", "<!-- The end of what tools/pages.py makes. -->\n"
_UNSET = (1 << 64) - 1


def properties(schema: Schema, at: str = "") -> Iterator[tuple[str, Schema, bool]]:
    """Place, schema, and whether it must be there, of everything in ``schema``: ``mounts[].type``, ``linux.rdma.*``."""
    if "items" in schema:
        yield from properties(schema["items"], f"{at}[]")
    elif "properties" in schema:
        for name, part in schema["properties"].items():
            place = f"{at}.{name}" if at else name
            yield place, part, name in schema.get("required", ())
            yield from properties(part, place)
    elif "additionalProperties" in schema:
        yield from properties(schema["additionalProperties"], f"{at}.*")


def config() -> list[tuple[str, Schema, bool]]:
    """Those of config.json."""
    return list(properties(compiler.load("config")))


def leniency() -> str:
    """The table of docs/config.md."""
    lines = ["| property | allowed | absent | taken as well | with a warning |", "| --- | --- | --- | --- | --- |"]
    for place, schema, required in config():
        missing = "refused" if required else f"`{_value(schema['default'])}`" if "default" in schema else "unset"
        read = "; ".join(f"`{_value(value)}`: {_read(new)}" for value, new in schema.get("read", ()))
        cells = (f"`{place}`", _allowed(schema), missing, read, schema.get("warns", ""))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _allowed(schema: Schema) -> str:
    words = descriptions.allowed(schema)
    items = schema.get("items", {})
    if items.get("enum") or items.get("format", "text") != "text":
        words += f": {descriptions.allowed(items)}"
    return words.replace(str(_UNSET), "2^64-1")


def _value(value: object) -> str:
    if value == _UNSET:
        return "2^64-1"
    return "false" if value is False else str(value) or '""'


def _read(new: object) -> str:
    return "unset" if new is None else f"`{_value(new)}`"


def rule(place: str) -> tuple[str, str, str]:
    """Steps, test and kernel of a property. Raises KeyError for one that is not listed."""
    while place not in PROPERTIES:
        for name in HOOKS:
            other = place.replace(f"hooks.{name}[]", "hooks.prestart[]")
            if other in PROPERTIES:
                return PROPERTIES[other]
        shorter = place.rpartition(".")[0] if not place.endswith("[]") else place[:-2]
        if not shorter or shorter == "linux":
            raise KeyError(place)
        place = shorter.removesuffix(".*")
    return PROPERTIES[place]


def stages() -> dict[str, str]:
    """Class of a step -> name of its stage."""
    found: dict[str, str] = {}
    for path in sorted((CHECKOUT / "stages").rglob("*.py")):
        stage = path.relative_to(CHECKOUT / "stages").parts[0].removesuffix(".py").replace("_", "-")
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, stage)
    return found


def table() -> str:
    """The table of docs/properties.md."""
    known = stages()
    lines = ["| property | stage | step | test | since Linux |", "| --- | --- | --- | --- | --- |"]
    for place, _, _ in config():
        if place in ("linux", "linux.namespaces"):
            continue
        steps, test, kernel = rule(place)
        if steps.startswith("- "):
            stage, names = "", steps[2:]
        else:
            stage = known[steps.split()[0]]
            names = ", ".join(f"`{name}`" for name in steps.split())
        lines.append(f"| `{place}` | {stage} | {names} | `{test}` | {kernel} |")
    return "\n".join(lines) + "\n"


def reasons() -> str:
    """The table of docs/explain.md: what raises the risk of a container."""
    lines = ["| reason | shown under | level | in a user namespace | why |", "| --- | --- | --- | --- | --- |"]
    for name, (topic, grave, mild, why) in risk.REASONS.items():
        lines.append(f"| `{name}` | {topic} | {grave} | {mild} | {why} |")
    return "\n".join(lines) + "\n"


PAGES = {
    "docs/config.md": leniency,
    "docs/properties.md": table,
    "docs/explain.md": reasons,
    "docs/a-container-step-by-step.md": course.text,
    "docs/plugin-reference.md": reference.text,
}


def page(name: str) -> str:
    """What the file ``name`` should hold: what it does, with the part between the marks made anew."""
    head, begin, rest = (CHECKOUT / name).read_text("utf-8").partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{name}: no marks")
    return head + BEGIN + "\n" + PAGES[name]() + "\n" + END + tail


if __name__ == "__main__":
    for each in PAGES:
        (CHECKOUT / each).write_text(page(each), "utf-8")
