"""A shim's life, gone through once for which no container is made; the memory it ends with is the image for sharing.

What this one has written to memory each shim writes as well, the same values at the same addresses, and so need not
keep for itself (`gosudacon.linux.sharing`). For that it must come about like all others. Three forks of the template:

* the *understudy*, a template with another socket, which does what a template does;
* the *client*, which does what containerd does: it asks for a shim, sends it the requests of a container's life, and
  takes its events;
* the shim itself, forked by the understudy. Its workers report what workers report, and do nothing. It ends when it has
  nothing to do, with an image or without.

No data of a container is in it. The template goes on meanwhile; if the rehearsal fails, there is no image.
"""

from __future__ import annotations

import _signal
import _socket
import fcntl
import time
from functools import partial

from gosudacon.base import layout, posix
from gosudacon.container import host as hosts
from gosudacon.container.state import VERSION, Store
from gosudacon.container.state import Container as Recorded
from gosudacon.linux import memory, proc, process, sharing
from gosudacon.shim import asking, dialogue, jobs, loop, place, rest, stdio
from gosudacon.shim.place import digest
from gosudacon.shim.start import Request
from gosudacon.wire import containerd as wire
from gosudacon.wire import protobuf, ttrpc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

    from gosudacon.container.state import Data
    from gosudacon.shim.task import Container
    from gosudacon.shim.worker import Reporter

NAME = "gosudacon-shim-rehearsal"  # for ps(1)
_PATIENCE = 20  # seconds for all of it, which takes less than one
_START, _EVENTS = "start", "events"  # sockets: the understudy's, and the client's
_OUTPUT, _ERROR, _LIFE = "stdout", "stderr", "life"  # FIFOs
_POD, _ID = digest("pod"), digest("container")  # as long as containerd's
_NAMESPACE, _ADDRESS = "k8s.io", "/run/containerd/containerd.sock"
_SERVICE = wire.TASK_SERVICES[0]
_SNAPSHOT = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/1"
_LAYERS = {
    "type": "overlay",
    "source": "overlay",
    "options": ["index=off", f"workdir={_SNAPSHOT}/work", f"upperdir={_SNAPSHOT}/fs", f"lowerdir={_SNAPSHOT}/fs"],
}
_CHUNK = 1 << 16
_MOMENT = 0.001  # seconds
_BRIEF = 0.05  # seconds without a request, after which all have come
OFTEN = 12  # calls after which the interpreter has adapted the code of a template to what it does (PEP 659)
_WARM, _WRITTEN = b"w", b"i"  # what the template is told
_HIGH = 64  # above the descriptors of a template, so that its forks have the same numbers


class Rehearsal:
    """One rehearsal for a template, which calls `go_on` when one of ``fds`` is ready to be read."""

    def __init__(self, path: str, launcher: str) -> None:
        """``path``: the template's socket; ``launcher``: the launcher's file."""
        self.fds: list[int] = []
        self.client = 0  # its pid
        self._pidfds: list[int] = []
        self._directory = f"{path}.rehearsal"
        try:
            self._image = sharing.Image(launcher)
            self._begin(path)
        except (OSError, ValueError):  # there can be none
            return

    def _begin(self, path: str) -> None:
        _remove(self._directory)
        posix.makedirs(self._directory, 0o700)
        for name in (_OUTPUT, _ERROR, _LIFE):
            posix.mkfifo(f"{self._directory}/{name}", 0o600)
        self._stage, events = (_listener(f"{self._directory}/{name}") for name in (_START, _EVENTS))
        reader, self._writer = posix.pipe2(posix.O_CLOEXEC)
        leash = _Leash()
        client = posix.fork()
        if client == 0:
            leash.take()
            _be_client(path, self._directory, events, self._writer)
        events.close()
        self._life = posix.open(f"{self._directory}/{_LIFE}", posix.O_RDWR | posix.O_CLOEXEC)
        self._pidfds = [posix.pidfd_open(client)]
        self.client = client
        self.fds = [reader, *self._pidfds]

    def go_on(self, fd: int) -> _socket.socket | None:
        """Do what is next; returns what to listen at from now on, in the understudy."""
        word = posix.read(fd, 1) if fd == self.fds[0] else b""
        try:
            if word == _WARM:
                return self._have_understudy()
            self._end(word == _WRITTEN)
        except OSError:  # no more processes or descriptors: then without an image
            self.fds = []
        return None

    def _have_understudy(self) -> _socket.socket | None:
        leash = _Leash()
        understudy = posix.fork()
        if understudy == 0:
            leash.take()
            self._become_understudy()
            return self._stage
        self._stage.close()
        self._pidfds.append(posix.pidfd_open(understudy))
        return None

    def _become_understudy(self) -> None:
        memory.retitle(NAME.encode() + b"\0")
        image, writer = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _HIGH) for fd in (self._image.fd, self._writer))
        for fd in (self._image.fd, self._writer, self._life, *self.fds):
            posix.close(fd)
        self.fds = []
        jobs.create = _pretend_to_create
        place.STATES = f"{self._directory}/states"
        loop.QUIET = _BRIEF
        rest.act = partial(_write, self._image, posix.getpid(), image, writer)

    def _end(self, succeeded: bool) -> None:
        """Leave nothing of it behind, but the image.

        The interpreter adapts code to what it does, when it has gone through it a few times, and numbers what it has
        adapted: shims find this process as the rehearsal did if little is done here, and in no loop of many rounds.
        """
        if posix.fork() == 0:
            try:
                self._clean_up()
            finally:
                posix._exit(0)
        if succeeded:
            self._image.adopt()
            rest.act = self._image.share
        for fd in (self._image.fd, self._writer, self._life, self.fds[0], *self._pidfds):
            posix.close(fd)
        self.fds = []
        self._stage.close()

    def _clean_up(self) -> None:
        for pidfd in self._pidfds:
            try:
                _signal.pidfd_send_signal(pidfd, _signal.SIGKILL)
            except ProcessLookupError:
                continue
        _remove(self._directory)


