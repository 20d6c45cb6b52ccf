"""docs/architecture.md: what its map from question to file names exists, and its table of folders is complete."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.runtime import CHECKOUT

TEXT = (CHECKOUT / "docs/architecture.md").read_text()


def packages() -> list[Path]:
    """The __init__.py of every package of the program."""
    return [
        path for top in ("gosudacon", "stages", "plugins", "schema") for path in (CHECKOUT / top).rglob("__init__.py")
    ]


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    section = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def references() -> Iterator[tuple[str, str]]:
    """(path, symbol) of the map; an empty symbol for the path itself. A symbol belongs to the path before it."""
    for _, answer in rows("Where is …?"):
        path = ""
        for word in re.findall(r"`([^`]+)`", answer):
            if "/" in word:
                path = word
                yield path, ""
            elif not word.startswith(("kill -", "update")):
                yield path, word


def defines(source: str, symbol: str) -> bool:
    """Whether a module has that class, function or constant; of ``Class.method`` the method in that class."""
    owner, _, name = symbol.rpartition(".")
    if owner:
        body = re.search(rf"^class {owner}\b.*\n((?:[ \t].*\n|\n)*)", source, re.MULTILINE)
        return body is not None and re.search(rf"^    def {name}\b", body[1], re.MULTILINE) is not None
    return re.search(rf"^(?:(?:class|def) {name}\b|{name}(?:: .*)? = )", source, re.MULTILINE) is not None


@pytest.mark.parametrize(("path", "symbol"), list(references()))
def test_map(path: str, symbol: str) -> None:
    """Every file is there, and every symbol is in it."""
    file = CHECKOUT / path
    assert file.is_file()
    assert not symbol or defines(file.read_text(), symbol)


_FILE = r"`([^`]+/[^`]+)`: `([\w.]+)`"
_CALLED_BY = re.compile(_FILE + r",? (?:called|read|passed on) by (?:`([^`]+/[^`]+)`: )?`([\w.]+)`")
_CALLS = re.compile(_FILE + r",? which calls (?:the hook documented in )?`([^`]+/[^`]+)`: `([\w.]+)`")


def calls() -> Iterator[tuple[str, str]]:
    """(path of the caller, what it calls) as the map has it."""
    for _, answer in rows("Where is …?"):
        for path, name, caller, _ in _CALLED_BY.findall(answer):
            yield caller or path, name
        for caller, _, _, name in _CALLS.findall(answer):
            yield caller, name


@pytest.mark.parametrize(("path", "name"), list(calls()))
def test_who_calls_whom(path: str, name: str) -> None:
    """The caller's file names what it is said to call, or a constant of the program's for a hook."""
    last = name.rpartition(".")[2]
    text = (CHECKOUT / path).read_text()
    hooks = (CHECKOUT / "gosudacon/pipeline/registry.py").read_text()
    constants = re.findall(rf'^(\w+) = "{last}"$', hooks, re.MULTILINE)
    assert any(re.search(rf"\b{each}\b", text) for each in (last, *constants))


def test_calls_are_found() -> None:
    assert len([*calls()]) >= 5


def test_every_question_has_a_file() -> None:
    """An answer begins with, or leads to, a path."""
    for question, answer in rows("Where is …?"):
        assert "/" in answer, question


def test_folders() -> None:
    """Every package of the program is in the table, and no other folder."""
    named = {word.strip("/") for cells in rows("Where things are") for word in re.findall(r"`([^`]+/)`", cells[0])}
    packages = {f"gosudacon/{path.parent.name}" for path in (CHECKOUT / "gosudacon").glob("*/__init__.py")}
    linked = {f"gosudacon/{path.name}" for path in (CHECKOUT / "gosudacon").iterdir() if path.is_symlink()}
    expected = packages - linked | {link.removeprefix("gosudacon/") for link in linked} | {"gosudacon/linux/cgroup"}
    assert named == expected


@pytest.mark.parametrize("heading", ["Where things are", "Where is …?", "Glossary"])
def test_nothing_is_said_twice(heading: str) -> None:
    """A merge that keeps both sides' lines leaves a row in two versions."""
    first = [cells[0] for cells in rows(heading)]
    assert sorted(set(first)) == sorted(first)


def test_glossary_is_sorted() -> None:
    """A reader looks up a word by its first letter."""
    words = [word for word, _ in rows("Glossary")]
    assert words == sorted(words)


@pytest.mark.parametrize("path", sorted(str(path.relative_to(CHECKOUT)) for path in packages()))
def test_package_docstring(path: str) -> None:
    """A package says what it does, what it may use, and where to start reading."""
    doc = ast.get_docstring(ast.parse((CHECKOUT / path).read_text())) or ""
    assert re.match(r".+\n\nMay use: .+\nStart with .+", doc)
