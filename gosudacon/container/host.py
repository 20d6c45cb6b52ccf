"""Gathering the facts about the machine that planning may use."""

from __future__ import annotations

from gosudacon.base import posix
from gosudacon.linux import mount, namespace, proc
from gosudacon.pipeline.spec import Host

_CGROUP_ROOT = "/sys/fs/cgroup"


_kept: list[tuple[Host, dict[str, int]]] = []  # facts, and the device of each mount point of cgroups then


def keep() -> None:
    """Look now, and have `gather` answer from that, in this process and its forks, while the hierarchies are the same.

    mountinfo(5) is long on a host with many containers. Nothing else of the facts changes while a process lives.
    """
    host = _look()
    _kept[:] = [(host, {point: _device(point) for point in host.cgroup_mounts.values()})]


def gather() -> Host:
    """The facts about this machine; what cannot be read is assumed and listed in ``Host.assumed``."""
    for host, devices in _kept:
        own = _own_cgroups(host.cgroup_roots)
        if own.keys() <= host.cgroup_mounts.keys() and all(_device(point) == devices[point] for point in devices):
            return Host(**{**vars(host), "own_cgroups": own, "facts": {}})
    return _look()


def _look() -> Host:
    release = posix.uname().release.split(".")
    minor = "".join(character for character in release[1] if character.isdigit())
    assumed: list[str] = []
    mode, mounts, roots = _cgroups(assumed)
    return Host(
        kernel=(int(release[0]), int(minor)),
        euid=posix.geteuid(),
        initial_userns=_initial_userns(),
        clone3=namespace.has_clone3(),
        cgroup_mode=mode,
        cgroup_mounts=mounts,
        own_cgroups=_own_cgroups(roots),
        cgroup_roots=roots,
        systemd=posix.path.isdir("/run/systemd/system"),
        apparmor=_says("/sys/module/apparmor/parameters/enabled", b"Y"),
        selinux=posix.path.exists("/sys/fs/selinux/status"),
        assumed=tuple(assumed),
    )


def _device(path: str) -> int:
    """The device number of what is mounted there; 0 if nothing can be seen."""
    try:
        return posix.stat(path).st_dev
    except OSError:
        return 0


def _cgroups(assumed: list[str]) -> tuple[str, dict[str, str], dict[str, str]]:
    """Mode, controller -> mount point, and controller -> the cgroup that is mounted there: not always the root."""
    try:
        fd = posix.open(_CGROUP_ROOT, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except OSError:
        assumed.append("cgroup v2 at /sys/fs/cgroup: nothing is there to look at")
        return "v2", {"": _CGROUP_ROOT}, {}
    try:
        if mount.filesystem_type(fd) == mount.CGROUP2_SUPER_MAGIC:
            return "v2", {"": _CGROUP_ROOT}, {}
    finally:
        posix.close(fd)
    mounts, roots = _v1_mounts(_read("/proc/self/mountinfo"))
    if not mounts:
        assumed.append("no cgroup hierarchy is mounted: limits cannot be set")
    return ("hybrid" if "" in mounts else "v1"), mounts, roots


def _v1_mounts(mountinfo: bytes) -> tuple[dict[str, str], dict[str, str]]:
    mounts: dict[str, str] = {}
    roots: dict[str, str] = {}
    for line in mountinfo.splitlines():
        if b" - cgroup" not in line:
            continue
        left, _, right = line.partition(b" - ")
        root, point = (posix.fsdecode(mount.unescaped(field)) for field in left.split()[3:5])
        kind, _, options = right.split(b" ", 2)
        names = [""] if kind == b"cgroup2" else options.decode(errors="replace").split(",")
        for name in names:
            if name not in _NOT_CONTROLLERS and name not in mounts:
                mounts[name], roots[name] = point, root
    return mounts, roots


_NOT_CONTROLLERS = frozenset(("rw", "ro", "xattr", "clone_children", "noprefix", "release_agent", "favordynmods"))


def _own_cgroups(roots: dict[str, str]) -> dict[str, str]:
    """Controller -> this process's cgroup, as a path below the mount point.

    In a container with the host's cgroup namespace the mount shows a part of the hierarchy: that cgroup is its root.
    """
    try:
        own = proc.cgroups("self")
    except OSError:
        return {}
    return {controller: below(roots.get(controller, "/"), path) or path for controller, path in own.items()}


def cgroups_of(host: Host, pid: int) -> dict[str, str]:
    """Controller -> directory of a process's cgroup, empty where it cannot be seen from here. Raises OSError.

    A process that has ended is said to be in the root.
    """
    return {controller: _directory(host, controller, path) for controller, path in proc.cgroups(pid).items()}


def own_cgroup(host: Host, controller: str) -> str:
    """The directory of the cgroup that this process was in when the facts were gathered; empty where it is unknown."""
    point, inside = host.cgroup_mounts.get(controller), host.own_cgroups.get(controller)
    return f"{point}{inside}".rstrip("/") if point and inside else ""


def _directory(host: Host, controller: str, path: str) -> str:
    point = host.cgroup_mounts.get(controller)
    inside = below(host.cgroup_roots.get(controller, "/"), path)
    if point is None or not inside or ".." in inside.split("/"):
        return ""
    return f"{point}{inside}".rstrip("/")


def below(root: str, path: str) -> str:
    """A cgroup's path as it is below a mount point that shows ``root``; empty if it is not there."""
    if root == "/":
        return path
    return path[len(root) :] or "/" if path == root or path.startswith(f"{root}/") else ""


def _initial_userns() -> bool:
    return _read("/proc/self/uid_map").split() == [b"0", b"0", b"4294967295"]


def _says(path: str, text: bytes) -> bool:
    return _read(path).startswith(text)


def _read(path: str) -> bytes:
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return b""
    try:
        chunks = []
        while chunk := posix.read(fd, 65536):
            chunks.append(chunk)
        return b"".join(chunks)
    except OSError:
        return b""
    finally:
        posix.close(fd)
