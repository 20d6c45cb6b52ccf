"""The action ``start``: a process becomes the shim of a container, or names the one that its pod has already.

The process is a fork, of the template or of a cold ``start``. What it needs of the program that containerd executed it
is given: `Request`. It answers over the connection on which the request came, and closes it: containerd waits until
nobody holds what it reads from.
"""

from __future__ import annotations

import _signal
import _socket

from gosudacon.base import jsonio, posix
from gosudacon.base.errors import Error, reason
from gosudacon.linux import memory, process, sched
from gosudacon.shim import arguments, likeness, options
from gosudacon.shim.arguments import NAME
from gosudacon.shim.place import Place, group_of
from gosudacon.shim.shim import Shim
from gosudacon.wire import containerd as wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from gosudacon.shim.arguments import Arguments
    from gosudacon.wire.protobuf import Message

_LARGEST = 10 << 20  # bytes of what containerd says on standard input
_NOT_OURS = (b"NOTIFY_SOCKET", b"LISTEN_FDS", b"LISTEN_PID", b"LISTEN_FDNAMES", b"WATCHDOG_USEC", b"WATCHDOG_PID")
_MOST_OOM_SCORE = 1000


class Request:
    """What containerd gave the program that it executed.

    ``words``: its arguments; ``environment``; ``directory`` and ``stdin``: descriptors of its working directory and its
    input; ``pid``: its own, of a process that is there until it is answered.
    """

    def __init__(
        self, words: Sequence[str], environment: dict[bytes, bytes], directory: int, stdin: int, pid: int
    ) -> None:
        self.words = words
        self.environment = environment
        self.directory = directory
        self.stdin = stdin
        self.pid = pid


class _Unlike(Exception):
    """This process cannot be what the program is that containerd executed."""


def become(request: Request, connection: _socket.socket, take_on: bool = False) -> NoReturn:
    """Be the shim until it ends, or find that there is one. Answers with `answer`.

    With ``take_on``, for a fork of another process than the program that containerd executed, a shim takes on what that
    one has; if it cannot, there is no answer, and that program does without this process.
    """
    try:
        shim = _prepare(request, connection, take_on)
    except _Unlike:
        posix._exit(0)
    except BaseException as error:  # noqa: BLE001 - containerd shows it
        answer(connection, False, f"{NAME}: {reason(error)}")
        posix._exit(1)
    if shim is not None:
        shim.run()
    posix._exit(0)


def answer(connection: _socket.socket, succeeded: bool, text: str) -> None:
    """What the program that containerd executed is to print: on its output, or on its error as it fails."""
    try:
        connection.sendall((b"0" if succeeded else b"1") + text.encode("utf-8", "surrogateescape"))
    except OSError:
        pass
    connection.close()


def _prepare(request: Request, connection: _socket.socket, take_on: bool) -> Shim | None:
    """The shim, once it has the place, with the answer given; None if another has it."""
    process.close_from(3, connection.fileno(), request.directory, request.stdin)
    posix.fchdir(request.directory)
    posix.close(request.directory)
    given = arguments.parse(request.words)
    if not given.id or not given.namespace:
        raise Error("the flags -namespace and -id are required")
    bundle = posix.getcwd()
    parameters = wire.read_bootstrap(_read(request.stdin), given.id)
    posix.close(request.stdin)
    place = Place(given.address, given.namespace, group_of(bundle, given.id), parameters["socket_dir"])
    met = place.join(given.id)
    try:
        _write_address(bundle, place.address)
        if not met:
            if take_on:
                _take_on(request.pid)
            likeness.enter(_cgroup(parameters))
            _settle(request, given, bundle)
            events = posix.fsdecode(request.environment.get(b"TTRPC_ADDRESS", b""))
            shim = Shim(place, events or parameters["containerd_ttrpc_address"])
    except BaseException:
        if not met:
            place.release()
        raise
    answer(connection, True, _said(place.address, 3 if parameters["instance_id"] else 2))
    return None if met else shim


def _take_on(pid: int) -> None:
    try:
        likeness.take_on(pid)
    except Exception as error:
        raise _Unlike from error


def _cgroup(parameters: Message) -> str:
    """The cgroup that the options name for the shim; empty if they name none. Raises `Error`, `ValueError`, OSError."""
    for extension in parameters["extensions"]:
        chosen = options.decode(extension["value"]).shim_cgroup
        if chosen:
            return chosen
    return ""


def _said(address: str, version: int) -> str:
    """What every containerd understands as version 2, and those that say that they know more as version 3."""
    if version < 3:
        return address
    return jsonio.dumps({"version": version, "address": address, "protocol": "ttrpc"})


def _settle(request: Request, given: Arguments, bundle: str) -> None:
    """Be what a shim that containerd has executed would be."""
    posix.environ.clear()
    posix.environ.update({name: value for name, value in request.environment.items() if name not in _NOT_OURS})
    words = [NAME, "-namespace", given.namespace, "-id", given.id, "-address", given.address]
    memory.retitle(b"".join(posix.fsencode(word) + b"\0" for word in words))
    with open("/proc/self/comm", "wb", buffering=0) as file:
        file.write(NAME.encode()[:15])
    if posix.getsid(0) != posix.getpid():
        posix.setsid()
    null = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
    try:
        log = posix.open(f"{bundle}/log", posix.O_RDWR | posix.O_NONBLOCK | posix.O_CLOEXEC)
    except OSError:
        log = null
    for number, fd in enumerate((null, null, log)):
        posix.dup2(fd, number)
    for fd in {null, log} - {0, 1, 2}:
        posix.close(fd)
    process.set_child_subreaper()
    if request.environment.get(b"SCHED_CORE") == b"1":  # containerd's option sched_core
        sched.share_cores_with_nobody()
    _set_oom_score(request.pid)
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    _signal.signal(_signal.SIGPIPE, _signal.SIG_IGN)
    _signal.signal(_signal.SIGHUP, _signal.SIG_IGN)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, (_signal.SIGCHLD,))
    for number in (_signal.SIGTERM, _signal.SIGINT):
        _signal.signal(number, _signal.SIG_DFL)


def _read(fd: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while chunk := posix.read(fd, 1 << 16):
        chunks.append(chunk)
        size += len(chunk)
        if size > _LARGEST:
            raise Error("containerd says more than 10 MiB on standard input")
    return b"".join(chunks)


def _write_address(bundle: str, address: str) -> None:
    """For containerd 1.x, which looks for its shims there when it starts again."""
    draft = f"{bundle}/.address"
    fd = posix.open(draft, posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC, 0o644)
    try:
        posix.write(fd, address.encode())
    finally:
        posix.close(fd)
    posix.rename(draft, f"{bundle}/address")


def _set_oom_score(pid: int) -> None:
    """One more than that of containerd, the parent of ``pid``: it goes first. Containers start with the same."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            parent = int((file.read(1024) or b"").rpartition(b")")[2].split()[1])
        with open(f"/proc/{parent}/oom_score_adj", "rb", buffering=0) as file:
            score = min(int(file.read(16) or b"0") + 1, _MOST_OOM_SCORE)
        with open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
            file.write(b"%d" % score)
    except (OSError, ValueError):  # not allowed, or containerd is gone
        return
