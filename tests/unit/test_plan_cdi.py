"""The plugin cdi without a container: names, files, which device counts, and what comes of its edits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gosudacon.api import EXEC, ConfigError, Error, Host, Options, SettingsError, Spec, Target
from gosudacon.pipeline.frozen import freeze, thaw
from gosudacon.plugins import cdi
from gosudacon.plugins.cdi import cache, document, files, names, record
from gosudacon.plugins.cdi.devices import Registry
from gosudacon.plugins.cdi.settings import Settings
from tests.support.needs import needs
from tests.support.runtime import CHECKOUT

if TYPE_CHECKING:
    from typing import Any

    from gosudacon.pipeline.edit import Changes

NODE = {"path": "/dev/gpu0", "hostPath": "/dev/null"}
needs_yaml = needs("pyyaml")


def text(kind: str = "vendor.com/gpu", version: str = "1.1.0", **devices: Any) -> dict[str, Any]:
    listed = [{"name": name.lstrip("_"), "containerEdits": edits} for name, edits in devices.items()]
    return {
        "cdiVersion": version,
        "kind": kind,
        "devices": listed or [{"name": "0", "containerEdits": {"env": ["A=1"]}}],
    }


class Site:
    """Two directories of specification files, the second of which counts more."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name in ("etc", "run"):
            (path / name).mkdir(mode=0o755)
        self.settings: dict[str, Any] = {"directories": [f"{path}/etc", f"{path}/run"]}

    def write(self, name: str, content: Any) -> Path:
        file = self.path / name
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        file.chmod(0o644)
        return file

    def devices(self) -> Registry:
        return Registry(self.settings["directories"])

    def edited(self, *devices: str, config: Any = None, host: Host | None = None, **spec: Any) -> Any:
        """The configuration that a container gets."""
        made = Spec(freeze(config or {}), "web", "/b", Options(device=list(devices)), **spec)
        host = host or Host()
        host.facts["cdi"] = freeze(cdi.gosudacon_gather_facts(made, self.settings))
        edit = cdi.gosudacon_edit_spec(made, host)
        return thaw(edit.applied(made.config) if edit else made.config)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    tmp_path.chmod(0o755)
    return Site(tmp_path)


# Names.


@pytest.mark.parametrize(
    "name", ["v/c=0", "vendor.com/class=a", "v-e_n.d/c.l-a_s=GPU-1:0.2_x", "nvidia.com/gpu=all", "a1/b2=x=".rstrip("=")]
)
def test_names(name: str) -> None:
    assert names.check(name) == name.partition("=")[0]


@pytest.mark.parametrize(
    "name",
    [
        *("", "gpu", "vendor.com/gpu", "=0", "vendor.com=0", "/class=0", "vendor/=0", "vendor.com/gpu=", "1v/c=0"),
        *(
            "v./c=0",
            "v/c-=0",
            "v/1c=0",
            "v/c=-0",
            "v/c=0-",
            "v/c=a/b",
            "v/c=../x",
            "v/c=a b",
            "v/c=ä",
            "vé/c=0",
            "v/c/d=0",
        ),
        *("/dev/null", "/etc/cdi/x.json", "v/c=0\n", "v/c=0=1"),
    ],
)
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ValueError):
        names.check(name)


# A document.


def test_a_document() -> None:
    found = document.check({**text(), "containerEdits": {"env": ["B=2"]}})
    assert found == {"kind": "vendor.com/gpu", "edits": {"env": ["B=2"]}, "devices": {"0": {"env": ["A=1"]}}}


def test_null_is_absent_and_yaml_s_numbers_are_strings() -> None:
    content: dict[str, Any] = {"cdiVersion": "v0.5.0", "kind": "v/c", "annotations": None}
    content["devices"] = [{"name": 0, "containerEdits": {"hooks": None, "env": ["A=1"], "mounts": []}}]
    assert document.check(content)["devices"] == {"0": {"env": ["A=1"], "mounts": []}}


