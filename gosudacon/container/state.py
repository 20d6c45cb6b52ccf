"""A container's state on disk: ``<root>/<id>/state.json``, written atomically, under a lock on its directory.

Beside it lie ``config.json``, the configuration the container was made from, and until ``start`` the socket
``start.sock``, whose presence tells `created` from `running`. If plugins have edited the configuration, ``config.json``
is the result, and ``original.json`` the bundle's.
"""

from __future__ import annotations

import fcntl
import time
from errno import EACCES, EAGAIN, EIO, EISDIR, ELOOP, ENXIO

from gosudacon.base import jsonio, layout, posix
from gosudacon.base.errors import Error, StateError
from gosudacon.linux import proc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Literal, TypedDict

    from gosudacon.pipeline.order import TraceSettings

    StepRecord = list[Any]  # see `Step.record`
    Kind = Literal["lasting", "started", "deleted"]  # of recorded steps

    class Data(TypedDict, total=False):
        """What state.json holds: see `Container`."""

        version: int  # of this form
        gosudacon: str  # the version that wrote it
        ociVersion: str
        id: str
        bundle: str
        rootfs: str
        created: str
        annotations: dict[str, str]
        pid: int
        start_time: int
        cgroups: dict[str, str]
        cgroup_options: dict[str, object]
        no_new_keyring: bool
        shares_pid_namespace: bool
        lasting: list[StepRecord]
        started: list[StepRecord]
        deleted: list[StepRecord]
        edited: list[str]
        observers: dict[str, list[list[object]]]
        resources: Resources
        added_mounts: list[Mount]
        trace: TraceSettings
        network_options: dict[str, object]
        addresses: dict[str, list[str]]
        ports: list[str]

    from gosudacon.container.caller import Tracing
    from gosudacon.pipeline.recorder import Recorder
    from gosudacon.pipeline.spec import Options
    from gosudacon.pipeline.step import Step
    from gosudacon.schema.types import Mount, Resources, State

OCI_VERSION = "1.3.0"
OOM_KILLED = "container init was OOM-killed (memory limit too low?)"  # words that callers look for
VERSION = 2  # of the form of state.json; `former` has those before
CGROUP_OPTIONS = ("cgroup_manager", "systemd_cgroup", "rootless")
NETWORK_OPTIONS = ("publish", "network")
_LIMIT = jsonio.SIZE_LIMIT
_DAMAGED = (EIO, ENXIO, EAGAIN, EACCES, EISDIR, ELOOP)  # not a file, or not to be read
_OURS = (layout.CONFIG, layout.CGROUPS_NOTE, layout.OLD_CGROUPS_NOTE, layout.START_SOCKET, layout.NOTIFY)
_READ = posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC
_MOST_PID = (1 << 31) - 1
_MEMBERS = {
    "id": str,
    "bundle": str,
    "rootfs": str,
    "created": str,
    "annotations": dict,
    "pid": int,
    "start_time": int,
    "cgroups": dict,
    "cgroup_options": dict,
    "no_new_keyring": bool,
    "shares_pid_namespace": bool,
    "lasting": list,
    "started": list,
    "deleted": list,
}
_ID_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-.")


def check_id(id: str) -> None:
    """Refuse an invalid container id: it becomes a file name. Raises `Error`."""
    if not id:
        raise Error("container id cannot be empty")
    if id in (".", "..") or len(id) > 255 or not _ID_CHARACTERS.issuperset(id):
        raise Error("invalid container ID format", hint="letters, digits and _ + - . ; at most 255 of them")


def default_root(environment: Mapping[bytes, bytes]) -> str:
    """/run/gosudacon, or for a caller that is not the host's root a directory of its own. Raises `Error`."""
    if posix.geteuid() == 0 and b"XDG_RUNTIME_DIR" not in environment and posix.access("/run", posix.W_OK):
        return layout.STATE_ROOT
    from gosudacon.base import user

    return user.state_root(environment)


class AbsentError(StateError):
    """The container does not exist."""


class UnreadableError(StateError):
    """A file of the container's state directory cannot be made sense of."""

    def __init__(self, store: Store, name: str, problem: str, hint: str = "") -> None:
        super().__init__(f"cannot read the state of container {store.id}: {store.root}/{store.id}/{name}: {problem}")
        self.hint = hint


class NewerError(UnreadableError):
    """A newer version of gosudacon has written the state."""


