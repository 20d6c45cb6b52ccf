"""Whether ports of the host are free, asked of the kernel: a port is taken where bind(2) says so."""

from __future__ import annotations

import _socket
from errno import EACCES, EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT, EPROTONOSUPPORT, ESOCKTNOSUPPORT

from gosudacon.api import Error
from gosudacon.plugins.netcommon.ports import Port

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_KINDS = {
    "tcp": (_socket.SOCK_STREAM, _socket.IPPROTO_TCP),
    "udp": (_socket.SOCK_DGRAM, _socket.IPPROTO_UDP),
    "sctp": (_socket.SOCK_STREAM, 132),
}
_UNKNOWN = (EAFNOSUPPORT, EPROTONOSUPPORT, ESOCKTNOSUPPORT)
_TRIES = 64
_HINT = "ss -lntup shows who listens; -p :PORT takes any port that is free"


def settle(wanted: Iterable[Port], taken: Iterable[tuple[str, Port]]) -> list[Port]:
    """The ports with numbers in the place of those that do not matter.

    ``taken`` are the ports of other containers, each with who has it. Raises `Error` for a port that one of them or a
    process of the host has, and for an address that the host does not have.
    """
    others = list(taken)
    settled: list[Port] = []
    for port in wanted:
        if not port.host:
            port = _any(port, [*(other for _, other in others), *settled])
        for owner, other in others:
            if port.overlaps(other):
                raise Error(f"{port} cannot be published: container {owner} has published {other}", hint=_HINT)
        problem = _problem(port)
        if problem:
            raise Error(f"{port} cannot be published: {problem}", hint=_HINT)
        settled.append(port)
    return settled


def _any(port: Port, others: list[Port]) -> Port:
    """The port at a number of the host's that is free."""
    for _ in range(_TRIES):
        found = port.at(_offered(port))
        if found.host + found.count > 65536 or any(found.overlaps(other) for other in others):
            continue
        if not _problem(found):
            return found
    raise Error(f"{port} cannot be published: {port.count} free ports in a row were not found")


def _offered(port: Port) -> int:
    """A port that the kernel offers: bind(2) to port 0."""
    for family, address in _places(port):
        try:
            with _open(family, port.protocol) as found:
                found.bind((address, 0))
                number: int = found.getsockname()[1]
                return number
        except OSError as error:
            if error.errno not in _UNKNOWN:
                why = _absent(address) if error.errno == EADDRNOTAVAIL else error.strerror
                raise Error(f"{port} cannot be published: {why}", hint=_HINT) from None
    raise Error(f"{port} cannot be published: this kernel has no {port.protocol}")


def _problem(port: Port) -> str:
    """Why the port cannot be had; empty if it can."""
    for family, address in _places(port):
        for number in range(port.host, port.host + port.count):
            try:
                with _open(family, port.protocol) as found:
                    found.bind((address, number))
            except OSError as error:
                if error.errno == EADDRINUSE:
                    return f"a process of the host has {port.protocol} port {number}"
                if error.errno == EADDRNOTAVAIL:
                    return _absent(address)
                if error.errno in _UNKNOWN:
                    break
                if error.errno != EACCES:
                    return str(error.strerror)
    return ""


def _absent(address: str) -> str:
    return f"the host has no address {address}"


def _places(port: Port) -> Iterator[tuple[int, str]]:
    if port.serves(_socket.AF_INET):
        yield _socket.AF_INET, port.address or "0.0.0.0"
    if port.serves(_socket.AF_INET6):
        yield _socket.AF_INET6, port.address or "::"


class _open:
    """A socket that a listening one is in the way of, and one that waits for its last packets is not."""

    def __init__(self, family: int, protocol: str) -> None:
        kind, number = _KINDS[protocol]
        self._socket = _socket.socket(family, kind | _socket.SOCK_CLOEXEC, number)
        if protocol != "udp":
            self._socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        if family == _socket.AF_INET6:
            self._socket.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)

    def __enter__(self) -> _socket.socket:
        return self._socket

    def __exit__(self, *_: object) -> None:
        self._socket.close()
