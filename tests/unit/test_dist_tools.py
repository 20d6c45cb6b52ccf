"""tools/dist.py and tools/deb.py where nothing is built: dates, versions, messages, and the parts of the package."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

import gosudacon
from gosudacon.launcher import packages
from gosudacon.pipeline import discovery
from tests.support.runtime import CHECKOUT
from tools import deb, dist
from tools.node_prefix import site_directories

PARTS = CHECKOUT / "tools/debian"
MODULES = "/usr/lib/python3/dist-packages"


@pytest.fixture
def no_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a date from outside."""
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)


def commit(directory: Path, date: int) -> None:
    """Make a repository with one commit of this date."""
    names = {f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    dates = {"GIT_AUTHOR_DATE": f"{date} +0000", "GIT_COMMITTER_DATE": f"{date} +0000"}
    environment = {**os.environ, **names, **dates, "GIT_CONFIG_GLOBAL": "/dev/null"}
    for words in (["init", "--quiet"], ["commit", "--quiet", "--allow-empty", "--message=x"]):
        subprocess.run(["git", "-C", directory, *words], check=True, env=environment)


@pytest.mark.needs("program:git")
def test_date_is_that_of_the_last_commit(no_date: None, tmp_path: Path) -> None:
    commit(tmp_path, 1_600_000_000)
    assert dist.epoch(tmp_path) == 1_600_000_000


@pytest.mark.needs("program:git")
def test_date_of_an_sdist_that_lies_in_a_repository_of_others(no_date: None, tmp_path: Path) -> None:
    commit(tmp_path, 1_600_000_000)
    (tmp_path / "sdist").mkdir()
    (tmp_path / "sdist/CHANGELOG.md").write_text("")
    os.utime(tmp_path / "sdist/CHANGELOG.md", (1_500_000_000, 1_500_000_000))
    assert dist.epoch(tmp_path / "sdist") == 1_500_000_000


def test_a_date_that_is_not_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(dist.Failed, match="SOURCE_DATE_EPOCH is 'yesterday', not a number of seconds"):
        dist.epoch()


@pytest.mark.parametrize(
    ("changelog", "suffix"),
    [
        ("## [Unreleased]\n\n- new\n\n## [0.1.0]\n", "+20231114221320"),
        ("## [Unreleased]\n\n- new\n", "+20231114221320"),  # before the first release
        ("## [Unreleased]\n\n## [0.1.0]\n\n- old\n", ""),
        ("## [0.1.0]\n\n- old\n", ""),
    ],
)
def test_version_has_the_date_before_a_release(changelog: str, suffix: str) -> None:
    assert deb.version_of(changelog, 1_700_000_000) == f"{gosudacon.__version__}{suffix}-1"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (dist.Failed("why"), "tools.x: why"),
        (FileNotFoundError(2, "No such file or directory", "dpkg"), "tools.x: dpkg is missing"),
        (PermissionError(13, "Permission denied", "/d"), "tools.x: [Errno 13] Permission denied: '/d'"),
        (subprocess.CalledProcessError(3, ["/bin/pip", "install"]), "tools.x: pip failed with exit status 3"),
    ],
)
def test_what_goes_wrong_is_one_line(error: Exception, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(_target: Path) -> Iterable[Path]:
        raise error

    monkeypatch.setattr("sys.argv", ["x"])
    with pytest.raises(SystemExit) as caught:
        dist.command_line("tools.x", "", build)
    assert caught.value.code == message


def test_command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An option is not a directory to build in."""
    given: list[Path] = []

    def build(target: Path) -> list[Path]:
        given.append(target)
        return [target / "made"]

    for words in ([], ["somewhere"]):
        monkeypatch.setattr("sys.argv", ["x", *words])
        dist.command_line("tools.x", "", build)
    assert given == [CHECKOUT / "dist", Path("somewhere")]
    assert capsys.readouterr().out == f"{CHECKOUT}/dist/made\nsomewhere/made\n"
    monkeypatch.setattr("sys.argv", ["x", "--nonsense"])
    with pytest.raises(SystemExit):
        dist.command_line("tools.x", "", build)


@pytest.mark.needs("program:dpkg-deb")
def test_a_package_is_complete_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    with pytest.raises(subprocess.CalledProcessError):
        deb._pack(tmp_path / "root", tmp_path / "x.deb")
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_documents_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an editor leaves beside them is not in it, or the bytes would depend on it."""
    (tmp_path / "docs/old.d").mkdir(parents=True)
    for name in ("README.md", "CHANGELOG.md", "docs/a.md", "docs/b.svg", "docs/a.md~", "docs/.a.md.swp", "docs/.#a.md"):
        (tmp_path / name).write_text("x")
    monkeypatch.setattr(deb, "CHECKOUT", tmp_path)
    deb._put_documents(tmp_path / "root", "1", 0)
    assert sorted(path.name for path in (tmp_path / "root").rglob("docs/*")) == ["a.md", "b.svg"]


def test_the_configuration_names_every_plugin_that_ships() -> None:
    shipped = [plugin.name for plugin in discovery.available() if not plugin.package]
    text = " ".join((PARTS / "config.toml").read_text().replace("\n#", " ").split())
    assert f"those that ship ({', '.join(shipped)})" in text


def test_a_trigger_for_every_package_of_which_a_build_has_a_copy() -> None:
    copied = packages._dependencies(CHECKOUT / "gosudacon", site_directories())
    watched = re.findall(rf"^interest-noawait {MODULES}/(.+)$", (PARTS / "triggers").read_text(), re.M)
    assert {path.name for path in copied} <= {*watched}
    assert watched == sorted(watched)


@pytest.mark.parametrize("there", [True, False])
def test_prerm_of_an_upgrade(there: bool, tmp_path: Path) -> None:
    """It removes bytecode, and does not stop dpkg where the modules are gone."""
    if there:
        (tmp_path / "gosudacon/linux/__pycache__").mkdir(parents=True)
        (tmp_path / "gosudacon/linux/abi.py").write_text("")
    script = (PARTS / "prerm").read_text().replace(MODULES, str(tmp_path))
    assert str(tmp_path) in script
    subprocess.run(["sh", "-c", script, "prerm", "upgrade", "2"], check=True)
    left = [path.name for path in tmp_path.rglob("*")]
    assert left == (["gosudacon", "linux", "abi.py"] if there else [])
