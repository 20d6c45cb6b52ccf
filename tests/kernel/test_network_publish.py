"""Ports that the plugin network publishes: who reaches the container by them, and who may have them."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import pytest

from tests.support import network, world_behind
from tests.support.bundle import Bundle
from tests.support.needs import missing, needs
from tests.support.network import Make, Net, has_rule_for, links, ruleset
from tests.support.timing import eventually
from tests.support.world_behind import World

pytestmark = needs("program:ip", "program:nsenter", "program:nft")
net, make, world = network.net, network.make, world_behind.world  # the fixtures

SERVER = "mkdir -p /srv; echo {} > /srv/index.html; exec httpd -f -p 80 -h /srv"
CLIENT = """
import socket
with socket.create_connection(("{}", 8080), 5) as connection:
    connection.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
    assert connection.makefile().read().endswith("hello\\n")
"""
GET = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {} 8080 | tail -n 1"
LOCALNET = Path("/proc/sys/net/ipv4/conf/gosudacon0/route_localnet")


def both() -> bool:
    """Whether IPv6 can be forwarded by single links."""
    return missing("kernel>=6.17") is None


def configure(net: Net, **settings: object) -> None:
    net.configure(**settings, **({} if both() else {"subnets": ["10.207.0.0/16"]}))


def serve(net: Net, make: Make, *ports: str, says: str = "hello") -> Bundle:
    """A container that serves a page at its port 80, which is published."""
    bundle = make(SERVER.format(says))
    net.runtime.created.append(bundle.id)
    options = [word for port in ports for word in ("--publish", port)]
    net.runtime.call("run", "--detach", *options, "--bundle", str(bundle.path), bundle.id)
    pid = net.runtime.pid(bundle)
    eventually(lambda: ":0050 " in Path(f"/proc/{pid}/net/tcp6").read_text(), what="the server")
    return bundle


def page(address: str, port: int) -> str:
    """What a server says to this process; empty if it cannot be reached."""
    try:
        with socket.create_connection((address, port), timeout=5) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return connection.makefile().read().rpartition("\n\n")[2].strip()
    except OSError:
        return ""


@pytest.mark.parametrize("nat", [True, False])
def test_who_reaches_it(net: Net, make: Make, world: World, nat: bool) -> None:
    """The world, the host by every address of its own, and a neighbour; the port of the container stays its own."""
    configure(net, nat=nat)
    bundle = serve(net, make, "8080:80")
    addresses = ["127.0.0.1", "10.207.0.1", "192.0.2.2", *(["2001:db8::2"] if both() else [])]
    assert [page(address, 8080) for address in addresses] == ["hello"] * len(addresses)
    for address in addresses[2:]:
        assert world.run(sys.executable, "-c", CLIENT.format(address)) == 0
    for address in ("192.0.2.2", "10.207.0.1"):
        assert net.runtime.output(make(GET.format(address))) == "hello\n"
    state = json.loads(net.runtime.call("state", bundle.id).stdout)
    assert state["ports"] == ["8080:80/tcp"]
    net.runtime.delete(bundle, "--force")
    assert page("127.0.0.1", 8080) == ""
    assert ruleset() == ""
    assert set(links()) == {"lo", "uplink"}
    assert not net.leases.exists()


def test_a_container_reaches_its_own_published_port(net: Net, make: Make, world: World) -> None:
    configure(net)
    bundle = serve(net, make, "8080:80")
    found = net.runtime.call("exec", bundle.id, "sh", "-c", GET.format("192.0.2.2"))
    assert found.stdout == "hello\n"


def test_what_is_published_at_one_address(net: Net, make: Make, world: World) -> None:
    configure(net)
    serve(net, make, "127.0.0.1:8080:80")
    serve(net, make, "192.0.2.2:8080:80", says="other")
    assert (page("127.0.0.1", 8080), page("192.0.2.2", 8080), page("10.207.0.1", 8080)) == ("hello", "other", "")


def test_the_loopback_of_the_host_stays_its_own(net: Net, make: Make, world: World) -> None:
    """A container does not reach what listens at the host's 127.0.0.1, though packets may leave from there."""
    configure(net)
    serve(net, make, "8080:80")
    assert LOCALNET.read_text() == "1\n"
    with socket.create_server(("127.0.0.1", 8081)) as server:
        server.settimeout(0.2)
        script = "ip route add 127.0.0.0/8 via 10.207.0.1 dev eth0 src 10.207.0.3 2>/dev/null; ip route del local "
        script += "127.0.0.0/8 dev lo table local; nc -w 1 127.0.0.1 8081 </dev/null; echo done"
        attacker = make(script)
        for words in attacker.config["process"]["capabilities"].values():
            words.append("CAP_NET_ADMIN")
        attacker.write()
        assert net.runtime.output(attacker).endswith("done\n")
        with pytest.raises(TimeoutError):
            server.accept()


