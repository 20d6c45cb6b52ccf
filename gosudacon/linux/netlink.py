"""Links and their addresses through rtnetlink(7): what moving a network device takes, and no more.

Names of constants and structures are those of linux/rtnetlink.h, linux/if_link.h and linux/if_addr.h. Numbers are in
the machine's byte order (netlink(7)).
"""

from __future__ import annotations

from _socket import AF_NETLINK, SOCK_CLOEXEC, SOCK_RAW, socket
from errno import EINTR, ENODEV

from gosudacon.base import posix
from gosudacon.base.errors import SyscallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final, Self, TypedDict

    class Address(TypedDict):
        """An address as JSON data: fields of ``struct ifaddrmsg``; attributes, number -> bytes in hexadecimal."""

        family: int
        prefix: int
        scope: int
        attributes: dict[str, str]


_ORDER: Final = "little"  # of every architecture that `abi` knows
_ROUTE = 0
_REQUEST, _ACK, _DUMP, _CREATE = 0x1, 0x4, 0x300, 0x400
_INTERRUPTED = 0x10  # NLM_F_DUMP_INTR
_TRIES = 20
_ERROR, _DONE = 2, 3
_NEWLINK, _GETLINK, _NEWADDR, _GETADDR = 16, 18, 20, 22
_IFNAME, _MASTER, _LINKINFO, _GROUP, _NET_NS_FD = 3, 10, 18, 27, 28
_INFO_KIND = 1
_IFA_LABEL, _IFA_CACHEINFO, _IFA_FLAGS = 3, 6, 8
_PERMANENT, _NODAD, _TENTATIVE, _DADFAILED = 0x80, 0x02, 0x40, 0x08
_SCOPE_UNIVERSE = 0
_IFF_UP = 1
_HEADER = 16
_INET6 = 10


class Link:
    """A network device: its number, its name, and whether it is up.

    ``kind`` is that of virtual ones, such as ``bridge``; ``group`` the group of links; ``master`` the number of the
    bridge that it is on, or 0.
    """

    def __init__(self, index: int, name: str, up: bool, kind: str = "", group: int = 0, master: int = 0) -> None:
        self.index = index
        self.name = name
        self.up = up
        self.kind = kind
        self.group = group
        self.master = master


