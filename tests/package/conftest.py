"""Fixtures of the tests of what is handed out: packages built twice, and roots of Debian's to install them in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.package.root import Root
from tests.support.installation import with_network
from tests.support.runtime import CHECKOUT
from tests.support.timing import seconds
from tools.environments import copy_checkout

DATE = 1_700_000_000
"""When the packages are built, if they are asked."""
ROOTS = "GOSUDACON_TEST_ROOTS"
"""The variable that names the directory of the roots, which `tools/test package` unpacks."""


def build(tool: str, checkout: Path, target: Path, *, umask: int, date: int = DATE, seed: int = 0) -> list[Path]:
    """Run ``tools.TOOL`` of a checkout; what it has built."""
    result = subprocess.run(
        with_network(sys.executable, "-B", "-m", f"tools.{tool}", target),
        cwd=checkout,
        env={**os.environ, "SOURCE_DATE_EPOCH": str(date), "PYTHONHASHSEED": str(seed), "TZ": f"XYZ{seed}"},
        umask=umask,
        capture_output=True,
        text=True,
        timeout=seconds(120),
    )
    assert result.returncode == 0, result.stderr
    return [Path(line) for line in result.stdout.splitlines()]


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout in another place, all of whose files its group can write to."""
    copy = copy_checkout(CHECKOUT, tmp_path_factory.mktemp("elsewhere") / "a copy")
    for path in copy.rglob("*"):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | 0o020)
    return copy


@pytest.fixture(scope="session")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Debian package."""
    (path,) = build("deb", CHECKOUT, tmp_path_factory.mktemp("deb"), umask=0o022)
    return path


@pytest.fixture(scope="session")
def newer_deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of a day later."""
    (path,) = build("deb", CHECKOUT, tmp_path_factory.mktemp("deb"), umask=0o022, date=DATE + 86400)
    return path


@pytest.fixture(params=["bookworm", "trixie"])
def root(request: pytest.FixtureRequest, machine: None, scratch: Path) -> Iterator[Root]:
    """A fresh root of Debian 12's, and of Debian 13's, with what the package depends on."""
    if ROOTS not in os.environ:
        pytest.skip("needs the roots of tools/test package")
    (scratch / "memory").mkdir()
    value = Root(Path(os.environ[ROOTS], request.param), scratch / "memory")
    yield value
    value.stop()
