"""A container without a cgroup of its own (``--cgroup-manager=disabled``)."""

from __future__ import annotations

from pathlib import Path

from tests.support import cgroups
from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import Runtime

pytestmark = needs("root", "busybox", "runtime:gosudacon")

DISABLED = ["--cgroup-manager=disabled"]


def test_no_cgroup_is_made(runtime: Runtime, bundle: Bundle) -> None:
    pid = runtime.boot(bundle, options=DISABLED)
    own = Path("/proc/self/cgroup").read_text()
    assert Path(f"/proc/{pid}/cgroup").read_text() == own
    assert not [path for path in cgroups.find(bundle.id)]
    assert runtime.call("exec", bundle.id, "echo", "in").stdout == "in\n"
    assert runtime.call("ps", "--format", "json", bundle.id).stdout == f"[{pid}]\n"
    refused = runtime.call("update", "--pids-limit", "5", bundle.id, check=False)
    assert (refused.returncode, "without a cgroup" in refused.stderr) == (1, True)
    refused = runtime.call("pause", bundle.id, check=False)
    assert (refused.returncode, "no freezer cgroup" in refused.stderr) == (1, True)
    runtime.kill(bundle, "KILL", "--all")
    runtime.wait(pid)
    runtime.delete(bundle)
    assert Path("/proc/self/cgroup").read_text() == own


def test_limits_need_one(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("linux.resources.memory.limit", 1 << 26)
    refused = runtime.create(bundle, options=DISABLED, check=False)
    assert (refused.returncode, "memory cannot be limited without a cgroup" in refused.stderr) == (1, True)
    assert runtime.status(bundle) == "none"
