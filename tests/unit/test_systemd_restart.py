"""A unit is restarted through systemd's manager, and how that ended is waited for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gosudacon.base.errors import StepError
from gosudacon.wire import systemd
from tests.clients.node import Systemd


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The units that were restarted; ``bad.service`` does not come up."""
    found: list[str] = []

    def restart(unit: str) -> str:
        found.append(unit)
        return "failed" if unit == "bad.service" else "done"

    monkeypatch.chdir(tmp_path)  # addresses are short
    monkeypatch.setattr(systemd, "_PRIVATE", "private")
    manager = Systemd(Path("private"), restart)
    yield found
    manager.close()


def test_a_unit_that_comes_up(units: list[str]) -> None:
    with systemd.Manager() as manager:
        manager.restart("containerd.service")
        manager.restart("crio.service")
    assert units == ["containerd.service", "crio.service"]


def test_a_unit_that_does_not(units: list[str]) -> None:
    with (
        systemd.Manager() as manager,
        pytest.raises(StepError, match=r"restart bad\.service: the job ended as 'failed'"),
    ):
        manager.restart("bad.service")
    assert units == ["bad.service"]