class _Leash:
    """Holds a fork to the process that made it, whose end it does not outlive; nor a few seconds of its own."""

    def __init__(self) -> None:
        self._parent = posix.getpid()

    def take(self) -> None:
        """In the fork."""
        process.set_pdeathsig(_signal.SIGKILL)
        _signal.alarm(_PATIENCE)  # whose signal kills
        if posix.getppid() != self._parent:
            posix._exit(1)


def _write(image: sharing.Image, understudy: int, fd: int, told: int) -> NoReturn:
    """In the shim: have the image written, of which the understudy has the file, and end, whatever becomes of that."""
    writer = posix.fork()
    if writer == 0:
        try:
            place = f"/proc/{understudy}/fd"
            image.write(posix.getppid(), posix.open(f"{place}/{fd}", posix.O_RDWR | posix.O_CLOEXEC))
            posix.write(posix.open(f"{place}/{told}", posix.O_WRONLY | posix.O_CLOEXEC), _WRITTEN)
        finally:
            posix._exit(0)
    posix.waitpid(writer, 0)
    posix._exit(0)


def _pretend_to_create(
    container: Container, mounts: Sequence[Mapping[str, object]], reporter: Reporter
) -> Mapping[str, object]:
    """In a worker: open streams, save a state, have a process that waits, and report as `jobs.create`."""
    del mounts  # of nothing
    streams = stdio.Streams(None, False, container.id, _NAMESPACE)
    streams.open(container.init.names)
    reporter.send(streams.note(), streams.descriptors())
    store = Store(container.root, container.id)
    store.create()
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    listener.bind(store.path(layout.START_SOCKET))
    listener.listen()
    # Of the machine's first process it is certain that it has been executed: what the shim will look at.
    state: Data = {
        "version": VERSION,
        "id": container.id,
        "bundle": "",
        "rootfs": "",
        "created": "",
        "annotations": {},
        "pid": 1,
        "start_time": proc.start_time(1),
        "cgroups": _cgroups(),
        "cgroup_options": {},
        "no_new_keyring": False,
        "shares_pid_namespace": False,
        "lasting": [],
        "started": [],
        "deleted": [],
    }
    Recorded(store, state).save()
    store.close()  # the process must not have it: the shim would find it locked
    shim, worker = posix.getppid(), posix.getpid()
    pid = posix.fork()  # the shim's child soon, as it adopts those of its workers
    if pid == 0:
        _be_init(listener, worker, shim)
    return {**state, "pid": pid, "told": [], "linux": {}}


def _be_init(listener: _socket.socket, worker: int, shim: int) -> NoReturn:
    """Be let go, and live until the template closes the FIFO, or the shim ends."""
    _signal.alarm(_PATIENCE)
    process.close_from(3, listener.fileno())
    while posix.getppid() == worker:
        time.sleep(_MOMENT)
    process.set_pdeathsig(_signal.SIGKILL)
    if posix.getppid() == shim:
        listener._accept()  # type: ignore[attr-defined]
        process.close_from(3)
        posix.read(posix.open(_LIFE, posix.O_RDONLY | posix.O_CLOEXEC), 1)
    posix._exit(0)


def _cgroups() -> dict[str, str]:
    own = hosts.cgroups_of(hosts.gather(), posix.getpid())
    return {controller: directory for controller, directory in own.items() if directory}


