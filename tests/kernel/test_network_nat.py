"""NAT of the plugin network: containers reach a world that knows nothing of them, and it does not reach them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support import network, world_behind
from tests.support.needs import missing, needs
from tests.support.network import PING, Make, Net, links, ruleset
from tests.support.world_behind import EVERYWHERE, OUTSIDE, World

pytestmark = needs("program:ip", "program:nsenter", "program:nft")
net, make, world = network.net, network.make, world_behind.world  # the fixtures

TABLE = "gosudacon-gosudacon0"
FORWARDING = ["ipv4/conf/uplink/forwarding", "ipv6/conf/uplink/force_forwarding"]


def switches() -> list[str]:
    """The values of FORWARDING."""
    paths = [Path("/proc/sys/net") / name for name in FORWARDING]
    return [path.read_text().strip() if path.exists() else "none" for path in paths]


def both() -> bool:
    """Whether IPv6 can be forwarded by single links."""
    return missing("kernel>=6.17") is None


def configure(net: Net) -> None:
    net.configure(nat=True, **({} if both() else {"subnets": ["10.207.0.0/16"]}))


def test_masquerading(net: Net, make: Make, world: World) -> None:
    """Containers reach the world and it does not reach them."""
    configure(net)
    targets = OUTSIDE if both() else OUTSIDE[:1]
    neighbour = make()
    net.runtime.boot(neighbour)
    assert switches()[0] == "1"
    assert EVERYWHERE.read_text() == "0\n"  # not for the whole machine
    script = "".join(PING.format(target, target) for target in targets)
    assert net.runtime.output(make(script)) == "".join(f"reached {target}\n" for target in targets)
    world.ip("route", "add", "10.207.0.0/16", "via", "192.0.2.2")
    assert world.run("busybox", "ping", "-c", "1", "-W", "5", "192.0.2.2") == 0
    assert world.run("busybox", "ping", "-c", "1", "-W", "1", "10.207.0.2") != 0
    net.runtime.delete(neighbour, "--force")
    assert (switches()[0], ruleset()) == ("0", "")
    assert set(links()) == {"lo", "uplink"}
    assert not net.leases.exists()


def test_last_container_removes_table(net: Net, make: Make, world: World) -> None:
    """Table and switches stay until the last container leaves."""
    configure(net)
    before = switches()
    first, second = make(), make()
    net.runtime.create(first)
    net.runtime.create(second)
    assert f"table inet {TABLE}" in ruleset()
    net.runtime.delete(first)
    assert f"table inet {TABLE}" in ruleset()
    assert switches() != before
    net.configure(nat=False)  # what was made is undone, whatever the settings say by then
    net.runtime.delete(second)
    assert (switches(), ruleset()) == (before, "")


def test_somebody_elses_table_stays(net: Net, make: Make, world: World) -> None:
    configure(net)
    subprocess.run(["nft", "add", "table", "inet", "other"], check=True, timeout=60)
    try:
        bundle = make()
        net.runtime.create(bundle)
        net.runtime.delete(bundle)
        assert ruleset().split() == ["table", "inet", "other", "{", "}"]
    finally:
        subprocess.run(["nft", "delete", "table", "inet", "other"], check=True, timeout=60)


def test_forwarding_turned_on_meanwhile(net: Net, make: Make, world: World) -> None:
    """Forwarding that somebody has turned on meanwhile stays on."""
    configure(net)
    bundle = make()
    net.runtime.create(bundle)
    EVERYWHERE.write_text("1")
    net.runtime.delete(bundle)
    assert switches()[0] == "1"


@pytest.mark.vm
def test_ipv6_is_forwarded_by_link_or_not_at_all(net: Net, make: Make, world: World) -> None:
    """No kernel is turned into a router behind its back: before 6.17, that is up to the administrator."""
    everywhere = Path("/proc/sys/net/ipv6/conf/all/forwarding")
    before = switches()
    first, second = make(), make()
    result = net.configure(nat=True).create(first, check=False)
    assert everywhere.read_text() == "0\n"
    if both():
        assert (result.returncode, switches()) == (0, ["1", "1"])
        net.runtime.delete(first)
    else:
        assert result.returncode == 1
        assert "IPv6 forwarding is off" in result.stderr
    assert (switches(), ruleset()) == (before, "")
    everywhere.write_text("1")
    net.runtime.create(second)
    assert switches() == ["1", before[1]]
    net.runtime.delete(second)
    assert (everywhere.read_text(), switches()) == ("1\n", before)
    everywhere.write_text("0")


def test_without_nft(net: Net, make: Make, world: World) -> None:
    result = net.configure(nat=True, subnets=["10.207.0.0/16"], nft="/nonexistent/nft").create(make(), check=False)
    assert result.returncode == 1
    assert "NAT and published ports need /nonexistent/nft, which is not installed" in result.stderr
    assert set(links()) == {"lo", "uplink"}
    assert (switches()[0], net.leases.exists()) == ("0", False)


def test_rules_that_nft_refuses(net: Net, make: Make, world: World, scratch: Path) -> None:
    nft = scratch / "nft"
    nft.write_text("#!/bin/sh\necho 'Operation not supported' >&2; exit 1\n")
    nft.chmod(0o755)
    result = net.configure(nat=True, subnets=["10.207.0.0/16"], nft=str(nft)).create(make(), check=False)
    assert result.returncode == 1
    assert f"{nft}: Operation not supported" in result.stderr
    assert set(links()) == {"lo", "uplink"}
    assert (switches()[0], net.leases.exists()) == ("0", False)


def test_a_table_of_a_process_that_was_killed(net: Net, make: Make, world: World) -> None:
    """It is replaced, whatever is in it."""
    configure(net)
    subprocess.run(["nft", f"add table inet {TABLE}; add chain inet {TABLE} old"], check=True, timeout=60)
    bundle = make()
    net.runtime.create(bundle)
    assert "chain old" not in ruleset()
    assert "masquerade" in ruleset()
    net.runtime.delete(bundle)
    assert ruleset() == ""


def test_a_table_that_cannot_be_removed(net: Net, make: Make, world: World, scratch: Path) -> None:
    """The links are gone by then; the lease stays until the table is gone, too, and `delete` can be repeated."""
    nft = scratch / "nft"
    nft.write_text('#!/bin/sh\nexec /usr/sbin/nft "$@"\n')
    nft.chmod(0o755)
    bundle = make()
    net.configure(nat=True, subnets=["10.207.0.0/16"], nft=str(nft)).create(bundle)
    nft.write_text("#!/bin/sh\necho 'Device or resource busy' >&2; exit 1\n")
    result = net.runtime.delete(bundle, check=False)
    assert result.returncode == 1
    assert "Device or resource busy" in result.stderr
    assert set(links()) == {"lo", "uplink"}
    assert set(net.booked()) == {bundle.id}
    nft.write_text('#!/bin/sh\nexec /usr/sbin/nft "$@"\n')
    net.runtime.delete(bundle)
    assert (ruleset(), switches()[0], net.leases.exists()) == ("", "0", False)
