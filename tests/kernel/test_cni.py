"""The plugin cni with Debian's plug-ins: containers get what a configuration says, and nothing is left when they go."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import cni
from tests.support.bundle import Bundle
from tests.support.cni import BRIDGE, FIREWALL, PORTMAP, PROGRAMS, Site
from tests.support.leftovers import Watch
from tests.support.needs import needs
from tests.support.timing import eventually, seconds

pytestmark = [needs("program:ip", "program:nsenter", "program:iptables"), needs(f"program:{PROGRAMS}/bridge")]
Make = Callable[..., Bundle]
PING = "ping -c 1 -W 5 {0} >/dev/null && echo reached {0};"
LOCALHOST = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"


@pytest.fixture
def site(leftovers: Watch, scratch: Path) -> Iterator[Site]:
    with cni.sites(scratch) as value:
        yield value


@pytest.fixture
def make(make_bundle: Make) -> Make:
    def made(args: str | list[str] = "exec sleep 1000", **kw: Any) -> Bundle:
        return cni.furnished(make_bundle(args, **kw))

    return made


def addresses(pid: int, interface: str = "eth0") -> list[str]:
    command = ["nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-json", "addr", "show", "dev", interface]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return [f"{each['local']}/{each['prefixlen']}" for each in found[0]["addr_info"] if each["scope"] == "global"]


# What a container gets.


def test_run(site: Site, make: Make) -> None:
    """Address, neighbours, files about names; and nothing is left at the end."""
    site.config(site.bridge(dns={"nameservers": ["10.88.7.1"], "search": ["a.test"]}), PORTMAP, FIREWALL)
    pid = site.runtime.boot(neighbour := make())
    assert addresses(pid) == ["10.88.7.2/24"]
    bundle = make(f"{PING.format('10.88.7.1')} {PING.format('10.88.7.2')} cat /etc/resolv.conf /etc/hosts")
    bundle.set("hostname", "web")
    assert site.runtime.output(bundle) == (
        "reached 10.88.7.1\nreached 10.88.7.2\nnameserver 10.88.7.1\nsearch a.test\n"
        f"{LOCALHOST}10.88.7.3 web {bundle.id}\n"
    )
    assert site.runtime.state(neighbour)["addresses"] == {"eth0": ["10.88.7.2/24"]}
    assert site.leased() == {"10.88.7.2"}
    site.there("busybox", "ping", "-c", "1", "-W", "5", "10.88.7.2")
    site.runtime.delete(neighbour, "--force")
    site.expect_nothing()


def test_ports(site: Site, make: Make) -> None:
    """A published port leads to the container, from the host itself, too, as long as it is there."""
    site.config()
    bundle = make("while true; do echo hello | nc -l -p 80; done")
    site.runtime.boot(bundle, "--publish", "8080:80", "-p", "127.0.0.1:5000:80/tcp")

    def answer(address: str, port: int) -> str:
        return site.there("busybox", "nc", "-w", "5", address, str(port), check=False)

    eventually(lambda: answer("127.0.0.1", 8080) == "hello\n", what="an answer")
    eventually(lambda: answer("127.0.0.1", 5000) == "hello\n", what="an answer")
    assert site.runtime.state(bundle)["ports"] == ["8080:80/tcp", "127.0.0.1:5000:80/tcp"]
    site.runtime.delete(bundle, "--force")
    assert answer("127.0.0.1", 8080) == ""
    site.expect_nothing()


def test_any_port_that_is_free_and_one_that_is_not(site: Site, make: Make) -> None:
    site.config()
    site.runtime.boot(bundle := make("while true; do echo hello | nc -l -p 80; done"), "-p", "80")
    (port,) = site.runtime.state(bundle)["ports"]
    number = port.partition(":")[0]
    eventually(lambda: site.there("busybox", "nc", "-w", "5", "127.0.0.1", number, check=False) == "hello\n", what="it")
    site.runtime.delete(bundle, "--force")
    with subprocess.Popen(["nsenter", f"--net={site.namespace}", "busybox", "nc", "-l", "-p", "8080"]) as server:
        try:
            eventually(lambda: ":8080" in site.there("ss", "-Hltn"), what="the server")
            result = site.runtime.create(bundle := make(), "-p", "8080:80", check=False)
            assert result.returncode == 1
            assert "a process of the host has tcp port 8080" in bundle.stderr
        finally:
            server.kill()
    site.expect_nothing()


def test_a_port_that_another_container_has(site: Site, make: Make) -> None:
    """It is refused as long as the other one is there, and nothing is left of the second."""
    site.config()
    site.runtime.create(first := make(), "-p", "8080:80")
    second = make()
    for port in ("8080:80", "127.0.0.1:8080:81"):
        result = site.runtime.create(second, "-p", port, check=False)
        assert result.returncode == 1
        assert f"cannot be published: container {first.id} has published 8080:80/tcp" in second.stderr
        assert site.runtime.status(second) == "none"
    site.runtime.create(second, "-p", "8080:80/udp")
    site.runtime.delete(second, "--force")
    site.runtime.delete(first, "--force")
    site.runtime.create(second, "-p", "8080:80")
    site.runtime.delete(second, "--force")
    site.expect_nothing()


def test_two_networks(site: Site, make: Make) -> None:
    site.config(site.bridge(dns={"nameservers": ["10.88.7.1"]}))
    bridge = site.bridge(subnet="10.88.9.0/24", link="cnitest1", dns={"nameservers": ["10.88.9.1"]}, ipMasq=False)
    bridge["ipam"]["routes"] = []
    site.config(bridge, name="other", file="20-other.conflist")
    bundle = make("cat /etc/resolv.conf; tail -n 2 /etc/hosts | cut -d ' ' -f 1; exec sleep 1000")
    pid = site.runtime.boot(bundle, "--network", "other", "--network", "tnet")
    assert (addresses(pid), addresses(pid, "eth1")) == (["10.88.9.2/24"], ["10.88.7.2/24"])
    eventually(lambda: bundle.stdout.count("\n") == 4, what="the output")
    assert bundle.stdout == "nameserver 10.88.9.1\nnameserver 10.88.7.1\n10.88.9.2\n10.88.7.2\n"
    site.runtime.delete(bundle, "--force")
    site.expect_nothing("cnitest1")


def test_ipv6_and_old_versions(site: Site, make: Make) -> None:
    for version in ("0.3.1", "0.4.0", "1.0.0"):
        bridge = site.bridge(ipMasq=False)
        bridge["ipam"]["ranges"].append([{"subnet": "fd00:88::/64"}])
        site.config({"type": "loopback"}, bridge, version=version)
        pid = site.runtime.boot(bundle := make())
        assert len(addresses(pid)) == 2
        assert sorted(site.runtime.state(bundle)["addresses"]["eth0"]) == sorted(addresses(pid))
        site.runtime.delete(bundle, "--force")
        site.expect_nothing()
    site.config(site.bridge(), version="0.2.0")
    pid = site.runtime.boot(bundle := make())
    assert site.runtime.state(bundle)["addresses"] == {"eth0": addresses(pid)}
    site.runtime.delete(bundle, "--force")
    site.expect_nothing()


def test_a_user_namespace_and_a_createruntime_hook(site: Site, make: Make) -> None:
    site.config(site.bridge())
    script = site.scratch / "hook"
    script.write_text(
        "#!/bin/sh\n"
        "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/')\n"
        f"nsenter --net=/proc/$pid/ns/net ip -o addr show dev eth0 > {site.scratch}/found\n"
    )
    script.chmod(0o755)
    bundle = make(PING.format("10.88.7.1")).map_users()
    bundle.set("hooks.createRuntime", [{"path": str(script), "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}])
    assert site.runtime.output(bundle) == "reached 10.88.7.1\n"
    assert "inet 10.88.7.2/24" in (site.scratch / "found").read_text()
    site.expect_nothing()


def test_explain_and_audit(site: Site, make: Make) -> None:
    file = site.config()
    bundle = make()
    text = " ".join(site.runtime.call("explain", "-p", "80:80", "--stage", "cni", bundle.path).stdout.split())
    for piece in (f"network tnet ({file})", "CNI ADD tnet/bridge: eth0", "CNI ADD tnet/portmap: eth0, 80:80/tcp"):
        assert re.sub(r"\s", "", piece) in re.sub(r"\s", "", text)
    assert "nothing connects" not in text
    site.runtime.boot(bundle, "-p", "80:80")
    found = json.loads(site.runtime.call("audit", "--format", "json", bundle.id, check=False).stdout)
    assert "device-up" in json.dumps(found) or "eth0" in json.dumps(found)
    assert "CNI ADD tnet/portmap: eth0, 80:80/tcp" in site.runtime.call("explain", "--format", "json", bundle.id).stdout


def test_explain_and_audit_where_the_configuration_is_gone(site: Site, make: Make) -> None:
    """They go by the container's note, and say what is missing."""
    file = site.config()
    site.runtime.boot(bundle := make(), "-p", "80:80")
    before = json.loads(site.runtime.call("explain", "--format", "json", bundle.id).stdout)
    audited = json.loads(site.runtime.call("audit", "--format", "json", bundle.id, check=False).stdout)
    file.unlink()
    after = json.loads(site.runtime.call("explain", "--format", "json", bundle.id).stdout)
    assert [step["what"] for step in after["steps"]] == [step["what"] for step in before["steps"]]
    assert f"no network in {site.configs}" in json.dumps(after["warnings"])
    again = site.runtime.call("audit", "--format", "json", bundle.id, check=False)
    assert [each["counts"] for each in json.loads(again.stdout)["containers"]] == [
        each["counts"] for each in audited["containers"]
    ]
    (site.runtime.root / bundle.id / "cni.note").rename(site.scratch / "note")
    for command in ("explain", "audit"):
        result = site.runtime.call(command, bundle.id, check=False)
        assert result.returncode != 0
        assert f"no network in {site.configs}" in result.stdout + result.stderr
        assert "Traceback" not in result.stderr
    (site.scratch / "note").rename(site.runtime.root / bundle.id / "cni.note")
    site.runtime.delete(bundle, "--force")
    site.expect_nothing()


