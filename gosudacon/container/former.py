"""Upgrade a state.json of an earlier version to today's format. Every released format stays readable."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.container.state import Data, StepRecord

#: Format 1 (release 0.1.0) named steps by module and class. These are names of then, and today's; neither changes.
_NAMES_OF_1 = {
    "gosudacon.plugins.network.steps:AllowForwarding": "network.allow-forwarding",
    "gosudacon.plugins.network.steps:MakeBridge": "network.make-bridge",
    "gosudacon.plugins.network.steps:MakeLink": "network.make-link",
    "gosudacon.plugins.network.steps:Masquerade": "network.masquerade",
    "gosudacon.plugins.network.steps:TakeLease": "network.take-lease",
    "gosudacon.stages.cgroups.owned:CreateCgroup": "cgroups.create",
    "gosudacon.stages.cgroups.owned:CreateUnifiedCgroup": "cgroups.create-unified",
    "gosudacon.stages.cgroups.scope:StartScope": "cgroups.start-scope",
    "gosudacon.stages.hooks:RunHook": "hooks.run",
    "gosudacon.stages.rootfs_mount.notify:MakeNotifyDirectory": "rootfs-mount.make-notify-directory",
}


def upgrade(data: Data) -> None:
    """Bring the contents of a state.json, whose ``version`` is an earlier one, into today's form."""
    if data["version"] == 1:
        data["lasting"], data["started"], data["deleted"] = (
            [_renamed(record) for record in records] for records in (data["lasting"], data["started"], data["deleted"])
        )
        data["version"] = 2


def _renamed(record: StepRecord) -> StepRecord:
    if not (isinstance(record, list) and [type(part) for part in record] == [str, str, dict]):
        return record  # what reads it will say that it is not the record of a step
    module, name, fields = record
    place = f"{module}:{name}"
    return [_NAMES_OF_1.get(place, place), 1, fields]
