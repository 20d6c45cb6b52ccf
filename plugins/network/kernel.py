"""The kernel's network configuration: links, addresses and routes through pyroute2, switches below /proc/sys/net.

pyroute2 takes some 90 ms to import, so this happens when the first step that needs it runs. It starts no threads.
"""

from __future__ import annotations

import _socket
import contextlib
import os
from errno import EEXIST, EINTR, EIO, ENODEV

from gosudacon.api import Error
from gosudacon.plugins.network.subnets import AF_INET, AF_INET6, Subnet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, Protocol

    class Message(Protocol):
        """What the kernel says about a link or a route: a header's fields, and attributes by their names."""

        def __getitem__(self, field: str) -> int: ...

        def get_attr(self, name: str) -> Any: ...

    class Netlink(Protocol):
        """The part of pyroute2.IPRoute that is used here."""

        def link(self, command: str, **fields: object) -> list[Message]: ...

        def addr(self, command: str, **fields: object) -> object: ...

        def route(self, command: str, **fields: object) -> object: ...

        def brport(self, command: str, **fields: object) -> object: ...

        def get_links(self) -> Iterable[Message]: ...

        def get_routes(self, **fields: object) -> Iterable[Message]: ...


MARK = 0x676F7375
"""The link group of every link made here: set in the request that makes a link, so none is ever without."""

_NODAD = 0x02  # IFA_F_NODAD: usable at once; the lease makes sure that it is the only one
_MAIN_TABLE = 254
_TRIES = 20


def require() -> Any:
    """The module pyroute2. Raises `Error` if it is not installed."""
    try:
        import pyroute2  # type: ignore[import-untyped]
    except ImportError as error:
        raise Error(
            f"the plugin network needs pyroute2: {error}", hint="pip install gosudacon[network], or pyroute2 itself"
        ) from error
    return pyroute2


@contextlib.contextmanager
def netlink(subject: str) -> Iterator[Netlink]:
    """A pyroute2.IPRoute of this network namespace; the kernel's refusals become OSError about ``subject``."""
    pyroute2 = require()
    try:
        with pyroute2.IPRoute() as socket:
            yield socket
    except pyroute2.NetlinkError as error:
        number = error.code if error.code > 0 else EIO
        raise OSError(number, os.strerror(number), subject) from error


def exists(name: str) -> bool:
    """Whether this network namespace has a link of that name."""
    try:
        _socket.if_nametoindex(name)
    except OSError:
        return False
    return True


class Bridge:
    """The bridge of a name; `find` looks it up."""

    def __init__(self, name: str, message: Message) -> None:
        self.name = name
        self.index: int = message["index"]
        self.ours = message.get_attr("IFLA_GROUP") == MARK

    @classmethod
    def find(cls, socket: Netlink, name: str) -> Bridge | None:
        """The bridge, or None. Raises `Error` if the name is that of something else."""
        if not exists(name):
            return None
        message = socket.link("get", ifname=name)[0]
        if _kind(message) != "bridge":
            raise Error(f"{name} exists and is not a bridge", hint="choose another name in [stage.network] bridge")
        return cls(name, message)

    @classmethod
    def make(cls, socket: Netlink, name: str) -> Bridge:
        """Make it, with an address of its own: a bridge without one changes it as its ports come and go."""
        address = ":".join(f"{byte:02x}" for byte in b"\x02" + os.urandom(5))
        socket.link("add", ifname=name, kind="bridge", address=address, group=MARK)
        found = cls.find(socket, name)
        assert found is not None
        return found

    def complete(self, socket: Netlink, subnets: list[Subnet], mtu: int) -> None:
        """Give it what it lacks and bring it up. Router advertisements of containers are not for the host."""
        if any(subnet.family == AF_INET6 for subnet in subnets):
            protect_ipv6(self.name)
        if mtu:
            socket.link("set", index=self.index, mtu=mtu)
        for subnet in subnets:
            add_address(socket, self.index, subnet, subnet.gateway)
        socket.link("set", index=self.index, state="up")

    def ports(self, socket: Netlink) -> list[str]:
        """The names of the links on it."""
        for _ in range(_TRIES):
            try:
                links = list(socket.get_links())
                break
            except require().NetlinkError as error:
                if error.code not in (-1, EINTR):  # the list changed while it was read
                    raise
        else:
            raise OSError(EINTR, os.strerror(EINTR), "the list of links")
        return [link.get_attr("IFLA_IFNAME") for link in links if link.get_attr("IFLA_MASTER") == self.index]


