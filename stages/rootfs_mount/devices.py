"""/dev: default nodes and links (runtime-spec config-linux.md, "Default Devices") and linux.devices.

Everything is made with *at() calls below one descriptor, resolved by the kernel inside the root: an image whose
/dev is a symbolic link gets its nodes there, inside its own root (CVE-2026-41579).
"""

from __future__ import annotations

from _stat import S_IFBLK, S_IFCHR, S_IFIFO, S_IFMT
from errno import EEXIST

from gosudacon.api import MOUNT, ConfigError, Context, Error, Host, Spec, Step
from gosudacon.base import posix
from gosudacon.linux import mount, path
from gosudacon.stages.rootfs_mount.filesystem import BY_DESCRIPTOR, Held

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from gosudacon.schema.types import Device

    #: ``[path, type, major, minor, permissions, uid, gid]``: JSON, for a step's fields.
    Node = list[Any]

_KINDS = {"c": S_IFCHR, "u": S_IFCHR, "b": S_IFBLK, "p": S_IFIFO}

#: Path, type, major, minor.
DEFAULT_NODES = (
    ("/dev/null", "c", 1, 3),
    ("/dev/zero", "c", 1, 5),
    ("/dev/full", "c", 1, 7),
    ("/dev/random", "c", 1, 8),
    ("/dev/urandom", "c", 1, 9),
    ("/dev/tty", "c", 5, 0),
)
# Of a node of the host's: read-only keeps its owner and mode, not what is written to the device. As numbers also MS_*.
_SAFE = mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NOEXEC
_LINKS = (
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
)


class MakeNodes(Step):
    """Device nodes: mknodat(2), and where that is not permitted, the host's node of the same path, bound.

    ``nodes`` are [path, type, major, minor, mode, uid, gid]; ``bind``: do not even try to make them.

    Why: every program expects /dev/null and a few others, and no more than these.
    Without it: programs would fail, or write a plain file /dev/null.
    See: mknod(2); runtime-spec config-linux.md, Default Devices.
    """

    phase = MOUNT
    nodes: list[Node]
    bind: bool

    def describe(self) -> str:
        how = "bind the host's" if self.bind else "mknod"
        if len(self.nodes) > 1:
            return f"{how} {' '.join(node[0] for node in self.nodes)}"
        name, kind, major, minor, mode, uid, gid = self.nodes[0]
        number = "" if kind == "p" else f" {major}:{minor}"
        owner = f" {uid}:{gid}" if uid or gid else ""
        return f"{how} {name} ({kind}{number} {mode:04o}{owner})"

    def run(self, context: Context) -> None:
        directory, parent = -1, ""
        umask = posix.umask(0)
        try:
            for node in self.nodes:
                above, _, name = node[0].rpartition("/")
                if directory < 0 or above != parent:
                    if directory >= 0:
                        posix.close(directory)
                    directory, parent = path.mkdir_in_root(context.root, above or "/"), above
                self._make(context, directory, name, node)
        finally:
            posix.umask(umask)
            if directory >= 0:
                posix.close(directory)

    def _make(self, context: Context, directory: int, name: str, node: Node) -> None:
        _, kind, major, minor, mode, uid, gid = node
        wanted, number = _KINDS[kind], posix.makedev(major, minor) if kind != "p" else 0
        if self.bind and kind != "p":
            return _bind(context, directory, name, node)
        try:
            posix.mknod(name, wanted | mode, number, dir_fd=directory)
        except FileExistsError:
            pass
        except PermissionError:
            if kind == "p":
                raise
            return _bind(context, directory, name, node)
        found = posix.stat(name, dir_fd=directory, follow_symlinks=False)
        _check(node, found)
        if found.st_mode & 0o7777 != mode or (found.st_uid, found.st_gid) != (uid, gid):
            _own(context, directory, name, node)


def _check(node: Node, found: posix.stat_result) -> None:
    """A node that is already there, or that replaced ours, must be the same device."""
    wanted, number = _KINDS[node[1]], posix.makedev(node[2], node[3]) if node[1] != "p" else 0
    if S_IFMT(found.st_mode) != wanted or (wanted != S_IFIFO and found.st_rdev != number):
        raise Error(f"{node[0]} exists and is not the device {node[1]} {node[2]}:{node[3]}", errno=EEXIST)


def _own(context: Context, directory: int, name: str, node: Node) -> None:
    fd = posix.open(name, posix.O_PATH | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=directory)
    try:
        _check(node, posix.fstat(fd))
        own = f"self/fd/{fd}" if context.proc >= 0 else f"/proc/self/fd/{fd}"
        proc = context.proc if context.proc >= 0 else None
        posix.chown(own, node[5], node[6], dir_fd=proc)
        posix.chmod(own, node[4], dir_fd=proc)
    finally:
        posix.close(fd)


def _bind(context: Context, directory: int, name: str, node: Node) -> None:
    """Mount the host's node of the same path, or the one made instead; it must be the device that is asked for."""
    below = path.create_file(directory, name)
    try:
        if context.host.kernel < BY_DESCRIPTOR:
            return _bind_classic(node, below)
        fd = _copy(context, node)
        try:
            _check(node, posix.fstat(fd))
            mount.mount_setattr(fd, _SAFE, 0, mount.MS_SLAVE)
            mount.move_mount(fd, below, about=node[0])
        finally:
            posix.close(fd)
    finally:
        posix.close(below)


