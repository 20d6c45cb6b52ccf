"""The template: a process with all of the program in it, of which every shim is a fork.

An interpreter takes a hundred milliseconds of a processor to start with all that a shim needs, a fork less than one,
and most of its memory is shared. The template listens on a socket that only root reaches, and does nothing else: what
it is asked for, its forks do. It belongs to one build of the program; that of another build has another socket. It
ends when that build has been replaced and its last shim is gone.
"""

from __future__ import annotations

import _signal
import _socket
import gc
import select
import sys

from gosudacon.base import layout, posix
from gosudacon.container import host as hosts
from gosudacon.linux import memory, process
from gosudacon.shim import asking, likeness, place, start
from gosudacon.shim.rehearsal import OFTEN, Rehearsal
from gosudacon.shim.server import peer_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

NAME = "gosudacon-shim-template"
_SOON = 1.0  # seconds
_LOOK = 30.0  # seconds between looks whether it is still needed
#: What operations import when they come to it.
_LATER = (
    *("container.foreground", "container.former", "container.replay", "container.salvage"),
    *("linux.child", "linux.console", "linux.oom", "linux.cgroup.processes", "linux.cgroup.statistics"),
    *("pipeline.kinds", "pipeline.plan", "pipeline.snapshot", "schema.verdict", "wire.systemd"),
)


def paths(package: str) -> list[str]:
    """The sockets of templates for a caller as this process is, for the build that ``package``, our directory, is in.

    The second is for callers that differ from those before them. None for a checkout.
    """
    build = posix.path.dirname(posix.path.dirname(package))
    if not posix.path.exists(f"{build}/origin"):
        return []
    path = f"{layout.TEMPLATES}/{posix.path.basename(build)}"
    return [path, f"{path}.{place.digest(repr(likeness.facts()))[:16]}"]


def spawn(path: str, package: str) -> None:
    """Make a template that listens at ``path``; returns when it does. What goes wrong is its caller's to notice."""
    reader, writer = posix.pipe2(posix.O_CLOEXEC)
    child = posix.fork()
    if child == 0:
        try:
            if posix.fork() == 0:
                posix.setsid()
                process.close_from(3, writer)
                null = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
                for number in range(3):
                    posix.dup2(null, number)
                posix.close(null)
                serve(path, package, writer)
        finally:
            posix._exit(0)
    posix.close(writer)
    posix.waitpid(child, 0)
    posix.read(reader, 1)
    posix.close(reader)


def serve(path: str, package: str, ready: int = -1) -> None:
    """Be a template until it is not needed any more. Returns at once if there is one."""
    listener = listen(path)
    if listener is None:
        return
    posix.chdir("/")
    _import_all()
    hosts.keep()
    build = posix.path.dirname(posix.path.dirname(package))
    memory.retitle(NAME.encode() + b"\0" + posix.fsencode(build) + b"\0")  # which keeps the build from being pruned
    Template(listener, path, package).run(ready)


def listen(path: str) -> _socket.socket | None:
    """The listener at ``path``; None if somebody listens there."""
    posix.makedirs(layout.TEMPLATES, 0o700, exist_ok=True)
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    draft = f"{path}.{posix.getpid()}"
    before = posix.umask(0o177)
    try:
        listener.bind(draft)
    finally:
        posix.umask(before)
    listener.listen(place.BACKLOG)
    try:
        if asking.connects(path):
            posix.unlink(draft)
            return None
        posix.rename(draft, path)
    except BaseException:
        posix.unlink(draft)
        raise
    return listener


