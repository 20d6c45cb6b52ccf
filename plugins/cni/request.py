"""Which networks a container gets, and which ports: of options, settings, annotations. Reads the configurations."""

from __future__ import annotations

from gosudacon.api import Error, Spec
from gosudacon.plugins.cni import files
from gosudacon.plugins.cni.document import can, kinds
from gosudacon.plugins.netcommon import ports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from gosudacon.plugins.cni.record import Attachment
    from gosudacon.plugins.cni.settings import Settings

    class Wanted(TypedDict):
        """The facts that planning goes by. ``ports`` are in the notation of ``--publish``."""

        attachments: list[Attachment]
        ports: list[str]
        bin_dirs: list[str]
        timeout: int
        args: dict[str, str]
        names: bool
        annotations: bool


PORT_MAPPINGS = "portMappings"


def wanted(spec: Spec, settings: Settings) -> Wanted:
    """Raises `Error` for a network or a plug-in that cannot be had, and for ports that nobody publishes."""
    published = ports.asked(spec, settings.annotations)
    networks = files.Networks(settings.conf_dir)
    attachments = [
        _attachment(networks, name, f"{settings.interface}{index}", settings)
        for index, name in enumerate(spec.options.network or [settings.network])
    ]
    if published:
        _publish(attachments, published)
    return {
        "attachments": attachments,
        "ports": [str(port) for port in published],
        "bin_dirs": settings.bin_dirs,
        "timeout": settings.timeout,
        "args": settings.args,
        "names": settings.names,
        "annotations": settings.annotations,
    }


def _attachment(networks: files.Networks, name: str, interface: str, settings: Settings) -> Attachment:
    network = networks.get(name)
    for plugin in network["plugins"]:
        for kind in kinds(plugin):
            try:
                files.find(kind, settings.bin_dirs)
            except Error as error:
                error.message = f"network {network['name']} ({network['file']}): {error.message}"
                raise
    return {**network, "interface": interface, "runtime": {}}


def _publish(attachments: list[Attachment], published: list[ports.Port]) -> None:
    """Give the ports to the first network that has a plug-in for them: no two can have one port of the host."""
    for attachment in attachments:
        if any(can(plugin, PORT_MAPPINGS) for plugin in attachment["plugins"]):
            attachment["runtime"] = {PORT_MAPPINGS: [each for port in published for each in _mappings(port)]}
            return
    names = ", ".join(attachment["name"] for attachment in attachments)
    hint = 'a plug-in of the chain must have "capabilities": {"portMappings": true}, as portmap does'
    raise Error(f"port {published[0]}: network {names} has no plug-in that publishes ports", hint=hint)


def _mappings(port: ports.Port) -> list[dict[str, object]]:
    """The form of CONVENTIONS.md."""
    if not port.host:
        raise Error(f"port {port}: with the plugin cni, the port of the host must be named: HOSTPORT:PORT")
    address = {"hostIP": port.address} if port.address else {}
    return [
        {
            "hostPort": port.host + index,
            "containerPort": port.container + index,
            "protocol": port.protocol,
            **address,
        }
        for index in range(port.count)
    ]
