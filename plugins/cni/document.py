"""A network configuration: what a file in /etc/cni/net.d says (CNI's SPEC.md, "Network configuration format"). Pure."""

from __future__ import annotations

from gosudacon.base import jsonio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    class Network(TypedDict):
        """A checked configuration: the ``file`` that it is from, and ``versions`` to choose from, if there are any."""

        name: str
        file: str
        version: str
        versions: list[str]
        plugins: list[dict[str, object]]


#: Of the specification, in order; a configuration without one means the first.
VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
PORT_MAPPINGS = "portMappings"
"""The capability of plug-ins that publish ports."""

_FIRST = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
_LATER = _FIRST | frozenset("_.-")


def check(text: bytes, file: str) -> tuple[Network, bool]:
    """The network in the text of a file, and whether plug-ins may stand in further files.

    A ``.conflist`` is a list of plug-ins, anything else one plug-in. Raises ValueError that says what is wrong.
    """
    data = jsonio.loads(text)
    if not isinstance(data, dict):
        raise ValueError("is not an object")
    listed = file.endswith(".conflist")
    plugins = data.get("plugins", []) if listed else [data]
    if not isinstance(plugins, list):
        raise ValueError("plugins is not a list")
    version, versions = _versions(data)
    network: Network = {
        "name": check_name(data.get("name")),
        "file": file,
        "version": version,
        "versions": versions,
        "plugins": [check_plugin(each) for each in plugins],
    }
    return network, listed and data.get("loadOnlyInlinedPlugins") is not True


def check_name(name: object) -> str:
    """The name of a network. Raises ValueError."""
    if not isinstance(name, str) or name[:1] not in _FIRST or not _LATER.issuperset(name) or not name:
        raise ValueError(f"name {name!r} is not a letter or digit and then letters, digits and _ . -")
    return name


def check_plugin(plugin: object) -> dict[str, object]:
    """The configuration of one plug-in. Raises ValueError."""
    if not isinstance(plugin, dict):
        raise ValueError("a plug-in is not an object")
    for kind in kinds(plugin):
        if not kind or "/" in kind or "\0" in kind or kind in (".", ".."):
            raise ValueError(
                f"type {kind!r} is not the name of a program: it is looked for in directories, and no path"
            )
    for key in ("capabilities", "ipam"):
        if not isinstance(plugin.get(key, {}), dict):
            raise ValueError(f"{key} of {plugin['type']} is not an object")
    return plugin


def kinds(plugin: dict[str, object]) -> list[str]:
    """The names of the programs of a plug-in: its own (empty if there is none), and of its address management."""
    own, ipam = plugin.get("type"), plugin.get("ipam")
    found = [own if isinstance(own, str) else ""]
    if isinstance(ipam, dict) and isinstance(ipam.get("type"), str) and ipam["type"]:
        found.append(ipam["type"])
    return found


def can(plugin: dict[str, object], capability: str) -> bool:
    """Whether a plug-in takes this capability of CONVENTIONS.md, such as ``portMappings``."""
    capabilities = plugin.get("capabilities")
    return isinstance(capabilities, dict) and capabilities.get(capability) is True


def _versions(data: dict[str, object]) -> tuple[str, list[str]]:
    """The version to use, and where the file lists several, all that are known here, the highest first."""
    version = data.get("cniVersion") or VERSIONS[0]
    several = data.get("cniVersions") or []
    if not isinstance(several, list):
        raise ValueError("cniVersions is not a list")
    known = [each for each in reversed(VERSIONS) if each in several]
    if several and not known:
        raise ValueError(f"cniVersions has none that is known: {', '.join(VERSIONS)}")
    if not several and version not in VERSIONS:
        raise ValueError(f"cniVersion {version!r} is not known: {', '.join(VERSIONS)}")
    return (known[0] if known else str(version)), known