# Whose network it is not.


def test_who_is_left_alone(site: Site, make: Make) -> None:
    site.config()
    assert site.runtime.output(make("ls /sys/class/net")) == "eth0\nlo\n"
    joined = make("ls /sys/class/net").drop_namespace("network").add_namespace("network", site.namespace)
    assert "eth0" not in site.runtime.output(joined)
    dockers = make("ls /sys/class/net").set("hooks.prestart", [{"path": "/bin/true", "args": ["libnetwork-setkey"]}])
    assert site.runtime.output(dockers) == "lo\n"
    site.expect_nothing()


# Compared with the rule book.


def by_hand(
    site: Site, chain: list[Any], command: str, namespace: str, results: list[Any] | None = None, name: str = "hand"
) -> list[Any]:
    """Call the plug-ins as cnitool does (libcni, api.go); the results of each."""
    found: list[Any] = []
    last = results[-1] if results else None
    for plugin in reversed(chain) if command == "DEL" else chain:
        config = {**plugin, "name": name, "cniVersion": "1.0.0"}
        previous = last if command == "DEL" else (found[-1] if found else None)
        if previous:
            config["prevResult"] = previous
        if plugin.get("capabilities"):
            config["runtimeConfig"] = {"portMappings": [{"hostPort": 8081, "containerPort": 80, "protocol": "tcp"}]}
        env = {"CNI_COMMAND": command, "CNI_CONTAINERID": "hand", "CNI_NETNS": namespace, "CNI_IFNAME": "eth0"}
        env |= {"CNI_PATH": PROGRAMS, "PATH": os.environ["PATH"]}
        words = ["nsenter", f"--net={site.namespace}", f"{PROGRAMS}/{plugin['type']}"]
        done = subprocess.run(words, input=json.dumps(config), env=env, check=True, capture_output=True, text=True)
        found.append(json.loads(done.stdout) if done.stdout.strip() else None)
    return found


