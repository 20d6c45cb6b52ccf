"""Names: what a container's resolv.conf and hosts say, and how its neighbours come to know of it.

A container's hosts file has its own name, its host, and those members of its networks that have a name of one label.
It lies in the container's state directory (`netcommon.files`); a container that comes or goes has those of all others
written anew, under the lock on the leases. They are reached through the state directory that the lease names, opened
and compared with what it was: no path in which a container has a say.
"""

from __future__ import annotations

from gosudacon.api import CREATE_CONTAINER, CREATE_RUNTIME, Context, Step
from gosudacon.base import posix
from gosudacon.plugins.netcommon import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from gosudacon.plugins.network.leases import Book, Lease

HOST = "host.containers.internal"
"""The host's name in a container, as Podman has it."""

_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
_TAKEN = ("localhost", "ip6-localhost", "ip6-loopback")
_LONGEST = 63  # characters of a label (RFC 1035)


class WriteNames(Step):
    """Write the container's resolv.conf and hosts, and its name into the hosts of its neighbours.

    Why: programs know each other, and the rest of the world, by names.
    Without it: it would be reached by its address alone, and look up nothing.
    See: resolv.conf(5); hosts(5).
    """

    phase = CREATE_RUNTIME
    by = CREATE_CONTAINER
    networks: list[list[str]]  # bridge and link of each
    leases: str
    names: list[str]
    gateways: list[str]
    servers: list[str]
    search: list[str]
    options: list[str]
    nat: bool

    def describe(self) -> str:
        servers = f"name servers {', '.join(self.servers)}" if self.servers else "the host's name servers"
        bridges = " and ".join(bridge for bridge, _ in self.networks)
        names = f"{' and '.join(self.names)} here and at " if self.names else ""
        return f"write resolv.conf ({servers}) and hosts: {names}the neighbours on {bridges}"

    def run(self, context: Context) -> None:
        from gosudacon.plugins.netcommon import resolver
        from gosudacon.plugins.network.leases import opened

        found = resolver.of_host().replaced(self.servers, self.search, self.options)
        if self.nat and not found.servers:
            context.warnings.append(
                "the host has no name server that a container can reach; dns_servers in [stage.network] names some"
            )
        files.write(context, files.RESOLV_CONF, found.text())
        with opened(self.leases, self.networks[0][0]) as first:
            books = [first, *(first.of(bridge) for bridge, _ in self.networks[1:])]
            for book, (_, link) in zip(books, self.networks, strict=True):
                book.leases[link].update({"names": self.names, "gateways": self.gateways, "networks": self.networks})
                book.save()
            for book in books:
                update(book)


def update(book: Book) -> None:
    """Write the hosts of all members of a network. Raises OSError, such as ENOSPC, after it has written the others."""
    failed = None
    networks = {book.bridge: _Told(book)}
    for link, lease in book.leases.items():
        member = []
        for bridge, its in lease.get("networks") or [[book.bridge, link]]:
            if bridge not in networks:
                networks[bridge] = _Told(book.of(bridge))
            if its in networks[bridge].leases:
                member.append((networks[bridge], its))
        try:
            _write(lease, text(member))
        except OSError as error:
            failed = error
    if failed is not None:
        raise failed


class _Told:
    """What the members of a network are told of each other.

    ``lines``: a name in lower case, as names are compared -> the link of who has it, and its lines. Ids come before
    all hostnames: those are anybody's choice, and an id is one container's.
    """

    def __init__(self, book: Book) -> None:
        self.leases = book.leases
        self.lines: dict[str, tuple[str, str]] = {}
        for link, lease in book.leases.items():
            self._add(link, lease, [lease["id"]])
        for link, lease in book.leases.items():
            self._add(link, lease, lease.get("names", ()))

    def _add(self, link: str, lease: Lease, names: Iterable[str]) -> None:
        for name in names:
            if _is_label(name):
                self.lines.setdefault(name.lower(), (link, _lines(lease["addresses"].values(), [name])))


def text(member: list[tuple[_Told, str]]) -> str:
    """The hosts file of a container that is a member of networks, on each with a link of its own."""
    leases = [network.leases[link] for network, link in member]
    names = leases[0].get("names", ()) if leases else ()
    parts = [files.LOCALHOST]
    parts += [_lines(lease["addresses"].values(), names) for lease in leases]
    parts += [_lines(leases[0].get("gateways", ()), [HOST])] if leases else []
    seen = {name.lower() for name in names}
    for network, link in member:
        parts += [lines for name, (its, lines) in network.lines.items() if its != link and name not in seen]
        seen.update(network.lines)
    return "".join(parts)


def _is_label(name: str) -> bool:
    """Whether a name may be told to others: with a dot in it, it could be a name of the world's."""
    return 0 < len(name) <= _LONGEST and _CHARACTERS.issuperset(name) and name.lower() not in _TAKEN


def _lines(addresses: Iterable[str], names: Iterable[str]) -> str:
    joined = " ".join(names)
    return "".join([f"{address} {joined}\n" for address in addresses]) if joined else ""


def _write(lease: Lease, content: str) -> None:
    """Write into the state directory of the lease, if it still is the one that it was."""
    path, device, inode = lease["owner"]
    try:
        directory = posix.open(str(path), posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        status = posix.fstat(directory)
        if (status.st_dev, status.st_ino) == (device, inode):
            files.write_in(directory, files.HOSTS, content)
    finally:
        posix.close(directory)
