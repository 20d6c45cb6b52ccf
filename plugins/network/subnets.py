"""Subnets as numbers: parsing, checking, and which address is the next free one. Pure, and light to import."""

from __future__ import annotations

import _socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable

AF_INET = int(_socket.AF_INET)
AF_INET6 = int(_socket.AF_INET6)

_BITS = {AF_INET: 32, AF_INET6: 128}
_NAMES = {AF_INET: "IPv4", AF_INET6: "IPv6"}
# Not networks of hosts: this host, loopback, link-local and multicast (RFC 6890, RFC 4291).
_UNFIT = (
    ("0.0.0.0", 8),
    ("127.0.0.0", 8),
    ("169.254.0.0", 16),
    ("224.0.0.0", 3),
    ("::", 8),
    ("fe80::", 10),
    ("ff00::", 8),
)


class Subnet:
    """An IPv4 or IPv6 subnet such as ``10.207.0.0/16``.

    ``text`` is its usual notation, ``family`` `AF_INET` or `AF_INET6`, ``prefix`` the length of the prefix.
    The first address after the subnet's own belongs to the bridge: ``gateway``.
    """

    def __init__(self, text: str) -> None:
        """Raises ValueError, which says what is wrong with ``text``."""
        address, slash, prefix = text.partition("/")
        self.family = AF_INET6 if ":" in address else AF_INET
        self.bits = _BITS[self.family]
        if not slash or not (prefix.isascii() and prefix.isdigit()) or int(prefix) > self.bits:
            raise ValueError("is not a subnet; write ADDRESS/LENGTH, such as 10.207.0.0/16 or fd67:6f73:7564::/64")
        self.prefix = int(prefix)
        self.first = _number(self.family, address)
        if self.first & (self.size - 1):
            raise ValueError(f"has bits set beyond its prefix: {self.at(-(self.first & (self.size - 1)))}/{prefix}?")
        if self.bits - self.prefix < 2:
            raise ValueError("has no room for a container beside the bridge")
        if self._unfit():
            raise ValueError("cannot be used for a network of containers")
        self.text = f"{self.at(0)}/{self.prefix}"

    @property
    def size(self) -> int:
        """How many addresses it spans."""
        return 1 << (self.bits - self.prefix)

    @property
    def version(self) -> str:
        """``IPv4`` or ``IPv6``."""
        return _NAMES[self.family]

    @property
    def gateway(self) -> str:
        """The bridge's address, by which containers reach everything else."""
        return self.at(1)

    def at(self, offset: int) -> str:
        """The address at ``offset`` from the first one."""
        return _socket.inet_ntop(self.family, (self.first + offset).to_bytes(self.bits // 8, "big"))

    def overlaps(self, other: Subnet) -> bool:
        """Whether they have an address in common."""
        return (
            self.family == other.family
            and self.first < other.first + other.size
            and other.first < self.first + self.size
        )

    def next_free(self, used: Container[str], last: str = "") -> str:
        """The first address after ``last`` that is not in ``used``, going round; empty if there is none.

        Going on from the last one keeps an address out of use for as long as possible: neighbours
        remember whose it was.
        """
        end = self.size - 1 if self.family == AF_INET else self.size  # the last IPv4 address is the broadcast's
        start = _number(self.family, last) - self.first if last else 1
        if not 1 <= start < end:
            start = 1
        for offset in _round(start + 1, end):
            address = self.at(offset)
            if address not in used:
                return address
        return ""

    def _unfit(self) -> bool:
        for address, prefix in _UNFIT:
            if (":" in address) != (self.family == AF_INET6):
                continue
            span = 1 << (self.bits - prefix)
            start = _number(self.family, address)
            if self.first < start + span and start < self.first + self.size:
                return True
        return False


def _round(start: int, end: int) -> Iterable[int]:
    yield from range(start, end)
    yield from range(2, start)


def _number(family: int, address: str) -> int:
    try:
        return int.from_bytes(_socket.inet_pton(family, address), "big")
    except (OSError, ValueError):
        raise ValueError(f"has no {_NAMES[family]} address before the slash") from None
