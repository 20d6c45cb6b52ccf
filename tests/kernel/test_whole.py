"""A whole container on every cgroup layout: what it may use, who it is, what it sees.

All of these also run in the machine of tests/vm, which has cgroup v2 alone and a filesystem for idmapped mounts.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import cgroups
from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import Runtime
from tests.support.timing import eventually

pytestmark = pytest.mark.vm

Bundles = Callable[..., Bundle]
MIB = 1 << 20


def limits(**resources: dict[str, Any]) -> dict[str, Any]:
    """Changes to a configuration: these resources."""
    return {"linux": {"resources": resources}}


# Resources.


@pytest.mark.vm_systemd
def test_the_process_is_in_its_cgroup_everywhere(runtime: Runtime, bundle: Bundle) -> None:
    pid = runtime.boot(bundle)
    for controllers, path in cgroups.of_process(pid).items():
        if cgroups.mode() == "v2" or controllers in ("memory", "devices", "pids", "freezer"):
            assert path == bundle.cgroups_path, controllers


def test_memory_limit(runtime: Runtime, make_bundle: Bundles) -> None:
    bundle = make_bundle(changes=limits(memory={"limit": 64 * MIB, "reservation": 32 * MIB}))
    runtime.boot(bundle)
    path = bundle.cgroups_path
    assert cgroups.read("memory", path, "memory.limit_in_bytes", "memory.max") == str(64 * MIB)
    assert cgroups.read("memory", path, "memory.soft_limit_in_bytes", "memory.low") == str(32 * MIB)


def test_too_much_memory_kills(runtime: Runtime, make_bundle: Bundles) -> None:
    bundle = make_bundle(["dd", "if=/dev/zero", "of=/dev/null", "bs=96M", "count=1"])
    bundle.update(limits(memory={"limit": 16 * MIB}))
    assert runtime.run(bundle).returncode == 137


def test_processor_limits(runtime: Runtime, make_bundle: Bundles) -> None:
    bundle = make_bundle(changes=limits(cpu={"shares": 512, "quota": 20000, "period": 50000}))
    runtime.boot(bundle)
    path = bundle.cgroups_path
    if cgroups.mode() == "v2":
        assert cgroups.read("cpu", path, "", "cpu.max") == "20000 50000"
        # runc's formula of today, and the linear one it had before 1.3.2
        assert cgroups.read("cpu", path, "", "cpu.weight") in ("59", "20")
    else:
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.shares")
        assert [cgroups.read("cpu", path, name, "") for name in names] == ["20000", "50000", "512"]


def test_processor_set(runtime: Runtime, make_bundle: Bundles) -> None:
    bundle = make_bundle("grep Cpus_allowed_list /proc/self/status", limits(cpu={"cpus": "0"}))
    assert runtime.output(bundle).split() == ["Cpus_allowed_list:", "0"]


def test_number_of_processes(runtime: Runtime, make_bundle: Bundles) -> None:
    bundle = make_bundle("for i in 1 2 3 4 5 6 7 8; do sleep 100 & done; wait", limits(pids={"limit": 4}))
    result = runtime.run(bundle)
    assert result.returncode == 2
    assert "can't fork" in result.stderr


# Devices: files of the controller on v1, a program on v2.


def test_the_usual_devices_work(runtime: Runtime, make_bundle: Bundles) -> None:
    script = "echo x >/dev/null && head -c 3 /dev/zero | wc -c && head -c 5 /dev/urandom | wc -c && echo y >/dev/full"
    result = runtime.run(make_bundle(script))
    assert result.stdout.split() == ["3", "5"]
    assert "No space left on device" in result.stderr


def with_mknod(bundle: Bundle, *rules: dict[str, Any]) -> Bundle:
    """Let the container make device nodes, and add rules for their use."""
    for kind in ("bounding", "effective", "permitted"):
        bundle.config["process"]["capabilities"][kind].append("CAP_MKNOD")
    bundle.config["linux"]["resources"]["devices"] += rules
    bundle.write()
    return bundle


# A number that no driver has: what is refused is "not permitted", what is allowed finds no device.
MAKE = "mknod /tmp/device c 240 7; "
REFUSED, ALLOWED = "/tmp/device: Operation not permitted", "/tmp/device: No such device or address"


def test_other_devices_are_refused(runtime: Runtime, make_bundle: Bundles) -> None:
    result = runtime.run(with_mknod(make_bundle(MAKE + "cat </tmp/device")))
    assert REFUSED in result.stderr


def test_a_device_can_be_allowed(runtime: Runtime, make_bundle: Bundles) -> None:
    rule = {"allow": True, "type": "c", "major": 240, "minor": 7, "access": "r"}
    result = runtime.run(with_mknod(make_bundle(MAKE + "cat </tmp/device; echo x >/tmp/device"), rule))
    reading, writing = result.stderr.splitlines()
    assert ALLOWED in reading
    assert REFUSED in writing


# The cgroup's own view.


@needs("cgroup-v2")
def test_cgroup_namespace_and_mount(runtime: Runtime, make_bundle: Bundles) -> None:
    bundle = make_bundle("cat /proc/self/cgroup /sys/fs/cgroup/pids.max; ! mkdir /sys/fs/cgroup/sub")
    bundle.update(limits(pids={"limit": 20})).add_namespace("cgroup")
    bundle.add_mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", "ro")
    result = runtime.run(bundle)
    assert (result.returncode, result.stdout) == (0, "0::/\n20\n"), result.stderr
    assert "Read-only file system" in result.stderr


# Users.


def test_user_namespace(runtime: Runtime, make_bundle: Bundles) -> None:
    bundle = make_bundle("id -u; cat /proc/self/uid_map; touch /made; exec sleep 1000").map_users(100000, 65536)
    os.chown(bundle.rootfs, 100000, 100000)
    pid = runtime.boot(bundle)
    wanted = ["0", "0", "100000", "65536"]
    eventually(lambda: (bundle.rootfs / "made").exists(), what="the file in the root")
    assert bundle.stdout.split() == wanted
    assert (bundle.rootfs / "made").stat().st_uid == 100000
    uids = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("Uid:"))
    assert uids.split()[1:] == ["100000"] * 4


def test_another_user(runtime: Runtime, make_bundle: Bundles) -> None:
    user = {"uid": 1000, "gid": 1000, "additionalGids": [29, 5], "umask": 0o27}
    bundle = make_bundle("id -u; id -g; umask; grep -E 'Groups|CapEff' /proc/self/status", {"process": {"user": user}})
    bundle.set("process.capabilities.ambient", [])
    assert runtime.output(bundle).split() == ["1000", "1000", "0027", "Groups:", "5", "29", "CapEff:", "0" * 16]


@needs("runtime:gosudacon")
def test_the_callers_groups(runtime: Runtime, make_bundle: Bundles) -> None:
    """crun's annotation, which Podman sets for --group-add keep-groups."""
    user = {"uid": 1000, "gid": 1000, "additionalGids": [29]}
    bundle = make_bundle("grep ^Groups: /proc/self/status", {"process": {"user": user}})
    assert runtime.call("run", "--bundle", bundle.path, "a", extra_groups=[7, 8]).stdout.split() == ["Groups:", "29"]
    bundle.update({"annotations": {"run.oci.keep_original_groups": "1"}})
    assert runtime.call("run", "--bundle", bundle.path, "a", extra_groups=[7, 8]).stdout.split()[1:] == ["7", "8"]


