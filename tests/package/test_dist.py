"""Wheel and sdist: the same bytes each time, and the same program from both, by pip and by pipx."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.package.conftest import DATE, build
from tests.support.installation import with_network
from tests.support.runtime import CHECKOUT
from tests.support.timing import seconds
from tools import dist

OF_PIP = ("RECORD", "direct_url.json")
"""What pip notes about an installation."""

pytestmark = [pytest.mark.needs("compiler"), pytest.mark.slow]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The sdist, and the wheel that was built from it."""
    return build("dist", CHECKOUT, tmp_path_factory.mktemp("dist"), umask=0o022)


@pytest.fixture(scope="module")
def pip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with pipx."""
    home = tmp_path_factory.mktemp("pip")
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    subprocess.run(with_network(home / "bin/pip", "install", "--quiet", "pipx"), check=True)
    return home / "bin/python"


def test_same_bytes(distributions: list[Path], elsewhere: Path, tmp_path: Path) -> None:
    """Whatever the directory, the umask, the time zone and the hash seed."""
    again = build("dist", elsewhere, tmp_path, umask=0o077, seed=7)
    assert [path.name for path in again] == [path.name for path in distributions]
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in distributions]


def test_nothing_of_who_has_built_it(distributions: list[Path]) -> None:
    sdist, wheel = distributions
    with tarfile.open(sdist) as archive:
        for member in archive:
            assert (member.mtime, member.uid, member.gid, member.uname) == (DATE, 0, 0, "root")
            assert member.mode == (0o755 if member.isdir() else 0o644)
    for entry in zipfile.ZipFile(wheel).infolist():
        assert entry.date_time == (2023, 11, 14, 22, 13, 20)
        assert entry.external_attr >> 16 & 0o777 == (0o755 if entry.filename.endswith("/launcher") else 0o644) or (
            entry.filename.endswith("/RECORD")  # which the archive's writer makes
        )


def test_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert 1_700_000_000 < dist.epoch() < 4_000_000_000
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "17")
    assert dist.epoch() == 17


def test_sdist_and_wheel_are_one_program(distributions: list[Path], pip: Path, tmp_path: Path) -> None:
    found = []
    for path in distributions:
        target = tmp_path / path.name
        words = with_network(
            pip, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--target", target, path
        )
        subprocess.run(words, check=True, timeout=seconds(120))
        files = [file for file in target.rglob("*") if file.is_file() and file.name not in OF_PIP]
        found.append({str(file.relative_to(target)): file.read_bytes() for file in files})
    assert found[0] == found[1]
    assert "gosudacon/launcher/launcher" in found[0]


def test_pipx(distributions: list[Path], pip: Path, tmp_path: Path) -> None:
    """The command of pipx works, and ``install`` makes the launcher from it."""
    places = {name: str(tmp_path / name) for name in ("PIPX_HOME", "PIPX_BIN_DIR", "PIPX_MAN_DIR")}
    environment = {**os.environ, **places}
    words = with_network(pip, "-m", "pipx", "install", "--quiet", "--python", sys.executable, distributions[1])
    subprocess.run(words, check=True, env=environment, timeout=seconds(120))
    command = tmp_path / "PIPX_BIN_DIR/gosudacon"
    prefix = tmp_path / "prefix"
    result = subprocess.run([command, "install", "--prefix", prefix], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert f"installed {prefix}/bin/gosudacon (launcher)" in result.stdout
    version = subprocess.run([prefix / "bin/gosudacon", "--version"], check=True, capture_output=True, text=True)
    assert version.stdout.startswith("gosudacon version ")
