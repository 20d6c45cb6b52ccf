"""Which networks a container gets, and which ports: of options, settings, annotations. Reads the configurations."""

from __future__ import annotations

from gosudacon.api import Error, Spec
from gosudacon.plugins.cni import files
from gosudacon.plugins.cni.document import PORT_MAPPINGS, can, kinds
from gosudacon.plugins.netcommon import members, ports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from gosudacon.plugins.cni.record import Attachment
    from gosudacon.plugins.cni.settings import Settings

    class Wanted(TypedDict):
        """The facts that planning goes by.

        ``ports`` are in the notation of ``--publish``; ``publishes`` is the attachment that they are for, -1 for none.
        ``missing`` says what has gone since the container was made, and why ``attachments`` are those of its note.
        """

        attachments: list[Attachment]
        ports: list[str]
        publishes: int
        bin_dirs: list[str]
        timeout: int
        args: dict[str, str]
        names: bool
        annotations: list[str]
        missing: str


def wanted(spec: Spec, settings: Settings) -> Wanted | None:
    """None for a container that is to have no network.

    Raises `Error` for a network or a plug-in that cannot be had, and for ports that nobody publishes.
    """
    published = ports.asked(spec, "publish" in settings.annotations)
    names = members.asked(spec, "network" in settings.annotations) or [settings.network]
    if names == [members.NONE]:
        if published:
            raise Error("ports cannot be published without a network", hint="leave out --network none")
        return None
    missing = ""
    try:
        networks = files.Networks(settings.conf_dir)
        attachments = [
            _attachment(networks, name, f"{settings.interface}{index}", settings) for index, name in enumerate(names)
        ]
    except Error as error:
        noted = _noted(spec)
        if noted is None:
            raise
        attachments, missing = noted, error.message
    return {
        "attachments": attachments,
        "ports": [str(port) for port in published],
        "publishes": _publishes(attachments, published) if published else -1,
        "bin_dirs": settings.bin_dirs,
        "timeout": settings.timeout,
        "args": settings.args,
        "names": settings.names,
        "annotations": settings.annotations,
        "missing": missing,
    }


def _noted(spec: Spec) -> list[Attachment] | None:
    """The networks of a container that exists, as its note has them: what it was given then is what it has."""
    if not spec.options.root or "/" in spec.id or spec.id in ("", ".", ".."):
        return None
    from gosudacon.plugins.cni import record

    header = record.noted(f"{spec.options.root}/{spec.id}")
    return None if header is None else [{**each, "runtime": {}} for each in header["attachments"]]


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


def _publishes(attachments: list[Attachment], published: list[ports.Port]) -> int:
    """The first network that has a plug-in for ports: no two can have one port of the host. Raises `Error`."""
    for index, attachment in enumerate(attachments):
        if any(can(plugin, PORT_MAPPINGS) for plugin in attachment["plugins"]):
            return index
    names = ", ".join(attachment["name"] for attachment in attachments)
    hint = 'a plug-in of the chain must have "capabilities": {"portMappings": true}, as portmap does'
    raise Error(f"port {published[0]}: network {names} has no plug-in that publishes ports", hint=hint)