class Netlink:
    """A netlink socket in the network namespace in which it is made.

    Every method raises `SyscallError` with the kernel's answer.
    """

    def __init__(self) -> None:
        self._socket = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, _ROUTE)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def link(self, name: str = "", index: int = 0) -> Link | None:
        """The link of this name, or of this number; None if it does not exist."""
        request = link_header(index) + (attribute(_IFNAME, text(name)) if name else b"")
        try:
            (body,) = self._ask(_GETLINK, 0, request, f"RTM_GETLINK {name or index}")
        except SyscallError as error:
            if error.errno == ENODEV:
                return None
            raise
        return parsed(body)

    def addresses(self, index: int) -> list[Address]:
        """The addresses that were given to a link for good, and that are valid anywhere (``RT_SCOPE_UNIVERSE``)."""
        kept: list[Address] = []
        for body in self._ask(_GETADDR, _DUMP, bytes(8), "RTM_GETADDR"):
            family, prefix, flags, scope = body[:4]
            given = dict(attributes(body[8:]))
            flags = number(given.get(_IFA_FLAGS, bytes([flags, 0, 0, 0])))
            if number(body[4:8]) != index or not flags & _PERMANENT or scope != _SCOPE_UNIVERSE:
                continue
            flags &= ~(_TENTATIVE | _DADFAILED)
            if family == _INET6:
                flags |= _NODAD  # its uniqueness has been looked at; it stays usable without a pause
            given[_IFA_FLAGS] = flags.to_bytes(4, _ORDER)
            for name in (_IFA_LABEL, _IFA_CACHEINFO):  # a label begins with the device's name
                given.pop(name, None)
            plain = {str(number): value.hex() for number, value in given.items()}
            kept.append({"family": family, "prefix": prefix, "scope": scope, "attributes": plain})
        return kept

    def add_address(self, index: int, address: Address) -> None:
        """Give a link an address that `addresses` has told of."""
        flags = bytes.fromhex(address["attributes"][str(_IFA_FLAGS)])
        head = bytes([address["family"], address["prefix"], number(flags) & 0xFF, address["scope"]])
        parts = [attribute(int(number), bytes.fromhex(value)) for number, value in address["attributes"].items()]
        body = head + index.to_bytes(4, _ORDER) + b"".join(parts)
        self._ask(_NEWADDR, _ACK | _CREATE, body, f"RTM_NEWADDR on link {index}")

    def set_up(self, index: int, up: bool) -> None:
        """Bring a link up, or down."""
        state = _IFF_UP if up else 0
        self._ask(_NEWLINK, _ACK, link_header(index, state, _IFF_UP), f"RTM_NEWLINK {'up' if up else 'down'}")

    def move(self, index: int, namespace: int, name: str) -> None:
        """Move a link that is down to the network namespace behind a descriptor, where it gets this name."""
        body = link_header(index) + attribute(_NET_NS_FD, namespace.to_bytes(4, _ORDER))
        self._ask(_NEWLINK, _ACK, body + attribute(_IFNAME, text(name)), f"RTM_NEWLINK {name}")

    def _ask(self, kind: int, flags: int, body: bytes, about: str) -> list[bytes]:
        """The bodies of the answers to a request; a list that changed while it was read is read again."""
        for _ in range(_TRIES):
            answers = self._asked(kind, flags, body, about)
            if answers is not None:
                return answers
        raise SyscallError(EINTR, "netlink", about)

    def _asked(self, kind: int, flags: int, body: bytes, about: str) -> list[bytes] | None:
        self._sequence += 1
        head = (_HEADER + len(body)).to_bytes(4, _ORDER) + kind.to_bytes(2, _ORDER)
        head += (flags | _REQUEST).to_bytes(2, _ORDER) + self._sequence.to_bytes(4, _ORDER) + bytes(4)
        self._socket.sendall(head + body)
        answers: list[bytes] = []
        whole = True
        while True:
            for found, marks, answer in _messages(self._socket.recv(1 << 17)):
                whole = whole and not (flags & _DUMP == _DUMP and marks & _INTERRUPTED)
                if found == _ERROR:
                    failed = -int.from_bytes(answer[:4], _ORDER, signed=True)
                    if failed:
                        raise SyscallError(failed, "netlink", about)
                    return answers
                if found == _DONE:
                    return answers if whole else None
                answers.append(answer)
            if not flags & (_DUMP | _ACK):
                return answers


def parsed(body: bytes) -> Link:
    """The link that a message of the kind RTM_NEWLINK is about."""
    found = dict(attributes(body[16:]))
    info = dict(attributes(found.get(_LINKINFO, b"")))
    return Link(
        index=number(body[4:8]),
        name=posix.fsdecode(found[_IFNAME].rstrip(b"\0")),
        up=bool(number(body[8:12]) & _IFF_UP),
        kind=info.get(_INFO_KIND, b"").rstrip(b"\0").decode(errors="replace"),
        group=number(found.get(_GROUP, b"")),
        master=number(found.get(_MASTER, b"")),
    )


def number(data: bytes) -> int:
    """A number in the machine's byte order; 0 for no bytes."""
    return int.from_bytes(data, _ORDER)


def text(name: str) -> bytes:
    """A name as attributes have it."""
    return posix.fsencode(name) + b"\0"


def link_header(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    """``struct ifinfomsg``."""
    return bytes(4) + b"".join(number.to_bytes(4, _ORDER) for number in (index, flags, change))


def attribute(number: int, value: bytes) -> bytes:
    """``struct rtattr`` and what it is the head of, padded to four bytes."""
    length = 4 + len(value)
    head = length.to_bytes(2, _ORDER) + number.to_bytes(2, _ORDER)
    return head + value + bytes(-length % 4)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and value of each attribute."""
    at = 0
    while at + 4 <= len(data):
        length = number(data[at : at + 2])
        yield number(data[at + 2 : at + 4]) & 0x3FFF, data[at + 4 : at + length]
        at += max(length + 3 & ~3, 4)


def _messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Kind, flags and body of each message."""
    at = 0
    while at + _HEADER <= len(data):
        length = number(data[at : at + 4])
        yield number(data[at + 4 : at + 6]), number(data[at + 6 : at + 8]), data[at + _HEADER : at + length]
        at += length + 3 & ~3
