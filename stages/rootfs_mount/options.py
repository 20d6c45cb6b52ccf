"""Mount options of ``mounts[].options`` (runtime-spec config.md, "Linux mount options") and their flags."""

from __future__ import annotations

from gosudacon.api import ConfigError
from gosudacon.linux import mount as m

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.schema.types import IdMapping, Mount

SET, CLEAR = False, True

#: Flags of the one mount: word -> (SET or CLEAR, MS_*).
FLAGS = {
    "ro": (SET, m.MS_RDONLY),
    "rw": (CLEAR, m.MS_RDONLY),
    "nosuid": (SET, m.MS_NOSUID),
    "suid": (CLEAR, m.MS_NOSUID),
    "nodev": (SET, m.MS_NODEV),
    "dev": (CLEAR, m.MS_NODEV),
    "noexec": (SET, m.MS_NOEXEC),
    "exec": (CLEAR, m.MS_NOEXEC),
    "sync": (SET, m.MS_SYNCHRONOUS),
    "async": (CLEAR, m.MS_SYNCHRONOUS),
    "remount": (SET, m.MS_REMOUNT),
    "mand": (SET, m.MS_MANDLOCK),
    "nomand": (CLEAR, m.MS_MANDLOCK),
    "dirsync": (SET, m.MS_DIRSYNC),
    "nosymfollow": (SET, m.MS_NOSYMFOLLOW),
    "symfollow": (CLEAR, m.MS_NOSYMFOLLOW),
    "noatime": (SET, m.MS_NOATIME),
    "atime": (CLEAR, m.MS_NOATIME),
    "nodiratime": (SET, m.MS_NODIRATIME),
    "diratime": (CLEAR, m.MS_NODIRATIME),
    "bind": (SET, m.MS_BIND),
    "rbind": (SET, m.MS_BIND | m.MS_REC),
    "silent": (SET, m.MS_SILENT),
    "loud": (CLEAR, m.MS_SILENT),
    "relatime": (SET, m.MS_RELATIME),
    "norelatime": (CLEAR, m.MS_RELATIME),
    "iversion": (SET, m.MS_I_VERSION),
    "noiversion": (CLEAR, m.MS_I_VERSION),
    "strictatime": (SET, m.MS_STRICTATIME),
    "nostrictatime": (CLEAR, m.MS_STRICTATIME),
    "lazytime": (SET, m.MS_LAZYTIME),
    "nolazytime": (CLEAR, m.MS_LAZYTIME),
}

PROPAGATION = {
    "private": m.MS_PRIVATE,
    "rprivate": m.MS_PRIVATE | m.MS_REC,
    "slave": m.MS_SLAVE,
    "rslave": m.MS_SLAVE | m.MS_REC,
    "shared": m.MS_SHARED,
    "rshared": m.MS_SHARED | m.MS_REC,
    "unbindable": m.MS_UNBINDABLE,
    "runbindable": m.MS_UNBINDABLE | m.MS_REC,
}
PROPAGATION_NAMES = {flags: word for word, flags in PROPAGATION.items()}

#: Attributes of the mount and all mounts below it (mount_setattr(2)): word -> (SET or CLEAR, MOUNT_ATTR_*).
RECURSIVE = {
    "rro": (SET, m.MOUNT_ATTR_RDONLY),
    "rrw": (CLEAR, m.MOUNT_ATTR_RDONLY),
    "rnosuid": (SET, m.MOUNT_ATTR_NOSUID),
    "rsuid": (CLEAR, m.MOUNT_ATTR_NOSUID),
    "rnodev": (SET, m.MOUNT_ATTR_NODEV),
    "rdev": (CLEAR, m.MOUNT_ATTR_NODEV),
    "rnoexec": (SET, m.MOUNT_ATTR_NOEXEC),
    "rexec": (CLEAR, m.MOUNT_ATTR_NOEXEC),
    "rnodiratime": (SET, m.MOUNT_ATTR_NODIRATIME),
    "rdiratime": (CLEAR, m.MOUNT_ATTR_NODIRATIME),
    "rrelatime": (SET, 0),
    "rnorelatime": (CLEAR, 0),
    "rnoatime": (SET, m.MOUNT_ATTR_NOATIME),
    "ratime": (CLEAR, m.MOUNT_ATTR_NOATIME),
    "rstrictatime": (SET, m.MOUNT_ATTR_STRICTATIME),
    "rnostrictatime": (CLEAR, m.MOUNT_ATTR_STRICTATIME),
    "rnosymfollow": (SET, m.MOUNT_ATTR_NOSYMFOLLOW),
    "rsymfollow": (CLEAR, m.MOUNT_ATTR_NOSYMFOLLOW),
}
_RECURSIVE_ATIME = ("rrelatime", "rnorelatime", "rnoatime", "ratime", "rstrictatime", "rnostrictatime")
SRC_NOFOLLOW, DEST_NOFOLLOW = "src-nofollow", "dest-nofollow"  # crun's: a link is mounted, or mounted on, itself

