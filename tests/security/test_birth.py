"""What a container that may trace every process it sees finds in those that come into its pid namespace.

CAP_SYS_PTRACE opens all of /proc/PID and makes any process do anything, whatever PR_SET_DUMPABLE says. So a process of
the runtime must not be there before it is as confined as the container itself.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gosudacon.container.host import gather
from gosudacon.stages.namespaces.proc import OPTION_PIDNS
from tests.security import test_proc_access
from tests.security.test_proc_access import privileged
from tests.support.bundle import Bundle
from tests.support.console import ConsoleSocket
from tests.support.runtime import Runtime
from tests.support.timing import eventually

Bundles = Callable[..., Bundle]
Plant = Callable[[Bundle, str], str]

SECRET = "of-the-caller-and-no-one-else"
ROUNDS = max(test_proc_access.ROUNDS // (8 if "VM_RUN" in os.environ else 1), 2)  # an emulated machine is slow
REFUSES_REBOOT = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["reboot"], "action": "SCMP_ACT_ERRNO"}],
}
REFUSES_FORKS = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["clone", "fork", "vfork"], "action": "SCMP_ACT_ERRNO"}],
}


@pytest.fixture
def mark(scratch: Path) -> Path:
    """A file of the host."""
    path = scratch / "of-the-host"
    path.write_text("of the host\n")
    return path


@contextmanager
def hunting(
    runtime: Runtime, bundle: Bundle, program: str, mark: Path, filtered: bool, known: tuple[str, ...] = ()
) -> Iterator[int]:
    """Run a container that hunts, and check in the end that it has found nothing but what is ``known``."""
    bundle.set("process.args", [program, str(mark), SECRET[::-1], str(int(filtered))])
    reader, writer = os.pipe()
    try:
        runtime.run(bundle, "--detach", stdin=reader)
        eventually(lambda: "hunting" in bundle.stdout, 10, "the hunt's beginning")
        pid = runtime.pid(bundle)
        yield pid
    finally:
        os.close(reader)
        os.close(writer)  # which ends the hunt
    assert runtime.wait(pid) == 0
    assert {*bundle.stdout.splitlines()} - {"hunting"} <= {*known}


def caller() -> dict[str, Any]:
    """For `subprocess`: an environment of a caller who has a secret."""
    return {"env": {**os.environ, "GOSUDACON_TEST_SECRET": SECRET}}


def shaped(bundle: Bundle, shape: str) -> Bundle:
    """A container with CAP_SYS_PTRACE and no user namespace."""
    privileged(bundle, "CAP_SYS_PTRACE")
    if shape == "filter":
        bundle.set("linux.seccomp", REFUSES_REBOOT)
    if shape == "no new privileges":
        bundle.set("process.noNewPrivileges", True).set("linux.seccomp", REFUSES_REBOOT)
    return bundle


SHAPES = ["plain", "filter", "no new privileges"]


@pytest.mark.vm
@pytest.mark.parametrize("shape", SHAPES)
def test_exec(runtime: Runtime, bundle: Bundle, plant: Plant, mark: Path, shape: str) -> None:
    with hunting(runtime, shaped(bundle, shape), plant(bundle, "hunt"), mark, shape != "plain"):
        for _ in range(ROUNDS):
            runtime.call("exec", bundle.id, "/bin/true", **caller())


def test_exec_with_a_terminal(
    runtime: Runtime, bundle: Bundle, plant: Plant, mark: Path, console_socket: ConsoleSocket
) -> None:
    with hunting(runtime, shaped(bundle, "filter"), plant(bundle, "hunt"), mark, True):
        for _ in range(ROUNDS // 2):
            options = ("--detach", "--tty", "--console-socket", console_socket.path, "--pid-file", bundle.path / "pid")
            runtime.call("exec", *options, bundle.id, "/bin/true", **caller())
            terminal = console_socket.receive()
            assert runtime.wait(int((bundle.path / "pid").read_text())) == 0
            terminal.close()


@pytest.mark.parametrize("shape", ["filter", "no new privileges"])
def test_exec_of_a_user(runtime: Runtime, bundle: Bundle, plant: Plant, mark: Path, shape: str) -> None:
    """Nothing is left of root's rights either, nor of additional groups."""
    with hunting(runtime, shaped(bundle, shape), plant(bundle, "hunt"), mark, True):
        for _ in range(ROUNDS // 2):
            runtime.call("exec", "--user", "1000:1000", bundle.id, "/bin/true", **caller())


def test_exec_where_the_filter_refuses_forks(runtime: Runtime, bundle: Bundle, plant: Plant, mark: Path) -> None:
    """The process is born without its filter and with what it takes to load it, as docs/security.md says."""
    bundle = privileged(bundle, "CAP_SYS_PTRACE").set("linux.seccomp", REFUSES_FORKS)
    known = ("without a filter", "more capabilities: permitted", "more capabilities: effective")
    with hunting(runtime, bundle, plant(bundle, "hunt"), mark, True, known):
        for _ in range(ROUNDS // 2):
            runtime.call("exec", bundle.id, "/bin/true", **caller())


@pytest.mark.vm
@pytest.mark.parametrize("shape", SHAPES)
def test_containers_that_join(runtime: Runtime, make_bundle: Bundles, plant: Plant, mark: Path, shape: str) -> None:
    hunter, other = shaped(make_bundle(), shape), shaped(make_bundle(["true"]), shape)
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **caller()}
    known = () if gather().kernel >= OPTION_PIDNS else ("more capabilities: permitted", "more capabilities: effective")
    with hunting(runtime, hunter, plant(hunter, "hunt"), mark, shape != "plain", known) as pid:
        other.add_namespace("pid", f"/proc/{pid}/ns/pid")
        for number in range(ROUNDS // 2):
            name = f"{other.id}-{number}"
            runtime.create(other, container_id=name, **silent)
            init = runtime.pid(name)
            runtime.start(name)
            assert runtime.wait(init) == 0
            runtime.delete(name)


@pytest.mark.vm
def test_proc_shows_the_namespace_that_is_joined(runtime: Runtime, make_bundle: Bundles) -> None:
    """proc is mounted before the process is in there; it must be neither the host's nor another's."""
    first, second = make_bundle(), make_bundle("ps -o pid,args; echo $$; readlink /proc/self")
    runtime.boot(first)
    second.add_namespace("pid", f"/proc/{runtime.pid(first)}/ns/pid")
    shown = runtime.output(second).splitlines()
    assert [line.split(maxsplit=1)[1] for line in shown if line.strip().startswith("1 ")] == ["sleep 1000"]
    assert len(shown) < 8 and shown[-2] != "1"


def test_options_of_proc_that_shows_others(runtime: Runtime, make_bundle: Bundles) -> None:
    first, second = make_bundle(), make_bundle("grep ' /proc ' /proc/mounts")
    runtime.boot(first)
    second.add_namespace("pid", f"/proc/{runtime.pid(first)}/ns/pid")
    second.config["mounts"] = [mount for mount in second.config["mounts"] if mount["destination"] != "/proc"]
    second.add_mount("/proc", "proc", "proc", "nosuid", "nodev", "noexec", "ro", "hidepid=2")
    options = runtime.output(second).split()[3].split(",")
    assert {"nosuid", "nodev", "noexec", "ro"} <= {*options} and "hidepid=invisible" in options
