"""Cgroups: the layout, the controllers that the caller can use, and whether the caller may make cgroups."""

from __future__ import annotations

from gosudacon.base import posix
from gosudacon.container.doctor.kernel import read
from gosudacon.container.doctor.report import FAILS, LESS, OK, Row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.pipeline.spec import Host

_AREA = "cgroups"
_WANTED = ("memory", "pids", "cpu", "cpuset", "io")
_OLD_NAMES = {"io": "blkio"}


def rows(host: Host) -> Iterator[Row]:
    """The layout, the controllers, the right to make cgroups, systemd."""
    if host.assumed:
        yield Row(_AREA, "hierarchy", FAILS, "; ".join(host.assumed), "mount -t cgroup2 cgroup2 /sys/fs/cgroup")
        return
    yield Row(_AREA, "hierarchy", OK, {"v2": "v2", "hybrid": "v1 and v2 (hybrid)", "v1": "v1"}[host.cgroup_mode])
    own = _own(host)
    there = set(read(f"{own}/cgroup.controllers").split()) if host.cgroup_mode == "v2" else set(host.cgroup_mounts)
    absent = [name for name in _WANTED if name not in there and _OLD_NAMES.get(name) not in there]
    yield _controllers(host, own, absent)
    yield _right(host, own)
    found = "is there" if host.systemd else "is not PID 1"
    yield Row(_AREA, "systemd", OK if host.systemd else LESS, found, "--systemd-cgroup will not work; cgroupfs does")


def _own(host: Host) -> str:
    """The directory below which the caller's containers are: of root the top, of others their own cgroup."""
    if host.cgroup_mode != "v2":
        return next(iter(host.cgroup_mounts.values()))
    top = host.cgroup_mounts[""]
    return top if host.euid == 0 else f"{top}{host.own_cgroups.get('', '/')}".rstrip("/")


def _controllers(host: Host, own: str, absent: list[str]) -> Row:
    if not absent:
        return Row(_AREA, "controllers", OK, ", ".join(_WANTED))
    advice = "their limits cannot be set: "
    if host.cgroup_mode == "v2" and host.euid != 0:
        advice += (
            f"have systemd delegate them (Delegate= of user@.service); {own}/cgroup.controllers has those there are"
        )
    else:
        advice += "boot with cgroup_enable=NAME, or a kernel that has them"
    return Row(_AREA, "controllers", LESS, f"without {', '.join(absent)}", advice)


def _right(host: Host, own: str) -> Row:
    places = [own] if host.cgroup_mode == "v2" else sorted(set(host.cgroup_mounts.values()))
    closed = [place for place in places if not posix.access(place, posix.W_OK)]
    if not closed:
        return Row(_AREA, "may be made", OK, own)
    advice = (
        "mount cgroups writable" if host.euid == 0 else "limits are ignored (--rootless=auto), or use --systemd-cgroup"
    )
    return Row(_AREA, "may be made", LESS, f"not in {', '.join(closed[:3])}", advice)
