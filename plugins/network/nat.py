"""NAT: containers reach what the host reaches, and cannot be reached from outside.

The rules are a table of nftables of our own, loaded by nft(8) in one transaction; they touch no other table and cannot
overrule one. Forwarding is turned on where packets of containers come in and where the answers do: on the
bridge and on the links of the default routes, not for the whole machine.
"""

from __future__ import annotations

from gosudacon.api import Error
from gosudacon.plugins.network import kernel
from gosudacon.plugins.network.subnets import AF_INET, AF_INET6, Subnet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.plugins.network.leases import Book

_FAMILIES = {"IPv4": AF_INET, "IPv6": AF_INET6}
_PATIENCE = 30.0  # seconds for nft, which others wait for


def table(bridge: str) -> str:
    """The name of a bridge's table, of the family inet."""
    return f"gosudacon-{bridge}"


def rules(bridge: str, subnets: list[Subnet]) -> str:
    """The table in nft(8)'s language; replaces an earlier one."""
    name = table(bridge)
    masquerade = "\n".join(
        f'    {"ip6" if subnet.family == AF_INET6 else "ip"} saddr {subnet.text} oifname != "{bridge}" masquerade'
        for subnet in subnets
    )
    return f"""{_gone(name)}table inet {name} {{
  chain postrouting {{
    type nat hook postrouting priority 100; policy accept;
{masquerade}
  }}
  chain forward {{
    type filter hook forward priority 0; policy accept;
    iifname != "{bridge}" oifname "{bridge}" ct state established,related accept
    iifname != "{bridge}" oifname "{bridge}" drop
  }}
}}
"""


def _gone(name: str) -> str:
    return f"add table inet {name}\ndelete table inet {name}\n"  # adding first: deleting one that is not there fails


def masquerade(book: Book, bridge: str, subnets: list[Subnet], nft: str) -> None:
    """Load the table, every time: what reloads a host's firewall often flushes everybody's rules.

    Raises `Error` if nft(8) is not there or refuses; then nothing has changed.
    """
    before = book.nft
    book.nft = nft
    book.save()
    try:
        _load(nft, rules(bridge, subnets))
    except Error:
        book.nft = before
        book.save()
        raise


def remove_table(book: Book, bridge: str) -> None:
    """Remove the table, if one was made."""
    if book.nft:
        _load(book.nft, _gone(table(bridge)))


def allow_forwarding(book: Book, bridge: str, versions: list[str]) -> None:
    """Turn forwarding on where it is off, and note where that was."""
    for version in versions:
        wanted = _switches(version, bridge)
        book.forwarding += [path for path in wanted if path not in book.forwarding and kernel.reads(path) == "0"]
        book.save()
        for path in wanted:
            kernel.switch(path, "1")


def restore_forwarding(book: Book) -> None:
    """Turn off what was turned on, unless another program has turned on all forwarding since and relies on that."""
    for path in book.forwarding:
        if kernel.reads(f"{path[:4]}/conf/all/forwarding") == "0" and kernel.reads(path) == "1":
            kernel.switch(path, "0")


def _switches(version: str, bridge: str) -> list[str]:
    """The switches below /proc/sys/net that must be on (networking/ip-sysctl.rst in the kernel's documentation)."""
    everywhere = kernel.reads(f"{version.lower()}/conf/all/forwarding") == "1"
    if version == "IPv4":
        links = [bridge] if everywhere else [bridge, *kernel.default_links(AF_INET)]
        return [f"ipv4/conf/{link}/forwarding" for link in links]
    if everywhere:
        return []
    if not kernel.reads(f"ipv6/conf/{bridge}/force_forwarding"):
        raise Error(
            "IPv6 forwarding is off, and before Linux 6.17 it can only be turned on for the whole machine",
            hint="sysctl -w net.ipv6.conf.all.forwarding=1 (a host that lives on router advertisements needs "
            "accept_ra=2 first), or leave IPv6 out of [stage.network] subnets",
        )
    return [f"ipv6/conf/{link}/force_forwarding" for link in (bridge, *kernel.default_links(AF_INET6))]


def _load(nft: str, text: str) -> None:
    import subprocess

    try:
        done = subprocess.run(
            [nft, "-f", "-"], input=text, capture_output=True, text=True, env={}, timeout=_PATIENCE, check=False
        )
    except FileNotFoundError:
        raise Error(
            f"nat needs {nft}, which is not installed", hint="apt-get install nftables, or [stage.network] nat = false"
        ) from None
    except subprocess.TimeoutExpired:
        raise Error(f"{nft} did not end within {_PATIENCE:g} seconds") from None
    if done.returncode != 0:
        raise Error(f"{nft}: {' '.join(done.stderr.split())[:500]}")
