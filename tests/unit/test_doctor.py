"""`gosudacon doctor`: rows for whatever host it is, and what it must not do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from errno import ENOSYS
from pathlib import Path

import pytest

from gosudacon.api import Host, SyscallError
from gosudacon.container.doctor import cgroups, engines, kernel, programs, report, user
from gosudacon.container.kit.purity import Watch
from gosudacon.launcher import seal
from tests.support.needs import needs

ROOT = Path(__file__).parents[2]
MARKS = {report.OK, report.LESS, report.FAILS}
AREAS = ["kernel", "cgroups", "user", "program"]


def named(rows: list[report.Row], name: str) -> report.Row:
    return next(row for row in rows if row.name == name)


def call(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-B", "-m", "gosudacon", *options]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False
    )


def test_every_area_is_there() -> None:
    rows = report.examine("", {})
    areas = list(dict.fromkeys(row.area for row in rows))
    assert areas in (AREAS, [*AREAS, "engines"])
    for row in rows:
        assert row.mark in MARKS
        assert row.found
        assert bool(row.advice) == (row.mark != report.OK), row.name


def test_nothing_is_made(tmp_path: Path) -> None:
    descriptors = os.listdir("/proc/self/fd")
    with Watch("gosudacon.container.doctor") as watch:
        report.examine("", {b"HOME": os.fsencode(tmp_path)})
    changes = [line for line in watch.seen if line.split("(")[0] in ("os.mkdir", "os.rename", "os.remove", "os.chmod")]
    assert changes == []
    assert list(tmp_path.iterdir()) == []
    assert os.listdir("/proc/self/fd") == descriptors


@needs("root", "program:unshare")
def test_nothing_is_mounted() -> None:
    """In a mount namespace of its own, where no mount of others' arrives."""
    code = (
        "from pathlib import Path; from gosudacon.container.doctor import report; "
        "mounts = Path('/proc/self/mountinfo'); before = mounts.read_text(); report.examine('', {}); "
        "raise SystemExit(mounts.read_text() != before)"
    )
    words = ["unshare", "--mount", "--propagation=private", sys.executable, "-B", "-c", code]
    assert subprocess.run(words, cwd=ROOT).returncode == 0


def test_an_old_kernel() -> None:
    row = named(list(kernel.rows(Host(kernel=(5, 10)))), "version")
    assert row.mark == report.FAILS
    assert "5.12" in row.advice


def test_a_call_that_a_filter_hides() -> None:
    def hidden() -> None:
        raise SyscallError(ENOSYS, "openat2", "")

    assert kernel._call("openat2", hidden, report.FAILS).mark == report.FAILS
    assert kernel._call("openat2", lambda: None, report.FAILS).mark == report.OK


@pytest.mark.parametrize(
    ("euid", "file", "text", "mark"),
    [
        (0, "max_user_namespaces", "0", report.LESS),
        (1000, "max_user_namespaces", "0", report.FAILS),
        (1000, "unprivileged_userns_clone", "0", report.FAILS),
        (0, "unprivileged_userns_clone", "0", report.OK),
        (1000, "apparmor_restrict_unprivileged_userns", "1", report.LESS),
        (1000, "none", "", report.OK),
    ],
)
def test_user_namespaces(monkeypatch: pytest.MonkeyPatch, euid: int, file: str, text: str, mark: str) -> None:
    monkeypatch.setattr(kernel, "read", lambda path: text if path.endswith(f"/{file}") else "")
    assert kernel._user_namespaces(Host(euid=euid)).mark == mark


def test_controllers_that_are_not_delegated(tmp_path: Path) -> None:
    (tmp_path / "user/mine").mkdir(parents=True)
    (tmp_path / "user/mine/cgroup.controllers").write_text("memory pids\n")
    host = Host(euid=1000, cgroup_mounts={"": str(tmp_path)}, own_cgroups={"": "/user/mine"})
    row = named(list(cgroups.rows(host)), "controllers")
    assert (row.mark, row.found) == (report.LESS, "without cpu, cpuset, io")
    assert "Delegate=" in row.advice


def test_no_cgroups_at_all() -> None:
    rows = list(cgroups.rows(Host(assumed=("no cgroup hierarchy is mounted",))))
    assert [row.mark for row in rows] == [report.FAILS]


def test_where_states_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user, "_path", lambda environment: str(tmp_path / "run/gosudacon"))
    assert user._state_root({}).mark == report.OK
    assert not (tmp_path / "run").exists()
    (tmp_path / "run/gosudacon").mkdir(parents=True)
    (tmp_path / "run/gosudacon").chmod(0o777)
    assert user._state_root({}).mark == report.FAILS
    monkeypatch.setattr(user, "_path", lambda environment: "")
    assert user._state_root({}).mark == report.LESS


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("", report.LESS),
        ('# BinaryName = "/usr/bin/gosudacon"\n', report.LESS),
        ('BinaryName = "PROGRAM"\n', report.OK),
        ("BinaryName = '/none/gosudacon'\n", report.FAILS),
        ('{"runtimes": {"gosudacon": {"path": "PROGRAM"}}}', report.OK),
    ],
)
def test_configuration_of_an_engine(tmp_path: Path, text: str, mark: str) -> None:
    program = tmp_path / "gosudacon"
    program.write_text("")
    program.chmod(0o755)
    folder = tmp_path / "conf.d"
    folder.mkdir()
    (folder / "10.toml").write_text(text.replace("PROGRAM", str(program)))
    assert engines._engine("containerd", [str(tmp_path / "none.toml"), str(folder)]).mark == mark


def test_a_broken_configuration_of_ours(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('plugins = ["no-such"]\n')
    config.chmod(0o644)
    row = programs._configuration(str(config))
    assert row.mark == report.FAILS
    assert "not installed" in row.found


def test_the_seal_that_is_possible() -> None:
    method, failures = seal.possible()
    assert method in ("tree", "memfd", "copy")
    assert len(failures) < 3


def test_command_line(tmp_path: Path) -> None:
    result = call("doctor", "--format", "json")
    found = json.loads(result.stdout)
    assert found["works"] == (result.returncode == 0)
    assert {row["area"] for row in found["rows"]} >= set(AREAS)
    table = call("doctor")
    assert table.returncode == result.returncode
    assert table.stdout.startswith("kernel\n  ")
    (tmp_path / "config.toml").write_text("nonsense")
    broken = call("--config-file", str(tmp_path / "config.toml"), "doctor")
    assert broken.returncode == 1
    assert "✗ configuration" in broken.stdout
