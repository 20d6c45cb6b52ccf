"""The administrator's settings: ``[stage.network]`` of config.toml, checked while planning."""

from __future__ import annotations

import _socket

from gosudacon.api import SettingsError
from gosudacon.base import layout
from gosudacon.plugins.netcommon.members import NONE
from gosudacon.plugins.network.subnets import Subnet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

#: What belongs to one network: name -> default. The IPv6 subnet is a fixed one of the local range (RFC 4193): "gosud".
OF_NETWORK: dict[str, object] = {
    "bridge": "gosudacon0",
    "subnets": ["10.207.0.0/16", "fd67:6f73:7564::/64"],
    "nat": False,
    "mtu": 0,
}
#: All others.
OF_ALL: dict[str, object] = {
    "networks": {},
    "default": "default",
    "interface": "eth0",
    "leases": layout.NETWORK_LEASES,
    "nft": "/usr/sbin/nft",
    "annotations": [],
    "names": True,
    "dns_servers": [],
    "dns_search": [],
    "dns_options": [],
}
DEFAULT = "default"
"""The name of the network whose settings stand outside of ``networks``."""
ANNOTATIONS = ("publish", "network")
_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_IN_NAMES = _LETTERS | frozenset("0123456789_-.")
_TAKEN = ("all", "default", "lo")  # net.ipv4.conf.all and its like, and the loopback link


class Net:
    """The settings of one network: ``bridge`` is the name of a link, ``mtu`` in bytes, 0 for the kernel's default."""

    def __init__(self, name: str, values: Mapping[str, Any], place: str) -> None:
        """``place``: what stands before the names of settings in messages. Raises `SettingsError`."""
        self.name = name
        self.bridge = _link_name(f"{place}bridge", values["bridge"])
        self.subnets = _subnets(f"{place}subnets", values["subnets"])
        self.nat: bool = values["nat"]
        self.mtu: int = values["mtu"]
        least = 1280 if any(subnet.version == "IPv6" for subnet in self.subnets) else 68
        if self.mtu != 0 and not least <= self.mtu <= 65535:
            raise _error(f"{place}mtu", f"must be 0, for the kernel's default, or {least} to 65535")


class Settings:
    """Checked settings.

    ``networks`` are those that containers may be connected to, by their names, and ``default`` is the name of the one
    that they get if they ask for none; ``interface`` is the name of the link inside, the first one's of several;
    ``leases`` the directory in which addresses are booked; ``nft`` the path of nft(8); ``annotations`` what annotations
    may ask for, of `ANNOTATIONS`; ``names`` whether containers get resolv.conf, hosts and hostname, with
    ``dns_servers``, ``dns_search`` and ``dns_options`` in the place of what the host has.
    """

    def __init__(self, given: Mapping[str, object]) -> None:
        """Raises `SettingsError` that names the setting."""
        values = _checked(given, {**OF_NETWORK, **OF_ALL}, "")
        self.networks = {DEFAULT: Net(DEFAULT, values, "")}
        for name, table in values["networks"].items():
            self._add(name, table)
        self.default: str = values["default"]
        if self.default not in (*self.networks, NONE):
            raise _error("default", f"{self.default!r} is not a network; known: {', '.join(self.networks)}, {NONE}")
        self.interface = _link_name("interface", values["interface"])
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

    def _add(self, name: str, table: object) -> None:
        place = f"networks.{name}."
        if not name or not _IN_NAMES.issuperset(name) or name in (DEFAULT, NONE):
            raise _error(f"networks.{name}", f"must have a name of letters, digits and _ - . , not {DEFAULT} or {NONE}")
        if not isinstance(table, dict):
            raise _error(f"networks.{name}", "must be a table")
        if "subnets" not in table:
            raise _error(f"{place}subnets", "is missing: name one subnet or more")
        net = Net(name, _checked(table, {**OF_NETWORK, "bridge": f"gsd-{name}"}, place), place)
        for other in self.networks.values():
            if other.bridge == net.bridge:
                raise _error(f"{place}bridge", f"is {net.bridge}, and so is that of {other.name}")
            for subnet in net.subnets:
                for taken in other.subnets:
                    if subnet.overlaps(taken):
                        raise _error(f"{place}subnets", f"{subnet.text} overlaps {taken.text} of {other.name}")
        self.networks[name] = net

    def interface_of(self, index: int) -> str:
        """The name of the link inside for the network that comes at this place, from 0: eth0, eth1, …"""
        if index == 0:
            return self.interface
        stem = self.interface.rstrip("0123456789")
        first = self.interface[len(stem) :] or "0"
        return f"{stem}{int(first) + index}"


def _checked(given: Mapping[str, object], known: dict[str, object], place: str) -> dict[str, Any]:
    """The settings, with defaults where none are given, each of its default's type."""
    for name in given:
        if name not in known:
            raise _error(f"{place}{name}", f"is not a setting; known: {', '.join(known)}")
    values = {**known, **given}
    for name, default in known.items():
        if not isinstance(values[name], type(default)) or isinstance(values[name], bool) != isinstance(default, bool):
            raise _error(f"{place}{name}", f"must be {_KINDS[type(default)]}")
    return values


_KINDS = {str: "a string", list: "a list of strings", bool: "true or false", int: "a number", dict: "a table"}


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


def _subnets(name: str, values: list[object]) -> list[Subnet]:
    if not values:
        raise _error(name, "is empty: name one subnet or more")
    subnets: list[Subnet] = []
    for index, value in enumerate(values):
        place = f"{name}[{index}]"
        if not isinstance(value, str):
            raise _error(place, "must be a string")
        try:
            subnet = Subnet(value)
        except ValueError as error:
            raise _error(place, f"{value!r} {error}") from None
        for other in subnets:
            if subnet.overlaps(other):
                raise _error(place, f"{subnet.text} overlaps {other.text}")
        subnets.append(subnet)
    return subnets
