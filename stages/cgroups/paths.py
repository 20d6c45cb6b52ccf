"""Where a container's cgroups are: ``linux.cgroupsPath`` turned into a directory in every hierarchy. Pure."""

from __future__ import annotations

from gosudacon.api import ConfigError, Host, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    #: ``[mount point, path below it without a leading slash, [controller, …]]``: JSON, for a step's fields.
    Place = list[Any]

WHERE = "linux.cgroupsPath"
UNIFIED = ""
#: What a container gets a cgroup in where it is mounted (cgroups(7)); other named hierarchies are their owners' own.
V1_HIERARCHIES = frozenset(
    (
        *("blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory", "misc"),
        *("net_cls", "net_prio", "perf_event", "pids", "rdma", "name=systemd"),
    )
)
_LONGEST_NAME = 255  # NAME_MAX
_LONGEST_PATH = 4000  # PATH_MAX is 4096, and names of files come behind it (cgroup.subtree_control, memory.…)


def v1_places(spec: Spec, host: Host) -> list[Place]:
    """One place per mounted hierarchy; controllers mounted together share one.

    An absolute cgroupsPath counts from the mount point, any other from the caller's own cgroup in that hierarchy.
    """
    controllers: dict[str, list[str]] = {}
    for controller, point in host.cgroup_mounts.items():
        if controller == UNIFIED or controller in V1_HIERARCHIES:
            controllers.setdefault(point, []).append(controller)
    return [_place(point, _below(spec, _own(host, names[0])), names) for point, names in controllers.items()]


def v2_places(spec: Spec, host: Host) -> list[Place]:
    """The one place in the unified hierarchy.

    A cgroupsPath that is not absolute counts from the parent of the caller's own cgroup, since one with processes
    cannot have children with limits.
    """
    beside = _own(host, UNIFIED)[:-1]
    return [_place(host.cgroup_mounts[UNIFIED], _below(spec, beside), [UNIFIED])]


def _place(point: str, below: str, controllers: list[str]) -> Place:
    if len(f"{point}/{below}".encode(errors="surrogateescape")) > _LONGEST_PATH:
        raise ConfigError(f"cgroupsPath leads to a path longer than {_LONGEST_PATH} bytes", where=WHERE)
    return [point, below, controllers]


def _own(host: Host, controller: str) -> list[str]:
    names = [name for name in host.own_cgroups.get(controller, "/").split("/") if name]
    return [] if ".." in names else names  # ``/../x`` is outside of this cgroup namespace


def _below(spec: Spec, own: list[str]) -> str:
    path: str = spec.linux.get("cgroupsPath") or spec.id
    names = [name for name in path.split("/") if name not in ("", ".")]
    for name in names:
        _check(name, path)
    if not names:
        raise ConfigError(f"cgroupsPath {path!r} is the root of the cgroup hierarchies", where=WHERE)
    return "/".join(names if path.startswith("/") else own + names)


def _check(name: str, path: str) -> None:
    if name == "..":
        raise ConfigError(
            f"cgroupsPath {path!r} has a component '..'", where=WHERE, hint="it could lead out of the hierarchy"
        )
    if "\0" in name or "\n" in name:
        raise ConfigError(f"cgroupsPath {path!r} has a character that is not allowed in a cgroup's name", where=WHERE)
    if len(name.encode(errors="surrogateescape")) > _LONGEST_NAME:
        raise ConfigError(f"cgroupsPath has a component longer than {_LONGEST_NAME} bytes", where=WHERE)
