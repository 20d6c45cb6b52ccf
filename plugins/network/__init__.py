"""Stage ``network``: a container with a network namespace of its own reaches the host and its neighbours.

May use: `api`, `base`.
Start with `steps`, then `leases` and `kernel`.

It gets a veth pair on a bridge, an address of every configured subnet, default routes and, if wanted, NAT.
In config.toml::

    plugins = ["network"]

    [stage.network]
    nat = true

See docs/network.md.
"""

from __future__ import annotations

from gosudacon.api import Error, Host, Spec, Stage, Step, hookimpl
from gosudacon.plugins.netcommon import files, members, ports
from gosudacon.plugins.network import choice, names
from gosudacon.plugins.network.settings import DEFAULT, Net, Settings
from gosudacon.plugins.network.steps import (
    AllowForwarding,
    LoadRules,
    MakeBridge,
    MakeLink,
    ReservePorts,
    SetUp,
    TakeLease,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.api import Features
    from gosudacon.plugins.netcommon.ports import Port
    from gosudacon.plugins.network.steps import Member

_ANNOTATIONS = {"publish": ports.ANNOTATION, "network": members.ANNOTATION}  # setting -> what it allows


class Network(Stage):
    """Connects new network namespaces; those that are joined or shared are not ours."""

    name = "network"
    after = ("namespaces",)
    before = ("hooks",)

    def features(self) -> Features:
        """The annotations that choose ports of the host and networks, where the administrator allows it."""
        allowed = self.settings.get("annotations") or ()
        return {"potentiallyUnsafeConfigAnnotations": [text for name, text in _ANNOTATIONS.items() if name in allowed]}

    def plan(self, spec: Spec, host: Host) -> Iterator[Step]:
        """Raises `SettingsError` for malformed settings, whether they are needed or not, `Error` for an option."""
        settings = Settings(self.settings)
        published = ports.asked(spec, "publish" in settings.annotations)
        networks = choice.chosen(spec, settings)
        if not members.connects(spec, host):
            members.check_left_alone(spec, "network")
            return
        for name, annotation in _ANNOTATIONS.items():
            if name not in settings.annotations:
                yield from ports.ignored(spec, annotation, f'annotations = ["{name}"] in [stage.network]')
        if not networks:
            if published:
                raise Error("ports cannot be published without a network", hint="leave out --network none")
            return
        joined = [_Member(spec, settings, index, network) for index, network in enumerate(networks)]
        routed: set[str] = set()
        for member in joined:
            yield from member.steps(published if member is joined[0] else [], routed)
        if settings.names:
            yield from files.steps(spec, host)
            yield _names(spec, settings, joined)

    def plan_restore(self, spec: Spec, host: Host) -> Iterator[Step]:
        """The files that the images have mounted; the network is not made again."""
        settings = Settings(self.settings)
        if settings.names and members.connects(spec, host):
            yield from files.restoring(spec, settings.dns_servers, settings.dns_search, settings.dns_options)


class _Member:
    """A container's membership of a network: what its steps have in common."""

    def __init__(self, spec: Spec, settings: Settings, index: int, net: Net) -> None:
        self.settings = settings
        self.net = net
        self.interface = settings.interface_of(index)
        self.where = members.where(spec)
        self.link = link_name(spec, net.name)
        gateways = {subnet.version: subnet.gateway for subnet in reversed(net.subnets)}
        self.gateways = dict(sorted(gateways.items()))

    def steps(self, published: list[Port], routed: set[str]) -> Iterator[Step]:
        """The steps; ``routed`` are the versions of IP that have a default route already, and is added to."""
        net, settings = self.net, self.settings
        common: Member = {"bridge": net.bridge, "leases": settings.leases, "link": self.link, "where": self.where}
        subnets = [subnet.text for subnet in net.subnets]
        wanted = [str(port) for port in published]
        yield TakeLease(**common, subnets=subnets)
        if wanted:
            yield ReservePorts(**common, ports=wanted)
        yield MakeBridge(**common, subnets=subnets, mtu=net.mtu)
        versions = _versions(net, published)
        if versions:
            yield AllowForwarding(**common, versions=versions)
        if net.nat or wanted:
            yield LoadRules(**common, subnets=subnets, nat=net.nat, ports=wanted, nft=settings.nft)
        yield MakeLink(**common, interface=self.interface, mtu=net.mtu)
        ways = [gateway for version, gateway in self.gateways.items() if version not in routed]
        routed.update(self.gateways)
        yield SetUp(interface=self.interface, subnets=subnets, gateways=ways, where=self.where)


def _names(spec: Spec, settings: Settings, joined: list[_Member]) -> Step:
    return names.WriteNames(
        networks=[[member.net.bridge, member.link] for member in joined],
        leases=settings.leases,
        names=members.names(spec),
        gateways=list(joined[0].gateways.values()),
        servers=settings.dns_servers,
        search=settings.dns_search,
        options=settings.dns_options,
        nat=any(member.net.nat for member in joined),
        where=joined[0].where,
    )


def link_name(spec: Spec, network: str = DEFAULT) -> str:
    """The name of the veth pair's end on the host: the same for every plan of this container, and no other's.

    Each network has a link of its own.
    """
    return members.identity(spec, *([] if network == DEFAULT else [network]))


def _versions(net: Net, published: list[Port]) -> list[str]:
    """Of which versions of IP packets are to be forwarded. What is published at the loopback alone never is."""
    outside = [port for port in published if not port.address.startswith("127.") and port.address != "::1"]
    return sorted(
        {subnet.version for subnet in net.subnets if net.nat or any(port.serves(subnet.family) for port in outside)}
    )


@hookimpl
def gosudacon_stages() -> list[Stage]:
    """The stages of this module."""
    return [Network()]
