"""The plugin cni without a plug-in: configurations, results of all versions, settings, and which steps are planned."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from gosudacon.api import ConfigError, Error, Host, Options, Plan, SettingsError, Spec
from gosudacon.base import jsonio
from gosudacon.pipeline.frozen import freeze
from gosudacon.pipeline.plan import make
from gosudacon.plugins import cni
from gosudacon.plugins.cni import adding, document, files, results
from gosudacon.plugins.cni.document import VERSIONS
from gosudacon.plugins.cni.settings import Settings
from gosudacon.plugins.cni.steps import WriteNote
from gosudacon.plugins.netcommon import members

OWN: Any = {"linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "network"}]}}
BRIDGE = {"type": "bridge", "ipam": {"type": "host-local"}}
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}


def conflist(*plugins: Any, name: str = "tnet", version: str = "1.0.0", **more: Any) -> str:
    return json.dumps({"cniVersion": version, "name": name, "plugins": list(plugins) or [BRIDGE], **more})


class Site:
    """A directory of configurations, and one of plug-ins, which nobody calls."""

    def __init__(self, path: Path) -> None:
        self.configs, self.programs = path / "net.d", path / "bin"
        for directory in (self.configs, self.programs):
            directory.mkdir(mode=0o755)
        self.settings: dict[str, Any] = {"conf_dir": str(self.configs), "bin_dirs": [str(self.programs)]}
        for kind in ("bridge", "host-local", "portmap", "firewall"):
            self.program(kind)

    def program(self, kind: str, text: str = "#!/bin/false\n", mode: int = 0o755) -> Path:
        return written(self.programs / kind, text, mode)

    def config(self, name: str, text: str, mode: int = 0o644) -> Path:
        path = self.configs / name
        path.parent.mkdir(mode=0o755, exist_ok=True)
        return written(path, text, mode)

    def plan(self, config: Any = None, host: Host | None = None, **options: Any) -> Plan:
        """The plan of a container named web."""
        spec = Spec(freeze(OWN if config is None else config), "web", "/b", Options(**{"root": "/r", **options}))
        host = host or Host()
        host.facts["cni"] = freeze(cni.gosudacon_gather_facts(spec, host, self.settings))
        plan = make([cni.Cni()], spec, host)
        cni.gosudacon_amend_plan(plan)
        return plan

    def lines(self, config: Any = None, **options: Any) -> list[str]:
        return [step.describe() for step in self.plan(config, **options).steps if step.phase == "create-runtime"]


def written(path: Path, text: str, mode: int) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.fixture
def site(tmp_path: Path) -> Site:
    tmp_path.chmod(0o755)
    return Site(tmp_path)


# Plans.


def test_a_chain(site: Site) -> None:
    file = site.config("10-t.conflist", conflist(BRIDGE, PORTMAP, {"type": "firewall"}))
    assert site.lines(publish=["8080:80", "127.0.0.1:53:53/udp"]) == [
        f"note what undoes it: CNI network tnet ({file})",
        "bind the network namespace on cni.netns in the state directory",
        "CNI ADD tnet/bridge: eth0",
        "CNI ADD tnet/portmap: eth0, 8080:80/tcp, 127.0.0.1:53:53/udp",
        "CNI ADD tnet/firewall: eth0",
        "write resolv.conf and hosts from the results of the networks, or else of the host",
    ]


def test_several_networks(site: Site) -> None:
    site.config("20-b.conflist", conflist(name="b"))
    site.config("10-a.conflist", conflist(BRIDGE, PORTMAP, name="a"))
    site.settings["interface"] = "net"
    assert site.lines(network=["b", "a"], publish=["80:80"])[2:-1] == [
        "CNI ADD b/bridge: net0",
        "CNI ADD a/bridge: net1",
        "CNI ADD a/portmap: net1, 80:80/tcp",
    ]


def noted(root: Path, plan: Plan, cut: int | None = None) -> Path:
    """Write the note of the container web, as the plan has it: its first ``cut`` bytes."""
    (step,) = [step for step in plan.steps if isinstance(step, WriteNote)]
    header = {"form": 1, "id": step.container, "bin_dirs": [], "timeout": 1, "args": {}}
    attachments: list[Any] = json.loads(jsonio.dumps(step.attachments))
    attachments[0]["runtime"] = {"portMappings": [{"hostPort": 8080}]}
    (root / "web").mkdir(exist_ok=True)
    note = root / "web" / "cni.note"
    note.write_text((json.dumps({**header, "attachments": attachments}) + "\n")[:cut])
    return note


def test_what_a_container_has_though_its_configuration_is_gone(site: Site, tmp_path: Path) -> None:
    """`explain ID` and `audit ID` plan a container that exists: its note says what it was given."""
    file = site.config("10-t.conflist", conflist(BRIDGE, PORTMAP))
    given: Any = {"publish": ["8080:80"], "root": str(tmp_path)}
    before = site.plan(**given)
    noted(tmp_path, before)
    file.unlink()
    plan = site.plan(**given)
    assert [step.record() for step in plan.lasting()] == [step.record() for step in before.lasting()]
    (warning,) = plan.warnings
    assert "no network in" in warning.message
    assert "the container has its networks nevertheless" in warning.message
    site.config("10-other.conflist", conflist(name="other"))
    assert "no network 'tnet' is configured" in site.plan(network=["tnet"], **given).warnings[0].message


def test_a_plug_in_that_is_gone(site: Site, tmp_path: Path) -> None:
    site.config("10-t.conflist", conflist())
    noted(tmp_path, site.plan(root=str(tmp_path)))
    (site.programs / "bridge").unlink()
    plan = site.plan(root=str(tmp_path))
    assert "the CNI plug-in bridge is not in" in plan.warnings[0].message
    assert "CNI ADD tnet/bridge: eth0" in [step.describe() for step in plan.steps]


@pytest.mark.parametrize("note", ["none", "cut", "of another program", "a link", "a FIFO"])
def test_a_configuration_that_is_gone_and_no_note(site: Site, tmp_path: Path, note: str) -> None:
    file = site.config("10-t.conflist", conflist())
    path = noted(tmp_path, site.plan(), 20 if note == "cut" else None)
    if note == "of another program":
        path.write_text('{"form": 9}\n')
    elif note != "cut":
        moved = path.rename(tmp_path / "elsewhere")
        if note == "a link":
            path.symlink_to(moved)
        elif note == "a FIFO":
            os.mkfifo(path)
    file.unlink()
    with pytest.raises(Error, match="no network in"):
        site.plan(root=str(tmp_path))


def test_the_setting_chooses_where_nobody_does(site: Site) -> None:
    site.config("10-a.conflist", conflist(name="a"))
    site.config("20-b.conflist", conflist(name="b"))
    assert "CNI ADD a/bridge: eth0" in site.lines()
    site.settings["network"] = "b"
    assert "CNI ADD b/bridge: eth0" in site.lines()


def test_ports_in_the_form_of_the_conventions() -> None:
    mappings, told = adding.port_mappings(["127.0.0.1:40080-40081:8080-8081", "40053:53/udp"])
    assert mappings == [
        {"hostPort": 40080, "containerPort": 8080, "protocol": "tcp", "hostIP": "127.0.0.1"},
        {"hostPort": 40081, "containerPort": 8081, "protocol": "tcp", "hostIP": "127.0.0.1"},
        {"hostPort": 40053, "containerPort": 53, "protocol": "udp"},
    ]
    assert told == ["127.0.0.1:40080-40081:8080-8081/tcp", "40053:53/udp"]


def test_a_port_that_does_not_matter_becomes_one_that_is_free() -> None:
    ((mapping,), (told,)) = adding.port_mappings(["80"])
    assert told == f"{mapping['hostPort']}:80/tcp"


def test_ports_that_nobody_publishes(site: Site) -> None:
    site.config("10-a.conflist", conflist())
    with pytest.raises(Error, match=r"port 80:80/tcp: network tnet has no plug-in that publishes ports"):
        site.plan(publish=["80:80"])


def test_an_annotation_publishes_where_the_administrator_allows_it(site: Site) -> None:
    site.config("10-a.conflist", conflist(BRIDGE, PORTMAP))
    asking = {**OWN, "annotations": {"io.gosudacon.publish": "80:80"}}
    plan = site.plan(asking)
    assert "CNI ADD tnet/portmap: eth0" in [step.describe() for step in plan.steps]
    assert [warning.describe() for warning in plan.warnings] == [
        'annotations.io.gosudacon.publish: ignored: annotations = ["publish"] in [plugin.cni] of the '
        "administrator's configuration would allow it"
    ]
    site.settings["annotations"] = ["publish"]
    plan = site.plan(asking)
    assert not plan.warnings
    assert "CNI ADD tnet/portmap: eth0, 80:80/tcp" in [step.describe() for step in plan.steps]


def test_networks_of_an_annotation(site: Site) -> None:
    site.config("10-a.conflist", conflist(name="a"))
    site.config("20-b.conflist", conflist(name="b"))
    asking = {**OWN, "annotations": {"io.gosudacon.network": "b, a"}}
    assert "CNI ADD a/bridge: eth0" in site.lines(asking)
    assert len(site.plan(asking).warnings) == 1
    site.settings["annotations"] = ["network"]
    assert site.lines(asking)[2:4] == ["CNI ADD b/bridge: eth0", "CNI ADD a/bridge: eth1"]
    assert "CNI ADD a/bridge: eth0" in site.lines(asking, network=["a"])  # the option counts more
    for text in ("a,a", "none,a"):
        with pytest.raises(ConfigError) as caught:
            site.plan({**OWN, "annotations": {"io.gosudacon.network": text}})
        assert caught.value.where == "annotations.io.gosudacon.network"


def test_no_network(site: Site) -> None:
    assert site.plan(network=["none"]).steps == []
    assert site.plan(JOINED, network=["none"]).steps == []
    with pytest.raises(Error, match="ports cannot be published without a network"):
        site.plan(network=["none"], publish=["80:80"])
    for names in (["a", "a"], ["none", "a"]):
        with pytest.raises(Error, match=r"--network (a: the network is named twice|none: it stands alone)"):
            site.plan(network=names)


def test_without_files_about_names(site: Site) -> None:
    site.config("10-a.conflist", conflist())
    site.settings["names"] = False
    assert [step.describe() for step in site.plan().steps][2:] == ["CNI ADD tnet/bridge: eth0"]


DOCKERS = {**OWN, "hooks": {"prestart": [{"path": "/x", "args": ["libnetwork-setkey"]}]}}
JOINED = {"linux": {"namespaces": [{"type": "network", "path": "/run/netns/x"}]}}


@pytest.mark.parametrize("config", [DOCKERS, JOINED, {"linux": {"namespaces": []}}, {"linux": {}}])
def test_who_is_left_alone(site: Site, config: Any) -> None:
    assert not site.plan(config).steps
    with pytest.raises(Error, match="--network a: the plugin cni does not connect this container"):
        site.plan(config, network=["a"])
    with pytest.raises(Error, match="--publish 80:80: the plugin cni does not connect this container"):
        site.plan(config, publish=["80:80"])


@pytest.mark.parametrize("host", [Host(euid=1000), Host(initial_userns=False)])
def test_callers_without_privileges_get_what_they_get_without_the_plugin(site: Site, host: Host) -> None:
    assert not site.plan(host=host).steps


def test_both_plugins_are_one_too_many(site: Site) -> None:
    site.config("10-a.conflist", conflist())
    plan = site.plan()
    plan.steps[-1].stage = "network"
    with pytest.raises(Error, match="the plugins cni and network would both connect the container"):
        cni.gosudacon_amend_plan(plan)


def test_the_name_that_plugins_know_a_container_by(site: Site) -> None:
    def name(**options: Any) -> str:
        return members.identity(Spec(OWN, options.pop("id", "web"), options.pop("bundle", "/b"), Options(**options)))

    names = [name(root="/r"), name(root="/q"), name(root="/r", id="a+b"), name(root="/r", bundle="/c")]
    assert len(set(names)) == 4
    for each in names:
        assert document.check_name(each) == each
        assert len(each) == 15


def test_settings_of_the_stage_are_none(site: Site) -> None:
    stage = cni.Cni()
    stage.settings = {"network": "x"}
    with pytest.raises(SettingsError, match=r"they belong into \[plugin.cni\]"):
        make([stage], Spec(OWN, "web", "/b"), Host())


# Settings.


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("networks", "", "is not a setting; known: network, conf_dir"),
        ("network", 1, "must be a string"),
        ("conf_dir", "etc", "must be an absolute path"),
        ("conf_dir", "/etc/../x", "must be an absolute path"),
        ("bin_dirs", [], "is empty"),
        ("bin_dirs", ["bin"], "must be an absolute path"),
        ("bin_dirs", ["/a:b"], "cannot have a colon"),
        ("bin_dirs", "/a", "must be a list of strings"),
        ("interface", "", "letters, digits"),
        ("interface", "a" * 14, "letters, digits"),
        ("interface", "a/b", "letters, digits"),
        ("args", {"A": 1}, "A must be a string without a semicolon"),
        ("args", {"A": "x;y"}, "A must be a string without a semicolon"),
        ("args", {"A=": "x"}, "A= must be a string without a semicolon"),
        ("timeout", 0, "1 to 3600 seconds"),
        ("timeout", True, "must be a number"),
        ("names", 1, "must be true or false"),
        ("annotations", "yes", "must be a list of strings"),
        ("annotations", ["mtu"], "none of publish, network"),
    ],
)
def test_settings_that_are_wrong(name: str, value: object, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        Settings({name: value})
    assert f"[plugin.cni] {name}" in str(caught.value)


# Configurations.


def test_files_of_all_kinds_in_the_order_of_their_names(site: Site) -> None:
    site.config("30.conflist", conflist(name="c"))
    site.config("20.conf", json.dumps({"cniVersion": "0.3.1", "name": "b", "type": "bridge"}))
    site.config("10.json", json.dumps({"name": "a", "type": "bridge"}))
    site.config("05.txt", "nothing of ours")
    found = files.Networks(str(site.configs))
    assert [*found.found] == ["a", "b", "c"]
    assert [network["version"] for network in found.found.values()] == ["0.1.0", "0.3.1", "1.0.0"]
    assert found.get("")["name"] == "a"


def test_the_first_of_two_files_with_one_name(site: Site) -> None:
    first = site.config("10.conflist", conflist())
    site.config("20.conflist", conflist(PORTMAP))
    assert files.Networks(str(site.configs)).get("tnet")["file"] == str(first)


def test_further_plugins_of_a_network(site: Site) -> None:
    """libcni appends the files of a directory that has the network's name, unless the list says that it is complete."""
    site.config("10.conflist", conflist())
    site.config("tnet/20.conf", json.dumps(PORTMAP))
    site.config("tnet/10.conf", json.dumps({"type": "firewall"}))
    assert "CNI ADD tnet/portmap: eth0" in site.lines()
    assert [line.split()[2] for line in site.lines()[2:5]] == ["tnet/bridge:", "tnet/firewall:", "tnet/portmap:"]
    site.config("10.conflist", conflist(loadOnlyInlinedPlugins=True))
    assert "CNI ADD tnet/portmap: eth0" not in site.lines()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("[]", "is not an object"),
        ("{", "at line 1"),
        (conflist(name="../x"), "name '../x' is not"),
        (conflist(name=""), "name '' is not"),
        (conflist(version="9.0.0"), "cniVersion '9.0.0' is not known"),
        (conflist(cniVersions=["9.0.0"]), "cniVersions has none that is known"),
        (conflist({"type": "../bridge"}), "is not the name of a program"),
        (conflist({"type": "bridge", "ipam": {"type": "/bin/sh"}}), "is not the name of a program"),
        (conflist({}), "type '' is not the name"),
        (conflist({"type": "x", "capabilities": []}), "capabilities of x is not an object"),
        (conflist("bridge"), "a plug-in is not an object"),
        ('{"name": "x", "plugins": []}', "names no plug-in"),
        ('{"name": "x", "plugins": {}}', "plugins is not a list"),
    ],
)
def test_a_file_that_does_not_count(site: Site, text: str, message: str) -> None:
    """It keeps no other file from being used, and is named where a network is not found."""
    path = site.config("10.conflist", text)
    site.config("20.conflist", conflist(name="other"))
    assert "CNI ADD other/bridge: eth0" in site.lines()
    with pytest.raises(Error) as caught:
        site.plan(network=["tnet"])
    assert f"no network 'tnet' is configured in {site.configs}; there are: other; {path}: " in str(caught.value)
    assert message in str(caught.value)


