"""Mounts: mount(2), umount2(2), pivot_root(2) and the descriptor-based calls since Linux 5.2."""

from __future__ import annotations

from gosudacon.base import posix
from gosudacon.base.errors import SyscallError
from gosudacon.linux import abi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_SYNCHRONOUS, MS_REMOUNT, MS_MANDLOCK, MS_DIRSYNC = 0x10, 0x20, 0x40, 0x80
MS_NOSYMFOLLOW, MS_NOATIME, MS_NODIRATIME = 0x100, 0x400, 0x800
MS_BIND, MS_MOVE, MS_REC, MS_SILENT = 0x1000, 0x2000, 0x4000, 0x8000
MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED = 1 << 17, 1 << 18, 1 << 19, 1 << 20
MS_RELATIME, MS_I_VERSION, MS_STRICTATIME, MS_LAZYTIME = 1 << 21, 1 << 23, 1 << 24, 1 << 25
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = 0o2000000
MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_EMPTY_PATH = 0x40
MOVE_MOUNT_SET_GROUP = 0x100
FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_FLAG, FSCONFIG_SET_STRING, FSCONFIG_SET_FD = 0, 1, 5
FSCONFIG_CMD_CREATE, FSCONFIG_CMD_RECONFIGURE = 6, 7
FSPICK_CLOEXEC, FSPICK_EMPTY_PATH = 1, 8
FSCONFIG_STRING_LIMIT = 255  # bytes of a value that fsconfig(2) takes
DATA_LIMIT = 4095  # bytes of data that mount(2) takes; it would cut off the rest without a word

MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC = 1, 2, 4, 8
MOUNT_ATTR__ATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_STRICTATIME = 0x70, 0x10, 0x20
MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_IDMAP, MOUNT_ATTR_NOSYMFOLLOW = 0x80, 0x100000, 0x200000

BIND_WORDS = ("bind", "rbind")  # the options of mount(8) that ask for a bind mount

PROC_SUPER_MAGIC = 0x9FA0
SYSFS_MAGIC = 0x62656572
DEVPTS_SUPER_MAGIC = 0x1CD1
TMPFS_MAGIC = 0x01021994
CGROUP_SUPER_MAGIC = 0x27E0EB
CGROUP2_SUPER_MAGIC = 0x63677270

_mount = abi.syscall("mount", abi.PATH, abi.PATH, abi.PATH, abi.ULONG, abi.PATH)
_umount2 = abi.syscall("umount2", abi.PATH, abi.INT)
_pivot_root = abi.syscall("pivot_root", abi.PATH, abi.PATH)
_open_tree = abi.syscall("open_tree", abi.INT, abi.PATH, abi.UINT)
_move_mount = abi.syscall("move_mount", abi.INT, abi.PATH, abi.INT, abi.PATH, abi.UINT)
_mount_setattr = abi.syscall("mount_setattr", abi.INT, abi.PATH, abi.UINT, abi.BUFFER, abi.SIZE)
_fsopen = abi.syscall("fsopen", abi.PATH, abi.UINT)
_fsconfig = abi.syscall("fsconfig", abi.INT, abi.UINT, abi.PATH, abi.PATH, abi.INT)
_fspick = abi.syscall("fspick", abi.INT, abi.PATH, abi.UINT)
_fsmount = abi.syscall("fsmount", abi.INT, abi.UINT, abi.UINT)
_fstatfs = abi.syscall("fstatfs", abi.INT, abi.BUFFER)
_chroot = abi.syscall("chroot", abi.PATH)


def is_bind(fstype: str | None, options: Iterable[str] | None) -> bool:
    """Whether an entry of ``mounts`` with this type and these options is a bind mount (runtime-spec config.md)."""
    return fstype == "bind" or any(word in BIND_WORDS for word in options or ())


def normal(place: str) -> str:
    """A path in the container without empty components and ``.``, from its root, whose parent is itself.

    Another ``..`` stays: only the kernel can tell where it leads, since the component before it may be a link.
    """
    names = [name for name in place.split("/") if name not in ("", ".")]
    while names and names[0] == "..":
        del names[0]
    return "/" + "/".join(names)


