"""Stage ``intel-rdt``: shares of cache and memory bandwidth, and what is measured of them, through resctrl.

config-linux.md, "Intel RDT". A class of service is a directory of the resctrl file system, named by ``closID`` or after
the container; a monitoring group is a directory in it. See docs/config.md for what could not be tried on hardware.
Setting: ``directory``, where the file system is mounted (default: /sys/fs/resctrl).
"""

from __future__ import annotations

from gosudacon.api import (
    CREATE_CONTAINER,
    ISOLATE,
    MOUNT,
    PREPARE,
    RUNTIME,
    ConfigError,
    Context,
    Error,
    Host,
    PlanWarning,
    Spec,
    Stage,
    Step,
    hookimpl,
)
from gosudacon.base import layout, posix
from gosudacon.linux import resctrl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.api import Table
    from gosudacon.schema.types import Features, IntelRdt

_WHERE = "linux.intelRdt"
_DEFAULT_CLASS = "/"
_APPEND = posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND | posix.O_NOFOLLOW | posix.O_CLOEXEC
_READ = posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_CLOEXEC
#: What the note in the state directory says: one word a line.
_CLASS, _JOINED, _MONITORING = "class", "joined", "monitoring"


class _Group(Step):
    """A step on the class of service ``group`` of the resctrl file system at ``root``."""

    root: str
    group: str
    where = _WHERE

    @property
    def directory(self) -> str:
        return self.root if self.group == _DEFAULT_CLASS else f"{self.root}/{self.group}"


class MakeClass(_Group):
    """Make the class of service, or use the one that is there; set its shares, or compare them.

    One that was named by ``closID`` may have other containers in it: it stays, unless creating this container failed.

    Why: a class of service reserves parts of the cache and of the memory's bandwidth.
    Without it: neighbours could push the container's data out of the cache.
    See: Documentation/arch/x86/resctrl.rst; runtime-spec config-linux.md, IntelRdt.
    """

    phase = PREPARE
    lasts = True
    recorded_as = ("intel-rdt.make-class", 1)
    shared: bool  # named by closID
    schemata: str

    def describe(self) -> str:
        if not self.shared:
            made = f"create the class of service {self.group}"
        elif self.schemata:
            made = f"create the class of service {self.group}, unless it is there with these shares"
        else:
            made = f"check that there is a class of service {self.group}"
        lines = self.schemata.replace("\n", ", ").rstrip(", ")
        return f"{made}; write {lines} to schemata" if lines else made

    def run(self, context: Context) -> None:
        if self.root == resctrl.ROOT and not resctrl.is_mounted(self.root):
            text = "intelRdt is specified in config, but Intel RDT is not supported or enabled"
            raise Error(text, hint=f"mount -t resctrl resctrl {self.root}, on a machine that has it")
        if resctrl.exists(self.directory):
            if not self.shared:
                raise Error(f"intel rdt: {self.directory} is there already, and is not this container's")
            self._compare()
            return
        if self.shared and not self.schemata:
            raise Error(f"intel rdt: there is no class of service {self.group}", hint=f"make {self.directory}")
        _note(context, _CLASS)
        resctrl.make(self.directory)
        if self.schemata:
            resctrl.write(self.root, f"{self.directory}/schemata", self.schemata)

    def _compare(self) -> None:
        if not self.schemata:
            return
        found = resctrl.values(resctrl.read(f"{self.directory}/schemata"))
        for (resource, domain), value in resctrl.values(self.schemata).items():
            there = found.get((resource, domain))
            if there != value:
                wanted = f"{resource}:{domain}={value}"
                raise Error(f"intel rdt: class of service {self.group} has {resource}:{domain}={there}, not {wanted}")

    def undo(self, context: Context) -> None:
        noted = _noted(context)
        if _CLASS in noted and not (self.shared and _JOINED in noted):
            resctrl.remove(self.directory)


class JoinClass(_Group):
    """Put the container's process in the class; what it forks is in it, too.

    Why: a process belongs to one class, and what it forks to the same one.
    Without it: the class would have no process in it.
    See: Documentation/arch/x86/resctrl.rst; runtime-spec config-linux.md, IntelRdt.
    """

    phase = MOUNT
    side = RUNTIME
    by = CREATE_CONTAINER

    def describe(self) -> str:
        return f"write the process to tasks of the class of service {self.group}"

    def run(self, context: Context) -> None:
        resctrl.write(self.root, f"{self.directory}/tasks", f"{context.pid}\n")
        _note(context, _JOINED)


class EnterClass(_Group):
    """Put a process of `exec` in the class, and in the monitoring group if there is one.

    Why: a process of `exec` shares what the container has of cache and bandwidth.
    Without it: it would run in the class of the runtime.
    See: Documentation/arch/x86/resctrl.rst; runtime-spec config-linux.md, IntelRdt.
    """

    phase = ISOLATE
    side = RUNTIME
    monitored: str

    def describe(self) -> str:
        return f"write the process to tasks of the class of service {self.group}"

    def run(self, context: Context) -> None:
        below = f"{self.directory}/mon_groups/{self.monitored}" if self.monitored else self.directory
        for directory in dict.fromkeys((self.directory, below)):
            if resctrl.exists(directory):  # else it was removed: the container's other processes are in none, either
                resctrl.write(self.root, f"{directory}/tasks", f"{context.pid}\n")