EDIT = {"env": ["A=1"]}
NEEDS: dict[str, list[Any]] = {
    "0.3.0": [text(a=EDIT)],
    "0.4.0": [text(a={"mounts": [{"hostPath": "/a", "containerPath": "/b", "type": "bind"}]})],
    "0.5.0": [text(_0=EDIT), text(a={"deviceNodes": [NODE]})],
    "0.6.0": [
        text("v/c.d", a=EDIT),
        {**text(a=EDIT), "annotations": {"a.b/c": "d"}},
        {**text(), "devices": [{"name": "a", "annotations": {"x": "y"}, "containerEdits": EDIT}]},
    ],
    "0.7.0": [text(a={"intelRdt": {"closID": "a"}}), text(a={"additionalGids": [1]}), text(a={"intelRdt": {}})],
    "1.1.0": [
        text(a={"netDevices": [{"hostInterfaceName": "a", "name": "b"}]}),
        text(a={"intelRdt": {"schemata": ["L3:0=f"]}}),
        text(a={"intelRdt": {"enableMonitoring": False}}),
    ],
}
CASES = [(version, content) for version, contents in NEEDS.items() for content in contents]


@pytest.mark.parametrize(("version", "content"), CASES, ids=range(len(CASES)))
def test_the_version_that_each_thing_needs(version: str, content: Any) -> None:
    document.check({**content, "cdiVersion": version})
    before = document.VERSIONS[document.VERSIONS.index(version) - 1]
    with pytest.raises(ValueError, match=f"needs cdiVersion {version}, and the file is of {before}"):
        document.check({**content, "cdiVersion": before})


INVALID: dict[str, Any] = {
    "it is not an object": [],
    "cdiVersion '1.2.0' is not known": {**text(), "cdiVersion": "1.2.0"},
    "cdiVersion '' is not known": {"kind": "v/c", "devices": []},
    "'vendor.com' is not the kind": {**text(), "kind": "vendor.com"},
    "devices: the list is empty": {**text(), "devices": []},
    "extra is not known": {**text(), "extra": 1},
    "devices[0].containerEdits.mount is not known": text(a={"mount": []}),
    "devices[0].containerEdits.intelRdt.enableCMT is not known": text(a={"intelRdt": {"enableCMT": True}}),
    "devices[0] has no name": {**text(), "devices": [{"containerEdits": EDIT}]},
    "devices[1]: a second device 'a'": {**text(), "devices": [{"name": "a", "containerEdits": EDIT}] * 2},
    "devices[0]: device 'a' has no containerEdits": text(a={"env": []}),
    "containerEdits is not an object": {**text(), "containerEdits": [EDIT]},
    "env[0] is not NAME=value: '=x'": text(a={"env": ["=x"]}),
    "env[0] is not NAME=value: 'x'": text(a={"env": ["x"]}),
    "deviceNodes[0] has no path": text(a={"deviceNodes": [{"hostPath": "/dev/null"}]}),
    "deviceNodes[0].path is empty": text(a={"deviceNodes": [{"path": ""}]}),
    "deviceNodes[0].type is 'x'": text(a={"deviceNodes": [{"path": "/dev/x", "type": "x"}]}),
    "deviceNodes[0].major is not a number from 0": text(a={"deviceNodes": [{"path": "/dev/x", "major": -1}]}),
    "deviceNodes[0].fileMode is not a number": text(a={"deviceNodes": [{"path": "/dev/x", "fileMode": True}]}),
    "deviceNodes[0].permissions is 'rx'": text(a={"deviceNodes": [{"path": "/dev/x", "permissions": "rx"}]}),
    "mounts[0] has no containerPath": text(a={"mounts": [{"hostPath": "/a"}]}),
    "hooks[0].hookName is 'onStart'": text(a={"hooks": [{"hookName": "onStart", "path": "/a"}]}),
    "hooks[0].path is empty": text(a={"hooks": [{"hookName": "poststop", "path": ""}]}),
    "hooks[0].env[0] is not NAME=value": text(a={"hooks": [{"hookName": "poststop", "path": "/a", "env": ["x"]}]}),
    "netDevices has one name twice": text(a={"netDevices": [{"hostInterfaceName": x, "name": "n"} for x in "ab"]}),
    "netDevices[0].name is empty": text(a={"netDevices": [{"hostInterfaceName": "a", "name": ""}]}),
    "closID is 'a/b'": text(a={"intelRdt": {"closID": "a/b"}}),
    "closID is '..'": text(a={"intelRdt": {"closID": ".."}}),
    "additionalGids[0] is not a number": text(a={"additionalGids": [1 << 32]}),
    "annotations has '-a/b'": {**text(), "annotations": {"-a/b": "c"}},
    "annotations has more than 262144 bytes": {**text(), "annotations": {"a": "b" * (1 << 18)}},
    "mounts[0].hostPath has a NUL": text(a={"mounts": [{"hostPath": "/a\0", "containerPath": "/b"}]}),
}


