"""A private dockerd: its own sockets, folders, containerd and configuration, and docker talking to it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.clients.daemon import SHIMS, Completed, Template, checked, own_states
from tests.support import namespaces
from tests.support.leftovers import Watch
from tests.support.processes import Process, descendants, end
from tests.support.runtime import CHECKOUT
from tests.support.timing import eventually, seconds

NEWER = os.environ.get("GOSUDACON_TEST_PROGRAMS", "/usr/sbin")
"""Directories of programs that come before the machine's, as in PATH."""
PROGRAM = shutil.which("docker", path=f"{NEWER}:/usr/bin:/bin:/usr/local/bin") or "docker"
"""The client: Debian's, if it is there."""
SHIMS_SINCE = 24
"""The version from which on Docker takes shims by daemon.json."""
IMAGE = "busybox"
INSTALLED = "/usr/local/bin/gosudacon"
"""The runtime's path in docs/integration.md."""


class Dockerd:
    """The daemon; ``settings`` is the content of its daemon.json.

    Cgroups of containers are children of ``parent``. ``shim``: the shim of our own, if the settings name it.
    """

    def __init__(
        self, base: Path, parent: str, settings: dict[str, Any], *options: str, shim: Path | None = None
    ) -> None:
        self._shim = shim
        if shim is not None:
            Template.begin(shim)
        self.base = base
        self.parent = parent
        self.log = base / "log"
        self.detached_ones: list[str] = []
        base.mkdir()
        base.chmod(0o755)
        (base / "daemon.json").write_text(json.dumps(settings))
        words = ["--config-file", base / "daemon.json", "--data-root", base / "data", "--exec-root", base / "exec"]
        words += ["--pidfile", base / "pid", "--host", f"unix://{base}/s", "--cgroup-parent", parent]
        words += ["--iptables=false", "--ip6tables=false", *options]
        path = f"{NEWER}:/usr/sbin:/usr/bin:/sbin:/bin:{os.environ.get('PATH', '')}"
        if shim is not None:
            path = f"{shim.parent}:{path}"
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                ["dockerd", *map(str, words)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env={**os.environ, "PATH": path, "TMPDIR": str(base)},
            )
        try:
            eventually(self._answers, 30, "dockerd's answer")
        except AssertionError as error:
            self.stop()
            raise AssertionError(f"{error}\n{self.log.read_text(errors='replace')[-4000:]}") from None

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            raise AssertionError(f"dockerd has ended with status {self._process.returncode}")
        return self.docker("version", check=False).returncode == 0

    # Places.

    @property
    def states(self) -> Path:
        """The directory in which the runtime keeps the containers; dockerd chooses its name, but not for our shim."""
        if self._shim is not None:
            return _of_docker(own_states(self.base / "exec/containerd/containerd.sock"))
        return _of_docker(self.base / "exec/runtime-runc")

    @property
    def roots(self) -> list[Path]:
        """Directories that have an entry for each container that there is."""
        bundles = _of_docker(self.base / "exec/containerd/daemon/io.containerd.runtime.v2.task")
        return [self.states, bundles, self.base / "data/containers"]

    def cgroup(self, name: str) -> str:
        """The path of a container's cgroup."""
        return f"{self.parent}/{self.inspect(name, '.Id')}"

    # Calls.

    def words(self, *arguments: str | Path) -> list[str]:
        """The command line of ``docker`` with these arguments."""
        return [PROGRAM, "--config", f"{self.base}/client", "--host", f"unix://{self.base}/s", *map(str, arguments)]

    def docker(self, *arguments: str | Path, check: bool = True, limit: float = 60, **kw: Any) -> Completed:
        """Run ``docker`` to its end; with ``check`` a status other than 0 fails the test."""
        if "input" not in kw:
            kw.setdefault("stdin", subprocess.DEVNULL)
        result = subprocess.run(
            self.words(*arguments), capture_output=True, text=True, timeout=seconds(limit), check=False, cwd="/", **kw
        )
        return checked(result) if check else result

    def run_arguments(self, command: str | Sequence[str], *options: str | Path) -> list[str | Path]:
        """Arguments of ``docker`` to run a container; a string is for ``sh -c``."""
        words = ["sh", "-c", command] if isinstance(command, str) else command
        return ["run", *options, IMAGE, *words]

    def run(self, command: str | Sequence[str], *options: str | Path, check: bool = True, **kw: Any) -> Completed:
        """``docker run --rm`` to its end."""
        return self.docker(*self.run_arguments(command, "--rm", *options), check=check, **kw)

    def detached(self, command: str | Sequence[str], *options: str | Path) -> str:
        """``docker run --detach``; the id of the container, which is removed after the test."""
        result = self.docker(*self.run_arguments(command, "--detach", *options))
        self.detached_ones.append(result.stdout.strip())
        return self.detached_ones[-1]

    def remove(self, *names: str) -> None:
        """``docker rm --force --volumes``."""
        self.docker("rm", "--force", "--volumes", *names)
        self.detached_ones = [name for name in self.detached_ones if name not in names]

    def inspect(self, name: str, what: str) -> str:
        """What ``docker inspect`` says of a container for a template's inside, as ``.State.Status``."""
        return self.docker("inspect", "--type", "container", "--format", f"{{{{{what}}}}}", name).stdout.strip()

    def pid(self, name: str) -> int:
        """The number of a container's first process on the host, 0 without one."""
        return int(self.inspect(name, ".State.Pid"))

    def status(self, name: str) -> str:
        """``running``, ``exited``, ``paused``..."""
        return self.inspect(name, ".State.Status")

    def ready(self, name: str, file: str = "ready") -> None:
        """Wait until the container has made this file at its root."""
        path = Path(f"/proc/{self.pid(name)}/root/{file}")
        eventually(path.exists, 20, f"{file} in {name}")

    def wait(self, name: str) -> int:
        """Wait for the end of a container; its exit status."""
        return int(self.docker("wait", name).stdout)

    # What there is.

    def left(self) -> dict[str, list[str]]:
        """Containers and volumes that exist, and what containerd knows of containers."""
        address = f"{self.base}/exec/containerd/containerd.sock"
        known = subprocess.run(
            ["ctr", "--address", address, "--namespace", "moby", "containers", "list", "-q"],
            capture_output=True,
            text=True,
            timeout=seconds(30),
            check=True,
        )
        found = {
            "containers": self.docker("ps", "--all", "--quiet").stdout.split(),
            "volumes": self.docker("volume", "ls", "--quiet").stdout.split(),
            "containers of containerd": known.stdout.split(),
        }
        return {kind: names for kind, names in found.items() if names}

    def shim(self, name: str) -> Process:
        """The shim of a container."""
        wanted = self.inspect(name, ".Id").encode()
        for process in descendants():
            try:
                words = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0].endswith(SHIMS) and wanted in words:
                return process
        raise AssertionError(f"{name} has no shim")

    def stop(self) -> None:
        """End the daemon, and unmount what it has mounted for itself."""
        end(self._process, 30)
        points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for point in reversed(points):
            if point.startswith(f"{self.base}/"):
                namespaces.unmount(point)


