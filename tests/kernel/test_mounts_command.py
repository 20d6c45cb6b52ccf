"""``mounts add`` and ``mounts remove``: in a container that runs, by a process that enters it."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.support import namespaces
from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import Completed, Runtime

pytestmark = needs("runtime:gosudacon")

SHARED = 1 << 20


def mount(destination: str, kind: str, source: str, *options: str, **more: Any) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": list(options), **more}


def change(runtime: Runtime, verb: str, bundle: Bundle, *mounts: dict[str, Any], check: bool = True) -> Completed:
    return runtime.call("mounts", verb, bundle.id, "-", stdin=json.dumps(mounts), check=check)


def mounted(runtime: Runtime, bundle: Bundle) -> dict[str, str]:
    """Mount point -> flags, as the container has them."""
    lines = Path(f"/proc/{runtime.pid(bundle)}/mountinfo").read_text().splitlines()
    return {line.split()[4]: line.split()[5] for line in lines}


def recorded(runtime: Runtime, bundle: Bundle) -> list[str]:
    state = json.loads((runtime.root / bundle.id / "state.json").read_text())
    return [each["destination"] for each in state.get("added_mounts", [])]


@pytest.mark.parametrize("users", [False, True], ids=["", "user namespace"])
@pytest.mark.parametrize("started", [False, True], ids=["created", "running"])
def test_what_is_added_can_be_removed(runtime: Runtime, bundle: Bundle, users: bool, started: bool) -> None:
    (bundle.path / "data").mkdir()
    (bundle.path / "data/file").write_text("text\n")
    bundle.rootfs.chmod(0o777)
    if users:
        bundle.map_users()
        bundle.config["mounts"] = [each for each in bundle.config["mounts"] if each["type"] != "devpts"]
        bundle.write()
    (runtime.boot if started else runtime.create)(bundle)
    before, host = mounted(runtime, bundle), Path("/proc/self/mountinfo").read_text()
    entries = [
        mount("/made/data", "bind", str(bundle.path / "data"), "rbind", "ro", "nosuid"),
        mount("/made/file", "bind", "data/file", "bind"),
        mount("/made/t", "tmpfs", "tmpfs", "size=8k", "mode=700", "noexec"),
        mount("/made/q", "mqueue", "mqueue"),
        mount("/made/t/again", "bind", str(bundle.rootfs / "made/data"), "bind"),
    ]
    change(runtime, "add", bundle, *entries)
    after = mounted(runtime, bundle)
    assert {*after} - {*before} == {each["destination"] for each in entries}
    assert after["/made/data"].startswith("ro,nosuid") and "noexec" in after["/made/t"]
    assert recorded(runtime, bundle) == [each["destination"] for each in entries]
    assert Path("/proc/self/mountinfo").read_text() == host
    root = Path(f"/proc/{runtime.pid(bundle)}/root")
    assert (root / "made/t/again/file").read_text() == "text\n"
    owner = 100000 if users else 0
    assert {os.stat(root / name).st_uid for name in ("made", "made/t", "made/q")} == {owner}
    assert stat.S_IMODE(os.stat(root / "made/t").st_mode) == 0o700
    change(runtime, "remove", bundle, *entries)
    assert mounted(runtime, bundle) == before and recorded(runtime, bundle) == []
    runtime.delete(bundle, "--force")


def test_all_or_none(runtime: Runtime, bundle: Bundle) -> None:
    runtime.boot(bundle)
    before = mounted(runtime, bundle)
    good = mount("/made/one", "tmpfs", "tmpfs")
    for bad in (mount("/etc/passwd/x", "tmpfs", "t"), mount("/made/two", "bind", "/no/where", "bind")):
        result = change(runtime, "add", bundle, good, bad, check=False)
        assert result.returncode == 1 and bad["destination"] in result.stderr
        assert mounted(runtime, bundle) == before and recorded(runtime, bundle) == []


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (mount("/proc/sys", "tmpfs", "t"), "inside /proc"),
        (mount("/p", "proc", "proc"), "can get bind mounts"),
        (mount("/o", "overlay", "overlay"), "can get bind mounts"),
        (mount("/c", "cgroup", "cgroup"), "can get bind mounts"),
        (mount("/", "tmpfs", "t"), "only create"),
        (mount("/dev", "tmpfs", "t", "remount", "ro"), "only create"),
        (mount("/x", "bind", "/tmp", "bind", "size=1"), "filesystem-specific"),
        ({"destination": 1}, "want an object"),
        ({"destination": "/x", "options": [1]}, "want an object"),
        ({"destination": "/x", "type": "t\0"}, "want an object"),
        (mount("/x", "bind", "/tmp", "bind", uidMappings=[{"containerID": -1}]), "want an object"),
    ],
)
def test_what_cannot_be_added(runtime: Runtime, bundle: Bundle, entry: dict[str, Any], text: str) -> None:
    runtime.boot(bundle)
    before = mounted(runtime, bundle)
    result = change(runtime, "add", bundle, entry, check=False)
    assert result.returncode == 1 and text in result.stderr
    assert mounted(runtime, bundle) == before


@pytest.mark.parametrize("destination", ["/", "/etc", "/no/where", "/usr/.."])
def test_what_cannot_be_removed(runtime: Runtime, bundle: Bundle, destination: str) -> None:
    runtime.boot(bundle)
    before = mounted(runtime, bundle)
    result = change(runtime, "remove", bundle, {"destination": destination}, check=False)
    assert (result.returncode == 1 and "unmounted" in result.stderr) or destination in result.stderr
    assert mounted(runtime, bundle) == before


def test_the_host_s_mounts_stay(runtime: Runtime, bundle: Bundle) -> None:
    """Neither does a mount appear at a place that is shared with the host, nor does an unmount take one along."""
    (bundle.path / "data/sub").mkdir(parents=True)
    (bundle.path / "data/in").mkdir()
    data = str(bundle.path / "data")
    namespaces.mount(data, data, "none", 0x1000)
    namespaces.mount("none", data, "none", SHARED)
    namespaces.mount("mine", f"{data}/sub", "tmpfs")
    try:
        bundle.set("linux.rootfsPropagation", "rshared")
        bundle.add_mount("/mnt", "bind", data, "rbind", "rshared")
        runtime.boot(bundle)
        host = Path("/proc/self/mountinfo").read_text()
        result = change(runtime, "add", bundle, mount("/mnt/in/new", "tmpfs", "t"), check=False)
        assert result.returncode == 1 and "would appear on the host" in result.stderr
        change(runtime, "add", bundle, mount("/made", "bind", data, "rbind", "rshared"))
        change(runtime, "remove", bundle, {"destination": "/made"}, {"destination": "/mnt"})
        assert Path("/proc/self/mountinfo").read_text() == host
        assert "/mnt" not in mounted(runtime, bundle)
        runtime.delete(bundle, "--force")
    finally:
        namespaces.unmount(f"{data}/sub")
        namespaces.unmount(data)


def test_the_container_s_proc_is_not_trusted(runtime: Runtime, bundle: Bundle) -> None:
    """A /proc that the container has put together leads nothing astray."""
    bundle.set("process.args", ["sh", "-c", "umount -l /proc; mkdir -p /proc/self/fd; exec sleep 1000"])
    for kind in ("bounding", "effective", "permitted"):
        bundle.config["process"]["capabilities"][kind].append("CAP_SYS_ADMIN")
    bundle.update({"linux": {"maskedPaths": [], "readonlyPaths": []}})
    runtime.boot(bundle)
    change(runtime, "add", bundle, mount("/made/t", "tmpfs", "t"), mount("/made/b", "bind", "/tmp", "bind", "ro"))
    change(runtime, "remove", bundle, {"destination": "/made/b"}, {"destination": "/made/t"})
    assert not [point for point in mounted(runtime, bundle) if point.startswith("/made")]


@pytest.mark.parametrize("state", ["absent", "stopped", "no mount namespace"])
def test_of_other_containers(runtime: Runtime, bundle: Bundle, state: str) -> None:
    if state == "no mount namespace":
        bundle.drop_namespace("mount")
        bundle.update({"mounts": [], "linux": {"maskedPaths": [], "readonlyPaths": []}})
    if state != "absent":
        pid = runtime.boot(bundle)
    if state == "stopped":
        runtime.kill(bundle, "KILL")
        runtime.wait(pid)
    result = change(runtime, "add", bundle, mount("/x", "tmpfs", "t"), check=False)
    expected = {"absent": "does not exist", "stopped": "not running", "no mount namespace": "no mount namespace"}[state]
    assert result.returncode == 1 and expected in result.stderr


@pytest.mark.parametrize(
    ("text", "expected"), [("", "invalid mounts"), ("[]", "not a JSON array"), ('{"mounts": 1}', "not a JSON array")]
)
def test_files(runtime: Runtime, bundle: Bundle, text: str, expected: str) -> None:
    result = runtime.call("mounts", "add", bundle.id, "-", stdin=text, check=False)
    assert result.returncode == 1 and expected in result.stderr


def test_explain(runtime: Runtime, bundle: Bundle) -> None:
    """What it shows is what is added."""
    path = bundle.path / "mounts.json"
    path.write_text(json.dumps({"mounts": [mount("/made/t", "tmpfs", "tmpfs"), mount("/b", "bind", "/tmp", "bind")]}))
    found = json.loads(runtime.call("explain", "--mounts", path, "--format", "json", bundle.path).stdout)
    lines = [step["what"] for step in found["steps"]]
    assert "mount tmpfs on /made/t" in lines and "mount /tmp on /b (bind)" in lines and lines[-1] == "end the process"
    path.write_text(json.dumps([mount("/proc/x", "tmpfs", "tmpfs")]))
    refused = runtime.call("explain", "--mounts", path, bundle.path, check=False)
    assert refused.returncode == 1 and "mounts[0].destination" in refused.stderr