@needs("idmapped-mounts", "kernel>=5.12")
def test_idmapped_bind_mount(runtime: Runtime, make_bundle: Bundles, scratch: Path) -> None:
    if runtime.name != "gosudacon":
        pytest.skip("needs runtime:gosudacon")
    source = scratch / "shared"
    source.mkdir()
    (source / "file").touch()
    os.chown(source / "file", 1000, 1000)
    os.chown(source, 1000, 1000)
    bundle = make_bundle("stat -c %u:%g /shared/file; touch /shared/made").add_mount(
        "/shared", "bind", str(source), "rbind", "rw"
    )
    mapping = [{"containerID": 1000, "hostID": 0, "size": 1}]
    bundle.config["mounts"][-1].update(uidMappings=mapping, gidMappings=mapping)
    bundle.write()
    assert runtime.output(bundle) == "0:0\n"
    assert (source / "made").stat().st_uid == 1000


@needs("timens")
def test_time_namespace(runtime: Runtime, make_bundle: Bundles) -> None:
    if runtime.name == "runc":
        pytest.skip("needs runtime:gosudacon")
    bundle = make_bundle("cut -d. -f1 /proc/uptime").add_namespace("time")
    bundle.update({"linux": {"timeOffsets": {"boottime": {"secs": 1000000}}}})
    assert int(runtime.output(bundle)) > 1000000


@needs("kernel>=5.12")
def test_proc_of_a_pid_namespace_that_is_joined(runtime: Runtime, make_bundle: Bundles) -> None:
    """Mounted twice, each with its own options. Linux before 6.15 copies no mount that is attached nowhere."""
    pid = runtime.boot(make_bundle("sleep 1000"))
    bundle = make_bundle(
        "grep -c sleep /proc/1/cmdline /other/1/cmdline; grep ' proc ' /proc/self/mounts | cut -d' ' -f2,4"
    )
    bundle.add_namespace("pid", f"/proc/{pid}/ns/pid").set("linux.maskedPaths", []).set("linux.readonlyPaths", [])
    bundle.config["mounts"][0]["options"] = ["nosuid", "noexec", "noatime"]
    bundle.add_mount("/other", "proc", "proc", "nodev")
    lines = runtime.output(bundle).splitlines()
    assert lines[:2] == ["/proc/1/cmdline:1", "/other/1/cmdline:1"]
    assert lines[2:] == ["/proc rw,nosuid,noexec,noatime", "/other rw,nodev,relatime"]
