"""Help: from the table, complete, 80 columns; usage errors on the right descriptors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gosudacon.cli import help as helps
from gosudacon.cli import options as table
from gosudacon.cli.parse import UsageError, parse


@pytest.mark.parametrize("topic", ["", *table.every()])
def test_every_help_is_complete(topic: str) -> None:
    text = helps.text(topic)
    options = table.every()[topic]["options"] if topic else table.GLOBALS
    shown = {word.rstrip(",") for line in text.splitlines() for word in line.split()[:2] if line[:2] == "  "}
    for option in options:
        assert option.help and f"--{option.name}" in shown, "what help does not list does not exist"
        if option.short:
            assert f"-{option.short}, --{option.name}" in text
        if option.metavar:
            assert f"--{option.name} {option.metavar}" in text
    assert "Example" in text
    assert f"gosudacon {topic}".strip() in text


@pytest.mark.parametrize("topic", ["", *table.every()])
def test_every_help_fits(topic: str) -> None:
    text = helps.text(topic)
    assert text.isascii() and text.endswith("\n")
    for line in text.splitlines():
        assert len(line) <= 80
        assert line == line.rstrip()


def test_the_programs_help_lists_the_commands() -> None:
    text = helps.text()
    for name, command in table.every().items():
        assert f"  {name} " in text
        assert command["summary"].split()[0] in text


def test_the_readme_lists_the_commands() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text()
    rows = [f"| `{name}` | {command['summary']} |" for name, command in table.every().items()]
    assert "\n".join(rows) + "\n\n" in text


def test_hidden_options_parse() -> None:
    assert parse(["--criu", "/usr/sbin/criu", "state", "x"]).globals["criu"] == "/usr/sbin/criu"


def test_run_prints_on_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    assert helps.run(parse(["create", "--help"])) == 0
    assert capfd.readouterr() == (helps.text("create"), "")
    assert helps.run(parse([])) == 0
    assert capfd.readouterr() == (helps.text(), "")


@pytest.mark.parametrize(
    ("words", "out", "err"),
    [
        (["--nosuch"], helps.text(), "Incorrect Usage: flag provided but not defined: -nosuch\n\n"),
        (["state", "-x"], helps.text("state"), "Incorrect Usage: flag provided but not defined: -x\n\n"),
        (
            ["create", "--bundle"],
            helps.text("create"),
            "Incorrect Usage: flag needs an argument: --bundle\n\n",
        ),
        (["state"], "Incorrect Usage.\n\n" + helps.text("state"), ""),
        (["nosuch"], "", ""),
        (["list", "-f", "xml"], "", ""),
    ],
)
def test_usage_errors(words: list[str], out: str, err: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError) as caught:
        parse(words)
    helps.report(caught.value)
    assert capfd.readouterr() == (out, err)


def test_an_option_may_hold_odd_bytes(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError) as caught:
        parse(["state", "--\udcff\x1b[2J"])
    helps.report(caught.value)
    assert "\x1b" not in capfd.readouterr().err


def test_a_closed_stdout_hides_no_error() -> None:
    script = (
        "import os\nfrom gosudacon.cli import help\nfrom gosudacon.cli.parse import UsageError\n"
        "os.close(1)\nhelp.report(UsageError('no', heading='stdout', topic='state'))"
    )
    subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], check=True)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["creat"], "did you mean create?"),
        (["--rot", "/x", "list"], "did you mean --root?"),
        (["create", "--bundel", "/x", "a"], "did you mean --bundle?"),
        (["create", "--root", "/x", "a"], "--root is a global option: write it before create"),
        (["--bundle", "/x", "create", "a"], "--bundle is an option of a command: write it after create"),
        (["-b", "/x", "create", "a"], "-b is an option of a command: write it after create"),
        (["delete"], ""),
    ],
)
def test_what_was_meant(words: list[str], hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(words)
    assert helps.hint(caught.value).startswith(hint) and bool(helps.hint(caught.value)) == bool(hint)