@pytest.mark.parametrize("message", INVALID)
def test_what_makes_a_file_invalid(message: str) -> None:
    with pytest.raises(ValueError) as caught:
        document.check(INVALID[message])
    assert message in str(caught.value)


def test_the_root_class_of_resctrl() -> None:
    document.check(text(a={"intelRdt": {"closID": "/"}}))


# Files.


def test_the_directory_that_comes_last_counts(site: Site) -> None:
    site.write("etc/a.json", text(_0={"env": ["FROM=etc"]}, _1={"env": ["FROM=etc"]}))
    site.write("run/b.json", text(_0={"env": ["FROM=run"]}))
    found = site.devices().resolve(["vendor.com/gpu=0", "vendor.com/gpu=1"])
    assert [each["edits"] for each in found] == [{"env": ["FROM=run"]}, {"env": ["FROM=etc"]}]
    assert found[0]["for"] == f"vendor.com/gpu=0 in {site.path}/run/b.json"


def test_two_files_of_a_directory_with_one_device(site: Site) -> None:
    site.write("etc/a.json", text(_0=EDIT, _1=EDIT))
    site.write("etc/b.json", text(_0=EDIT))
    devices = site.devices()
    assert devices.names() == ["vendor.com/gpu=1"]
    with pytest.raises(Error, match=f"{site.path}/etc/a.json and {site.path}/etc/b.json both have vendor.com/gpu=0"):
        devices.resolve(["vendor.com/gpu=0"])
    site.write("run/c.json", text(_0=EDIT))
    assert site.devices().names() == ["vendor.com/gpu=0", "vendor.com/gpu=1"]


def test_all_that_cannot_be_had_is_named_with_the_files_that_might_have_it(site: Site) -> None:
    site.write("etc/a.json", "{")
    site.write("etc/b.json", '{"kind": "a/b", "kind": "c/d"}')
    site.write("etc/c.json", "  \n")
    site.write("etc/d.json", text(_0=EDIT))
    site.write("etc/e.yml", "no")
    site.write("etc/spec.123.tmp", "no")
    (site.path / "etc/f.json").mkdir()
    with pytest.raises(Error) as caught:
        site.edited("vendor.com/gpu=0", "vendor.com/gpu=7", "x/y=z")
    message = caught.value.message
    assert message.startswith("unresolvable CDI devices vendor.com/gpu=7, x/y=z: ")
    assert "b.json: 'kind' is there twice in one object" in message
    assert "c.json: is empty" in message and "a.json: " in message and "f.json: is not a regular file" in message
    assert ".yml" not in message and ".tmp" not in message
    assert caught.value.hint == "there are: vendor.com/gpu=0"


