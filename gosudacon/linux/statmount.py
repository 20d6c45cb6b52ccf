"""All mounts of any mount namespace: listmount(2) and statmount(2), since Linux 6.8, of others since 6.11.

/proc/PID/mountinfo leaves out what lies outside of the process's root; this does not (a chroot hides nothing).
"""

from __future__ import annotations

from gosudacon.base import posix
from gosudacon.linux import abi
from gosudacon.linux.mount import unescaped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_listmount = abi.syscall("listmount", abi.BUFFER, abi.BUFFER, abi.SIZE, abi.UINT)
_statmount = abi.syscall("statmount", abi.BUFFER, abi.BUFFER, abi.SIZE, abi.UINT)

_NS_GET_MNTNS_ID = 0x8008B705
_ROOT = (1 << 64) - 1  # LSMT_ROOT
_AT_ONCE = 256
# SB_BASIC, MNT_BASIC, MNT_ROOT, MNT_POINT, FS_TYPE, MNT_OPTS, SB_SOURCE
_WANTED = 0x01 | 0x02 | 0x08 | 0x10 | 0x20 | 0x80 | 0x200
_SIZE = 16384
_WORDS = {1: "ro", 2: "nosuid", 4: "nodev", 8: "noexec", 0x80: "nodiratime", 0x200000: "nosymfollow"}
_ATIME = {0: "relatime", 0x10: "noatime", 0x20: "strictatime"}
_IDMAPPED = 0x100000
_UNBINDABLE = 1 << 17


class Mount:
    """One mount. ``id`` is the one of mountinfo; ``words`` the options of the mount itself, ``options`` those of its
    filesystem; ``device`` (major, minor); ``root`` what of the filesystem is mounted; ``shared`` and ``master`` are
    peer groups, 0 for none."""

    __slots__ = (
        *("device", "fstype", "id", "master", "options", "parent", "point", "root", "shared", "source"),
        *("unbindable", "words"),
    )

    def __init__(self, id: int, parent: int, device: tuple[int, int], root: str, point: str) -> None:
        self.id = id
        self.parent = parent
        self.device = device
        self.root = root
        self.point = point
        self.words: frozenset[str] = frozenset()
        self.options: list[str] = []
        self.fstype = ""
        self.source = ""
        self.shared = 0
        self.master = 0
        self.unbindable = False

    @property
    def readonly(self) -> bool:
        """Whether nothing can be written through this mount: it, or the whole filesystem, is read-only."""
        return "ro" in self.words or "ro" in self.options


def of_namespace(fd: int) -> list[Mount]:
    """The mounts of the mount namespace behind ``fd``. Raises OSError where the kernel cannot say."""
    import fcntl

    number = bytearray(8)
    fcntl.ioctl(fd, _NS_GET_MNTNS_ID, number)
    namespace = int.from_bytes(number, "little")
    buffer = bytearray(_SIZE)
    found = []
    for each in _ids(namespace):
        try:
            _statmount(_request(each, _WANTED, namespace), buffer, _SIZE, 0)
        except FileNotFoundError:  # unmounted meanwhile
            continue
        except OSError as error:
            if error.errno == 2:
                continue
            raise
        found.append(_mount(buffer))
    return found


def _ids(namespace: int) -> Iterator[int]:
    last = 0
    while True:
        ids = bytearray(8 * _AT_ONCE)
        count = _listmount(_request(_ROOT, last, namespace), ids, _AT_ONCE, 0)
        for at in range(0, 8 * count, 8):
            last = int.from_bytes(ids[at : at + 8], "little")
            yield last
        if count < _AT_ONCE:
            return


def _request(id: int, parameter: int, namespace: int) -> bytes:
    parts = (32).to_bytes(4, "little"), bytes(4), *(each.to_bytes(8, "little") for each in (id, parameter, namespace))
    return b"".join(parts)


def _mount(data: bytearray) -> Mount:
    def number(offset: int, size: int = 4) -> int:
        return int.from_bytes(data[offset : offset + size], "little")

    def text(offset: int) -> str:
        start = 512 + number(offset)
        return posix.fsdecode(bytes(data[start : data.index(0, start)]))

    mount = Mount(number(56), number(60), (number(16), number(20)), text(104), text(108))
    attributes, mask = number(64, 8), number(8, 8)
    words = {word for bit, word in _WORDS.items() if attributes & bit} | {_ATIME.get(attributes & 0x70, "")}
    mount.words = frozenset(words | ({"idmapped"} if attributes & _IDMAPPED else set()))
    mount.options = text(4).split(",") if mask & 0x80 else []
    if number(32) & 1:
        mount.options.append("ro")
    mount.fstype = text(36)
    mount.source = text(124) if mask & 0x200 else ""
    mount.shared, mount.master = number(80, 8), number(88, 8)
    mount.unbindable = bool(number(72, 8) & _UNBINDABLE)
    return mount


def of_text(mountinfo: bytes) -> list[Mount]:
    """The mounts in the text of a mountinfo file (proc(5))."""
    return [_line(line) for line in mountinfo.splitlines()]


def _line(line: bytes) -> Mount:
    left, _, right = line.partition(b" - ")
    id, parent, device, root, point, words, *tags = left.split(b" ")
    fstype, source, options = [*right.split(b" ", 2), b"", b""][:3]
    major, _, minor = device.partition(b":")
    names = (posix.fsdecode(unescaped(field)) for field in (root, point))
    mount = Mount(int(id), int(parent), (int(major), int(minor)), *names)
    named = {word.decode(errors="replace") for word in words.split(b",")} - {"rw"}
    mount.words = frozenset(named | (set() if named & {"relatime", "noatime"} else {"strictatime"}))
    mount.options = posix.fsdecode(options).split(",")
    mount.fstype, mount.source = posix.fsdecode(fstype), posix.fsdecode(unescaped(source))
    for tag in tags:
        name, _, value = tag.partition(b":")
        if name == b"shared":
            mount.shared = int(value)
        elif name == b"master":
            mount.master = int(value)
        elif name == b"unbindable":
            mount.unbindable = True
    return mount
