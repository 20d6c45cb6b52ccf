"""What the members of networks are told of each other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gosudacon.api import Spec
from gosudacon.plugins.netcommon.members import names as own
from gosudacon.plugins.network.leases import opened
from gosudacon.plugins.network.names import update

LOCALHOST = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"


class Members:
    """Containers with state directories, and leases on the bridges br0 and br1."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def join(self, id: str, hostname: str, **addresses: str) -> None:
        """Book a container's addresses, bridge -> address, and let the others know."""
        state = self.path / id
        state.mkdir()
        (state / "hosts").touch()
        status = state.stat()
        networks = [[bridge, f"gsd-{id}-{bridge}"] for bridge in addresses]
        with opened(str(self.path / "leases"), "br0") as first:
            books = {bridge: first.of(bridge) for bridge in addresses}
            for (bridge, link), book in zip(networks, books.values(), strict=True):
                book.leases[link] = {
                    "id": id,
                    "owner": [str(state), status.st_dev, status.st_ino],
                    "addresses": {"10.0.0.0/8": addresses[bridge]},
                    "names": own(Spec({"hostname": hostname}, id, "/b")),
                    "gateways": ["10.0.0.1"],
                    "networks": networks,
                }
                book.save()
            for book in books.values():
                update(book)

    def hosts(self, id: str) -> str:
        """A container's hosts, without what all have."""
        text = (self.path / id / "hosts").read_text()
        return text.removeprefix(LOCALHOST).replace("10.0.0.1 host.containers.internal\n", "-\n")


@pytest.fixture
def members(tmp_path: Path) -> Members:
    return Members(tmp_path)


def test_of_one_network(members: Members) -> None:
    members.join("a", "one", br0="10.0.0.2")
    members.join("b", "two", br0="10.0.0.3")
    assert members.hosts("a") == "10.0.0.2 one a\n-\n10.0.0.3 b\n10.0.0.3 two\n"
    assert members.hosts("b") == "10.0.0.3 two b\n-\n10.0.0.2 a\n10.0.0.2 one\n"


def test_the_first_has_a_name_and_an_id_goes_before_all(members: Members) -> None:
    members.join("a", "same", br0="10.0.0.2")
    members.join("b", "SAME", br0="10.0.0.3")
    members.join("c", "d", br0="10.0.0.4")
    members.join("d", "", br0="10.0.0.5")
    assert "SAME" not in members.hosts("d")
    assert "10.0.0.2 same\n" in members.hosts("d")
    assert members.hosts("a").count("d\n") == 1
    assert "10.0.0.5 d\n" in members.hosts("a")
    assert "same\n" not in members.hosts("b")  # its own


def test_of_two_networks(members: Members) -> None:
    members.join("a", "", br0="10.0.0.2")
    members.join("b", "", br1="10.1.0.2")
    members.join("c", "", br0="10.0.0.3", br1="10.1.0.3")
    assert members.hosts("a") == "10.0.0.2 a\n-\n10.0.0.3 c\n"
    assert members.hosts("b") == "10.1.0.2 b\n-\n10.1.0.3 c\n"
    assert members.hosts("c") == "10.0.0.3 c\n10.1.0.3 c\n-\n10.0.0.2 a\n10.1.0.2 b\n"


@pytest.mark.parametrize("name", ["example.com", "localhost", "LocalHost", "a b", "a\nb", "x" * 64, "é", "a#b"])
def test_names_that_others_are_not_told(members: Members, name: str) -> None:
    members.join("a", "", br0="10.0.0.2")
    members.join("b", name, br0="10.0.0.3")
    assert members.hosts("a") == "10.0.0.2 a\n-\n10.0.0.3 b\n"
    assert members.hosts("b").splitlines()[0].split()[0] == "10.0.0.3"
    assert len(members.hosts("b").splitlines()) == 3


def test_one_that_cannot_be_written_does_not_keep_the_others_from_it(members: Members) -> None:
    members.join("a", "", br0="10.0.0.2")
    members.join("b", "", br0="10.0.0.3")
    (members.path / "a" / "hosts").unlink()
    os.symlink(members.path / "b" / "hosts", members.path / "a" / "hosts")
    with pytest.raises(OSError):
        members.join("c", "", br0="10.0.0.4")
    assert "10.0.0.4 c\n" in members.hosts("b")
