"""Mounts of type ``cgroup`` on whatever hierarchies this machine has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gosudacon.container import host as hosts
from tests.support import cgroups
from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.scratch_root import Inside, mountinfo, run_inside

pytestmark = pytest.mark.vm

OLD = (5, 10)
BOTH = pytest.mark.parametrize("kernel", [None, OLD], ids=["by descriptor", "mount(2)"])
PRIVATE = pytest.mark.parametrize("private", [False, True], ids=["the host's namespace", "a namespace of its own"])


@pytest.fixture
def own(bundle: Bundle) -> Iterator[dict[str, str]]:
    """A cgroup in every hierarchy, as the stage cgroups leaves it in the context."""
    made = {}
    for item in cgroups.hierarchies():
        directory = item.mountpoint / bundle.cgroups_path.lstrip("/")
        directory.mkdir(parents=True)
        for place in (directory.parent.parent, directory.parent, directory):
            place.chmod(0o755)
        if "cpuset" in item.controllers and item.version == 1:
            for place in (directory.parent.parent, directory.parent, directory):
                for name in ("cpuset.cpus", "cpuset.mems"):
                    (place / name).write_text((item.mountpoint / name).read_text())
        (directory / "mark").mkdir()
        for controller in item.controllers if item.version == 1 else [""]:
            made[controller] = str(directory)
    yield made
    for path in set(made.values()):
        os.rmdir(f"{path}/mark")
        os.rmdir(path)
        try:
            os.rmdir(os.path.dirname(path))
        except OSError:
            continue


@pytest.fixture
def bare(bundle: Bundle) -> Bundle:
    bundle.config["mounts"] = [each for each in bundle.config["mounts"] if each["destination"] in ("/proc", "/sys")]
    bundle.config["linux"]["maskedPaths"] = bundle.config["linux"]["readonlyPaths"] = []
    return bundle


def join(own: dict[str, str]) -> Any:
    """Enter the cgroups, which the cgroup namespace will have as its root."""

    def enter() -> None:
        for path in set(own.values()):
            Path(path, "cgroup.procs").write_text("0")

    return enter


def look(inside: Inside) -> Any:
    tree = {
        name: sorted(os.listdir(f"/sys/fs/cgroup/{name}"))
        for name in os.listdir("/sys/fs/cgroup")
        if name != "mark" and os.path.isdir(f"/sys/fs/cgroup/{name}")
    }
    links = {name: os.readlink(f"/sys/fs/cgroup/{name}") for name in tree if os.path.islink(f"/sys/fs/cgroup/{name}")}
    return {"tree": tree, "links": links, "top": os.listdir("/sys/fs/cgroup"), "mounts": inside.mountinfo()}


@needs("cgroup-v1")
@BOTH
@PRIVATE
@pytest.mark.parametrize("words", [["ro", "nosuid"], []], ids=["ro", "rw"])
def test_v1(bare: Bundle, own: dict[str, str], kernel: tuple[int, int] | None, private: bool, words: list[str]) -> None:
    if private:
        bare.add_namespace("cgroup")
    bare.add_mount("/sys/fs/cgroup", "cgroup", "cgroup", *words)
    found = run_inside_cgroup(bare, own, kernel)
    expected = {os.path.basename(point) for name, point in hosts.gather().cgroup_mounts.items() if name}
    assert expected <= set(found["tree"])
    mounts = {each.point: each for each in mountinfo(found["mounts"])}
    for name in expected:
        assert "mark" in found["tree"][name] and "cgroup.procs" in found["tree"][name]
        mounted = mounts[f"/sys/fs/cgroup/{name}"]
        assert mounted.fstype == "cgroup" and mounted.has("nosuid", "nodev", "noexec", "ro" if words else "rw")
        assert (mounted.root == "/") == private
    top = mounts["/sys/fs/cgroup"]
    assert top.fstype == "tmpfs" and top.has("ro" if words else "rw", "nosuid", "nodev", "noexec")


def run_inside_cgroup(bundle: Bundle, own: dict[str, str], kernel: tuple[int, int] | None) -> Any:
    """In a fork that is a member of the cgroups, so that the cgroup namespace starts there."""
    from tests.support.children import in_child

    def member() -> Any:
        join(own)()
        return run_inside(bundle, look, kernel=kernel, cgroups=own)

    return in_child(member)


@needs("cgroup-v1")
@BOTH
def test_v1_links(
    bare: Bundle, own: dict[str, str], kernel: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on distributions that mount cpu and cpuacct together; here one stands for both."""
    real = hosts.gather()
    points = {"cpu": real.cgroup_mounts["cpu"], "also": real.cgroup_mounts["cpu"]}
    real.cgroup_mounts = points
    monkeypatch.setattr(hosts, "gather", lambda: real)
    bare.add_mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro")
    found = run_inside(bare, look, kernel=kernel, cgroups=own)
    assert found["links"] == {"also": "cpu"}
    assert found["tree"]["also"] == found["tree"]["cpu"] and "mark" in found["tree"]["cpu"]


