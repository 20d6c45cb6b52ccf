"""What calls a runtime in daily life: containerd's ctr, Docker and Podman, each private to the bench.

A client keeps everything below a folder of the bench: images, state, sockets, logs. It runs
``run --rm`` of the one image, with the runtime that it is told to use.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

from tests.clients.image import write_image

from .accounts import end_templates
from .bundle import TRUE
from .daemons import PATIENCE, Daemon, answers
from .runtimes import Runtime
from .spawn import ENVIRONMENT, Spawner

IMAGE = "bench.local/busybox:latest"
SHIM = "shim"  # as a runtime: gosudacon's own shim, which has the runtime in it


class Unavailable(Exception):
    """A client cannot be measured here; the message says why."""


class Client:
    """Common to all: which programs are needed, and the commands of the set-up."""

    name = ""
    programs: tuple[str, ...] = ()
    shims = False  # whether it can use a shim in place of a runtime

    def __init__(self, spawner: Spawner, base: Path, rootfs: Path, cgroup: str, runtimes: Sequence[Runtime]) -> None:
        """``base`` is a folder of its own that exists; ``cgroup`` begins with a slash."""
        missing = [program for program in self.programs if shutil.which(program) is None]
        if missing:
            raise Unavailable(f"no {' and no '.join(missing)}")
        self.environment = dict(ENVIRONMENT)
        self._spawner = spawner
        self._base = base
        self._rootfs = rootfs
        self._cgroup = cgroup
        self._paths = {runtime.name: str(program(runtime, base)) for runtime in runtimes}

    def start(self) -> None:
        """Bring the client up with the image in it; NoAnswer or Unavailable when that fails."""
        raise NotImplementedError

    def command(self, runtime: str, name: str) -> list[str]:
        """Command line that runs the container ``name`` to its end and removes it."""
        raise NotImplementedError

    def stop(self) -> None:
        """End what `start` has started. Repeating it does no harm."""
        raise NotImplementedError

    def _do(self, *argv: str) -> None:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=PATIENCE * 2, check=False, env=self.environment
        )
        if done.returncode != 0:
            raise Unavailable(f"{shlex.join(argv)}: {done.stderr.strip()[-300:]}")


class Containerd(Client):
    """containerd with its shim, called by ctr."""

    name = "ctr"
    shims = True
    programs = ("containerd", "ctr", "containerd-shim-runc-v2")
    _daemon: Daemon | None = None

    def start(self) -> None:
        """As in `Client`."""
        self.serve()
        archive = self._base / "image.tar"
        write_image(archive, self._rootfs, IMAGE)
        self._do(*self._ctr(), "images", "import", str(archive))

    def serve(self) -> None:
        """Start the daemon without an image, for Docker."""
        config = self._base / "config.toml"
        config.write_text(_containerd_config(self._base))
        argv = [found("containerd"), "--config", str(config)]
        self._daemon = Daemon(self._spawner, argv, self._base / "containerd.log")
        self._daemon.wait_for(lambda: answers([*self._ctr(), "version"]))

    @property
    def socket(self) -> str:
        """Path of the daemon's socket."""
        return f"{self._base}/s"

    def command(self, runtime: str, name: str) -> list[str]:
        """As in `Client`."""
        one = Runtime(runtime, (self._paths[runtime],))
        return [*self._ctr(), *run_command(one, self._base, f"{self._cgroup}/{name}", name), *TRUE]

    def stop(self) -> None:
        """As in `Client`."""
        if self._daemon is not None:
            self._daemon.stop()
        end_templates()

    def _ctr(self) -> list[str]:
        return [found("ctr"), "--address", self.socket, "--namespace", "bench"]


class Docker(Client):
    """dockerd on a containerd of the bench, called by docker; without any network."""

    name = "docker"
    programs = ("dockerd", "docker", "containerd", "containerd-shim-runc-v2", "ctr")
    _daemon: Daemon | None = None
    _containerd: Containerd | None = None

    def start(self) -> None:
        """As in `Client`."""
        below = self._base / "c"
        below.mkdir()
        self._containerd = Containerd(self._spawner, below, self._rootfs, self._cgroup, ())
        self._containerd.serve()
        base = self._base
        config = {
            "data-root": f"{base}/data",
            "exec-root": f"{base}/exec",
            "pidfile": f"{base}/pid",
            "hosts": [f"unix://{base}/s"],
            "containerd": self._containerd.socket,
            "storage-driver": "vfs",
            "bridge": "none",
            "iptables": False,
            "ip6tables": False,
            "ip-forward": False,
            "ip-masq": False,
            "userland-proxy": False,
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "runtimes": {f"bench-{name}": {"path": path} for name, path in self._paths.items()},
        }
        file = base / "daemon.json"
        file.write_text(json.dumps(config))
        self.environment["DOCKER_CONFIG"] = str(base)
        self._daemon = Daemon(self._spawner, [found("dockerd"), "--config-file", str(file)], base / "dockerd.log")
        self._daemon.wait_for(lambda: answers([*self._docker(), "version"]))
        self._do(*self._docker(), "import", str(_archive(base, self._rootfs)), IMAGE)

    def command(self, runtime: str, name: str) -> list[str]:
        """As in `Client`."""
        options = ["--rm", "--network", "none", "--cgroup-parent", self._cgroup, "--name", name]
        return [*self._docker(), "run", *options, "--runtime", f"bench-{runtime}", IMAGE, *TRUE]

    def stop(self) -> None:
        """As in `Client`."""
        if self._daemon is not None:
            self._daemon.stop()
        if self._containerd is not None:
            self._containerd.stop()

    def _docker(self) -> list[str]:
        return [found("docker"), "--host", f"unix://{self._base}/s"]


