"""Messages of gosudacon.linux.rtnetlink, as pyroute2 reads them: an implementation that is not ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from gosudacon.base.errors import SyscallError
from gosudacon.linux.rtnetlink import Rtnetlink

if TYPE_CHECKING:
    Message = Any

pytest.importorskip("pyroute2", reason="needs pyroute2")
_EEXIST = 17


class Kernel:
    """The other end of a netlink socket: it keeps what it is sent, and answers with an error number."""

    def __init__(self) -> None:
        self.error = 0
        self.message = b""

    def sendall(self, data: bytes) -> None:
        self.message = data

    def recv(self, size: int) -> bytes:
        body = (-self.error).to_bytes(4, "little", signed=True) + self.message[:16]
        return (16 + len(body)).to_bytes(4, "little") + (2).to_bytes(2, "little") + bytes(10) + body

    def close(self) -> None:
        pass


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    value = Kernel()
    monkeypatch.setattr("gosudacon.linux.netlink.socket", lambda *_: value)
    yield value


def read(kernel: Kernel, kind: str) -> Message:
    """What was sent last, as pyroute2's class of this name decodes it."""
    module = __import__(f"pyroute2.netlink.rtnl.{kind}", fromlist=(kind,))
    message = getattr(module, kind)(kernel.message)
    message.decode()
    assert message["header"]["length"] == len(kernel.message)
    return message


def kind_of(message: Message) -> tuple[int, int]:
    return message["header"]["type"], message["header"]["flags"]


def test_a_bridge(kernel: Kernel) -> None:
    Rtnetlink().add_bridge("br-test.1", b"\x02\x01\x02\x03\x04\x05", 0x676F7375)
    message = read(kernel, "ifinfmsg")
    assert kind_of(message) == (16, 0x605)  # RTM_NEWLINK; NLM_F_REQUEST, _ACK, _EXCL, _CREATE
    found = (message.get("ifname"), message.get("address"), message.get("group"))
    assert found == ("br-test.1", "02:01:02:03:04:05", 0x676F7375)
    assert message.get(("linkinfo", "kind")) == "bridge"


@pytest.mark.parametrize("mtu", [0, 1400])
def test_a_pair(kernel: Kernel, mtu: int) -> None:
    Rtnetlink().add_pair("gsd1", "eth0", 5, master=7, group=9, mtu=mtu)
    message = read(kernel, "ifinfmsg")
    assert kind_of(message) == (16, 0x605)
    assert (message["flags"], message["change"]) == (1, 1)  # IFF_UP
    assert (message.get("ifname"), message.get("master"), message.get("group")) == ("gsd1", 7, 9)
    assert message.get(("linkinfo", "kind")) == "veth"
    peer = message.get(("linkinfo", "data")).get_attr("VETH_INFO_PEER")
    assert peer.get("ifname") == "eth0"
    assert int(peer.get("net_ns_fd")) == 5
    assert message.get("mtu") == peer.get("mtu") == (mtu or None)


def test_changes_of_a_link(kernel: Kernel) -> None:
    netlink = Rtnetlink()
    netlink.delete(7)
    message = read(kernel, "ifinfmsg")
    assert (kind_of(message), message["index"]) == ((17, 0x5), 7)  # RTM_DELLINK
    netlink.set_mtu(7, 1400)
    message = read(kernel, "ifinfmsg")
    assert (kind_of(message), message["index"], message.get("mtu")) == ((16, 0x5), 7, 1400)
    netlink.set_hairpin(7)
    message = read(kernel, "ifinfmsg")
    assert (kind_of(message), message["index"], message["family"]) == ((19, 0x5), 7, 7)  # RTM_SETLINK, AF_BRIDGE
    assert message.get(("protinfo", "mode")) == 1
    netlink.set_group(7, 0x676F7376)
    message = read(kernel, "ifinfmsg")
    assert (kind_of(message), message["index"], message.get("group")) == ((16, 0x5), 7, 0x676F7376)


def test_the_end_of_a_group(kernel: Kernel) -> None:
    """No link has the number 0, and without a name the kernel goes by the group."""
    Rtnetlink().delete_group(0x676F7376)
    message = read(kernel, "ifinfmsg")
    assert (kind_of(message), message["index"], message.get("group")) == ((17, 0x5), 0, 0x676F7376)
    assert message.get("ifname") is None


@pytest.mark.parametrize(("address", "family", "length", "flags"), [("10.0.0.2", 2, 16, 0), ("fd00::2", 10, 64, 0x02)])
def test_an_address(kernel: Kernel, address: str, family: int, length: int, flags: int) -> None:
    Rtnetlink().give(7, address, length)
    message = read(kernel, "ifaddrmsg")
    assert kind_of(message) == (20, 0x605)  # RTM_NEWADDR
    assert (message["family"], message["prefixlen"], message["index"], message["scope"]) == (family, length, 7, 0)
    assert (message.get("local"), message.get("address"), message.get("flags")) == (address, address, flags)
    kernel.error = _EEXIST
    Rtnetlink().give(7, address, length)  # it has it
    kernel.error = 1
    with pytest.raises(SyscallError, match=f"RTM_NEWADDR {address}/{length}"):
        Rtnetlink().give(7, address, length)


@pytest.mark.parametrize(("gateway", "family"), [("10.0.0.1", 2), ("fd00::1", 10)])
def test_a_default_route(kernel: Kernel, gateway: str, family: int) -> None:
    Rtnetlink().add_default_route(7, gateway)
    message = read(kernel, "rtmsg")
    assert kind_of(message) == (24, 0x605)  # RTM_NEWROUTE
    fields = {name: message[name] for name in ("family", "dst_len", "table", "proto", "scope", "type")}
    assert fields == {"family": family, "dst_len": 0, "table": 254, "proto": 4, "scope": 0, "type": 1}
    assert (message.get("gateway"), message.get("oif")) == (gateway, 7)
