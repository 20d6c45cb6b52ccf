"""Planning of the plugin network: which steps for which bundle, and what its settings may be."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from gosudacon.api import (
    CREATE_CONTAINER,
    CREATE_RUNTIME,
    RUNTIME,
    ConfigError,
    Error,
    Host,
    Options,
    SettingsError,
    Spec,
    Step,
)
from gosudacon.pipeline.kinds import rebuild
from gosudacon.pipeline.plan import make
from gosudacon.plugins.netcommon.ports import parse
from gosudacon.plugins.network import Network, link_name
from gosudacon.plugins.network.rules import rules
from gosudacon.plugins.network.steps import AllowForwarding, MakeLink, ReservePorts, SetUp
from gosudacon.plugins.network.subnets import Subnet
from gosudacon.stages.hooks import HooksStage
from gosudacon.stages.namespaces import Namespaces
from tests.support.runtime import CHECKOUT

OWN: Any = {"linux": {"namespaces": [{"type": "pid"}, {"type": "network"}]}}
LINK = "gsd9bc6cd52015f"


def plan(config: Any = None, host: Host | None = None, options: Options | None = None, **settings: Any) -> list[Step]:
    stage = Network()
    stage.settings = settings
    spec = Spec(OWN if config is None else config, "web", "/srv/web", options)
    return make([stage], spec, host or Host()).steps


def lines(steps: list[Step]) -> list[str]:
    return [step.describe() for step in steps]


# Plans.


def test_the_default_plan() -> None:
    assert lines(plan()) == [
        "reserve an address of 10.207.0.0/16 and fd67:6f73:7564::/64 (in /run/gosudacon-network)",
        "make the bridge gosudacon0, unless it is there: 10.207.0.1/16 and fd67:6f73:7564::1/64",
        f"veth pair: {LINK} on gosudacon0, eth0 in the container",
        "give eth0 an address of 10.207.0.0/16 and fd67:6f73:7564::/64, bring it up; "
        "default route via 10.207.0.1 and fd67:6f73:7564::1",
        "write resolv.conf (the host's name servers) and hosts: web here and at the neighbours on gosudacon0",
    ]


def test_with_everything_set() -> None:
    subnets = ["10.1.0.0/24", "10.2.0.0/24", "fd00:1::/64"]
    steps = plan(
        bridge="br-x", subnets=subnets, nat=True, mtu=1400, interface="net0", leases="/run/x", dns_servers=["10.1.0.1"]
    )
    assert lines(steps) == [
        "reserve an address of 10.1.0.0/24, 10.2.0.0/24 and fd00:1::/64 (in /run/x)",
        "make the bridge br-x, unless it is there: 10.1.0.1/24, 10.2.0.1/24 and fd00:1::1/64, mtu 1400",
        "forward IPv4 and IPv6 between br-x and the links of the default routes",
        "NAT: masquerade 10.1.0.0/24, 10.2.0.0/24 and fd00:1::/64 outside of br-x (nftables: inet gosudacon-br-x)",
        f"veth pair: {LINK} on br-x, net0 in the container, mtu 1400",
        "give net0 an address of 10.1.0.0/24, 10.2.0.0/24 and fd00:1::/64, bring it up; "
        "default route via 10.1.0.1 and fd00:1::1",
        "write resolv.conf (name servers 10.1.0.1) and hosts: web here and at the neighbours on br-x",
    ]


def test_files_of_a_container_with_a_mount_namespace() -> None:
    config: Any = {
        "hostname": "www",
        "linux": {"namespaces": [{"type": "mount"}, {"type": "network"}]},
        "mounts": [{"destination": "/etc/hosts"}],
    }
    found = {type(step).__name__: step.describe() for step in plan(config)}
    assert found["MakeFiles"] == "make resolv.conf and hostname in the state directory"
    assert found["MountFiles"] == (
        "mount /etc/resolv.conf and /etc/hostname of its own, read-only, where the root has such a file"
    )
    assert "hosts: www and web here" in found["WriteNames"]
    assert not {"MakeFiles", "MountFiles", "WriteNames"}.intersection(
        type(step).__name__ for step in plan(config, names=False)
    )


def test_one_version_is_enough() -> None:
    assert lines(plan(subnets=["fd00:1::/64"], nat=True))[2:4] == [
        "forward IPv6 between gosudacon0 and the links of the default routes",
        "NAT: masquerade fd00:1::/64 outside of gosudacon0 (nftables: inet gosudacon-gosudacon0)",
    ]


def test_runs_beside_the_mounts() -> None:
    """All of it is the runtime's work while the container makes its mounts."""
    for step in plan(nat=True):
        assert (step.phase, step.runs_on(), step.by) == (CREATE_RUNTIME, RUNTIME, CREATE_CONTAINER)
        assert step.where == "linux.namespaces[1]"