def mount(
    source: str | bytes | None,
    target: str | bytes,
    fstype: str | None,
    flags: int,
    data: str | None = None,
    about: str = "",
) -> None:
    """mount(2); ``about`` names the target in an error where ``target`` is a /proc/self/fd path."""
    _mount(source, target, fstype, flags, data, about=about or target)


def umount(target: str | bytes, flags: int = MNT_DETACH) -> None:
    """Take a mount away (umount2(2)); ``flags`` are MNT_*, by default MNT_DETACH. Raises `SyscallError`."""
    _umount2(target, flags, about=target)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    _pivot_root(new_root, put_old, about=new_root)


def chroot(path: str) -> None:
    """chroot(2)."""
    _chroot(path, about=path)


def set_propagation(target: str | bytes, flags: int, about: str = "") -> None:
    """Change the propagation of the mount at ``target``: MS_PRIVATE, MS_SLAVE, … with or without MS_REC (mount(2))."""
    _mount(None, target, None, flags, None, about=about or target)


def open_tree(fd: int, path: str | bytes, flags: int, about: str = "") -> int:
    """open_tree(2): an O_PATH descriptor or, with OPEN_TREE_CLONE, a detached copy of a mount; close-on-exec."""
    return _open_tree(fd, path, flags | OPEN_TREE_CLOEXEC, about=about or path)


def clone_tree(fd: int, path: str | bytes = b"", recursive: bool = False, about: str = "") -> int:
    """A detached copy of the mount at ``path``, or of what ``fd`` is of, from there down; close-on-exec.

    open_tree(2) with OPEN_TREE_CLONE. Copies of shared mounts are their peers. Closing the descriptor of a
    copy that is not attached costs as much as ten system calls (an RCU grace period): attach the last one.
    ``recursive``: with the mounts below it; ``about``: words for the error. Raises `SyscallError`.
    """
    flags = OPEN_TREE_CLONE | (0 if path else AT_EMPTY_PATH) | (AT_RECURSIVE if recursive else 0)
    return _open_tree(fd, path, flags | OPEN_TREE_CLOEXEC, about=about or path)


def move_mount(mount_fd: int, target_fd: int, about: str = "") -> None:
    """Attach the detached mount behind one descriptor at the place behind the other (move_mount(2)).

    ``about``: words for the error, a `SyscallError`.
    """
    flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    _move_mount(mount_fd, b"", target_fd, b"", flags, about=about)


def join_group(mount_fd: int, group_fd: int, about: str = "") -> None:
    """Make a private mount a peer, or a slave, as the mount behind ``group_fd`` is, of the same filesystem.

    move_mount(2) with MOVE_MOUNT_SET_GROUP, Linux 5.15. EINVAL if that one is private, or one is not a mount's root.
    """
    flags = MOVE_MOUNT_SET_GROUP | MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    _move_mount(group_fd, b"", mount_fd, b"", flags, about=about)


def mount_setattr(
    fd: int,
    set_: int,
    clear: int = 0,
    propagation: int = 0,
    userns_fd: int = 0,
    recursive: bool = False,
    about: str = "",
) -> None:
    """Change the attributes and the propagation of the mount behind ``fd`` (mount_setattr(2), Linux 5.12).

    ``set_`` and ``clear`` are MOUNT_ATTR_*, ``propagation`` is MS_PRIVATE, MS_SLAVE or another of them, ``userns_fd``
    the user namespace of MOUNT_ATTR_IDMAP. ``recursive``: of the mounts below it, too. Raises `SyscallError`.
    """
    attributes = b"".join(value.to_bytes(8, "little") for value in (set_, clear, propagation, userns_fd))
    _mount_setattr(fd, b"", AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0), attributes, 32, about=about)


def new_filesystem(fstype: str, options: dict[str, str | None], attributes: int = 0, source: str = "") -> int:
    """A detached mount of a new filesystem: fsopen(2), fsconfig(2), fsmount(2); a None option is a flag.

    ``fstype`` is the type, ``options`` are those of the filesystem (mount(8)), ``attributes`` MOUNT_ATTR_*. Returns a
    close-on-exec descriptor of the mount. Raises `SyscallError`; the error of an option that the filesystem refuses
    carries what the kernel says about it.
    """
    context = _fsopen(fstype, FSOPEN_CLOEXEC, about=fstype)
    try:
        if source:
            _fsconfig(context, FSCONFIG_SET_STRING, b"source", source, 0)
        _set(context, options)
        _fsconfig(context, FSCONFIG_CMD_CREATE, None, None, 0)
        return _fsmount(context, FSMOUNT_CLOEXEC, attributes)
    except SyscallError as error:
        error.path = _log(context) or fstype
        raise
    finally:
        posix.close(context)


