"""Names under the plugin network: a container's resolv.conf, hosts and hostname, and those of its neighbours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import network
from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.network import Make, Net

pytestmark = needs("program:ip", "program:nsenter")
net, make = network.net, network.make  # the fixtures

LOCALHOST = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
HOST = "10.207.0.1 host.containers.internal\nfd67:6f73:7564::1 host.containers.internal\n"
FILES = ("resolv.conf", "hosts", "hostname")


def furnished(bundle: Bundle, hostname: str = "") -> Bundle:
    """The bundle, with the files in its image that can be mounted on."""
    (bundle.rootfs / "etc").mkdir(exist_ok=True)
    for name in FILES:
        (bundle.rootfs / "etc" / name).write_text("of the image\n")
    return bundle.set("hostname", hostname) if hostname else bundle


def read(net: Net, bundle: Bundle, name: str) -> str:
    """A file as the container has it now."""
    return net.runtime.call("exec", bundle.id, "cat", f"/etc/{name}").stdout


def lines(n: int, names: str) -> str:
    return f"10.207.0.{n} {names}\nfd67:6f73:7564::{n} {names}\n"


def test_what_a_container_finds(net: Net, make: Make) -> None:
    runtime = net.configure(
        dns_servers=["192.0.2.53", "2001:db8::53"], dns_search=["a.example"], dns_options=["ndots:1"]
    )
    bundle = furnished(make("cat /etc/resolv.conf /etc/hosts /etc/hostname; > /etc/hosts"), "web")
    result = runtime.run(bundle, check=False)
    expected = "nameserver 192.0.2.53\nnameserver 2001:db8::53\nsearch a.example\noptions ndots:1\n"
    expected += LOCALHOST + lines(2, f"web {bundle.id}") + HOST + "web\n"
    assert result.stdout == expected
    assert "Read-only file system" in result.stderr
    assert [(bundle.rootfs / "etc" / name).read_text() for name in FILES] == ["of the image\n"] * 3
    net.expect_nothing()


def test_with_a_user_namespace_and_a_read_only_root(net: Net, make: Make) -> None:
    bundle = furnished(make("cat /etc/hostname; ping -c 1 -W 5 host.containers.internal >/dev/null && echo reached"))
    bundle.map_users()
    bundle.set("root.readonly", True)
    assert net.runtime.output(bundle) == f"{bundle.config['hostname']}\nreached\n"


def test_neighbours_know_each_other(net: Net, make: Make) -> None:
    """Whoever comes is known to all, whoever goes is forgotten; files are the same, so readers see it."""
    first, second = furnished(make(), "one"), furnished(make(), "two")
    net.runtime.boot(first)
    alone = LOCALHOST + lines(2, f"one {first.id}") + HOST
    assert read(net, first, "hosts") == alone
    net.runtime.boot(second)
    assert read(net, first, "hosts") == alone + lines(3, second.id) + lines(3, "two")
    assert read(net, second, "hosts") == LOCALHOST + lines(3, f"two {second.id}") + HOST + lines(2, first.id) + lines(
        2, "one"
    )
    net.runtime.call("exec", first.id, "ping", "-c", "1", "-W", "5", "two")
    net.runtime.delete(second, "--force")
    assert read(net, first, "hosts") == alone
    net.runtime.delete(first, "--force")
    net.expect_nothing()


def test_names_that_nobody_may_take(net: Net, make: Make) -> None:
    """A hostname is anybody's choice: it takes no name of the world, of the host, or of another container's id."""
    victim = furnished(make(), "one")
    net.runtime.boot(victim)
    before = read(net, victim, "hosts")
    for name in ("example.com", "localhost", "one", "ONE", "a b", "host.containers.internal"):
        other = furnished(make(), name)
        net.runtime.create(other)
        assert read(net, victim, "hosts") == before + lines(net_number(net, other), other.id)
        net.runtime.delete(other)
    assert read(net, victim, "hosts") == before


def net_number(net: Net, bundle: Bundle) -> int:
    return int(net.booked()[bundle.id][0].rpartition(".")[2])


def test_what_config_json_mounts_stays(net: Net, make: Make, scratch: Path) -> None:
    (scratch / "own").write_text("mine\n")
    bundle = furnished(make("cat /etc/hosts /etc/hostname"), "web")
    bundle.add_mount("/etc/hosts", "bind", str(scratch / "own"), "bind")
    assert net.runtime.output(bundle) == "mine\nweb\n"
    assert (scratch / "own").read_text() == "mine\n"


@pytest.mark.parametrize("readonly", [False, True])
def test_a_root_without_the_files(net: Net, make: Make, readonly: bool) -> None:
    """Nothing is made in the root, and the container runs."""
    bundle = make("ls /etc; echo ran")
    (bundle.rootfs / "etc").mkdir(exist_ok=True)
    for name in FILES:
        (bundle.rootfs / "etc" / name).unlink(missing_ok=True)
    before = sorted(path.name for path in (bundle.rootfs / "etc").iterdir())
    bundle.set("root.readonly", readonly)
    result = net.runtime.run(bundle, check=False)
    assert result.returncode == 0
    assert "/etc/resolv.conf, /etc/hosts and /etc/hostname: not mounted, since the root" in result.stderr
    assert sorted(path.name for path in (bundle.rootfs / "etc").iterdir()) == before


@pytest.mark.parametrize("target", ["/proc/self/attr/exec", "/proc/sys/kernel/hostname", "/dev/null", "/nowhere"])
def test_links_of_the_image_lead_nowhere(net: Net, make: Make, target: str) -> None:
    """A link that leads out of the root's file system is not followed: what is there stays uncovered."""
    bundle = furnished(make("grep -c /etc/hosts /proc/self/mounts; grep -c ' /proc/s' /proc/self/mounts; true"), "web")
    (bundle.rootfs / "etc/hosts").unlink()
    (bundle.rootfs / "etc/hosts").symlink_to(target)
    before = net.configure(names=False).output(bundle)
    result = net.configure().run(bundle, check=False)
    assert result.stdout == before
    assert "/etc/hosts: not mounted, since the root filesystem has no such regular file" in result.stderr