def test_files_that_others_can_change(site: Site, tmp_path: Path) -> None:
    path = site.config("10.conflist", conflist(), mode=0o666)
    with pytest.raises(Error, match=r"no network in .*must belong to root and be writable only by its owner"):
        site.plan()
    path.unlink()
    path.symlink_to(written(tmp_path / "elsewhere", conflist(), 0o644))
    with pytest.raises(Error, match="no network in "):
        site.plan()
    path.unlink()
    site.config("10.conflist", conflist())
    site.configs.chmod(0o777)
    with pytest.raises(Error, match="must belong to root and be writable only by its owner"):
        site.plan()


def test_no_directory(site: Site) -> None:
    site.settings["conf_dir"] = "/nonexistent/net.d"
    with pytest.raises(Error, match=r"no network in /nonexistent/net.d"):
        site.plan()


def test_a_plugin_that_is_missing(site: Site) -> None:
    path = site.config("10.conflist", conflist({"type": "nosuch"}))
    with pytest.raises(Error) as caught:
        site.plan()
    assert caught.value.message == f"network tnet ({path}): the CNI plug-in nosuch is not in {site.programs}"
    assert "containernetworking-plugins" in caught.value.hint
    site.config("10.conflist", conflist({"type": "bridge", "ipam": {"type": "nosuch"}}))
    with pytest.raises(Error, match="the CNI plug-in nosuch is not in"):
        site.plan()