@needs("root")
def test_a_file_that_others_could_have_written_does_not_count(site: Site) -> None:
    for name in ("link", "writable", "foreign"):
        site.write(f"etc/{name}.json", text(f"{name}/x", a=EDIT))
    target = (site.path / "etc/link.json").rename(site.path / "aside")
    (site.path / "etc/link.json").symlink_to(target)
    (site.path / "etc/writable.json").chmod(0o664)
    os.chown(site.path / "etc/foreign.json", 1234, 0)
    os.mkfifo(site.path / "etc/pipe.json")
    devices = site.devices()
    assert devices.names() == []
    said = {Path(path).stem: why for path, why in devices.unusable.items()}
    assert said["writable"] == said["foreign"] == "must belong to root and be writable only by its owner"
    assert "symbolic links" in said["link"] and said["pipe"] == "is not a regular file"
    site.write("etc/good.json", text(_0=EDIT))
    (site.path / "etc").chmod(0o777)
    devices = site.devices()
    assert devices.names() == [] and list(devices.unusable) == [f"{site.path}/etc"]


def test_directories_that_are_not_there(site: Site) -> None:
    assert Registry([f"{site.path}/no", f"{site.path}/no/such"]).names() == []


YAML = """---
cdiVersion: 0.6.0
kind: vendor.com/gpu
devices:
- name: 0
  containerEdits:
    deviceNodes:
    - {path: /dev/gpu0, type: c, major: 195, minor: 0, fileMode: 0666}
    env: [A=1]
"""


@needs_yaml
def test_yaml(site: Site) -> None:
    site.write("etc/a.yaml", YAML)
    (found,) = site.devices().resolve(["vendor.com/gpu=0"])
    node = {"path": "/dev/gpu0", "type": "c", "major": 195, "minor": 0, "fileMode": 0o666}
    assert found["edits"] == {"env": ["A=1"], "deviceNodes": [node]}


@needs_yaml
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "while parsing"),
        ("kind: a/b\nkind: c/d\n", "'kind' is there twice in one mapping, line 2"),
        ("a: {b: 1, b: 2}", "'b' is there twice"),
        (YAML + YAML, "single document"),
        ("!!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: &a [*a]", "is not known"),
        ("\x00", "characters"),
        ("kind: 2001-01-01", "kind is not a string"),
    ],
)
def test_yaml_that_is_not_taken(site: Site, content: str, message: str) -> None:
    site.write("etc/a.yaml", content)
    (why,) = site.devices().unusable.values()
    assert message in why


