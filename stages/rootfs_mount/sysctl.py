"""linux.sysctl: kernel parameters of the container's own namespaces (sysctl(5), namespaces(7))."""

from __future__ import annotations

from errno import EPERM

from gosudacon.api import CONFINE, PREPARE, ConfigError, Context, Error, PlanWarning, Spec, Step
from gosudacon.base import posix
from gosudacon.base.errors import SyscallError, reason
from gosudacon.linux import mount, namespace, path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_IPC = frozenset(
    f"kernel/{name}" for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
)
_PROC_ROOT_INODE = 1
_BENEATH = path.RESOLVE_BENEATH | path.RESOLVE_NO_SYMLINKS | path.RESOLVE_NO_XDEV


class CheckNamespace(Step):
    """A namespace that is joined must not be the host's, or its parameters would be.

    Why: a parameter belongs to the namespace of the process that writes it.
    Without it: the container's configuration could set parameters of the host.
    See: proc_sys(5); namespaces(7); runtime-spec config-linux.md, Sysctl.
    """

    phase = PREPARE
    kind: str
    path: str
    key: str

    def describe(self) -> str:
        return f"check that {self.path} is not the host's {self.kind} namespace"

    def run(self, context: Context) -> None:
        theirs, ours = posix.stat(self.path), posix.stat(namespace.namespace_path(self.kind))
        if (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino):
            raise ConfigError(_of_the_host(self.kind, self.key))


class WriteSysctls(Step):
    """Write kernel parameters through a proc mount of the container's namespaces that no other process can reach.

    Why: network and IPC have parameters of their own in each namespace, and /proc/sys is read-only for the
    container.
    Without it: they would have the kernel's defaults.
    See: proc_sys(5); sysctl(8); runtime-spec config-linux.md, Sysctl.
    """

    phase = CONFINE
    where = "linux.sysctl"
    values: dict[str, str]  # path below /proc/sys -> value

    def describe(self) -> str:
        return "sysctl " + ", ".join(f"{name.replace('/', '.')}={value}" for name, value in self.values.items())

    def run(self, context: Context) -> None:
        proc = _open_proc(context)
        try:
            for name, value in self.values.items():
                self._write(proc, name, value.encode())
        finally:
            posix.close(proc)

    def _write(self, proc: int, name: str, value: bytes) -> None:
        where = f"linux.sysctl[{name.replace('/', '.')}]"
        try:
            fd = path.openat2(proc, f"sys/{name}", posix.O_WRONLY, _BENEATH)
            try:
                posix.write(fd, value)
            finally:
                posix.close(fd)
        except OSError as error:
            key, number = name.replace("/", "."), error.errno or 0
            text = reason(SyscallError(number, "write sysctl key", key))
            raise Error(text, call="write", errno=number, where=where) from None


def _open_proc(context: Context) -> int:
    """A procfs with /proc/sys: a new one, or the container's if it is the real one (mount namespace of a user's)."""
    try:
        return mount.new_filesystem("proc", {})
    except OSError as error:
        if error.errno != EPERM:
            raise
    fd = path.open_in_root(context.root, "/proc", posix.O_PATH | posix.O_DIRECTORY, path.RESOLVE_NO_SYMLINKS)
    if mount.filesystem_type(fd) != mount.PROC_SUPER_MAGIC or posix.fstat(fd).st_ino != _PROC_ROOT_INODE:
        posix.close(fd)
        raise Error("the container's /proc is not a procfs")
    return fd


def plan_sysctl(spec: Spec) -> Iterator[Step]:
    """The steps for linux.sysctl. Raises `ConfigError` for what is not the container's own, or contradicts itself."""
    values: dict[str, str] = {}
    namespaces = spec.namespaces()
    checked: dict[str, Step] = {}
    for key, value in (spec.linux.get("sysctl") or {}).items():
        where = f"linux.sysctl[{key}]"
        name = _path(key, where)
        if not value:  # the kernel takes a write of nothing, and leaves the value as it is
            yield PlanWarning(message="empty: ignored", where=where)
            continue
        if "\0" in value or "\n" in value:
            raise ConfigError(f"sysctl {key!r}: {value!r} is not a value of one line", where=where)
        kind = _namespace(key, name, where)
        if kind not in namespaces:
            raise ConfigError(_of_the_host(kind, key), where=where)
        known = values.get(name) or (name == "kernel/domainname" and spec.config.get("domainname"))
        if known and known != value:
            raise ConfigError(f"sysctl {key!r} is given a second value: {value!r}", where=where)
        values[name] = value
        if namespaces[kind]:
            checked.setdefault(kind, CheckNamespace(kind=kind, path=namespaces[kind], key=key, where=where))
    yield from checked.values()
    if values:
        yield WriteSysctls(values=values)


def _path(key: str, where: str) -> str:
    """The key as a path: dots separate, unless a slash comes first; then slashes do and dots are themselves."""
    dot, slash = key.find("."), key.find("/")
    if dot >= 0 and (slash < 0 or dot < slash):
        key = key.translate({ord("."): "/", ord("/"): "."})
    parts = key.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise ConfigError(f"sysctl {key!r} is not a sysctl name", where=where)
    return key


def _namespace(key: str, name: str, where: str) -> str:
    """The kind of namespace that a parameter belongs to. Raises `ConfigError` if it is the whole machine's."""
    if name in _IPC or name.startswith("fs/mqueue/"):
        return "ipc"
    if name.startswith("net/"):
        return "network"
    if name == "kernel/domainname":
        return "uts"
    if name.startswith("user/"):
        return "user"
    if name == "kernel/hostname":
        problem = f'sysctl "{key}" is not allowed as it conflicts with the OCI "hostname" field'
    else:
        problem = f'sysctl "{key}" is not in a separate kernel namespace'
    raise ConfigError(problem, where=where)


def _of_the_host(kind: str, key: str) -> str:
    """What runc says for each kind."""
    if kind == "network":
        return f'sysctl "{key}" not allowed in host network namespace'
    if kind == "user":
        return f'sysctl "{key}" is not in a separate kernel namespace'
    return f'sysctl "{key}" is not allowed in the hosts {"UTS" if kind == "uts" else kind} namespace'
