"""Several networks of the plugin network: who is on which, who reaches whom, and that nothing is left."""

from __future__ import annotations

import json

from tests.kernel.test_network_names import furnished, read
from tests.support import network
from tests.support.needs import needs
from tests.support.network import PING, Make, Net, addresses, ip, links, ruleset

pytestmark = needs("program:ip", "program:nsenter", "program:nft")
net, make = network.net, network.make  # the fixtures

NETWORKS = {"db": {"subnets": ["10.9.0.0/16"]}, "web": {"subnets": ["10.8.0.0/16"], "nat": True}}
TRY = "ping -c 1 -W 1 {} >/dev/null && echo reached {};"


def test_a_container_of_two(net: Net, make: Make) -> None:
    net.configure(networks=NETWORKS)
    database, front = furnished(make(), "database"), furnished(make(), "front")
    net.runtime.boot(database, "--network", "db")
    pid = net.runtime.boot(front, "--network", "web", "--network", "db")
    assert addresses(pid, "eth0") == ["10.8.0.2/16"]
    assert addresses(pid, "eth1") == ["10.9.0.3/16"]
    state = json.loads(net.runtime.call("state", front.id).stdout)
    assert state["addresses"] == {"eth0": ["10.8.0.2/16"], "eth1": ["10.9.0.3/16"]}
    net.runtime.call("exec", front.id, "ping", "-c", "1", "-W", "5", "database")
    assert "10.9.0.3 front\n" in read(net, database, "hosts")
    assert "10.8." not in read(net, database, "hosts")
    found = read(net, front, "hosts")
    assert f"10.8.0.2 front {front.id}\n10.9.0.3 front {front.id}\n10.8.0.1 host.containers.internal\n" in found
    assert f"10.9.0.2 {database.id}\n10.9.0.2 database\n" in found
    net.runtime.delete(database, "--force")
    assert "database" not in read(net, front, "hosts")
    net.runtime.delete(front, "--force")
    net.expect_nothing()


def test_a_network_with_nat_is_closed_to_others(net: Net, make: Make) -> None:
    net.configure(networks=NETWORKS)
    inside = make()
    net.runtime.boot(inside, "--network", "web")
    ip("route", "add", "192.0.2.0/24", "dev", "gsd-web")  # nothing but a route of the host's
    other = make(TRY.format("10.8.0.2", "10.8.0.2") + TRY.format("10.9.0.1", "10.9.0.1"))
    assert net.runtime.output(other, "--network", "db") == "reached 10.9.0.1\n"
    neighbour = make(PING.format("10.8.0.2", "10.8.0.2"))
    assert net.runtime.output(neighbour, "--network", "web") == "reached 10.8.0.2\n"
    net.runtime.delete(inside, "--force")
    net.expect_nothing()
    assert ruleset() == ""


def test_none(net: Net, make: Make) -> None:
    net.configure(networks=NETWORKS)
    assert net.runtime.output(make("ls /sys/class/net"), "--network", "none") == "lo\n"
    assert set(links()) == {"lo"}


def test_by_annotation(net: Net, make: Make) -> None:
    net.configure(networks=NETWORKS, annotations=["network"])
    bundle = make("ip -4 -o addr show dev eth0").set("annotations", {"io.gosudacon.network": "db"})
    assert " 10.9.0.2/16 " in net.runtime.output(bundle)
    net.configure(networks=NETWORKS)
    result = net.runtime.run(bundle)
    assert "annotations.io.gosudacon.network: ignored" in result.stderr
    assert " 10.207.0." in result.stdout
    result = net.runtime.create(make(), "--network", "nowhere", check=False)
    assert "--network nowhere: no network has this name" in result.stderr
    net.expect_nothing()


def test_explain_and_audit_know_what_was_asked(net: Net, make: Make) -> None:
    """The plan of a container that exists is made with the options that it was made with."""
    net.configure(networks=NETWORKS)
    bundle = make()
    net.runtime.boot(bundle, "--network", "db", "-p", "127.0.0.1:8080:80")
    text = " ".join(net.runtime.call("explain", bundle.id).stdout.split())
    assert "make the bridge gsd-db" in text
    assert "reserve the host's ports for 127.0.0.1:8080:80/tcp" in text
    assert "on record and not in this plan" not in text
    assert "failed" not in net.runtime.call("audit", bundle.id).stdout
