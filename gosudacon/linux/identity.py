"""Who a process is: user, groups, and the id maps of a user namespace. Numbers only, never a name service."""

from __future__ import annotations

from _stat import S_ISREG

from gosudacon.base import posix
from gosudacon.base.errors import Error, SyscallError
from gosudacon.linux import mount, namespace
from gosudacon.linux.path import open_in_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gosudacon.schema.types import IdMapping

UNCHANGED_ID = (1 << 32) - 1  # (uid_t)-1: "unchanged" to setresuid(2), so never an id
_PASSWD_LIMIT = 1 << 20
_MAP_LIMIT = 4095  # one write(2) must hold the whole map


def become(uid: int, gid: int, groups: list[int] | None) -> None:
    """Set supplementary groups (None: leave them), all gids, all uids, and check that the kernel agrees.

    Raises OverflowError for an invalid id, OSError for what the kernel refuses.
    """
    for number in (uid, gid, *(groups or ())):
        if not 0 <= number < UNCHANGED_ID:
            raise OverflowError(f"{number} is not a user or group id")
    if groups is not None:
        posix.setgroups(groups)
    posix.setresgid(gid, gid, gid)
    posix.setresuid(uid, uid, uid)
    if posix.getresuid() != (uid,) * 3 or posix.getresgid() != (gid,) * 3:
        raise Error(f"the kernel did not take uid {uid} and gid {gid}")


def map_text(mappings: Sequence[Mapping[str, object]]) -> bytes:
    """The contents of uid_map or gid_map for OCI id mappings. Raises `Error` if it is too long for one write."""
    lines = (f"{entry['containerID']} {entry['hostID']} {entry['size']}\n" for entry in mappings)
    text = "".join(lines).encode()
    if len(text) > _MAP_LIMIT or len(mappings) > 340:
        raise Error(f"{len(mappings)} id mappings are more than the kernel takes (340 lines, {_MAP_LIMIT} bytes)")
    return text


def write_proc(pid: int, name: str, data: bytes) -> None:
    """Write a file of /proc/PID in one write(2), as the kernel wants for maps."""
    path = f"/proc/{pid}/{name}"
    fd = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC)
    try:
        if posix.write(fd, data) != len(data):
            raise Error(f"write {path}: short write")
    except OSError as error:
        raise SyscallError(error.errno or 0, "write", path) from None
    finally:
        posix.close(fd)


def read_proc(pid: int, name: str) -> bytes:
    """A file of /proc/PID of at most 64 KiB; larger than any id map."""
    fd = posix.open(f"/proc/{pid}/{name}", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return posix.read(fd, 65536)
    finally:
        posix.close(fd)


def home_of(uid: int, root: int) -> str:
    """The home directory that /etc/passwd below ``root`` gives ``uid``; ``/`` if it gives none."""
    wanted = b"%d" % uid
    for line in _read_of_image(root, "/etc/passwd").split(b"\n"):
        fields = line.split(b":")
        if len(fields) >= 7 and fields[2] == wanted:
            return posix.fsdecode(fields[5]) if fields[5] and b"\0" not in fields[5] else "/"
    return "/"


def _read_of_image(root: int, path: str) -> bytes:
    """The first MiB of a file of the image, nothing if it is not a regular file, or one of procfs.

    It is looked at before it is opened, since opening a device may do something, as reading /proc/kmsg does.
    """
    try:
        probe = open_in_root(root, path)
        try:
            plain = _is_plain(probe) and mount.filesystem_type(probe) != mount.PROC_SUPER_MAGIC
        finally:
            posix.close(probe)
        if not plain:
            return b""
        fd = open_in_root(root, path, posix.O_RDONLY | posix.O_NONBLOCK | posix.O_NOCTTY)
        try:
            return posix.read(fd, _PASSWD_LIMIT) if _is_plain(fd) else b""
        finally:
            posix.close(fd)
    except OSError:
        return b""


def _is_plain(fd: int) -> bool:
    return S_ISREG(posix.fstat(fd).st_mode)


def user_namespace(uids: Sequence[IdMapping], gids: Sequence[IdMapping]) -> int:
    """A user namespace with these maps, for mount_setattr(2), as a descriptor; its one process ends at once.

    ``containerID`` is the id in a filesystem, ``hostID`` what is seen instead. Raises `Error`, OSError.
    """
    inside, outside = posix.pipe2(posix.O_CLOEXEC)
    pid = namespace.clone(namespace.CLONE_NEWUSER)
    if pid == 0:
        posix.close(outside)
        posix.read(inside, 1)  # until the other end is closed
        posix._exit(0)
    try:
        posix.close(inside)
        write_proc(pid, "uid_map", map_text(uids))
        write_proc(pid, "gid_map", map_text(gids))
        return posix.open(f"/proc/{pid}/ns/user", posix.O_RDONLY | posix.O_CLOEXEC)
    finally:
        posix.close(outside)
        posix.waitpid(pid, 0)
