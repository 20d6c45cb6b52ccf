"""A container's /etc/resolv.conf, /etc/hosts and /etc/hostname: files in its state directory, mounted in the container.

They are made before the container's process is, so that it can mount them; what depends on addresses is written when
these are known, into the same files (`write`). They are mounted read-only: they lie in the memory of the host, which a
container could fill. `delete` removes them with the state directory.
"""

from __future__ import annotations

from _stat import S_ISREG
from errno import ELOOP, ENOENT, ENOTDIR, EXDEV

from gosudacon.api import (
    MOUNT,
    PREPARE,
    Context,
    Host,
    PlanWarning,
    Spec,
    Step,
    clone_tree,
    mount_setattr,
    move_mount,
    open_in_root,
)
from gosudacon.base import layout, posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

RESOLV_CONF, HOSTS, HOSTNAME = layout.NAME_FILES
PLACES = {name: f"/etc/{name}" for name in (RESOLV_CONF, HOSTS, HOSTNAME)}
"""Name of a file in the state directory -> its place in the container."""

LOCALHOST = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
WORDS = ("ro", "nosuid", "nodev", "noexec")
_ATTRIBUTES = 1 | 2 | 4 | 8  # MOUNT_ATTR_RDONLY, _NOSUID, _NODEV, _NOEXEC
_MS_PRIVATE = 1 << 18
_RESOLVE_NO_XDEV, _RESOLVE_NO_SYMLINKS = 0x01, 0x04
_LAST = 10  # of MOUNT: after the mounts of config.json
_OLDEST = (5, 12)  # Linux with mount_setattr(2)


def steps(spec: Spec, host: Host) -> Iterator[Step]:
    """The steps for the files at whose places config.json has no mount; none without a mount namespace of its own.

    What they make is there for `write` from `CREATE_RUNTIME` on.
    """
    names = wanted(spec)
    if not names:
        return
    if host.kernel < _OLDEST:
        yield PlanWarning(message=f"{', '.join(PLACES[name] for name in names)}: left alone before Linux 5.12")
        return
    yield MakeFiles(names=names, hostname=spec.config.get("hostname") or "")
    yield MountFiles(names=names)


def restoring(spec: Spec, servers: list[str], search: list[str], options: list[str]) -> Iterator[Step]:
    """The step for a container that CRIU restores, which mounts the files as it mounts all others' (`wanted`).

    ``servers``, ``search`` and ``options`` of resolv.conf stand in the place of what the host has.
    """
    names = wanted(spec)
    if names:
        hostname = spec.config.get("hostname") or ""
        yield RemakeFiles(names=names, hostname=hostname, servers=servers, search=search, options=options)


def wanted(spec: Spec) -> list[str]:
    """The names of the files at whose places config.json has no mount."""
    if spec.namespaces().get("mount") != "":
        return []
    taken = {_normal(entry["destination"]) for entry in spec.config.get("mounts") or ()}
    return [name for name, place in PLACES.items() if place not in taken]


def write(context: Context, name: str, text: str) -> None:
    """Write one of the files anew, if the plan has made it; from `CREATE_RUNTIME` on, on the runtime's side."""
    write_in(context.state_dir, name, text)


