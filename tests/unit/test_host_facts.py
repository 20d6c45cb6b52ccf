"""``gosudacon host`` and ``explain --host``: the facts about a machine as a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gosudacon.base.errors import Error
from gosudacon.container import facts
from gosudacon.container import host as hosts
from gosudacon.pipeline.spec import Host


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    for host in (hosts.gather(), Host(), Host(kernel=(5, 4), euid=7, apparmor=True, assumed=("a guess",))):
        (tmp_path / "h").write_text(facts.dumps(host))
        assert vars(facts.load(str(tmp_path / "h"))) == vars(host)


def test_every_fact_can_be_read() -> None:
    assert set(facts._FACTS) == set(Host().known())


def test_what_is_missing_is_assumed(tmp_path: Path) -> None:
    (tmp_path / "h").write_text('{"host": {"kernel": [5, 4]}}')
    host = facts.load(str(tmp_path / "h"))
    assert host.kernel == (5, 4) and host.cgroup_mode == "v2"
    assert f'cgroup_mode "v2": {tmp_path / "h"} does not say' in host.assumed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "invalid JSON"),
        ("[]", "not the facts about a host"),
        ("{}", "not the facts about a host"),
        ('{"host": []}', "not the facts about a host"),
        ('{"host": {}, "assumed": [1]}', "assumed: expected a list of strings"),
        ('{"host": {"cpu": 1}}', "host.cpu: unknown; known: kernel, "),
        ('{"host": {"kernel": "6.1"}}', 'host.kernel: expected two numbers such as [6, 1], found "6.1"'),
        ('{"host": {"kernel": [6, true]}}', "host.kernel: expected"),
        ('{"host": {"euid": -1}}', "host.euid: expected the id of a user, found -1"),
        ('{"host": {"clone3": 1}}', "host.clone3: expected true or false, found 1"),
        ('{"host": {"cgroup_mode": "v3"}}', "host.cgroup_mode: expected one of v1, hybrid, v2"),
        ('{"host": {"cgroup_mode": ["v2"]}}', "host.cgroup_mode: expected one of v1, hybrid, v2"),
        ('{"host": {"cgroup_mounts": {"cpu": "sys"}}}', "host.cgroup_mounts: expected an object of absolute paths"),
        ('{"host": {"own_cgroups": ["/"]}}', "host.own_cgroups: expected an object of absolute paths"),
    ],
)
def test_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "h.json"
    path.write_text(text)
    with pytest.raises(Error) as caught:
        facts.load(str(path))
    assert caught.value.message.startswith(f"{path}: ") and message in caught.value.message


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(Error, match="no such file or directory"):
        facts.load(str(tmp_path / "none"))
    (tmp_path / "large").write_bytes(b" " * (1 << 20) + b"{}")
    with pytest.raises(Error, match="larger than 1 MiB"):
        facts.load(str(tmp_path / "large"))


def test_the_json_of_a_plan_will_do(tmp_path: Path) -> None:
    data: dict[str, Any] = json.loads(facts.dumps(Host(systemd=True)))
    (tmp_path / "h").write_text(json.dumps({"bundle": "/b", "steps": [], **data}))
    assert facts.load(str(tmp_path / "h")).systemd