class Template:
    """A listening template."""

    def __init__(self, listener: _socket.socket, path: str, package: str) -> None:
        self._listener = listener
        self._path = path
        self._package = package
        build = posix.path.dirname(posix.path.dirname(package))
        place, name = build.rsplit("/lib/gosudacon/", 1)
        self._build = posix.fsencode(build) + b"/"
        self._program = f"{place}/bin/containerd-shim-{name.split('.')[0]}-v1"
        self._inode = posix.stat(path).st_ino
        self._facts = likeness.facts()
        self._waiting: list[_socket.socket] = []

    def run(self, ready: int) -> None:
        """Fork a shim for whoever asks, until it is not needed any more."""
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        for number in (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP):
            _signal.signal(number, _signal.SIG_DFL)
        _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)  # nothing stays of a shim that has ended (wait(2))
        gc.collect()
        gc.freeze()
        gc.disable()
        memory.trim()
        if ready >= 0:
            posix.close(ready)
        for _ in range(OFTEN):  # what all shims find in memory is as it will stay
            self._is_needed()
        rehearsal = Rehearsal(self._path, f"{self._package}/launcher/launcher")
        poller = select.poll()
        for fd in (self._listener.fileno(), *rehearsal.fds):
            poller.register(fd, select.POLLIN)
        patience = _SOON
        while True:
            found = poller.poll(patience * 1000)
            patience = _LOOK
            if found and found[0][0] == self._listener.fileno():
                self._accept(rehearsal)
            elif found:
                poller = self._rehearse(rehearsal, found[0][0])
                patience = _SOON  # its processes have ended then
            if rehearsal.fds:
                patience = _SOON  # for those that wait
            if not (rehearsal.fds and found):
                self._serve_waiting()
            if not (_has_children() or self._is_needed()):
                self._leave()
                return

    def _rehearse(self, rehearsal: Rehearsal, fd: int) -> select.poll:
        """Go on with the rehearsal; in a fork for it, listen for its client. What is to be waited for from now on."""
        stage = rehearsal.go_on(fd)
        if stage is not None:
            for socket in (self._listener, *self._waiting):
                socket.close()
            self._listener, self._waiting = stage, []
        poller = select.poll()
        for number in (self._listener.fileno(), *rehearsal.fds):
            poller.register(number, select.POLLIN)
        return poller

    def _accept(self, rehearsal: Rehearsal) -> None:
        """Serve a caller, or let it wait for the end of the rehearsal: a fork from before that shares nothing later."""
        fd, _ = self._listener._accept()  # type: ignore[attr-defined]
        connection = _socket.socket(fileno=fd)
        self._waiting.append(connection)
        if not rehearsal.fds or peer_of(connection)[0] == rehearsal.client:
            self._fork(self._waiting.pop())

    def _serve_waiting(self) -> None:
        while self._waiting:
            self._fork(self._waiting.pop(0))

    def _fork(self, connection: _socket.socket) -> None:
        """Fork for a caller that is as this process is. Whoever gets no answer does without the template."""
        try:
            pid, uid, _gid = peer_of(connection)
            if uid == posix.geteuid() and likeness.facts(pid) == self._facts and posix.fork() == 0:
                self._serve(connection, pid)
        except OSError:  # the caller has gone, or there can be no more processes
            pass
        finally:
            connection.close()

    def _serve(self, connection: _socket.socket, pid: int) -> NoReturn:
        """In the fork: be the shim that is asked for."""
        try:
            self._listener.close()
            request = asking.receive(connection, pid)
        except BaseException:  # noqa: BLE001 - the caller does without this process
            posix._exit(0)
        start.become(request, connection, take_on=True)

    def _is_needed(self) -> bool:
        """Whether callers may still come: the socket is this process's, and the shim's program of this build.

        Where a user's containerd has ended that had a mount namespace of its own, none can.
        """
        try:
            with open(self._program, "rb", buffering=0) as file:
                of_this_build = self._build in (file.readall() or b"")
            return of_this_build and self._has_place() and likeness.has_company()
        except OSError:
            return False

    def _has_place(self) -> bool:
        return posix.path.exists(self._path) and posix.stat(self._path).st_ino == self._inode

    def _leave(self) -> None:
        if self._has_place():
            posix.unlink(self._path)


def _has_children() -> bool:
    try:
        posix.waitpid(-1, posix.WNOHANG)
    except ChildProcessError:
        return False
    return True


def _import_all() -> None:
    """Import what shims and workers will need: they share it, and none of them waits for it.

    Where stages have to be looked for, after an upgrade for example, a fork does that and leaves the snapshot: it
    imports as much again, which would be carried along in every shim.
    """
    from gosudacon.pipeline import snapshot
    from gosudacon.pipeline.registry import CONFIG, registry

    child = posix.fork()
    if child == 0:
        try:
            registry()
        finally:
            posix._exit(0)
    posix.waitpid(child, 0)
    snapshot.keep(CONFIG)
    for stage in registry().all_stages():
        module = sys.modules[type(stage).__module__]
        if hasattr(module, "__path__"):
            _import_package(module.__name__, module.__path__[0])
    for name in _LATER:
        __import__(f"gosudacon.{name}")


def _import_package(name: str, directory: str) -> None:
    for file in posix.listdir(directory):
        if file.endswith(".py") and file != "__init__.py":
            __import__(f"{name}.{file.removesuffix('.py')}")
