"""External resources of a container, which CRIU must be told of: bind mounts, joined namespaces, standard streams.

At a checkpoint each gets a name, which goes into the images; at a restore the names get their meaning on this host.
A bind mount's name is its destination in config.json.
"""

from __future__ import annotations

from _stat import S_ISCHR, S_ISFIFO, S_ISREG

from gosudacon.base import jsonio, layout, posix
from gosudacon.base.errors import Error
from gosudacon.linux import mount, namespace
from gosudacon.linux import path as paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.pipeline.spec import Host, Spec

_STREAMS = ("pipe:[", "file[")
DESCRIPTORS = "descriptors.json"
NULL = "/dev/null"
_NULL_DEVICE = posix.makedev(1, 3)
_INHERITED = {"network": 31100, "pid": 31500}  # kinds that CRIU inherits, and since which version
_DEFAULT_NODES = tuple(f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty"))


def binds(spec: Spec) -> Iterator[tuple[str, str]]:
    """Destination and source of every bind mount of the configuration."""
    for entry in spec.config.get("mounts") or ():
        words = entry.get("options") or ()
        if "remount" not in words and mount.is_bind(entry.get("type"), words):
            source = str(entry.get("source") or "")
            yield mount.normal(entry["destination"]), source if source.startswith("/") else f"{spec.bundle}/{source}"


class Mounts:
    """The mounts that a running process sees."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.points: dict[int, str] = {}  # mount id -> mount point, as in /proc/PID/mountinfo
        self.cgroups: list[str] = []  # mount points of cgroup v1 hierarchies
        with open(f"/proc/{pid}/mountinfo", "rb") as file:
            for line in file:
                left, _, right = line.partition(b" - ")
                fields = left.split(b" ")
                point = posix.fsdecode(mount.unescaped(fields[4]))
                self.points[int(fields[0])] = point
                if right.startswith(b"cgroup "):
                    self.cgroups.append(point)
        self.root = posix.open(f"/proc/{pid}/root", posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)

    def close(self) -> None:
        """Give up the descriptor."""
        posix.close(self.root)

    def found(self, place: str) -> tuple[str, posix.stat_result | None]:
        """The mount point of what is at ``place``, and what that is; ("", None) for nothing."""
        try:
            fd = paths.open_in_root(self.root, place)
        except OSError:
            return "", None
        try:
            return self.points.get(mount_id("self", fd), ""), posix.fstat(fd)
        finally:
            posix.close(fd)

    def at(self, place: str) -> tuple[str, int]:
        """The mount point of what is at ``place``, and its number if it is a character device; ("", 0) for nothing."""
        point, status = self.found(place)
        return point, status.st_rdev if status is not None and S_ISCHR(status.st_mode) else 0


def dump_mounts(spec: Spec, pid: int, state: int) -> list[dict[str, str]]:
    """The mounts of process ``pid`` that are others': mount point -> name. ``state`` is the state directory."""
    mounts = Mounts(pid)
    try:
        found = {point: place for point, place in _name_files(mounts, state)}
        found.update((mounts.at(destination)[0], destination) for destination, _ in binds(spec))
        for place in spec.linux.get("maskedPaths") or ():
            point, device = mounts.at(mount.normal(place))
            if device == _NULL_DEVICE and mounts.at(point)[1] == device:  # a mount of the null device and nothing else
                found[point] = NULL
        for place in (*_DEFAULT_NODES, *_devices(spec)):  # mounts where mknod(2) is not permitted
            if place in mounts.points.values() and place not in found:
                found[place] = place
        if "cgroup" not in spec.namespaces():
            found.update((point, point) for point in mounts.cgroups)
    finally:
        mounts.close()
    found.pop("", None)
    found.pop("/", None)
    return [{"key": point, "val": name} for point, name in found.items()]


def restore_mounts(spec: Spec, host: Host, cgroups: dict[str, str], state: str) -> list[dict[str, str]]:
    """What the names of `dump_mounts` mean in this bundle and on this host: name -> path.

    ``state`` is the path of the state directory, in which plugins have made what they mount.
    """
    found = {place: place for place in (*_DEFAULT_NODES, *_devices(spec))}
    found.update(
        (f"/etc/{name}", f"{state}/{name}") for name in layout.NAME_FILES if posix.path.exists(f"{state}/{name}")
    )
    found.update(binds(spec))
    if "cgroup" not in spec.namespaces():
        for entry in spec.config.get("mounts") or ():
            if entry.get("type") == "cgroup":
                for controller, directory in cgroups.items():
                    name = posix.path.basename(host.cgroup_mounts.get(controller, ""))
                    found[f"{mount.normal(entry['destination'])}/{name}"] = directory
    return [{"key": name, "val": path} for name, path in found.items()]


def _name_files(mounts: Mounts, state: int) -> Iterator[tuple[str, str]]:
    """The mounts of files of the state directory: mount point, and where it was to be. Not what others mount there."""
    for name in layout.NAME_FILES:
        try:
            own = posix.stat(name, dir_fd=state, follow_symlinks=False)
        except FileNotFoundError:
            continue
        point, status = mounts.found(f"/etc/{name}")
        if status is not None and (status.st_dev, status.st_ino) == (own.st_dev, own.st_ino):
            yield point, f"/etc/{name}"


def dump_namespaces(spec: Spec, pid: int, version: int) -> list[str]:
    """The namespaces that the container has joined and CRIU is to leave alone: ``net[INODE]:NAME``."""
    found = []
    for kind, path in spec.namespaces().items():
        if path and kind in _INHERITED:
            _check(kind, version)
            inode = posix.stat(namespace.namespace_path(kind, pid)).st_ino
            found.append(f"{_short(kind)}[{inode}]:{_name(kind)}")
    return found


def restore_namespaces(spec: Spec, version: int) -> tuple[list[tuple[str, str]], list[dict[str, str]]]:
    """Namespaces to inherit, as (name, path), and those to join, as CRIU's ``join_ns``. Raises `Error`."""
    inherited, joined = [], []
    for kind, path in spec.namespaces().items():
        if not path:
            continue
        if not posix.path.exists(path):
            raise Error(f"Requested {kind} namespace {path} does not exist", where="linux.namespaces")
        if kind in _INHERITED:
            _check(kind, version)
            inherited.append((_name(kind), path))
        elif kind in ("cgroup", "time"):
            raise Error(f"criu cannot restore into a {kind} namespace that exists", where="linux.namespaces")
        else:
            joined.append({"ns": _short(kind), "ns_file": path})
    return inherited, joined


def descriptors(pid: int) -> tuple[list[str], list[str]]:
    """What the process has as standard input, output and error, and which of it CRIU must be told of as external.

    The first list is what `descriptors.json` holds: ``pipe:[INODE]``, ``file[MOUNT:INODE]`` for a file, FIFO or device
    that only the host can reach, else where the link leads. A shell that has redirected one of them holds what it was
    before under a higher number, and takes it back.
    """
    mounts = Mounts(pid)
    mounts.close()
    names = [_named(pid, fd, mounts) for fd in range(3)]
    for fd in sorted(int(name) for name in posix.listdir(f"/proc/{pid}/fd")):
        name = _named(pid, fd, mounts) if fd > 2 else ""
        redirected = [number for number, each in enumerate(names) if each and not each.startswith((*_STREAMS, "/dev/"))]
        if redirected and name.startswith("file[") and name not in names:
            names[redirected[0]] = name
    return names, list(dict.fromkeys(name for name in names if name.startswith("file[")))


def _named(pid: int, fd: int, mounts: Mounts) -> str:
    link = f"/proc/{pid}/fd/{fd}"
    try:
        target, status, number = posix.readlink(link), posix.stat(link), mount_id(pid, fd)
    except OSError:
        return ""
    outside = number not in mounts.points and _is_external(target, status.st_mode)
    return f"file[{number:x}:{status.st_ino:x}]" if outside else target


def inherited(names: list[str]) -> list[dict[str, object]]:
    """Which of the restored processes' descriptors become the caller's standard streams: CRIU's ``inherit_fd``."""
    return [{"key": name, "fd": fd} for fd, name in enumerate(names) if name.startswith(_STREAMS)]


def read_descriptors(images: int) -> list[str]:
    """The names that a checkpoint has left in the directory of images; none if it left none. Raises `Error`."""
    try:
        fd = posix.open(DESCRIPTORS, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=images)
    except FileNotFoundError:
        return []
    with open(fd, "rb", buffering=0) as file:
        text = file.read(1 << 16) or b""
    try:
        names = jsonio.loads(text)
    except jsonio.JSONError as error:
        raise Error(f"invalid {DESCRIPTORS} in the directory of images: {error}") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Error(f"invalid {DESCRIPTORS} in the directory of images: not a list of strings")
    return names[:3]


def mount_id(pid: int | str, fd: int) -> int:
    """The id of the mount that a descriptor of a process is of (proc(5), fdinfo); -1 if it is not told."""
    with open(f"/proc/{pid}/fdinfo/{fd}", "rb") as file:
        for line in file:
            if line.startswith(b"mnt_id:"):
                return int(line[7:])
    return -1


def _is_external(target: str, mode: int) -> bool:
    """Whether CRIU is told of it: not of a pipe without a name, whose contents it saves."""
    return S_ISREG(mode) or S_ISCHR(mode) or (S_ISFIFO(mode) and target.startswith("/"))


def _devices(spec: Spec) -> list[str]:
    return [mount.normal(device["path"]) for device in spec.linux.get("devices") or ()]


def _short(kind: str) -> str:
    return namespace.KINDS[kind][2]


def _name(kind: str) -> str:
    """The name that runc uses, too: images can be restored by either."""
    return f"extRoot{_short(kind).capitalize()}NS"


def _check(kind: str, version: int) -> None:
    from gosudacon.container.criu import service

    service.require(version, _INHERITED[kind], f"a {kind} namespace that was joined")