def test_a_plugin_that_others_can_change(site: Site) -> None:
    site.config("10.conflist", conflist())
    site.program("bridge", mode=0o757)
    with pytest.raises(Error, match="bridge and its directory must belong to root"):
        site.plan()
    site.program("bridge")
    site.programs.chmod(0o777)
    with pytest.raises(Error, match="and its directory must belong to root"):
        site.plan()


def test_ports_that_are_wrong(site: Site) -> None:
    site.config("10.conflist", conflist(BRIDGE, PORTMAP))
    with pytest.raises(Error, match="--publish 80:x: "):
        site.plan(publish=["80:x"])
    site.settings["annotations"] = ["publish"]
    with pytest.raises(ConfigError) as caught:
        site.plan({**OWN, "annotations": {"io.gosudacon.publish": "x"}})
    assert caught.value.where == "annotations.io.gosudacon.publish"


# Results.

IP4, IP6 = "10.1.2.3/24", "fd00::3/64"
NORMAL: dict[str, Any] = {
    "interfaces": [{"name": "eth0", "sandbox": "/x"}],
    "ips": [{"address": IP4, "gateway": "10.1.2.1", "interface": 0}, {"address": IP6, "interface": 0}],
    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0", "gw": "fd00::1"}],
    "dns": {"nameservers": ["10.1.2.1"], "search": ["test"]},
}
NUMBERED = [{"version": "4", **NORMAL["ips"][0]}, {"version": "6", **NORMAL["ips"][1]}]
SINGLE = {
    "ip4": {"ip": IP4, "gateway": "10.1.2.1", "routes": [{"dst": "0.0.0.0/0"}]},
    "ip6": {"ip": IP6, "routes": [{"dst": "::/0", "gw": "fd00::1"}]},
    "dns": NORMAL["dns"],
}


