"""The process that is looked at, held so that nothing is read of another one: pidfd, start time, directory in /proc."""

from __future__ import annotations

from errno import EINVAL

from gosudacon.audit.verdict import Unseen
from gosudacon.base import posix
from gosudacon.base.errors import Error, SyscallError, reason
from gosudacon.container import host as hosts
from gosudacon.linux import capability, mount, namespace, proc, statmount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.audit.inside import Asking
    from gosudacon.linux.statmount import Mount
    from gosudacon.pipeline.spec import Host, Spec

_CHUNK = 1 << 16
_MOST = 8 << 20


class Subject:
    """Init of a container, and what is read of it once: its status file, namespaces, mounts and cgroups.

    ``runtime`` is the name of the runtime that made it, empty if that is not known; ``cgroups`` (controller ->
    directory) and ``start_time`` what its state says, if there is any; ``started``: it has been started.
    Raises `Error` if it is gone, or is another process by now. Close it.
    """

    def __init__(
        self,
        spec: Spec,
        host: Host,
        pid: int,
        start_time: int = 0,
        runtime: str = "",
        cgroups: dict[str, str] | None = None,
        started: bool = True,
    ) -> None:
        self.spec = spec
        self.host = host
        self.pid = pid
        self.runtime = runtime
        self.ours = runtime == "gosudacon"
        self.updated: dict[str, str] = {}  # file of a cgroup -> what is asked for since an update
        self.program = False  # whether filters are to be read back
        self.started = started
        self.asking: Asking | None = None
        self._answers: dict[str, object] | None = None
        self.claimed: set[str] = set()  # mount points that are asked for
        self.trees: list[str] = []  # and those below which anything may be mounted
        self.proc = self.pidfd = -1
        self._texts: dict[str, bytes] = {}
        self._mounts: list[Mount] | None = None
        try:
            self.pidfd = posix.pidfd_open(pid)
            self.all_proc = host_proc()
            self.proc = posix.open(str(pid), posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC, dir_fd=self.all_proc)
            self.start_time = proc.start_time(pid)
        except OSError as error:
            self.close()
            raise Error(f"the container's process {pid} is gone ({reason(error)})") from error
        if not self.start_time or (start_time and start_time != self.start_time):
            self.close()
            raise Error(f"the container has stopped: process {pid} is not the one that was created")
        self.status = _fields(self.text("status"))
        self._recorded = cgroups
        self.cgroups = {name: path for name, path in (cgroups or self._now()).items() if path}

    def close(self) -> None:
        """Let go of the process."""
        if self.asking is not None and self._answers is None:
            self.asking.collect()
        for fd in (self.proc, self.pidfd):
            if fd >= 0:
                posix.close(fd)
        self.proc = self.pidfd = -1

    def check(self) -> None:
        """Raise `Error` if the process has ended meanwhile: what was read last may be another process's."""
        if proc.start_time(self.pid) != self.start_time:
            raise Error(f"the container has stopped while it was looked at (process {self.pid})")

    def text(self, name: str) -> bytes:
        """A file of the process's directory in /proc, read once. Raises OSError."""
        found = self._texts.get(name)
        if found is None:
            found = self._texts[name] = read_at(self.proc, name)
        return found

    def field(self, name: str) -> str:
        """A line of the status file (proc_pid_status(5)). Raises `Unseen` if this kernel has none."""
        if name not in self.status:
            raise Unseen(f"this kernel's /proc/PID/status has no {name}")
        return self.status[name]

    def may(self, capability_name: str, on_host: bool = False) -> bool:
        """Whether a process of the container may have a capability, or had it; ``on_host``: one that counts there.

        Programs drop what they have used, so what was granted at the start counts as well as what is held now.
        """
        if on_host and self.own_users:
            return False
        masks = int(self.field("CapPrm"), 16) | int(self.field("CapEff"), 16)
        if self.status.get("NoNewPrivs") != "1":
            masks |= int(self.field("CapBnd"), 16)
        return bool(masks >> capability.NUMBERS[capability_name] & 1) or self._was_granted(capability_name)

    def _was_granted(self, name: str) -> bool:
        sets = self.spec.process.get("capabilities")
        if sets is None:
            return int((self.spec.process.get("user") or {}).get("uid") or 0) == 0
        granted = {*(sets.get("permitted") or ()), *(sets.get("effective") or ()), *(sets.get("ambient") or ())}
        if not self.spec.process.get("noNewPrivileges"):
            granted.update(sets.get("bounding") or ())
        return name in granted

    @property
    def own_users(self) -> bool:
        """Whether the container has a user namespace of its own."""
        return self.differs("user")

    def inode(self, kind: str, of: str = "") -> tuple[int, int] | None:
        """Device and inode of a namespace of the process, or of that at the path ``of``; None if it does not exist."""
        try:
            status = posix.stat(of) if of else posix.stat(f"ns/{namespace.KINDS[kind][2]}", dir_fd=self.proc)
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    def differs(self, kind: str) -> bool:
        """Whether the process's namespace of this kind is another one than this process's."""
        return self.inode(kind) != self.inode(kind, namespace.namespace_path(kind))

    @property
    def mounts(self) -> list[Mount]:
        """All mounts of its mount namespace: listmount(2), else its mountinfo, in which a chroot may hide some."""
        if self._mounts is None:
            fd = posix.open("ns/mnt", posix.O_RDONLY | posix.O_CLOEXEC, dir_fd=self.proc)
            try:
                self._mounts = statmount.of_namespace(fd)
            except OSError:
                self._mounts = statmount.of_text(self.text("mountinfo"))
            finally:
                posix.close(fd)
        return self._mounts

    def _now(self) -> dict[str, str]:
        return hosts.cgroups_of(self.host, self.pid)

    def strayed(self) -> dict[str, str]:
        """Controller -> where init is now, of those whose cgroup it has left."""
        if self._recorded is None:
            return {}
        now = self._now()
        return {
            name: now[name]
            for name, path in self.cgroups.items()
            if name in now and now[name] != path and not now[name].startswith(f"{path}/")
        }

    def inside(self, id: int, name: str) -> int:
        """A container's id as this process's user namespace has it: by uid_map or gid_map (user_namespaces(7))."""
        for first, outside, count in ranges(self.text(name)):
            if first <= id < first + count:
                return outside + id - first
        raise Unseen(f"{id} is not in {name}")

    def answer(self, question: str) -> dict[str, object]:
        """What the child in the container's namespaces has found out. Raises `Unseen` if it got no answer."""
        if self._answers is None:
            self._answers = self.asking.collect() if self.asking is not None else {}
        found = self._answers.get(question)
        if not isinstance(found, dict):
            raise Unseen("the process that looked into the container's namespaces got no answer in time")
        if "unseen" in found:
            raise Unseen(str(found["unseen"]))
        return found


