"""The steps of stage ``network``; all of them run in the runtime, once the container's namespaces exist."""

from __future__ import annotations

import contextlib

from gosudacon.api import CREATE_CONTAINER, CREATE_RUNTIME, Context, Error, Step
from gosudacon.plugins.network.subnets import AF_INET6, Subnet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    class Member(TypedDict):
        """The fields of `_Member`."""

        bridge: str
        leases: str
        link: str
        where: str


# What works on the kernel is imported by `run` and `undo`, since explaining a plan needs none of it.


class _Member(Step):
    """A step of a member of the bridge's network: undoing any of them leaves it, and the last one takes it down.

    ``bridge`` is its name, ``leases`` the directory of its book, ``link`` the name of the container's link,
    under which it is booked. The container's side makes its mounts meanwhile: no step there needs the network
    before createContainer hooks do.
    """

    phase = CREATE_RUNTIME
    by = CREATE_CONTAINER
    lasts = True
    modules: tuple[str, ...] = ("gosudacon.plugins.network.leases", "gosudacon.plugins.network.nat")
    bridge: str
    leases: str
    link: str

    def undo(self, context: Context) -> None:
        """Give up the lease; if it is the last, first remove what was made for all."""
        from gosudacon.plugins.network import kernel, names, nat
        from gosudacon.plugins.network.leases import opened

        with opened(self.leases, self.bridge) as book:
            if self.link not in book.leases or book.is_another(self.link, context):
                return
            book.reclaim()
            if len(book.leases) == 1:
                nat.remove_table(book, self.bridge)
                nat.restore_forwarding(book)
                kernel.remove_bridge(self.bridge)
            book.leases.pop(self.link)
            book.save()
            with contextlib.suppress(OSError):  # a full disk: the next one to come or go writes them
                names.update(book)


class _Lease:
    """What `TakeLease` leaves for `SetAddress`: subnet -> address."""

    def __init__(self) -> None:
        self.addresses: dict[str, str] = {}


class TakeLease(_Member):
    """Book the container's addresses; from here on the bridge stays.

    Why: two containers must not have one address.
    Without it: they would take each other's packets.
    See: flock(2).
    """

    recorded_as = ("network.take-lease", 1)
    subnets: list[str]

    def describe(self) -> str:
        return f"reserve an address of {_both(self.subnets)} (in {self.leases})"

    def run(self, context: Context) -> None:
        from gosudacon.plugins.network import kernel
        from gosudacon.plugins.network.leases import opened

        kernel.require()
        with opened(self.leases, self.bridge) as book:
            book.reclaim()
            if self.link in book.leases:
                raise Error(
                    f"{self.link} belongs to a container of this id and bundle that was not deleted",
                    hint=f"does it still run? its lease is in {self.leases}/{self.bridge}.json",
                )
            context.own(_Lease).addresses = book.take(self.link, _parsed(self.subnets), context)


class MakeBridge(_Member):
    """Make the bridge, or complete it: the process that made it may have been killed in between.

    One that others made is used as it is.

    Why: containers of one network are joined by a switch in the kernel.
    Without it: they could not reach each other.
    See: bridge(8); rtnetlink(7).
    """

    recorded_as = ("network.make-bridge", 1)
    subnets: list[str]
    mtu: int

    def describe(self) -> str:
        owned = [f"{subnet.gateway}/{subnet.prefix}" for subnet in _parsed(self.subnets)]
        mtu = f", mtu {self.mtu}" if self.mtu else ""
        return f"make the bridge {self.bridge}, unless it is there: {_both(owned)}{mtu}"

    def run(self, context: Context) -> None:
        from gosudacon.plugins.network import kernel
        from gosudacon.plugins.network.leases import opened

        subnets = _parsed(self.subnets)
        with opened(self.leases, self.bridge), kernel.netlink(self.bridge) as socket:
            bridge = kernel.Bridge.find(socket, self.bridge)
            if bridge is None:
                kernel.check_free(socket, subnets)
                bridge = kernel.Bridge.make(socket, self.bridge)
            if bridge.ours:
                bridge.complete(socket, subnets, self.mtu)


