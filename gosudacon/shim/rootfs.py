"""The root filesystem of a container, as containerd asks for it: mounts on the bundle's ``rootfs``."""

from __future__ import annotations

from errno import EBUSY, EINVAL, ENOENT

from gosudacon.base import posix
from gosudacon.base.errors import Error
from gosudacon.linux import loop as loops
from gosudacon.linux import mount
from gosudacon.shim import idmapped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: Option -> flags to set, flags to clear (mount(8)).
_FLAGS: dict[str, tuple[int, int]] = {
    "async": (0, mount.MS_SYNCHRONOUS),
    "atime": (0, mount.MS_NOATIME),
    "bind": (mount.MS_BIND, 0),
    "defaults": (0, 0),
    "dev": (0, mount.MS_NODEV),
    "diratime": (0, mount.MS_NODIRATIME),
    "dirsync": (mount.MS_DIRSYNC, 0),
    "exec": (0, mount.MS_NOEXEC),
    "mand": (mount.MS_MANDLOCK, 0),
    "noatime": (mount.MS_NOATIME, 0),
    "nodev": (mount.MS_NODEV, 0),
    "nodiratime": (mount.MS_NODIRATIME, 0),
    "noexec": (mount.MS_NOEXEC, 0),
    "nomand": (0, mount.MS_MANDLOCK),
    "norelatime": (0, mount.MS_RELATIME),
    "nostrictatime": (0, mount.MS_STRICTATIME),
    "nosuid": (mount.MS_NOSUID, 0),
    "rbind": (mount.MS_BIND | mount.MS_REC, 0),
    "relatime": (mount.MS_RELATIME, 0),
    "remount": (mount.MS_REMOUNT, 0),
    "ro": (mount.MS_RDONLY, 0),
    "rw": (0, mount.MS_RDONLY),
    "strictatime": (mount.MS_STRICTATIME, 0),
    "suid": (0, mount.MS_NOSUID),
    "sync": (mount.MS_SYNCHRONOUS, 0),
}
_LOWER = "lowerdir="
_CODED = b" \t\n\\#"  # characters that mountinfo has codes for
_PAGE = 4096
_MARGIN = 512  # as containerd has it: what may come to the options


def mount_all(mounts: Sequence[Mapping[str, object]], rootfs: str) -> None:
    """Make the mounts on the directory ``rootfs``; all or none. Raises `Error`, OSError.

    Changes the working directory of this process.
    """
    if not mounts:
        return
    posix.makedirs(rootfs, 0o711, exist_ok=True)
    try:
        for entry in mounts:
            _mount(entry, rootfs)
    except BaseException:
        unmount(rootfs)
        raise


def unmount(rootfs: str) -> None:
    """Unmount everything at and below ``rootfs``; nothing there is fine. Raises OSError.

    Lazily only where something still uses it.
    """
    for point in reversed(_points(rootfs)):
        try:
            mount.umount(point, mount.UMOUNT_NOFOLLOW)
        except OSError as error:
            if error.errno == EBUSY:
                mount.umount(point, mount.UMOUNT_NOFOLLOW | mount.MNT_DETACH)
            elif error.errno not in (EINVAL, ENOENT):
                raise


def _points(rootfs: str) -> list[str]:
    """The mount points at and below a directory, in the order in which they were mounted."""
    with open("/proc/self/mountinfo", "rb", buffering=0) as file:
        lines = (file.readall() or b"").splitlines()  # thousands on a host with many containers
    own = posix.fsencode(rootfs)
    if not {*own} & {*_CODED}:
        lines = [line for line in lines if own in line]
    points = [posix.fsdecode(mount.unescaped(line.split(b" ", 5)[4])) for line in lines]
    return [point for point in points if point == rootfs or point.startswith(f"{rootfs}/")]


def _mount(entry: Mapping[str, object], rootfs: str) -> None:
    kind, source = str(entry["type"]), str(entry["source"])
    options = entry["options"]
    assert isinstance(options, list)
    target = _target(rootfs, str(entry.get("target") or ""))
    flags, data, special = _parsed(options)
    if kind in mount.BIND_WORDS:
        flags |= mount.MS_BIND
    if "loop" in special:
        source, loop = loops.attach(source, bool(flags & mount.MS_RDONLY), "direct-io" in special)
    else:
        loop = -1
    users = idmapped.user_namespace(special) if "uidmap" in special or "gidmap" in special else -1
    try:
        _make(source, target, kind, flags, data, users)
    finally:
        for fd in {loop, users} - {-1}:
            posix.close(fd)


def _make(source: str, target: str, kind: str, flags: int, data: list[str], users: int) -> None:
    """Make one mount; ``users``: a user namespace whose map it gets, -1 for none."""
    bind, recursive = flags & mount.MS_BIND, flags & mount.MS_REC
    if bind and users >= 0:
        idmapped.bind(source, target, bool(recursive), users)
    elif bind:
        mount.mount(source, target, kind, bind | recursive)
    elif kind == "overlay" and users >= 0:
        idmapped.overlay(target, flags, data, users)
    else:
        if kind == "overlay" and sum(len(item) + 1 for item in data) >= _PAGE - _MARGIN:
            data = _shortened(data)
        text = ",".join(data)
        if len(text) > mount.DATA_LIMIT:
            raise Error(f"mount {target}: {len(text)} bytes of options are too many for mount(2)")
        mount.mount(source, target, kind, flags, text or None)
        if users >= 0:
            idmapped.remount(target, users)
    rest = flags & ~(mount.MS_BIND | mount.MS_REC)
    if bind and rest:  # a bind mount takes its own flags in a second call only
        mount.mount(None, target, None, mount.MS_BIND | mount.MS_REMOUNT | rest)


def _parsed(options: Iterable[str]) -> tuple[int, list[str], dict[str, str]]:
    """Flags, what is left for the filesystem, and what is for us: a loop device, a map of ids."""
    flags, data = 0, []
    special: dict[str, str] = {}
    for option in options:
        name, _, value = option.partition("=")
        if option in _FLAGS:
            add, clear = _FLAGS[option]
            flags = flags & ~clear | add
        elif option == "loop" or name in ("uidmap", "gidmap"):
            special[name] = value
        elif option.startswith("X-containerd."):
            raise Error(f"mount option {option} is not supported")
        else:
            data.append(option)
    if "loop" in special and "direct-io" in data:
        data.remove("direct-io")
        special["direct-io"] = ""
    return flags, data, special


def _target(rootfs: str, below: str) -> str:
    """Where a mount goes: ``rootfs`` or a directory in it, which is not followed out of it."""
    if not below.strip("/"):
        return rootfs
    place = mount.normal(below)
    if ".." in place.split("/"):
        raise Error(f"mount target {below} leads out of the root filesystem")
    return rootfs + place


def _shortened(data: Sequence[str]) -> list[str]:
    """Options of overlay with layers relative to the directory they share, which becomes the working directory."""
    position = next((index for index, item in enumerate(data) if item.startswith(_LOWER)), -1)
    if position < 0:
        return [*data]
    layers = data[position].removeprefix(_LOWER).split(":")
    parents = [layer.split("/")[:-1] for layer in layers]
    depth = 0
    for names in zip(*parents, strict=False):
        if len({*names}) > 1:
            break
        depth += 1
    common = "/".join(parents[0][:depth])
    if not common:
        return [*data]
    posix.chdir(common)
    short = ":".join(layer[len(common) + 1 :] for layer in layers)
    return [*data[:position], _LOWER + short, *data[position + 1 :]]
