"""Links and their addresses through rtnetlink(7): what moving a network device takes, and little more.

Names of constants and structures are those of linux/rtnetlink.h, linux/if_link.h and linux/if_addr.h. Numbers are in
the machine's byte order (netlink(7)).
"""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, AF_NETLINK, SOCK_CLOEXEC, SOCK_RAW, inet_pton, socket
from errno import ENODEV

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
_REQUEST, _ACK, _EXCL, _DUMP, _CREATE = 0x1, 0x4, 0x200, 0x300, 0x400
_ERROR, _DONE = 2, 3
_NEWLINK, _GETLINK, _NEWADDR, _GETADDR = 16, 18, 20, 22
_IFNAME, _LINKINFO, _NET_NS_FD = 3, 18, 28
_INFO_KIND, _INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFA_LABEL, _IFA_CACHEINFO, _IFA_FLAGS = 3, 6, 8
_PERMANENT, _NODAD, _TENTATIVE, _DADFAILED = 0x80, 0x02, 0x40, 0x08
_SCOPE_UNIVERSE = 0
_IFF_UP = 1
_HEADER = 16
_INET6 = 10


class Link:
    """A network device: its number, its name, and whether it is up."""

    def __init__(self, index: int, name: str, up: bool) -> None:
        self.index = index
        self.name = name
        self.up = up


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
        """The link of this name, or of this number; None if there is none."""
        request = _link_header(index) + (_attribute(_IFNAME, _text(name)) if name else b"")
        try:
            (body,) = self._ask(_GETLINK, 0, request, f"RTM_GETLINK {name or index}")
        except SyscallError as error:
            if error.errno == ENODEV:
                return None
            raise
        found = dict(_attributes(body[16:]))
        flags = _number(body[8:12])
        return Link(_number(body[4:8]), posix.fsdecode(found[_IFNAME].rstrip(b"\0")), bool(flags & _IFF_UP))

    def addresses(self, index: int) -> list[Address]:
        """The addresses that were given to a link for good, and that are valid anywhere (``RT_SCOPE_UNIVERSE``)."""
        kept: list[Address] = []
        for body in self._ask(_GETADDR, _DUMP, bytes(8), "RTM_GETADDR"):
            family, prefix, flags, scope = body[:4]
            attributes = dict(_attributes(body[8:]))
            flags = _number(attributes.get(_IFA_FLAGS, bytes([flags, 0, 0, 0])))
            if _number(body[4:8]) != index or not flags & _PERMANENT or scope != _SCOPE_UNIVERSE:
                continue
            flags &= ~(_TENTATIVE | _DADFAILED)
            if family == _INET6:
                flags |= _NODAD  # its uniqueness has been looked at; it stays usable without a pause
            attributes[_IFA_FLAGS] = flags.to_bytes(4, _ORDER)
            for name in (_IFA_LABEL, _IFA_CACHEINFO):  # a label begins with the device's name
                attributes.pop(name, None)
            plain = {str(number): value.hex() for number, value in attributes.items()}
            kept.append({"family": family, "prefix": prefix, "scope": scope, "attributes": plain})
        return kept

    def add_address(self, index: int, address: Address) -> None:
        """Give a link an address that `addresses` has told of."""
        flags = bytes.fromhex(address["attributes"][str(_IFA_FLAGS)])
        head = bytes([address["family"], address["prefix"], _number(flags) & 0xFF, address["scope"]])
        parts = [_attribute(int(number), bytes.fromhex(value)) for number, value in address["attributes"].items()]
        body = head + index.to_bytes(4, _ORDER) + b"".join(parts)
        self._ask(_NEWADDR, _ACK | _CREATE, body, f"RTM_NEWADDR on link {index}")

    def assign(self, index: int, address: str) -> None:
        """Give a link an address with its prefix, such as ``10.1.2.3/24``, usable at once."""
        text, _, prefix = address.partition("/")
        family = AF_INET6 if ":" in text else AF_INET
        data, flags = inet_pton(family, text), (_PERMANENT | _NODAD).to_bytes(4, _ORDER)
        values = {_IFA_ADDRESS: data, _IFA_LOCAL: data, _IFA_FLAGS: flags}
        attributes = {str(number): value.hex() for number, value in values.items()}
        self.add_address(
            index, {"family": family, "prefix": int(prefix), "scope": _SCOPE_UNIVERSE, "attributes": attributes}
        )

    def make_pair(self, name: str, peer: str) -> None:
        """Make a pair of virtual devices, both in this namespace (veth(4))."""
        other = _attribute(_VETH_INFO_PEER, _link_header(0) + _attribute(_IFNAME, _text(peer)))
        info = _attribute(_INFO_KIND, b"veth") + _attribute(_INFO_DATA, other)
        body = _link_header(0) + _attribute(_IFNAME, _text(name)) + _attribute(_LINKINFO, info)
        self._ask(_NEWLINK, _ACK | _CREATE | _EXCL, body, f"RTM_NEWLINK {name}")

    def set_up(self, index: int, up: bool) -> None:
        """Bring a link up, or down."""
        state = _IFF_UP if up else 0
        self._ask(_NEWLINK, _ACK, _link_header(index, state, _IFF_UP), f"RTM_NEWLINK {'up' if up else 'down'}")

    def move(self, index: int, namespace: int, name: str) -> None:
        """Move a link that is down to the network namespace behind a descriptor, where it gets this name."""
        body = _link_header(index) + _attribute(_NET_NS_FD, namespace.to_bytes(4, _ORDER))
        self._ask(_NEWLINK, _ACK, body + _attribute(_IFNAME, _text(name)), f"RTM_NEWLINK {name}")

    def _ask(self, kind: int, flags: int, body: bytes, about: str) -> list[bytes]:
        """The bodies of the answers to a request."""
        self._sequence += 1
        head = (_HEADER + len(body)).to_bytes(4, _ORDER) + kind.to_bytes(2, _ORDER)
        head += (flags | _REQUEST).to_bytes(2, _ORDER) + self._sequence.to_bytes(4, _ORDER) + bytes(4)
        self._socket.sendall(head + body)
        answers: list[bytes] = []
        while True:
            for found, answer in _messages(self._socket.recv(1 << 17)):
                if found == _ERROR:
                    number = -int.from_bytes(answer[:4], _ORDER, signed=True)
                    if number:
                        raise SyscallError(number, "netlink", about)
                    return answers
                if found == _DONE:
                    return answers
                answers.append(answer)
            if not flags & (_DUMP | _ACK):
                return answers


def _number(data: bytes) -> int:
    return int.from_bytes(data, _ORDER)


def _text(name: str) -> bytes:
    return posix.fsencode(name) + b"\0"


def _link_header(index: int, flags: int = 0, change: int = 0) -> bytes:
    """``struct ifinfomsg``."""
    return bytes(4) + b"".join(number.to_bytes(4, _ORDER) for number in (index, flags, change))


def _attribute(number: int, value: bytes) -> bytes:
    """``struct rtattr`` and what it is the head of, padded to four bytes."""
    length = 4 + len(value)
    head = length.to_bytes(2, _ORDER) + number.to_bytes(2, _ORDER)
    return head + value + bytes(-length % 4)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(data):
        length = _number(data[at : at + 2])
        yield _number(data[at + 2 : at + 4]) & 0x3FFF, data[at + 4 : at + length]
        at += max(length + 3 & ~3, 4)


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _HEADER <= len(data):
        length = _number(data[at : at + 4])
        yield _number(data[at + 4 : at + 6]), data[at + _HEADER : at + length]
        at += length + 3 & ~3