def ranges(text: bytes) -> list[list[int]]:
    """The lines of an id map: [inside, outside, count]."""
    return [[int(number) for number in line.split()] for line in text.splitlines()]


def host_proc() -> int:
    """A descriptor of /proc, which must be a procfs. Raises `Error`; opened once."""
    global _host_proc
    if _host_proc < 0:
        fd = posix.open("/proc", posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
        if mount.filesystem_type(fd) != mount.PROC_SUPER_MAGIC:
            posix.close(fd)
            raise Error("/proc is not a procfs: nothing that it says could be trusted")
        _host_proc = fd
    return _host_proc


_host_proc = -1


def read_at(directory: int | None, name: str) -> bytes:
    """A file of the kernel, at most 8 MiB of it. Raises OSError."""
    fd = posix.open(name, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW | posix.O_NONBLOCK, dir_fd=directory)
    try:
        chunks = []
        size = 0
        while size < _MOST and (chunk := posix.read(fd, _CHUNK)):
            chunks.append(chunk)
            size += len(chunk)
        return b"".join(chunks)
    except OSError as error:
        if error.errno == EINVAL:
            raise SyscallError(EINVAL, "read", name) from None
        raise
    finally:
        posix.close(fd)


def _fields(text: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in text.decode(errors="replace").splitlines())
    return {name: value.strip() for name, _, value in pairs}