def test_yaml_without_a_library(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    site.write("etc/a.yaml", YAML)
    with pytest.raises(Error, match=r"a.yaml: is YAML, which needs PyYAML: pip install gosudacon\[cdi\]"):
        site.edited("vendor.com/gpu=0")


# Who asks.


def test_option_annotation_and_variable(site: Site) -> None:
    several: dict[str, Any] = {f"_{n}": {"env": [f"D{n}=1"]} for n in range(5)}
    site.settings["environment"] = {"GPUS": "vendor.com/gpu"}
    site.write("etc/a.json", text(**several, all={"env": ["ALL=1"]}))
    config = {
        "process": {"env": ["GPUS=3", "GPUS=all, vendor.com/gpu=4,0"]},
        "annotations": {"cdi.k8s.io/x_1": "vendor.com/gpu=1,vendor.com/gpu=2", "other": "vendor.com/gpu=9"},
    }
    found = site.edited("vendor.com/gpu=0", config=config)
    assert found["process"]["env"][2:] == ["D0=1", "D1=1", "D2=1", "ALL=1", "D4=1"]
    kept = json.loads(found["annotations"][record.ANNOTATION])
    assert kept["devices"] == [f"vendor.com/gpu={n}" for n in ("0", "1", "2", "all", "4")]


@pytest.mark.parametrize("value", ["", "void", "none"])
def test_a_variable_that_asks_for_nothing(site: Site, value: str) -> None:
    site.settings["environment"] = {"GPUS": "vendor.com/gpu"}
    config = {"process": {"env": [f"GPUS={value}"]}}
    assert site.edited(config=config) == config


def test_a_variable_that_the_administrator_has_not_named(site: Site) -> None:
    config = {"process": {"env": ["NVIDIA_VISIBLE_DEVICES=all"]}}
    assert site.edited(config=config) == config


@pytest.mark.parametrize(
    ("config", "where", "message"),
    [
        ({"annotations": {"cdi.k8s.io/a": "/dev/sda"}}, "annotations.cdi.k8s.io/a", "is a path, not the name"),
        ({"annotations": {"cdi.k8s.io/a": "v/c=../../x"}}, "annotations.cdi.k8s.io/a", "is not the name of a device"),
        ({"annotations": {"cdi.k8s.io/a": "v/c=0, v/c=1"}}, "annotations.cdi.k8s.io/a", "is not the name of a vendor"),
        ({"annotations": {"cdi.k8s.io/a": ""}}, "annotations.cdi.k8s.io/a", "is not the name of a CDI device"),
        ({"annotations": {"cdi.k8s.io/a": "x.org/y=0"}}, "annotations.cdi.k8s.io/a", "may not ask for x.org/y"),
        ({"process": {"env": ["B=1", "GPUS=x.org/y=0"]}}, "process.env[1]", "kind vendor.com/gpu only"),
        ({"process": {"env": ["GPUS=/dev/x"]}}, "process.env[0]", "is not the name of a device"),
    ],
)
def test_requests_that_are_refused(site: Site, config: Any, where: str, message: str) -> None:
    site.settings |= {"environment": {"GPUS": "vendor.com/gpu"}, "annotations": ["v/*", "vendor.com/gpu"]}
    with pytest.raises(ConfigError) as caught:
        site.edited(config=config)
    assert caught.value.where == where and message in caught.value.message


@pytest.mark.parametrize(
    "config", [{"annotations": []}, {"annotations": {"cdi.k8s.io/a": 1}}, {"process": [], "linux": 1}]
)
def test_a_configuration_that_is_not_valid_is_left_to_the_validator(site: Site, config: Any) -> None:
    site.settings["environment"] = {"GPUS": "vendor.com/gpu"}
    assert site.edited(config=config) == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"directory": "/x"}, "directory is not a setting"),
        ({"directories": "/x"}, "directories must be a list of strings"),
        ({"directories": ["x"]}, "directories must be absolute paths"),
        ({"annotations": ["nvidia"]}, "annotations: 'nvidia' is not the kind"),
        ({"environment": ["X"]}, "environment must be a table"),
        ({"environment": {"X": "y"}}, "environment: 'y' is not the kind"),
        ({"idmap": 1}, "idmap must be true or false"),
    ],
)
def test_settings_that_are_wrong(settings: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Settings(settings)


# What comes of it.


def edits(site: Site, config: Any = None, host: Host | None = None, **edits: Any) -> Any:
    """What one device with these edits makes of a configuration, without the record of it."""
    site.write("etc/a.json", text(a=edits))
    found = site.edited("vendor.com/gpu=a", config=config, host=host)
    del found["annotations"][record.ANNOTATION]
    return {name: value for name, value in found.items() if value}


def test_the_host_says_what_a_node_is(site: Site) -> None:
    found = edits(site, deviceNodes=[NODE])["linux"]
    assert found == {
        "devices": [{"path": "/dev/gpu0", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}],
        "resources": {"devices": [{"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"}]},
    }


def test_nodes(site: Site) -> None:
    os.mkfifo(site.path / "pipe", 0o600)
    nodes = [
        {"path": "/dev/a", "type": "b", "major": 7, "minor": 1, "permissions": "r", "uid": 0, "gid": 5},
        {"path": "/dev/b", "hostPath": "/dev/zero", "permissions": "none", "fileMode": 0o600},
        {"path": "/dev/c", "hostPath": f"{site.path}/pipe"},
        {"path": "/dev/d", "hostPath": "/no/such", "type": "u", "major": 9},
    ]
    found = edits(site, {"process": {"user": {"uid": 1000, "gid": 0}}}, deviceNodes=nodes)["linux"]
    assert found["devices"] == [
        {"path": "/dev/a", "type": "b", "major": 7, "minor": 1, "uid": 0, "gid": 5},
        {"path": "/dev/b", "type": "c", "major": 1, "minor": 5, "fileMode": 0o600, "uid": 1000},
        {"path": "/dev/c", "type": "p", "fileMode": 0o600, "uid": 1000},
        {"path": "/dev/d", "type": "u", "major": 9, "minor": 0, "uid": 1000},
    ]
    rules = [(rule["type"], rule["major"], rule["access"]) for rule in found["resources"]["devices"]]
    assert rules == [("b", 7, "r"), ("c", 9, "rwm")]


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (
            {"path": "/no/such"},
            "cannot look at /no/such: lstat /no/such: no such file|cannot look at /no/such: /no/such",
        ),
        ({"path": "/dev/x", "hostPath": "/etc/passwd"}, "/etc/passwd is not a device node"),
        ({"path": "/dev/stdin"}, "/dev/stdin is not a device node"),  # a link
        ({"path": "/dev/null", "type": "b"}, "/dev/null is a device of type c, and the file says b"),
    ],
)
def test_nodes_that_the_host_does_not_have(site: Site, node: Any, message: str) -> None:
    with pytest.raises(Error, match=message):
        edits(site, deviceNodes=[node])