def _of_docker(place: Path) -> Path:
    """containerd's namespace of Docker; from Docker 23 on it has users' numbers behind its name, if remapped."""
    return next(place.glob("moby*"), place / "moby")


def daemon_json(kind: str, runtime: Path) -> dict[str, Any]:
    """The ``name`` or the ``default`` daemon.json of docs/integration.md, for a runtime at this path."""
    section = (CHECKOUT / "docs/integration.md").read_text().partition("\n## Docker\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```json\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    chosen = {"name": blocks[0], "default": blocks[1]}[kind]
    assert INSTALLED in chosen
    settings = json.loads(chosen.replace(INSTALLED, str(runtime)))
    assert isinstance(settings, dict)
    return settings


def shim_json() -> dict[str, Any]:
    """The daemon.json of docs/shim.md, with our shim for all containers. Skips the test where Docker is too old."""
    version = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    if int(version.split(".")[0]) < SHIMS_SINCE:
        pytest.skip(f"needs docker>={SHIMS_SINCE}")
    text = (CHECKOUT / "docs/shim.md").read_text()
    (block,) = re.findall(r"^    (\{ \"runtimes\".*\})$", text, re.MULTILINE)
    settings: dict[str, Any] = json.loads(block)
    (name,) = settings["runtimes"]
    return {**settings, "default-runtime": name}


@contextmanager
def running_dockerd(
    base: Path, token: str, rootfs: Path, settings: dict[str, Any], *options: str, shim: Path | None = None
) -> Iterator[Dockerd]:
    """A dockerd with ``IMAGE``, made of ``rootfs``; skips the test where it is not installed."""
    for program in ("dockerd", PROGRAM):
        if shutil.which(program, path=f"{NEWER}:/usr/sbin:/usr/bin:{os.environ.get('PATH', '')}") is None:
            pytest.skip(f"needs program:{program}")
    daemon = Dockerd(base, f"/gosudacon-test/{token}", settings, *options, shim=shim)
    try:
        archive = subprocess.run(["tar", "-C", rootfs, "-c", "."], capture_output=True, check=True)
        subprocess.run(
            daemon.words("import", "--change", "CMD sh", "-", IMAGE),
            input=archive.stdout,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        daemon.run("true", "--network", "host", "--userns", "host")  # what dockerd mounts for that stays
        yield daemon
    finally:
        daemon.stop()
        shutil.rmtree(base, ignore_errors=True)


def clean(daemon: Dockerd, leftovers: Watch) -> Iterator[Dockerd]:
    """What a fixture for one test does: remove its containers, and fail if it leaves anything."""
    leftovers.add_roots(*daemon.roots)
    yield daemon
    if daemon.detached_ones:
        daemon.remove(*daemon.detached_ones)
    left = daemon.left()
    if left:
        for name in left.get("containers", []):
            daemon.docker("rm", "--force", "--volumes", name, check=False)
        for name in left.get("volumes", []):
            daemon.docker("volume", "rm", name, check=False)
        pytest.fail(f"left in dockerd: {left}", pytrace=False)
