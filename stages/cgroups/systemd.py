"""The driver that leaves the cgroup to systemd: a scope, with limits as its properties and in the cgroup's files.

The files get what systemd has no property for, and exact values where it rounds. cgroup v2 only.
"""

from __future__ import annotations

from gosudacon.api import ConfigError, Host, Spec, Step
from gosudacon.stages.cgroups import devices, properties, unit_annotations
from gosudacon.stages.cgroups.paths import UNIFIED
from gosudacon.stages.cgroups.scope import ExpectScope, SetUnitProperties, StartScope
from gosudacon.stages.cgroups.unit import WHERE, Unit
from gosudacon.stages.cgroups.v2 import CheckUsage, Unified, chown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.schema.types import Resources, ResourcesDevice


class Systemd(Unified):
    """A scope of systemd; below it, the limits of cgroup v2.

    Raises `ConfigError` where systemd does not run, or not on cgroup v2 alone.
    """

    def __init__(self, spec: Spec, host: Host) -> None:
        super().__init__(spec, host)
        check_host(host)
        self._unit = Unit(spec, self.rootless)
        self._point = host.cgroup_mounts[UNIFIED]

    def create(self) -> Iterator[Step]:
        resources = self.spec.linux.get("resources") or {}
        yield ExpectScope(point=self._point, path=self._unit.path, user=self.rootless)
        yield StartScope(
            unit=self._unit.name,
            point=self._point,
            properties=self._with_defaults(properties.of_resources(resources)),
            devices=self._devices(resources.get("devices") or []),
            user=self.rootless,
        )
        yield from chown(self.spec)

    def update(self, resources: Resources) -> Iterator[Step]:
        steps = list(self.limits(resources))
        checks = [step for step in steps if isinstance(step, CheckUsage)]
        wanted = properties.of_resources(resources)
        yield from checks
        if wanted:
            yield SetUnitProperties(unit=self._unit.name, properties=wanted, user=self.rootless)
        yield from (step for step in steps if step not in checks)

    def _with_defaults(self, limits: list[properties.Property]) -> list[properties.Property]:
        """What a container's scope is, what annotations want it to be, and the limits, which have the last word."""
        scope: tuple[properties.Property, ...] = (
            ["Slice", "s", self._unit.slice],
            ["Delegate", "b", True],
            ["DefaultDependencies", "b", False],
        )
        wanted: list[properties.Property] = [
            ["Description", "s", f"container {self.spec.id}"],
            *scope,
            *([f"{name}Accounting", "b", True] for name in ("CPU", "Memory", "Tasks", "IO")),
            *unit_annotations.properties(self.spec.config.get("annotations") or {}),
            *limits,
        ]
        found = {name: [name, signature, value] for name, signature, value in wanted}
        return [*found.values()]

    def _devices(self, rules: list[ResourcesDevice]) -> list[str] | None:
        """The rules as systemd could have them; the eBPF program enforces them all the same."""
        effective = devices.rules_of(rules)
        if self.rootless or devices.allows_everything(effective) or devices.mounts_block_device(self.spec):
            return None
        try:
            allowed, exceptions = devices.effective(effective)
        except ConfigError:  # an exception from an exception
            return None
        return None if allowed else exceptions


def check_host(host: Host) -> None:
    """Raise `ConfigError` unless systemd could make the cgroup."""
    if not host.systemd:
        raise ConfigError(
            "systemd is not running, so it cannot make the cgroup (--systemd-cgroup)",
            where=WHERE,
            hint="omit --systemd-cgroup: cgroupsPath is then a path below /sys/fs/cgroup",
        )
    if host.cgroup_mode != "v2":
        raise ConfigError(
            f"the systemd cgroup driver needs cgroup v2, and this host has {host.cgroup_mode}", where=WHERE
        )
