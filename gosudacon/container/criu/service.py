"""Talking to CRIU: where it is, one process of it for one request, its answers and notifications (``criu swrk``)."""

from __future__ import annotations

import _socket
from _signal import SIGKILL

from gosudacon.base import posix
from gosudacon.base.errors import Error
from gosudacon.container.criu import rpc
from gosudacon.linux import process
from gosudacon.wire import protobuf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from gosudacon.wire.protobuf import Message as Response  # criu_resp of images/rpc.proto

    Notify = Callable[[str, int, list[int]], None]

#: Where CRIU is looked for; never along PATH, which the caller's environment brings.
DIRECTORIES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
#: What CRIU runs (ip, iptables, nft, modprobe) is found there, too.
ENVIRONMENT = {"PATH": ":".join(DIRECTORIES)}
OLDEST = 31100  # external network namespaces
_PACKET = 1 << 16
_RIGHTS = 8  # descriptors in one message, at most
_QUOTED = 3  # lines of the log in a hint
_chosen = ""  # by `choose`


def choose(path: str) -> None:
    """Have this process use the criu at ``path``, an absolute one; an empty one changes nothing. Raises `Error`."""
    global _chosen
    if path and not path.startswith("/"):
        raise Error(f"criu's path must be absolute: {path}")
    _chosen = path


def find() -> str:
    """The path of criu. Raises `Error` if it is not installed."""
    if _chosen:
        return _chosen
    for directory in DIRECTORIES:
        path = f"{directory}/criu"
        if posix.access(path, posix.X_OK) and not posix.path.isdir(path):
            return path
    raise Error("criu is not installed", hint=f"it is looked for in {', '.join(DIRECTORIES)}")


class Session:
    """The connection to one criu process; the process is a child of this one unless ``pid`` is 0.

    ``log`` is the path of the log that CRIU writes, for messages.
    """

    def __init__(self, fd: int, pid: int = 0, log: str = "") -> None:
        self.socket = _socket.socket(fileno=fd)
        self.pid = pid
        self.log = log

    def request(self, kind: int, notify: Notify | None = None, **fields: object) -> Response:
        """Send a request of ``kind`` with these fields; returns the response.

        ``notify`` is called with the name of each notification, its pid and the descriptors that came with it,
        which are its to close; CRIU goes on when it returns, and gives up when it raises. Raises `Error`.
        """
        self._send({"type": kind, **fields})
        while True:
            response, fds = self._receive(kind)
            if not response.get("success"):
                self._refused(response)
            if response.get("type") != rpc.NOTIFY:
                return response
            news = response.get("notify") or {}
            try:
                if notify is not None:
                    notify(news.get("script", ""), news.get("pid", 0), fds)
            except BaseException:
                self._send({"type": rpc.NOTIFY, "notify_success": False})
                raise
            self._send({"type": rpc.NOTIFY, "notify_success": True})

    def finish(self) -> int:
        """End the connection and wait for the process; its exit status, 128 + N for signal N."""
        self.socket.close()
        return _wait(self.pid) if self.pid else 0

    def kill(self) -> None:
        """End the connection and the process."""
        self.socket.close()
        if self.pid:
            try:
                posix.kill(self.pid, SIGKILL)
                _wait(self.pid)
            except (ProcessLookupError, ChildProcessError):
                return

    def _send(self, message: dict[str, object]) -> None:
        data = protobuf.encode(rpc.REQUEST, message)
        try:
            self.socket.send(data, _socket.MSG_NOSIGNAL)
        except OSError as error:
            if error.errno == 90:  # EMSGSIZE
                raise Error(f"the request to criu is too long: {len(data)} bytes") from None
            # It has ended: what it said before comes next, or else nothing does.

    def _receive(self, kind: int) -> tuple[Response, list[int]]:
        try:
            data, ancillary = self._read()
        except ConnectionResetError:  # it ended without having read everything; what it said before that is still there
            data, ancillary = self._read()
        if not data:
            raise Error(
                f"criu failed: type {rpc.NAMES[kind]}: it ended without an answer{self._where()}", hint=self._why()
            )
        fds = []
        for level, what, content in ancillary:
            if (level, what) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
                fds += [int.from_bytes(content[at : at + 4], "little") for at in range(0, len(content) - 3, 4)]
        try:
            return protobuf.decode(rpc.RESPONSE, data), fds
        except protobuf.ProtobufError as error:
            raise Error(f"criu sent an invalid answer: {error}") from error

    def _read(self) -> tuple[bytes, list[tuple[int, int, bytes]]]:
        space = _socket.CMSG_SPACE(4 * _RIGHTS)
        data, ancillary, _, _ = self.socket.recvmsg(_PACKET, space, _socket.MSG_CMSG_CLOEXEC)
        return data, ancillary

    def _refused(self, response: Response) -> NoReturn:
        kind = rpc.NAMES.get(response.get("type", 0), "?")
        said = response.get("cr_errmsg", "").strip()
        number = response.get("cr_errno", 0)
        raise Error(
            f"criu failed: type {kind} errno {number}{said and ': '}{said}{self._where()}",
            hint=self._why(),
            errno=number,
        )

    def _where(self) -> str:
        return f", log file: {self.log}" if self.log else ""

    def _why(self) -> str:
        """The last errors of the log, for a person."""
        try:
            fd = posix.open(self.log, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC)
        except OSError:
            return ""
        with open(fd, "rb") as file:
            lines = [line.strip().decode(errors="replace") for line in file if b"Error" in line]
        return " | ".join(lines[-_QUOTED:])


