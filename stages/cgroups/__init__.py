"""Stage ``cgroups``: the container's cgroups, the limits in them, and its process inside; see docs/cgroups.md.

`v1` (also for hybrid layouts) and `v2` are two implementations of `limits.Driver`.
"""

from __future__ import annotations

from gosudacon.api import ConfigError, Host, Spec, Stage, Step, hookimpl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from gosudacon.stages.cgroups.limits import Driver


class Cgroups(Stage):
    """Makes the cgroup before the process exists, and sets its limits while the other side mounts."""

    name = "cgroups"
    after = ("namespaces",)

    def features(self) -> dict[str, Any]:
        """The drivers there are."""
        return {"linux": {"cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False, "rdma": True}}}

    def plan(self, spec: Spec, host: Host) -> Iterator[Step]:
        """Raises `ConfigError` for paths that escape, values no cgroup takes and controllers that are not there."""
        resources = spec.linux.get("resources") or {}
        if not host.cgroup_mounts:
            if resources:
                raise ConfigError("no cgroup hierarchy is mounted, so limits cannot be set", where="linux.resources")
            return
        driver = _driver(spec, host)
        yield from driver.create()
        yield from driver.devices(resources.get("devices") or [])
        yield from driver.limits(resources)

    def plan_exec(self, spec: Spec, host: Host) -> Iterator[Step]:
        """Into the cgroups that the container's state knows or, if it was never created, those it would get."""
        from gosudacon.stages.cgroups import enter

        target = spec.target
        assert target is not None
        cgroups = target.cgroups if target.pid else _would_be(spec, host)
        if cgroups:
            yield from enter.plan_enter(spec, host, cgroups)
        elif target.below:
            raise ConfigError("invalid --cgroup argument: the container has no cgroups")

    def plan_update(self, resources: Mapping[str, Any], spec: Spec, host: Host) -> Iterator[Step]:
        """Raises `ConfigError` as `plan` does."""
        from gosudacon.stages.cgroups import update

        if resources and not host.cgroup_mounts:
            raise ConfigError("no cgroup hierarchy is mounted, so limits cannot be set", where="linux.resources")
        if resources:
            yield from update.plan(_driver(spec, host).limits(dict(resources)))


def _would_be(spec: Spec, host: Host) -> dict[str, str]:
    from gosudacon.stages.cgroups import places

    if not host.cgroup_mounts:
        return {}
    found = places.v2_places(spec, host) if host.cgroup_mode == "v2" else places.v1_places(spec, host)
    return {controller: f"{point}/{path}" for point, path, controllers in found for controller in controllers}


def _driver(spec: Spec, host: Host) -> Driver:
    if spec.options.get("systemd_cgroup") or spec.options.get("cgroup_manager") == "systemd":
        raise ConfigError(
            "the systemd cgroup driver is not supported yet",
            where="linux.cgroupsPath",
            hint="leave --systemd-cgroup away: cgroupsPath is then a path below /sys/fs/cgroup",
        )
    if host.cgroup_mode == "v2":
        from gosudacon.stages.cgroups import v2

        return v2.Unified(spec, host)
    from gosudacon.stages.cgroups import v1

    return v1.Legacy(spec, host)


@hookimpl
def gosudacon_stages() -> list[Stage]:
    """Contribute the stage."""
    return [Cgroups()]
