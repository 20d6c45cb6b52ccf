"""Root filesystems whose owners are others than on disk: mounts with a map of ids (mount_setattr(2)).

containerd asks for one with the options ``uidmap`` and ``gidmap``, ``CONTAINER:HOST:SIZE`` with commas in between. Of
an overlay the lower layers get the map, since its upper one has the owners already; of anything else the mount itself.
"""

from __future__ import annotations

from gosudacon.base import posix
from gosudacon.base.errors import Error, reason
from gosudacon.linux import console, identity, mount, namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gosudacon.schema.types import IdMapping

_LOWER = "lowerdir="
_OVERLAY = "overlay"


def user_namespace(options: Mapping[str, str]) -> int:
    """A descriptor of a user namespace with the maps of the options ``uidmap`` and ``gidmap``. Raises `Error`."""
    uids, gids = (parsed(options.get(name, ""), name) for name in ("uidmap", "gidmap"))
    return identity.user_namespace(uids, gids)


def parsed(text: str, name: str) -> list[IdMapping]:
    """The map in an option. Raises `Error` if it is none, or empty."""
    found: list[IdMapping] = []
    for entry in text.split(","):
        numbers = entry.split(":")
        if len(numbers) != 3 or not all(number.isascii() and number.isdigit() for number in numbers):
            raise Error(f"mount option {name}: CONTAINER:HOST:SIZE is expected, not {entry!r}")
        inside, outside, size = map(int, numbers)
        found.append({"containerID": inside, "hostID": outside, "size": size})
    return found


def bind(source: str, target: str, recursive: bool, users: int) -> None:
    """A bind mount with the map of the user namespace behind ``users``. Raises OSError."""
    here = posix.open(source, posix.O_PATH | posix.O_CLOEXEC)
    try:
        copy = mount.clone_tree(here, recursive=recursive, about=source)
    finally:
        posix.close(here)
    _attach(copy, target, users, recursive)


def remount(target: str, users: int) -> None:
    """Put what is mounted at ``target`` there once more, with the map. Raises OSError."""
    copy = mount.clone_tree(mount.AT_FDCWD, target)
    mount.umount(target, mount.UMOUNT_NOFOLLOW)
    _attach(copy, target, users)


def overlay(target: str, flags: int, data: Sequence[str], users: int) -> None:
    """An overlay over layers with the map.

    The layers have to be mounted somewhere while it is made. That is done in a fork with a mount namespace of its own,
    with which they go, whatever happens. Raises `Error`.
    """
    mine, theirs = console.socketpair()
    pid = posix.fork()
    if pid == 0:
        try:
            posix.close(mine)
            made, text = _made(target, flags, data, users)
            console.send(theirs, made, text)
        finally:
            posix._exit(0)
    posix.close(theirs)
    try:
        made, text = _received(mine)
    finally:
        posix.close(mine)
        posix.waitpid(pid, 0)
    if text != _OVERLAY:
        posix.close(made)
        raise Error(text or f"mount {target}: the process that made it has ended")
    place = posix.open(target, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        mount.move_mount(made, place, target)
    finally:
        posix.close(place)
        posix.close(made)


def _attach(copy: int, target: str, users: int, recursive: bool = False) -> None:
    try:
        mount.mount_setattr(copy, mount.MOUNT_ATTR_IDMAP, userns_fd=users, recursive=recursive, about=target)
        place = posix.open(target, posix.O_PATH | posix.O_CLOEXEC)
        try:
            mount.move_mount(copy, place, target)
        finally:
            posix.close(place)
    finally:
        posix.close(copy)


def _made(target: str, flags: int, data: Sequence[str], users: int) -> tuple[int, str]:
    """A detached mount of the overlay, or any descriptor and why the mount failed."""
    try:
        namespace.unshare(namespace.CLONE_NEWNS)
        mount.set_propagation("/", mount.MS_PRIVATE | mount.MS_REC)
        mount.mount("tmpfs", target, "tmpfs", 0, "mode=700")
        posix.chdir(target)
        options: list[str] = []
        names: list[str] = []
        for item in data:
            if not item.startswith(_LOWER):
                options.append(item)
                continue
            for layer in item.removeprefix(_LOWER).split(":"):
                name = str(len(names))
                posix.mkdir(name)
                bind(layer, name, False, users)
                names.append(name)
        posix.mkdir("made")
        text = ",".join([_LOWER + ":".join(names), *options])
        mount.mount(_OVERLAY, "made", _OVERLAY, flags, text)
        return mount.clone_tree(mount.AT_FDCWD, "made"), _OVERLAY
    except (Error, OSError) as error:
        return 0, reason(error)


def _received(connection: int) -> tuple[int, str]:
    import _socket

    receiver = _socket.socket(fileno=connection)
    try:
        data, ancillary, _, _ = receiver.recvmsg(1 << 16, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
    finally:
        receiver.detach()
    for _level, _kind, rights in ancillary:
        return int.from_bytes(rights[:4], "little"), data.decode()
    return posix.open("/dev/null", posix.O_RDONLY | posix.O_CLOEXEC), ""