def of_version(version: str) -> dict[str, Any]:
    """One result as a plug-in of each version would write it."""
    if version < "0.3":
        return {"cniVersion": version, **SINGLE}
    return {"cniVersion": version, **NORMAL, **({"ips": NUMBERED} if version < "1" else {})}


@pytest.mark.parametrize("version", VERSIONS)
def test_results_of_all_versions(version: str) -> None:
    raw = of_version(version)
    assert results.parsed(json.dumps(raw).encode(), version) == raw  # as it came, for the next plug-in
    found = results.normal(raw)
    addresses = [each["address"] for each in found["ips"]]
    assert (addresses, found["dns"], found["routes"]) == ([IP4, IP6], NORMAL["dns"], NORMAL["routes"])
    assert found["ips"][0]["gateway"] == "10.1.2.1"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("other", VERSIONS)
def test_a_result_of_another_version_becomes_one_of_ours(version: str, other: str) -> None:
    found = results.parsed(json.dumps(of_version(other)).encode(), version)
    expected = of_version(version)
    if other < "0.3" <= version:  # interfaces were not told
        expected["interfaces"] = []
        for each in expected["ips"]:
            expected["ips"] = [{k: v for k, v in each.items() if k != "interface"} for each in expected["ips"]]
    assert found == expected


def test_a_result_without_a_version_is_of_the_one_that_was_asked_for() -> None:
    assert results.parsed(b'{"ips": []}', "0.4.0") == {"cniVersion": "0.4.0", "ips": []}


def test_nulls_and_empty_dns() -> None:
    found = results.normal(results.parsed(b'{"ips": null, "dns": {"nameservers": null, "domain": ""}}', "1.0.0"))
    assert found == {"interfaces": [], "ips": [], "routes": [], "dns": {}}


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "[]", '{"cniVersion": "7.0.0"}', '{"cniVersion": 1}', '{"ips": {}}', '{"ips": ["10.1.2.3/24"]}'),
        *('{"ips": [{"address": "10.1.2.3"}]}', '{"ips": [{"address": "10.1.2.3/33"}]}', '{"ips": [{}]}'),
        *('{"ips": [{"address": "fd00::1/129"}]}', '{"ips": [{"address": "a/1"}]}', '{"interfaces": [1]}'),
    ],
)
def test_what_is_no_result(text: str) -> None:
    with pytest.raises(ValueError):
        results.parsed(text.encode(), "1.0.0")