@BOTH
@PRIVATE
def test_v2(
    bare: Bundle,
    own: dict[str, str],
    kernel: tuple[int, int] | None,
    private: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "" not in own:
        pytest.skip("needs cgroup-v2")
    real = hosts.gather()
    real.cgroup_mode = "v2"
    monkeypatch.setattr(hosts, "gather", lambda: real)
    if private:
        bare.add_namespace("cgroup")
    bare.add_mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro", "nosuid", "noexec", "nodev")
    found = run_inside_cgroup(bare, own, kernel)
    (mounted,) = [each for each in mountinfo(found["mounts"]) if each.point == "/sys/fs/cgroup"]
    assert mounted.fstype == "cgroup2" and mounted.root == "/" and mounted.has("ro", "nosuid", "noexec", "nodev")
    assert ("mark" in found["top"]) == private


@BOTH
@pytest.mark.parametrize("there", [True, False], ids=["directory", "nothing"])
def test_v2_in_a_user_namespace(
    bare: Bundle,
    own: dict[str, str],
    kernel: tuple[int, int] | None,
    there: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Mounting is not permitted: the host's directory is bound, read-only throughout (CVE-2023-25809)."""
    if "" not in own:
        pytest.skip("needs cgroup-v2")
    real = hosts.gather()
    real.cgroup_mode = "v2"
    real.cgroup_mounts = {"": own[""] if there else "/nowhere"}
    monkeypatch.setattr(hosts, "gather", lambda: real)
    bare.map_users()
    bare.add_mount("/dev", "tmpfs", "tmpfs")
    bare.add_mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro", "nosuid", "noexec", "nodev")
    found = run_inside(bare, look, kernel=kernel, cgroups=own)
    (mounted,) = [each for each in mountinfo(found["mounts"]) if each.point == "/sys/fs/cgroup"]
    assert mounted.has("ro", "nosuid", "nodev", "noexec")
    assert mounted.fstype == ("cgroup2" if there else "tmpfs")
    assert ("mark" in found["top"]) == there


@pytest.mark.parametrize("users", [False, True], ids=["root", "user namespace"])
def test_cgroups_below_bound_sys(bare: Bundle, own: dict[str, str], users: bool) -> None:
    """Rootless containers get /sys bound with all below it; the container's cgroups only cover the host's."""
    bare.config["mounts"] = [each for each in bare.config["mounts"] if each["destination"] != "/sys"]
    if users:
        bare.map_users()
        bare.add_mount("/dev", "tmpfs", "tmpfs")
    bare.add_mount("/sys", "none", "/sys", "rbind", "nosuid", "noexec", "nodev", "ro")
    bare.add_mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", "ro")
    found = run_inside(bare, look, cgroups=own)
    lines = [each for each in mountinfo(found["mounts"]) if each.point.startswith("/sys/fs/cgroup")]
    assert len(lines) > len(cgroups.hierarchies()) and all(each.has("ro") for each in lines)


def test_the_hosts_own_mounts_are_as_before(bare: Bundle, own: dict[str, str]) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    bare.add_mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro")
    run_inside(bare, look, cgroups=own)
    assert Path("/proc/self/mountinfo").read_text() == before
