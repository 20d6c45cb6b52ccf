"""Another process in a running container: join its namespaces before its processes can look at the new one.

The process joins every namespace while it is still in the host's pid namespace, where the container cannot see it,
and is born into the container's pid namespace by its last fork.
"""

from __future__ import annotations

from errno import EBUSY, ESRCH

from gosudacon.api import ISOLATE, PREPARE, Context, Host, Spec, Step
from gosudacon.base import posix
from gosudacon.base.errors import StateError, SyscallError
from gosudacon.linux import mount, namespace, proc
from gosudacon.linux.cgroup import files
from gosudacon.stages.namespaces import OpenProc, SetNotDumpable, Setsid, Spawn
from gosudacon.stages.namespaces.birth import plan_birth
from gosudacon.stages.namespaces.join import Opened, SetnsWhatCanBe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

JOIN = 10  # rank in ISOLATE: after the cgroup, whose files are the host's
_STOPPED = "cannot exec in a stopped container"


class OpenTarget(Step):
    """Open init's namespaces and, where it shares the mount namespace, its root; make sure that it is init's pid.

    Why: a pid may be another process by now; what is held open stays the container's.
    Without it: `exec` could enter the namespaces of a stranger.
    See: pidfd_open(2); setns(2).
    """

    phase = PREPARE
    pid: int
    start_time: int
    kinds: list[str]
    root: bool

    def describe(self) -> str:
        init = f"init, process {self.pid}" if self.pid else "init"
        what = [f"the namespaces {', '.join(self.kinds)}"] if self.kinds else []
        return f"open {' and '.join(what + ['the root'] * self.root)} of {init}"

    def run(self, context: Context) -> None:
        # A descriptor of /proc/PID stays that process's: should it end, nothing below opens any more.
        try:
            directory = posix.open(f"/proc/{self.pid}", posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
        except FileNotFoundError:
            raise StateError(_STOPPED) from None
        try:
            if not self.start_time or proc.start_time(self.pid) != self.start_time:
                raise StateError(_STOPPED)
            self._open(context, directory)
        finally:
            posix.close(directory)

    def _open(self, context: Context, directory: int) -> None:
        opened = context.own(Opened)
        name = ""
        try:
            for kind in self.kinds:
                name = f"ns/{namespace.KINDS[kind][2]}"
                opened.namespaces[kind] = posix.open(name, posix.O_RDONLY | posix.O_CLOEXEC, dir_fd=directory)
            if self.root:
                name = "root"
                flags = posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC
                opened.root = posix.open(name, flags, dir_fd=directory)
        except OSError as error:
            if error.errno == ESRCH or not proc.start_time(self.pid):
                raise StateError(_STOPPED) from None
            raise SyscallError(error.errno or 0, "open", f"/proc/{self.pid}/{name}") from None


class SpawnInside(Spawn):
    """Create the process in the container's cgroup or, if that has become a parent only, in init's.

    A cgroup of the unified hierarchy that hands on controllers takes no process (EBUSY): an init that makes
    cgroups of its own has moved away (cgroups(7), "no internal processes").

    Why: a process that is cloned into a cgroup is never outside of it.
    Without it: it would run for a moment without the container's limits.
    See: clone3(2); cgroups(7).
    """

    pid: int
    chosen: bool  # the caller has chosen a cgroup: no other will do

    def describe(self) -> str:
        otherwise = ", in init's cgroup if that takes none" if self.into_cgroup and not self.chosen else ""
        return super().describe() + otherwise

    def run(self, context: Context) -> None:
        try:
            super().run(context)
        except SyscallError as error:
            if error.errno != EBUSY or self.chosen or context.cgroup_fd < 0:
                raise
            self._beside_init(context)
        opened = context.own(Opened)
        for fd in opened.namespaces.values():  # held here, they would outlive the container
            posix.close(fd)
        opened.namespaces = {}

    def _beside_init(self, context: Context) -> None:
        path = context.host.cgroup_mounts[""] + proc.cgroups(self.pid).get("", "/")
        context.cgroup_fd = fd = files.open_directory(path)
        context.cgroup_dirs["init"] = fd
        super().run(context)


class EnterRoot(Step):
    """chroot(2): the container has no mount namespace, only a root of its own.

    Why: without a mount namespace the container's root is known to its processes alone.
    Without it: the process would see the host's files.
    See: chroot(2).
    """

    phase = ISOLATE

    def describe(self) -> str:
        return "chroot into the container's root"

    def run(self, context: Context) -> None:
        opened = context.own(Opened)
        posix.fchdir(opened.root)
        mount.chroot(".")
        posix.close(opened.root)


def plan_visit(spec: Spec, host: Host) -> Iterator[Step]:
    """The steps into the namespaces of ``spec.target`` in which its mounts are made; the pid namespace is not one."""
    target = spec.target
    assert target is not None
    kinds: list[str] = [kind for kind in ("user", "mount", "ipc", "network") if kind in target.namespaces]
    yield OpenTarget(pid=target.pid, start_time=target.start_time, kinds=kinds, root=False)
    yield SpawnInside(flags=0, pid=target.pid, chosen=True)
    yield SetNotDumpable()
    yield OpenProc(phase=ISOLATE)  # here, where this process has a number in it
    if kinds:
        yield SetnsWhatCanBe(kinds=list(kinds), rank=JOIN)
    if "user" in kinds:
        from gosudacon.stages.namespaces.maps import SetRootIdentity

        yield SetRootIdentity(groups=host.euid == 0, rank=JOIN)


def plan_enter(spec: Spec, host: Host) -> Iterator[Step]:
    """The steps from the host into the namespaces of ``spec.target``."""
    target = spec.target
    assert target is not None
    kinds = [kind for kind in namespace.KINDS if kind in target.namespaces]
    own_root = "mount" not in kinds
    yield OpenTarget(pid=target.pid, start_time=target.start_time, kinds=list(kinds), root=own_root)
    yield SpawnInside(flags=0, pid=target.pid, chosen=bool(target.below))
    yield SetNotDumpable()
    if spec.process.get("apparmorProfile") or spec.process.get("selinuxLabel"):
        yield OpenProc(phase=ISOLATE)  # here, where this process has a number in it
    if kinds:
        yield SetnsWhatCanBe(kinds=kinds, rank=JOIN)
    if "user" in kinds:
        from gosudacon.stages.namespaces.maps import SetRootIdentity

        yield SetRootIdentity(groups=host.euid == 0, rank=JOIN)
    if own_root:
        yield EnterRoot(rank=JOIN)
    yield Setsid(rank=JOIN)
    if "pid" in kinds:
        yield from plan_birth(spec, ["pid"])
