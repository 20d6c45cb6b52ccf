"""Pods: what a kubelet asks of containerd, with runc's shim and with gosudacon's own.

One containerd, private to the bench, has a handler for each runtime, so that they take turns. A pod has the host's
network, no image is pulled, and its one container sleeps.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.clients.image import write_image

from . import accounts, clients
from .bundle import TRUE
from .daemons import Daemon, answers, wait_for_children
from .leftovers import PARENT, mounts_below
from .runtimes import BARE, Runtime
from .spawn import ENVIRONMENT, CommandFailed, Sample, TimedOut
from .stats import rotated
from .timing import Results, Series
from .workspace import Workspace

if TYPE_CHECKING:
    from tests.clients.cri import Cri, Pod

LOAD = 8  # processes that want a processor all the time
ENDS = 20  # pods at the beginning and at the end of many that are compared
CTR, POD, EXEC, LOADED = "ctr run --rm", "pod", "exec", f"pod, load of {LOAD}"
_HOST_NETWORK = 2
_SLEEP = ["/bin/sleep", "100000"]
_CONFIG = """\
version = 2
root = "{base}/root"
state = "{base}/state"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.internal.v1.restart",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
address = "{base}/s"
[ttrpc]
address = "{base}/t"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{image}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{base}/cni"
conf_dir = "{base}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "{default}"
"""
_RUNTIME = """\
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}]
runtime_type = "{type}"
"""
_RUNC_OPTIONS = """\
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}.options]
BinaryName = "{path}"
Root = "{base}/{name}"
"""


@dataclass
class Many:
    """Pods that were made one after the other and then removed, with one runtime; nanoseconds and KiB."""

    count: int
    made: list[int] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)
    private: list[int] = field(default_factory=list)
    proportional: list[int] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


class Pods:
    """Measures; ``results`` has what is done once in a while by measure and runtime, ``many`` the pods at a time."""

    def __init__(self, workspace: Workspace, settle: float, say: Callable[[str], None]) -> None:
        self._work = workspace
        self._settle = settle
        self._say = say
        self._base = workspace.folder / "pods"
        self._cgroup = f"/{PARENT}/{workspace.run_id}/pods"
        self._number = 0
        self.results: Results = {}
        self.many: dict[str, Many] = {}
        self.skipped: list[tuple[str, str]] = []

    def measure(self, shim: Path | None, warmup: int, runs: int, count: int) -> None:
        """Do all of it. Raises `clients.Unavailable` without containerd, or without grpcio, which CRI needs."""
        missing = [name for name in ("containerd", "ctr", "containerd-shim-runc-v2") if shutil.which(name) is None]
        if missing:
            raise clients.Unavailable(f"no {' and no '.join(missing)}")
        try:
            from tests.clients.cri import Cri
        except ImportError as error:
            raise clients.Unavailable(f"{error}: pip install grpcio") from None
        self._runtimes = {one.name: one for one in self._work.runtimes.values() if one.name != BARE}
        if shim is not None:
            self._runtimes = {clients.SHIM: Runtime(clients.SHIM, (str(shim),)), **self._runtimes}
        before = accounts.files()
        with self._containerd(shim), self._connected(Cri) as cri:
            self._cri = cri
            up = [name for name in self._runtimes if self._tried(name)]
            for what, once in ((CTR, self._run), (POD, self._pod)):
                self._rounds(what, once, up, warmup, runs)
            with self._load():
                self._rounds(LOADED, self._pod, up, 1, runs)
            for name in up:
                self._many(name, count)
        if (new := accounts.files() - before) and self.many:
            next(iter(self.many.values())).left += sorted(new)

    # Coming up and going down.

    @contextmanager
    def _containerd(self, shim: Path | None) -> Iterator[None]:
        work = self._work
        work.namespaces.enter(False)
        (self._base / "cni").mkdir(parents=True)  # containerd watches it, and logs what changes in it: not with the log
        self._account = accounts.Account(work.run_id)
        (self._base / "config.toml").write_text(self._config())
        if shim is not None:
            self._account.add(work.spawner.start([str(shim), "template"]))
        argv = [clients.found("containerd"), "--config", str(self._base / "config.toml")]
        folder = f"{shim.parent}:" if shim is not None else ""
        environment = {**ENVIRONMENT, "PATH": folder + ENVIRONMENT["PATH"]}
        daemon = Daemon(work.spawner, argv, self._base / "containerd.log", environment)
        try:
            self._daemon = daemon.pid
            self._account.add(daemon.pid)
            daemon.wait_for(lambda: answers([*self._ctr("bench"), "version"]))
            write_image(self._base / "image.tar", work.folder / "rootfs", clients.IMAGE, {"Cmd": _SLEEP})
            for namespace in ("bench", "k8s.io"):
                work.spawner.run([*self._ctr(namespace), "images", "import", str(self._base / "image.tar")])
            yield
        finally:
            with work.spawner.shielded():
                daemon.stop()
                accounts.end_templates()
                wait_for_children()

    @contextmanager
    def _connected(self, cri: type[Cri]) -> Iterator[Cri]:
        client = cri(self._base / "s", self._cgroup, self._base / "logs")
        try:
            deadline = time.monotonic() + 30
            while not client.call("ImageStatus", image={"image": clients.IMAGE})["image"]:
                if time.monotonic() > deadline:
                    raise clients.Unavailable("the CRI plugin does not see the image")
                time.sleep(0.1)
            yield client
        finally:
            with self._work.spawner.shielded():
                for pod in [*client.pods]:
                    _remove(pod)
            client.close()

    def _config(self) -> str:
        text = _CONFIG.format(base=self._base, image=clients.IMAGE, default=next(iter(self._runtimes)))
        for name, one in self._runtimes.items():
            if name == clients.SHIM:
                text += _RUNTIME.format(name=name, type="io.containerd.gosudacon.v1")
            else:
                path = clients.program(one, self._base)
                text += _RUNTIME.format(name=name, type="io.containerd.runc.v2")
                text += _RUNC_OPTIONS.format(name=name, path=path, base=self._base)
        return text

    def _tried(self, name: str) -> bool:
        """Whether a pod can run with this runtime at all."""
        from tests.clients.cri import Failure

        try:
            self._run(name)
            self._pod(name)
        except (CommandFailed, TimedOut) as error:
            reason = str(error).splitlines()[-1]
        except Failure as error:
            reason = str(error.details())
        else:
            self.results.clear()
            return True
        self.skipped.append((f"pods with {name}", reason))
        return False

    @contextmanager
    def _load(self) -> Iterator[None]:
        self._say(f"a load of {LOAD}")
        pids = [self._work.spawner.start([sys.executable, "-c", "while True: pass"]) for _ in range(LOAD)]
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

    # What is measured.

    def _rounds(
        self, what: str, once: Callable[[str], dict[str, Sample]], up: Sequence[str], warm: int, n: int
    ) -> None:
        for number in range(warm + n):
            for name in rotated(up, number):
                time.sleep(self._settle)
                for part, sample in once(name).items():
                    if number >= warm and (what != LOADED or part == POD):
                        shown = LOADED if what == LOADED else part
                        self.results.setdefault(shown, {}).setdefault(name, Series()).add(sample)
        self._say(f"{what} done")

    def _run(self, name: str) -> dict[str, Sample]:
        self._number += 1
        id = f"bench-{self._number}"
        command = clients.run_command(self._runtimes[name], self._base, f"{self._cgroup}/{id}", id)
        before = self._used()
        wall = self._work.spawner.run([*self._ctr("bench"), *command, *TRUE]).wall
        return {CTR: Sample(wall, self._used() - before)}

    def _pod(self, name: str) -> dict[str, Sample]:
        begun: list[tuple[Pod, str]] = []
        try:
            made = self._timed(lambda: begun.append(self._begin(name)))
            pod, container = begun[0]
            executed = self._timed(lambda: pod.execute(container, TRUE))
        finally:
            for one in self._cri.pods[:]:
                _remove(one)
        return {POD: made, EXEC: executed}

    def _begin(self, name: str) -> tuple[Pod, str]:
        """RunPodSandbox, CreateContainer, StartContainer; the pod and its container's id."""
        self._work.spawner.check_stop()
        pod = self._cri.pod(name, network=_HOST_NETWORK)
        container = pod.create(_SLEEP, clients.IMAGE, security={})
        self._cri.call("StartContainer", container_id=container)
        return pod, container

    def _timed(self, act: Callable[[], object]) -> Sample:
        before, begun = self._used(), time.monotonic_ns()
        act()
        return Sample(time.monotonic_ns() - begun, self._used() - before)

    def _many(self, name: str, count: int) -> None:
        """So many pods, all there at a time, and then gone."""
        self._say(f"{count} pods with {name}")
        found = self.many[name] = Many(count)
        before = accounts.files()
        pods: list[Pod] = []
        for _ in range(count):
            found.made.append(self._timed(lambda: pods.append(self._begin(name)[0])).wall)
        for pid in sorted({pid for pod in pods for pid in accounts.shims(pod.id)}):
            used = accounts.memory(pid)
            found.private.append(used["Private"])
            found.proportional.append(used["Pss"])
        for pod in pods:
            begun = time.monotonic_ns()
            _remove(pod)
            found.removed.append(time.monotonic_ns() - begun)
        ids = [pod.id for pod in pods]
        deadline = time.monotonic() + 10
        while (left := self._left(ids, before)) and time.monotonic() < deadline:
            time.sleep(0.2)
        found.left += left

    def _left(self, ids: Sequence[str], before: set[str]) -> list[str]:
        found = [f"process {pid}" for id in ids for pid in accounts.shims(id)]
        found += sorted(accounts.files() - before)
        state = self._base / "state"
        for folder in ("io.containerd.runtime.v2.task/k8s.io", "io.containerd.grpc.v1.cri/sandboxes"):
            found += [str(path) for path in (state / folder).glob("*")]
        return found + mounts_below([state])

    def _used(self) -> int:
        return self._account.used(self._daemon)

    def _ctr(self, namespace: str) -> list[str]:
        return [clients.found("ctr"), "--address", f"{self._base}/s", "--namespace", namespace]


def _remove(pod: Pod) -> None:
    pod.remove()
