"""tools/node_prefix.py: what goes into the directory of a node's program. tests/clients/test_kubernetes.py runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gosudacon.base.errors import Error
from tools import node_prefix


def test_a_plugin_comes_with_its_entry_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "site-packages"
    (home / "gosudacon_x").mkdir(parents=True)
    (home / "gosudacon_x/__init__.py").write_text("")
    about = home / "gosudacon_x-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: gosudacon-x\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[gosudacon]\nx = gosudacon_x\n")
    files = ["gosudacon_x/__init__.py", "gosudacon_x/__pycache__/__init__.pyc", "../../bin/x", "gosudacon_x/gone"]
    (about / "RECORD").write_text("".join(f"{each},,\n" for each in [*files, f"{about.name}/entry_points.txt"]))
    monkeypatch.syspath_prepend(str(home))
    node_prefix.copy_distribution("gosudacon-x", tmp_path / "target")
    found = {str(path.relative_to(tmp_path / "target")) for path in (tmp_path / "target").rglob("*") if path.is_file()}
    assert found == {"gosudacon_x/__init__.py", f"{about.name}/entry_points.txt"}


def test_a_plugin_that_is_not_here(tmp_path: Path) -> None:
    with pytest.raises(Error, match="the package no-such-thing is not here, or not by pip"):
        node_prefix.copy_distribution("no-such-thing", tmp_path)
    node_prefix.copy_distribution("no-such-thing", tmp_path, is_optional=True)
    assert not any(tmp_path.iterdir())


def test_a_program_that_is_missing_is_named_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["node_prefix", "--prefix", str(tmp_path / "prefix")])
    with pytest.raises(SystemExit, match=r"the program ldd is missing \(install Debian.s libc-bin"):
        node_prefix.main()
    assert not (tmp_path / "prefix").exists()


def test_a_program_that_fails_says_why() -> None:
    with pytest.raises(Error, match=r"sh fails \(3\): why"):
        node_prefix._output(["sh", "-c", "echo why >&2; exit 3"])


@pytest.mark.parametrize(
    ("name", "stays"),
    [
        ("json", True),
        ("_ssl.cpython-311-x86_64-linux-gnu.so", True),
        ("os.cpython-311.pyc", True),
        ("os.cpython-311.opt-1.pyc", False),
        ("test", False),
        ("testing", True),
        ("dist-packages", False),
        ("_sqlite3.cpython-311-x86_64-linux-gnu.so", False),
        ("config-3.11-x86_64-linux-gnu", False),
    ],
)
def test_what_of_the_library_stays(name: str, stays: bool) -> None:
    assert (node_prefix.LEFT_OUT.match(name) is None) == stays
