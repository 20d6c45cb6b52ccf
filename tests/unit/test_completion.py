"""Completions, in real shells on a terminal."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from gosudacon.base.errors import Error
from gosudacon.cli import completion, option_values
from gosudacon.cli import options as table
from gosudacon.cli.parse import parse
from tests.support.needs import needs
from tests.support.shell import complete

SHELLS = [pytest.param(shell, marks=needs(f"program:{shell}")) for shell in completion.SHELLS]
LISTER = """\
#!/bin/sh
[ "$1$3$4" != "--rootlist--quiet" ] || echo "web-$2"
[ "$1$2$3" != "--root=/rlist--quiet" ] || echo web-equals
[ "$1$2" != "list--quiet" ] || printf 'web1\\nweb2\\nother\\n$(touch broken)\\n'
"""

pytestmark = [pytest.mark.slow]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a file, a directory, and the program that is asked for containers."""
    (tmp_path / "config.json").touch()
    (tmp_path / "folder").mkdir()
    lister = tmp_path / ".lister"
    lister.write_text(LISTER)
    lister.chmod(0o755)
    return tmp_path


def offers(shell: str, line: str, place: Path) -> list[str]:
    return complete(shell, completion.text(shell, "gosudacon", str(place / ".lister")), line, place)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("gosudacon pa", ["pause"]),
        ("gosudacon --root /r pa", ["pause"]),
        ("gosudacon --debug --root=/r --log-format json pa", ["pause"]),
        ("gosudacon --cgroup-manager ", ["cgroupfs", "disabled", "systemd"]),
        ("gosudacon --ver", ["--version"]),
        ("gosudacon list --format ", ["json", "table"]),
        ("gosudacon list -f j", ["json"]),
        ("gosudacon list --q", ["--quiet"]),
        ("gosudacon state w", ["web1", "web2"]),
        ("gosudacon --root /r state w", ["web-/r"]),
        ("gosudacon --root=/r state w", ["web-equals"]),
        ("gosudacon kill --all web1 WIN", ["WINCH"]),
        ("gosudacon delete --force o", ["other"]),
        ("gosudacon help expl", ["explain"]),
        ("gosudacon completion ", ["bash", "fish", "zsh"]),
        ("gosudacon exec web1 --t", []),
        ("gosudacon exec --tt", ["--tty"]),
        ("gosudacon exec --user 0 w", ["web1", "web2"]),
        ("gosudacon create --bundle f", ["folder"]),
        ("gosudacon explain f", ["folder"]),
        ("gosudacon explain w", ["web1", "web2"]),
        ("gosudacon explain folder w", ["web1", "web2"]),
        ("gosudacon exec --process con", ["config.json"]),
        ("gosudacon state -- w", ["web1", "web2"]),
    ],
)
def test_offers(shell: str, line: str, expected: list[str], place: Path) -> None:
    found = [offer.removesuffix("/").removeprefix("./") for offer in offers(shell, line, place)]
    assert found == expected
    assert not (place / "broken").exists()


@pytest.mark.parametrize("shell", SHELLS)
def test_a_value_after_equals(shell: str, place: Path) -> None:
    found = offers(shell, "gosudacon list --format=", place)
    assert [offer.removeprefix("--format=") for offer in found] == ["json", "table"]


@pytest.mark.parametrize("shell", SHELLS)
def test_all_commands(shell: str, place: Path) -> None:
    assert offers(shell, "gosudacon ", place) == sorted(table.every())


@pytest.mark.parametrize("shell", SHELLS)
def test_all_options(shell: str, place: Path) -> None:
    for command in ("", "create", "update", "run", "exec"):
        options = option_values.options(command) if command else option_values.globals_()
        expected = {f"--{option.name}" for option in options}
        found = offers(shell, f"gosudacon {command} --".replace("  ", " "), place)
        assert {offer.removesuffix("=") for offer in found} == expected, command


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_parses(shell: str, tmp_path: Path) -> None:
    path = tmp_path / "script"
    path.write_text(completion.text(shell, "x.y-z", "/a b/x.y-z"))
    result = subprocess.run([shell, "-n", path], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


def test_the_command(capfd: pytest.CaptureFixture[str]) -> None:
    for shell in completion.SHELLS:
        assert completion.run(parse(["completion", shell])) == 0
        assert capfd.readouterr() == (completion.text(shell), "")
    assert completion.run(parse(["completion", "--name", "other", "bash"])) == 0
    assert "complete -F _other other\n" in capfd.readouterr().out
    with pytest.raises(Error, match="no completion for the shell 'ksh'"):
        completion.run(parse(["completion", "ksh"]))
    with pytest.raises(Error, match="invalid name"):
        completion.text("bash", "x;y")