def write_in(directory: int, name: str, text: str) -> bool:
    """Write the file in the state directory behind a descriptor anew; False if there is none. The inode stays."""
    try:
        fd = posix.open(name, posix.O_WRONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return False
    try:
        _fill(fd, text)
    finally:
        posix.close(fd)
    return True


class _Trees:
    """What `MakeFiles` leaves for `MountFiles`: name -> descriptor of a detached mount of the file."""

    def __init__(self) -> None:
        self.found: dict[str, int] = {}


class MakeFiles(Step):
    """Make the container's own resolv.conf, hosts and hostname on the host, each as a mount that is nowhere yet.

    Why: the container's process cannot reach the state directory, which is root's alone.
    Without it: names would be those of the image, or of nobody.
    See: resolv.conf(5); hosts(5); hostname(5); open_tree(2).
    """

    phase = PREPARE
    by = MOUNT
    names: list[str]
    hostname: str

    def describe(self) -> str:
        return f"make {_listed(self.names)} in the state directory"

    def run(self, context: Context) -> None:
        trees = context.own(_Trees).found
        for name in self.names:
            _make(context, name, _text(name, self.hostname))
            trees[name] = clone_tree(context.state_dir, name)
            mount_setattr(trees[name], _ATTRIBUTES, 0, _MS_PRIVATE, about=name)


class MountFiles(Step):
    """Mount them in the container, read-only, each where the root has a file for it.

    Why: programs look up names in these files.
    Without it: the container would know neither its own name nor a name server.
    See: move_mount(2); mount(8), bind mounts.
    """

    phase = MOUNT
    rank = _LAST
    names: list[str]

    def describe(self) -> str:
        places = [PLACES[name] for name in self.names]
        return f"mount {_listed(places)} of its own, read-only, where the root has such a file"

    def run(self, context: Context) -> None:
        trees = context.own(_Trees).found
        missing = []
        for name in self.names:
            tree = trees.pop(name)
            try:
                below = _place(context.root, PLACES[name])
                if below < 0:
                    missing.append(PLACES[name])
                    continue
                try:
                    move_mount(tree, below, about=PLACES[name])
                finally:
                    posix.close(below)
            finally:
                posix.close(tree)
        if missing:
            why = "the root filesystem has no such regular file; an empty one is enough"
            context.warnings.append(f"{_listed(missing)}: not mounted, since {why}")


class RemakeFiles(Step):
    """Make the container's own resolv.conf, hosts and hostname on the host, for CRIU to mount where they were.

    The container's network is not made again, and so hosts has no address of its own.

    Why: the images have the places of these files, and not what is in them.
    Without it: CRIU would not find what it is to mount, and restore nothing.
    See: resolv.conf(5); hosts(5); hostname(5); criu(8), --external.
    """

    phase = PREPARE
    by = MOUNT
    names: list[str]
    hostname: str
    servers: list[str]
    search: list[str]
    options: list[str]

    def describe(self) -> str:
        return f"make {_listed(self.names)} in the state directory, should the images have had them"

    def run(self, context: Context) -> None:
        from gosudacon.plugins.netcommon import resolver

        for name in self.names:
            text = _text(name, self.hostname)
            if name == RESOLV_CONF:
                text = resolver.of_host().replaced(self.servers, self.search, self.options).text()
            _make(context, name, text)


def _text(name: str, hostname: str) -> str:
    """What a file has as long as the container's addresses are not known."""
    return {HOSTS: LOCALHOST, HOSTNAME: f"{hostname or posix.uname().nodename}\n"}.get(name, "")


def _make(context: Context, name: str, text: str) -> None:
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
    fd = posix.open(name, flags, 0o644, dir_fd=context.state_dir)
    try:
        _fill(fd, text)
    finally:
        posix.close(fd)


def _place(root: int, place: str) -> int:
    """The file to mount on; -1 if there is none, for the image is not ours to change.

    A link is followed within the file system of the root alone: nothing is to be mounted over a file of /proc.
    """
    try:
        try:
            fd = open_in_root(root, place, posix.O_PATH, _RESOLVE_NO_SYMLINKS)
        except OSError as error:
            if error.errno != ELOOP:
                raise
            fd = open_in_root(root, place, posix.O_PATH, _RESOLVE_NO_XDEV)
    except OSError as error:
        if error.errno not in (ENOENT, ENOTDIR, ELOOP, EXDEV):
            raise
        return -1
    if S_ISREG(posix.fstat(fd).st_mode):
        return fd
    posix.close(fd)
    return -1


def _fill(fd: int, text: str) -> None:
    """Put the text over what is there, and cut off the rest: whoever reads meanwhile finds no empty file."""
    data = text.encode("utf-8", "surrogateescape")
    done = 0
    while done < len(data):
        done += posix.pwrite(fd, data[done:], done)
    posix.ftruncate(fd, len(data))


def _normal(place: str) -> str:
    return "/" + "/".join(part for part in place.split("/") if part not in ("", "."))


def _listed(words: list[str]) -> str:
    return ", ".join(words[:-1]) + (" and " if words[1:] else "") + words[-1]
