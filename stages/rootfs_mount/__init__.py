"""Stage ``rootfs-mount``: everything the container sees as its file system, up to what is hidden from it.

May use: `api`, `linux`, `base`.
Start with `filesystem`, then `options` and `destination`.

`options` reads the words of ``mounts[].options``; `filesystem`, `bind` and `cgroup` mount, `destination` says
where; `root` prepares and seals the root, `devices` fills /dev, `terminal` brings the console, `hide` masks.
Modules that few bundles need are imported by the plan that needs them.
"""

from __future__ import annotations

from gosudacon.api import ADD_MOUNTS, DELETE, ISOLATE, RUNTIME, ConfigError, Context, Host, Spec, Stage, Step, hookimpl
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
    """Init has its copies; the runtime's own descriptors would keep mounts busy for as long as it runs.

    Why: a mount that a descriptor refers to stays alive.
    Without it: filesystems of the host would be busy for as long as the command runs.
    See: close(2); open_tree(2).
    """

    phase = ISOLATE
    side = RUNTIME
    by = DELETE

    def describe(self) -> str:
        return "close what was opened for the container's process"

    def run(self, context: Context) -> None:
        held = context.own(filesystem.Held)
        for fd in {*held.sources.values(), *held.groups.values(), *held.idmaps.values()}:
            posix.close(fd)
        for fd in {held.console, held.spare} - {-1}:
            posix.close(fd)
        held.sources, held.groups, held.idmaps = {}, {}, {}
        held.console = held.spare = -1
        if context.root >= 0:
            posix.close(context.root)
            context.root = -1


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
        mounts = _Mounts(spec, host, terminal, readonly)
        if mounts.possible:
            yield from mounts.plan()
        if not devices.is_bound(spec):
            yield from devices.plan_devices(spec, host)
        if terminal:
            from gosudacon.stages.rootfs_mount import terminal as terminals

            yield from terminals.plan_terminal(spec, mounts.possible)
        yield from readonly
        if (spec.config.get("root") or {}).get("readonly"):
            yield root.RemountRootReadOnly()
        if spec.linux.get("sysctl"):
            from gosudacon.stages.rootfs_mount import sysctl

            yield from sysctl.plan_sysctl(spec)
        yield from hide.plan_hidden(spec, host)
        if mounts.sharing.joined:
            from gosudacon.stages.rootfs_mount import peers

            yield peers.JoinPeers()

    def plan_exec(self, spec: Spec, host: Host) -> Iterator[Step]:
        """A terminal of the container's devpts, if the process wants one; nothing is mounted."""
        if spec.process.get("terminal"):
            from gosudacon.stages.rootfs_mount import terminal

            yield from terminal.plan_exec_terminal(spec)
            yield CloseHandedOver()

    def plan_mounts(self, spec: Spec, host: Host) -> Iterator[Step]:
        """The mounts of ``spec``, in a container that runs. Raises `ConfigError` for those that only `plan` has."""
        from gosudacon.stages.rootfs_mount import running

        if spec.operation == ADD_MOUNTS:
            yield from running.plan_add(spec, host)
            yield CloseHandedOver()
        else:
            yield from running.plan_remove(spec, host)


class _Mounts:
    """Goes through ``mounts`` in order; remembers what later entries depend on."""

    def __init__(self, spec: Spec, host: Host, terminal: bool, readonly: list[Step]) -> None:
        self.spec = spec
        self.host = host
        self.terminal = terminal
        self.readonly = readonly  # steps for `CONFINE`
        self.sharing = root.propagation(spec, host)
        self.on_host = not self.sharing.own and _mounts_on_host(spec, host)
        self.handed_over = terminal or devices.makes_missing(spec, host)
        self.trees: list[str] = []  # destinations of recursive bind mounts

    @property
    def possible(self) -> bool:
        """Whether there is anything that can be mounted on: not if the host's mount namespace is to stay as it is."""
        return self.sharing.own or self.on_host

    def plan(self) -> Iterator[Step]:
        yield from self._root()
        for index, entry in enumerate(self.spec.config.get("mounts") or ()):
            where = f"mounts[{index}]"
            options = parse(entry, where)
            yield from self._entry(index, entry, options, where)
            self.sharing.note(options.propagation)
        if self.spec.options.notify_directory:
            from gosudacon.stages.rootfs_mount import notify

            self.handed_over = True
            count = len(self.spec.config.get("mounts") or ())
            yield from notify.plan_notify(self.spec, self.host, count, self.sharing)
        if self.handed_over:
            yield CloseHandedOver()

    def _root(self) -> Iterator[Step]:
        if self.sharing.own:
            yield from root.plan_root(self.spec, self.host, self.sharing)
            return
        from gosudacon.stages.rootfs_mount import on_host

        self.handed_over = True
        yield on_host.plan_root(self.spec, self.host)

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
            yield from bind.plan_bind(self.spec, self.host, index, entry, options, self.sharing)
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
        refusable = fstype == "sysfs" and not options.remount and self._sysfs_may_be_refused(destination)
        yield from filesystem.plan_filesystem(
            entry,
            options,
            self.host,
            where=where,
            label=_label(self.spec, self.host),
            context=_context(self.spec),
            deferred=deferred,
            refusable=refusable,
            keep=self.terminal and destination == "/dev/pts" and fstype == "devpts",
            of_others=self.spec.joins_pid_namespace,
        )

    def _sysfs_may_be_refused(self, destination: str) -> bool:
        """Whether the kernel may refuse a sysfs: the namespaces say so, as far as the configuration shows them."""
        kinds = self.spec.namespaces()
        if kinds.get("network") == "" or ("user" not in kinds and self.host.initial_userns):
            return False
        self.trees.append(destination)
        return True


def _check_filesystem(entry: Mount, fstype: str, options: Options, where: str) -> None:
    if not fstype and not options.remount:
        raise ConfigError("a mount needs a type, or the option bind", where=f"{where}.type")
    if options.idmap or entry.get("uidMappings") or entry.get("gidMappings"):
        raise ConfigError("id-mapped mounts are only supported for bind-mounts", where=where)
    if options.copy_up and fstype != "tmpfs":
        raise ConfigError("tmpcopyup is for tmpfs only", where=f"{where}.options")
    if options.copy_link:
        raise ConfigError("copy-symlink is for bind mounts only", where=f"{where}.options")


def _mounts_on_host(spec: Spec, host: Host) -> bool:
    """Whether anything is mounted for a container without a mount namespace; devices are, in a user namespace."""
    readonly = (spec.config.get("root") or {}).get("readonly")
    return bool(spec.config.get("mounts") or readonly or not host.initial_userns)


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


@hookimpl
def gosudacon_stages() -> list[Stage]:
    """Contribute the stage."""
    return [RootfsMount()]
