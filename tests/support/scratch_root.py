"""Running the plan of the stages rootfs-mount and pivot-root in a scratch process, and looking around inside."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from gosudacon.api import CONTAINER, MOUNT, START, Context, Error, Host, Options, Spec, Stage, Step
from gosudacon.base import jsonio
from gosudacon.base.errors import from_record
from gosudacon.container import host as hosts
from gosudacon.pipeline.executor import RuntimeSide
from gosudacon.pipeline.plan import Plan, make
from gosudacon.stages.namespaces import Namespaces
from gosudacon.stages.pivot_root import PivotRootStage
from gosudacon.stages.rootfs_mount import RootfsMount
from tests.support.bundle import Bundle
from tests.support.children import in_child


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


def plan_of(config: Any, bundle: str = "/b", host: Host | None = None, **options: Any) -> Plan:
    """The plan of the two stages."""
    return make([RootfsMount(), PivotRootStage()], Spec(config, "c", bundle, Options(**options)), host or Host())


class RealNamespaces(Namespaces):
    """The stage on the host as it is, whatever host the others plan for."""

    def plan(self, spec: Spec, host: Host) -> Iterator[Step]:
        return super().plan(spec, hosts.gather())


class Do(Step):
    """Call a function of the test's inside."""

    side = CONTAINER
    function: Callable[[Context], object]

    def describe(self) -> str:
        return "what the test does"

    def run(self, context: Context) -> None:
        self.function(context)


class Insert(Stage):
    """Steps of the test's between those of the stages."""

    name = "test"

    def __init__(self, *steps: Step) -> None:
        self.steps = steps

    def plan(self, spec: Spec, host: Host) -> tuple[Step, ...]:
        return self.steps


def run_inside(
    bundle: Bundle,
    look: Callable[[Inside], Any] = mounts_of,
    *,
    kernel: tuple[int, int] | None = None,
    euid: int | None = None,
    options: dict[str, Any] | None = None,
    cgroups: dict[str, str] | None = None,
    before: Callable[[], object] = lambda: None,
) -> Any:
    """Run the bundle's plan in new namespaces, then ``look`` in there, whose result (JSON) is returned.

    ``kernel`` makes the plan one for another kernel, ``euid`` one for another caller; ``cgroups`` are the
    container's, as another stage would have left them. ``before`` runs inside, before the first mount.
    Raises the `Error` that a step raised.
    """
    host = hosts.gather()
    host.kernel = kernel or host.kernel
    host.euid = host.euid if euid is None else euid
    config: Any = bundle.config
    spec = Spec(config, bundle.id, str(bundle.path), Options(**(options or {})))

    def outer() -> Any:
        try:
            return {"result": _run(spec, host, cgroups or {}, look, before)}
        except Error as error:
            return {"error": error.record()}

    answer = in_child(outer)
    if "error" in answer:
        raise from_record(answer["error"])
    return answer["result"]


def mounts_inside(bundle: Bundle, **more: Any) -> dict[str, Mounted]:
    """The topmost mount at every mount point in the container."""
    return {each.point: each for each in mountinfo(run_inside(bundle, **more))}


def _run(
    spec: Spec, host: Host, cgroups: dict[str, str], look: Callable[[Inside], Any], before: Callable[[], object]
) -> Any:
    """The engine's way: what ``look`` finds comes back in a file, what a step raises through the channel."""
    answer = os.memfd_create("answer")

    def report(context: Context) -> None:
        os.write(answer, jsonio.dumps(look(Inside(context))).encode())
        assert context.engine is not None
        context.engine.ready()

    first = Insert(Do(phase=MOUNT, function=lambda context: before()))
    stages = [RealNamespaces(), first, RootfsMount(), PivotRootStage(), Insert(Do(phase=START, function=report))]
    context = Context(spec, host)
    context.cgroups = cgroups
    context.root = os.open(spec.rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.umask(0o077)
    engine = RuntimeSide(make(stages, spec, host), context, lambda status, pid: {})
    try:
        engine.run()
    finally:
        engine.kill()
    os.lseek(answer, 0, os.SEEK_SET)
    with os.fdopen(answer, "rb") as file:
        return jsonio.loads(file.read())
