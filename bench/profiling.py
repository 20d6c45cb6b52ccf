"""Where the time of a command goes: its system calls (strace) and its imports (``-X importtime``)."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import kernel, trace
from .spawn import CommandFailed
from .tables import Table
from .timing import steps
from .workspace import Container, Workspace

#: Rows of a table, and letters of a call, that are shown; --json has all.
TOP = 20
SHOWN = 90


class NoProfile(Exception):
    """strace is missing."""


@dataclass
class Profile:
    """What was found out about one command; ``init`` is 0 when the command makes none."""

    command: str
    calls: list[trace.Call]
    main: int
    init: int = 0
    interpreter: list[str] = field(default_factory=list)
    imports: list[trace.Import] = field(default_factory=list)

    def role(self, pid: int) -> str:
        """Which side a process is on: ``runtime``, ``init``, or ``other`` (helpers and threads)."""
        return {self.main: "runtime", self.init: "init"}.get(pid, "other")


def profile(workspace: Workspace, name: str, commands: list[str]) -> list[Profile]:
    """Two lifecycles of runtime ``name``: one under strace, one that reports imports."""
    strace = shutil.which("strace")
    if strace is None:
        raise NoProfile("--profile needs strace")
    container = workspace.container(workspace.runtimes[name], "profiled")
    traced = {}
    for step in steps(commands):
        if step in commands:
            traced[step] = _traced(workspace, container, step, strace)
        else:
            workspace.do(container, step)
    if any(one.interpreter for one in traced.values()):
        for step in steps(commands):
            if step in traced and traced[step].interpreter:
                traced[step].imports = _imports(workspace, container, step, traced[step].interpreter)
            else:
                workspace.do(container, step)
    return list(traced.values())


def _traced(workspace: Workspace, container: Container, step: str, strace: str) -> Profile:
    """Run one step under strace. It follows init as well, so for ``create`` it lives until the kill."""
    output = workspace.folder / f"strace-{step}"
    argv = [strace, "-f", "-ttt", "-T", "-s", "4096", "-o", str(output), *workspace.command(container, step)]
    workspace.enter(container.runtime)
    if step == "create":
        workspace.track([container], alive=True)
        pid = workspace.spawner.start(argv)
        _wait_created(workspace, container, pid)
        workspace.created(container)
    else:
        workspace.spawner.run(argv)
        if step == "kill":
            workspace.spawner.reap(container.pid)
        elif step == "delete":
            workspace.track([container], alive=False)
    calls = trace.parse_strace(output.read_text(errors="replace"))
    main = calls[0].pid
    found = Profile(step, calls, main, container.pid if step == "create" else 0)
    executed = trace.executed(calls, main)
    if executed and "python" in Path(executed[0][0]).name:
        found.interpreter = executed[0]
    return found


def _wait_created(workspace: Workspace, container: Container, strace: int, seconds: float = 60) -> None:
    """Until ``state`` answers for the container; CommandFailed when strace ends before that."""
    deadline = time.monotonic() + seconds
    question = workspace.command(container, "state")
    while time.monotonic() < deadline:
        if os.waitpid(strace, os.WNOHANG)[0]:
            break
        try:
            workspace.spawner.run(question)
        except CommandFailed:
            time.sleep(0.05)
            continue
        if container.pid_file.exists():
            time.sleep(0.2)  # let the runtime's side come to its own end
            return
    raise CommandFailed(f"create failed under strace: {workspace.spawner.errors()}")


def _imports(workspace: Workspace, container: Container, step: str, interpreter: list[str]) -> list[trace.Import]:
    """Run one step as its launcher would, but with ``-X importtime``."""
    output = workspace.folder / f"imports-{step}"
    argv = [interpreter[0], "-X", "importtime", *interpreter[1:]]
    workspace.enter(container.runtime)
    if step == "create":
        workspace.track([container], alive=True)
    pid = os.fork()
    if pid == 0:
        _run_sealed(argv, output)
    _, status = os.waitpid(pid, 0)
    if status != 0:
        raise CommandFailed(f"{' '.join(argv)}: {output.read_text()[-2000:]}")
    if step == "create":
        workspace.created(container)
    elif step == "kill":
        workspace.spawner.reap(container.pid)
    elif step == "delete":
        workspace.track([container], alive=False)
    return trace.parse_imports(output.read_text(errors="replace"))


def _run_sealed(argv: list[str], output: Path) -> None:
    """Child side: become the interpreter, sealed as the launcher would have it, stderr into ``output``."""
    try:
        fd = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        null = os.open("/dev/null", os.O_RDWR)
        for number, source in enumerate((null, null, fd)):
            os.dup2(source, number)
        kernel.exec_sealed(argv)
    finally:
        os._exit(127)


def tables_of(found: Profile) -> list[Table]:
    """Processes, system calls, the slowest calls, imports."""
    return [_processes(found), _calls(found), _slowest(found), _import_table(found)]


def _processes(found: Profile) -> Table:
    rows = []
    for role in ("runtime", "init", "other"):
        calls = [call for call in found.calls if found.role(call.pid) == role]
        if calls:
            inside = sum(call.seconds for call in calls)
            span = calls[-1].at + calls[-1].seconds - calls[0].at
            begun = calls[0].at - found.calls[0].at
            rows.append((role, str(len(calls)), *(f"{value * 1e3:.2f}" for value in (begun, span, inside))))
    heads = ("side", "calls", "begins", "lives", "in calls")
    title = f"{found.command}: processes under strace (which slows each call), milliseconds"
    return Table(title, heads, tuple(rows), words=1)


def _calls(found: Profile) -> Table:
    rows = []
    for name, total in list(trace.totals(found.calls).items())[:TOP]:
        sides = [found.role(call.pid) for call in found.calls if call.name == name]
        counts = (str(sides.count(role)) for role in ("runtime", "init", "other"))
        rows.append((name, *counts, f"{total.seconds * 1e3:.2f}"))
    heads = ("call", "runtime", "init", "other", "ms")
    return Table(f"{found.command}: system calls, the most time first", heads, tuple(rows), words=1)


def _slowest(found: Profile, count: int = 12) -> Table:
    calls = sorted(found.calls, key=lambda call: -call.seconds)[:count]
    rows = []
    for call in calls:
        text = call.text.rpartition(" <")[0]
        rows.append((f"{call.seconds * 1e3:.2f}", found.role(call.pid), text[:SHOWN]))
    return Table(f"{found.command}: slowest calls", ("ms", "side", "call"), tuple(rows), words=3)


def _import_table(found: Profile) -> Table:
    own = sorted(found.imports, key=lambda one: -one.own)[:TOP]
    rows = [(one.name, f"{one.own / 1e3:.2f}", f"{one.cumulative / 1e3:.2f}") for one in own]
    everything = sum(one.own for one in found.imports) / 1e3
    title = f"{found.command}: {len(found.imports)} imports, {everything:.2f} ms in all (under importtime)"
    return Table(title, ("module", "own ms", "with its imports"), tuple(rows), words=1)
