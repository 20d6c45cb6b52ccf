"""Making and removing links, addresses and routes through rtnetlink(7): bridges, veth pairs, default routes.

Names of constants and structures are those of linux/rtnetlink.h, linux/if_link.h and linux/veth.h.
"""

from __future__ import annotations

import _socket
from errno import EEXIST

from gosudacon.base.errors import SyscallError
from gosudacon.linux import netlink
from gosudacon.linux.netlink import attribute, attributes, link_header, number, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_ACK, _DUMP, _CREATE, _EXCL = 0x4, 0x300, 0x400, 0x200
_NEWLINK, _DELLINK, _GETLINK, _SETLINK = 16, 17, 18, 19
_NEWADDR, _NEWROUTE, _GETROUTE = 20, 24, 26
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_PROTINFO, _IFLA_LINKINFO = 1, 3, 4, 10, 12, 18
_IFLA_GROUP, _IFLA_NET_NS_FD = 27, 28
_INFO_KIND, _INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_BRPORT_MODE = 4
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_NODAD = 0x02  # usable at once
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_MULTIPATH, _RTA_TABLE = 1, 4, 5, 9, 15
_TABLE_MAIN, _PROT_STATIC, _SCOPE_UNIVERSE, _UNICAST = 254, 4, 0, 1
_IFF_UP = 1
_NESTED = 0x8000
_AF_BRIDGE = 7
_BITS = {int(_socket.AF_INET): 32, int(_socket.AF_INET6): 128}


class Route:
    """A route of the main table: its destination, empty for a default route, and the numbers of its links."""

    def __init__(self, destination: str, length: int, links: list[int]) -> None:
        self.destination = destination
        self.length = length
        self.links = links


class Rtnetlink(netlink.Netlink):
    """As `Netlink`, for making networks. Addresses are texts; every method raises `SyscallError`."""

    def links(self) -> list[netlink.Link]:
        """Every link of this network namespace."""
        return [netlink.parsed(body) for body in self._ask(_GETLINK, _DUMP, link_header(), "RTM_GETLINK")]

    def add_bridge(self, name: str, address: bytes, group: int) -> None:
        """Make a bridge with this hardware address, in this group of links."""
        body = link_header() + attribute(_IFLA_IFNAME, text(name)) + attribute(_IFLA_ADDRESS, address)
        body += attribute(_IFLA_GROUP, _u32(group)) + _nest(_IFLA_LINKINFO, attribute(_INFO_KIND, b"bridge"))
        self._ask(_NEWLINK, _ACK | _CREATE | _EXCL, body, f"RTM_NEWLINK {name}")

    def add_pair(self, name: str, peer: str, namespace: int, master: int, group: int, mtu: int = 0) -> None:
        """A veth pair (veth(4)): ``name`` up and on the bridge ``master``, ``peer`` in the network namespace."""
        size = attribute(_IFLA_MTU, _u32(mtu)) if mtu else b""
        there = link_header() + attribute(_IFLA_IFNAME, text(peer)) + attribute(_IFLA_NET_NS_FD, _u32(namespace)) + size
        info = attribute(_INFO_KIND, b"veth") + _nest(_INFO_DATA, attribute(_VETH_INFO_PEER, there))
        body = link_header(flags=_IFF_UP, change=_IFF_UP) + attribute(_IFLA_IFNAME, text(name)) + size
        body += attribute(_IFLA_MASTER, _u32(master)) + attribute(_IFLA_GROUP, _u32(group))
        self._ask(_NEWLINK, _ACK | _CREATE | _EXCL, body + _nest(_IFLA_LINKINFO, info), f"RTM_NEWLINK {name}")

    def set_hairpin(self, index: int) -> None:
        """Let the bridge send what comes from this link of its own back to it (bridge(8))."""
        body = bytes([_AF_BRIDGE]) + link_header(index)[1:]
        body += _nest(_IFLA_PROTINFO, attribute(_BRPORT_MODE, b"\1"))
        self._ask(_SETLINK, _ACK, body, "RTM_SETLINK hairpin")

    def set_mtu(self, index: int, mtu: int) -> None:
        """Set the MTU of a link, in bytes."""
        self._ask(_NEWLINK, _ACK, link_header(index) + attribute(_IFLA_MTU, _u32(mtu)), "RTM_NEWLINK mtu")

    def delete(self, index: int) -> None:
        """Remove a link."""
        self._ask(_DELLINK, _ACK, link_header(index), f"RTM_DELLINK {index}")

    def set_group(self, index: int, group: int) -> None:
        """Put a link into a group of links."""
        self._ask(_NEWLINK, _ACK, link_header(index) + attribute(_IFLA_GROUP, _u32(group)), "RTM_NEWLINK group")

    def delete_group(self, group: int) -> None:
        """Remove all links of a group: of several together, the kernel waits for its readers (RCU) once."""
        self._ask(_DELLINK, _ACK, link_header() + attribute(_IFLA_GROUP, _u32(group)), f"RTM_DELLINK group {group:#x}")

    def give(self, index: int, address: str, length: int) -> None:
        """Give a link an address with a prefix of ``length`` bits, usable at once; that it has it already is fine."""
        family, packed = _packed(address)
        body = bytes([family, length, 0, _SCOPE_UNIVERSE]) + _u32(index)
        body += attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)
        if family == _socket.AF_INET6:
            body += attribute(_IFA_FLAGS, _u32(_NODAD))
        try:
            self._ask(_NEWADDR, _ACK | _CREATE | _EXCL, body, f"RTM_NEWADDR {address}/{length}")
        except SyscallError as error:
            if error.errno != EEXIST:
                raise

    def add_default_route(self, index: int, gateway: str) -> None:
        """Make the default route of the gateway's version of IP, through a link."""
        family, packed = _packed(gateway)
        body = bytes([family, 0, 0, 0, _TABLE_MAIN, _PROT_STATIC, _SCOPE_UNIVERSE, _UNICAST]) + bytes(4)
        body += attribute(_RTA_GATEWAY, packed) + attribute(_RTA_OIF, _u32(index))
        self._ask(_NEWROUTE, _ACK | _CREATE | _EXCL, body, f"RTM_NEWROUTE default via {gateway}")

    def routes(self, family: int) -> Iterator[Route]:
        """The routes of the main table, for AF_INET or AF_INET6."""
        for body in self._ask(_GETROUTE, _DUMP, bytes([family]) + bytes(11), "RTM_GETROUTE"):
            found = dict(attributes(body[12:]))
            table = number(found[_RTA_TABLE]) if _RTA_TABLE in found else body[4]
            if body[0] != family or table != _TABLE_MAIN:
                continue
            target = found.get(_RTA_DST)
            links = [number(found[_RTA_OIF])] if _RTA_OIF in found else []
            links += _hops(found.get(_RTA_MULTIPATH, b""))
            yield Route(_socket.inet_ntop(family, target) if target else "", body[1], links)


def _hops(data: bytes) -> Iterator[int]:
    """The links of a route with several hops: an array of ``struct rtnexthop`` and its attributes."""
    at = 0
    while at + 8 <= len(data):
        length = number(data[at : at + 2])
        yield number(data[at + 4 : at + 8])
        at += max(length + 3 & ~3, 8)


def _nest(kind: int, body: bytes) -> bytes:
    return attribute(kind | _NESTED, body)


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def _packed(address: str) -> tuple[int, bytes]:
    family = int(_socket.AF_INET6 if ":" in address else _socket.AF_INET)
    return family, _socket.inet_pton(family, address)
