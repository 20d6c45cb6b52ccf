"""The names under which steps are on disk, and where their classes are: classes move, the names stay.

A record may be read by a later version than the one that wrote it. So a built-in step that is needed
after `create` declares ``recorded_as``, a name and the version of its fields, and is listed in `KINDS`. Any other step
is recorded under ``module:class``, or under the name that it declares, with ``module:class`` as the place to look.
"""

from __future__ import annotations

import sys

from gosudacon.base.errors import Error
from gosudacon.pipeline.step import Step

#: Name -> ``module:class``. A name stays for good: containers may live as long as the machine is up.
KINDS = {
    "cgroups.create": "gosudacon.stages.cgroups.create:CreateCgroup",
    "cgroups.create-unified": "gosudacon.stages.cgroups.create:CreateUnifiedCgroup",
    "cgroups.noted": "gosudacon.stages.cgroups.noted:NotedCgroups",
    "cgroups.start-scope": "gosudacon.stages.cgroups.scope:StartScope",
    "cni.add-network": "gosudacon.plugins.cni.steps:AddNetwork",
    "cni.pin-namespace": "gosudacon.plugins.cni.steps:PinNamespace",
    "hooks.run": "gosudacon.stages.hooks:RunHook",
    "intel-rdt.make-class": "gosudacon.stages.intel_rdt:MakeClass",
    "intel-rdt.monitor": "gosudacon.stages.intel_rdt:Monitor",
    "learn.start-recorder": "gosudacon.plugins.learn.steps:StartRecorder",
    "net-devices.hold-namespace": "gosudacon.stages.net_devices:HoldNamespace",
    "net-devices.move-device": "gosudacon.stages.net_devices:MoveDevice",
    "network.allow-forwarding": "gosudacon.plugins.network.steps:AllowForwarding",
    "network.make-bridge": "gosudacon.plugins.network.steps:MakeBridge",
    "network.make-link": "gosudacon.plugins.network.steps:MakeLink",
    "network.masquerade": "gosudacon.plugins.network.steps:LoadRules",
    "network.reserve-ports": "gosudacon.plugins.network.steps:ReservePorts",
    "network.take-lease": "gosudacon.plugins.network.steps:TakeLease",
    "rootfs-mount.bind-root-on-host": "gosudacon.stages.rootfs_mount.on_host:BindRootOnHost",
    "rootfs-mount.make-notify-directory": "gosudacon.stages.rootfs_mount.notify:MakeNotifyDirectory",
}
#: What is undone, in this order, where state.json cannot be read: the state directory itself tells of it.
SALVAGE = (
    "cgroups.noted",
    "cni.pin-namespace",
    "net-devices.hold-namespace",
    "rootfs-mount.bind-root-on-host",
    "rootfs-mount.make-notify-directory",
)
_GONE = "install the plugin again until its containers are deleted"


def rebuild(record: object) -> Step:
    """The step that `Step.record` described. Raises `Error` if its class is gone, or its version not known."""
    name, version, fields, place = _parts(record)
    try:
        kind = _find(name, place)
    except Exception as error:  # importing a plugin may raise anything
        where = (place or KINDS.get(name) or name).replace(":", ".")
        stage = fields.get("stage", "")
        raise Error(
            f"cannot find {where} of {stage!r}, which made this container: {error}", stage=str(stage), hint=_GONE
        ) from error
    return kind.restored(version, fields)


def _parts(record: object) -> tuple[str, int, dict[str, object], str]:
    """Name, version, fields and place of a record. Raises `Error`."""
    if isinstance(record, list) and [type(part) for part in record] in ([str, int, dict], [str, int, dict, str]):
        name, version, fields, *place = record
        return name, version, fields, place[0] if place else ""
    raise Error("state.json: not the record of a step")


def _find(name: str, place: str) -> type[Step]:
    if not place:
        return _named(KINDS.get(name, name))
    try:
        found = _named(place)
        if found.recorded_as[0] == name:
            return found
    except (ImportError, AttributeError):
        pass
    return _of_plugin(name)


def _named(place: str) -> type[Step]:
    module, _, name = place.partition(":")
    __import__(module)
    found: object = sys.modules[module]
    for part in name.split("."):
        found = getattr(found, part)
    if not (isinstance(found, type) and issubclass(found, Step)):
        raise TypeError("it is not a step")
    return found


def _of_plugin(name: str) -> type[Step]:
    """The class of a plugin's step that has moved: the plugin's name is what comes before the dot."""
    from importlib import metadata

    plugin = name.partition(".")[0]
    for entry in metadata.entry_points(group="gosudacon", name=plugin):
        entry.load()
    waiting: list[type[Step]] = [Step]
    for kind in waiting:
        if vars(kind).get("recorded_as", ("",))[0] == name and not kind.__module__.startswith("gosudacon."):
            return kind
        waiting += kind.__subclasses__()
    raise ImportError(f"no plugin {plugin!r} has it")
