"""The kernel's network configuration: links, addresses and routes through rtnetlink(7), switches below /proc/sys/net.

Not through pyroute2, which the tests compare this with: its import takes 80 ms, as much as all the rest of `create` and
`delete` of a connected container.
"""

from __future__ import annotations

import _socket
from errno import ENODEV

from gosudacon.api import Error, Rtnetlink
from gosudacon.base import posix
from gosudacon.plugins.network.subnets import AF_INET6, Subnet

MARK = 0x676F7375
"""The link group of every link made here: set in the request that makes a link, so none is ever without."""

LEAVING = MARK + 1
"""That of links that are being removed together, and of none else but those of a process that was killed at it."""

_OURS = (MARK, LEAVING)
_TRIES = 4  # a network namespace that ends takes away one link, perhaps two


def exists(name: str) -> bool:
    """Whether this network namespace has a link of that name."""
    try:
        _socket.if_nametoindex(name)
    except OSError:
        return False
    return True


def make_bridge(socket: Rtnetlink, name: str, subnets: list[Subnet], mtu: int) -> None:
    """Make the bridge, or complete it: the process that made it may have been killed in between.

    One that others made is used as it is. It gets an address of its own: a bridge without one changes it as its ports
    come and go. Router advertisements of containers are not for the host. Raises `Error` if the name is that of
    something else.
    """
    bridge = socket.link(name)
    if bridge is None:
        check_free(socket, subnets)
        socket.add_bridge(name, b"\x02" + posix.urandom(5), MARK)
        bridge = socket.link(name)
    if bridge is None or bridge.kind != "bridge":
        raise Error(f"{name} exists and is not a bridge", hint="choose another name in [stage.network] bridge")
    if bridge.group == LEAVING:
        socket.set_group(bridge.index, MARK)
    elif bridge.group != MARK:
        return
    if any(subnet.family == AF_INET6 for subnet in subnets):
        protect_ipv6(name)
    if mtu:
        socket.set_mtu(bridge.index, mtu)
    for subnet in subnets:
        socket.give(bridge.index, subnet.gateway, subnet.prefix)
    socket.set_up(bridge.index, True)


def make_pair(link: str, bridge: str, interface: str, namespace: int, mtu: int, hairpin: bool) -> None:
    """A veth pair (veth(4)): ``link`` on the bridge, up; ``interface`` in the namespace behind the descriptor.

    ``hairpin``: the bridge may send back what comes from it (bridge(8)).
    """
    with Rtnetlink() as socket:
        socket.add_pair(link, interface, namespace, _socket.if_nametoindex(bridge), MARK, mtu)
        if hairpin:
            socket.set_hairpin(_socket.if_nametoindex(link))


def remove(link: str, bridge: str = "") -> None:
    """Remove a pair that was made here, and with it the bridge, if that was and nothing else is on it; none is fine.

    Both go together: the kernel waits for its readers (RCU) before a link is gone, 15 ms for a pair, 30 for a bridge.
    """
    for left in reversed(range(_TRIES)):
        if not (exists(link) or (bridge and exists(bridge))):
            return
        try:
            with Rtnetlink() as socket:
                _remove(socket, _removable(socket, link, bridge))
            return
        except OSError as error:
            if error.errno != ENODEV or not left:  # else the end of the container's namespace took its link away
                raise


def _removable(socket: Rtnetlink, link: str, bridge: str) -> set[int]:
    """The numbers of those of the two links that exist, were made here, and are not in use."""
    pair = socket.link(link)
    found = {pair.index} if pair is not None and pair.group in _OURS else set()
    master = socket.link(bridge) if bridge else None
    if master is None or master.kind != "bridge" or master.group not in _OURS:
        return found
    if any(each.master == master.index and each.index not in found for each in socket.links()):
        return found
    return found | {master.index}


def _remove(socket: Rtnetlink, indices: set[int]) -> None:
    if len(indices) > 1:
        for index in indices:
            socket.set_group(index, LEAVING)
        if indices == {each.index for each in socket.links() if each.group == LEAVING}:
            socket.delete_group(LEAVING)
            return
    for index in indices:
        socket.delete(index)


def configure(interface: str, addresses: list[tuple[Subnet, str]], gateways: list[str]) -> None:
    """Give the link of this network namespace its addresses, bring it up, and make default routes through it."""
    if any(subnet.family == AF_INET6 for subnet, _ in addresses):
        protect_ipv6(interface)
    with Rtnetlink() as socket:
        index = _socket.if_nametoindex(interface)
        for subnet, address in addresses:
            socket.give(index, address, subnet.prefix)
        socket.set_up(index, True)
        for gateway in gateways:
            socket.add_default_route(index, gateway)


def check_free(socket: Rtnetlink, subnets: list[Subnet]) -> None:
    """Raise `Error` if the host reaches a part of a subnet by a route of its own."""
    for subnet in subnets:
        for route in socket.routes(subnet.family):
            if not route.destination or route.length < subnet.prefix:
                continue  # default, or a wider route from which the subnet is meant to be an exception
            number = int.from_bytes(_socket.inet_pton(subnet.family, route.destination), "big")
            if subnet.first <= number < subnet.first + subnet.size:
                raise Error(
                    f"subnet {subnet.text} is not free: the host has a route to {route.destination}/{route.length}",
                    hint="name another one in [stage.network] subnets",
                )


def default_links(family: int) -> list[str]:
    """The names of the links that default routes lead to."""
    with Rtnetlink() as socket:
        indices = {index for route in socket.routes(family) if not route.destination for index in route.links}
    return sorted(_socket.if_indextoname(index) for index in indices)


def protect_ipv6(interface: str) -> None:
    """IPv6 on a link without router advertisements: any neighbour could send them and redirect what it likes."""
    switch(f"ipv6/conf/{interface}/disable_ipv6", "0")
    switch(f"ipv6/conf/{interface}/accept_ra", "0")


def reads(path: str) -> str:
    """The value of a switch below /proc/sys/net of this network namespace; empty if there is no such switch."""
    try:
        with open(f"/proc/sys/net/{path}", encoding="ascii") as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""


def switch(path: str, value: str) -> None:
    """Set a switch below /proc/sys/net, if it is not set so already."""
    found = reads(path)
    if not found:
        hint = "IPv6 is off on this machine: leave it out of [stage.network] subnets" if path[:4] == "ipv6" else ""
        raise Error(f"there is no /proc/sys/net/{path}", hint=hint)
    if found != value:
        with open(f"/proc/sys/net/{path}", "w", encoding="ascii") as file:
            file.write(value)
