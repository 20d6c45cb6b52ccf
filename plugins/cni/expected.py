"""What the steps of ``cni`` expect: the container's link is up; what plug-ins make on the host is theirs."""

from __future__ import annotations

from gosudacon.api import Expectation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.api import Host, Spec, Table
    from gosudacon.plugins.cni import steps


def _up(step: steps.AddNetwork, spec: Spec, host: Host) -> Iterator[Expectation]:
    yield Expectation(step.where, "device-up", True, step.interface)


TABLE: Table = {
    "WriteNote": "the note is in the state directory, which the container does not see",
    "PinNamespace": "the file in the state directory is for plug-ins to find the namespace after the container's end",
    "AddNetwork": _up,
    "WriteNames": "seen with the step that mounts the files",
}