#: Every word that is not the filesystem's.
WORDS = frozenset(
    (
        *FLAGS,
        *PROPAGATION,
        *RECURSIVE,
        "tmpcopyup",
        "copy-symlink",
        SRC_NOFOLLOW,
        DEST_NOFOLLOW,
        "idmap",
        "ridmap",
        "defaults",
    )
)

_FOLDED = m.MS_RDONLY | m.MS_NOSUID | m.MS_NODEV | m.MS_NOEXEC  # the same numbers as MOUNT_ATTR_*
_ATIME = m.MS_NOATIME | m.MS_RELATIME | m.MS_STRICTATIME
_NOT_ATTRIBUTES = m.MS_BIND | m.MS_REC | m.MS_REMOUNT
#: Flags of a superblock, and the words that fsconfig(2) has for them.
SUPERBLOCK = {
    m.MS_RDONLY: "ro",
    m.MS_SYNCHRONOUS: "sync",
    m.MS_DIRSYNC: "dirsync",
    m.MS_MANDLOCK: "mand",
    m.MS_LAZYTIME: "lazytime",
}


class Options:
    """What a list of option words asks for; ``words`` is the list.

    ``flags`` and ``cleared`` are MS_* that were asked for and asked away; ``propagation`` the changes of
    propagation in order; ``recursive`` (set, clear, atime) MOUNT_ATTR_* for the whole tree, the last the kinds of
    atime that a mount is to lose if it has them; ``data`` what is left for the filesystem; ``copy_up`` and
    ``copy_link`` are tmpcopyup and copy-symlink; ``nofollow`` the words of that kind; ``idmap`` is ``""``,
    ``"idmap"`` or ``"ridmap"``, and ``maps`` what ``idmap=…`` says.
    """

    def __init__(self, words: list[str], where: str) -> None:
        self.words = words
        self.flags = 0
        self.cleared = 0
        self.propagation: list[int] = []
        self.recursive = [0, 0, 0]
        self.data: list[str] = []
        self.copy_up = False
        self.copy_link = False
        self.nofollow: list[str] = []
        self.idmap = ""
        self.maps: dict[str, list[IdMapping]] | None = None
        for index, word in enumerate(words):
            self._take(word, f"{where}[{index}]")

    def _take(self, word: str, where: str) -> None:
        if word in FLAGS:
            clear, flag = FLAGS[word]
            self.flags = self.flags & ~flag if clear else self.flags | flag
            self.cleared = self.cleared | flag if clear else self.cleared & ~flag
        elif word in PROPAGATION:
            self.propagation.append(PROPAGATION[word])
        elif word in RECURSIVE:
            self._take_recursive(word)
        elif word == "tmpcopyup":
            self.copy_up = True
        elif word == "copy-symlink":
            self.copy_link = True
        elif word in (SRC_NOFOLLOW, DEST_NOFOLLOW):
            self.nofollow.append(word)
        elif word in ("idmap", "ridmap"):
            self.idmap = word
        elif word.startswith(("idmap=", "ridmap=")):
            self.idmap, _, text = word.partition("=")
            self.maps = _id_maps(text, where)
        elif word not in ("defaults", ""):
            self.data.append(word)

    def _take_recursive(self, word: str) -> None:
        clear, attribute = RECURSIVE[word]
        set_, cleared, atime = self.recursive
        if word in _RECURSIVE_ATIME and clear:  # the kind named, and no other
            if set_ & m.MOUNT_ATTR__ATIME == attribute:
                set_, cleared = set_ & ~m.MOUNT_ATTR__ATIME, cleared & ~m.MOUNT_ATTR__ATIME
            self.recursive = [set_, cleared, atime | attribute]
        elif word in _RECURSIVE_ATIME:  # one field of several bits: what it was is cleared in any case
            self.recursive = [set_ & ~m.MOUNT_ATTR__ATIME | attribute, cleared | m.MOUNT_ATTR__ATIME, 0]
        elif clear:
            self.recursive = [set_ & ~attribute, cleared | attribute, atime]
        else:
            self.recursive = [set_ | attribute, cleared & ~attribute, atime]

    @property
    def bind(self) -> bool:
        """Whether this is a bind mount."""
        return bool(self.flags & m.MS_BIND)

    @property
    def remount(self) -> bool:
        """Whether this changes a mount that is there."""
        return bool(self.flags & m.MS_REMOUNT)

    def attributes(self) -> int:
        """MOUNT_ATTR_* of a new filesystem's mount."""
        return attributes(self.flags)

    def bind_attributes(self, replace: bool) -> tuple[int, int, int, int]:
        """MOUNT_ATTR_* to set and to clear on a bind mount, those of the latter that the words name, and the kinds of
        atime that it is to lose if it has them.

        A bind mount has the flags of its source until a word names any flag; from then on it has the flags
        named and no others (``replace``), as with mount(2)'s MS_REMOUNT|MS_BIND, except for the kind of atime,
        which stays unless named. A word that takes one kind away (``atime``) leaves any other kind as it is.
        """
        flags, cleared = self.flags & ~_NOT_ATTRIBUTES, self.cleared & ~_NOT_ATTRIBUTES
        if not flags and not cleared:
            return 0, 0, 0, 0
        named, set_, atime = attributes(cleared) & ~m.MOUNT_ATTR__ATIME, attributes(flags), 0
        if flags & _ATIME:
            named |= m.MOUNT_ATTR__ATIME
        else:
            both = attributes(cleared & ~m.MS_STRICTATIME) | attributes(cleared & ~m.MS_NOATIME)
            atime = both & m.MOUNT_ATTR__ATIME
        clear = named
        if replace:
            clear |= (_FOLDED | m.MOUNT_ATTR_NOSYMFOLLOW) & ~set_
        return set_, clear, named, atime

    def superblock(self) -> list[str]:
        """The flags of the superblock, as words for fsconfig(2)."""
        return [word for flag, word in SUPERBLOCK.items() if self.flags & flag]


