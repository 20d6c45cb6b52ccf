"""The public interface of plugins, as lines of text, and its record in tests/unit/api.txt.

    python -m tools.api_record             # write the record anew
    python -m tools.api_record --release   # the interface as it is becomes that of a release

What is new since the last release is marked with a +, what is gone with a -.

`tests/unit/test_api.py` compares, and wants each marked name in the section Unreleased of CHANGELOG.md.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from gosudacon import api, hookspecs
from gosudacon.testing import plugin
from gosudacon.testing.containers import Container, Containers
from gosudacon.testing.faults import Report
from gosudacon.testing.planning import Planner
from gosudacon.testing.roots import ScratchRoot

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "tests/unit/api.txt"
KEPT, NEW, GONE = "  ", "+ ", "- "
_TYPES = re.compile(r"^    from gosudacon\.schema\.types import (\w+) as \1", re.MULTILINE)


def interface() -> list[str]:
    """A line for each name, attribute and method, with its signature, sorted."""
    lines = [f"api.{line}" for name in api.__all__ for line in _of(name, getattr(api, name))]
    spec, host = api.Spec({}, "x", "/b"), api.Host()
    for value in (spec, host, api.Context(spec, host), api.Plan([])):
        owner = type(value).__name__
        lines += [f"api.{owner}.{name}: an attribute" for name in vars(value) if not name.startswith("_")]
    lines += [f"api.{name}: a type" for name in types()]
    for name, hook in vars(hookspecs).items():
        if name.startswith("gosudacon_"):
            lines.append(f"hookspecs.{name}{signature(hook)}")
    lines += [f"testing.{name}: a fixture" for name in vars(plugin) if name.startswith("oci_")]
    for kind in (Container, Containers, Planner, Report, ScratchRoot):
        lines += [f"testing.{line}" for line in _of(kind.__name__, kind)]
    return sorted(set(lines))


def types() -> list[str]:
    """The types for annotations."""
    return _TYPES.findall((ROOT / "gosudacon/api.py").read_text("utf-8"))


def _of(name: str, value: object) -> Iterator[str]:
    if inspect.ismodule(value):
        yield f"{name}: a module"
        for member, found in vars(value).items():
            if getattr(found, "__module__", "") == value.__name__ and not member.startswith("_"):
                yield from _of(f"{name}.{member}", found)
        return
    if not inspect.isclass(value):
        yield f"{name}{signature(value)}" if callable(value) else f"{name} = {value!r}"
        return
    yield f"{name}{signature(value)}"
    for kind in reversed(value.__mro__):
        if not kind.__module__.startswith("gosudacon."):
            continue
        for field, annotation in inspect.get_annotations(kind).items():
            if not field.startswith("_"):
                yield f"{name}.{field}: {annotation}"
        for member, found in vars(kind).items():
            if not member.startswith("_") or member == "__call__":
                yield from _member(f"{name}.{member}", found, inspect.get_annotations(kind))


def _member(name: str, value: object, annotated: dict[str, object]) -> Iterator[str]:
    if isinstance(value, property):
        yield f"{name}: a property"
    elif isinstance(value, classmethod | staticmethod):
        yield f"{name}{signature(value.__func__)}"
    elif inspect.isfunction(value):
        yield f"{name}{signature(value)}"
    elif inspect.ismemberdescriptor(value):
        yield f"{name}: an attribute"
    elif name.rpartition(".")[2] not in annotated:
        yield f"{name} = {value!r}"


def signature(value: object) -> str:
    """A signature as text: without the quotes of annotations, which are strings here; ``(…)`` if it has none."""
    try:
        text = str(inspect.signature(value))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return "(…)"
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)


def read() -> list[str]:
    """The lines of the record, marks and all."""
    return [line for line in RECORD.read_text("utf-8").splitlines() if line and not line.startswith("#")]


def recorded(lines: Iterable[str]) -> list[str]:
    """The interface that the record describes."""
    return [line[2:] for line in lines if not line.startswith(GONE)]


def marked(now: Iterable[str], lines: Iterable[str]) -> list[str]:
    """The record's lines for the interface ``now``: marks are against the release that ``lines`` know."""
    lines = list(lines)
    released = {line[2:] for line in lines if not line.startswith(NEW)}
    found = [(line, KEPT if line in released else NEW) for line in now]
    found += [(line, GONE) for line in released - {line for line, _ in found}]
    return [f"{mark}{line}" for line, mark in sorted(found)]


def unsaid(lines: Iterable[str], changelog: str) -> list[str]:
    """The marked lines whose name is nowhere in the section Unreleased of a changelog.

    The name is the last part: ``insert_before`` of ``api.Plan.insert_before(self, …)``.
    """
    section = re.search(r"^## \[Unreleased\]\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    words = set(re.findall(r"\w+", section[1] if section else ""))
    return [line for line in lines if line[:2] in (NEW, GONE) and _name(line[2:]) not in words]


def _name(line: str) -> str:
    return re.split(r"[(:= ]", line)[0].removesuffix(".__call__").rpartition(".")[2]


def main() -> None:
    """Write the record."""
    now = interface()
    lines = read() if RECORD.exists() and "--release" not in sys.argv else [KEPT + line for line in now]
    head = "# The interface of plugins; made by `python -m tools.api_record`, compared by tests/unit/test_api.py.\n"
    head += "# + is new since the last release, - is gone: docs/plugin-api.md.\n"
    RECORD.write_text(head + "".join(f"{line}\n" for line in marked(now, lines)), "utf-8")


if __name__ == "__main__":
    main()
