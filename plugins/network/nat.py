"""The rules of a bridge's table in the kernel, and forwarding.

The rules (`rules`) are loaded by nft(8) in one transaction; they touch no other table and cannot overrule one.
Forwarding is turned on where packets of containers come in and where the answers do: on the bridge and on the links
of the default routes, not for the whole machine.
"""

from __future__ import annotations

from gosudacon.api import Error
from gosudacon.plugins.netcommon import ports
from gosudacon.plugins.network import kernel, nft, rules
from gosudacon.plugins.network.subnets import AF_INET, AF_INET6, Subnet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from gosudacon.plugins.network.leases import Book

_FAMILIES = {"IPv4": AF_INET, "IPv6": AF_INET6}
_LOCALNET = "route_localnet"


def set_rules(book: Book, subnets: list[str], nat: bool, program: str) -> None:
    """Load the table, every time: what reloads a host's firewall often flushes everybody's rules.

    Raises `Error` if nft(8) is not there or refuses; then nothing has changed.
    """
    before = book.nft, book.subnets, book.nat
    book.nft, book.subnets, book.nat = program, subnets, nat
    book.save()
    try:
        if before[0] or not _made(book):
            load(book)
    except Error:
        book.nft, book.subnets, book.nat = before
        book.save()
        raise


def load(book: Book) -> None:
    """Put what the book says into the kernel, if there is a table."""
    with loading(book):
        pass
    book.stale = False


def loading(book: Book, needed: bool = True) -> AbstractContextManager[None]:
    """For ``with``: what the book says is put into the kernel meanwhile, if there is a table.

    Nothing in the table is ``stale`` when the block has been left without an error.
    """
    return nft.loading(book.nft, _text(book), book.lock) if needed and book.nft else _Nothing()


def removing_table(book: Book) -> AbstractContextManager[None]:
    """For ``with``: the table is removed meanwhile, if one was made."""
    return nft.loading(book.nft, rules.gone(rules.table(book.bridge)), book.lock) if book.nft else _Nothing()


class _Nothing:
    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


def _made(book: Book) -> bool:
    """Load the table as a new one: in the place of another, it takes the kernel 15 ms, since that has to be freed.

    False if one is there, of a process that was killed.
    """
    try:
        nft.load(book.nft, _text(book, first=True), book.lock)
    except nft.Refused:
        return False
    book.stale = False
    return True


def _text(book: Book, first: bool = False) -> str:
    published = [
        (ports.parse(text), lease["addresses"].values())
        for lease in book.leases.values()
        for text in lease.get("ports", ())
    ]
    return rules.rules(book.bridge, [Subnet(text) for text in book.subnets], book.nat, published, first)


def allow_loopback(book: Book) -> None:
    """Let the host reach published ports at 127.0.0.1: such packets are to leave by the bridge (ip-sysctl.rst)."""
    path = f"ipv4/conf/{book.bridge}/{_LOCALNET}"
    if path not in book.forwarding and kernel.reads(path) == "0":
        book.forwarding.append(path)
        book.save()
    kernel.switch(path, "1")


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
        stays = not path.endswith(_LOCALNET) and kernel.reads(f"{path[:4]}/conf/all/forwarding") != "0"
        if not stays and kernel.reads(path) == "1":
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