def _copy(context: Context, node: Node) -> int:
    if context.own(Held).spares:
        from gosudacon.stages.rootfs_mount import spare

        made = spare.copy(context, node[0])
        if made >= 0:
            return made
    return mount.clone_tree(mount.AT_FDCWD, node[0])


def _bind_classic(node: Node, below: int) -> None:
    fd = posix.open(node[0], posix.O_PATH | posix.O_CLOEXEC)
    try:
        _check(node, posix.fstat(fd))
        target = f"/proc/self/fd/{below}"
        mount.mount(f"/proc/self/fd/{fd}", target, None, mount.MS_BIND, about=node[0])
        place = posix.open(path.location(below), posix.O_PATH | posix.O_NOFOLLOW | posix.O_CLOEXEC)  # the new mount
        try:
            flags = mount.MS_BIND | mount.MS_REMOUNT | mount.mount_flags(place) & 0x0F | _SAFE
            mount.mount(None, f"/proc/self/fd/{place}", None, flags, about=node[0])
        finally:
            posix.close(place)
    finally:
        posix.close(fd)


class LinkDev(Step):
    """The links in /dev; what exists stays, except for ptmx, which must be the container's own.

    Why: shells and programs use /dev/fd, /dev/stdout and /dev/ptmx by name.
    Without it: redirections and terminals would fail in the container.
    See: runtime-spec runtime-linux.md, Dev symbolic links; pts(4).
    """

    phase = MOUNT

    def describe(self) -> str:
        return "link fd, stdin, stdout, stderr, core and ptmx in /dev"

    def run(self, context: Context) -> None:
        directory = path.mkdir_in_root(context.root, "/dev")
        try:
            for target, name in _LINKS:
                _link(target, name, directory)
            if posix.access("/proc/kcore", posix.F_OK):
                _link("/proc/kcore", "core", directory)
            self._ptmx(directory)
        finally:
            posix.close(directory)

    def _ptmx(self, directory: int) -> None:
        try:
            posix.symlink("pts/ptmx", "ptmx", dir_fd=directory)
        except FileExistsError:
            try:
                posix.unlink("ptmx", dir_fd=directory)
            except IsADirectoryError:
                posix.rmdir("ptmx", dir_fd=directory)
            posix.symlink("pts/ptmx", "ptmx", dir_fd=directory)


def _link(target: str, name: str, directory: int) -> None:
    try:
        posix.symlink(target, name, dir_fd=directory)
    except FileExistsError:
        pass


def plan_devices(spec: Spec, host: Host) -> Iterator[Step]:
    """The steps for /dev, after everything is mounted; none of them when /dev is a bind mount."""
    bind = "user" in spec.namespaces() or not host.initial_userns
    nodes = {name: [name, kind, major, minor, 0o666, 0, 0] for name, kind, major, minor in DEFAULT_NODES}
    listed: dict[str, MakeNodes] = {}
    for index, device in enumerate(spec.linux.get("devices") or ()):
        where = f"linux.devices[{index}]"
        node = _node(device, where)
        nodes.pop(node[0], None)
        if node[0] in listed and listed[node[0]].nodes != [node]:
            raise ConfigError(f"{node[0]} is already another device", where=f"{where}.path")
        listed[node[0]] = MakeNodes(nodes=[node], bind=bind, where=where)
    if makes_missing(spec, host):
        from gosudacon.stages.rootfs_mount import spare

        wanted = [*nodes.values(), *(step.nodes[0] for step in listed.values())]
        yield spare.plan_missing(spec, [node for node in wanted if node[1] != "p"], _KINDS)
    if nodes:
        yield MakeNodes(nodes=list(nodes.values()), bind=bind, where="")
    yield from listed.values()
    yield LinkDev()


def makes_missing(spec: Spec, host: Host) -> bool:
    """Whether the runtime makes what the host lacks (`spare`)."""
    privileged = host.euid == 0 and host.initial_userns and host.kernel >= BY_DESCRIPTOR
    return privileged and "user" in spec.namespaces() and not is_bound(spec)


def is_bound(spec: Spec) -> bool:
    """Whether /dev is a bind mount, so that nothing is made in it."""
    return any(
        mount.normal(entry["destination"]) == "/dev" and mount.is_bind(entry.get("type"), entry.get("options"))
        for entry in spec.config.get("mounts") or ()
    )


def _node(device: Device, where: str) -> Node:
    kind, mode = device.get("type"), device.get("fileMode")
    if kind not in _KINDS:
        raise ConfigError(f"unknown device type {kind!r}", where=f"{where}.type")
    name = mount.normal(device.get("path") or "")
    if name.endswith(("/", "/..")):
        raise ConfigError(f"device path {device.get('path')!r} is not the path of a file", where=f"{where}.path")
    permissions = 0o666 if mode is None else mode & 0o7777
    return [
        name,
        kind,
        device.get("major") or 0,
        device.get("minor") or 0,
        permissions,
        device.get("uid") or 0,
        device.get("gid") or 0,
    ]
