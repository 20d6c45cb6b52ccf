"""Stage ``network``: a container with a network namespace of its own reaches the host and its neighbours.

May use: `api`, `base`, pyroute2.
Start with `steps`, then `leases` and `kernel`.

It gets a veth pair on a bridge, an address of every configured subnet, default routes and, if wanted, NAT.
In config.toml::

    plugins = ["network"]

    [stage.network]
    nat = true

See docs/network.md. Needs pyroute2: ``pip install gosudacon[network]``.
"""

from __future__ import annotations

from gosudacon.api import Error, Host, Spec, Stage, Step, hookimpl
from gosudacon.plugins.netcommon import files, ports
from gosudacon.plugins.network import names
from gosudacon.plugins.network.settings import Settings
from gosudacon.plugins.network.steps import (
    AllowForwarding,
    BringUp,
    LoadRules,
    MakeBridge,
    MakeLink,
    ReservePorts,
    SetAddress,
    TakeLease,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.plugins.netcommon.ports import Port
    from gosudacon.plugins.network.steps import Member

# Docker's engine asks for a new network namespace without a path too, and moves its own links into it from a hook
# that calls itself so. With `--network none` there is nothing to move, and nothing must be there.
_DOCKERS_HOOK = "libnetwork-setkey"


class Network(Stage):
    """Connects new network namespaces; those that are joined or shared are not ours."""

    name = "network"
    after = ("namespaces",)
    before = ("hooks",)

    def plan(self, spec: Spec, host: Host) -> Iterator[Step]:
        """Raises `SettingsError` for malformed settings, whether they are needed or not, `Error` for an option."""
        settings = Settings(self.settings)
        allowed = "publish" in settings.annotations
        published = ports.asked(spec, allowed)
        if spec.namespaces().get("network") != "" or not _may_connect(host) or _is_dockers(spec):
            if spec.options.publish:
                raise Error(
                    f"--publish {spec.options.publish[0]}: the plugin network does not connect this container",
                    hint="it connects those with a new network namespace, made by the host's root, not by Docker",
                )
            return
        if not allowed:
            yield from ports.ignored(spec, ports.ANNOTATION, 'annotations = ["publish"] in [stage.network]')
        wanted = [str(port) for port in published]
        common: Member = {
            "bridge": settings.bridge,
            "leases": settings.leases,
            "link": link_name(spec),
            "where": _where(spec),
        }
        subnets = [subnet.text for subnet in settings.subnets]
        yield TakeLease(**common, subnets=subnets)
        if wanted:
            yield ReservePorts(**common, ports=wanted)
        yield MakeBridge(**common, subnets=subnets, mtu=settings.mtu)
        versions = _versions(settings, published)
        if versions:
            yield AllowForwarding(**common, versions=versions)
        if settings.nat or wanted:
            yield LoadRules(**common, subnets=subnets, nat=settings.nat, ports=wanted, nft=settings.nft)
        yield MakeLink(**common, interface=settings.interface, mtu=settings.mtu)
        for subnet in subnets:
            yield SetAddress(interface=settings.interface, subnet=subnet, where=common["where"])
        gateways = {subnet.version: subnet.gateway for subnet in reversed(settings.subnets)}
        ways = [gateways[key] for key in sorted(gateways)]
        yield BringUp(interface=settings.interface, gateways=ways, where=common["where"])
        if settings.names:
            yield from files.steps(spec, host)
            yield names.WriteNames(
                networks=[[settings.bridge, common["link"]]],
                leases=settings.leases,
                names=names.own(spec.id, spec.config.get("hostname") or ""),
                gateways=ways,
                servers=settings.dns_servers,
                search=settings.dns_search,
                options=settings.dns_options,
                nat=settings.nat,
                where=common["where"],
            )


def link_name(spec: Spec) -> str:
    """The name of the veth pair's end on the host: the same for every plan of this container, and no other's.

    Ids are unique below one ``--root`` only, hence the hash over more than the id.
    """
    try:
        from _blake2 import blake2s  # hashlib would load OpenSSL
    except ImportError:
        from hashlib import blake2s
    identity = "\0".join((spec.options.root, spec.id, spec.bundle))
    return "gsd" + blake2s(identity.encode(errors="surrogateescape"), digest_size=6).hexdigest()


def _versions(settings: Settings, published: list[Port]) -> list[str]:
    """Of which versions of IP packets are to be forwarded. What is published at the loopback alone never is."""
    outside = [port for port in published if not port.address.startswith("127.") and port.address != "::1"]
    subnets = settings.subnets
    return sorted(
        {subnet.version for subnet in subnets if settings.nat or any(port.serves(subnet.family) for port in outside)}
    )


def _may_connect(host: Host) -> bool:
    """A caller without privileges on the host cannot put a link there, and gets what it gets without the plugin."""
    return host.euid == 0 and host.initial_userns


def _is_dockers(spec: Spec) -> bool:
    hooks = spec.config.get("hooks") or {}
    calls = [*(hooks.get("prestart") or ()), *(hooks.get("createRuntime") or ())]
    return any(_DOCKERS_HOOK in (call.get("args") or ()) for call in calls)


def _where(spec: Spec) -> str:
    kinds = [entry["type"] for entry in spec.linux["namespaces"]]
    return f"linux.namespaces[{kinds.index('network')}]"


@hookimpl
def gosudacon_stages() -> list[Stage]:
    """The stages of this module."""
    return [Network()]