class Monitor(_Group):
    """Make a monitoring group for the container, with its process in it.

    Why: the processor counts what a group uses of cache and bandwidth.
    Without it: the container's use could not be told from that of others.
    See: Documentation/arch/x86/resctrl.rst; runtime-spec config-linux.md, IntelRdt.
    """

    phase = MOUNT
    side = RUNTIME
    by = CREATE_CONTAINER
    lasts = True
    recorded_as = ("intel-rdt.monitor", 1)
    where = f"{_WHERE}.enableMonitoring"
    name: str

    def describe(self) -> str:
        return f"create the monitoring group {self.name} of the class of service {self.group}, with the process in it"

    def run(self, context: Context) -> None:
        if resctrl.exists(self._path()):
            raise Error(f"intel rdt: {self._path()} is there already, and is not this container's")
        _note(context, _MONITORING)
        resctrl.make(self._path())
        resctrl.write(self.root, f"{self._path()}/tasks", f"{context.pid}\n")

    def undo(self, context: Context) -> None:
        if _MONITORING in _noted(context):
            resctrl.remove(self._path())

    def _path(self) -> str:
        return f"{self.directory}/mon_groups/{self.name}"


def _note(context: Context, word: str) -> None:
    fd = posix.open(layout.INTEL_RDT_NOTE, _APPEND, 0o600, dir_fd=context.state_dir)
    try:
        posix.write(fd, f"{word}\n".encode())
    finally:
        posix.close(fd)


def _noted(context: Context) -> list[str]:
    """The words of the complete lines of the note."""
    try:
        fd = posix.open(layout.INTEL_RDT_NOTE, _READ, dir_fd=context.state_dir)
    except FileNotFoundError:
        return []
    try:
        return posix.read(fd, 4096).decode("ascii", "replace").split("\n")[:-1]
    finally:
        posix.close(fd)


def schemata(config: IntelRdt) -> str:
    """What is written to the schemata file, at once: cache, memory bandwidth, then any other lines."""
    cache, bandwidth = config.get("l3CacheSchema") or "", config.get("memBwSchema") or ""
    lines = [line for line in cache.split("\n") if not (bandwidth and line.strip().startswith("MB:"))]
    lines += [bandwidth, *(config.get("schemata") or ())]
    return "".join(f"{line.strip()}\n" for line in lines if line.strip())


class IntelRdtStage(Stage):
    """Makes and joins the class of service of ``linux.intelRdt``."""

    name = "intel-rdt"
    after = ("namespaces",)
    before = ("hooks",)
    keys = (_WHERE,)

    def features(self) -> Features:
        """That there is support, and of which parts."""
        return {"linux": {"intelRdt": {"enabled": True, "schemata": True, "monitoring": True}}}

    def plan(self, spec: Spec, host: Host) -> Iterator[Step]:
        """Raises `ConfigError` for a caller who may not change the file system."""
        config, root = spec.linux.get("intelRdt") or {}, self._root()
        if host.euid != 0:
            raise ConfigError("Intel RDT needs root", where=_WHERE)
        closid = config.get("closID")
        group, lines = closid or spec.id, schemata(config)
        yield MakeClass(root=root, group=group, shared=bool(closid), schemata=lines)
        yield JoinClass(root=root, group=group)
        if config.get("enableMonitoring"):
            yield Monitor(root=root, group=group, name=spec.id)
        elif not lines and not closid:
            yield PlanWarning(
                message="neither shares nor monitoring: the class of service limits nothing", where=_WHERE
            )

    def plan_exec(self, spec: Spec, host: Host) -> Iterator[Step]:
        """Into the container's class: the process is the runtime's child, not the container's."""
        config = spec.linux.get("intelRdt") or {}
        monitored = spec.id if config.get("enableMonitoring") else ""
        yield EnterClass(root=self._root(), group=config.get("closID") or spec.id, monitored=monitored)

    def _root(self) -> str:
        root = self.settings.get("directory", resctrl.ROOT)
        if not isinstance(root, str) or not root.startswith("/"):
            raise Error(f"invalid setting of stage intel-rdt in config.toml: directory = {root!r}")
        return root


def expected() -> Table:
    """What the steps of this stage expect the kernel to show (`pipeline.expectation`)."""
    from gosudacon.api import Expectation

    return {
        "MakeClass": lambda step, spec, host: [
            Expectation(_WHERE, "resctrl", {"root": step.root, "schemata": step.schemata}, step.group)
        ],
        "JoinClass": "seen with the step that makes the class of service",
        "EnterClass": "it is of a process that exec has started",
        "Monitor": "monitoring limits nothing",
    }


@hookimpl
def gosudacon_stages() -> list[Stage]:
    """Contribute the stage."""
    return [IntelRdtStage()]
