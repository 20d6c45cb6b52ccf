"""Pods, user namespaces that podman chooses, and readiness: containers that podman ties to others and to the host."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.clients.podman import IMAGE, Podman
from tests.support import cgroups, namespaces
from tests.support.needs import needs
from tests.support.timing import eventually, seconds

_SLEEP = "exec sleep 1000"


def cgroup_of(podman: Podman, pod: str) -> str:
    """The path of the pod's own cgroup."""
    found = json.loads(podman.output("pod", "inspect", pod))
    path: str = (found[0] if isinstance(found, list) else found)["CgroupPath"]  # a list from Podman 5 on
    return path


@contextmanager
def new_pod(podman: Podman, *options: str) -> Iterator[str]:
    """A pod, whose infra container sleeps; removed with all that is in it."""
    infra = ["--infra-image", IMAGE, "--infra-command", "sleep 1001", "--cgroup-parent", podman.cgroup_parent]
    podman.call("pod", "create", "--name", "pod", "--network", "none", *options, *infra)
    path = cgroup_of(podman, "pod")
    try:
        yield "pod"
    finally:
        podman.call("pod", "rm", "--force", "--time", "0", "pod")
        # On cgroup v1 podman itself makes and removes the pod's cgroup, but only in the hierarchies it knows of: in
        # those of systemd and cgroup2 it came with the containers' cgroups, and no runtime removes parents.
        for item in cgroups.hierarchies():
            cgroups.remove(item.mountpoint / path.lstrip("/"))


@pytest.fixture
def pod(podman: Podman) -> Iterator[str]:
    """A pod with the usual shared namespaces: network, IPC, UTS."""
    with new_pod(podman) as name:
        yield name


def start(podman: Podman, pod: str, *options: str) -> str:
    """A container in the pod that sleeps."""
    return podman.output("run", "--detach", "--pod", pod, *options, IMAGE, "sleep", "1000")


def links(pid: int) -> dict[str, str]:
    """The namespaces of a process."""
    return {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("net", "ipc", "uts", "pid", "mnt")}


def test_two_containers_share_namespaces(podman: Podman, pod: str) -> None:
    one, two = (links(podman.pid(start(podman, pod))) for _ in range(2))
    own = links(os.getpid())
    assert {kind for kind in one if one[kind] == two[kind]} == {"net", "ipc", "uts"}
    assert not {kind for kind in one if one[kind] == own[kind]}


def test_a_pod_with_one_pid_namespace(podman: Podman) -> None:
    with new_pod(podman, "--share", "pid,net") as name:
        text = podman.output("exec", start(podman, name), "ps", "-o", "args")
        assert {"sleep 1001", "sleep 1000"} < set(text.splitlines())


def test_containers_of_a_pod_talk_over_loopback(podman: Podman, pod: str) -> None:
    podman.call("run", "--detach", "--pod", pod, IMAGE, "sh", "-c", "echo hello | nc -l -p 5000")
    script = "for i in $(seq 50); do nc 127.0.0.1 5000 && exit; sleep 0.1; done; exit 1"
    assert podman.call("run", "--rm", "--pod", pod, IMAGE, "sh", "-c", script).stdout == "hello\n"


def test_cgroup_of_a_pod(podman: Podman, pod: str) -> None:
    name = start(podman, pod, "--memory", "32m")
    path = cgroup_of(podman, pod)
    assert podman.cgroup(name).startswith(f"{path}/")
    assert cgroups.read("memory", podman.cgroup(name), "memory.limit_in_bytes", "memory.max") == str(32 << 20)


def test_life_of_a_pod(podman: Podman, pod: str) -> None:
    name = start(podman, pod)
    podman.call("pod", "pause", pod)
    assert podman.status(name) == "paused"
    podman.call("pod", "unpause", pod)
    podman.call("pod", "stop", "--time", "0", pod)
    assert podman.status(name) == "exited"
    podman.call("pod", "start", pod)
    assert podman.status(name) == "running"
    podman.call("pod", "kill", pod)
    eventually(lambda: podman.status(name) == "exited", 20, "the end of the pod")