def test_a_link_within_the_image(net: Net, make: Make) -> None:
    bundle = furnished(make("cat /etc/hostname; cat /etc/there"), "web")
    (bundle.rootfs / "etc/hostname").rename(bundle.rootfs / "etc/there")
    (bundle.rootfs / "etc/hostname").symlink_to("there")
    assert net.runtime.output(bundle) == "web\nweb\n"


def test_switched_off(net: Net, make: Make) -> None:
    bundle = furnished(make("cat /etc/hosts"))
    assert net.configure(names=False).output(bundle) == "of the image\n"


def test_a_state_directory_that_is_another_now(net: Net, make: Make) -> None:
    """The hosts of a neighbour whose state directory is gone, or is another one, are not written."""
    gone, other = furnished(make(), "one"), furnished(make(), "two")
    net.runtime.boot(gone)
    state, aside, elsewhere = net.runtime.root / gone.id, net.scratch / "aside", net.scratch / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "hosts").write_text("not ours\n")
    state.rename(aside)
    state.symlink_to(elsewhere)
    try:
        net.runtime.create(other)
        state.unlink()
        (net.scratch / "elsewhere").rename(state)
        net.runtime.delete(other)
        assert (state / "hosts").read_text() == "not ours\n"
        state.rename(elsewhere)
    finally:
        aside.rename(state)
        net.runtime.delete(gone, "--force")


def test_addresses_in_state_and_list(net: Net, make: Make) -> None:
    connected, other = furnished(make()), make().drop_namespace("network")
    net.runtime.boot(connected)
    net.runtime.boot(other)
    state = json.loads(net.runtime.call("state", connected.id).stdout)
    assert state["addresses"] == {"eth0": ["10.207.0.2/16", "fd67:6f73:7564::2/64"]}
    assert "addresses" not in json.loads(net.runtime.call("state", other.id).stdout)
    rows = net.runtime.call("list").stdout.splitlines()
    assert rows[0].split()[-1] == "ADDRESSES"
    assert {row.split()[0]: row.split()[-1] for row in rows[1:]} == {
        connected.id: "10.207.0.2,fd67:6f73:7564::2",
        other.id: "-",
    }
    report = net.runtime.call("audit", "--all-properties", connected.id, check=False)
    assert "/etc/hosts" in report.stdout
    assert "nothing at /etc" not in report.stdout, report.stdout
    assert "network" not in report.stdout.partition("cannot be observed")[0]