def test_lasting_steps_are_records() -> None:
    """What outlives the process can be rebuilt from its record."""
    lasting = [step for step in plan(nat=True) if step.lasts]
    assert [type(step).__name__ for step in lasting] == [
        "TakeLease",
        "MakeBridge",
        "AllowForwarding",
        "LoadRules",
        "MakeLink",
    ]
    for step in lasting:
        assert vars(rebuild(step.record())) == vars(step)


def test_place_in_the_plan() -> None:
    """It comes after the namespaces and before the hooks."""
    config: Any = {**OWN, "hooks": {"createRuntime": [{"path": "/bin/true"}]}}
    steps = make([Namespaces(), Network(), HooksStage()], Spec(config, "web", "/srv/web"), Host()).steps
    stages = [step.stage for step in steps if step.runs_on() == RUNTIME]
    assert stages == ["namespaces", *["network"] * 5, "hooks"]
    assert (Network.after, Network.before) == (("namespaces",), ("hooks",))


@pytest.mark.parametrize(
    ("config", "host"),
    [
        ({"linux": {"namespaces": [{"type": "pid"}]}}, Host()),
        ({"linux": {"namespaces": [{"type": "network", "path": "/run/netns/x"}]}}, Host()),
        ({}, Host()),
        (OWN, Host(euid=1000)),
        (OWN, Host(initial_userns=False)),
        ({**OWN, "hooks": {"prestart": [{"path": "/x", "args": ["libnetwork-setkey", "-exec-root=/run"]}]}}, Host()),
    ],
    ids=["the host's", "joined", "no linux", "not root", "root of a user namespace", "Docker's"],
)
def test_whose_network_it_leaves_alone(config: dict[str, Any], host: Host) -> None:
    assert plan(config, host) == []


def test_a_links_name_belongs_to_one_container() -> None:
    specs = [
        Spec(OWN, "web", "/srv/web"),
        Spec(OWN, "web2", "/srv/web"),
        Spec(OWN, "web", "/srv/other"),
        Spec(OWN, "web", "/srv/web", Options(root="/run/other")),
        Spec(OWN, "x" * 255, "/srv/" + "y" * 4000),
    ]
    names = [link_name(spec) for spec in specs]
    assert names[0] == link_name(specs[0]) == LINK
    assert len(set(names)) == len(names)
    assert all(len(name) == 15 for name in names)