def attributes(flags: int) -> int:
    """MS_* as MOUNT_ATTR_*; as with mount(2), strictatime wins over noatime."""
    result = flags & _FOLDED
    if flags & m.MS_STRICTATIME:
        result |= m.MOUNT_ATTR_STRICTATIME
    elif flags & m.MS_NOATIME:
        result |= m.MOUNT_ATTR_NOATIME
    if flags & m.MS_NODIRATIME:
        result |= m.MOUNT_ATTR_NODIRATIME
    if flags & m.MS_NOSYMFOLLOW:
        result |= m.MOUNT_ATTR_NOSYMFOLLOW
    return result


def parse(entry: Mount, where: str) -> Options:
    """The options of an entry of ``mounts``. Raises `ConfigError` for what no mount can have."""
    options = Options(list(entry.get("options") or ()), f"{where}.options")
    if m.is_bind(entry.get("type"), options.words):
        options.flags |= m.MS_BIND
    if len(",".join(options.data)) > m.DATA_LIMIT:
        raise ConfigError(f"mount data is longer than {m.DATA_LIMIT} bytes", where=f"{where}.options")
    if options.copy_link and options.nofollow:
        text = f"copy-symlink goes with neither {SRC_NOFOLLOW} nor {DEST_NOFOLLOW}"
        raise ConfigError(text, where=f"{where}.options")
    return options


def _id_maps(text: str, where: str) -> dict[str, list[IdMapping]]:
    """``uids=C-H-S[#C-H-S…];gids=…``, as crun has it: container id, host id, size."""
    maps: dict[str, list[IdMapping]] = {}
    for part in text.split(";"):
        kind, _, ranges = part.partition("=")
        if kind not in ("uids", "gids") or kind in maps:
            raise ConfigError(f"idmap={text}: expected uids=C-H-S;gids=C-H-S", where=where)
        maps[kind] = []
        for item in ranges.split("#"):
            numbers = item.split("-")
            if len(numbers) != 3 or not all(n.isascii() and n.isdigit() and len(n) <= 10 for n in numbers):
                raise ConfigError(f"idmap={text}: {item!r} is not of the form C-H-S", where=where)
            container, host, size = map(int, numbers)
            maps[kind].append({"containerID": container, "hostID": host, "size": size})
    if len(maps) != 2:
        raise ConfigError(f"idmap={text}: needs both uids and gids", where=where)
    return maps
