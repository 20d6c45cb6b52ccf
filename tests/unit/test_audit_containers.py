"""Containers in directories of state: whose they are, which process, and what was asked of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from gosudacon.audit import containers
from gosudacon.base.errors import Error
from gosudacon.container.state import AbsentError
from gosudacon.linux import proc
from tests.support.bundle import default_config


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "bundle"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(default_config(["sleep"], "/x")))
    return path


def write(path: Path, data: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data if isinstance(data, str) else json.dumps(data))


def runc_state(bundle: Path, **more: Any) -> dict[str, Any]:
    labels = ["org.example=1", f"bundle={bundle}"]
    cgroups = {"memory": "/sys/fs/cgroup/memory/x"}
    state = {"init_process_pid": 17, "init_process_start": 99, "cgroup_paths": cgroups, "config": {"labels": labels}}
    return {**state, **more}


def test_runc(tmp_path: Path, bundle: Path) -> None:
    write(tmp_path / "root/web/state.json", runc_state(bundle))
    found = containers.load(f"{tmp_path}/root", "web")
    assert (found.runtime, found.pid, found.start_time, found.started) == ("runc", 17, 99, True)
    assert found.cgroups == {"memory": "/sys/fs/cgroup/memory/x"}
    assert found.spec.config["hostname"] == "gosudacon"
    assert "edited since" in found.lost[0]
    write(tmp_path / "root/web/exec.fifo", "")
    assert not containers.load(f"{tmp_path}/root", "web").started


def test_runc_without_a_bundle(tmp_path: Path, bundle: Path) -> None:
    write(tmp_path / "root/web/state.json", runc_state(bundle, config={}))
    with pytest.raises(Error, match="names no bundle"):
        containers.load(f"{tmp_path}/root", "web")


def test_crun(tmp_path: Path, bundle: Path) -> None:
    """It keeps a copy of the configuration, which counts."""
    status = {"pid": 18, "process-start-time": 98, "cgroup-path": "/x", "bundle": str(bundle), "detached": True}
    write(tmp_path / "root/web/status", status)
    found = containers.load(f"{tmp_path}/root", "web")
    assert (found.runtime, found.pid, found.start_time) == ("crun", 18, 98)
    assert found.lost
    config = {**default_config(["sleep"], "/x"), "hostname": "kept"}
    write(tmp_path / "root/web/config.json", config)
    found = containers.load(f"{tmp_path}/root", "web")
    assert found.spec.config["hostname"] == "kept"
    assert not found.lost


def own_state(**more: Any) -> dict[str, Any]:
    state = {
        "version": 2,
        "id": "web",
        "bundle": "/b",
        "rootfs": "/b/rootfs",
        "created": "",
        "annotations": {},
        "pid": 19,
        "start_time": 97,
        "cgroups": {"": "/sys/fs/cgroup/x"},
        "cgroup_options": {},
        "no_new_keyring": True,
        "shares_pid_namespace": False,
        "lasting": [],
        "started": [],
        "deleted": [],
    }
    return {**state, **more}


def test_own(tmp_path: Path) -> None:
    """The saved configuration, with the limits that update has set; it is said what of plugins' edits is lost."""
    write(tmp_path / "root/web/state.json", own_state(edited=["site"], resources={"pids": {"limit": 7}}))
    write(tmp_path / "root/web/config.json", default_config(["sleep"], "/x"))
    found = containers.load(f"{tmp_path}/root", "web")
    assert (found.runtime, found.pid, found.start_time) == ("gosudacon", 19, 97)
    assert found.spec.linux["resources"] == {"pids": {"limit": 7}}
    assert found.spec.options.no_new_keyring
    assert "the one that site has edited" in found.lost[0]


def test_everything(tmp_path: Path, bundle: Path) -> None:
    """What does not belong to a container is passed over; what cannot be read is named."""
    root = tmp_path / "root"
    own = {"init_process_pid": os.getpid(), "init_process_start": proc.start_time(os.getpid())}
    write(root / "a/state.json", runc_state(bundle, **own))
    write(root / "aa/state.json", runc_state(bundle, **{**own, "init_process_start": 1}))  # a process of that number
    write(root / "b/state.json", "{")
    write(root / "c/other", "")
    write(root / "d/state.json", runc_state(bundle, init_process_pid=0))
    write(root / "file", "")
    found = list(containers.everything([f"{root}", f"{tmp_path}/absent", f"{tmp_path}/absent/*"]))
    names = [each[0] if isinstance(each, tuple) else each.id for each in found]
    assert names == ["a", "b"]
    assert isinstance(found[1], tuple) and "invalid JSON" in found[1][1].message


def test_by_id(tmp_path: Path, bundle: Path) -> None:
    """The first root that has it; a namespace of an engine is a root of its own."""
    write(tmp_path / "engine/moby/web/state.json", runc_state(bundle))
    assert containers.by_id("web", [f"{tmp_path}/none", f"{tmp_path}/engine/*"]).runtime == "runc"
    with pytest.raises(AbsentError):
        containers.by_id("absent", [f"{tmp_path}/engine/*"])
    for id in ("", "..", "a/b"):
        with pytest.raises(Error, match="invalid container ID"):
            containers.by_id(id, [f"{tmp_path}"])


def test_by_pid(bundle: Path) -> None:
    found = containers.by_pid(20, str(bundle))
    assert (found.runtime, found.pid, found.start_time) == ("", 20, 0)
