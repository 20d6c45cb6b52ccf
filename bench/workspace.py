"""A place for one run of the bench: bundles, state, cgroups; and its complete removal."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from . import bundle, kernel, leftovers
from .layout import Namespaces
from .runtimes import BARE, Runtime
from .spawn import CommandFailed, Sample, Spawner, TimedOut

#: Commands that need more than their name and the container's: what comes before that, and after it.
_WORDS = {"ps": ("ps", "--format", "json"), "update": ("update", "--pids-limit", "128")}
_AFTER = {"kill": ("KILL",), "exec": tuple(bundle.TRUE)}


@dataclass
class Container:
    """One container of one runtime: where its files are and, while it lives, its init."""

    runtime: Runtime
    name: str
    sleeping: Path
    ending: Path
    pid_file: Path
    pid: int = 0


class Workspace:
    """Makes containers for the runtimes under test and runs their commands in the right namespace.

    A context manager: whatever ends the run, leaving it removes containers, processes, cgroups,
    mounts and folders of the run.
    """

    def __init__(self, runtimes: list[Runtime], variant: bundle.Variant, hide_unified: str, timeout: float) -> None:
        self.runtimes = {runtime.name: runtime for runtime in runtimes}
        self.variant = variant
        self._hide = hide_unified
        self._timeout = timeout
        self._live: dict[tuple[str, str], Container] = {}

    def __enter__(self) -> Workspace:
        self.folder = Path(tempfile.mkdtemp(prefix="gosudacon-bench-"))
        # A user namespace's root must be able to walk to its root filesystem.
        self.folder.chmod(0o711)
        base = "/run" if os.access("/run", os.W_OK) else None
        self.states = Path(tempfile.mkdtemp(prefix="gosudacon-bench-", dir=base))
        self.run_id = self.folder.name.removeprefix("gosudacon-bench-")
        self.namespaces = Namespaces()
        self.spawner = Spawner(self.folder / "stderr", self._timeout)
        try:
            kernel.become_subreaper()
            rootfs = self.folder / "rootfs"
            bundle.make_rootfs(rootfs, self.variant)
            oci = [runtime for runtime in self.runtimes.values() if runtime.name != BARE]
            spec = bundle.spec_of(oci, self.folder / "spec") if oci else {}
            self._config = bundle.adapt(spec, rootfs, self.variant) if oci else {}
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def root(self, runtime: Runtime) -> Path:
        """State folder (``--root``) of a runtime."""
        return self.states / runtime.name

    def cgroup(self, runtime: Runtime) -> str:
        """The runtime's own part of this run's cgroup, relative to :data:`leftovers.PARENT`/run."""
        return runtime.name

    def container(self, runtime: Runtime, name: str) -> Container:
        """A container's bundles (one that sleeps, one that ends at once), not yet created."""
        base = self.folder / "bundles" / runtime.name / name
        path = f"/{leftovers.PARENT}/{self.run_id}/{self.cgroup(runtime)}/{name}"
        bundle.write(self._config, base / "sleep", path, bundle.SLEEP)
        bundle.write(self._config, base / "true", path, bundle.TRUE)
        return Container(runtime, name, base / "sleep", base / "true", base / "pid")

    def enter(self, runtime: Runtime) -> None:
        """Switch to the mount namespace this runtime is to be measured in."""
        self.namespaces.enter(self.hides_unified(runtime))

    def hides_unified(self, runtime: Runtime) -> bool:
        """Whether this runtime runs where the unified mount is hidden."""
        return self._hide == "all" or (self._hide == "needed" and runtime.hide_unified)

    def command(self, container: Container, word: str) -> list[str]:
        """Command line of one command."""
        runtime, root = container.runtime, self.root(container.runtime)
        if word == "create":
            return runtime.create(root, container.sleeping, container.pid_file, container.name)
        if word == "run":
            return runtime.run(root, container.ending, container.name)
        return runtime.argv(root, *_WORDS.get(word, (word,)), container.name, *_AFTER.get(word, ()))

    def created(self, container: Container) -> None:
        """Note that a container exists, so that the end of the run removes it whatever happens."""
        container.pid = int(container.pid_file.read_text())
        container.pid_file.unlink()

    def do(self, container: Container, word: str) -> Sample:
        """Run one command, measured, in the right namespace, and keep the books."""
        self.enter(container.runtime)
        key = (container.runtime.name, container.name)
        if word in ("create", "run"):
            self._live[key] = container
        sample = self.spawner.run(self.command(container, word))
        if word == "create":
            self.created(container)
        elif word == "kill":
            self.spawner.reap(container.pid)
        elif word in ("delete", "run"):
            self._live.pop(key, None)
        return sample

    def track(self, containers: list[Container], alive: bool) -> None:
        """Books for commands that were run many at a time, outside :meth:`do`."""
        for one in containers:
            key = (one.runtime.name, one.name)
            if alive:
                self._live[key] = one
            else:
                self._live.pop(key, None)

    def left(self, runtime: Runtime) -> leftovers.Leftovers:
        """What a runtime has left behind in this run so far."""
        scratch = [self.folder, self.states]
        self.namespaces.enter(False)
        left = leftovers.find(self.run_id, self.cgroup(runtime), self.root(runtime), scratch)
        if self.hides_unified(runtime):
            self.enter(runtime)
            left.mounts += leftovers.mounts_below(scratch)
        return left

    def close(self) -> None:
        """Remove everything of this run. Repeating it does no harm."""
        with self.spawner.shielded():
            self._delete_live()
            self.namespaces.enter(False)
            leftovers.kill_all(self.run_id)
            leftovers.reap_orphans()
            stuck = leftovers.remove_cgroups(self.run_id)
            leftovers.remove_folder(self.states)
            leftovers.remove_folder(self.folder)
        self.namespaces.close()
        self.spawner.close()
        if stuck:
            raise RuntimeError(f"cgroups left behind: {' '.join(stuck)}")

    def _delete_live(self) -> None:
        for container in list(self._live.values()):
            try:
                self.enter(container.runtime)
                runtime = container.runtime
                self.spawner.run(runtime.argv(self.root(runtime), "delete", "--force", container.name))
            except (CommandFailed, TimedOut, OSError):
                continue  # the cgroup sweep gets the processes; the folders go anyway
        self._live.clear()
