"""The manual: complete, and without a complaint from the programs that format it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from gosudacon.base.errors import Error
from gosudacon.cli import man
from gosudacon.cli import options as table
from gosudacon.cli.parse import parse
from tests.support.needs import needs

TOPICS = ["", *table.every()]


def plain(page: Path) -> str:
    """The page as man(1) prints it, without breaks and hyphens at ends of lines."""
    environment = {"PATH": "/usr/bin:/bin", "MANWIDTH": "500", "LC_ALL": "C.UTF-8", "MAN_KEEP_FORMATTING": ""}
    result = subprocess.run(
        ["man", "--local-file", "--warnings=w", "--no-hyphenation", page],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert result.stderr == ""
    return re.sub(r".\x08", "", result.stdout)


@needs("program:man")
@pytest.mark.parametrize("topic", TOPICS)
def test_man_shows_all_there_is(topic: str, tmp_path: Path) -> None:
    page = tmp_path / "page.8"
    page.write_text(man.page(topic))
    text = plain(page)
    title = f"gosudacon-{topic}" if topic else "gosudacon"
    assert f"{title.upper()}(8)" in text.splitlines()[0]
    for option in table.every()[topic]["options"] if topic else table.GLOBALS:
        spelled = (f"-{option.short}, " if option.short else "") + f"--{option.name} {option.metavar}".rstrip()
        shown = any(f"{line.strip()} ".startswith(f"{spelled} ") for line in text.splitlines())
        assert shown, spelled
    sections = re.findall(r"^[A-Z ]+$", text, re.MULTILINE)
    if topic:
        command = table.every()[topic]
        assert sections == ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "EXAMPLES", "SEE ALSO"]
        assert f"{title} - {command['summary']}" in text
        for line in command["example"].splitlines():
            assert f"gosudacon {line}" in text
        assert command["text"].split("`")[0].strip() in " ".join(text.split())  # lines are filled with blanks
    else:
        assert sections[:3] == ["NAME", "SYNOPSIS", "DESCRIPTION"]
        for name, command in table.every().items():
            assert f"gosudacon-{name}(8)" in text
            assert command["summary"][1:] in text


@needs("program:mandoc")
@pytest.mark.parametrize("topic", TOPICS)
def test_mandoc_finds_no_fault(topic: str, tmp_path: Path) -> None:
    page = tmp_path / "page.8"
    page.write_text(man.page(topic))
    result = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", page], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "")


def test_another_name() -> None:
    pages = man.pages("other.name")
    assert set(pages) == {"other.name", *(f"other.name-{command}" for command in table.every())}
    assert "\\fBother.name explain\\fR" in pages["other.name-create"]
    for text in pages.values():
        assert text.startswith('.\\" Made by gosudacon for the command other.name;')


@pytest.mark.parametrize("name", ["", ".x", "a b", "a\n.so /etc/passwd", "x'y"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(Error, match="invalid name"):
        man.page("", name)


def test_the_date_can_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert " 8 1970-01-02 " in man.page("create")


def test_the_command(capfd: pytest.CaptureFixture[str]) -> None:
    assert man.run(parse(["man", "create"])) == 0
    assert capfd.readouterr() == (man.page("create"), "")
    assert man.run(parse(["man"])) == 0
    assert capfd.readouterr() == (man.page(), "")
    with pytest.raises(Error, match="No help topic for 'nosuch'"):
        man.run(parse(["man", "nosuch"]))
