"""What a container's resolv.conf says: the name servers of the host, as far as the container can reach them, or others.

As Podman does, name servers on the host's loopback are left out: in the container, that address is the container's own.
Where systemd-resolved listens there, its file with the real servers is read instead (systemd-resolved.service(8)).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

OF_HOST = "/etc/resolv.conf"
OF_RESOLVED = "/run/systemd/resolve/resolv.conf"
_MOST = 1 << 20  # bytes of a file that are read


class Resolver:
    """The lines of a resolv.conf(5): addresses of ``servers``, ``search`` domains, ``options``."""

    def __init__(self, servers: Sequence[str] = (), search: Sequence[str] = (), options: Sequence[str] = ()) -> None:
        self.servers = list(servers)
        self.search = list(search)
        self.options = list(options)

    def replaced(self, servers: Sequence[str], search: Sequence[str], options: Sequence[str]) -> Resolver:
        """The same with what is given in the place of what it has."""
        return Resolver(servers or self.servers, search or self.search, options or self.options)

    def text(self) -> str:
        """The contents of the file."""
        lines = [f"nameserver {server}" for server in self.servers]
        if self.search:
            lines.append(f"search {' '.join(self.search)}")
        if self.options:
            lines.append(f"options {' '.join(self.options)}")
        return "".join(f"{line}\n" for line in lines)


def of_host(paths: Sequence[str] = (OF_HOST, OF_RESOLVED)) -> Resolver:
    """What the host uses and a container with a network of its own can reach.

    The first of the files that has such a server; no server, if none has. A file that is missing has none.
    """
    first = None
    for path in paths:
        found = parse(_read(path))
        if found.servers:
            return found
        first = first or found
    return first or Resolver()


def parse(text: str) -> Resolver:
    """What counts of a resolv.conf(5), but for servers that a container cannot reach: loopback, links of the host."""
    found = Resolver()
    for line in text.splitlines():
        words = line.split()
        if not words or line[0] in "#;":
            continue
        if words[0] == "nameserver" and len(words) > 1:
            if _reachable(words[1]) and words[1] not in found.servers:
                found.servers.append(words[1])
        elif words[0] in ("search", "domain"):  # the last one counts
            found.search = words[1:]
        elif words[0] == "options":
            found.options += words[1:]
    return found


def _reachable(address: str) -> bool:
    return not (address.startswith("127.") or address in ("::1", "::", "0.0.0.0") or "%" in address)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(_MOST)
    except OSError:
        return ""
