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
import select
import time

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
_SOON = 3.0  # seconds that a caller waits
_CHUNK = 1 << 16
_MOMENT = 0.002  # seconds, in which a shim comes to what it has been sent
_BRIEF = 0.05  # seconds without a request, after which all have come
OFTEN = 12  # calls after which the interpreter has adapted the code of a template to what it does (PEP 659)
_BEGUN, _WRITTEN = b"b", b"w"  # what is written to pipes
_HIGH = 64  # above the descriptors of a template, so that its forks have the same numbers


class Rehearsal:
    """One rehearsal for a template.

    ``stage``: where the template serves callers until ``begun`` is ready to be read, and calls `play` then. It is None
    if there can be no image.
    """

    def __init__(self, path: str, launcher: str) -> None:
        """``path``: the template's socket; ``launcher``: the launcher's file."""
        self.stage: _socket.socket | None = None
        self.begun = -1
        self._directory = f"{path}.rehearsal"
        self._fds: list[int] = []
        self._pidfds: list[int] = []
        try:
            self._image = sharing.Image(launcher)
            self._fds.append(self._image.fd)
            self.stage = self._begin()
        except (OSError, ValueError):  # there can be none
            self._end()

    def _begin(self) -> _socket.socket:
        _remove(self._directory)
        posix.makedirs(self._directory, 0o700)
        for name in (_OUTPUT, _ERROR, _LIFE):
            posix.mkfifo(f"{self._directory}/{name}", 0o600)
        stage, events = (_listener(f"{self._directory}/{name}") for name in (_START, _EVENTS))
        self.begun, begin = self._pipe()
        self._written, self._writer = self._pipe()
        self._fds.append(posix.open(f"{self._directory}/{_LIFE}", posix.O_RDWR | posix.O_CLOEXEC))
        leash = _Leash()
        client = posix.fork()
        if client == 0:
            leash.take()
            posix.close(self._writer)
            _be_client(self._directory, events, begin)
        self._close(begin)
        self._pidfds.append(posix.pidfd_open(client))
        return stage

    def _pipe(self) -> tuple[int, int]:
        ends = posix.pipe2(posix.O_CLOEXEC)
        self._fds.extend(ends)
        return ends

    def _close(self, fd: int) -> None:
        self._fds.remove(fd)
        posix.close(fd)

    def play(self, stage: _socket.socket, listener: _socket.socket, title: str) -> None:
        """Fork the understudy, and adopt the image when it is written. Both return, to serve callers at ``listener``.

        Up to there both do the same, with other values. The interpreter adapts code to what it does, and numbers what
        it adapts code to: what a shim of the one finds in memory, a shim of the other finds only if both have done the
        same in the same order. ``title``: the template's, for ps(1).
        """
        understudy = -1
        try:
            own = posix.dup(listener.fileno())
            self._fds.append(own)
            shares: rest.Act = self._image.share
            writes: rest.Act = self._write
            ours = own, title, self._written, True, shares, loop.QUIET, place.STATES, jobs.create
            states = f"{self._directory}/states"
            theirs = stage.fileno(), f"{NAME}\0", self.begun, False, writes, _BRIEF, states, _pretend_to_create
            understudy = self._fork()
            there, title, sign, written, act, loop.QUIET, place.STATES, jobs.create = ours if understudy else theirs
            posix.dup2(there, listener.fileno(), False)
            memory.retitle(title.encode())
            if self._await(sign, listener):
                self._image.adopt(written)
                rest.act = act
        except OSError:  # no more processes, descriptors or memory: then without an image
            if understudy == 0:
                posix._exit(1)
        if understudy == 0:
            self._pidfds, self._directory = [], ""  # they are the template's to end and to remove
        stage.close()
        self._end()

    def _fork(self) -> int:
        """As fork(2), for the understudy."""
        leash = _Leash()
        understudy = posix.fork()
        if understudy == 0:
            leash.take()
            self._keep()
        else:
            self._pidfds.append(posix.pidfd_open(understudy))
        self._close(self._writer)
        return understudy

    def _keep(self) -> None:
        """In the understudy: keep descriptors for its shim, of numbers that a template does not have."""
        self._understudy = posix.getpid()
        try:
            for fd in (self._image.fd, self._writer):
                fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _HIGH)
        except OSError:
            posix._exit(1)

    def _end(self) -> None:
        """Leave nothing of it behind, but the image."""
        if self._directory:
            self._clean_up()
        for fd in (*self._fds, *self._pidfds):
            posix.close(fd)

    def _await(self, fd: int, listener: _socket.socket) -> bool:
        """Whether there is something to be read from ``fd``, in time, and before the client ends."""
        poller = select.poll()
        for number in (fd, listener.fileno(), self._pidfds[0]):
            poller.register(number, select.POLLIN)
        ready = dict(poller.poll(_PATIENCE * 1000))
        if listener.fileno() in ready:
            poller.unregister(listener.fileno())
            ready = dict(poller.poll(_SOON * 1000))
        return fd in ready and posix.read(fd, 1) != b""

    def _write(self, fd: int, _seconds: float) -> NoReturn:
        """In the shim: have the image written while it waits, and end, whatever becomes of that.

        The understudy has the image's file.
        """
        shim = posix.getpid()
        leash = _Leash()
        if posix.fork() == 0:
            leash.take()
            try:
                while not proc.sleeps(shim):
                    time.sleep(_MOMENT)
                place = f"/proc/{self._understudy}/fd"
                image = posix.open(f"{place}/{_HIGH}", posix.O_RDWR | posix.O_CLOEXEC)
                self._image.write(shim, image)
                posix.write(posix.open(f"{place}/{_HIGH + 1}", posix.O_WRONLY | posix.O_CLOEXEC), _WRITTEN)
            finally:
                posix._exit(0)
        self._image.share(fd, _PATIENCE)  # until the fork has ended
        posix._exit(0)

    def _clean_up(self) -> None:
        """Kill its processes and remove its files, in a fork: what this process does, all shims find in memory."""
        child = -1
        try:
            child = posix.fork()
            if child > 0:
                return
            process.close_from(3, *self._pidfds)  # there may be no descriptor left to read the directory with
        except OSError:  # no more processes: then here
            pass
        try:
            for pidfd in self._pidfds:
                try:
                    _signal.pidfd_send_signal(pidfd, _signal.SIGKILL)
                except ProcessLookupError:
                    continue
            _remove(self._directory)
        finally:
            if child == 0:
                posix._exit(0)


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


