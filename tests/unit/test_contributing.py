"""What a newcomer reads first is right: the links of the documents, and the commands of the Makefile."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.runtime import CHECKOUT

DOCUMENTS = [*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/*.md"), *CHECKOUT.glob("examples/*.md")]
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", _FENCED.sub("", path.read_text()))
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_commands_of_the_makefile() -> None:
    """Each has a line for `make help`, and documents name no other."""
    text = (CHECKOUT / "Makefile").read_text()
    targets = re.findall(r"^\.PHONY: (\w+)$", text, re.MULTILINE)
    assert re.findall(r"^(\w+): ## ", text, re.MULTILINE) == targets
    assert {"lint", "unit", "test", "bench", "fmt", "help"} <= set(targets)
    named = [words for path in DOCUMENTS for words in re.findall(r"`make ([\w ]+)`", path.read_text())]
    assert named and {word for words in named for word in words.split()} <= set(targets)
