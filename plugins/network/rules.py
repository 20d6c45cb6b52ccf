"""The table of nftables of one bridge as text, in nft(8)'s language: masquerading, published ports, what may pass.

Pure. The table is of the family inet, replaced as a whole, in one transaction, whenever what is in it changes.
"""

from __future__ import annotations

from gosudacon.plugins.netcommon.ports import Port
from gosudacon.plugins.network.subnets import AF_INET, AF_INET6, Subnet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    #: A published port, and the addresses of the container that it leads to.
    Published = tuple[Port, Iterable[str]]

_NAMES = {AF_INET: "ip", AF_INET6: "ip6"}
_PROTOCOLS = {AF_INET: "ipv4", AF_INET6: "ipv6"}


def table(bridge: str) -> str:
    """The name of a bridge's table, of the family inet."""
    return f"gosudacon-{bridge}"


def gone(name: str) -> str:
    """What removes a table, whether it is there or not: deleting one that is not there fails, so it is added first."""
    return f"add table inet {name}\ndelete table inet {name}\n"


def rules(bridge: str, subnets: list[Subnet], nat: bool, ports: Iterable[Published], first: bool = False) -> str:
    """The table, in the place of an earlier one; ``first``: only if there is none, or it is refused.

    ``nat``: containers get the host's address outside, and nothing from outside gets in but answers and what is
    published. Without it, what is not published is not the table's business.
    """
    name = table(bridge)
    leading = [rule for port, addresses in ports for rule in _leading(port, addresses)]
    chains = []
    if leading:
        # With route_localnet, a container could reach what listens at the host's loopback alone (CVE-2020-8558).
        chains.append(_chain("guard", "filter hook prerouting priority -300", _guard(bridge)))
        chains.append(_chain("prerouting", "nat hook prerouting priority -100", leading))
        chains.append(_chain("output", "nat hook output priority -100", leading))
    chains.append(_chain("postrouting", "nat hook postrouting priority 100", _hiding(bridge, subnets, nat, leading)))
    if nat:
        chains.append(_chain("forward", "filter hook forward priority 0", _passing(bridge)))
    before = f"create table inet {name}\n" if first else gone(name)
    return f"{before}table inet {name} {{\n{''.join(chains)}}}\n"


def loopback(port: Port) -> bool:
    """Whether a port is published at the host's IPv4 loopback, beside or in the place of other addresses."""
    return port.serves(AF_INET) and (port.anywhere or port.address.startswith("127."))


def _chain(name: str, kind: str, lines: Iterable[str]) -> str:
    body = "".join(f"    {line}\n" for line in lines)
    return f"  chain {name} {{\n    type {kind}; policy accept;\n{body}  }}\n"


def _guard(bridge: str) -> list[str]:
    return [f'iifname "{bridge}" ip daddr 127.0.0.0/8 drop']


def _leading(port: Port, addresses: Iterable[str]) -> Iterator[str]:
    """The rules that lead packets for a port of the host to the container: one for each version of IP."""
    targets = {AF_INET6 if ":" in address else AF_INET: address for address in reversed(list(addresses))}
    for family in (AF_INET, AF_INET6):
        if family not in targets or not port.serves(family):
            continue
        name = _NAMES[family]
        where = "fib daddr type local" if port.anywhere else f"{name} daddr {port.address}"
        wanted = _range(port.host, port.count)
        if port.host == port.container:
            target = targets[family]
        elif port.count == 1:
            target = f"{_bracketed(targets[family])}:{port.container}"
        else:
            pairs = ", ".join(f"{port.host + each} : {port.container + each}" for each in range(port.count))
            target = f"{targets[family]} : {port.protocol} dport map {{ {pairs} }}"
        kind = f"meta nfproto {_PROTOCOLS[family]} {where} {port.protocol} dport {wanted}"
        yield f"{kind} dnat {name} to {target}"


def _hiding(bridge: str, subnets: list[Subnet], nat: bool, leading: list[str]) -> Iterator[str]:
    for subnet in subnets:
        name = _NAMES[subnet.family]
        if leading:  # a neighbour at a published port: its answer must come back through the host
            yield f'{name} saddr {subnet.text} oifname "{bridge}" ct status dnat masquerade'
        if nat:
            yield f'{name} saddr {subnet.text} oifname != "{bridge}" masquerade'
    if leading:
        yield f'ip saddr 127.0.0.0/8 oifname "{bridge}" masquerade'


def _passing(bridge: str) -> list[str]:
    inwards = f'iifname != "{bridge}" oifname "{bridge}"'
    return [f"{inwards} ct state established,related accept", f"{inwards} ct status dnat accept", f"{inwards} drop"]


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _range(first: int, count: int) -> str:
    return str(first) if count == 1 else f"{first}-{first + count - 1}"