class Store:
    """The state directory of one container, held by a descriptor and, while it is changed, an exclusive lock."""

    def __init__(self, root: str, id: str) -> None:
        self.root = root
        self.id = id
        self.fd = -1

    def create(self) -> None:
        """Make the directory and lock it. Raises `StateError` if the id is taken."""
        while not self._make():
            posix.makedirs(self.root, 0o700, exist_ok=True)
        try:
            self._open()
            fcntl.flock(self.fd, fcntl.LOCK_EX)
        except BaseException:
            posix.rmdir(f"{self.root}/{self.id}")  # still empty
            self.close()
            raise

    def _make(self) -> bool:
        """Make the directory, if there is one for it to be in: a root that is empty may be removed by others."""
        try:
            posix.mkdir(f"{self.root}/{self.id}", 0o700)
        except FileExistsError:
            raise StateError("container with given ID already exists", hint=f"id {self.id}") from None
        except FileNotFoundError:
            return False
        return True

    def open(self, exclusive: bool = False) -> None:
        """Open a container's directory, locked if ``exclusive``. Raises `AbsentError` if it does not exist."""
        check_id(self.id)
        try:
            self._open()
        except FileNotFoundError:
            raise AbsentError("container does not exist", hint=f"no {self.id} in {self.root}") from None
        if exclusive and not self.lock():
            raise AbsentError("container does not exist", hint=f"{self.id} was deleted meanwhile")

    def lock(self) -> bool:
        """Take the exclusive lock; False if the container was deleted before this process got it."""
        fcntl.flock(self.fd, fcntl.LOCK_EX)
        return posix.fstat(self.fd).st_nlink > 0

    def unlock(self) -> None:
        """Give up the lock and keep the directory: others may delete the container now."""
        fcntl.flock(self.fd, fcntl.LOCK_UN)

    def write(self, name: str, data: bytes) -> None:
        """Write a file of the directory atomically."""
        temporary = f".{name}.{posix.getpid()}"
        fd = posix.open(
            temporary,
            posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_NOFOLLOW | posix.O_CLOEXEC,
            0o600,
            dir_fd=self.fd,
        )
        try:
            posix.write_all(fd, data, f"{self.root}/{self.id}/{name}")
        finally:
            posix.close(fd)
        posix.rename(temporary, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def read(self, name: str) -> bytes:
        """The contents of a file of the directory, at most 16 MiB and a little. Raises `UnreadableError`, OSError."""
        try:
            fd = posix.open(name, _READ, dir_fd=self.fd)  # does not wait if it is a FIFO
            try:
                chunks = []
                size = 0
                while size <= _LIMIT and (chunk := posix.read(fd, 1 << 16)):
                    chunks.append(chunk)
                    size += len(chunk)
                return b"".join(chunks)
            finally:
                posix.close(fd)
        except OSError as error:
            if error.errno not in _DAMAGED:
                raise
            raise UnreadableError(self, name, posix.strerror(error.errno).lower()) from None

    def read_json(self, name: str) -> Data:
        """The JSON object in a file of the directory. Raises `UnreadableError`, OSError."""
        text = self.read(name)
        try:
            data = jsonio.loads(text)
        except jsonio.JSONError as error:
            raise UnreadableError(self, name, f"invalid JSON: {error}" if text else "it is empty") from None
        if not isinstance(data, dict):
            raise UnreadableError(self, name, "not a JSON object")
        return data  # type: ignore[return-value]  # `_problem` looks at it

    def path(self, name: str) -> str:
        """A path for system calls that take no directory descriptor; good on the host only."""
        return f"/proc/self/fd/{self.fd}/{name}"

    def remove(self) -> None:
        """Remove the directory and the files in it, which are all ours, state.json last; nothing there is fine."""
        try:
            if self.fd < 0:
                self._open()
            for name in sorted(posix.listdir(self.fd), key=layout.STATE.__eq__):
                try:
                    posix.unlink(name, dir_fd=self.fd)
                except IsADirectoryError:  # not ours, and so removed only if there is nothing in it
                    posix.rmdir(name, dir_fd=self.fd)
            posix.rmdir(f"{self.root}/{self.id}")
        except FileNotFoundError:
            pass
        self.close()

    def close(self) -> None:
        """Give up the descriptor and with it the lock."""
        if self.fd >= 0:
            posix.close(self.fd)
        self.fd = -1

    def _open(self) -> None:
        path = f"{self.root}/{self.id}"
        self.fd = posix.open(path, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC)


class Container:
    """What state.json says, and what the kernel says about it now.

    ``data`` holds ``id``, ``bundle``, ``rootfs``, ``created`` (RFC 3339, UTC), ``annotations``, ``pid`` and
    ``start_time`` of init (0 until it exists), ``cgroups`` (controller -> directory), ``cgroup_options`` (of
    `create`, for plans of later commands), ``edited`` (the plugins that edited the configuration, if any), ``trace``
    (settings of traces, if any), ``network_options`` (of `create`, if any, for the plan that ``explain`` and ``audit``
    make anew), ``observers`` (the hooks of plugins that watched the creation, if any), ``resources`` (limits that
    `update` has set, if it has), ``added_mounts`` (of `mounts add`, if any), ``addresses`` (device -> addresses) and
    ``ports``, if a stage has told any, and as step records ``lasting`` (to undo), ``started`` and ``deleted`` (to run).
    """

    def __init__(self, store: Store, data: Data) -> None:
        self.store = store
        self.data = data

    @classmethod
    def load(cls, store: Store) -> Container:
        """Read state.json, of this version or an earlier one.

        Raises `AbsentError` if it does not exist yet, `NewerError` for one of a newer version, and `UnreadableError`.
        """
        try:
            data = store.read_json(layout.STATE)
        except FileNotFoundError:
            raise _without_state(store) from None
        version = data.get("version")
        if type(version) is int and version > VERSION:
            problem = f"its format is {version}, and this version of gosudacon reads formats up to {VERSION}"
            raise NewerError(store, layout.STATE, problem, hint="a newer version wrote it: use that")
        problem = _problem(data, store.id)
        if problem:
            raise UnreadableError(store, layout.STATE, problem)
        if version != VERSION:
            from gosudacon.container import former

            former.upgrade(data)
        return cls(store, data)

    def save(self) -> None:
        """Write state.json."""
        self.store.write(layout.STATE, jsonio.dumps(self.data).encode())

    def recorder(self, tracing: Tracing | None) -> Recorder | None:
        """What takes the times of a command on this container, if its caller or the administrator wants a trace."""
        return None if tracing is None else tracing.wanted_by(self.data.get("trace"))

    def alive(self) -> bool:
        """Whether init still is the process that was created: same pid, same start time, no zombie."""
        pid: int = self.data["pid"]
        return pid > 0 and proc.start_time(pid) == self.data["start_time"]

    def check_executed(self) -> None:
        """Raise `StateError` if init ended before execve(2); the channel to it ends in both cases."""
        if proc.never_executed(self.data["pid"], self.data["start_time"]):
            from gosudacon.linux.cgroup import processes

            if processes.oom_kills(self.data["cgroups"]):
                raise StateError(OOM_KILLED)
            raise StateError("container init was killed before it executed the container's process")

    def status(self) -> str:
        """``created``, ``running``, ``paused`` or ``stopped``."""
        if not self.alive():
            return "stopped"
        if self.frozen():
            return "paused"
        try:
            posix.stat(layout.START_SOCKET, dir_fd=self.store.fd, follow_symlinks=False)
        except FileNotFoundError:
            return "running"
        return "created"

    def steps(self, kind: Kind) -> list[Step]:
        """The recorded steps of a kind: ``lasting``, ``started`` or ``deleted``. Raises `Error` if a class is gone."""
        from gosudacon.pipeline.kinds import rebuild

        return [rebuild(record) for record in self.data[kind]]

    def oci_state(self, status: str, pid: int) -> State:
        """The state as runtime-spec runtime.md defines it, for hooks."""
        return oci_state(self.data, status, pid)

    def frozen(self) -> bool:
        """Whether the container's processes are frozen, or about to be."""
        cgroups = self.data.get("cgroups") or {}
        freezer = cgroups.get("freezer")
        path = f"{freezer}/freezer.state" if freezer else f"{cgroups.get('', '')}/cgroup.freeze"
        try:
            fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
        except OSError:
            return False
        try:
            return posix.read(fd, 32).strip() in (b"FROZEN", b"FREEZING", b"1")
        except OSError:
            return False
        finally:
            posix.close(fd)


def _without_state(store: Store) -> StateError:
    """What a directory without state.json is: a container being made, one that has lost it, or another program's."""
    names = posix.listdir(store.fd)
    if all(name.startswith(f".{layout.STATE}.") for name in names):
        return AbsentError("container does not exist", hint="its creation was cut short; delete --force cleans up")
    if any(name in _OURS for name in names):
        return UnreadableError(store, layout.STATE, "no such file or directory")
    return StateError(f"{store.root}/{store.id} is not the state of a container")


def _problem(data: Data, id: str) -> str:
    """What is wrong with the contents of a state.json; an empty string if nothing is."""
    if type(data.get("version")) is not int or data["version"] < 1:
        return "gosudacon did not write it"
    for name, kind in _MEMBERS.items():
        if type(data.get(name)) is not kind:
            return f"{name} is {'missing' if name not in data else 'not of type ' + kind.__name__}"
    if data["id"] != id:
        return f"it is the state of container {data['id']!r}"
    if not 0 <= data["pid"] <= _MOST_PID or data["start_time"] < 0:
        return "pid or start_time is not possible"
    for directory in data["cgroups"].values():
        if type(directory) is not str or not directory.startswith("/"):
            return "cgroups is not a map of absolute paths"
    return ""


def cgroup_options(options: Options) -> dict[str, object]:
    """Of a call's options those that say who makes the cgroup: later commands go by what `create` was given."""
    return {name: value for name, value in vars(options).items() if name in CGROUP_OPTIONS}


def network_options(options: Options) -> dict[str, object]:
    """Of a call's options those about networks, as far as they were given."""
    return {name: value for name in NETWORK_OPTIONS if (value := getattr(options, name))}


def oci_state(data: Data, status: str, pid: int) -> State:
    """The OCI state object of a container whose state.json holds ``data``; no ``pid`` key for 0."""
    state: State = {
        "ociVersion": OCI_VERSION,
        "id": data["id"],
        "status": status,
        "pid": pid,
        "bundle": data["bundle"],
    }
    if not pid:
        del state["pid"]
    if data["annotations"]:
        state["annotations"] = data["annotations"]
    return state


def now() -> str:
    """The time as RFC 3339 with nanoseconds in UTC."""
    nanoseconds = time.time_ns()
    seconds, rest = divmod(nanoseconds, 10**9)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09d}Z"
