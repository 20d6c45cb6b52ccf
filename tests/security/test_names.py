"""G14 and G11: names that become paths of the host, and kernel parameters that are not the container's.

An identifier, a cgroup, a file in it: nothing is made, written or removed but where it belongs (as CVE-2022-0811).
"""

from __future__ import annotations

import copy
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PARENT
from tests.support import cgroups
from tests.support.bundle import Bundle
from tests.support.runtime import Runtime, messages

NO_NAMES = [
    *("", ".", "..", "../x", "a/b", "/", "/abs", "a/../b", "new\nline", "a\tb", "sp ace", "a\\b", "ü", "\x7f", "a:b"),
    *("a*", "$(id)", "~", "@x", "a%2fb", "x" * 256, "x" * 5000),
]


@pytest.fixture(autouse=True)
def _nothing_made(scratch: Path, leftovers: object) -> Iterator[None]:
    """Nothing appears beside the bundle and the state directory, however many ``..`` there are."""
    yield
    assert set(os.listdir(scratch)) <= {"b1", "b2", "root"}
    assert not any("escape" in os.listdir(path) for path in ("/", "/tmp"))


def test_what_is_no_id_is_refused_by_every_command(runtime: Runtime, bundle: Bundle) -> None:
    runtime.root.mkdir()
    for name in NO_NAMES:
        for command in ("create", "run"):
            result = runtime.call(command, "--bundle", bundle.path, "--", name, check=False)
            assert result.returncode == 1 and len(messages(result.stderr)) == 1, (command, name)
    for name in NO_NAMES[:8]:
        for words in (["start"], ["state"], ["kill"], ["delete"], ["delete", "--force"]):
            assert runtime.call(*words, "--", name, check=False).returncode == 1, (words, name)
    assert os.listdir(runtime.root) == []


@pytest.mark.parametrize("name", ["a\0b", "\0"])
def test_nul_in_an_argument_cannot_be(runtime: Runtime, name: str) -> None:
    with pytest.raises(ValueError, match="null byte"):
        runtime.call("state", name)