def plain(result: Any) -> Any:
    """A result without what is another one's: random names and addresses, the place of the namespace."""
    text = json.dumps(result, sort_keys=True)
    for pattern, word in (
        (r"veth[0-9a-f]{8}", "VETH"),
        (r'"mac": "[0-9a-f:]+"', '"mac"'),
        (r'"sandbox": "[^"]+"', '"sandbox"'),
        (r"10\.88\.7\.[2-9]", "IP"),
    ):
        text = re.sub(pattern, word, text)
    return text


def test_the_results_are_those_of_cnitool(site: Site, make: Make) -> None:
    chain = [site.bridge(), PORTMAP, FIREWALL]
    site.config(*chain)
    site.runtime.create(bundle := make(), "-p", "8080:80")
    ours = [line["result"] for line in site.note(bundle) if line.get("event") == "added"]
    with subprocess.Popen(["unshare", "--net", "sleep", "1000"]) as process:
        try:
            own = os.readlink("/proc/self/ns/net")
            eventually(lambda: os.readlink(f"/proc/{process.pid}/ns/net") != own, what="the namespace")
            theirs = by_hand(site, chain, "ADD", f"/proc/{process.pid}/ns/net")
            assert [plain(result) for result in ours] == [plain(result) for result in theirs]
            rules = site.there("iptables-save")
            # Not the number alone: the names of chains are hashes.
            mine, other = (len(re.findall(rf"--dports? {port}\b", rules)) for port in (8080, 8081))
            assert mine == other > 0
            by_hand(site, chain, "DEL", f"/proc/{process.pid}/ns/net", theirs)
        finally:
            process.kill()
    site.runtime.delete(bundle, "--force")
    site.expect_nothing()


