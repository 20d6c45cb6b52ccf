"""ps: the pids of a container's processes as JSON, and lines of ps(1)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support import cgroups
from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import Runtime
from tests.support.timing import eventually

pytestmark = [needs("root", "busybox"), pytest.mark.vm]

THREE = "sleep 1001 & sleep 1002 & exec sleep 1000"


def three(runtime: Runtime, bundle: Bundle) -> list[int]:
    """Boot a container of three processes; return their pids, init's first."""
    bundle.set("process.args", ["sh", "-c", THREE])
    init = runtime.boot(bundle)
    children = Path(f"/proc/{init}/task/{init}/children")
    eventually(lambda: len(children.read_text().split()) == 2, 10, "both children are there")
    eventually(lambda: Path(f"/proc/{init}/cmdline").read_bytes() == b"sleep\x001000\x00", 10, "init has become sleep")
    return [init, *map(int, children.read_text().split())]


def test_json_is_one_line_of_host_pids(runtime: Runtime, bundle: Bundle) -> None:
    pids = three(runtime, bundle)
    result = runtime.call("ps", "--format", "json", bundle.id)
    assert result.stdout == json.dumps(sorted(pids), separators=(",", ":")) + "\n"
    assert result.stderr == ""


def test_processes_in_cgroups_below_the_containers_own(runtime: Runtime, bundle: Bundle) -> None:
    init, child, other = three(runtime, bundle)
    made = []
    for item in cgroups.hierarchies():
        below = item.mountpoint / bundle.cgroups_path.lstrip("/") / "below"
        if below.parent.is_dir():
            below.mkdir()
            made.append(below)
            if "cpuset" in item.controllers and item.version == 1:
                for name in ("cpuset.cpus", "cpuset.mems"):
                    (below / name).write_text((below.parent / name).read_text())
            (below / "cgroup.procs").write_text(str(child))
    assert made
    assert json.loads(runtime.call("ps", "-f", "json", bundle.id).stdout) == sorted([init, child, other])


def test_the_table_is_that_of_ps_ef(runtime: Runtime, bundle: Bundle) -> None:
    pids = three(runtime, bundle)
    header, *lines = runtime.call("ps", bundle.id).stdout.splitlines()
    assert header.split()[:2] == ["UID", "PID"]
    assert sorted(int(line.split()[1]) for line in lines) == sorted(pids)
    assert sum(" sleep 100" in line for line in lines) == 3


@pytest.mark.parametrize("arguments", [["aux"], ["-e", "-o", "pid,ppid,comm"], ["-o", "user=WHO,pid", "-A"]])
def test_options_are_passed_on(runtime: Runtime, bundle: Bundle, arguments: list[str]) -> None:
    pids = three(runtime, bundle)
    header, *lines = runtime.call("ps", bundle.id, *arguments).stdout.splitlines()
    column = header.split().index("PID")
    assert sorted(int(line.split()[column]) for line in lines) == sorted(pids)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-e", "-o", "comm"], "couldn't find PID field in ps output"),
        (["-e", "-o", "pid="], "couldn't find PID field in ps output"),
        (["--no-such-option"], "ps: exit status 1: error: unknown gnu long option"),
    ],
)
def test_what_ps_is_asked_in_vain(runtime: Runtime, bundle: Bundle, arguments: list[str], message: str) -> None:
    runtime.create(bundle)
    result = runtime.call("ps", bundle.id, *arguments, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert message in result.stderr


def test_a_caller_without_a_path(runtime: Runtime, bundle: Bundle) -> None:
    runtime.create(bundle)
    environment = {name: value for name, value in os.environ.items() if name != "PATH"}
    assert len(runtime.call("ps", bundle.id, env=environment).stdout.splitlines()) == 2


def test_a_created_container_has_init_only(runtime: Runtime, bundle: Bundle) -> None:
    runtime.create(bundle)
    assert json.loads(runtime.call("ps", "--format", "json", bundle.id).stdout) == [runtime.pid(bundle)]


def test_a_stopped_container_has_none(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("process.args", ["/bin/true"])
    runtime.wait(runtime.boot(bundle))
    assert runtime.call("ps", "--format", "json", bundle.id).stdout == "[]\n"
    assert len(runtime.call("ps", bundle.id).stdout.splitlines()) == 1


def test_a_cgroup_that_was_removed(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("process.args", ["/bin/true"])
    runtime.wait(runtime.boot(bundle))
    for item in cgroups.hierarchies():
        cgroups.remove(item.mountpoint / bundle.cgroups_path.lstrip("/"))
    assert runtime.call("ps", "--format", "json", bundle.id).stdout == "[]\n"


def test_a_container_that_is_not_there(runtime: Runtime) -> None:
    result = runtime.call("ps", "--format", "json", "absent", check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert "container does not exist" in result.stderr


def test_an_unknown_format(runtime: Runtime, bundle: Bundle) -> None:
    result = runtime.call("ps", "--format", "xml", bundle.id, check=False)
    assert result.returncode == 1
    assert "invalid format option" in result.stderr
