"""Running the plan of the stages rootfs-mount and pivot-root in a scratch process, and looking around inside."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gosudacon.api import ConfigError, Context, Error, Host, Spec
from gosudacon.container import host as hosts
from gosudacon.linux import identity, jsonio, mount, namespace, process
from gosudacon.linux.errors import from_record
from gosudacon.pipeline.plan import Plan, make
from gosudacon.pipeline.runner import run_step
from gosudacon.stages.pivot_root import PivotRootStage
from gosudacon.stages.rootfs_mount import RootfsMount
from tests.support.bundle import Bundle
from tests.support.children import in_child

_FLAGS = {"pid", "ipc", "uts", "network", "mount", "user"}


@dataclass(frozen=True)
class Mounted:
    """One line of mountinfo (proc(5)): fields of the mount, and of its filesystem's superblock."""

    root: str
    point: str
    options: str
    propagation: str
    fstype: str
    source: str
    superblock: str

    def has(self, *words: str) -> bool:
        """Whether all these are flags of the mount."""
        return set(words) <= set(self.options.split(","))


def mountinfo(text: str) -> list[Mounted]:
    """The lines of a mountinfo file."""
    found = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        _, _, _, root, point, options, *propagation = left.split(" ")
        fstype, source, superblock = right.split(" ", 2)
        found.append(Mounted(root, point, options, " ".join(propagation), fstype, source, superblock))
    return found


class Inside:
    """What a test may do in the scratch process, once the plan has run there."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def mountinfo(self) -> str:
        """The process's own mountinfo, through the private proc mount."""
        fd = os.open(f"{os.getpid()}/mountinfo", os.O_RDONLY, dir_fd=self.context.proc)
        with os.fdopen(fd) as file:
            return file.read()


def mounts_of(inside: Inside) -> str:
    """The default thing to look at."""
    return inside.mountinfo()


def plan_of(config: dict[str, Any], bundle: str = "/b", host: Host | None = None, **options: Any) -> Plan:
    """The plan of the two stages."""
    return make([RootfsMount(), PivotRootStage()], Spec(config, "c", bundle, options), host or Host())


def run_inside(
    bundle: Bundle,
    look: Callable[[Inside], Any] = mounts_of,
    *,
    kernel: tuple[int, int] | None = None,
    euid: int | None = None,
    options: dict[str, Any] | None = None,
    kept: dict[str, Any] | None = None,
    phases: tuple[str, ...] = ("mount", "pivot", "confine"),
    before: Callable[[], object] | None = None,
) -> Any:
    """Run the bundle's plan in new namespaces, then ``look`` in there, whose result (JSON) is returned.

    ``kernel`` makes the plan one for another kernel, ``euid`` one for another caller; ``kept`` is what other
    stages would have left. Steps of the phase prepare run outside, as in the runtime; ``before`` runs inside,
    before the first step.
    Raises the `Error` that a step raised.
    """
    host = hosts.gather()
    host.kernel = kernel or host.kernel
    host.euid = host.euid if euid is None else euid

    def outer() -> Any:
        try:
            return {"result": _outer(bundle, host, options or {}, kept or {}, phases, look, before)}
        except Error as error:
            return {"error": error.record()}

    answer = in_child(outer)
    if "error" in answer:
        raise from_record(answer["error"])
    return answer["result"]


def mounts_inside(bundle: Bundle, **more: Any) -> dict[str, Mounted]:
    """The topmost mount at every mount point in the container."""
    return {each.point: each for each in mountinfo(run_inside(bundle, **more))}


def _outer(
    bundle: Bundle,
    host: Host,
    options: dict[str, Any],
    kept: dict[str, Any],
    phases: tuple[str, ...],
    look: Callable[[Inside], Any],
    before: Callable[[], object] | None,
) -> Any:
    spec = Spec(bundle.config, bundle.id, str(bundle.path), options)
    plan = make([RootfsMount(), PivotRootStage()], spec, host)
    context = Context(spec, host)
    context.kept.update(kept)
    context.root = os.open(spec.rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for step in plan.of_phase("prepare"):
        run_step(step, context)
    kinds = [kind for kind in spec.namespaces() if kind in _FLAGS]
    flags = sum(namespace.KINDS[kind][0] for kind in kinds)
    mapped, go = os.pipe()
    reader, writer = os.pipe()
    pid = namespace.clone(flags)
    if pid == 0:
        try:
            os.close(go)
            os.read(mapped, 1)
            answer = _inner(plan, context, phases, look, before)
            os.write(writer, jsonio.dumps(answer).encode())
        finally:
            os._exit(0)
    for step in plan.of_phase("isolate"):
        run_step(step, context)
    if "user" in kinds:
        identity.write_proc(pid, "uid_map", identity.map_text(spec.linux["uidMappings"]))
        identity.write_proc(pid, "gid_map", identity.map_text(spec.linux["gidMappings"]))
    os.close(go)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        data = file.read()
    os.waitpid(pid, 0)
    result: Any = jsonio.loads(data)
    if "error" in result:
        raise from_record(result["error"])
    return result["result"]


def _inner(
    plan: Plan,
    context: Context,
    phases: tuple[str, ...],
    look: Callable[[Inside], Any],
    before: Callable[[], object] | None,
) -> Any:
    try:
        if "user" in context.spec.namespaces():
            identity.become(0, 0, [])
        process.set_dumpable(False)
        os.setsid()
        os.umask(0o077)
        if "cgroup" in context.spec.namespaces():
            namespace.unshare(namespace.CLONE_NEWCGROUP)
        context.proc = mount.new_filesystem("proc", {"subset": "pid"})
        if before is not None:
            before()
        for step in plan.steps:
            if step.phase in phases and step.runs_on() == "container":
                run_step(step, context)
        return {"result": look(Inside(context))}
    except Error as error:
        return {"error": error.record()}
    except BaseException as error:  # noqa: BLE001 - its text is the test's to show
        return {"error": ConfigError(f"{type(error).__name__}: {error}").record()}
