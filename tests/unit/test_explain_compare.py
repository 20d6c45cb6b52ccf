"""``explain A B`` and ``explain --host A --host B``: what differs between two plans; runs without root's help."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from gosudacon.container import comparison, facts
from gosudacon.container.template import default_spec
from gosudacon.pipeline.spec import Host
from tests.unit.test_explain import explain


@pytest.fixture
def bundles(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "one", tmp_path / "two"
    for path in paths:
        path.mkdir()
    return paths


def write(bundles: tuple[Path, Path], one: Any, two: Any) -> None:
    for path, config in zip(bundles, (one, two), strict=True):
        (path / "config.json").write_text(json.dumps(config))


def changes(bundles: tuple[Path, Path], change: Any, status: int = 1) -> Any:
    one = default_spec(cgroup_v2=True)
    two: Any = copy.deepcopy(one)
    change(two)
    write(bundles, one, two)
    result = explain("--format", "json", *bundles)
    assert (result.returncode, result.stderr) == (status, "")
    return json.loads(result.stdout)


def test_equal(bundles: tuple[Path, Path]) -> None:
    """Where the bundles lie, and what they are called, makes no difference."""
    data = changes(bundles, lambda config: None, 0)
    assert data["equal"] and data["before"]["id"] == data["after"]["id"] == "one"
    result = explain(*bundles)
    assert result.returncode == 0 and "no difference" in result.stdout


def test_added_and_removed(bundles: tuple[Path, Path]) -> None:
    def change(config: Any) -> None:
        config["mounts"].insert(0, {"destination": "/data", "type": "bind", "source": "/srv/x", "options": ["bind"]})
        config["linux"]["maskedPaths"].remove("/proc/kcore")

    data = changes(bundles, change)
    assert [step["what"] for step in data["added"]] == [
        "clone the mount of /srv/x for /data, with its options",
        "mount /srv/x on /data (bind)",
    ]
    assert [step["what"] for step in data["removed"]] == ["mask /proc/kcore"]
    assert data["changed"] == data["moved"] == []
    assert [each["what"] for each in data["newly_shared"]] == ["/srv/x on /data (writable)"]


def test_changed_by_field(bundles: tuple[Path, Path]) -> None:
    def change(config: Any) -> None:
        config["process"]["env"].append("A=1")
        config["hostname"] = "other"
        config["mounts"][1]["options"].remove("strictatime")

    data = changes(bundles, change)
    fields = {step["step"]: step["fields"] for step in data["changed"]}
    assert data["added"] == data["removed"] == data["moved"] == []
    assert fields["SetHostname"] == {"hostname": ["gosudacon", "other"]}
    before, after = fields["PrepareExecve"]["environment"]
    assert after == [*before, "A=1"]
    text = explain(*bundles).stdout
    assert "~ container  namespaces       sethostname(other)" in text and "was: sethostname(gosudacon)" in text
    assert "environment: +A=1" in text and "words: -strictatime" in text


def test_another_order(bundles: tuple[Path, Path]) -> None:
    """Mounts that change places: it may hide one of them."""

    def change(config: Any) -> None:
        mounts = config["mounts"]
        mounts[3], mounts[4] = mounts[4], mounts[3]

    data = changes(bundles, change)
    assert len(data["moved"]) == 1 and data["added"] == data["removed"] == data["changed"] == []


def test_one_stage(bundles: tuple[Path, Path]) -> None:
    changes(bundles, lambda config: config.update(hostname="other"))
    assert explain("--stage", "rootfs-mount", *bundles).returncode == 0
    assert explain("--stage", "namespaces", *bundles).returncode == 1


def test_two_hosts(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    write(bundles, default_spec(cgroup_v2=True), default_spec(cgroup_v2=True))
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    v1 = {"pids": "/sys/fs/cgroup/pids", "devices": "/sys/fs/cgroup/devices", "memory": "/sys/fs/cgroup/memory"}
    roots = dict.fromkeys(v1, "/")
    old.write_text(facts.dumps(Host(kernel=(5, 4), cgroup_mode="v1", cgroup_mounts=v1, own_cgroups=roots)))
    new.write_text(facts.dumps(Host()))
    result = explain("--host", old, "--host", new, bundles[0])
    assert result.returncode == 1 and "host: Linux 5.4, cgroup v1" in result.stdout
    assert "+ runtime    cgroups          attach an eBPF program" in result.stdout
    assert explain("--host", new, "--host", new, bundles[0]).returncode == 0
    assert explain("--host", new, *bundles).returncode == 0
    alone = explain("--host", old, bundles[0])
    assert alone.returncode == 0 and "host: Linux 5.4, cgroup v1" in alone.stdout and "finding" not in alone.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--host", "a", "--host", "b", "--host", "c", "."], "more than two hosts"),
        (["--risk", "low", ".", "."], "--risk is about one plan"),
        (["--strict", ".", "."], "--strict is about one plan"),
        (["--timings", "x", ".", "."], "--timings is about one plan"),
        (["/nowhere", "/nowhere"], "no such file or directory"),
        (["--stage", "nosuch", "@ONE", "@TWO"], "no stage 'nosuch'"),
    ],
)
def test_trouble(bundles: tuple[Path, Path], words: list[str], message: str) -> None:
    """As diff(1): 2, so that a pipeline tells it from a difference."""
    write(bundles, default_spec(cgroup_v2=True), default_spec(cgroup_v2=True))
    names = {"@ONE": str(bundles[0]), "@TWO": str(bundles[1])}
    result = explain(*(names.get(word, word) for word in words))
    assert (result.returncode, result.stdout) == (2, "") and message in result.stderr


def test_an_invalid_one(bundles: tuple[Path, Path]) -> None:
    two: Any = default_spec(cgroup_v2=True)
    two["mounts"] = 7
    write(bundles, default_spec(cgroup_v2=True), two)
    result = explain(*bundles)
    assert (result.returncode, result.stdout) == (2, "") and "two/config.json" in result.stderr


@pytest.mark.parametrize(
    ("numbers", "stay"),
    [([], set()), ([1, 2, 3], {1, 2, 3}), ([2, 0, 1], {0, 1}), ([3, 2, 1], {1}), ([0, 5, 1, 2, 6], {0, 1, 2, 6})],
)
def test_longest_rising(numbers: list[int], stay: set[int]) -> None:
    assert comparison._longest_rising(numbers) == stay
