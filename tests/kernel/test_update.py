"""update: limits of a container that runs, all of them or none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import cgroups
from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import Completed, Runtime

pytestmark = [needs("root", "busybox"), pytest.mark.vm]

MIB = 1 << 20
MEMORY = ("memory", "memory.limit_in_bytes", "memory.max")
PIDS = ("pids", "pids.max", "pids.max")
SHARES = ("cpu", "cpu.shares", "cpu.weight")


def limit(bundle: Bundle, file: tuple[str, str, str]) -> str:
    controller, v1, v2 = file
    return cgroups.read(controller, bundle.cgroups_path, v1, v2)


def bandwidth(bundle: Bundle) -> str:
    """quota and period."""
    if cgroups.mode() == "v2":
        return cgroups.read("cpu", bundle.cgroups_path, "", "cpu.max")
    files = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    return " ".join(cgroups.read("cpu", bundle.cgroups_path, file, "") for file in files).replace("-1 ", "max ")


def update(runtime: Runtime, bundle: Bundle, resources: Any, **kw: Any) -> Completed:
    return runtime.call("update", "--resources", "-", bundle.id, stdin=json.dumps(resources), **kw)


@pytest.fixture
def limited(runtime: Runtime, bundle: Bundle) -> Bundle:
    """A running container with limits."""
    resources = {
        "memory": {"limit": 64 * MIB},
        "cpu": {"shares": 1024, "quota": 50000, "period": 100000},
        "pids": {"limit": 50},
    }
    bundle.update({"linux": {"resources": resources}})
    runtime.boot(bundle)
    return bundle


def test_by_options(runtime: Runtime, limited: Bundle) -> None:
    words = ["--memory", "32m", "--cpu-share", "2048", "--cpu-quota", "20000", "--pids-limit", "20"]
    result = runtime.call("update", *words, limited.id)
    assert result.stdout + result.stderr == ""
    assert limit(limited, MEMORY) == str(32 * MIB)
    assert limit(limited, PIDS) == "20"
    assert limit(limited, SHARES) in ("2048", "174")
    assert bandwidth(limited) == "20000 100000"  # the period stays


def test_by_json_from_standard_input(runtime: Runtime, limited: Bundle) -> None:
    given = {"memory": {"limit": 96 * MIB, "swap": 96 * MIB}, "cpu": {"shares": 512}, "devices": None, "pids": {}}
    assert update(runtime, limited, given).stderr == ""
    assert limit(limited, MEMORY) == str(96 * MIB)
    assert limit(limited, SHARES) in ("512", "59")
    assert limit(limited, PIDS) == "50"


def test_by_json_from_a_file(runtime: Runtime, limited: Bundle) -> None:
    path = limited.path / "resources.json"
    path.write_text(json.dumps({"pids": {"limit": -1}}))
    runtime.call("update", f"--resources={path}", "--pids-limit", "7", limited.id)
    assert limit(limited, PIDS) == "max"


def test_what_was_set_is_remembered(runtime: Runtime, limited: Bundle) -> None:
    runtime.call("update", "--cpu-period", "50000", limited.id)
    assert bandwidth(limited) == "50000 50000"
    runtime.call("update", "--cpu-quota", "10000", limited.id)
    assert bandwidth(limited) == "10000 50000"
    saved = json.loads((runtime.root / limited.id / "state.json").read_text())["resources"]
    assert saved["cpu"] == {"shares": 1024, "quota": 10000, "period": 50000}
    assert saved["pids"] == {"limit": 50}


def test_limits_go_up_and_down(runtime: Runtime, limited: Bundle) -> None:
    for size in (128, 16, 256, 64):
        runtime.call("update", "--memory", f"{size}m", "--memory-swap", f"{2 * size}m", limited.id)
        assert limit(limited, MEMORY) == str(size * MIB)
    runtime.call("update", "--memory=-1", limited.id)
    assert limit(limited, MEMORY) in ("max", "9223372036854771712")


def test_all_or_nothing(runtime: Runtime, limited: Bundle) -> None:
    given = {"memory": {"limit": 32 * MIB}, "cpu": {"shares": 512, "cpus": "4000"}, "pids": {"limit": 9}}
    result = update(runtime, limited, given, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert "cpuset.cpus" in result.stderr and "could not be restored" not in result.stderr
    assert limit(limited, MEMORY) == str(64 * MIB)
    assert limit(limited, PIDS) == "50"
    assert limit(limited, SHARES) in ("1024", "100")
    assert bandwidth(limited) == "50000 100000"
    assert "resources" not in json.loads((runtime.root / limited.id / "state.json").read_text())


def test_limits_that_were_not_set_are_restored_too(runtime: Runtime, bundle: Bundle) -> None:
    runtime.boot(bundle)
    before = [limit(bundle, each) for each in (MEMORY, PIDS, SHARES)], bandwidth(bundle)
    given = {
        "memory": {"limit": 32 * MIB, "swap": 64 * MIB},
        "cpu": {"shares": 512, "quota": 20000, "cpus": "4000"},
        "pids": {"limit": 9},
    }
    assert update(runtime, bundle, given, check=False).returncode == 1
    assert ([limit(bundle, each) for each in (MEMORY, PIDS, SHARES)], bandwidth(bundle)) == before


@pytest.mark.parametrize(
    "given",
    [{"memory": {"limit": "much"}}, {"memory": []}, {"pids": {"limit": 1.5}}, {"hugepageLimits": [{"pageSize": "x"}]}],
)
def test_invalid_limits(runtime: Runtime, limited: Bundle, given: Any) -> None:
    """What is invalid is refused before anything happens."""
    result = update(runtime, limited, {"pids": {"limit": 3}, **given}, check=False)
    assert result.returncode == 1
    assert "internal error" not in result.stderr
    assert limit(limited, PIDS) == "50"


def test_an_update_of_nothing(runtime: Runtime, limited: Bundle) -> None:
    runtime.call("update", limited.id)
    assert update(runtime, limited, {}).stderr == ""
    assert limit(limited, MEMORY) == str(64 * MIB)


@pytest.mark.parametrize("state", ["created", "paused"])
def test_containers_that_do_not_run_yet_or_now(runtime: Runtime, bundle: Bundle, state: str) -> None:
    runtime.create(bundle)
    if state == "paused":
        runtime.call("pause", bundle.id)
    runtime.call("update", "--pids-limit", "20", bundle.id)
    assert limit(bundle, PIDS) == "20"
    assert runtime.status(bundle) == state


def test_a_stopped_container(runtime: Runtime, bundle: Bundle) -> None:
    runtime.wait(runtime.boot(bundle.set("process.args", ["/bin/true"])))
    result = runtime.call("update", "--pids-limit", "20", bundle.id, check=False)
    assert result.returncode == 1
    assert "container not running" in result.stderr


def test_resctrl_is_refused(runtime: Runtime, limited: Bundle) -> None:
    result = runtime.call("update", "--l3-cache-schema", "L3:0=f", "--pids-limit", "7", limited.id, check=False)
    assert result.returncode == 1
    assert "Intel RDT" in result.stderr
    assert limit(limited, PIDS) == "50"


@pytest.mark.parametrize(
    ("option", "value"), [("--memory", "lots"), ("--cpu-quota", "x"), ("--resources", "/nonexistent")]
)
def test_values_that_are_none(runtime: Runtime, limited: Bundle, option: str, value: str) -> None:
    result = runtime.call("update", option, value, limited.id, check=False)
    assert result.returncode == 1
    assert value in result.stderr


def test_a_device_limit_is_restored(runtime: Runtime, limited: Bundle) -> None:
    file = ("blkio", "blkio.throttle.read_bps_device", "io.max")
    try:
        before = limit(limited, file)
    except (LookupError, OSError):
        pytest.skip("no block I/O controller")
    names = ("loop", "vd", "sd", "nvme")
    devices = [path for path in sorted(Path("/sys/block").iterdir()) if path.name.startswith(names)]
    if not devices:
        pytest.skip("no block device")
    major, minor = (devices[0] / "dev").read_text().strip().split(":")
    rule = {"major": int(major), "minor": int(minor), "rate": MIB}
    block = {"throttleReadBpsDevice": [rule]}
    result = update(runtime, limited, {"blockIO": block, "cpu": {"cpus": "4000"}}, check=False)
    assert result.returncode == 1 and "could not be restored" not in result.stderr
    assert limit(limited, file) == before
    update(runtime, limited, {"blockIO": block})
    assert f"{major}:{minor}" in limit(limited, file)
