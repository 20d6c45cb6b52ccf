"""Published ports: what ``--publish`` and the annotation say, checked. Pure, and light to import.

The notation is that of Podman and Docker: ``[[IP:][HOSTPORT]:]CONTAINERPORT[/PROTOCOL]``, with ranges such as
``8000-8010`` in the place of both ports, and IPv6 addresses in brackets (podman-run(1), ``--publish``).
"""

from __future__ import annotations

import _socket

from gosudacon.api import ConfigError, Error, PlanWarning, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ANNOTATION = "io.gosudacon.publish"
"""Ports in the notation of ``--publish``, with commas between them; counts where the administrator allows it."""

PROTOCOLS = ("tcp", "udp", "sctp")
_MOST = 65535
_ANY = ("0.0.0.0", "::")


class Port:
    """``count`` ports of the host, from ``host`` on, that lead to as many of the container, from ``container`` on.

    ``address`` is the host's address at which they are published, empty for all; ``host`` is 0 if any port will do that
    is free; ``protocol`` is one of `PROTOCOLS`.
    """

    __slots__ = ("address", "container", "count", "host", "protocol")

    def __init__(self, address: str, host: int, container: int, count: int, protocol: str) -> None:
        self.address = address
        self.host = host
        self.container = container
        self.count = count
        self.protocol = protocol

    def __str__(self) -> str:
        """The notation that `parse` takes."""
        address = f"[{self.address}]" if ":" in self.address else self.address
        host = _range(self.host, self.count) if self.host else ""
        return f"{address}:{host}:{_range(self.container, self.count)}/{self.protocol}".removeprefix(":")

    def at(self, host: int) -> Port:
        """The same with the host's ports from ``host`` on."""
        return Port(self.address, host, self.container, self.count, self.protocol)

    @property
    def anywhere(self) -> bool:
        """Whether it is published at all addresses of the host, at least of one version of IP."""
        return not self.address or self.address in _ANY

    def serves(self, family: int) -> bool:
        """Whether it is published at addresses of this family, AF_INET or AF_INET6."""
        return not self.address or (":" in self.address) == (family == _socket.AF_INET6)

    def overlaps(self, other: Port) -> bool:
        """Whether both want one port of the host. Those for which any port will do get out of the way."""
        if self.protocol != other.protocol or not (self.host and other.host):
            return False
        if self.host + self.count <= other.host or other.host + other.count <= self.host:
            return False
        if self.address == other.address or not (self.address and other.address):
            return True
        return (":" in self.address) == (":" in other.address) and (self.anywhere or other.anywhere)


def parse(text: str) -> Port:
    """One port, or range of ports. Raises ValueError, which says what is wrong with ``text``."""
    rest, slash, protocol = text.partition("/")
    if slash and protocol not in PROTOCOLS:
        raise ValueError(f"the protocol must be {', '.join(PROTOCOLS[:-1])} or {PROTOCOLS[-1]}, not {protocol!r}")
    address, rest = _address(rest)
    host, colon, container = rest.rpartition(":")
    if ":" in host:
        raise ValueError("has too many colons; write [[IP:][HOSTPORT]:]PORT[/PROTOCOL], an IPv6 address in brackets")
    if address and not colon:
        raise ValueError("has an address and one port; write IP:HOSTPORT:PORT, or IP::PORT for any port that is free")
    first, count = _ports(container, "container")
    start, wanted = _ports(host, "host") if host else (0, count)
    if wanted != count:
        raise ValueError(f"has {wanted} ports of the host for {count} of the container: the ranges must be as long")
    return Port(address, start, first, count, protocol or PROTOCOLS[0])


def check(ports: Iterable[Port]) -> None:
    """Raises ValueError if two of them want one port of the host."""
    seen: list[Port] = []
    for port in ports:
        for other in seen:
            if port.overlaps(other):
                raise ValueError(f"{port} and {other} want one port of the host")
        seen.append(port)


def asked(spec: Spec, annotations: bool) -> list[Port]:
    """The ports that a container wants published: of the option and, if ``annotations`` may ask, of the annotation.

    Raises `Error` for the option, `ConfigError` for the annotation.
    """
    found = []
    for text in spec.options.publish:
        try:
            found.append(parse(text))
        except ValueError as error:
            raise Error(f"--publish {text}: {error}") from None
    text = annotation(spec, ANNOTATION) if annotations else ""
    try:
        found += [parse(each.strip()) for each in text.split(",") if each.strip()]
        check(found)
    except ValueError as error:
        if text:
            raise ConfigError(str(error), where=f"annotations.{ANNOTATION}") from None
        raise Error(f"--publish: {error}") from None
    return found


def ignored(spec: Spec, name: str, setting: str) -> Iterator[PlanWarning]:
    """The warning about an annotation that nobody has allowed, if it is there; ``setting`` would allow it."""
    if annotation(spec, name):
        message = f"ignored: {setting} of the administrator's configuration would allow it"
        yield PlanWarning(message=message, where=f"annotations.{name}")


def annotation(spec: Spec, name: str) -> str:
    """The value of an annotation; empty if there is none."""
    return (spec.config.get("annotations") or {}).get(name) or ""


def _address(text: str) -> tuple[str, str]:
    """The address, in its usual notation, and what follows its colon; an empty one if there is none."""
    if text.startswith("["):
        address, closed, rest = text[1:].partition("]")
        if not closed or not rest.startswith(":"):
            raise ValueError("has a bracket that is not closed, or no colon behind it")
        return _normal(_socket.AF_INET6, address), rest[1:]
    address, colon, rest = text.partition(":")
    if not colon or ":" not in rest or not address:
        return "", text.removeprefix(":") if text.count(":") > 1 else text
    return _normal(_socket.AF_INET, address), rest


def _normal(family: int, address: str) -> str:
    try:
        return _socket.inet_ntop(family, _socket.inet_pton(family, address))
    except (OSError, ValueError):
        kind = "IPv6" if family == _socket.AF_INET6 else "IPv4"
        raise ValueError(f"{address!r} is not an {kind} address (an IPv6 address stands in brackets)") from None


def _ports(text: str, whose: str) -> tuple[int, int]:
    """First port and number of ports."""
    first, hyphen, last = text.partition("-")
    start = _number(first, whose)
    end = _number(last, whose) if hyphen else start
    if end < start:
        raise ValueError(f"the range {text} of the {whose} ends before it begins")
    return start, end - start + 1


def _number(text: str, whose: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 5 or not 1 <= int(text) <= _MOST:
        raise ValueError(f"{text!r} is not a port of the {whose}: a number from 1 to {_MOST}, or two with a hyphen")
    return int(text)


def _range(first: int, count: int) -> str:
    return str(first) if count == 1 else f"{first}-{first + count - 1}"
