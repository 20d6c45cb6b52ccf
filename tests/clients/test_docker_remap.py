"""A dockerd with userns-remap, in which the runtime under test is not the default: it is chosen by name."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.daemon import own_shim, wrapper
from tests.clients.dockerd import Dockerd, clean, daemon_json, running_dockerd, shim_json
from tests.support import cgroups, namespaces
from tests.support.leftovers import Watch
from tests.support.needs import needs
from tests.support.runtime import runtime_command
from tests.support.timing import eventually

pytestmark = needs("userns", "program:runc")
FIRST, COUNT = 231072, 65536
CHOSEN = ("--runtime", "gosudacon")
SLEEP = "exec sleep 1000"


@pytest.fixture(scope="module", params=["runc", "shim"])
def remapped(
    request: pytest.FixtureRequest, shims: None, session_scratch: Path, busybox_rootfs: Path, token: str
) -> Iterator[Dockerd]:
    """A dockerd whose containers have root's ids from FIRST on, which it finds in files of this run's own.

    It runs again with our shim.
    """
    scratch = session_scratch / "remap"
    shim: Path | None = None
    if request.param == "shim":
        settings, shim = {"runtimes": shim_json()["runtimes"]}, own_shim(runtime_command())
    scratch.mkdir()
    if request.param == "runc":
        settings = daemon_json("name", wrapper(runtime_command(), scratch / "runtime"))
    ids = {"/etc/subuid": scratch / "ids", "/etc/subgid": scratch / "ids"}
    (scratch / "ids").write_text(f"daemon:{FIRST}:{COUNT}\n")
    for target, source in ids.items():
        assert Path(target).exists(), f"{target} comes with the package passwd"
        namespaces.mount(str(source), target, "none", 0x1000)  # MS_BIND
    try:
        options = ["--userns-remap", "daemon", "--bridge", "none"]
        with running_dockerd(scratch / "d", token, busybox_rootfs, settings, *options, shim=shim) as daemon:
            yield daemon
    finally:
        for target in ids:
            namespaces.unmount(target)
        shutil.rmtree(scratch)


@pytest.fixture
def docker(remapped: Dockerd, leftovers: Watch) -> Iterator[Dockerd]:
    """The daemon, for one test, after which its containers are removed and nothing may be left of them."""
    yield from clean(remapped, leftovers)


def test_runtime_by_name(docker: Dockerd) -> None:
    assert docker.docker("info", "--format", "{{.DefaultRuntime}}").stdout == "runc\n"
    name = docker.detached(SLEEP, *CHOSEN)
    assert docker.inspect(name, ".HostConfig.Runtime") == "gosudacon"
    assert [path.name for path in docker.states.iterdir()] == [name]
    # runc beside it.
    assert docker.run("echo hi", "--runtime", "runc").stdout == "hi\n"
    result = docker.run("true", "--runtime", "nosuch", check=False)
    assert result.returncode == 125
    assert "nosuch" in result.stderr


def test_ids(docker: Dockerd, scratch: Path) -> None:
    (scratch / "shared").mkdir()
    (scratch / "shared").chmod(0o777)
    script = "cat /proc/self/uid_map /proc/self/gid_map; id -u; touch /s/root; chown 7:8 /s; stat -c %u /bin/busybox"
    result = docker.run(script, *CHOSEN, "--volume", f"{scratch}/shared:/s", check=False)
    assert result.stdout.split() == ["0", str(FIRST), str(COUNT)] * 2 + ["0", "0"]
    assert "chown: /s: Operation not permitted" in result.stderr  # it is the host's root's
    status = (scratch / "shared/root").stat()
    assert (status.st_uid, status.st_gid) == (FIRST, FIRST)
    assert docker.run("id", *CHOSEN, "--user", "user").stdout.startswith("uid=1000(user) ")


def test_confinement(docker: Dockerd) -> None:
    script = "grep -E 'CapEff|Seccomp:' /proc/self/status; echo 1 >/proc/sys/kernel/panic; mount -t tmpfs t /mnt"
    result = docker.run(script, *CHOSEN, check=False)
    assert result.stdout.split() == ["CapEff:", "00000000a80425fb", "Seccomp:", "2"]
    assert result.returncode != 0
    assert "/proc/sys/kernel/panic" in result.stderr
    result = docker.run("ls /dev | wc -l; echo x >/dev/full; touch /x", *CHOSEN, "--read-only", check=False)
    assert int(result.stdout) > 10
    assert "No space left on device" in result.stderr
    assert "Read-only file system" in result.stderr


def test_bad_commands(docker: Dockerd) -> None:
    for command, status, text in (("nosuch", 127, "not found in $PATH"), ("/etc/passwd", 126, "permission denied")):
        result = docker.run([command], *CHOSEN, check=False)
        assert result.returncode == status
        assert text in result.stderr


def test_volume_and_tmpfs(docker: Dockerd) -> None:
    options = ["-v", "/data", "--tmpfs", "/t:size=64k", "--workdir", "/data"]
    assert docker.run("touch x; stat -c %u x . /t; pwd", *CHOSEN, *options).stdout.split() == ["0", "0", "0", "/data"]


def test_exec_pause_update_and_stop(docker: Dockerd) -> None:
    name = docker.detached("trap 'exit 5' TERM; touch /ready; while :; do sleep 0.05; done", *CHOSEN)
    docker.ready(name)
    result = docker.docker(
        "exec", "--user", "user", name, "sh", "-c", "id -un; cat /proc/self/uid_map; exit 7", check=False
    )
    assert (result.returncode, result.stdout.split()) == (7, ["user", "0", str(FIRST), str(COUNT)])
    docker.docker("pause", name)
    assert docker.status(name) == "paused"
    docker.docker("unpause", name)
    docker.docker("update", "--pids-limit", "33", name)
    assert cgroups.read("pids", docker.cgroup(name), "pids.max", "pids.max") == "33"
    assert "sleep" in docker.docker("top", name).stdout
    docker.docker("stop", name)
    assert docker.inspect(name, ".State.ExitCode") == "5"


def test_namespaces_of_another_container(docker: Dockerd) -> None:
    name = docker.detached("touch /ready; exec sleep 1000", *CHOSEN, "--ipc", "shareable")
    docker.ready(name)
    joined = [word for kind in ("pid", "network", "ipc") for word in (f"--{kind}", f"container:{name}")]
    result = docker.run("ps -o args; id -u; cat /proc/self/uid_map", *CHOSEN, *joined)
    assert "sleep 1000" in result.stdout
    assert result.stdout.split()[-4:] == ["0", "0", str(FIRST), str(COUNT)]


def test_without_the_mapping(docker: Dockerd) -> None:
    script = "cat /proc/self/uid_map; stat -c %u /bin"
    assert docker.run(script, *CHOSEN, "--userns", "host").stdout.split()[:2] == ["0", "0"]
    docker.run("true", *CHOSEN, "--userns", "host", "--network", "host")


def test_health(docker: Dockerd) -> None:
    name = docker.detached(SLEEP, *CHOSEN, "--health-cmd", "id", "--health-interval", "100ms")
    eventually(lambda: docker.inspect(name, ".State.Health.Status") == "healthy", 20, "its health")