def test_mounts_replace_and_are_sorted_by_depth(site: Site) -> None:
    config = {"mounts": [{"destination": path, "source": "x"} for path in ("/a/b/c", "/proc", "/a//b/", "/dev/shm")]}
    mounts = [
        {"hostPath": "/h", "containerPath": "/a/b", "options": ["ro", "bind"]},
        {"hostPath": "/i", "containerPath": "/x"},
    ]
    found = edits(site, config, mounts=mounts)["mounts"]
    assert [mount["destination"] for mount in found] == ["/proc", "/x", "/dev/shm", "/a/b", "/a/b/c"]
    assert found[3] == {"destination": "/a/b", "source": "/h", "options": ["ro", "bind"]}
    assert found[1] == {"destination": "/x", "source": "/i", "type": "bind", "options": ["rbind"]}


def test_without_mounts_nothing_is_sorted(site: Site) -> None:
    config = {"mounts": [{"destination": "/a/b"}, {"destination": "/c"}]}
    assert edits(site, config, env=["A=1"])["mounts"] == config["mounts"]


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({"options": ["rbind", "ro"]}, ["rbind", "ro", "ridmap"]),
        ({"options": ["bind"]}, ["bind", "idmap"]),
        ({"options": ["bind", "idmap=uids=0-1-1"]}, ["bind", "idmap=uids=0-1-1"]),
        ({"type": "tmpfs", "options": ["size=1k"]}, ["size=1k"]),
    ],
)
def test_binds_in_a_user_namespace_are_mapped(site: Site, given: Any, options: list[str]) -> None:
    config = {"linux": {"namespaces": [{"type": "user"}]}}
    mount = {"hostPath": "/h", "containerPath": "/c", **given}
    assert edits(site, config, mounts=[mount])["mounts"][0]["options"] == options
    for host in (Host(euid=1000), Host(initial_userns=False)):  # who may not map them
        assert edits(site, config, host, mounts=[mount])["mounts"][0]["options"] == given["options"]
    site.settings["idmap"] = False
    assert edits(site, config, mounts=[mount])["mounts"][0]["options"] == given["options"]


def test_the_rest(site: Site) -> None:
    hook = {"hookName": "createContainer", "path": "/bin/x", "args": ["x"], "env": ["A=1"], "timeout": 3}
    config = {"process": {"env": ["PATH=/", "A=old"], "user": {"additionalGids": [5]}}}
    found = edits(
        site,
        config,
        env=["A=new=1", "B="],
        hooks=[hook],
        intelRdt={"closID": "gold", "enableMonitoring": True},
        netDevices=[{"hostInterfaceName": "eth7", "name": "eth0"}],
        additionalGids=[0, 5, 6],
    )
    assert found["process"] == {"env": ["PATH=/", "A=new=1", "B="], "user": {"additionalGids": [5, 6]}}
    assert found["hooks"] == {"createContainer": [{name: hook[name] for name in hook if name != "hookName"}]}
    assert found["linux"] == {
        "intelRdt": {"closID": "gold", "enableMonitoring": True},
        "netDevices": {"eth7": {"name": "eth0"}},
    }


