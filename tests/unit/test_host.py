"""What planning learns of cgroup hierarchies: /proc/PID/mountinfo and /proc/PID/cgroup. Pure."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gosudacon.container import host
from gosudacon.linux import proc

MOUNTINFO = b"""\
30 20 0:26 / / rw - ext4 /dev/vda rw
31 30 0:27 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
32 31 0:28 /docker/c1 /sys/fs/cgroup/cpu,cpuacct ro,nosuid master:9 - cgroup cgroup rw,cpu,cpuacct
33 31 0:29 / /sys/fs/cgroup/with\\040space rw - cgroup cgroup rw,xattr,name=systemd
34 31 0:30 /docker/c1 /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
35 31 0:28 / /elsewhere rw - cgroup cgroup rw,cpu,cpuacct
"""


def test_mounts_and_what_is_mounted() -> None:
    mounts, roots = host._v1_mounts(MOUNTINFO)
    assert mounts == {
        "cpu": "/sys/fs/cgroup/cpu,cpuacct",
        "cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
        "name=systemd": "/sys/fs/cgroup/with space",
        "": "/sys/fs/cgroup/unified",
    }
    assert roots == {"cpu": "/docker/c1", "cpuacct": "/docker/c1", "name=systemd": "/", "": "/docker/c1"}


@pytest.mark.parametrize(
    ("root", "path", "own"),
    [
        ("/", "/", "/"),
        ("/", "/a/b", "/a/b"),
        ("/docker/c1", "/docker/c1", "/"),
        ("/docker/c1", "/docker/c1/x", "/x"),
        ("/docker/c1", "/docker/c10", "/docker/c10"),
        ("/docker/c1", "/", "/"),
    ],
)
def test_the_own_cgroup_counts_from_what_is_mounted(
    monkeypatch: pytest.MonkeyPatch, root: str, path: str, own: str
) -> None:
    monkeypatch.setattr(proc, "cgroups", lambda _: dict.fromkeys(("cpu", "cpuacct", ""), path))
    assert host._own_cgroups({"cpu": root, "cpuacct": root, "": root}) == {"cpu": own, "cpuacct": own, "": own}


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A machine with one hierarchy; the list grows by each look at it."""
    found: list[str] = []

    def cgroups(_: list[str]) -> tuple[str, dict[str, str], dict[str, str]]:
        found.append("mountinfo")
        return "v1", {"cpu": "/c", "cpuacct": "/c"}, {"cpu": "/", "cpuacct": "/"}

    monkeypatch.setattr(host, "_kept", [])
    monkeypatch.setattr(host, "_cgroups", cgroups)
    monkeypatch.setattr(host, "_device", lambda _: 7)
    monkeypatch.setattr(proc, "cgroups", lambda _: {"cpu": "/a", "cpuacct": "/a"})
    return found


def test_kept(looks: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept answers, with the cgroup of the caller, and cannot be changed."""
    host.keep()
    monkeypatch.setattr(proc, "cgroups", lambda _: {"cpu": "/b", "cpuacct": "/b"})
    found = host.gather()
    assert (found.own_cgroups, found.cgroup_mode, looks) == ({"cpu": "/b", "cpuacct": "/b"}, "v1", ["mountinfo"])
    found.facts["of"] = "one"
    assert host.gather().facts == {}


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: patch.setattr(host, "_device", lambda _: 8),
        lambda patch: patch.setattr(proc, "cgroups", lambda _: {"cpu": "/a", "cpuacct": "/a", "pids": "/"}),
    ],
    ids=["another hierarchy there", "one more hierarchy"],
)
def test_kept_no_longer(
    looks: list[str], monkeypatch: pytest.MonkeyPatch, change: Callable[[pytest.MonkeyPatch], None]
) -> None:
    host.keep()
    change(monkeypatch)
    host.gather()
    assert len(looks) == 2