def _pretend_to_create(
    container: Container, mounts: Sequence[Mapping[str, object]], reporter: Reporter
) -> Mapping[str, object]:
    """In a worker: open streams, save a state, have a process that waits, and report as `jobs.create`."""
    del mounts  # of nothing
    streams = stdio.Streams(None, False, container.id, _NAMESPACE)
    streams.open(container.init.names)
    reporter.send(streams.note(), streams.descriptors())
    time.sleep(_MOMENT)
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
        time.sleep(3 * _MOMENT)
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
        self._answered: set[int] = set()
        self._id = id
        self._timeout = timeout  # nanoseconds

    def ask(self, method: str, **fields: object) -> None:
        """Have a request answered. Raises RuntimeError."""
        stream = self.send(method, **fields)
        while stream not in self._answered:
            self._receive()
        time.sleep(_MOMENT)

    def send(self, method: str, **fields: object) -> int:
        """Send a request, and give the shim time to come to it; the number of its stream."""
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
        time.sleep(_MOMENT)
        return self._stream

    def _receive(self) -> None:
        data = self._socket.recv(_CHUNK)
        if not data:
            raise RuntimeError("the shim has gone")
        for frame in self._frames.feed(data):
            response = protobuf.decode(ttrpc.RESPONSE_SCHEMA, frame.data or b"")
            if response["status"] and response["status"]["code"]:
                raise RuntimeError(response["status"]["message"])
            self._answered.add(frame.stream)


def _play_containerd(path: str) -> list[_Connection]:
    """Ask the shim at ``path`` for what a pod with one container takes, up to where that runs; what is to stay open."""
    for name in (_OUTPUT, _ERROR):  # a writer waits for a reader
        posix.open(name, posix.O_RDONLY | posix.O_NONBLOCK | posix.O_CLOEXEC)
    streams = {"stdout": posix.path.abspath(_OUTPUT), "stderr": posix.path.abspath(_ERROR)}
    connections = []
    for id, names in ((_POD, {}), (_ID, streams)):
        if id != _POD:
            dialogue.reserve(path, id)
            time.sleep(_MOMENT)
        connection = _Connection(path, id, 60_000_000_000)
        connections.append(connection)
        bundle = f"/run/containerd/io.containerd.runtime.v2.task/{_NAMESPACE}/{id}"
        connection.ask("Create", bundle=bundle, rootfs=[_LAYERS], **names)
        connection.ask("Connect")
        connection.send("Start")
        connection.send("Connect")
        connection.send("Wait")
        connection.ask("State")
        if id == _POD:
            connection.ask("State")
    return connections


def _be_client(directory: str, events: _socket.socket, writer: int) -> NoReturn:
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
            connection = _connected(_START)
            connection.shutdown(_socket.SHUT_WR)
            connection.recv(1)
            connection.close()
        posix.write(writer, _BEGUN)
        posix.close(writer)
        connections = _play_containerd(_started())
        time.sleep(_PATIENCE)
        del connections
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