def test_a_file_s_own_edits_come_once_and_first(site: Site) -> None:
    site.write(
        "etc/a.json",
        {**text(_0={"env": ["X=0"]}, _1={"env": ["X=1"]}), "containerEdits": {"env": ["X=file", "Y=file"]}},
    )
    found = site.edited("vendor.com/gpu=1", "vendor.com/gpu=0")
    assert found["process"]["env"] == ["X=0", "Y=file"]


def test_the_last_class_of_service_counts(site: Site) -> None:
    site.write(
        "etc/a.json", text(a={"intelRdt": {"closID": "a", "l3CacheSchema": "x"}}, b={"intelRdt": {"closID": "b"}})
    )
    assert site.edited("vendor.com/gpu=a", "vendor.com/gpu=b")["linux"] == {"intelRdt": {"closID": "b"}}


@pytest.mark.parametrize(
    ("there", "message"),
    [
        ({"eth7": {"name": "eth1"}}, "eth7 is to be eth1 and, by a CDI device, eth0"),
        ({"eth3": {"name": "eth0"}}, "eth3 and, by a CDI device, eth7 are both to be eth0"),
        ({"eth0": {}}, "eth0 and, by a CDI device, eth7 are both to be eth0"),
    ],
)
def test_net_devices_in_each_other_s_way(site: Site, there: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        edits(site, {"linux": {"netDevices": there}}, netDevices=[{"hostInterfaceName": "eth7", "name": "eth0"}])


ALL: dict[str, Any] = {
    "env": ["A=1"],
    "deviceNodes": [NODE, {"path": "/dev/p", "type": "p"}],
    "mounts": [{"hostPath": "/h", "containerPath": "/c/d", "options": ["bind"]}],
    "hooks": [{"hookName": "poststop", "path": "/x"}],
    "netDevices": [{"hostInterfaceName": "a", "name": "b"}],
    "intelRdt": {"closID": "a"},
    "additionalGids": [7],
}


def test_what_an_engine_has_put_there_is_not_put_there_twice(site: Site) -> None:
    config = {"mounts": [{"destination": "/x/y/z"}, {"destination": "/a"}]}
    once = edits(site, config, **ALL)
    assert edits(site, once, **ALL) == once
    for device in once["linux"]["devices"]:
        device["uid"] = 99  # the owner on that host
    once["hooks"]["poststop"][0].update(args=[], timeout=0)
    once["mounts"].reverse()
    assert edits(site, once, **ALL) == once


def test_explain_says_for_which_device(site: Site) -> None:
    from functools import partial

    from gosudacon.pipeline.edit import Changes

    site.write(
        "etc/a.json",
        {**text(_0={"env": ["X=0"]}), "containerEdits": {"hooks": [{"hookName": "poststop", "path": "/x"}]}},
    )
    made = Spec(freeze({}), "web", "/b", Options(device=["vendor.com/gpu=0"]))
    host = Host(facts={"cdi": freeze(cdi.gosudacon_gather_facts(made, site.settings))})
    edit, changes = cdi.gosudacon_edit_spec(made, host), Changes()
    assert edit is not None
    edit.applied(made.config, partial(changes.note, "cdi"))
    said: Changes = changes
    path = f"{site.path}/etc/a.json"
    assert [str(change) for change in said][:2] == [
        f"plugin 'cdi' added process.env[0] for vendor.com/gpu=0 in {path}",
        f"plugin 'cdi' added hooks.poststop[0] for vendor.com/gpu in {path}",
    ]
    assert said[0].to_json()["for"] == f"vendor.com/gpu=0 in {path}"


# Later processes.


def test_a_process_of_exec_gets_variables_and_groups_without_a_file(site: Site) -> None:
    kept = site_config = {"process": {"env": ["A=1", "Z=1"], "user": {"additionalGids": [7, 8]}}}
    text = json.dumps({"devices": ["v/c=0"], "env": ["A=1", "EVIL=1"], "gids": [7, 0, 9]})
    config = {"process": {"env": ["P=1"]}, "annotations": {record.ANNOTATION: text}}
    found = site.edited(config=config, operation=EXEC, target=Target(process=site_config["process"]))  # type: ignore[arg-type]
    assert found["process"] == {"env": ["P=1", "A=1"], "user": {"additionalGids": [7]}}
    assert kept["process"]["env"] == ["A=1", "Z=1"]


@pytest.mark.parametrize("value", ["", "{", "[]", '{"env": 1, "gids": "x"}', '{"env": [1]}'])
def test_a_record_that_is_none(site: Site, value: str) -> None:
    config = {"process": {"env": ["P=1"]}, "annotations": {record.ANNOTATION: value}}
    assert site.edited(config=config, operation=EXEC, target=Target())["process"] == {"env": ["P=1"]}


def test_a_bundle_s_own_record_is_taken_away(site: Site) -> None:
    config = {"annotations": {record.ANNOTATION: "{}", "a": "b"}}
    assert site.edited(config=config) == {"annotations": {"a": "b"}}


def test_without_a_request_no_file_is_read(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "read", lambda path: pytest.fail("read"))
    assert site.edited(config={"process": {"env": ["A=1"]}}) == {"process": {"env": ["A=1"]}}


# What is kept.


@needs("root")
def test_a_file_is_read_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "DIRECTORY", f"{site.path}/cache/cdi")
    read: list[str] = []

    def parsed(name: str, text: str) -> object:
        read.append(name)
        return json.loads(text)

    monkeypatch.setattr(files, "_parsed", parsed)
    file = site.write("etc/a.json", text(_0=EDIT))
    site.write("etc/b.json", "{")
    assert site.devices().names() == ["vendor.com/gpu=0"]
    assert not (site.path / "cache").exists()  # it may change within the same moment
    monkeypatch.setattr(cache, "_SETTLED", -1)
    for _ in range(3):
        assert site.devices().resolve(["vendor.com/gpu=0"])[0]["edits"] == EDIT
    assert read.count("a.json") == 2 and read.count("b.json") == 4  # what is invalid is looked at each time
    (kept,) = (site.path / "cache/cdi").iterdir()
    site.write("etc/a.json", text(_1=EDIT))
    assert site.devices().names() == ["vendor.com/gpu=1"]
    file.unlink()
    assert site.devices().names() == []
    assert json.loads(kept.read_text())["files"] == {}


