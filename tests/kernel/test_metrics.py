"""Statistics for containerd, of real containers, as the protobuf library reads them."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

pytest.importorskip("google.protobuf", "6.30", reason="needs protobuf")

from gosudacon.container import metrics
from tests.support import cgroups
from tests.support.bundle import Bundle
from tests.support.containerd_api import message_class
from tests.support.needs import needs
from tests.support.runtime import Runtime
from tests.support.timing import eventually

pytestmark = [needs("root", "busybox"), pytest.mark.vm]

UNLIMITED = (1 << 64) - 1
# Fills memory until the kernel ends it; init is spared, since it is small.
HUNGRY = "read go </go; dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null; echo fed >/fed; sleep 1000"


def collected(runtime: Runtime, bundle: Bundle) -> Any:
    """The statistics of a container."""
    state = json.loads((runtime.root / bundle.id / "state.json").read_text())
    packed = metrics.collect(state["cgroups"])
    assert packed is not None
    version = "v2" if cgroups.mode() == "v2" else "v1"
    assert packed["type_url"] == f"io.containerd.cgroups.{version}.Metrics"
    return message_class(packed["type_url"]).FromString(packed["value"])


def test_limits_and_use(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("linux.resources.memory", {"limit": 64 << 20}).set("linux.resources.pids", {"limit": 77})
    runtime.boot(bundle.set("process.args", ["/bin/sleep", "1000"]))
    found = collected(runtime, bundle)
    assert (found.pids.current, found.pids.limit) == (1, 77)
    if cgroups.mode() == "v2":
        assert found.cpu.usage_usec >= found.cpu.user_usec
        assert found.cpu.usage_usec > 0
        assert found.memory.usage_limit == 64 << 20
        assert found.memory.swap_limit in (0, UNLIMITED)  # none of the kernel's, or none set
        assert 0 < found.memory.usage <= 64 << 20
        assert found.memory.pgfault > 0
    else:
        assert found.cpu.usage.total == pytest.approx(sum(found.cpu.usage.per_cpu), rel=0.5)
        assert found.memory.usage.limit == found.memory.hierarchical_memory_limit == 64 << 20
        assert 0 < found.memory.usage.usage <= 64 << 20
        assert found.memory.total_pg_fault > 0


def test_no_limits(runtime: Runtime, bundle: Bundle) -> None:
    """Above 2^62 bytes the kubelet takes a limit for none."""
    runtime.boot(bundle.set("process.args", ["/bin/sleep", "1000"]))
    found = collected(runtime, bundle)
    if cgroups.mode() == "v2":
        assert found.memory.usage_limit == found.pids.limit == UNLIMITED
    else:
        assert found.memory.usage.limit > 1 << 62 and found.pids.limit == 0


def test_memory_that_ran_out(runtime: Runtime, bundle: Bundle) -> None:
    os.mkfifo(bundle.rootfs / "go")
    bundle.set("linux.resources.memory", {"limit": 16 << 20, "swap": 16 << 20})
    runtime.boot(bundle.set("process.args", ["/bin/sh", "-c", HUNGRY]))
    (bundle.rootfs / "go").write_text("\n")
    eventually(lambda: (bundle.rootfs / "fed").exists(), what="it goes on")
    found = collected(runtime, bundle)
    counted = found.memory_events if cgroups.mode() == "v2" else found.memory_oom_control
    assert counted.oom_kill == 1


@needs("cgroup-v2")
def test_pressure(runtime: Runtime, bundle: Bundle) -> None:
    runtime.boot(bundle.set("process.args", ["/bin/sleep", "1000"]))
    if not (cgroups.directory("cpu", bundle.cgroups_path) / "memory.pressure").exists():
        pytest.skip("needs CONFIG_PSI")
    found = collected(runtime, bundle)
    for stalls in (found.cpu.psi, found.memory.psi, found.io.psi):
        assert stalls.HasField("some")
        assert 0 <= stalls.some.avg10 <= 100


def test_cgroups_that_are_gone(runtime: Runtime, bundle: Bundle) -> None:
    runtime.boot(bundle.set("process.args", ["/bin/sleep", "1000"]))
    directories = json.loads((runtime.root / bundle.id / "state.json").read_text())["cgroups"]
    runtime.delete(bundle, "--force")
    assert metrics.collect(directories) is None