def test_planning_is_light() -> None:
    heavy = ("pyroute2", "asyncio", "socket", "json", "ipaddress", "subprocess", "ctypes", "hashlib", "fcntl")
    script = f"""
import sys
sys.path.insert(0, {str(CHECKOUT)!r})
from gosudacon.api import Host, Spec
from gosudacon.plugins.network import Network
stage = Network()
stage.settings = {{"nat": True}}
steps = list(stage.plan(Spec({OWN!r}, "web", "/srv/web"), Host()))
assert len(steps) == 7 and all(step.describe() for step in steps)
print([name for name in {heavy!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-ISB", "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


# Settings.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"brigde": "x"},
            "brigde is not a setting; known: bridge, subnets, nat, mtu, networks, default, interface, leases, nft, "
            "annotations, names, dns_servers, dns_search, dns_options",
        ),
        ({"annotations": ["all"]}, "annotations[0] 'all' is none of publish, network"),
        (
            {"networks": {"none": {"subnets": ["10.9.0.0/16"]}}},
            "networks.none must have a name of letters, digits and _ - . , not default or none",
        ),
        ({"networks": {"db": 1}}, "networks.db must be a table"),
        ({"networks": {"db": {}}}, "networks.db.subnets is missing: name one subnet or more"),
        ({"networks": {"db": {"subnet": []}}}, "networks.db.subnets is missing: name one subnet or more"),
        (
            {"networks": {"db": {"subnets": ["x"]}}},
            "networks.db.subnets[0] 'x' is not a subnet; write ADDRESS/LENGTH, "
            "such as 10.207.0.0/16 or fd67:6f73:7564::/64",
        ),
        (
            {"networks": {"db": {"subnets": ["10.9.0.0/16"], "interface": "x"}}},
            "networks.db.interface is not a setting; known: bridge, subnets, nat, mtu",
        ),
        (
            {"networks": {"db": {"subnets": ["10.207.3.0/24"]}}},
            "networks.db.subnets 10.207.3.0/24 overlaps 10.207.0.0/16 of default",
        ),
        (
            {"networks": {"db": {"subnets": ["10.9.0.0/16"], "bridge": "gosudacon0"}}},
            "networks.db.bridge is gosudacon0, and so is that of default",
        ),
        (
            {"networks": {"a-long-name-": {"subnets": ["10.9.0.0/16"]}}},
            "networks.a-long-name-.bridge must be a letter and up to 14 letters, digits and _ - .",
        ),
        (
            {"networks": {"db": {"subnets": ["10.9.0.0/16"], "mtu": 1}}},
            "networks.db.mtu must be 0, for the kernel's default, or 68 to 65535",
        ),
        ({"default": "db"}, "default 'db' is not a network; known: default, none"),
        ({"names": "no"}, "names must be true or false"),
        ({"dns_servers": ["ns.example"]}, "dns_servers[0] 'ns.example' is not an address"),
        ({"dns_search": ["a b"]}, "dns_search[0] must be a word"),
        ({"dns_options": ["x\nnameserver 1.2.3.4"]}, "dns_options[0] must be a word"),
        ({"nat": "yes"}, "nat must be true or false"),
        ({"nat": 1}, "nat must be true or false"),
        ({"mtu": True}, "mtu must be a number"),
        ({"mtu": 1279}, "mtu must be 0, for the kernel's default, or 1280 to 65535"),
        ({"mtu": 67, "subnets": ["10.0.0.0/8"]}, "mtu must be 0, for the kernel's default, or 68 to 65535"),
        ({"mtu": 65536}, "mtu must be 0, for the kernel's default, or 1280 to 65535"),
        ({"bridge": ""}, "bridge must be a letter and up to 14 letters, digits and _ - ."),
        ({"bridge": "a" * 16}, "bridge must be a letter and up to 14 letters, digits and _ - ."),
        ({"bridge": "a/b"}, "bridge must be a letter and up to 14 letters, digits and _ - ."),
        ({"bridge": 'a"; x'}, "bridge must be a letter and up to 14 letters, digits and _ - ."),
        ({"interface": "all"}, "interface cannot be 'all'"),
        ({"interface": "lo"}, "interface cannot be 'lo'"),
        ({"leases": "run"}, "leases must be an absolute path"),
        ({"nft": "nft"}, "nft must be an absolute path"),
        ({"leases": "/run/../etc"}, "leases must be an absolute path"),
        ({"subnets": "10.0.0.0/8"}, "subnets must be a list of strings"),
        ({"subnets": []}, "subnets is empty: name one subnet or more"),
        ({"subnets": [8]}, "subnets[0] must be a string"),
        ({"subnets": ["10.0.0.0/8", "10.1.0.0/16"]}, "subnets[1] 10.1.0.0/16 overlaps 10.0.0.0/8"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        plan(**settings)
    assert caught.value.message == f"[stage.network] {message}"
    assert caught.value.stage == "network"


def test_wrong_settings_where_not_needed() -> None:
    """Wrong settings are an error even where they are not needed."""
    with pytest.raises(SettingsError, match="mtu"):
        plan({"linux": {"namespaces": [{"type": "network", "path": "/run/netns/x"}]}}, mtu=-1)


SHAPE = "is not a subnet; write ADDRESS/LENGTH, such as 10.207.0.0/16 or fd67:6f73:7564::/64"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", SHAPE),
        ("10.0.0.0", SHAPE),
        ("10.0.0.0/", SHAPE),
        ("10.0.0.0/33", SHAPE),
        ("10.0.0.0/-1", SHAPE),
        ("10.0.0.0/٨", SHAPE),
        ("fd00::/129", SHAPE),
        ("10.0/16", "has no IPv4 address before the slash"),
        ("10.0.0.256/24", "has no IPv4 address before the slash"),
        ("web/24", "has no IPv4 address before the slash"),
        ("fd00:::/64", "has no IPv6 address before the slash"),
        ("10.207.0.1/16", "has bits set beyond its prefix: 10.207.0.0/16?"),
        ("fd00::1/64", "has bits set beyond its prefix: fd00::/64?"),
        ("10.0.0.0/31", "has no room for a container beside the bridge"),
        ("fd00::/127", "has no room for a container beside the bridge"),
        ("0.0.0.0/0", "cannot be used for a network of containers"),
        ("127.0.0.0/24", "cannot be used for a network of containers"),
        ("169.254.0.0/24", "cannot be used for a network of containers"),
        ("239.0.0.0/8", "cannot be used for a network of containers"),
        ("::/0", "cannot be used for a network of containers"),
        ("fe80::/64", "cannot be used for a network of containers"),
        ("ff02::/64", "cannot be used for a network of containers"),
    ],
)
def test_subnets_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        plan(subnets=[text])
    assert caught.value.message == f"[stage.network] subnets[0] {text!r} {message}"


# Addresses.


def test_what_a_subnet_knows() -> None:
    four, six = Subnet("10.207.0.0/16"), Subnet("FD67:6F73:7564:0::/64")
    assert (four.text, four.gateway, four.size) == ("10.207.0.0/16", "10.207.0.1", 65536)
    assert (six.text, six.gateway, six.size) == ("fd67:6f73:7564::/64", "fd67:6f73:7564::1", 1 << 64)


@pytest.mark.parametrize(("subnet", "hosts"), [("10.0.0.0/29", 5), ("10.0.0.0/30", 1), ("fd00::/126", 2)])
def test_addresses(subnet: str, hosts: int) -> None:
    """Every address is given out once and none that is reserved."""
    net = Subnet(subnet)
    used: list[str] = []
    while address := net.next_free(used, used[-1] if used else ""):
        used.append(address)
    assert used == [net.at(offset) for offset in range(2, hosts + 2)]


def test_freed_address() -> None:
    """A freed address is given out again after all others."""
    net = Subnet("10.0.0.0/29")
    assert net.next_free(["10.0.0.2", "10.0.0.4"], "10.0.0.4") == "10.0.0.5"
    assert net.next_free(["10.0.0.2"], "10.0.0.6") == "10.0.0.3"
    assert net.next_free([], "10.0.0.3") == "10.0.0.4"
    assert net.next_free(["10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6"], "10.0.0.3") == "10.0.0.3"
    assert net.next_free([], "10.9.9.9") == "10.0.0.2"  # of another subnet: the settings have changed


# NAT.


def test_the_rules() -> None:
    assert (
        rules("br0", [Subnet("10.1.0.0/16"), Subnet("fd00:1::/64")], True, [])
        == """\