def test_a_pod_from_a_file(podman: Podman, pod: str, scratch: Path) -> None:
    start(podman, pod)
    text = podman.output("generate", "kube", pod)
    assert "kind: Pod" in text
    assert IMAGE in text


# User namespaces.


@pytest.fixture
def subordinate(podman: Podman, scratch: Path) -> Iterator[None]:
    """Ids for podman's user ``containers``, from whose share ``--userns auto`` takes."""
    (scratch / "sub").write_text("containers:300000:200000\n")
    for path in ("/etc/subuid", "/etc/subgid"):
        namespaces.mount(str(scratch / "sub"), path, "none", 0x1000)
    yield
    for path in ("/etc/subuid", "/etc/subgid"):
        namespaces.unmount(path)


def test_automatic_user_namespaces(podman: Podman, subordinate: None) -> None:
    names = [podman.start(_SLEEP, "--userns", "auto:size=2000") for _ in range(2)]
    maps = [Path(f"/proc/{podman.pid(name)}/uid_map").read_text().split() for name in names]
    assert [(words[0], words[2]) for words in maps] == [("0", "2000")] * 2
    firsts = [int(words[1]) for words in maps]
    assert abs(firsts[0] - firsts[1]) >= 2000
    assert min(firsts) >= 300000
    podman.remove(*names)


def test_user_namespace_of_another_container(podman: Podman) -> None:
    name = podman.start(_SLEEP, "--uidmap", "0:100000:1000", "--gidmap", "0:100000:1000")
    expected = os.readlink(f"/proc/{podman.pid(name)}/ns/user")
    result = podman.run(["readlink", "/proc/self/ns/user"], "--userns", f"container:{name}")
    assert result.stdout.strip() == expected
    podman.remove(name)


def test_keep_id_is_for_rootless_podman(podman: Podman) -> None:
    result = podman.run("true", "--userns", "keep-id", check=False)
    assert result.returncode in (0, 125)  # podman 4.4 and later: the same as no user namespace


# Readiness.


def test_readiness_from_conmon(podman: Podman, scratch: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(scratch / "notify"))
        listener.settimeout(seconds(20))
        environment = {**podman.environment(), "NOTIFY_SOCKET": str(scratch / "notify")}
        name = podman.start(_SLEEP, "--sdnotify", "conmon", env=environment)
        messages = listener.recv(4096).decode().splitlines()
        assert f"MAINPID={podman.inspect(name, '.State.ConmonPid')}" in messages
        assert "NOTIFY_SOCKET" not in podman.output("exec", name, "env")
    podman.remove(name)


@needs("runtime:gosudacon")
def test_readiness_from_the_container(podman: Podman, scratch: Path) -> None:
    """``--sdnotify container`` hands NOTIFY_SOCKET to the container; what it says there arrives on the host."""
    script = 'echo "$NOTIFY_SOCKET" >/path; touch /ready; exec sleep 1000'
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(scratch / "notify"))
        listener.settimeout(seconds(20))
        environment = {**podman.environment(), "NOTIFY_SOCKET": str(scratch / "notify")}
        words = podman.words("run", "--detach", "--name", "notes", "--sdnotify", "container")
        words += [*map(str, podman.options()), IMAGE, "sh", "-c", script]
        client = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
        eventually(lambda: podman.call("exec", "notes", "test", "-e", "/ready", check=False).returncode == 0, 20)
        path = podman.output("exec", "notes", "cat", "/path")
        assert path
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"READY=1\n", f"/proc/{podman.pid('notes')}/root{path}")
        seen = b""
        while b"READY=1" not in seen:
            seen += listener.recv(4096)
        assert client.wait(seconds(30)) == 0
        assert client.stderr
        client.stderr.close()
    podman.remove("notes")
