"""The administrator's settings: ``[stage.network]`` of config.toml, checked while planning."""

from __future__ import annotations

import _socket

from gosudacon.api import SettingsError
from gosudacon.base import layout
from gosudacon.plugins.network.subnets import Subnet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

#: Name -> default. The IPv6 subnet is a fixed one of the local range (RFC 4193): "gosud" in ASCII.
DEFAULTS: dict[str, object] = {
    "bridge": "gosudacon0",
    "subnets": ["10.207.0.0/16", "fd67:6f73:7564::/64"],
    "nat": False,
    "mtu": 0,
    "interface": "eth0",
    "leases": layout.NETWORK_LEASES,
    "nft": "/usr/sbin/nft",
    "annotations": [],
    "names": True,
    "dns_servers": [],
    "dns_search": [],
    "dns_options": [],
}
ANNOTATIONS = ("publish",)
_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_IN_NAMES = _LETTERS | frozenset("0123456789_-.")
_TAKEN = ("all", "default", "lo")  # net.ipv4.conf.all and its like, and the loopback link


class Settings:
    """Checked settings.

    ``bridge`` and ``interface`` are names of links, outside and inside; ``mtu`` is in bytes, 0 for the
    kernel's default; ``leases`` the directory in which addresses are booked; ``nft`` the path of nft(8);
    ``annotations`` what annotations may ask for, of `ANNOTATIONS`; ``names`` whether containers get resolv.conf, hosts
    and hostname, with ``dns_servers``, ``dns_search`` and ``dns_options`` in the place of what the host has.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        """Raises `SettingsError` that names the setting."""
        for name in given:
            if name not in DEFAULTS:
                raise _error(name, f"is not a setting; known: {', '.join(DEFAULTS)}")
        values = {**DEFAULTS, **given}
        for name, default in DEFAULTS.items():
            if type(values[name]) is not type(default):
                raise _error(name, f"must be {_KINDS[type(default)]}")
        self.bridge = _link_name("bridge", values["bridge"])
        self.interface = _link_name("interface", values["interface"])
        self.subnets = _subnets(values["subnets"])
        self.nat: bool = values["nat"]
        self.mtu = self._mtu(values["mtu"])
        self.leases = _path("leases", values["leases"])
        self.nft = _path("nft", values["nft"])
        self.annotations = _words("annotations", values["annotations"])
        for index, name in enumerate(self.annotations):
            if name not in ANNOTATIONS:
                raise _error(f"annotations[{index}]", f"{name!r} is none of {', '.join(ANNOTATIONS)}")
        self.names: bool = values["names"]
        self.dns_servers = _words("dns_servers", values["dns_servers"])
        for index, server in enumerate(self.dns_servers):
            if not _is_address(server):
                raise _error(f"dns_servers[{index}]", f"{server!r} is not an address")
        self.dns_search = _words("dns_search", values["dns_search"])
        self.dns_options = _words("dns_options", values["dns_options"])

    def _mtu(self, value: int) -> int:
        least = 1280 if any(subnet.version == "IPv6" for subnet in self.subnets) else 68
        if value != 0 and not least <= value <= 65535:
            raise _error("mtu", f"must be 0, for the kernel's default, or {least} to 65535")
        return value


_KINDS = {str: "a string", list: "a list of strings", bool: "true or false", int: "a number"}


def _error(name: str, text: str) -> SettingsError:
    return SettingsError(f"[stage.network] {name} {text}", hint="see docs/network.md")


def _link_name(name: str, value: str) -> str:
    if not value or value[0] not in _LETTERS or not _IN_NAMES.issuperset(value) or len(value) > 15:
        raise _error(name, "must be a letter and up to 14 letters, digits and _ - .")
    if value in _TAKEN:
        raise _error(name, f"cannot be {value!r}")
    return value


def _path(name: str, value: str) -> str:
    if not value.startswith("/") or "\0" in value or ".." in value.split("/"):
        raise _error(name, "must be an absolute path")
    return value


def _words(name: str, values: list[object]) -> list[str]:
    found = []
    for index, value in enumerate(values):
        if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable() or " " in value:
            raise _error(f"{name}[{index}]", "must be a word")
        found.append(value)
    return found


def _is_address(text: str) -> bool:
    for family in (_socket.AF_INET, _socket.AF_INET6):
        try:
            _socket.inet_pton(family, text)
        except OSError:
            continue
        return True
    return False


def _subnets(values: list[object]) -> list[Subnet]:
    if not values:
        raise _error("subnets", "is empty: name one subnet or more")
    subnets: list[Subnet] = []
    for index, value in enumerate(values):
        name = f"subnets[{index}]"
        if not isinstance(value, str):
            raise _error(name, "must be a string")
        try:
            subnet = Subnet(value)
        except ValueError as error:
            raise _error(name, f"{value!r} {error}") from None
        for other in subnets:
            if subnet.overlaps(other):
                raise _error(name, f"{subnet.text} overlaps {other.text}")
        subnets.append(subnet)
    return subnets
