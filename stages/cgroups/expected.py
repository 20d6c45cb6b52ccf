"""What the steps of ``cgroups`` expect: the files of the container's cgroups, and its place in them."""

from __future__ import annotations

from gosudacon.api import Expectation, Host, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.api import Table
    from gosudacon.stages.cgroups import create, devices, limits, scope


def _cgroup(step: create.CreateCgroup, spec: Spec, host: Host) -> Iterator[Expectation]:
    asked = {controller: f"{point}/{path}" for point, path, controllers in step.places for controller in controllers}
    yield Expectation(step.where, "cgroup", asked)


def _scope(step: scope.StartScope, spec: Spec, host: Host) -> Iterator[Expectation]:
    yield Expectation(step.where, "cgroup", {}, step.unit)


def _value(step: limits.Write, spec: Spec, host: Host) -> Iterator[Expectation]:
    key = f"{step.controller}/{step.file}"
    yield Expectation(step.where, "cgroup-value", {"value": step.value, "optional": step.optional}, key)


def _first(step: limits.WriteFirst, spec: Spec, host: Host) -> Iterator[Expectation]:
    yield Expectation(step.where, "cgroup-first", step.choices, step.controller)


def _together(step: limits.WriteTogether, spec: Spec, host: Host) -> Iterator[Expectation]:
    for file, value in step.values:
        asked = {"value": value, "optional": False}
        yield Expectation(step.where, "cgroup-value", asked, f"{step.controller}/{file}")


def _devices(step: devices.LimitDevices, spec: Spec, host: Host) -> Iterator[Expectation]:
    yield Expectation(step.where, "devices-v1", {"allowed": step.allowed, "exceptions": step.exceptions})


def _program(step: devices.LimitDevicesByProgram, spec: Spec, host: Host) -> Iterator[Expectation]:
    yield Expectation(step.where, "devices-v2", step.rules)


_SEEN = "seen with the step that makes the cgroup"

TABLE: Table = {
    "CreateCgroup": _cgroup,
    "NotedCgroups": "it is in no plan",
    "OpenCgroups": _SEEN,
    "EnterCgroups": _SEEN,
    "JoinCgroup": _SEEN,
    "ExpectScope": "seen with the step that starts the unit",
    "StartScope": _scope,
    "JoinScope": "seen with the step that starts the unit",
    "SetUnitProperties": "systemd keeps them; what it has made of them is in the files of the cgroup",
    "Limit": "",
    "Write": _value,
    "WriteFirst": _first,
    "WriteTogether": _together,
    "LimitDevices": _devices,
    "LimitDevicesByProgram": _program,
    "CheckUsage": "it only looks",
    "RememberLimits": "it is of update, and only undone",
    "ChownCgroup": "the owner of the files alone limits nothing; seen where the container can change its own limits",
}
