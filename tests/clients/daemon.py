"""A private containerd: its own sockets, folders and configuration, and ctr talking to it."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support import recorder
from tests.support.processes import Process, alive, descendants, end, kill, parent, reap
from tests.support.timing import eventually, seconds

_CONFIG = """\
version = {version}
root = "{base}/root"
state = "{base}/state"
disabled_plugins = [
  {disabled}"io.containerd.internal.v1.opt", "io.containerd.internal.v1.restart",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]

[grpc]
address = "{base}/s"

[ttrpc]
address = "{base}/t"
"""
OWN_STATES = Path("/run/containerd/gosudacon")
"""Where our shim keeps the states of containers, below a name for each containerd."""
SHIMS = (b"containerd-shim-runc-v2", b"containerd-shim-gosudacon-v1")
"""How the names end that shims have in ps."""
CRI = "io.containerd.grpc.v1.cri"
"""The plugin that is Kubernetes' Container Runtime Interface."""

Completed = subprocess.CompletedProcess[str]


def own_shim(command: Sequence[str]) -> Path:
    """The shim that was installed with the runtime under test; the test is skipped if it was not installed."""
    shim = Path(command[0]).with_name("containerd-shim-gosudacon-v1")
    if len(command) != 1 or not shim.exists():
        pytest.skip("needs the installed shim")
    return shim


def own_states(socket: Path) -> Path:
    """Where our shim keeps the states of the containerd that listens there; below it, one directory per namespace."""
    return OWN_STATES / hashlib.sha256(str(socket).encode()).hexdigest()[:16]


class Template:
    """The template of all shims, which would come with the first of them, and stay; there is one at a time."""

    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def begin(cls, shim: Path) -> None:
        """Have one."""
        if cls.process is None:
            cls.process = subprocess.Popen([shim, "template"], stdin=subprocess.DEVNULL, cwd="/")
            title = Path(f"/proc/{cls.process.pid}/cmdline")
            eventually(lambda: title.read_bytes().startswith(b"gosudacon-shim-template"), 20, "the template")

    @classmethod
    def kill(cls) -> None:
        """Have none, without a warning to it."""
        if cls.process is not None:
            cls.process.kill()
            cls.process.wait()
            cls.process = None


def templates() -> set[Process]:
    """The templates of shims that this run has made."""
    found = set()
    for process in descendants():
        with suppress(OSError):
            if Path(f"/proc/{process.pid}/cmdline").read_bytes().startswith(b"gosudacon-shim-template\0"):
                found.add(process)
    return found


def end_templates(but: Collection[Process] = ()) -> None:
    """End those that a start has made since there was none; all of this run but these."""
    for each in templates() - {*but}:
        kill(each)
        eventually(lambda pid=each.pid: not alive(pid), what="the end of a template")  # type: ignore[misc]
        reap({each})


def wrapper(command: Sequence[str], target: Path) -> Path:
    """A program that calls ``command``: itself if it is one path, else a script at ``target``.

    If ``GOSUDACON_TEST_RECORD`` names a file, the program records each call in it (`tests.support.recorder`).
    """
    records = os.environ.get("GOSUDACON_TEST_RECORD", "")
    if records:
        return recorder.program(command, target.with_name(f"{target.name}.d"), Path(records).absolute())
    if len(command) == 1:
        return Path(command[0])
    words = " ".join("'" + word.replace("'", "'\\''") + "'" for word in command)
    target.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    target.chmod(0o755)
    return target


def checked(result: Completed) -> Completed:
    """The result, if its status is 0; otherwise the test fails."""
    if result.returncode != 0:
        raise AssertionError(f"{' '.join(result.args)}: {result.returncode}\n{result.stdout}{result.stderr}")
    return result


