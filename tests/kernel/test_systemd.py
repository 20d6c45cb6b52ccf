"""Containers whose cgroup systemd makes, on a machine that it has booted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import Runtime
from tests.support.timing import eventually

pytestmark = [needs("root", "busybox", "systemd", "cgroup-v2"), pytest.mark.vm_systemd]

MIB = 1 << 20
SYSTEMD = ["--systemd-cgroup"]
ROOT = Path("/sys/fs/cgroup")


def systemctl(*words: str) -> str:
    return subprocess.run(["systemctl", *words], check=True, capture_output=True, text=True).stdout


def shown(unit: str, *names: str) -> list[str]:
    """Properties of a unit, in this order."""
    lines = systemctl("show", unit, *(f"--property={name}" for name in names)).splitlines()
    found = dict(line.split("=", 1) for line in lines)
    return [found[name] for name in names]


def files(scope: Path, *names: str) -> list[str]:
    return [(scope / name).read_text().strip() for name in names]


def gone(unit: str) -> None:
    """Nothing of the unit is left: not loaded, not failed. (Cgroups are what `leftovers` looks for.)"""
    eventually(lambda: systemctl("list-units", "--all", "--no-legend", "--plain", unit) == "", 10, f"{unit} is gone")


@pytest.fixture
def slice_(token: str) -> Iterator[str]:
    """The name of a slice below another one. systemd keeps empty slices."""
    yield f"{token}-a.slice"
    systemctl("stop", f"{token}.slice")


def test_the_whole_life_of_a_container(runtime: Runtime, bundle: Bundle, slice_: str, token: str) -> None:
    unit = f"pre-{bundle.id}.scope"
    scope = ROOT / f"{token}.slice/{slice_}/{unit}"
    resources: dict[str, Any] = {
        "memory": {"limit": 64 * MIB, "swap": 96 * MIB, "reservation": 32 * MIB},
        "cpu": {"shares": 512, "quota": 12345, "period": 50000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 1},  # all there is
        "hugepageLimits": [{"pageSize": "2MB", "limit": 2 * MIB}],  # systemd has no property for it
        "unified": {"memory.high": str(60 * MIB)},
    }
    notes = {"org.systemd.property.TimeoutStopSec": "7", "org.systemd.property.CollectMode": "'inactive-or-failed'"}
    bundle.update({"linux": {"resources": resources, "cgroupsPath": f"{slice_}:pre:{bundle.id}"}, "annotations": notes})
    pid = runtime.boot(bundle, options=SYSTEMD)

    assert Path(f"/proc/{pid}/cgroup").read_text() == f"0::/{scope.relative_to(ROOT)}\n"
    expected = [str(64 * MIB), str(32 * MIB), str(32 * MIB), "12345 50000", "59", "1", "0", "0", str(2 * MIB)]
    names = ["memory.max", "memory.swap.max", "memory.low", "cpu.max", "cpu.weight", "pids.max"]
    assert files(scope, *names, "cpuset.cpus", "cpuset.mems", "hugetlb.2MB.max") == expected
    assert shown(unit, "Slice", "Delegate", "DefaultDependencies", "TimeoutStopUSec") == [slice_, "yes", "no", "7s"]
    assert shown(unit, *(f"{name}Accounting" for name in ("CPU", "Memory", "Tasks", "IO"))) == ["yes"] * 4
    assert shown(unit, "MemoryMax", "MemorySwapMax", "MemoryHigh") == [str(n * MIB) for n in (64, 32, 60)]
    assert shown(unit, "CPUWeight", "CPUQuotaPerSecUSec", "CPUQuotaPeriodUSec") == ["59", "250ms", "50ms"]
    assert shown(unit, "TasksMax", "AllowedCPUs", "AllowedMemoryNodes") == ["1", "0", "0"]
    assert shown(unit, "DevicePolicy") == ["strict"]
    assert "DeviceAllow=/dev/char/1:3 rwm" in systemctl("show", unit, "--property=DeviceAllow").splitlines()

    words = ["--memory", "32m", "--memory-swap", "48m", "--cpu-quota", "25000", "--pids-limit", "20"]
    runtime.call("update", *words, bundle.id)  # goes by what the container was made with
    expected[:6] = [str(32 * MIB), str(16 * MIB), str(32 * MIB), "25000 50000", "59", "20"]
    for _ in "at once", "when systemd has read everything again":
        assert files(scope, *names) == expected[:6]
        assert shown(unit, "MemoryMax", "CPUQuotaPerSecUSec", "TasksMax") == [str(32 * MIB), "500ms", "20"]
        systemctl("daemon-reload")

    assert runtime.call("update", "--cpuset-cpus", "700", "--pids-limit", "30", bundle.id, check=False).returncode == 1
    assert files(scope, "cpuset.cpus", "pids.max") == ["0", "20"]
    assert shown(unit, "AllowedCPUs", "TasksMax") == ["0", "20"]

    runtime.call("pause", bundle.id)
    assert runtime.status(bundle) == "paused"
    runtime.call("resume", bundle.id)
    entered = runtime.call("exec", bundle.id, "cat", "/proc/self/cgroup")
    assert entered.stdout == f"0::/{scope.relative_to(ROOT)}\n"
    assert json.loads(runtime.call("ps", "--format", "json", bundle.id).stdout) == [pid]
    runtime.kill(bundle, "KILL")
    runtime.wait(pid)
    runtime.delete(bundle)
    gone(unit)


def test_defaults_and_what_a_container_leaves_behind(runtime: Runtime, make_bundle: Any) -> None:
    """In the foreground, without a cgroupsPath; a cgroup that it has nested, and a process in it, go with it."""
    script = """cat /proc/self/cgroup; cd "/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)"
        mkdir a; echo $$ >a/cgroup.procs; sleep 500 & exit 3"""
    bundle = make_bundle(["sh", "-c", script])
    bundle.remove("linux.cgroupsPath").drop_namespace("cgroup").drop_namespace("pid")
    bundle.remove("linux.maskedPaths").remove("linux.readonlyPaths")
    bundle.add_mount("/sys/fs/cgroup", "cgroup", "cgroup", "rw", "nosuid")
    assert runtime.run(bundle, options=["--cgroup-manager=systemd"]).returncode == 3, bundle.stderr
    assert bundle.stdout == f"0::/system.slice/runc-{bundle.id}.scope\n"
    gone(f"runc-{bundle.id}.scope")


def test_existing_unit(runtime: Runtime, make_bundle: Any, token: str) -> None:
    """A unit that runs is refused and one that failed is replaced."""
    first, second = make_bundle(), make_bundle()
    unit = f"{token}-same.scope"
    for bundle in (first, second):
        bundle.set("linux.cgroupsPath", f"system.slice:{token}:same")
    words = ["systemd-run", "--quiet", "--scope", f"--unit={unit}", "--property=RuntimeMaxSec=1", "sleep", "100"]
    subprocess.run(words, check=False)
    assert shown(unit, "ActiveState") == ["failed"]
    pid = runtime.boot(first, options=SYSTEMD)
    refused = runtime.create(second, options=SYSTEMD, check=False)
    assert refused.returncode == 1 and f"unit {unit} already exists" in refused.stderr
    assert runtime.status(second) == "none"
    os.kill(pid, 0)
    runtime.delete(first, "--force")
    gone(unit)


@pytest.mark.parametrize("how", ["a hook fails", "the runtime is killed", "systemd refuses"])
def test_what_is_not_finished_leaves_nothing(runtime: Runtime, bundle: Bundle, how: str) -> None:
    unit = f"p-{bundle.id}.scope"
    bundle.set("linux.cgroupsPath", f":p:{bundle.id}")
    script = "exit 1" if how == "a hook fails" else "kill -9 $PPID"
    bundle.set("hooks.createRuntime", [{"path": "/bin/sh", "args": ["sh", "-c", script]}])
    if how == "systemd refuses":
        bundle.set("annotations", {"org.systemd.property.CollectMode": "'whenever'"})
    result = runtime.create(bundle, options=SYSTEMD, check=False)
    assert result.returncode == (-signal.SIGKILL if how == "the runtime is killed" else 1)
    if how == "systemd refuses":
        assert "CollectMode" in result.stderr
    runtime.delete(bundle, "--force")
    gone(unit)


@needs("criu")
def test_checkpoint_and_restore(runtime: Runtime, bundle: Bundle, slice_: str, token: str, scratch: Path) -> None:
    """A restored container has a scope of its own, with the limits of its configuration."""
    unit = f"pre-{bundle.id}.scope"
    script = "i=0; while :; do i=$((i+1)); echo $i >/count.new; mv /count.new /count; sleep 0.1; done"
    bundle.set("process.args", ["sh", "-c", script])
    bundle.update({"linux": {"resources": {"pids": {"limit": 50}}, "cgroupsPath": f"{slice_}:pre:{bundle.id}"}})
    counter = bundle.rootfs / "count"
    (scratch / "file").write_text("of the host\n")
    # Of the file system of the root, and as slaves of the same mount, since systemd makes all mounts shared.
    bundle.add_mount("/mnt/file", "bind", str(scratch / "file"), "bind", "ro")
    bundle.add_mount("/mnt/directory", "bind", str(scratch), "rbind", "rw")
    pid = runtime.boot(bundle, options=SYSTEMD)
    eventually(lambda: counter.exists() and int(counter.read_text()) > 3, 20)
    runtime.call("checkpoint", "--image-path", scratch / "images", bundle.id, limit=60)
    runtime.wait(pid)
    gone(unit)
    saved = int(counter.read_text())

    words = ("restore", "--detach", "--image-path", scratch / "images", "--bundle", bundle.path, bundle.id)
    runtime.call(*words, options=SYSTEMD, limit=60)
    eventually(lambda: int(counter.read_text()) > saved, 20)
    pid = runtime.pid(bundle)
    path = f"{token}.slice/{slice_}/{unit}"
    assert Path(f"/proc/{pid}/cgroup").read_text() == f"0::/{path}\n"
    assert files(ROOT / path, "pids.max") == ["50"] and shown(unit, "Slice", "TasksMax") == [slice_, "50"]
    runtime.call("update", "--pids-limit", "60", bundle.id)
    assert files(ROOT / path, "pids.max") == ["60"] and shown(unit, "TasksMax") == ["60"]
    inside = runtime.call("exec", bundle.id, "cat", "/mnt/file", "/mnt/directory/file").stdout
    assert inside == "of the host\n" * 2
    runtime.delete(bundle, "--force")
    gone(unit)
