"""The plugin learn under engines: an annotation, Podman's own profile, and the one that comes out."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.daemon import Completed, Containerd
from tests.clients.podman import Podman
from tests.support.leftovers import Watch
from tests.support.needs import needs
from tests.support.runtime import runtime_command
from tests.support.timing import eventually

pytestmark = needs("runtime:gosudacon", "kernel>=5.9")
SCRIPT = "mkdir /tmp/made && echo made"


@pytest.fixture
def learning(scratch: Path) -> Path:
    """A runtime whose administrator lets the annotation say ``web``; profiles go to ``profiles`` beside it."""
    (scratch / "profiles").mkdir()
    config = scratch / "config.toml"
    config.write_text(f'plugins = ["learn"]\n[stage.learn]\ndirectory = "{scratch}/profiles"\nnames = ["web"]\n')
    config.chmod(0o644)
    program = scratch / "learning"
    words = shlex.join([*runtime_command(), "--config-file", str(config)])
    program.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    program.chmod(0o755)
    return program


def load(path: Path) -> Any:
    return json.loads(path.read_text())


def test_podman(podman: Podman, learning: Path, scratch: Path) -> None:
    """What was learnt runs the container without the plugin, with everything else killing; what is missing kills it."""
    annotation = "--annotation=io.gosudacon.learn=web"
    profile = scratch / "profiles/web.json"
    assert podman.run(SCRIPT, annotation, runtime=learning).stdout == "made\n"
    eventually(profile.exists, 20, "the profile is written")
    report = load(scratch / "profiles/web.report.json")
    assert "mkdir" in {call["name"] for call in report["calls"]} and len(report["unused"]) > 100
    strict = scratch / "strict.json"
    learnt = load(profile)
    learnt.pop("defaultErrnoRet", None)
    strict.write_text(json.dumps({**learnt, "defaultAction": "SCMP_ACT_KILL_PROCESS"}))
    option = f"--security-opt=seccomp={strict}"
    assert podman.run(SCRIPT, option).stdout == "made\n"
    assert podman.run("chroot / true", option, check=False).returncode != 0


def test_podman_exec(podman: Podman, learning: Path, scratch: Path) -> None:
    """What is executed in it is recorded, too, by the same recorder; nothing is left when it is removed."""
    name = podman.start("exec sleep 1000", "--annotation=io.gosudacon.learn=web", runtime=learning)
    assert podman.output("exec", name, "sh", "-c", SCRIPT, runtime=learning) == "made"
    podman.call("rm", "--force", "--time", "0", name, runtime=learning)
    names = {name for rule in load(scratch / "profiles/web.json")["syscalls"] for name in rule["names"]}
    assert "mkdir" in names and names & {"nanosleep", "clock_nanosleep"}


def test_podman_where_it_is_not_allowed(podman: Podman, learning: Path, scratch: Path) -> None:
    assert podman.run("echo hi", "--annotation=io.gosudacon.learn=other", runtime=learning).stdout == "hi\n"
    assert list((scratch / "profiles").iterdir()) == []


@pytest.fixture
def administrator(scratch: Path, leftovers: Watch) -> Iterator[Path]:
    """The usual configuration file, in the tests' own /etc: profiles go to the directory that this is."""
    directory = scratch / "profiles"
    directory.mkdir()
    config = Path("/etc/gosudacon/config.toml")
    config.parent.mkdir()
    config.write_text(f'plugins = ["learn"]\n[stage.learn]\ndirectory = "{directory}"\nnames = ["web"]\n')
    yield directory
    shutil.rmtree(config.parent)


def test_containerd(ctr: Containerd, administrator: Path, run: Callable[..., Completed]) -> None:
    """Under containerd's shim for runc, and under ours, whose workers make containers by forks."""
    assert run(SCRIPT, "--annotation", "io.gosudacon.learn=web").stdout == "made\n"
    eventually((administrator / "web.json").exists, 20, "the profile is written")
    assert "mkdir" in {call["name"] for call in load(administrator / "web.report.json")["calls"]}