def test_side_by_side_with_another_caller_of_the_same_network(site: Site, make: Make) -> None:
    """A pod's runtime calls the plug-ins for the same network: addresses are not given twice, and ours go alone."""
    site.config(site.bridge())
    with subprocess.Popen(["unshare", "--net", "sleep", "1000"]) as process:
        try:
            own = os.readlink("/proc/self/ns/net")
            eventually(lambda: os.readlink(f"/proc/{process.pid}/ns/net") != own, what="the namespace")
            chain = [site.bridge()]
            theirs = by_hand(site, chain, "ADD", f"/proc/{process.pid}/ns/net", name="tnet")
            site.runtime.create(bundle := make())
            assert site.leased() == {"10.88.7.2", "10.88.7.3"}
            site.runtime.delete(bundle, "--force")
            assert site.leased() == {"10.88.7.2"}
            by_hand(site, chain, "DEL", f"/proc/{process.pid}/ns/net", theirs, name="tnet")
        finally:
            process.kill()
    site.expect_nothing()


# Many at once.


@pytest.mark.slow
def test_no_address_twice(site: Site, make: Make) -> None:
    site.config(site.bridge(ipMasq=False))
    first = make()
    bundles = [first, *(make(rootfs=first.rootfs) for _ in range(49))]
    runtime = site.runtime
    begun = []
    for bundle in bundles:
        runtime.created.append(bundle.id)
        command = [*runtime.command, "--root", str(runtime.root), "create", "--bundle", str(bundle.path), bundle.id]
        begun.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))
    assert [process.wait(seconds(120)) for process in begun] == [0] * 50
    listed = json.loads(runtime.call("list", "--format", "json").stdout)
    given = [address for each in listed for address in each["addresses"]["eth0"]]
    assert len(given) == len(set(given)) == 50
    begun = []
    for bundle in bundles:
        command = [*runtime.command, "--root", str(runtime.root), "delete", "--force", bundle.id]
        begun.append(subprocess.Popen(command))
    assert [process.wait(seconds(120)) for process in begun] == [0] * 50
    site.expect_nothing()


def test_two_containers_of_one_id(site: Site, make: Make) -> None:
    """Ids are unique below one ``--root`` only."""
    site.config()
    first, bundle = site.runtime, make()
    first.create(bundle)
    second = site.configure("root2")
    bundle.set("linux.cgroupsPath", f"{bundle.cgroups_path}-2")
    second.create(bundle)
    assert site.leased() == {"10.88.7.2", "10.88.7.3"}
    first.delete(bundle, "--force")
    assert site.leased() == {"10.88.7.3"}
    assert addresses(second.pid(bundle)) == ["10.88.7.3/24"]
    second.delete(bundle, "--force")
    site.expect_nothing()


# When things go wrong.


def test_delete_after_init_was_killed(site: Site, make: Make) -> None:
    site.config()
    pid = site.runtime.boot(bundle := make(), "-p", "8080:80")
    os.kill(pid, signal.SIGKILL)
    site.runtime.until(bundle, "stopped")
    site.runtime.delete(bundle)
    site.expect_nothing()