class Podman(Client):
    """Podman, which has no daemon: each call does it all, with conmon as the container's parent."""

    name = "podman"
    programs = ("podman", "conmon")

    def start(self) -> None:
        """As in `Client`."""
        base = self._base
        paths = "".join(f'{json.dumps(name)} = ["{path}"]\n' for name, path in self._paths.items())
        (base / "containers.conf").write_text(
            '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\nlock_type = "file"\n'
            f'tmp_dir = "{base}/tmp"\n[engine.runtimes]\n{paths}'
        )
        (base / "storage.conf").write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{base}/root"\nrunroot = "{base}/run"\n'
        )
        self.environment["CONTAINERS_CONF"] = str(base / "containers.conf")
        self.environment["CONTAINERS_STORAGE_CONF"] = str(base / "storage.conf")
        # No image: importing one writes to a cache of the machine, wherever storage is.
        shutil.copytree(self._rootfs, base / "rootfs", symlinks=True)

    def command(self, runtime: str, name: str) -> list[str]:
        """As in `Client`."""
        options = ["--rm", "--network", "none", "--cgroup-parent", self._cgroup, "--name", name]
        # Podman's own limits are above what root may set where CAP_SYS_RESOURCE is missing.
        options += ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
        state = f"root={self._base}/{runtime}"
        return [
            *(found("podman"), "--runtime", self._paths[runtime], "--runtime-flag", state),
            *("run", *options, "--rootfs", f"{self._base}/rootfs", *TRUE),
        ]

    def stop(self) -> None:
        """As in `Client`: nothing runs when no container does."""


def run_command(runtime: Runtime, base: Path, cgroup: str, name: str) -> list[str]:
    """Words for ctr to run the container ``name`` of the bench's image to its end; the program's are to follow."""
    options = ["--rm", "--fifo-dir", f"{base}/fifo", "--cgroup", cgroup]
    chosen = ["--runc-binary", str(program(runtime, base)), "--runc-root", f"{base}/{runtime.name}"]
    if runtime.name == SHIM:
        chosen = ["--runtime", runtime.command[0]]
    return ["run", *options, *chosen, IMAGE, name]


def own_shim(runtimes: Sequence[Runtime]) -> Path | None:
    """The shim that is installed next to the gosudacon under test."""
    for runtime in runtimes:
        path = Path(runtime.command[0]).with_name("containerd-shim-gosudacon-v1")
        if runtime.name == "gosudacon" and path.exists():
            return path
    return None


KINDS: tuple[type[Client], ...] = (Containerd, Docker, Podman)
NAMES = tuple(kind.name for kind in KINDS)


def found(name: str) -> str:
    """Full path of a program: posix_spawn(3) does not search."""
    return shutil.which(name) or name


def program(runtime: Runtime, base: Path) -> Path:
    """A single path that calls the runtime: a client takes no arguments for it."""
    if len(runtime.command) == 1:
        return Path(runtime.command[0])
    script = base / f"{runtime.name}.sh"
    script.write_text(f'#!/bin/sh\nexec {shlex.join(runtime.command)} "$@"\n')
    script.chmod(0o755)
    return script


def _archive(base: Path, rootfs: Path) -> Path:
    path = base / "rootfs.tar"
    with tarfile.open(path, "w") as archive:
        for name in sorted(entry.name for entry in rootfs.iterdir()):
            archive.add(rootfs / name, arcname=name)
    return path


def _containerd_config(base: Path) -> str:
    # What the bench does not use is off: the rest looks for file systems and for networks of the machine.
    plugins = ["grpc.v1.cri", "internal.v1.opt", "internal.v1.restart", "snapshotter.v1.aufs"]
    plugins += [f"snapshotter.v1.{name}" for name in ("btrfs", "devmapper", "zfs")]
    disabled = ", ".join(f'"io.containerd.{name}"' for name in plugins)
    return (
        f'version = 2\nroot = "{base}/root"\nstate = "{base}/state"\ndisabled_plugins = [{disabled}]\n'
        f'[grpc]\naddress = "{base}/s"\n[ttrpc]\naddress = "{base}/t"\n'
    )