add table inet gosudacon-br0
delete table inet gosudacon-br0
table inet gosudacon-br0 {
  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
    ip saddr 10.1.0.0/16 oifname != "br0" masquerade
    ip6 saddr fd00:1::/64 oifname != "br0" masquerade
  }
  chain forward {
    type filter hook forward priority 0; policy accept;
    iifname != "br0" oifname "br0" ct state established,related accept
    iifname != "br0" oifname "br0" ct status dnat accept
    iifname != "br0" oifname "br0" drop
  }
}
"""
    )


def test_the_rules_of_published_ports() -> None:
    published = [(parse("8080:80"), ["10.1.0.2", "fd00:1::2"]), (parse("127.0.0.1:53-54:63-64/udp"), ["10.1.0.3"])]
    leading = """\
    meta nfproto ipv4 fib daddr type local tcp dport 8080 dnat ip to 10.1.0.2:80
    meta nfproto ipv6 fib daddr type local tcp dport 8080 dnat ip6 to [fd00:1::2]:80
    meta nfproto ipv4 ip daddr 127.0.0.1 udp dport 53-54 dnat ip to 10.1.0.3 : udp dport map { 53 : 63, 54 : 64 }
"""
    assert (
        rules("br0", [Subnet("10.1.0.0/16")], False, published)
        == f"""\