def test_the_configuration_and_the_settings_are_gone(site: Site, make: Make) -> None:
    site.config().unlink()
    site.config()
    site.runtime.create(bundle := make(), "-p", "8080:80")
    for path in site.configs.iterdir():
        path.unlink()
    site.runtime.command[site.runtime.command.index("--config-file") + 1] = "/dev/null"
    site.runtime.delete(bundle, "--force")
    site.expect_nothing()


def test_somebody_has_unmounted_the_namespace(site: Site, make: Make) -> None:
    """Then plug-ins are called without one: address and link go, and what a plug-in looks up in there may stay."""
    site.config(site.bridge(ipMasq=False), PORTMAP, FIREWALL)
    site.runtime.create(bundle := make(), "-p", "8080:80")
    subprocess.run(["umount", str(site.runtime.root / bundle.id / "cni.netns")], check=True)
    site.runtime.delete(bundle, "--force")
    site.expect_nothing()


def test_a_plugin_that_cannot_undo_keeps_the_container_listed(site: Site, make: Make) -> None:
    site.config()
    site.runtime.create(bundle := make(), "-p", "8080:80")
    site.wrap("portmap", 'echo \'{"code": 999, "msg": "the rules are locked"}\'; exit 1')
    for extra in ((), ("--force",)):
        result = site.runtime.delete(bundle, *extra, check=False)
        assert result.returncode == 1
        assert "CNI DEL tnet/portmap: the rules are locked (code 999)" in result.stderr
        assert "what may be left: eth0 on network tnet, 10.88.7.2/24, port 8080/tcp of the host" in result.stderr
        assert site.runtime.status(bundle) == "stopped"
    assert site.leased() == set()  # the others have done their part
    site.unwrap()
    site.runtime.delete(bundle)
    site.expect_nothing()


def test_a_plugin_that_is_missing_at_delete(site: Site, make: Make) -> None:
    site.config()
    tuning = site.wrappers / "sometuning"
    tuning.write_text(f"#!/bin/sh\nexec {PROGRAMS}/tuning\n")
    tuning.chmod(0o755)
    site.config(site.bridge(), {"type": "sometuning"})
    site.runtime.create(bundle := make())
    tuning.unlink()
    result = site.runtime.delete(bundle, "--force", check=False)
    assert result.returncode == 1
    assert "the CNI plug-in sometuning is not in" in result.stderr
    assert "containernetworking-plugins" in result.stderr
    tuning.write_text(f"#!/bin/sh\nexec {PROGRAMS}/tuning\n")
    tuning.chmod(0o755)
    site.runtime.delete(bundle, "--force")
    site.expect_nothing()


def test_an_add_that_fails(site: Site, make: Make) -> None:
    """The error names plug-in, message and what the plug-in said; nothing is left."""
    site.config(site.bridge(), PORTMAP, {"type": "tuning", "sysctl": {"net.nosuch": "1"}})
    result = site.runtime.create(bundle := make(), "-p", "80:80", check=False)
    assert result.returncode == 1
    assert "CNI ADD tnet/tuning: " in bundle.stderr
    site.expect_nothing()


def test_a_version_that_the_plugins_do_not_know(site: Site, make: Make) -> None:
    site.config(site.bridge(), version="1.1.0")
    result = site.runtime.create(bundle := make(), check=False)
    if result.returncode == 0:
        pytest.skip("needs plug-ins before 1.6")
    assert "CNI ADD tnet/bridge: incompatible CNI versions" in bundle.stderr
    assert "tnet/bridge supports 0.1.0" in bundle.stderr
    site.expect_nothing()


def test_a_network_that_is_not_there(site: Site, make: Make) -> None:
    site.config()
    result = site.runtime.create(bundle := make(), "--network", "other", check=False)
    assert result.returncode == 1
    assert f"no network 'other' is configured in {site.configs}; there are: tnet" in bundle.stderr
    assert BRIDGE not in site.links()
    site.expect_nothing()


def test_an_unreadable_state(site: Site, make: Make) -> None:
    site.config()
    site.runtime.create(bundle := make(), "-p", "8080:80")
    (site.runtime.root / bundle.id / "state.json").write_text("")
    site.runtime.delete(bundle, "--force")
    site.expect_nothing()