class Containerd:
    """The daemon and the namespace in it; ``runtime`` is the path given as ``--runc-binary``.

    ``shim``, if any, is the shim of our own, which takes the place of containerd's for runc.

    ``cri``, if not empty, is the configuration of the plugin ``CRI``, which is disabled otherwise, in this version
    of the file's format.
    """

    def __init__(
        self, base: Path, namespace: str, runtime: Path, cri: str = "", version: int = 2, shim: Path | None = None
    ) -> None:
        self.shim = shim
        if shim is not None:
            Template.begin(shim)
        self.base = base
        self.namespace = namespace
        self.runtime = runtime
        self._own_root = shim is not None and not cri
        self.runtime_root = base / "runtime"
        self.log = base / "log"
        base.mkdir()
        self.runtime_root.mkdir()
        text = _CONFIG.format(base=base, version=version, disabled="" if cri else f'"{CRI}", ')
        (base / "config.toml").write_text(f"{text}\n{cri}")
        self._start()

    def _start(self) -> None:
        path = os.environ["PATH"] if self.shim is None else f"{self.shim.parent}:{os.environ['PATH']}"
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                ["containerd", "--config", str(self.base / "config.toml")],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env={**os.environ, "TMPDIR": str(self.base), "PATH": path},
            )
        try:
            eventually(lambda: self.ctr("version", check=False).returncode == 0, 20, "containerd's answer")
        except AssertionError as error:
            self.stop()
            raise AssertionError(f"{error}\n{self.log.read_text(errors='replace')[-4000:]}") from None

    def kill(self) -> None:
        """Kill the daemon; `restart` makes another one."""
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Start it again."""
        self._start()

    def own_processes(self) -> list[int]:
        """The daemon and the template."""
        return [process.pid for process in (self._process, Template.process) if process is not None]

    def kill_template(self) -> None:
        """Kill the template of its shims, and make another one."""
        assert self.shim is not None
        Template.kill()
        Template.begin(self.shim)

    @property
    def state(self) -> Path:
        """Directory of the bundles of this namespace."""
        return self.base / "state/io.containerd.runtime.v2.task" / self.namespace

    @property
    def states(self) -> Path:
        """The directory in which the runtime under test keeps the containers of this namespace."""
        if self._own_root:
            return own_states(self.base / "s") / self.namespace
        return self.runtime_root / self.namespace

    def words(self, *arguments: str | Path) -> list[str]:
        """The command line of ``ctr`` with these arguments."""
        return ["ctr", "--address", f"{self.base}/s", "--namespace", self.namespace, *map(str, arguments)]

    def ctr(self, *arguments: str | Path, check: bool = True, limit: float = 60, **kw: Any) -> Completed:
        """Run ``ctr`` to its end; with ``check`` a status other than 0 fails the test."""
        kw.setdefault("stdin", subprocess.DEVNULL)
        kw.setdefault("text", True)
        result = subprocess.run(
            self.words(*arguments), capture_output=True, timeout=seconds(limit), check=False, cwd="/", **kw
        )
        return checked(result) if check else result

    def run_arguments(
        self, image: str, container: str, command: str | Sequence[str], *options: str | Path
    ) -> list[str | Path]:
        """Arguments of ``ctr`` to run a container with the runtime under test; a string is for ``sh -c``."""
        words = ["sh", "-c", command] if isinstance(command, str) else command
        chosen: list[str | Path] = ["--runc-binary", self.runtime, "--runc-root", self.runtime_root]
        if self.shim is not None:
            chosen = ["--runtime", "io.containerd.gosudacon.v1"]
        return ["run", "--fifo-dir", self.base / "fifo", *chosen, *options, image, container, *words]

    def list(self, kind: str) -> set[str]:
        """Names of the ``containers``, ``tasks`` or ``snapshots`` that there are."""
        if kind == "snapshots":
            lines = self.ctr("snapshots", "list").stdout.splitlines()[1:]
            return {line.split()[0] for line in lines if line.split()[-1] == "Active"}
        return set(self.ctr(kind, "list", "-q").stdout.split())

    def shims(self) -> set[Process]:
        """The shims that run now, without what they have forked: that has their name until it is executed."""
        found = set()
        for process in descendants():
            try:
                words = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0].endswith(SHIMS):
                found.add(process)
        pids = {process.pid for process in found}
        return {process for process in found if parent(process.pid) not in pids}

    def remove_all(self) -> None:
        """Remove tasks and containers, if need be with their shims."""
        for name in self.list("tasks"):
            self.ctr("tasks", "delete", "--force", name, check=False)
        for name in self.list("containers"):
            self.ctr("containers", "delete", name, check=False)
        if self.list("tasks"):
            for shim in self.shims():
                kill(shim)

    def stop(self) -> None:
        """End the daemon."""
        end(self._process, 20)
