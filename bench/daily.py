"""The clients' run: ``run --rm`` by ctr, Docker and Podman, with every runtime in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from . import clients
from .daemons import NoAnswer, wait_for_children
from .leftovers import PARENT
from .runtimes import BARE, Runtime
from .spawn import CommandFailed, Sample, TimedOut
from .stats import rotated
from .timing import Results, Series
from .workspace import Workspace


class Daily:
    """Measures clients one after the other; within a round of one, every runtime once.

    ``results`` has them as client → runtime → samples, ``skipped`` what could not be measured and why.
    """

    def __init__(self, workspace: Workspace, settle: float, say: Callable[[str], None], shim: Path | None) -> None:
        """``shim``: gosudacon's own, for clients that can use one."""
        self._work = workspace
        self._shim = shim
        self._runtimes: dict[str, Runtime] = {}
        self._settle = settle
        self._say = say
        self._number = 0
        self.results: Results = {}
        self.skipped: list[tuple[str, str]] = []

    def measure(self, kind: type[clients.Client], warmup: int, runs: int) -> None:
        """Bring one client up, time it, end it. CommandFailed or TimedOut when a later run fails."""
        chosen = [runtime for runtime in self._work.runtimes.values() if runtime.name != BARE]
        if kind.shims and self._shim is not None:
            chosen.insert(0, Runtime(clients.SHIM, (str(self._shim),)))
        self._runtimes = {runtime.name: runtime for runtime in chosen}
        up: dict[str, clients.Client] = {}
        started: list[clients.Client] = []
        try:
            for hidden in (False, True):
                group = [runtime for runtime in chosen if self._work.hides_unified(runtime) == hidden]
                client = self._started(kind, group, started) if group else None
                if client is not None:
                    up |= {one.name: client for one in group if self._tried(client, one)}
            self._rounds(kind.name, up, warmup, runs)
        finally:
            with self._work.spawner.shielded():
                for client in reversed(started):
                    client.stop()
                wait_for_children()

    def _started(
        self, kind: type[clients.Client], group: Sequence[Runtime], started: list[clients.Client]
    ) -> clients.Client | None:
        """A client for runtimes that run in the same mount namespace; it is ``started`` even if it fails to."""
        self._work.enter(group[0])
        base = self._work.folder / f"{kind.name}{len(started)}"
        cgroup = f"/{PARENT}/{self._work.run_id}/{kind.name}"
        try:
            base.mkdir()
            client = kind(self._work.spawner, base, self._work.folder / "rootfs", cgroup, group)
            started.append(client)
            self._say(f"{kind.name} starts")
            client.start()
        except (clients.Unavailable, NoAnswer) as error:
            self.skipped.append((f"{kind.name} with {', '.join(one.name for one in group)}", str(error)))
            return None
        return client

    def _tried(self, client: clients.Client, runtime: Runtime) -> bool:
        """Whether the client can run a container with this runtime at all; not every pair gets on."""
        try:
            self._once(client, runtime.name)
        except (CommandFailed, TimedOut) as error:
            lines = str(error).splitlines()
            self.skipped.append((f"{client.name} with {runtime.name}", lines[-1]))
            return False
        return True

    def _rounds(self, name: str, up: dict[str, clients.Client], warmup: int, runs: int) -> None:
        for number in range(warmup + runs):
            for one in rotated(list(up), number):
                time.sleep(self._settle)
                sample = self._once(up[one], one)
                if number >= warmup:
                    self.results.setdefault(name, {}).setdefault(one, Series()).add(sample)
        if up:
            self._say(f"{name} done")

    def _once(self, client: clients.Client, runtime: str) -> Sample:
        self._number += 1
        self._work.enter(self._runtimes[runtime])
        return self._work.spawner.run(client.command(runtime, f"bench-{self._number}"), environment=client.environment)