def start(log: str = "") -> Session:
    """Start criu, with nothing on its standard streams. Raises `Error`."""
    path = find()
    ours, theirs = process.socketpair()
    posix.set_inheritable(theirs, True)
    null = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
    actions = [(posix.POSIX_SPAWN_DUP2, null, fd) for fd in range(3)]
    try:
        pid = posix.posix_spawn(path, ["criu", "swrk", str(theirs)], ENVIRONMENT, file_actions=actions, setsigmask=())
    except OSError as error:
        posix.close(ours)
        raise Error(f"cannot run {path}: {posix.strerror(error.errno or 0).lower()}", errno=error.errno or 0) from error
    finally:
        posix.close(null)
        posix.close(theirs)
    return Session(ours, pid, log)


def ask(kind: int, **fields: Any) -> Response:
    """One request without options to a criu of its own. Raises `Error`."""
    session = start()
    try:
        return session.request(kind, **fields)
    finally:
        session.finish()


def version() -> int:
    """CRIU's version as a number: 31701 for 3.17.1. Raises `Error` if it is not there or too old."""
    found = ask(rpc.VERSION).get("version") or {}
    number: int = found.get("major_number", 0) * 10000 + found.get("minor_number", 0) * 100 + found.get("sublevel", 0)
    require(number, OLDEST, "checkpoint and restore")
    return number


def require(number: int, least: int, what: str) -> None:
    """Raise `Error` unless CRIU's version is at least ``least``, which ``what`` needs."""
    if number < least:
        raise Error(f"{what}: criu {_dotted(least)} or newer is needed, and this is criu {_dotted(number)}")


def require_features(**wanted: bool) -> None:
    """Raise `Error` unless CRIU, on this kernel, has the features ``mem_track`` or ``lazy_pages``."""
    found = ask(rpc.FEATURE_CHECK, features=wanted).get("features") or {}
    missing = [name for name in wanted if not found.get(name)]
    if missing:
        raise Error(f"criu is missing features: {', '.join(missing)}", hint="the kernel may lack what they need")


def problem() -> str:
    """Why CRIU does not work on this machine; an empty string if it does, as far as it can tell without a container."""
    try:
        version()
        ask(rpc.FEATURE_CHECK, features={"mem_track": True})
    except Error as error:
        return error.message
    return ""


def _wait(pid: int) -> int:
    _, status = posix.waitpid(pid, 0)
    return process.exit_status(status)


def _dotted(number: int) -> str:
    major, rest = divmod(number, 10000)
    return f"{major}.{rest // 100}" + (f".{rest % 100}" if rest % 100 else "")