def test_ranges_and_other_protocols(net: Net, make: Make, world: World) -> None:
    configure(net)
    bundle = serve(net, make, "8079-8081:79-81", "9000:9000/udp")
    assert (page("127.0.0.1", 8080), page("127.0.0.1", 8079)) == ("hello", "")
    assert "udp dport 9000" in ruleset()
    net.runtime.delete(bundle, "--force")


def test_any_port_that_is_free(net: Net, make: Make, world: World) -> None:
    configure(net)
    first, second = serve(net, make, "80"), serve(net, make, "127.0.0.1::80", says="second")
    found = [json.loads(net.runtime.call("state", each.id).stdout)["ports"][0] for each in (first, second)]
    numbers = [int(text.split(":")[-2]) for text in found]
    assert len(set(numbers)) == 2
    assert [page("127.0.0.1", number) for number in numbers] == ["hello", "second"]


def test_a_port_that_is_taken(net: Net, make: Make, world: World) -> None:
    """By another container, on whatever bridge, or by a process of the host: nothing is left of the second."""
    configure(net)
    first = serve(net, make, "8080:80")
    for settings in ({}, {"bridge": "other0", "subnets": ["10.99.0.0/16"]}):
        if settings:
            net.configure(**settings)
        bundle = make()
        result = net.runtime.create(bundle, "--publish", "127.0.0.1:8000-8090:8000-8090", check=False)
        assert result.returncode == 1
        assert f"cannot be published: container {first.id} has published 8080:80/tcp" in result.stderr
        assert net.runtime.status(bundle) == "none"
    configure(net)
    with socket.create_server(("127.0.0.1", 8082)):
        result = net.runtime.create(make(), "--publish", "8082:80", check=False)
        assert "8082:80/tcp cannot be published: a process of the host has tcp port 8082" in result.stderr
        assert not has_rule_for(8082)
        net.runtime.create(make(), "--publish", "8082:80/udp")
    result = net.runtime.create(make(), "--publish", "192.0.2.99:8083:80", check=False)
    assert "the host has no address 192.0.2.99" in result.stderr
    assert set(net.booked()) >= {first.id}
    assert page("127.0.0.1", 8080) == "hello"


def test_a_port_is_free_again(net: Net, make: Make, world: World) -> None:
    """Of one container among others, and of one that vanished without a delete."""
    configure(net)
    stays = serve(net, make, "8081:80", says="stays")
    gone = serve(net, make, "8080:80")
    net.runtime.delete(gone, "--force")
    assert not has_rule_for(8080)
    again = serve(net, make, "8080:80", says="again")
    assert (page("127.0.0.1", 8080), page("127.0.0.1", 8081)) == ("again", "stays")
    state, aside = net.runtime.root / again.id, net.scratch / "aside"
    net.runtime.kill(again, "KILL")
    eventually(lambda: len([name for name in links() if name.startswith("gsd")]) == 1, what="the end of the link")
    state.rename(aside)
    try:
        net.runtime.create(make())
        assert not has_rule_for(8080)
        assert page("127.0.0.1", 8081) == "stays"
    finally:
        aside.rename(state)
        net.runtime.delete(again, "--force")
    net.runtime.delete(stays, "--force")


def test_by_annotation(net: Net, make: Make, world: World) -> None:
    configure(net, annotations=["publish"])
    bundle = make(SERVER.format("hello")).set("annotations", {"io.gosudacon.publish": "8080:80"})
    net.runtime.boot(bundle)
    eventually(lambda: page("127.0.0.1", 8080) == "hello", what="the server")
    configure(net)
    other = make().set("annotations", {"io.gosudacon.publish": "8081:80"})
    result = net.runtime.create(other)
    assert "annotations.io.gosudacon.publish: ignored" in result.stderr
    assert not has_rule_for(8081)


def test_what_makes_no_sense(net: Net, make: Make) -> None:
    for option, message in (("x", "'x' is not a port"), ("80:1-2", "1 ports of the host for 2 of the container")):
        result = net.runtime.create(make(), "--publish", option, check=False)
        assert (result.returncode, f"--publish {option}: " in result.stderr, message in result.stderr) == (
            1,
            True,
            True,
        )
    shared = make().drop_namespace("network")
    result = net.runtime.create(shared, "--publish", "80:80", check=False)
    assert "the plugin network does not connect this container" in result.stderr
    net.expect_nothing()
