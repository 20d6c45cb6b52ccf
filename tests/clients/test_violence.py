"""Many containers at once, and clients, shims and runtimes that are killed: nothing hangs, and nothing is left."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.conftest import IMAGE, new_name
from tests.clients.daemon import Containerd, wrapper
from tests.clients.tasks import collect, pid, shim_of
from tests.support import processes
from tests.support.needs import needs
from tests.support.runtime import runtime_command
from tests.support.timing import eventually, seconds

Detached = Callable[..., str]


def at_once(ctr: Containerd, commands: list[list[str]], limit: float = 120) -> list[tuple[int, str, str]]:
    """Start ctr with all of these arguments; status and both outputs of each."""
    pipe = subprocess.PIPE
    clients = [
        subprocess.Popen(ctr.words(*words), stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, cwd="/")
        for words in commands
    ]
    results = []
    try:
        for client in clients:
            out, err = client.communicate(timeout=seconds(limit))
            results.append((client.returncode, out, err))
    finally:
        for client in clients:
            client.kill()
            client.wait()
    return results


def words_of(ctr: Containerd, name: str, script: str, *options: str | Path) -> list[str]:
    """Arguments of ctr to run a container."""
    return [str(word) for word in ctr.run_arguments(IMAGE, name, script, *options)]


def test_10_with_output(ctr: Containerd) -> None:
    scripts = [f"echo number {number}; sleep 1; exit {number}" for number in range(10)]
    results = at_once(ctr, [words_of(ctr, new_name(), script, "--rm") for script in scripts])
    assert results == [(number, f"number {number}\n", "") for number in range(10)]


def test_50_at_once(ctr: Containerd) -> None:
    names = [new_name() for _ in range(50)]
    starts = [words_of(ctr, name, "sleep 1001 & exec sleep 1000", "--detach") for name in names]
    assert [result for result in at_once(ctr, starts) if result[0] != 0] == []
    lines = [line.split() for line in ctr.ctr("tasks", "list").stdout.splitlines()[1:]]
    assert {line[0]: line[2] for line in lines} == dict.fromkeys(names, "RUNNING")
    assert {path.name for path in ctr.states.glob("*")} == set(names)
    # The status is that of the kill; what counts is that all are gone.
    at_once(ctr, [["tasks", "delete", "--force", name] for name in names])
    assert ctr.list("tasks") == set()
    assert [result for result in at_once(ctr, [["containers", "delete", name] for name in names]) if result[0]] == []
    assert not [line for line in lines if processes.alive(int(line[1]))]


# What is killed.


def remove_sockets() -> None:
    """The sockets of killed shims stay; that is containerd's doing."""
    for socket in Path("/run/containerd/s").iterdir():
        socket.unlink()


def test_shim_killed(ctr: Containerd, detached: Detached) -> None:
    name = detached("sleep 1001 & exec sleep 1000")
    first = pid(ctr, name)
    processes.kill(shim_of(ctr, name))
    assert processes.wait(first, 20) == 137
    eventually(lambda: not list(ctr.states.glob("*")), 20, "the runtime's deletion of the container")
    ctr.ctr("tasks", "delete", name, check=False)
    ctr.ctr("containers", "delete", name)
    remove_sockets()


def test_shim_killed_and_two_clients_delete(ctr: Containerd, detached: Detached) -> None:
    """containerd deletes when a shim dies; an administrator does so at the same time."""
    name = detached("sleep 1001 & exec sleep 1000")
    first = pid(ctr, name)
    processes.kill(shim_of(ctr, name))
    delete = [*runtime_command(), "--root", str(ctr.states), "delete", "--force", name]
    deletions = [subprocess.Popen(delete, stdin=subprocess.DEVNULL, cwd="/") for _ in range(3)]
    assert [deletion.wait(seconds(60)) for deletion in deletions] == [0, 0, 0]
    assert processes.wait(first, 20) == 137
    eventually(lambda: ctr.list("tasks") == set(), 20, "the task's end")
    ctr.ctr("containers", "delete", name)
    assert not list(ctr.states.glob("*"))
    remove_sockets()


@pytest.mark.runc_shim  # ours executes no runtime
@needs("runtime:gosudacon")  # runc leaves cgroups behind when it is killed in create
@pytest.mark.parametrize("command", ["create", "start", "delete"])
def test_the_runtime_killed(ctr: Containerd, scratch: Path, command: str) -> None:
    """Its caller kills it, at moments from its first on; containerd cleans up with what has come into being."""
    ended = []
    for moment in range(1, 50, 4):
        ctr.runtime, usual = killer(scratch, command, moment / 1000), ctr.runtime
        name = new_name()
        try:
            ctr.ctr(*words_of(ctr, name, "sleep 1001 & exec sleep 1000", "--detach"), check=False)
            ctr.ctr("tasks", "delete", "--force", name, check=False)
        finally:
            ctr.runtime = usual
        wrapper(["env", *runtime_command()], scratch / "killer")  # it is this program that the shim calls
        ctr.ctr("tasks", "delete", "--force", name, check=False)
        eventually(lambda: not ctr.list("tasks"), 30, "the task's end")
        ctr.ctr("containers", "delete", name, check=False)
        eventually(lambda: not ctr.list("containers") and not list(ctr.states.glob("*")), 30, f"removal of {name}")
        ended.append((scratch / "ended").read_text())
    assert "killed\n" in ended


def killer(scratch: Path, command: str, moment: float) -> Path:
    """A runtime whose command is killed after ``moment`` seconds; the file ``ended`` tells whether it lived then."""
    script = scratch / "killer"
    script.write_text(
        f"""#!/bin/sh
        case " $* " in
            *" {command} "*) ;;
            *) exec {shlex.join(runtime_command())} "$@" ;;
        esac
        {shlex.join(runtime_command())} "$@" &
        sleep {moment}
        if kill -KILL $!; then echo killed; else echo done; fi >{scratch}/ended 2>&-
        wait $!
        """
    )
    script.chmod(0o755)
    return script


def test_init_killed_from_outside(ctr: Containerd, detached: Detached) -> None:
    name = detached("sleep 1001 & exec sleep 1000")
    os.kill(pid(ctr, name), 9)
    assert collect(ctr, name) == 137