class AllowForwarding(_Member):
    """Let packets of containers through the host.

    Why: the kernel passes packets between devices only when it is told to.
    Without it: the container could reach its host, and nothing behind it.
    See: ip(7), ip_forward; sysctl(8).
    """

    recorded_as = ("network.allow-forwarding", 1)
    versions: list[str]

    def describe(self) -> str:
        return f"forward {_both(self.versions)} between {self.bridge} and the links of the default routes"

    def run(self, context: Context) -> None:
        from gosudacon.plugins.network import nat
        from gosudacon.plugins.network.leases import opened

        with opened(self.leases, self.bridge) as book:
            nat.allow_forwarding(book, self.bridge, self.versions)


class Masquerade(_Member):
    """Let containers use the host's address, and allow no connection from outside.

    Why: private addresses mean nothing outside of the machine.
    Without it: no answer would come back from the network.
    See: nft(8).
    """

    modules = (*_Member.modules, "subprocess")
    recorded_as = ("network.masquerade", 1)
    subnets: list[str]
    nft: str

    def describe(self) -> str:
        from gosudacon.plugins.network.nat import table

        return f"NAT: masquerade {_both(self.subnets)} outside of {self.bridge} (nftables: inet {table(self.bridge)})"

    def run(self, context: Context) -> None:
        from gosudacon.plugins.network import nat
        from gosudacon.plugins.network.leases import opened

        with opened(self.leases, self.bridge) as book:
            nat.masquerade(book, self.bridge, _parsed(self.subnets), self.nft)


class MakeLink(_Member):
    """Connect the container to the bridge.

    Why: a pair of devices joins the container's network namespace and the host's.
    Without it: the container would have lo only.
    See: veth(4); network_namespaces(7).
    """

    recorded_as = ("network.make-link", 1)
    interface: str
    mtu: int

    def describe(self) -> str:
        mtu = f", mtu {self.mtu}" if self.mtu else ""
        return f"veth pair: {self.link} on {self.bridge}, {self.interface} in the container{mtu}"

    def run(self, context: Context) -> None:
        from gosudacon.plugins.network import kernel
        from gosudacon.plugins.network.inside import namespace_of

        with namespace_of(context.pid) as namespace:
            kernel.make_pair(self.link, self.bridge, self.interface, namespace, self.mtu)

    def undo(self, context: Context) -> None:
        """Remove the pair, which the end of the container's network namespace may have done already."""
        from gosudacon.plugins.network import kernel
        from gosudacon.plugins.network.leases import opened

        with opened(self.leases, self.bridge) as book:
            if not book.is_another(self.link, context):
                kernel.remove_link(self.link)
        super().undo(context)


class SetAddress(Step):
    """Give the container the address that was reserved.

    Why: the container needs an address and a way out.
    Without it: it could neither send nor be reached.
    See: rtnetlink(7); ip-address(8).
    """

    phase = CREATE_RUNTIME
    by = CREATE_CONTAINER
    interface: str
    subnet: str

    def describe(self) -> str:
        return f"give {self.interface} an address from {self.subnet}"

    def run(self, context: Context) -> None:
        from gosudacon.plugins.network import kernel
        from gosudacon.plugins.network.inside import inside

        subnet = Subnet(self.subnet)
        address = context.own(_Lease).addresses[self.subnet]

        def work() -> None:
            if subnet.family == AF_INET6:
                kernel.protect_ipv6(self.interface)
            kernel.set_address(self.interface, subnet, address)

        inside(context.pid, work)
        context.addresses.setdefault(self.interface, []).append(f"{address}/{subnet.prefix}")


class BringUp(Step):
    """Bring the container's link up, and route through the bridge what is not on it.

    Why: a device is down until it is set up.
    Without it: no packet would pass.
    See: netdevice(7); rtnetlink(7).
    """

    phase = CREATE_RUNTIME
    by = CREATE_CONTAINER
    interface: str
    gateways: list[str]

    def describe(self) -> str:
        return f"bring up {self.interface}; default route via {_both(self.gateways)}"

    def run(self, context: Context) -> None:
        from gosudacon.plugins.network import kernel
        from gosudacon.plugins.network.inside import inside

        inside(context.pid, lambda: kernel.bring_up(self.interface, self.gateways))


def _parsed(subnets: list[str]) -> list[Subnet]:
    return [Subnet(text) for text in subnets]


def _both(words: list[str]) -> str:
    return ", ".join(words[:-1]) + (" and " if words[1:] else "") + words[-1]
