"""Stage ``rootfs-mount``: everything the container sees as its file system, up to what is hidden from it.

May use: `api`, `linux`, `base`.
Start with `filesystem`, then `options` and `destination`.

`options` reads the words of ``mounts[].options``; `filesystem`, `bind` and `cgroup` mount, `destination` says
where; `root` prepares and seals the root, `devices` fills /dev, `terminal` brings the console, `hide` masks.
Modules that few bundles need are imported by the plan that needs them.
"""

from __future__ import annotations

from gosudacon.api import DELETE, ISOLATE, RUNTIME, ConfigError, Context, Host, Spec, Stage, Step, hookimpl
from gosudacon.base import posix
from gosudacon.linux import mount
from gosudacon.stages.rootfs_mount import destination as places
from gosudacon.stages.rootfs_mount import devices, filesystem, hide, root
from gosudacon.stages.rootfs_mount.options import WORDS, Options, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.schema.types import Features, Mount

CONTEXT_TYPE = "run.oci.mount_context_type"
_CONTEXTS = ("context", "fscontext", "defcontext", "rootcontext")  # mount(8), SELinux


class CloseHandedOver(Step):
    """Init has its copies; the runtime's own descriptors would keep mounts busy for as long as it runs."""

    phase = ISOLATE
    side = RUNTIME
    by = DELETE

    def describe(self) -> str:
        return "close what was opened for the container's process"

    def run(self, context: Context) -> None:
        held = context.own(filesystem.Held)
        for fd in {*held.sources.values(), *held.idmaps.values(), held.console} - {-1}:
            posix.close(fd)
        held.sources, held.idmaps, held.console = {}, {}, -1


class RootfsMount(Stage):
    """Mounts, devices, console; then what is read-only, set or masked."""

    name = "rootfs-mount"
    after = ("namespaces", "cgroups", "hooks")
    exec_keys = ("process.terminal",)

    def features(self) -> Features:
        """The words of mount options, filesystems' own left out, and mounts with other ids."""
        return {
            "mountOptions": sorted(WORDS),
            "linux": {"mountExtensions": {"idmap": {"enabled": True}}},
            "potentiallyUnsafeConfigAnnotations": [CONTEXT_TYPE],
        }

    def plan(self, spec: Spec, host: Host) -> Iterator[Step]:
        """Raises `ConfigError` for options and destinations that cannot be, with their place."""
        terminal = bool(spec.process.get("terminal"))
        readonly: list[Step] = []
        if "mount" in spec.namespaces():
            yield from _Mounts(spec, host, terminal, readonly).plan()
        else:
            _check_nothing_to_mount(spec)
        if not _bound_dev(spec):
            yield from devices.plan_devices(spec, host)
        if terminal:
            from gosudacon.stages.rootfs_mount import terminal as terminals

            yield from terminals.plan_terminal(spec, host)
        yield from readonly
        if (spec.config.get("root") or {}).get("readonly"):
            yield root.RemountRootReadOnly()
        if spec.linux.get("sysctl"):
            from gosudacon.stages.rootfs_mount import sysctl

            yield from sysctl.plan_sysctl(spec)
        yield from hide.plan_hidden(spec, host)

    def plan_exec(self, spec: Spec, host: Host) -> Iterator[Step]:
        """A terminal of the container's devpts, if the process wants one; nothing is mounted."""
        if spec.process.get("terminal"):
            from gosudacon.stages.rootfs_mount import terminal

            yield from terminal.plan_exec_terminal(spec)
            yield CloseHandedOver()