def new_proc(pid_namespace: int) -> int:
    """A detached mount of a proc filesystem that shows the pid namespace behind ``pid_namespace`` (Linux 6.17)."""
    context = _fsopen("proc", FSOPEN_CLOEXEC, about="proc")
    try:
        _fsconfig(context, FSCONFIG_SET_STRING, b"source", "proc", 0)
        _fsconfig(context, FSCONFIG_SET_FD, b"pidns", None, pid_namespace)
        _fsconfig(context, FSCONFIG_CMD_CREATE, None, None, 0)
        return _fsmount(context, FSMOUNT_CLOEXEC, 0)
    except SyscallError as error:
        error.path = _log(context) or "proc"
        raise
    finally:
        posix.close(context)


def reconfigure(fd: int, options: dict[str, str | None]) -> None:
    """Change the options of the filesystem behind a mount's descriptor (fspick(2)); a None option is a flag."""
    context = _fspick(fd, b"", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH)
    try:
        _set(context, options)
        _fsconfig(context, FSCONFIG_CMD_RECONFIGURE, None, None, 0)
    except SyscallError as error:
        error.path = _log(context)
        raise
    finally:
        posix.close(context)


def _set(context: int, options: dict[str, str | None]) -> None:
    for key, value in options.items():
        if value is None:
            _fsconfig(context, FSCONFIG_SET_FLAG, key, None, 0)
        else:
            _fsconfig(context, FSCONFIG_SET_STRING, key, value, 0)


def _log(context: int) -> str:
    """What the filesystem wrote to the log of its fsopen(2) context, e.g. ``tmpfs: Unknown parameter 'x'``."""
    lines = []
    try:
        while line := posix.read(context, 1024):
            lines.append(line[2:].decode(errors="replace").strip())  # after "e ", "w " or "i "
    except OSError:  # ENODATA: that was all
        pass
    return "; ".join(lines)


def filesystem_type(fd: int) -> int:
    """The magic number of the filesystem behind ``fd`` (fstatfs(2), ``f_type``)."""
    buffer = bytearray(120)
    _fstatfs(fd, buffer)
    return int.from_bytes(buffer[:8], "little")


def mount_flags(fd: int) -> int:
    """The flags ST_* of the mount behind ``fd`` (fstatfs(2), ``f_flags``): the four lowest are those of MS_*."""
    buffer = bytearray(120)
    _fstatfs(fd, buffer)
    return int.from_bytes(buffer[80:88], "little")


def mountinfo(proc: int) -> bytes:
    """The mounts of this process: the text of mountinfo (proc(5)), read below a descriptor of a proc mount."""
    fd = posix.open(f"{posix.getpid()}/mountinfo", posix.O_RDONLY | posix.O_CLOEXEC, dir_fd=proc)
    try:
        chunks = []
        while chunk := posix.read(fd, 65536):
            chunks.append(chunk)
        return b"".join(chunks)
    finally:
        posix.close(fd)


def mount_id(fd: int, proc: int = -1) -> int:
    """The id of the mount behind ``fd``, as mountinfo has it: ``mnt_id`` of fdinfo (proc(5)); ``proc`` as there."""
    at = None if proc < 0 else proc
    info = posix.open(f"{'/proc/' if at is None else ''}self/fdinfo/{fd}", posix.O_RDONLY | posix.O_CLOEXEC, dir_fd=at)
    try:
        text = posix.read(info, 4096)
    finally:
        posix.close(info)
    return int(text.partition(b"mnt_id:")[2].split()[0])


def unescaped(field: bytes) -> bytes:
    """A path as /proc/PID/mountinfo and /proc/mounts have it, with the characters that are codes there (proc(5))."""
    for code, character in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        field = field.replace(code, character)
    return field
