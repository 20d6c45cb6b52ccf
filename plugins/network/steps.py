"""The steps of stage ``network``; all of them run in the runtime, once the container's namespaces exist."""

from __future__ import annotations

from gosudacon.api import CREATE_CONTAINER, CREATE_RUNTIME, Context, Error, Step
from gosudacon.plugins.netcommon import ports
from gosudacon.plugins.network import rules
from gosudacon.plugins.network.subnets import Subnet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from gosudacon.plugins.network.leases import Book

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
        """Remove the pair, if the end of the container's network namespace has not, and give up the lease."""
        from gosudacon.plugins.network import inside, kernel
        from gosudacon.plugins.network.leases import opened

        with opened(self.leases, self.bridge) as book:
            if book.is_another(self.link, context):
                return
            if self.link in book.leases:
                self._leave(book)
            else:
                kernel.remove(self.link)
        inside.let_go(self.link)

    def _leave(self, book: Book) -> None:
        """The last one first removes what was made for all."""
        from gosudacon.plugins.network import kernel, names, nat

        book.reclaim()
        lease = book.leases.pop(self.link)
        if book.leases:
            with nat.loading(book, bool(lease.get("ports") or book.stale)):
                kernel.remove(self.link)
            book.stale = False
        else:
            nat.restore_forwarding(book)
            with nat.removing_table(book):
                kernel.remove(self.link, self.bridge)
        book.save()
        try:
            names.update(book)
        except OSError:  # a full disk: the next one to come or go writes them
            pass


class _Lease:
    """What `TakeLease` leaves for `SetUp`: subnet -> address."""

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
        from gosudacon.plugins.network.leases import opened

        with opened(self.leases, self.bridge) as book:
            book.reclaim()
            if self.link in book.leases:
                raise Error(
                    f"{self.link} belongs to a container of this id and bundle that was not deleted",
                    hint=f"does it still run? its lease is in {self.leases}/{self.bridge}.json",
                )
            context.own(_Lease).addresses |= book.take(self.link, _parsed(self.subnets), context)
            if book.stale:
                from gosudacon.plugins.network import nat

                nat.load(book)
                book.save()


class ReservePorts(_Member):
    """Book the host's ports that are published, and choose those of which the number does not matter.

    Why: a port of the host leads to one place.
    Without it: two containers, or one and a server of the host, would have the same port, and one of them nothing.
    See: ip(7); bind(2).
    """

    recorded_as = ("network.reserve-ports", 1)
    ports: list[str]

    def describe(self) -> str:
        return f"reserve the host's ports for {_both(self.ports)}"

    def run(self, context: Context) -> None:
        from gosudacon.plugins.netcommon import sockets
        from gosudacon.plugins.network.leases import opened

        with opened(self.leases, self.bridge) as book:
            taken = [(id, ports.parse(text)) for id, text in book.published()]
            settled = sockets.settle([ports.parse(text) for text in self.ports], taken)
            book.leases[self.link]["ports"] = [str(port) for port in settled]
            book.save()


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
        from gosudacon.api import Rtnetlink
        from gosudacon.plugins.network import kernel
        from gosudacon.plugins.network.leases import opened

        with opened(self.leases, self.bridge), Rtnetlink() as socket:
            kernel.make_bridge(socket, self.bridge, _parsed(self.subnets), self.mtu)


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


class LoadRules(_Member):
    """Load the bridge's table: masquerading, published ports, and what may pass.

    Why: private addresses mean nothing outside of the machine.
    Without it: no answer would come back from the network, and nobody outside could reach a published port.
    See: nft(8).
    """

    recorded_as = ("network.masquerade", 2)
    subnets: list[str]
    nat: bool
    ports: list[str]
    nft: str

    @classmethod
    def restored(cls, version: int, fields: dict[str, object]) -> Step:
        """Version 1 was about masquerading alone."""
        return super().restored(2, {"nat": True, "ports": [], **fields} if version == 1 else fields)

    def describe(self) -> str:
        done = [f"masquerade {_both(self.subnets)} outside of {self.bridge}"] if self.nat else []
        if self.ports:
            done.append(f"lead {_both(self.ports)} to the container")
        return f"NAT: {'; '.join(done)} (nftables: inet {rules.table(self.bridge)})"

    def run(self, context: Context) -> None:
        from gosudacon.plugins.network import nat
        from gosudacon.plugins.network.leases import opened

        with opened(self.leases, self.bridge) as book:
            if any(rules.loopback(ports.parse(text)) for text in self.ports):
                nat.allow_loopback(book)
            nat.set_rules(book, self.subnets, self.nat, self.nft)
        if self.ports:
            context.ports = book.leases[self.link]["ports"]


class MakeLink(_Member):
    """Connect the container to the bridge.

    A port of the bridge sends a packet back where it came from only if told to: for a container that reaches itself by
    a port that it has published.

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
        from gosudacon.plugins.network import inside, kernel
        from gosudacon.plugins.network.leases import opened

        with opened(self.leases, self.bridge) as book:
            published = bool(book.leases[self.link].get("ports"))
        with inside.namespace_of(context.pid) as namespace:
            if context.spec.options.foreground:
                inside.hold(self.link, namespace)
            kernel.make_pair(self.link, self.bridge, self.interface, namespace, self.mtu, published)


class SetUp(Step):
    """Give the container's link the addresses that were reserved, bring it up, and route through the bridge.

    Why: a device is down, and has no address, until it is set up.
    Without it: no packet would pass.
    See: rtnetlink(7); netdevice(7); ip-address(8).
    """

    phase = CREATE_RUNTIME
    by = CREATE_CONTAINER
    interface: str
    subnets: list[str]
    gateways: list[str]

    def describe(self) -> str:
        ways = f"; default route via {_both(self.gateways)}" if self.gateways else ""
        return f"give {self.interface} an address of {_both(self.subnets)}, bring it up{ways}"

    def run(self, context: Context) -> None:
        from gosudacon.plugins.network import kernel
        from gosudacon.plugins.network.inside import inside

        booked = context.own(_Lease).addresses
        found = [(subnet, booked[subnet.text]) for subnet in _parsed(self.subnets)]
        inside(context.pid, lambda: kernel.configure(self.interface, found, self.gateways))
        context.addresses[self.interface] = [f"{address}/{subnet.prefix}" for subnet, address in found]


def _parsed(subnets: list[str]) -> list[Subnet]:
    return [Subnet(text) for text in subnets]


def _both(words: list[str]) -> str:
    return ", ".join(words[:-1]) + (" and " if words[1:] else "") + words[-1]