class _Connection:
    """What containerd has to a shim for one container: a connection on which it asks for that."""

    def __init__(self, path: str, id: str, timeout: int) -> None:
        self._socket = _connected(path)
        self._frames = ttrpc.Frames()
        self._stream = -1
        self._id = id
        self._timeout = timeout  # nanoseconds

    def ask(self, method: str, **fields: object) -> None:
        """Have a request answered; that to wait is answered at the container's end. Raises RuntimeError."""
        self._stream += 2
        payload = protobuf.encode(wire.TASK[method][0], {"id": self._id, **fields})
        self._timeout -= 1
        request = {
            "service": _SERVICE,
            "method": method,
            "payload": payload,
            "timeout_nano": self._timeout,
            "metadata": [{"key": "containerd-namespace-ttrpc", "value": _NAMESPACE}],
        }
        data = protobuf.encode(ttrpc.REQUEST_SCHEMA, request)
        self._socket.sendall(ttrpc.frame(self._stream, ttrpc.REQUEST, data))
        if method != "Wait":
            self._take_answer(method)

    def _take_answer(self, method: str) -> None:
        while data := self._socket.recv(_CHUNK):
            for frame in self._frames.feed(data):
                response = protobuf.decode(ttrpc.RESPONSE_SCHEMA, frame.data or b"")
                if response["status"] and response["status"]["code"]:
                    raise RuntimeError(f"{method}: {response['status']['message']}")
                if frame.stream == self._stream:
                    return
        raise RuntimeError(f"{method}: no answer")


def _play_containerd(path: str) -> None:
    """Ask the shim at ``path`` for what a pod with one container takes, up to where that runs."""
    for name in (_OUTPUT, _ERROR):  # a writer waits for a reader
        posix.open(name, posix.O_RDONLY | posix.O_NONBLOCK | posix.O_CLOEXEC)
    streams = {"stdout": posix.path.abspath(_OUTPUT), "stderr": posix.path.abspath(_ERROR)}
    for id, names in ((_POD, {}), (_ID, streams)):
        if id != _POD:
            dialogue.reserve(path, id)
        connection = _Connection(path, id, 60_000_000_000)
        bundle = f"/run/containerd/io.containerd.runtime.v2.task/{_NAMESPACE}/{id}"
        connection.ask("Create", bundle=bundle, rootfs=[_LAYERS], **names)
        for method in ("Connect", "Start", "Connect", "Wait", "State"):
            connection.ask(method)
        if id == _POD:
            connection.ask("State")


def _be_client(path: str, directory: str, events: _socket.socket, writer: int) -> NoReturn:
    """Call the template until it is used to that; then ask the understudy for a shim, and that for all. Never ends."""
    memory.retitle(NAME.encode() + b"\0")
    try:
        posix.chdir(directory)
        leash = _Leash()
        if posix.fork() == 0:
            leash.take()
            _take_events(events)
            posix._exit(0)
        for _ in range(OFTEN):
            connection = _connected(path)
            connection.shutdown(_socket.SHUT_WR)
            connection.recv(1)
            connection.close()
        posix.write(writer, _WARM)
        posix.close(writer)
        _play_containerd(_started())
        time.sleep(_PATIENCE)
    finally:
        posix._exit(1)


def _started() -> str:
    """Have the understudy start a shim; the path of its socket."""
    parameters = {"instance_id": _POD, "namespace": _NAMESPACE, "socket_dir": "."}
    stdin = posix.memfd_create("parameters", posix.MFD_CLOEXEC)
    posix.write_all(stdin, protobuf.encode(wire.BOOTSTRAP_PARAMS, parameters), "parameters")
    posix.lseek(stdin, 0, 0)
    words = ["-namespace", _NAMESPACE, "-address", _ADDRESS, "-publish-binary", "/usr/bin/containerd", "-id", _POD]
    environment = {
        b"PATH": b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        b"GOMAXPROCS": b"2",
        b"TTRPC_ADDRESS": b"./" + _EVENTS.encode(),
        b"GRPC_ADDRESS": _ADDRESS.encode(),
        b"NAMESPACE": _NAMESPACE.encode(),
    }
    directory = posix.open(".", posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    answer = asking.ask(_START, Request([*words, "start"], environment, directory, stdin, posix.getpid()))
    return answer.rpartition(b"unix://")[2].partition(b'"')[0].decode()


def _take_events(listener: _socket.socket) -> None:
    connection = _socket.socket(fileno=listener._accept()[0])  # type: ignore[attr-defined]
    server = ttrpc.Server()
    while data := connection.recv(_CHUNK):
        for request in server.receive(data):
            server.answer(request.stream)
        connection.sendall(server.outgoing)
        server.sent(len(server.outgoing))


def _listener(path: str) -> _socket.socket:
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    listener.bind(path)
    listener.listen()
    return listener


def _connected(path: str) -> _socket.socket:
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    connection.connect(path)
    return connection


def _remove(directory: str) -> None:
    """Remove a directory with all that is in it; it may not be there."""
    try:
        names = posix.listdir(directory)
    except FileNotFoundError:
        return
    for name in names:
        try:
            posix.unlink(f"{directory}/{name}")
        except IsADirectoryError:
            _remove(f"{directory}/{name}")
        except FileNotFoundError:
            continue
    posix.rmdir(directory)