def test_odd_ids_are_ids(runtime: Runtime, bundle: Bundle) -> None:
    """Behind ``--`` nothing is an option; longer than a socket's path may be works, too."""
    for name in ("-", "-x", "--", "--force", "-1", "+x", "_", "a.b", "...", "x" * 255):
        words = ("--bundle", bundle.path, "--", name)
        try:
            runtime.call("create", *words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            assert os.listdir(runtime.root) == [name]
        finally:
            runtime.call("delete", "--force", "--", name)
        assert os.listdir(runtime.root) == []


def test_a_link_in_the_state_directory_leads_nowhere(runtime: Runtime, bundle: Bundle, scratch: Path) -> None:
    """Nor does a directory of another's: what is not ours is not removed."""
    other = scratch / "b2"
    other.mkdir()
    (other / "keep").touch()
    runtime.root.mkdir()
    (runtime.root / "link").symlink_to(other)
    for words in (["create", "--bundle", bundle.path], ["state"], ["start"], ["kill"], ["delete"], ["delete", "-f"]):
        result = runtime.call(*words, "link", check=False)
        assert result.returncode == 1, words
    assert os.listdir(other) == ["keep"]
    (runtime.root / "link").unlink()


# Cgroups.


ESCAPES = [
    "../../../../../../../../tmp/escape",
    "/../../../../../../../../tmp/escape",
    "a/../../../../../../../../tmp/escape",
    f"/{PARENT}/../../../../../../../tmp/escape",
    "..",
    "/..",
    "a/..",
    ".",
    "/",
    "//",
    "/./.",
    "a\nb",
    "a\0b",
    "/" + "x" * 256,
    "/" + "x/" * 2500,
]


@pytest.mark.vm
def test_a_cgroup_that_escapes(runtime: Runtime, bundle: Bundle) -> None:
    tops = {path.lstrip("/").partition("/")[0] for path in ESCAPES} - {"", ".", "..", PARENT}
    for path in ESCAPES:
        refused(runtime, bundle.set("linux.cgroupsPath", path))
        assert not Path("/tmp/escape").exists()
    for item in cgroups.hierarchies():
        assert not {*tops, "escape", "tmp"} & set(os.listdir(item.mountpoint))


NO_FILES = ["../cgroup.procs", "../../memory.max", "/memory.max", "a/b", ".", "..", "", "memory.max/", "memory\nmax"]


@pytest.mark.vm
def test_a_file_outside_of_the_cgroup(runtime: Runtime, bundle: Bundle) -> None:
    """An error also where there is no unified hierarchy with controllers."""
    for key in NO_FILES:
        refused(runtime, bundle.set("linux.resources", {"unified": {key: "1"}}))


NO_RESOURCES: list[dict[str, Any]] = [
    *({"hugepageLimits": [{"pageSize": size, "limit": 0}]} for size in ("../2MB", "2MB/", "2MB\n", "", "2mb", "2.MB")),
    *({"rdma": {name: {"hcaHandles": 1}}} for name in ("../x", "a b", "", "a\nb hca_object=1", "a\0")),
    *({"network": {"priorities": [{"name": name, "priority": 1}]}} for name in ("../x", "a b", "", "a\n1", "x" * 16)),
    {"cpu": {"cpus": "0\n1"}},
    {"cpu": {"cpus": "../0"}},
    {"cpu": {"mems": "0;0"}},
    {"devices": [{"allow": True, "type": "a\nb", "access": "r"}]},
    {"memory": {"limit": 1 << 63}},
    {"memory": {"limit": -(1 << 64)}},
    {"pids": {"limit": 1 << 80}},
    {"cpu": {"shares": 1 << 70}},
]


@pytest.mark.vm
def test_a_resource_that_is_none(runtime: Runtime, bundle: Bundle) -> None:
    for resources in NO_RESOURCES:
        refused(runtime, bundle.set("linux.resources", resources))


def refused(runtime: Runtime, bundle: Bundle) -> str:
    """The one line of the message; nothing has run."""
    bundle.set("process.args", ["echo", "started"])
    result = runtime.run(bundle)
    assert (result.returncode, result.stdout, len(messages(result.stderr))) == (1, "", 1), (
        bundle.config["linux"],
        result,
    )
    assert not runtime.root.exists() or os.listdir(runtime.root) == []
    return result.stderr


# Other names.


OTHERS: list[tuple[str, Any]] = [
    ("hostname", "x" * 65),
    ("hostname", "a\0b"),
    ("domainname", "x" * 65),
    ("linux.intelRdt", {"closID": "../../x"}),
    ("linux.intelRdt", {"closID": "a/b"}),
    ("linux.netDevices", {"../x": {}}),
    ("linux.netDevices", {"lo": {"name": "a/b"}}),
    ("linux.netDevices", {"lo": {"name": "x" * 16}}),
    ("linux.devices", [{"path": "/dev/x\0y", "type": "c", "major": 1, "minor": 3}]),
    ("linux.devices", [{"path": "/dev/x", "type": "c", "major": 1 << 32, "minor": 3}]),
    ("linux.devices", [{"path": "/dev/x", "type": "c", "major": 1, "minor": 1 << 20 << 12}]),
    ("linux.mountLabel", 'a,b"c'),
    ("linux.rootfsPropagation", "shared,private"),
    ("linux.maskedPaths", ["/proc/a\0b"]),
    ("root.path", "rootfs\0/x"),
    ("process.cwd", "relative"),
    ("process.cwd", "/a\0b"),
    ("process.args", ["a\0b"]),
    ("process.env", ["A=b\0c"]),
    ("process.args", []),
    ("process.args", [""]),
]


def test_other_names(runtime: Runtime, bundle: Bundle) -> None:
    good = copy.deepcopy(bundle.config)
    for key, value in OTHERS:
        bundle.config = copy.deepcopy(good)
        bundle.set("process.args", ["echo", "started"]).set(key, value)
        result = runtime.run(bundle)
        assert (result.returncode, result.stdout, len(messages(result.stderr))) == (1, "", 1), (key, value, result)


# G11: kernel parameters.

HOSTS = [
    "kernel.core_pattern",
    "kernel/core_pattern",
    "net/../kernel/hostname",
    "net.../../kernel.hostname",
    "net/../kernel/core_pattern",
    "net.ipv4/../../kernel/core_pattern",
    "kernel/shm_rmid_forced/../core_pattern",
    "fs.mqueue/../../kernel/core_pattern",
    "fs/mqueue/../../kernel/core_pattern",
    "net//kernel",
    "net.",
    ".net",
    "/net/ipv4/ip_forward",
    "net/./ipv4/ip_forward",
    "../proc/sysrq-trigger",
    "net/../../sysrq-trigger",
    "kernel.sysrq",
    "kernel.shm",
    "kernel.shmmax.x",
    "vm.overcommit_memory",
    "fs.file-max",
    "fs.mqueuex",
    "dev.tty.legacy_tiocsti",
    "user.max_user_namespaces",
    "kernel.hostname",
    "netx.y",
    "",
    ".",
    "net.ipv4.ip_forward=1\nkernel.core_pattern",
    "net.a\0b",
]


def test_g11_a_parameter_that_is_the_host_s(runtime: Runtime, bundle: Bundle) -> None:
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    for key in HOSTS:
        refused(runtime, bundle.set("linux.sysctl", {key: "1"}))
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


@pytest.mark.parametrize("value", ["1\n2", "1\0", "1+kernel.core_pattern=|/evil\nx"])
def test_g11_a_value_is_one_line(runtime: Runtime, bundle: Bundle, value: str) -> None:
    refused(runtime, bundle.set("linux.sysctl", {"net.ipv4.ip_forward": value}))


@pytest.mark.parametrize(
    ("key", "kind"), [("net.ipv4.ip_forward", "network"), ("kernel.msgmax", "ipc"), ("kernel.domainname", "uts")]
)
def test_g11_a_parameter_needs_its_namespace(runtime: Runtime, bundle: Bundle, key: str, kind: str) -> None:
    """A new one, or at least one that is not the host's."""
    bundle.set("linux.sysctl", {key: "1"}).remove("hostname")
    refused(runtime, bundle.drop_namespace(kind))
    if kind == "network":
        refused(runtime, bundle.add_namespace(kind, "/proc/self/ns/net"))