@needs("root")
@pytest.mark.parametrize("spoilt", ["{", "[]", '{"format": 1}', "", None])
def test_a_cache_that_is_not_ours(site: Site, monkeypatch: pytest.MonkeyPatch, spoilt: str | None) -> None:
    monkeypatch.setattr(cache, "DIRECTORY", f"{site.path}/cache/cdi")
    monkeypatch.setattr(cache, "_SETTLED", -1)
    site.write("etc/a.json", text(_0=EDIT))
    assert site.devices().names() == ["vendor.com/gpu=0"]
    (kept,) = (site.path / "cache/cdi").iterdir()
    if spoilt is None:
        kept.write_text(kept.read_text().replace("vendor.com", "evil.com"))
        kept.chmod(0o666)
    else:
        kept.write_text(spoilt)
    assert site.devices().names() == ["vendor.com/gpu=0"]


def test_a_container_without_devices_costs_little() -> None:
    """Enabled, the plugin imports what looks for a request, and no parser."""
    heavy = ("yaml", "json", "re", "os", "ctypes", "gosudacon.plugins.cdi.files", "gosudacon.plugins.cdi.injection")
    script = f"""
import sys
sys.path.insert(0, {str(CHECKOUT)!r})
from gosudacon.api import Host, Spec
from gosudacon.plugins import cdi
spec = Spec({{"process": {{"env": ["A=1"]}}, "annotations": {{"a": "b"}}}}, "web", "/srv/web")
assert cdi.gosudacon_gather_facts(spec, {{}}) is None
assert cdi.gosudacon_edit_spec(spec, Host()) is None
print([name for name in {heavy!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-ISB", "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
