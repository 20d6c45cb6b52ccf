"""A pid that another process has got meanwhile, and a runtime that is killed in the middle of its work."""

from __future__ import annotations

import functools
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.bundle import Bundle
from tests.support.leftovers import Watch
from tests.support.runtime import Runtime
from tests.support.timing import SLOWNESS, eventually

Bundles = Callable[..., Bundle]

ROUNDS = int(os.environ.get("GOSUDACON_RACES") or 40)

# Process 1 of a pid namespace of its own, where the next pid can be chosen without an effect on others.
IMPOSTOR = """
import json, os, signal, subprocess, sys, time

runtime, bundle, name, started = sys.argv[1].split("\\n"), sys.argv[2], sys.argv[3], sys.argv[4] == "True"

def call(*words, **more):
    return subprocess.run([*runtime, *words], capture_output=True, text=True, **more)

with open(f"{bundle}/null", "w") as null:
    subprocess.run([*runtime, "create", "--bundle", bundle, name], stdin=null, stdout=null, stderr=null, check=True)
pid = json.loads(call("state", name, check=True).stdout)["pid"]
if started:
    call("start", name, check=True)
os.kill(pid, signal.SIGKILL)
os.waitpid(pid, 0)
time.sleep(0.05)  # times of start are counted in hundredths of a second
for _ in range(100):
    with open("/proc/sys/kernel/ns_last_pid", "w") as file:
        file.write(str(pid - 1))
    child = os.fork()
    if child == 0:
        signal.pause()
    if child == pid:
        break
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
answers = {"same": child == pid}
answers["state"] = json.loads(call("state", name).stdout)
for words in (["kill", name, "KILL"], ["kill", name], ["start", name], ["delete", name]):
    result = call(*words)
    answers[" ".join(words[:1] + words[2:])] = [result.returncode, result.stderr]
answers["alive"] = os.waitpid(child, os.WNOHANG) == (0, 0)
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
print(json.dumps(answers))
"""


@pytest.mark.vm
@pytest.mark.parametrize("started", [True, False], ids=["started", "created"])
def test_a_pid_that_is_used_again(runtime: Runtime, bundle: Bundle, started: bool) -> None:
    """The container has stopped; the process that has its pid now gets no signal."""
    words = [*runtime.command, "--root", str(runtime.root)]
    command = [
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--mount-proc",
        "--kill-child",
        os.path.realpath("/usr/bin/python3"),
    ]
    command += ["-ISc", IMPOSTOR, "\n".join(words), str(bundle.path), bundle.id, str(started)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60 * SLOWNESS)
    assert result.returncode == 0, result.stderr
    answers = json.loads(result.stdout)
    assert answers["same"] and answers["alive"], answers
    assert (answers["state"]["status"], answers["state"].get("pid", 0)) == ("stopped", 0)
    assert answers["kill KILL"][0] == answers["kill"][0] == answers["start"][0] == 1
    assert "not running" in answers["kill"][1]
    assert answers["delete"] == [0, ""]


@pytest.mark.vm
@pytest.mark.parametrize("verb", ["create", "run"])
def test_the_runtime_is_killed_at_any_time(runtime: Runtime, make_bundle: Bundles, leftovers: Watch, verb: str) -> None:
    """Init dies with it, unless the container was complete; delete --force clears up after both."""
    bundle = make_bundle("exec sleep 1000")
    bundle.add_mount("/mnt", "tmpfs", "tmpfs")
    words = [*runtime.command, "--root", str(runtime.root), verb, "--bundle", str(bundle.path)]
    took = _time_of(runtime, bundle)
    states = set()
    for number in range(ROUNDS // 2):
        name = f"{bundle.id}-{number}"
        null = subprocess.DEVNULL
        child = subprocess.Popen([*words, name], stdin=null, stdout=null, stderr=null, start_new_session=True)
        time.sleep(took * 1.1 * number / (ROUNDS // 2))
        child.kill()
        child.wait()
        eventually(functools.partial(_settled, runtime, name), 10, "the end of init")
        states.add(runtime.status(name))
        runtime.delete(name, "--force")
        assert runtime.status(name) == "none"
        assert not (runtime.root / name).exists()
    assert len(states) > 1, "every kill came before or after all that matters"
    assert leftovers.leftovers() == []


def _settled(runtime: Runtime, name: str) -> bool:
    """No process of the container is left, or the container is there for good."""
    processes.reap({each for each in processes.descendants() if not processes.alive(each.pid)})
    return runtime.status(name) in ("created", "running") or not [
        each for each in processes.descendants() if name in each.describe()
    ]


def _time_of(runtime: Runtime, bundle: Bundle) -> float:
    """How long a create takes here, in seconds; the second one."""
    for _ in range(2):
        began = time.monotonic()
        runtime.create(bundle)
        took = time.monotonic() - began
        runtime.delete(bundle)
    return took


def test_start_is_killed_before_init_has_gone_on(runtime: Runtime, bundle: Bundle) -> None:
    """Whatever becomes of the container, it can be deleted; a second start does no harm."""
    for number in range(6):
        name = f"{bundle.id}-{number}"
        runtime.create(bundle, container_id=name)
        pid = runtime.pid(name)
        child = subprocess.Popen(
            [*runtime.command, "--root", str(runtime.root), "start", name], stderr=subprocess.DEVNULL
        )
        time.sleep(0.005 * number * SLOWNESS)
        child.send_signal(signal.SIGKILL)
        child.wait()
        runtime.start(name, check=False)
        assert runtime.status(name) in ("running", "stopped", "created")
        runtime.delete(name, "--force")
        processes.wait(pid)


def test_a_socket_without_a_listener(runtime: Runtime, bundle: Bundle) -> None:
    """Init is killed while it waits: start says that it has stopped, and does not wait."""
    runtime.create(bundle)
    pid = runtime.pid(bundle)
    os.kill(pid, signal.SIGKILL)
    runtime.wait(pid)
    result = runtime.start(bundle, check=False, limit=10)
    assert result.returncode == 1 and "stopped" in result.stderr, shlex.join(result.args)
    assert Path(runtime.root / bundle.id).exists()
    runtime.delete(bundle)
