"""Saving a running container to disk."""

from __future__ import annotations

from gosudacon.base import jsonio, posix
from gosudacon.base.errors import Error, StateError
from gosudacon.container import bundle as bundles
from gosudacon.container import host as hosts
from gosudacon.container.criu import external, rpc, service
from gosudacon.container.criu.request import CriuOptions, Directories, common
from gosudacon.container.delete import remove_dumped
from gosudacon.container.state import Container, Store
from gosudacon.pipeline.spec import Spec

LOG = "dump.log"
_FREEZER_V2, _STATUS_BY_NOTIFICATION = 31400, 31500
_ACCMODE = 0o3
_F_GETFL = 3


def checkpoint(root: str, id: str, options: CriuOptions) -> list[Error]:
    """Save the container's processes; they end with it unless ``leave_running`` or ``pre_dump``.

    A container that ends with it is removed; returns what its poststop hooks reported. On failure the container
    goes on as before, and `Error` is raised.
    """
    store = Store(root, id)
    store.open()
    _check(Container.load(store))  # asked before the lock: a hook of its own creation must not wait for it
    store.close()
    store.open(exclusive=True)
    container = Container.load(store)
    _check(container)
    try:
        return _checkpoint(container, options)
    finally:
        store.close()


def _check(container: Container) -> None:
    status = container.status()
    if status not in ("running", "paused"):
        raise StateError(f"Container cannot be checkpointed in {status} state")


def _checkpoint(container: Container, options: CriuOptions) -> list[Error]:
    dump = Dump(container, options)
    try:
        dump.run()
    finally:
        dump.directories.close()
    if options.leave_running or options.pre_dump:
        return []
    return remove_dumped(container)


class Dump:
    """One request to CRIU to dump a container, or only its memory. Raises `Error` for options that cannot be."""

    def __init__(self, container: Container, options: CriuOptions) -> None:
        self.container = container
        self.options = options
        data = container.data
        self.pid: int = data["pid"]
        self.spec = Spec(bundles.saved(container.store), data["id"], data["bundle"])
        self.pages = _page_server(options.page_server)
        self.version = service.version()
        if options.pre_dump:
            service.require_features(mem_track=True)
        if options.lazy_pages:
            service.require_features(lazy_pages=True)
        self.status_fd = options.status_fd
        _check_writable(self.status_fd)
        self.directories = Directories(options, LOG, create=True)

    def run(self) -> None:
        """Have it done. Raises `Error`; the container then goes on."""
        wanted = self._options()
        kind = rpc.PRE_DUMP if self.options.pre_dump else rpc.DUMP
        session = service.start(self.directories.log)
        try:
            session.request(kind, self._notified, opts=wanted)
        except BaseException:
            session.finish()  # it ends after it has let the processes go on
            raise
        status = session.finish()
        if status and kind == rpc.DUMP:  # after a pre-dump it would wait for the next, and is told that no dump follows
            raise Error(f"criu failed: exit status {status}, log file: {self.directories.log}")

    def _options(self) -> dict[str, object]:
        options, spec = self.options, self.spec
        wanted = common(options, self.directories, self.version)
        wanted.update(
            pid=self.pid,
            root=spec.rootfs,
            leave_running=options.leave_running or None,
            link_remap=options.link_remap or None,
            tcp_skip_in_flight=options.tcp_skip_in_flight or None,
            freeze_cgroup=self._freezer(),
            ps=self.pages,
            external=external.dump_namespaces(spec, self.pid, self.version),
        )
        if options.parent_path:
            wanted["parent_img"] = _parent(self.directories.images, options.parent_path)
            wanted["track_mem"] = True
        if self.status_fd >= 0 and self.version < _STATUS_BY_NOTIFICATION:
            wanted["status_fd"] = self.status_fd
        if not options.pre_dump:
            wanted["ext_mnt"] = external.dump_mounts(spec, self.pid, self.container.store.fd)
            names, files = external.descriptors(self.pid)
            wanted["external"] += files
            self._write(names)
        else:
            wanted["track_mem"] = True
        return wanted

    def _write(self, names: list[str]) -> None:
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_NOFOLLOW | posix.O_CLOEXEC
        fd = posix.open(external.DESCRIPTORS, flags, 0o600, dir_fd=self.directories.images_fd)
        try:
            posix.write(fd, jsonio.dumps(names).encode())
        finally:
            posix.close(fd)

    def _freezer(self) -> str | None:
        """The cgroup by which CRIU stops the processes; without one it stops them one by one (ptrace(2))."""
        cgroups = self.container.data.get("cgroups") or {}
        if "freezer" in cgroups:
            return str(cgroups["freezer"])
        unified = hosts.gather().cgroup_mode == "v2" and self.version >= _FREEZER_V2
        return cgroups.get("") if unified else None

    def _notified(self, script: str, pid: int, fds: list[int]) -> None:
        for fd in fds:
            posix.close(fd)
        if script == "status-ready" and self.status_fd >= 0:
            posix.write(self.status_fd, b"\0")
            posix.close(self.status_fd)
            self.status_fd = -1


def _page_server(text: str) -> dict[str, object] | None:
    if not text:
        return None
    address, _, port = text.rpartition(":")
    address = address.removeprefix("[").removesuffix("]")
    if not address or not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 1 << 16):
        raise Error("Use --page-server ADDRESS:PORT to specify page server")
    return {"address": address, "port": int(port)}


def _parent(images: str, parent: str) -> str:
    """``--parent-path``, which CRIU keeps in the images as a link: relative to them, so that they can be moved."""
    if parent.startswith("/"):
        raise Error("--parent-path must be relative")
    place = posix.path.join(images, parent)
    if not posix.path.isdir(place):
        text = "not a directory" if posix.path.exists(place) else "no such file or directory"
        raise Error(f"invalid --parent-path: stat {place}: {text}")
    return parent


def _check_writable(fd: int) -> None:
    if fd < 0:
        return
    import fcntl

    try:
        flags = fcntl.fcntl(fd, _F_GETFL)
    except OSError as error:
        raise Error(f"invalid --status-fd argument {fd}: {posix.strerror(error.errno or 0).lower()}") from None
    if flags & _ACCMODE == posix.O_RDONLY:
        raise Error(f"invalid --status-fd argument {fd}: not writable")
