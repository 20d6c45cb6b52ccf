"""The plugin network, end to end: containers reach the host and each other, and nothing is left when they go."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import network, processes
from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.network import BRIDGE, IPV6, PING, Make, Net, addresses, ip, links
from tests.support.runtime import Runtime
from tests.support.timing import eventually, seconds

pytestmark = needs("program:ip", "program:nsenter")
net, make = network.net, network.make  # the fixtures

# Reaching.


@pytest.mark.vm
def test_reaches_host_and_neighbours(net: Net, make: Make) -> None:
    """Run alone gives a container that reaches the host and its neighbours."""
    neighbour = make("echo hello | nc -l -p 80; exec sleep 1000")
    pid = net.runtime.boot(neighbour)
    targets = ["10.207.0.1", "fd67:6f73:7564::1", "10.207.0.2", "fd67:6f73:7564::2"]
    script = "".join(PING.format(target, target) for target in targets) + "nc -w 5 10.207.0.2 80 </dev/null"
    output = net.runtime.output(make(script))
    assert output == "".join(f"reached {target}\n" for target in targets) + "hello\n"
    assert addresses(pid) == ["10.207.0.2/16", "fd67:6f73:7564::2/64"]
    assert net.booked() == {neighbour.id: ["10.207.0.2", "fd67:6f73:7564::2"]}
    net.runtime.delete(neighbour, "--force")
    net.expect_nothing()


def test_the_host_reaches_the_container(net: Net, make: Make) -> None:
    net.runtime.boot(make())
    for target in ("10.207.0.2", "fd67:6f73:7564::2"):
        subprocess.run(["busybox", "ping", "-c", "1", "-W", "5", target], check=True, capture_output=True)


def test_what_a_container_finds(net: Net, make: Make) -> None:
    script = "ip -4 route; ip -6 route show default; cat /proc/sys/net/ipv6/conf/eth0/accept_ra"
    assert [" ".join(line.split()) for line in net.runtime.output(make(script)).splitlines()] == [
        "default via 10.207.0.1 dev eth0",
        "10.207.0.0/16 dev eth0 scope link src 10.207.0.2",
        "default via fd67:6f73:7564::1 dev eth0 metric 1024",
        "0",
    ]


def test_settings_take_effect(net: Net, make: Make) -> None:
    settings = {"bridge": "br-test.1", "subnets": ["10.9.8.0/24", "10.9.9.0/24"], "mtu": 1300, "interface": "net0"}
    runtime = net.configure(**settings)
    pid = runtime.boot(make())
    assert addresses(pid, "net0") == ["10.9.8.2/24", "10.9.9.2/24"]
    assert addresses(interface="br-test.1") == ["10.9.8.1/24", "10.9.9.1/24"]
    assert Path(f"/proc/{pid}/net/route").read_text().count("00000000\t0108090A") == 1  # the one default route
    assert {link["mtu"] for name, link in links().items() if name != "lo"} == {1300}
    output = runtime.output(make("cat /sys/class/net/net0/mtu; " + PING.format("10.9.9.2", "10.9.9.2")))
    assert output == "1300\nreached 10.9.9.2\n"


def test_a_user_namespace_changes_nothing(net: Net, make: Make) -> None:
    bundle = make(PING.format("10.207.0.1", "10.207.0.1") + PING.format("fd67:6f73:7564::1", "fd67:6f73:7564::1"))
    bundle.map_users()
    assert net.runtime.output(bundle) == "reached 10.207.0.1\nreached fd67:6f73:7564::1\n"


def test_a_createruntime_hook_finds_the_network_ready(net: Net, make: Make, scratch: Path) -> None:
    script = scratch / "hook"
    script.write_text(
        "#!/bin/sh\n"
        "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/')\n"
        f"nsenter --net=/proc/$pid/ns/net ip -o addr show dev eth0 > {scratch}/found\n"
    )
    script.chmod(0o755)
    bundle = make().set("hooks.createRuntime", [{"path": str(script), "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}])
    net.runtime.create(bundle)
    assert "inet 10.207.0.2/16" in (scratch / "found").read_text()


def test_explain_shows_it(net: Net, make: Make) -> None:
    bundle = make()
    explained = net.configure(nat=True).call("explain", "--stage", "network", bundle.path).stdout
    text = " ".join(explained.split())
    for piece in ("reserve an address of 10.207.0.0/16", "make the bridge gosudacon0", "NAT: masquerade", "veth pair"):
        assert piece in text
    assert "give eth0 an address of 10.207.0.0/16" in text
    assert max(map(len, explained.splitlines())) <= 80
    net.expect_nothing()


# Whose network it is not.


def test_host_network(net: Net, make: Make) -> None:
    """A container on the host's network is left alone."""
    net.runtime.boot(make().drop_namespace("network"))
    net.expect_nothing()