add table inet gosudacon-br0
delete table inet gosudacon-br0
table inet gosudacon-br0 {{
  chain guard {{
    type filter hook prerouting priority -300; policy accept;
    iifname "br0" ip daddr 127.0.0.0/8 drop
  }}
  chain prerouting {{
    type nat hook prerouting priority -100; policy accept;
{leading}  }}
  chain output {{
    type nat hook output priority -100; policy accept;
{leading}  }}
  chain postrouting {{
    type nat hook postrouting priority 100; policy accept;
    ip saddr 10.1.0.0/16 oifname "br0" ct status dnat masquerade
    ip saddr 127.0.0.0/8 oifname "br0" masquerade
  }}
}}
"""
    )


# Published ports.


def test_a_published_port_is_in_the_plan() -> None:
    steps = lines(plan(options=Options(publish=["8080:80", "127.0.0.1::53/udp"])))
    assert steps[1] == "reserve the host's ports for 8080:80/tcp and 127.0.0.1::53/udp"
    assert steps[3] == "forward IPv4 and IPv6 between gosudacon0 and the links of the default routes"
    assert steps[4] == (
        "NAT: lead 8080:80/tcp and 127.0.0.1::53/udp to the container (nftables: inet gosudacon-gosudacon0)"
    )


def test_what_is_at_the_loopback_alone_is_not_forwarded() -> None:
    found = [type(step).__name__ for step in plan(options=Options(publish=["127.0.0.1:8080:80", "[::1]:8080:80"]))]
    assert "LoadRules" in found
    assert "AllowForwarding" not in found
    (step,) = (step for step in plan(options=Options(publish=["0.0.0.0:1:1"])) if isinstance(step, AllowForwarding))
    assert step.versions == ["IPv4"]


def test_ports_by_annotation_are_for_the_administrator_to_allow() -> None:
    config: Any = {**OWN, "annotations": {"io.gosudacon.publish": "8080:80"}}
    assert "ReservePorts" not in [type(step).__name__ for step in plan(config)]
    assert "ReservePorts" in [type(step).__name__ for step in plan(config, annotations=["publish"])]
    stage = Network()
    assert [step.describe() for step in make([stage], Spec(config, "web", "/srv/web"), Host()).warnings] == [
        'annotations.io.gosudacon.publish: ignored: annotations = ["publish"] in [stage.network] of the '
        "administrator's configuration would allow it"
    ]


@pytest.mark.parametrize(("config", "host"), [({}, Host()), (OWN, Host(euid=1000))])
def test_ports_of_what_is_not_connected(config: Any, host: Host) -> None:
    with pytest.raises(Error, match="--publish 8080:80: the plugin network does not connect this container"):
        plan(config, host, options=Options(publish=["8080:80"]))


def test_records_of_earlier_versions() -> None:
    fields = {"bridge": "br0", "leases": "/l", "link": "gsd1", "subnets": ["10.1.0.0/16"], "nft": "/usr/sbin/nft"}
    step = rebuild(["network.masquerade", 1, fields])
    assert step.describe() == "NAT: masquerade 10.1.0.0/16 outside of br0 (nftables: inet gosudacon-br0)"


# Several networks.

TWO: Any = {"networks": {"db": {"subnets": ["10.9.0.0/16"]}, "web": {"subnets": ["10.8.0.0/16"], "nat": True}}}


def named(*names: str) -> Options:
    return Options(network=names)


def test_networks_of_a_container() -> None:
    steps = plan(options=Options(network=["db", "default"], publish=["80:80"]), interface="net3", **TWO)
    links = [(step.bridge, step.interface) for step in steps if isinstance(step, MakeLink)]
    assert links == [("gsd-db", "net3"), ("gosudacon0", "net4")]
    assert len({step.link for step in steps if isinstance(step, MakeLink)}) == 2
    assert [step.describe() for step in steps if isinstance(step, SetUp)] == [
        "give net3 an address of 10.9.0.0/16, bring it up; default route via 10.9.0.1",
        "give net4 an address of 10.207.0.0/16 and fd67:6f73:7564::/64, bring it up; "
        "default route via fd67:6f73:7564::1",
    ]
    assert [step.bridge for step in steps if isinstance(step, ReservePorts)] == ["gsd-db"]
    assert "web here and at the neighbours on gsd-db and gosudacon0" in steps[-1].describe()


def test_which_network() -> None:
    def bridges(config: Any = None, options: Options | None = None, **settings: Any) -> list[str]:
        return [step.bridge for step in plan(config, options=options, **TWO, **settings) if isinstance(step, MakeLink)]

    annotated: Any = {**OWN, "annotations": {"io.gosudacon.network": "web, db"}}
    assert bridges() == ["gosudacon0"]
    assert bridges(default="web") == ["gsd-web"]
    assert bridges(default="none") == []
    assert bridges(options=named("none")) == []
    assert bridges(default="none", options=named("db")) == ["gsd-db"]
    assert bridges(annotated) == ["gosudacon0"]
    assert bridges(annotated, annotations=["network"]) == ["gsd-web", "gsd-db"]
    assert bridges(annotated, named("db"), annotations=["network"]) == ["gsd-db"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["nowhere"], "--network nowhere: no network has this name"),
        (["db", "db"], "--network db: the network is named twice"),
        (["db", "none"], "--network none: it stands alone"),
    ],
)
def test_networks_that_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(Error) as caught:
        plan(options=named(*names), **TWO)
    assert caught.value.message == message
    assert caught.value.hint.startswith("known: default, db, web, none; ")
    annotated: Any = {**OWN, "annotations": {"io.gosudacon.network": ",".join(names)}}
    with pytest.raises(ConfigError) as found:
        plan(annotated, annotations=["network"], **TWO)
    assert found.value.where == "annotations.io.gosudacon.network"


def test_ports_without_a_network() -> None:
    with pytest.raises(Error, match="ports cannot be published without a network"):
        plan(options=Options(network=["none"], publish=["80:80"]))
    assert plan({}, options=named("none")) == []
    with pytest.raises(Error, match="--network db: the plugin network does not connect this container"):
        plan({}, options=named("db"), **TWO)


def test_features_name_the_annotations_that_are_allowed() -> None:
    stage = Network()
    for allowed, found in (([], []), (["network"], ["io.gosudacon.network"])):
        stage.settings = {"annotations": allowed}
        assert stage.features() == {"potentiallyUnsafeConfigAnnotations": found}
