"""What the steps of ``network`` expect: the container's link is up; what is the bridge's is not the container's."""

from __future__ import annotations

from gosudacon.api import Expectation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.api import Host, Spec, Table
    from gosudacon.plugins.network import steps

_OF_ALL = "the bridge is all containers' of its network; nothing of it is seen in one of them"


def _up(step: steps.SetUp, spec: Spec, host: Host) -> Iterator[Expectation]:
    yield Expectation(step.where, "device-up", True, step.interface)


TABLE: Table = {
    "TakeLease": "the lease is in a file of the host's, which the container does not see",
    "MakeBridge": _OF_ALL,
    "AllowForwarding": _OF_ALL,
    "ReservePorts": "ports are booked in a file of the host's, which the container does not see",
    "LoadRules": _OF_ALL,
    "MakeLink": "seen with the step that brings the link up",
    "SetUp": _up,
    "WriteNames": "what is in the files is not read back; that they are mounted is",
}
