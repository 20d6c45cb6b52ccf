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
_LARGEST = 1 << 20  # bytes of the shim's program
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
    title = f"{NAME}\0{build}\0"  # which keeps the build from being pruned
    memory.retitle(posix.fsencode(title))
    Template(listener, path, package, title).run(ready)


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

    def __init__(self, listener: _socket.socket, path: str, package: str, title: str) -> None:
        self._listener = listener
        self._title = title
        self._path = path
        self._package = package
        build = posix.path.dirname(posix.path.dirname(package))
        place, name = build.rsplit("/lib/gosudacon/", 1)
        self._build = posix.fsencode(build) + b"/"
        self._program = f"{place}/bin/containerd-shim-{name.split('.')[0]}-v1"
        self._inode = posix.stat(path).st_ino
        self._facts = likeness.facts()

    def run(self, ready: int) -> None:
        """Fork a shim for whoever asks, until it is not needed any more."""
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        for number in (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP):
            _signal.signal(number, _signal.SIG_DFL)
        _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)  # nothing stays of a shim that has ended (wait(2))
        _number_types()
        gc.collect()
        gc.freeze()
        gc.disable()
        memory.trim()
        if ready >= 0:
            posix.close(ready)
        for _ in range(OFTEN):  # what all shims find in memory is as it will stay
            self._is_needed()
        self._rehearse(Rehearsal(self._path, f"{self._package}/launcher/launcher"))
        self._serve_callers()
        self._leave()

    def _rehearse(self, rehearsal: Rehearsal) -> None:
        """Have the memory that shims share made. Callers wait meanwhile: a fork from before it shares nothing later."""
        if rehearsal.stage is None:
            return
        listener, self._listener = self._listener, rehearsal.stage
        self._serve_callers(rehearsal.begun)
        self._listener = listener
        rehearsal.play(rehearsal.stage, listener, self._title)

    def _serve_callers(self, until: int = -1) -> None:
        """Fork a shim for each caller, until none may come any more.

        In a rehearsal: until this descriptor is ready to be read, or its client does nothing.
        """
        poller = select.poll()
        poller.register(self._listener.fileno(), select.POLLIN)
        if until >= 0:
            poller.register(until, select.POLLIN)
        patience = _SOON
        while True:
            ready = dict(poller.poll(patience * 1000))
            if until in ready or (until >= 0 and not ready):
                return
            patience = _SOON if ready else _LOOK  # what a caller has left, or a rehearsal, ends soon
            if ready:
                self._accept()
            if not (_has_children() or self._is_needed()):
                return

    def _accept(self) -> None:
        fd, _ = self._listener._accept()  # type: ignore[attr-defined]
        self._fork(_socket.socket(fileno=fd))

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
            of_this_build = self._build in posix.read_file(self._program, _LARGEST)
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


def _number_types() -> None:
    """Have the interpreter number all classes, which it does as it comes to them: forks have the same numbers then."""
    classes: list[type] = [object]
    for one in classes:
        hasattr(one, "_")
        classes += type.__subclasses__(one)


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
