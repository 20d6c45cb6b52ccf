"""pause and resume, and what else can be done with a paused container."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import cgroups
from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import Runtime
from tests.support.timing import eventually

pytestmark = [needs("root", "busybox"), pytest.mark.vm]

COUNTS = "i=0; while :; do i=$((i+1)); echo $i >>/count; sleep 0.02; done"


def counting(runtime: Runtime, bundle: Bundle) -> int:
    """Boot a container that appends numbers to the file ``count``; return init's pid."""
    pid = runtime.boot(bundle.set("process.args", ["sh", "-c", COUNTS]))
    eventually(lambda: size(bundle) > 0, 10, "it counts")
    return pid


def size(bundle: Bundle) -> int:
    file = bundle.rootfs / "count"
    return file.stat().st_size if file.exists() else 0


def kernels_word(bundle: Bundle) -> str:
    """What the kernel says of the freezer."""
    return cgroups.read("freezer", bundle.cgroups_path, "freezer.state", "cgroup.events").split("\n")[-1]


FROZEN, THAWED = ("FROZEN", "frozen 1"), ("THAWED", "frozen 0")


def test_pause_and_resume(runtime: Runtime, bundle: Bundle) -> None:
    pid = counting(runtime, bundle)
    result = runtime.call("pause", bundle.id)
    assert result.stdout + result.stderr == ""
    assert kernels_word(bundle) in FROZEN
    before = size(bundle)
    assert runtime.state(bundle)["status"] == "paused"
    assert runtime.pid(bundle) == pid
    assert [each["status"] for each in json.loads(runtime.call("list", "-f", "json").stdout)] == ["paused"]
    assert runtime.call("list").stdout.splitlines()[1].split()[2] == "paused"
    assert size(bundle) == before
    result = runtime.call("resume", bundle.id)
    assert result.stdout + result.stderr == ""
    assert kernels_word(bundle) in THAWED
    assert runtime.status(bundle) == "running"
    eventually(lambda: size(bundle) > before, 10, "it goes on counting")


def test_every_process_is_frozen(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("process.args", ["sh", "-c", "sleep 1000 & sleep 1000 & exec sleep 1000"])
    runtime.boot(bundle)
    pids: list[int] = []

    def three() -> bool:
        pids[:] = json.loads(runtime.call("ps", "-f", "json", bundle.id).stdout)
        return len(pids) == 3

    eventually(three, 10, "three processes are there")
    runtime.call("pause", bundle.id)
    assert json.loads(runtime.call("ps", "-f", "json", bundle.id).stdout) == pids
    before = [ticks(pid) for pid in pids]
    runtime.kill(bundle, "USR1")  # waits with the others
    assert [ticks(pid) for pid in pids] == before
    runtime.call("resume", bundle.id)


def ticks(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]


def test_signals_wait_until_it_goes_on(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("process.args", ["sh", "-c", "trap 'exit 42' TERM; echo ready; while :; do sleep 0.05; done"])
    pid = runtime.boot(bundle)
    eventually(lambda: "ready" in bundle.stdout, 10, "the trap is set")
    runtime.call("pause", bundle.id)
    runtime.kill(bundle, "TERM")
    assert runtime.status(bundle) == "paused"
    runtime.call("resume", bundle.id)
    assert runtime.wait(pid) == 42


@pytest.mark.parametrize("shares", [False, True])
def test_kill_9_ends_a_paused_container(runtime: Runtime, bundle: Bundle, shares: bool) -> None:
    if shares:
        bundle.drop_namespace("pid")
    pid = runtime.boot(bundle)
    runtime.call("pause", bundle.id)
    runtime.kill(bundle, 9)
    assert runtime.wait(pid) == 137
    assert runtime.status(bundle) == "stopped"
    runtime.delete(bundle)


def test_kill_all_of_a_paused_container(runtime: Runtime, bundle: Bundle) -> None:
    pid = runtime.boot(bundle)
    runtime.call("pause", bundle.id)
    runtime.kill(bundle, 9, "--all")
    assert runtime.wait(pid) == 137


def test_a_paused_container_is_deleted_by_force_only(runtime: Runtime, bundle: Bundle) -> None:
    runtime.boot(bundle)
    runtime.call("pause", bundle.id)
    result = runtime.delete(bundle, check=False)
    assert result.returncode == 1
    assert f"cannot delete container {bundle.id} that is not stopped: paused" in result.stderr
    runtime.delete(bundle, "--force")
    assert runtime.status(bundle) == "none"


def test_a_created_container_can_be_paused(runtime: Runtime, bundle: Bundle) -> None:
    runtime.create(bundle)
    runtime.call("pause", bundle.id)
    assert runtime.status(bundle) == "paused"
    result = runtime.start(bundle, check=False)
    assert result.returncode == 1
    assert "cannot start a container in the paused state" in result.stderr
    runtime.call("resume", bundle.id)
    assert runtime.status(bundle) == "created"
    runtime.start(bundle)
    assert runtime.status(bundle) == "running"


@pytest.mark.parametrize(("verb", "message"), [("pause", "container not running"), ("resume", "container not paused")])
def test_a_stopped_container(runtime: Runtime, bundle: Bundle, verb: str, message: str) -> None:
    runtime.wait(runtime.boot(bundle.set("process.args", ["/bin/true"])))
    result = runtime.call(verb, bundle.id, check=False)
    assert result.returncode == 1
    assert message in result.stderr


def test_twice(runtime: Runtime, bundle: Bundle) -> None:
    runtime.boot(bundle)
    result = runtime.call("resume", bundle.id, check=False)
    assert (result.returncode, "container not paused" in result.stderr) == (1, True)
    runtime.call("pause", bundle.id)
    result = runtime.call("pause", bundle.id, check=False)
    assert (result.returncode, "container not running" in result.stderr) == (1, True)
    assert runtime.status(bundle) == "paused"


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_a_container_that_is_not_there(runtime: Runtime, verb: str) -> None:
    result = runtime.call(verb, "absent", check=False)
    assert result.returncode == 1
    assert "container does not exist" in result.stderr


def test_a_cgroup_below_that_the_container_made(runtime: Runtime, bundle: Bundle) -> None:
    runtime.boot(bundle)
    below = cgroups.directory("freezer", bundle.cgroups_path) / "below"
    below.mkdir()
    runtime.call("pause", bundle.id)
    runtime.delete(bundle, "--force")
    assert not below.exists()