def remove_bridge(name: str) -> None:
    """Remove the bridge if it was made here and nothing is on it."""
    if not exists(name):
        return
    with netlink(name) as socket:
        message = socket.link("get", ifname=name)[0]
        if _kind(message) == "bridge":
            bridge = Bridge(name, message)
            if bridge.ours and not bridge.ports(socket):
                socket.link("del", index=bridge.index)


def make_pair(link: str, bridge: str, interface: str, namespace: int, mtu: int, hairpin: bool) -> None:
    """A veth pair (veth(4)): ``link`` on the bridge, up; ``interface`` in the namespace behind the descriptor.

    ``hairpin``: the bridge may send back what comes from it (bridge(8)).
    """
    peer: dict[str, object] = {"ifname": interface, "net_ns_fd": namespace}
    more: dict[str, object] = {}
    if mtu:
        more["mtu"] = peer["mtu"] = mtu
    with netlink(link) as socket:
        master = _socket.if_nametoindex(bridge)
        socket.link("add", ifname=link, kind="veth", master=master, group=MARK, state="up", peer=peer, **more)
        if hairpin:
            socket.brport("set", index=_socket.if_nametoindex(link), mode=1)


def remove_link(name: str) -> None:
    """Remove a link that was made here, and with it the other end; none is fine."""
    if not exists(name):
        return
    try:
        with netlink(name) as socket:
            message = socket.link("get", ifname=name)[0]
            if message.get_attr("IFLA_GROUP") == MARK:
                socket.link("del", index=message["index"])
    except OSError as error:
        if error.errno != ENODEV:  # the end of its container's namespace took it away meanwhile
            raise


def add_address(socket: Netlink, index: int, subnet: Subnet, address: str) -> None:
    """Give a link an address; that it has it already is fine."""
    more = {"flags": _NODAD} if subnet.family == AF_INET6 else {}
    try:
        socket.addr("add", index=index, family=subnet.family, address=address, prefixlen=subnet.prefix, **more)
    except require().NetlinkError as error:
        if error.code != EEXIST:
            raise


def set_address(interface: str, subnet: Subnet, address: str) -> None:
    """Give the link an address."""
    with netlink(f"{address} on {interface}") as socket:
        add_address(socket, _socket.if_nametoindex(interface), subnet, address)


def bring_up(interface: str, gateways: list[str]) -> None:
    """Bring a link up and make default routes through it."""
    with netlink(interface) as socket:
        index = _socket.if_nametoindex(interface)
        socket.link("set", index=index, state="up")
        for gateway in gateways:
            family = AF_INET6 if ":" in gateway else AF_INET
            socket.route("add", family=family, dst="default", gateway=gateway, oif=index)


def routes(socket: Netlink, family: int) -> list[Message]:
    """The routes of the main table."""
    for _ in range(_TRIES):
        try:
            return list(socket.get_routes(family=family, table=_MAIN_TABLE))
        except require().NetlinkError as error:
            if error.code not in (-1, EINTR):
                raise
    raise OSError(EINTR, os.strerror(EINTR), "the list of routes")


def check_free(socket: Netlink, subnets: list[Subnet]) -> None:
    """Raises `Error` if the host reaches a part of a subnet elsewhere: the bridge would take that over."""
    for subnet in subnets:
        for route in routes(socket, subnet.family):
            destination = route.get_attr("RTA_DST")
            if not destination or route["dst_len"] < subnet.prefix:
                continue  # default, or a wider route from which the subnet is meant to be an exception
            number = int.from_bytes(_socket.inet_pton(subnet.family, destination), "big")
            if subnet.first <= number < subnet.first + subnet.size:
                raise Error(
                    f"subnet {subnet.text} is not free: the host has a route to {destination}/{route['dst_len']}",
                    hint="name another one in [stage.network] subnets",
                )


def default_links(family: int) -> list[str]:
    """The names of the links that default routes lead to."""
    with netlink("routes") as socket:
        indices: set[int] = set()
        for route in routes(socket, family):
            if route["dst_len"] == 0:
                hops = [hop["oif"] for hop in route.get_attr("RTA_MULTIPATH") or ()]
                indices.update(index for index in (route.get_attr("RTA_OIF"), *hops) if index)
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


def _kind(message: Message) -> str:
    info = message.get_attr("IFLA_LINKINFO")
    kind: str = info.get_attr("IFLA_INFO_KIND") if info else ""
    return kind
