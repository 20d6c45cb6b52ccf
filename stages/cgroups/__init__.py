"""Stage ``cgroups``: the container's cgroups, the limits in them, and its process inside; see docs/cgroups.md.

May use: `api`, `linux`, `wire`, `base`.
Start with `create`, then `limits` and `v2`.

`v1` (also for hybrid layouts), `v2` and `systemd` are three implementations of `limits.Driver`.
"""

from __future__ import annotations

from gosudacon.api import ConfigError, Host, PlanWarning, Spec, Stage, Step, hookimpl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.schema.types import Cgroup, Features, Resources
    from gosudacon.stages.cgroups.limits import Driver

#: Who makes a container's cgroup (``--cgroup-manager``).
CGROUPFS, SYSTEMD, DISABLED = "cgroupfs", "systemd", "disabled"


class Cgroups(Stage):
    """Makes the cgroup before the process exists, and sets its limits while the other side mounts."""

    name = "cgroups"
    after = ("namespaces",)

    def features(self) -> Features:
        """The drivers there are, and the annotations that change what systemd makes of a container."""
        cgroup: Cgroup = {"v1": True, "v2": True, "systemd": True, "systemdUser": True, "rdma": True}
        return {"linux": {"cgroup": cgroup}, "potentiallyUnsafeConfigAnnotations": ["org.systemd.property."]}

    def plan(self, spec: Spec, host: Host) -> Iterator[Step]:
        """Raises `ConfigError` for paths that escape, values no cgroup takes and controllers that are not there."""
        resources = spec.linux.get("resources") or {}
        _refuse(spec, host, resources)
        yield from _warnings(spec, host, resources)
        if not host.cgroup_mounts or _manager(spec) == DISABLED:
            return
        driver = _driver(spec, host)
        yield from driver.create()
        yield from driver.devices(resources.get("devices") or [])
        yield from driver.limits(resources)

    def plan_restore(self, spec: Spec, host: Host) -> Iterator[Step]:
        """As `plan`: CRIU works in the cgroup, and so do the processes it makes."""
        return self.plan(spec, host)

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

    def plan_update(self, resources: Resources, spec: Spec, host: Host) -> Iterator[Step]:
        """Raises `ConfigError` as `plan` does."""
        from gosudacon.stages.cgroups import update

        _refuse(spec, host, resources)
        if resources and _manager(spec) != DISABLED:
            yield from update.plan(_driver(spec, host).update(resources))


def joining(controllers: list[str], by_clone: bool) -> str:
    """What a process writes to join its cgroups; ``by_clone``: it is in that of the unified hierarchy already."""
    v1 = [name for name in controllers if name]
    ways = [f"write 0 to tasks of {', '.join(v1)}"] if v1 else []
    if "" in controllers and not by_clone:
        ways.append("write 0 to cgroup.procs")
    return "join the cgroup: " + "; ".join(ways) if ways else "close the cgroup's descriptor"


def _would_be(spec: Spec, host: Host) -> dict[str, str]:
    """Where a container that does not exist would have its cgroups."""
    if not host.cgroup_mounts or _manager(spec) == DISABLED:
        return {}
    if _manager(spec) == SYSTEMD:
        from gosudacon.stages.cgroups import limits, systemd, unit

        systemd.check_host(host)
        return {"": f"{host.cgroup_mounts['']}/{unit.Unit(spec, limits.is_rootless(spec, host)).path}"}
    from gosudacon.stages.cgroups import paths

    found = paths.v2_places(spec, host) if host.cgroup_mode == "v2" else paths.v1_places(spec, host)
    return {controller: f"{point}/{path}" for point, path, controllers in found for controller in controllers}


def _manager(spec: Spec) -> str:
    """Who makes the cgroup: `CGROUPFS`, `SYSTEMD` or `DISABLED`."""
    chosen = spec.options.cgroup_manager or CGROUPFS
    if not spec.options.systemd_cgroup:
        return chosen
    if chosen == DISABLED:
        raise ConfigError("--systemd-cgroup and --cgroup-manager=disabled contradict each other")
    return SYSTEMD


def _refuse(spec: Spec, host: Host, resources: Resources) -> None:
    """Refuse limits where there will be no cgroup to have them, and kinds of limits that are not for this hierarchy."""
    if _manager(spec) == DISABLED:
        asked = [key for key, value in resources.items() if key != "devices" and value]
        if asked:
            raise ConfigError(
                f"{asked[0]} cannot be limited without a cgroup (--cgroup-manager=disabled)",
                where=f"linux.resources.{asked[0]}",
            )
    elif resources and not host.cgroup_mounts:
        raise ConfigError("no cgroup hierarchy is mounted, so limits cannot be set", where="linux.resources")


def _warnings(spec: Spec, host: Host, resources: Resources) -> Iterator[Step]:
    """What of the resources has no effect."""
    memory = resources.get("memory") or {}
    for key, value in (("kernel", memory.get("kernel")), ("kernelTCP", memory.get("kernelTCP"))):
        if value:
            text = "ignored: kernel memory is part of a container's memory"
            yield PlanWarning(message=text, where=f"linux.resources.memory.{key}")
    rules = resources.get("devices") or []
    if rules and (not host.cgroup_mounts or _manager(spec) == DISABLED):
        yield PlanWarning(message="ignored: there is no cgroup", where="linux.resources.devices")
    elif any((entry.get("access") or "").strip("rwm") for entry in rules):
        from gosudacon.stages.cgroups import devices

        yield from devices.warnings(rules)


def _driver(spec: Spec, host: Host) -> Driver:
    if _manager(spec) == SYSTEMD:
        from gosudacon.stages.cgroups import systemd

        return systemd.Systemd(spec, host)
    if host.cgroup_mode == "v2":
        from gosudacon.stages.cgroups import v2

        return v2.Unified(spec, host)
    from gosudacon.stages.cgroups import v1

    return v1.Legacy(spec, host)


@hookimpl
def gosudacon_stages() -> list[Stage]:
    """Contribute the stage."""
    return [Cgroups()]
