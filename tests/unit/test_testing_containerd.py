"""How the tests get a containerd 2.x."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import newer_containerd
from tools.side_by_side import Failure


@pytest.mark.parametrize(
    "text",
    [
        "containerd github.com/containerd/containerd/v2 2.1.9+unknown \n",
        "containerd github.com/containerd/containerd/v2 v2.3.4 abc\n",
        "containerd github.com/containerd/containerd/v3 3.0.0 abc\n",
    ],
)
def test_a_version_that_will_do(text: str) -> None:
    newer_containerd.check_version(text)


@pytest.mark.parametrize(
    "text",
    ["", "containerd: /lib/libc.so.6: version `GLIBC_2.99' not found\n", "containerd github.com/x 1.7.24~ds1 1.7.24\n"],
)
def test_a_version_that_will_not(text: str) -> None:
    with pytest.raises(Failure, match="that runs here"):
        newer_containerd.check_version(text)


def test_apt_knows_this_suite_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps all it makes in the directory, and trusts Debian's keys alone."""
    monkeypatch.setattr(newer_containerd, "KEYRINGS", (tmp_path / "none", tmp_path))
    words = newer_containerd.options(tmp_path / "apt", "http://example.org/debian")
    settings = dict(word.split("=", 1) for word in words[1::2])
    assert set(words[::2]) == {"-o"}
    for name in ("Dir::Etc::SourceList", "Dir::State", "Dir::State::Lists", "Dir::State::status", "Dir::Cache"):
        assert Path(settings[name]).is_relative_to(tmp_path / "apt") and Path(settings[name]).exists()
    line = Path(settings["Dir::Etc::SourceList"]).read_text()
    assert line == f"deb [signed-by={tmp_path}] http://example.org/debian {newer_containerd.SUITE} main\n"


def test_without_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newer_containerd, "KEYRINGS", (tmp_path / "none",))
    with pytest.raises(Failure, match="keys are not here"):
        newer_containerd.options(tmp_path, "http://example.org/debian")
