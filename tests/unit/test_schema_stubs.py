"""The schemas as types: `types.pyi` is what its generator makes, and knows every member of every object."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gosudacon.schema import compiler, stubs


def test_up_to_date() -> None:
    """Made anew by ``python -m gosudacon.schema.stubs``."""
    assert stubs.TARGET.read_text("utf-8") == stubs.source()


def test_complete() -> None:
    """Every object of the schemas has a class with its members."""
    classes = list(_classes())
    for kind in compiler.KINDS:
        for members in _objects(compiler.load(kind)):
            assert members in classes


def test_names_differ() -> None:
    names = [node.name for node in ast.parse(stubs.source()).body if isinstance(node, ast.ClassDef)]
    assert len(names) == len(set(names))


def _classes() -> Iterator[list[str]]:
    """The members of each class."""
    for node in ast.parse(stubs.source()).body:
        if isinstance(node, ast.ClassDef):
            yield [ast.unparse(part.target) for part in node.body if isinstance(part, ast.AnnAssign)]
        elif isinstance(node, ast.Assign):
            assert isinstance(node.value, ast.Call)
            table = node.value.args[1]
            assert isinstance(table, ast.Dict)
            yield [ast.literal_eval(key or table) for key in table.keys]


def _objects(schema: object) -> Iterator[list[str]]:
    """The members of each object that names them; ``then`` and the like name no others."""
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "properties" in schema:
            yield list(schema["properties"])
        for word, part in schema.items():
            if word not in ("if", "then", "anyOf"):
                yield from _objects(part)