def test_a_joined_network_namespace_is_left_alone(net: Net, make: Make) -> None:
    other = subprocess.Popen(["unshare", "--net", "sleep", "1000"])
    try:
        own = Path("/proc/self/ns/net").readlink()
        eventually(lambda: Path(f"/proc/{other.pid}/ns/net").readlink() != own, what="the namespace")
        bundle = make("ls /sys/class/net").add_namespace("network", f"/proc/{other.pid}/ns/net")
        assert net.runtime.output(bundle) == "lo\n"
    finally:
        other.kill()
        other.wait()
    net.expect_nothing()


# Many at once.


def in_parallel(runtime: Runtime, calls: list[list[str]]) -> None:
    """Call the runtime with all of these arguments at the same time; all must succeed."""
    command = [*runtime.command, "--root", str(runtime.root)]
    running = [
        subprocess.Popen(
            [*command, *call], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        for call in calls
    ]
    for process, call in zip(running, calls, strict=True):
        # A container that goes on holds the pipe open, so its end says nothing.
        status = process.wait(seconds(60))
        assert process.stderr is not None
        message = process.stderr.read() if status else ""
        process.stderr.close()
        assert status == 0, f"{call}: {message}"


def test_sixteen_at_once(net: Net, make: Make, busybox_rootfs: Path) -> None:
    """Sixteen at once get addresses of their own and go at once."""
    bundles = [make(["sleep", "1000"], rootfs=busybox_rootfs) for _ in range(16)]
    for bundle in bundles:
        bundle.set("root.readonly", True)
    net.runtime.created += [bundle.id for bundle in bundles]
    in_parallel(net.runtime, [["create", "--bundle", str(bundle.path), bundle.id] for bundle in bundles])
    pids = [net.runtime.pid(bundle) for bundle in bundles]
    for index, expected in ((0, {f"10.207.0.{n}/16" for n in range(2, 18)}), (1, 16)):
        found = {addresses(pid)[index] for pid in pids}
        assert found == expected or len(found) == expected
    assert sum(link.get("master") == BRIDGE for link in links().values()) == 16
    first, last = bundles[:8], bundles[8:]
    in_parallel(net.runtime, [["delete", "--force", bundle.id] for bundle in first])
    assert set(net.booked()) == {bundle.id for bundle in last}
    assert sum(link.get("master") == BRIDGE for link in links().values()) == 8
    mixed = [["delete", "--force", bundle.id] for bundle in last]
    mixed += [["create", "--bundle", str(bundle.path), bundle.id] for bundle in first]
    in_parallel(net.runtime, mixed)
    assert set(net.booked()) == {bundle.id for bundle in first}
    assert BRIDGE in links()
    in_parallel(net.runtime, [["delete", "--force", bundle.id] for bundle in first])
    net.expect_nothing()


# What stands in the way.


def test_a_name_that_is_taken_by_something_else(net: Net, make: Make) -> None:
    ip("link", "add", BRIDGE, "type", "veth", "peer", "name", "peer0")
    try:
        result = net.runtime.create(make(), check=False)
        assert result.returncode == 1
        assert "gosudacon0 exists and is not a bridge" in result.stderr
        assert set(links()) == {"lo", BRIDGE, "peer0"}
        assert not net.leases.exists()
    finally:
        ip("link", "delete", BRIDGE)


def test_existing_bridge(net: Net, make: Make) -> None:
    """A bridge of the administrator's is used as it is."""
    ip("link", "add", BRIDGE, "type", "bridge")
    try:
        ip("addr", "add", "10.207.0.1/16", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")
        assert net.runtime.output(make(PING.format("10.207.0.1", "10.207.0.1"))) == "reached 10.207.0.1\n"
        assert set(links()) == {"lo", BRIDGE}
        assert addresses(interface=BRIDGE) == ["10.207.0.1/16"]
        assert not net.leases.exists()
    finally:
        ip("link", "delete", BRIDGE)


def test_a_bridge_stays_while_something_else_is_on_it(net: Net, make: Make) -> None:
    first, second = make(), make()
    net.runtime.create(first)
    ip("link", "add", "other", "type", "veth", "peer", "name", "peer0")
    ip("link", "set", "other", "master", BRIDGE)
    net.runtime.delete(first)
    assert set(links()) == {"lo", BRIDGE, "other", "peer0"}
    ip("link", "delete", "other")
    net.runtime.create(second)
    net.runtime.delete(second)
    net.expect_nothing()


def test_a_bridge_whose_maker_was_killed_is_completed(net: Net, make: Make) -> None:
    ip("link", "add", BRIDGE, "group", 0x676F7375, "type", "bridge")  # as after the first request
    assert net.runtime.output(make(PING.format("10.207.0.1", "10.207.0.1"))) == "reached 10.207.0.1\n"
    net.expect_nothing()


MADE, LEAVING = 0x676F7375, 0x676F7376  # groups of links


@pytest.mark.parametrize("marked", [("bridge",), ("pair",), ("bridge", "pair")])
def test_links_whose_remover_was_killed(net: Net, make: Make, marked: tuple[str, ...]) -> None:
    """It had put them into the group of those that leave: who comes next uses them, who goes next removes them."""
    first, second = make(), make()
    net.runtime.create(first)
    names = {"bridge": BRIDGE, "pair": next(name for name in links() if name.startswith("gsd"))}
    for what in marked:
        ip("link", "set", names[what], "group", LEAVING)
    net.runtime.create(second)
    assert links()[BRIDGE]["group"] == str(MADE)
    net.runtime.delete(second)
    net.runtime.delete(first)
    net.expect_nothing()


def test_somebody_elses_link_in_the_group_of_those_that_leave(net: Net, make: Make) -> None:
    ip("link", "add", "other", "group", LEAVING, "type", "veth", "peer", "name", "peer0")
    try:
        assert net.runtime.output(make(PING.format("10.207.0.1", "10.207.0.1"))) == "reached 10.207.0.1\n"
        assert set(links()) == {"lo", "other", "peer0"}
        assert not net.leases.exists()
    finally:
        ip("link", "delete", "other")


@pytest.mark.parametrize("options", [(), ("--keep",)])
def test_the_namespace_is_held_by_who_waits(net: Net, make: Make, options: tuple[str, ...]) -> None:
    """`run` holds the network namespace of its container; nothing of it is left, even after kill -9."""
    bundle = make()
    net.runtime.created.append(bundle.id)
    command = [*net.runtime.command, "--root", str(net.runtime.root), "run", *options]
    with subprocess.Popen([*command, "-b", bundle.path, bundle.id], stdin=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: net.runtime.status(bundle) == "running", what="the container")
            pid = net.runtime.pid(bundle)
            namespace = os.stat(f"/proc/{pid}/ns/net").st_ino
            held = [os.stat(path).st_ino for path in Path(f"/proc/{process.pid}/fd").iterdir()]
            assert held.count(namespace) == 1
        finally:
            process.kill()
    end(pid)
    net.runtime.delete(bundle, "--force")
    net.expect_nothing()


@pytest.mark.parametrize(("address", "route"), [("10.207.3.1/24", "10.207.3.0/24"), ("fd67:6f73:7564::9/64", IPV6)])
def test_a_subnet_that_the_host_reaches_elsewhere(net: Net, make: Make, address: str, route: str) -> None:
    ip("link", "add", "lan", "type", "veth", "peer", "name", "peer0")
    try:
        ip("addr", "add", address, "dev", "lan")
        ip("link", "set", "peer0", "up")
        ip("link", "set", "lan", "up")
        result = net.runtime.create(make(), check=False)
        assert result.returncode == 1
        assert f"is not free: the host has a route to {route}" in result.stderr
        assert set(links()) == {"lo", "lan", "peer0"}
        assert not net.leases.exists()
    finally:
        ip("link", "delete", "lan")


def test_a_full_subnet(net: Net, make: Make) -> None:
    runtime = net.configure(subnets=["10.9.8.0/30"])
    first, second = make(), make()
    runtime.create(first)
    result = runtime.create(second, check=False)
    assert result.returncode == 1
    assert "no address is left in 10.9.8.0/30; in use: 1" in result.stderr
    assert set(net.booked()) == {first.id}
    runtime.delete(first)
    runtime.create(second)
    assert net.booked() == {second.id: ["10.9.8.2"]}


def test_malformed_settings(net: Net, make: Make) -> None:
    result = net.configure(subnets=["10.9.8.0/33"]).create(make(), check=False)
    assert result.returncode == 1
    assert "[stage.network] subnets[0] '10.9.8.0/33' is not a subnet" in result.stderr
    net.expect_nothing()


def test_nothing_heavy_is_imported(net: Net, make: Make) -> None:
    """What costs more than the work: pyroute2, subprocess, json, the modules that they import."""
    heavy = ("pyroute2", "subprocess", "json", "asyncio", "multiprocessing", "hashlib", "ctypes")
    seen = net.scratch / "seen"
    entry = net.scratch / "entry.py"
    report = f"open({str(seen)!r}, 'a').write(' '.join(each for each in {heavy!r} if each in sys.modules) + '|')"
    watching = f"from gosudacon.base import posix\nend = posix._exit\nposix._exit = lambda code: ({report}, end(code))"
    bundle = make()
    net.runtime.command.remove("--no-snapshot")
    net.runtime.create(bundle)
    net.runtime.delete(bundle)  # the snapshot is there now: looking for stages imports more
    entry.write_text(entry.read_text().replace("main(__file__)", f"{watching}\nmain(__file__)"))
    for arguments in (["create", "--bundle", str(bundle.path), bundle.id], ["delete", bundle.id]):
        net.runtime.call(*arguments)
    assert set(seen.read_text().split("|")) == {""}


# Containers that are gone without a delete.


@contextlib.contextmanager
def lost(net: Net, bundle: Bundle) -> Iterator[None]:
    """Nobody finds the container's state, as after a careless rm; at the end it is back, and deleted."""
    state, aside = net.runtime.root / bundle.id, net.scratch / "aside"
    state.rename(aside)
    try:
        yield
    finally:
        aside.rename(state)
        net.runtime.delete(bundle, "--force")


def end(pid: int) -> None:
    """Kill a container's init, and wait until its link has gone the way of its network namespace."""
    before = set(links())
    os.kill(pid, 9)
    processes.wait(pid)
    eventually(lambda: set(links()) < before, what="the end of the link")


def test_lease_is_reclaimed(net: Net, make: Make) -> None:
    """The lease of a container that is gone is reclaimed."""
    gone, other = make(), make()
    pid = net.runtime.boot(gone)
    with lost(net, gone):
        end(pid)
        net.runtime.create(other)
        assert set(net.booked()) == {other.id}
        net.runtime.delete(other)
        net.expect_nothing()


def test_a_container_that_still_runs_keeps_what_it_has(net: Net, make: Make) -> None:
    forgotten, other = make(), make()
    pid = net.runtime.boot(forgotten)
    with lost(net, forgotten):
        own_cgroup = forgotten.cgroups_path
        again = net.runtime.create(forgotten.set("linux.cgroupsPath", f"{own_cgroup}-again"), check=False)
        assert again.returncode == 1
        assert "belongs to a container of this id and bundle that was not deleted" in again.stderr
        net.runtime.create(other)
        assert net.booked()[other.id] == ["10.207.0.3", "fd67:6f73:7564::3"]
        subprocess.run(["busybox", "ping", "-c", "1", "-W", "5", "10.207.0.2"], check=True, capture_output=True)
        end(pid)
        net.runtime.delete(other)
        net.expect_nothing()


def test_delete_does_not_mind_what_others_removed(net: Net, make: Make) -> None:
    bundle = make()
    net.runtime.create(bundle)
    ip("link", "delete", BRIDGE)
    ip("link", "delete", next(name for name in links() if name.startswith("gsd")))
    shutil.rmtree(net.leases)
    net.runtime.delete(bundle)
    net.expect_nothing()