class _Mounts:
    """Goes through ``mounts`` in order; remembers what later entries depend on."""

    def __init__(self, spec: Spec, host: Host, terminal: bool, readonly: list[Step]) -> None:
        self.spec = spec
        self.host = host
        self.terminal = terminal
        self.readonly = readonly  # steps for `CONFINE`
        flags, self.base = root.propagation(spec, host)
        self.flags = flags
        self.shared = False  # some mount so far may be shared
        self.handed_over = terminal
        self.trees: list[str] = []  # destinations of recursive bind mounts

    def plan(self) -> Iterator[Step]:
        yield from root.plan_root(self.spec, self.host, self.flags)
        for index, entry in enumerate(self.spec.config.get("mounts") or ()):
            where = f"mounts[{index}]"
            options = parse(entry, where)
            yield from self._entry(index, entry, options, where)
            shares = any(flags & mount.MS_SHARED for flags in options.propagation)
            self.shared = self.shared or shares or not self.base
        if self.spec.options.notify_directory:
            from gosudacon.stages.rootfs_mount import notify

            self.handed_over = True
            count = len(self.spec.config.get("mounts") or ())
            yield from notify.plan_notify(self.spec, self.host, count, self.base, self.shared)
        if self.handed_over:
            yield CloseHandedOver()

    def _entry(self, index: int, entry: Mount, options: Options, where: str) -> Iterator[Step]:
        destination = mount.normal(entry["destination"])
        fstype = entry.get("type") or ""
        if not options.remount:
            places.check_plan(destination, fstype, options.bind, where)
        if options.bind:
            from gosudacon.stages.rootfs_mount import bind

            self.handed_over = True
            if options.flags & mount.MS_REC:
                self.trees.append(destination)
            yield from bind.plan_bind(self.spec, self.host, index, entry, options, self.base, self.shared)
            return
        _check_filesystem(entry, fstype, options, where)
        if fstype == "cgroup":
            from gosudacon.stages.rootfs_mount import cgroup

            yield cgroup.plan_cgroup(self.spec, self.host, entry, options, self.trees, where)
            return
        deferred = bool(
            options.flags & mount.MS_RDONLY and not options.remount and (fstype == "tmpfs" or destination == "/dev")
        )
        if deferred:
            self.readonly.append(root.RemountReadOnly(destination=destination, where=where))
        yield from filesystem.plan_filesystem(
            entry,
            options,
            self.host,
            where=where,
            label=_label(self.spec, self.host),
            context=_context(self.spec),
            deferred=deferred,
            keep=self.terminal and destination == "/dev/pts" and fstype == "devpts",
            of_others=self.spec.joins_pid_namespace,
        )


def _check_filesystem(entry: Mount, fstype: str, options: Options, where: str) -> None:
    if not fstype and not options.remount:
        raise ConfigError("a mount needs a type, or the option bind", where=f"{where}.type")
    if options.idmap or entry.get("uidMappings") or entry.get("gidMappings"):
        raise ConfigError("id-mapped mounts are only supported for bind-mounts", where=where)
    if options.copy_up and fstype != "tmpfs":
        raise ConfigError("tmpcopyup is for tmpfs only", where=f"{where}.options")
    if options.copy_link:
        raise ConfigError("copy-symlink is for bind mounts only", where=f"{where}.options")


def _check_nothing_to_mount(spec: Spec) -> None:
    """Without a mount namespace of its own a container's mounts would be the host's, and stay."""
    if spec.config.get("mounts"):
        raise ConfigError("mounts need a mount namespace of the container's own", where="mounts[0]")
    if (spec.config.get("root") or {}).get("readonly"):
        raise ConfigError("a read-only root needs a mount namespace of the container's own", where="root.readonly")


def _label(spec: Spec, host: Host) -> str:
    label = str(spec.linux.get("mountLabel") or "")
    if label and not host.selinux:
        raise ConfigError(
            "selinux label is specified in config, but selinux is disabled or not supported",
            where="linux.mountLabel",
        )
    return label


def _context(spec: Spec) -> str:
    """The mount option that takes the label: crun's annotation for it, or ``context``."""
    word = str((spec.config.get("annotations") or {}).get(CONTEXT_TYPE) or "context")
    if word not in _CONTEXTS:
        raise ConfigError(f"must be one of {', '.join(_CONTEXTS)}", where=f"annotations.{CONTEXT_TYPE}")
    return word


def _bound_dev(spec: Spec) -> bool:
    """Whether /dev is not ours, so that nothing is made in it."""
    return any(
        mount.normal(entry["destination"]) == "/dev" and mount.is_bind(entry.get("type"), entry.get("options"))
        for entry in spec.config.get("mounts") or ()
    )


@hookimpl
def gosudacon_stages() -> list[Stage]:
    """Contribute the stage."""
    return [RootfsMount()]
