"""Results of ADD in all versions of the specification, as one form, and back (SPEC.md, "Success"). Pure."""

from __future__ import annotations

import _socket

from gosudacon.base import jsonio
from gosudacon.plugins.cni.document import VERSIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    class Address(TypedDict, total=False):
        """An address with its prefix, ``10.1.2.3/24``; ``interface`` is an index in ``interfaces``."""

        address: str
        gateway: str
        interface: int

    class Dns(TypedDict, total=False):
        """What the container's resolv.conf is made from."""

        nameservers: list[str]
        domain: str
        search: list[str]
        options: list[str]

    class Result(TypedDict):
        """A result in the form of version 1: what is absent is empty."""

        interfaces: list[dict[str, object]]
        ips: list[Address]
        routes: list[dict[str, object]]
        dns: Dns


_SINGLE = VERSIONS[:2]  # one address of each family: ip4, ip6
_NUMBERED = VERSIONS[2:5]  # an address says its family
_DNS = ("nameservers", "search", "options")


def parsed(text: bytes, version: str) -> dict[str, object]:
    """What a plug-in called with ``version`` has written, in that version. Raises ValueError that says the fault."""
    data = jsonio.without_nulls(jsonio.loads(text))
    if not isinstance(data, dict):
        raise ValueError("it is not an object")
    own = data.setdefault("cniVersion", version)
    if own not in VERSIONS:
        raise ValueError(f"cniVersion {own!r} is not known")
    found = normal(data)
    return data if own == version else shaped(found, version)


def normal(data: dict[str, object]) -> Result:
    """The result in the form of version 1. Raises ValueError."""
    ips: list[Address] = []
    routes = _objects(data, "routes")
    if data.get("cniVersion") in _SINGLE:
        for key in ("ip4", "ip6"):
            single = data.get(key)
            if isinstance(single, dict):
                ips.append(_address({**single, "address": single.get("ip")}))
                routes += _objects(single, "routes")
    else:
        ips = [_address(each) for each in _objects(data, "ips")]
    return {"interfaces": _objects(data, "interfaces"), "ips": ips, "routes": routes, "dns": _dns(data.get("dns"))}


def shaped(result: Result, version: str) -> dict[str, object]:
    """The result as a plug-in of another version takes it; of versions that have one address of a family, the first."""
    head: dict[str, object] = {"cniVersion": version}
    if version not in _SINGLE:
        ips = [{"version": family(each)[-1], **each} if version in _NUMBERED else {**each} for each in result["ips"]]
        return {**head, **result, "ips": ips}
    for each in reversed(result["ips"]):
        routes = [route for route in result["routes"] if (":" in str(route.get("dst"))) == (":" in each["address"])]
        known = {"ip": each["address"], "gateway": each.get("gateway"), "routes": routes}
        head[f"ip{family(each)[-1]}"] = {key: value for key, value in known.items() if value}
    return {**head, "dns": result["dns"]}


def addresses(result: dict[str, object], interface: str) -> list[str]:
    """The addresses of the link in the container, with their prefixes: those that no other link has."""
    found = normal(result)
    links = found["interfaces"]
    return [ip["address"] for ip in found["ips"] if _is_of(ip.get("interface", -1), links, interface)]


def _is_of(index: int, links: list[dict[str, object]], interface: str) -> bool:
    return not 0 <= index < len(links) or (links[index].get("name") == interface and bool(links[index].get("sandbox")))


def family(address: Address) -> str:
    """``IPv4`` or ``IPv6``."""
    return "IPv6" if ":" in address["address"] else "IPv4"


def _address(data: dict[str, object]) -> Address:
    text = data.get("address")
    if not isinstance(text, str) or not _is_address(text):
        raise ValueError(f"{text!r} is not an address with a prefix")
    found: Address = {"address": text}
    gateway, interface = data.get("gateway"), data.get("interface")
    if isinstance(gateway, str) and gateway:
        found["gateway"] = gateway
    if type(interface) is int:
        found["interface"] = interface
    return found


def _is_address(text: str) -> bool:
    address, _, prefix = text.partition("/")
    family, most = (_socket.AF_INET6, 128) if ":" in address else (_socket.AF_INET, 32)
    try:
        _socket.inet_pton(family, address)
    except (OSError, ValueError):
        return False
    return prefix.isascii() and prefix.isdigit() and len(prefix) < 4 and int(prefix) <= most


def _dns(data: object) -> Dns:
    if not isinstance(data, dict):
        return {}
    found: Dns = {}
    for key in _DNS:
        value = data.get(key)
        if isinstance(value, list) and value:
            found[key] = [each for each in value if isinstance(each, str)]  # type: ignore[literal-required]
    if isinstance(data.get("domain"), str) and data["domain"]:
        found["domain"] = data["domain"]
    return found


def _objects(data: dict[str, object], key: str) -> list[dict[str, object]]:
    value = data.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise ValueError(f"{key} is not a list of objects")
    return [*value]
