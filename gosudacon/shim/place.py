"""Where a shim is found: its socket, whose name others can work out, and the root of its containers' states."""

from __future__ import annotations

import _socket
import fcntl
import sys

from gosudacon.base import jsonio, posix
from gosudacon.base.errors import Error
from gosudacon.shim import dialogue

SOCKETS = "/run/containerd/s"
STATES = "/run/containerd/gosudacon"
_GROUPS = ("io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id")
BACKLOG = 4096  # clients that wait to be accepted: the kernel allows no more by default (listen(2))
_LARGEST = 16 << 20
_TRIES = 20
_PATIENCE = 0.5  # seconds for a shim to accept a connection when its socket is to be removed


class Place:
    """The place of the shim of one group of containers in one namespace of one containerd."""

    def __init__(self, address: str, namespace: str, group: str, directory: str = "") -> None:
        self.namespace = namespace
        self.directory = directory or SOCKETS
        name = posix.path.normpath("/".join(word for word in (address, namespace, group) if word))
        self.path = f"{self.directory}/{digest(name)}"
        self._states = f"{STATES}/{digest(address)[:16]}"
        self.listener: _socket.socket

    @property
    def address(self) -> str:
        """The socket, as containerd wants to hear it."""
        return f"unix://{self.path}"

    def root(self, chosen: str) -> str:
        """The root of states; ``chosen``: of the options. Another containerd's containers may have the same ids."""
        return f"{chosen or self._states}/{self.namespace}"

    def join(self, id: str) -> bool:
        """Whether a shim of the group serves there, which from now on expects the container ``id``.

        Otherwise this process has the place, and listens. Raises `Error`, OSError.
        """
        posix.makedirs(self.directory, 0o700, exist_ok=True)
        for _ in range(_TRIES):
            if dialogue.reserve(self.path, id):
                return True
            if self._take():
                return False
        raise Error(f"cannot get {self.path}: other processes take it again and again")

    def release(self) -> None:
        """Remove the address, so that no client finds the shim any more."""
        try:
            posix.unlink(self.path)
        except OSError:
            return

    def leave(self) -> None:
        """As `release`; and remove directories of states in which nothing is."""
        self.release()
        remove_empty(self.root(""))

    def _take(self) -> bool:
        """Listen there, unless another process does. Killed at any moment, this leaves nothing that hinders others."""
        with _Lock(self.directory):
            if dialogue.answers(self.path):
                return False
            self.release()
            self.listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
            before = posix.umask(0o177)
            try:
                self.listener.bind(self.path)
            finally:
                posix.umask(before)
            self.listener.listen(BACKLOG)
        return True


class _Lock:
    """Who changes what is in a directory of sockets, one at a time."""

    def __init__(self, directory: str) -> None:
        self._fd = posix.open(directory, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)

    def __enter__(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        posix.close(self._fd)


def clear(path: str) -> None:
    """Remove the socket of a shim that was killed; one that lives keeps its own. Raises OSError."""
    try:
        with _Lock(posix.path.dirname(path)):
            if not dialogue.answers(path, _PATIENCE):
                posix.unlink(path)
    except (FileNotFoundError, TimeoutError):  # a shim that was about to end has; one is there, and hangs
        return


def group_of(bundle: str, id: str) -> str:
    """The group that the bundle's annotations name: a pod; by default each container is a group."""
    try:
        fd = posix.open(f"{bundle}/config.json", posix.O_RDONLY | posix.O_CLOEXEC)
    except FileNotFoundError:
        return id
    with open(fd, "rb", buffering=0) as file:
        text = file.read(_LARGEST) or b""
    if not any(name.encode() in text for name in _GROUPS):
        return id
    config = jsonio.loads(text)
    return named_group(config.get("annotations") if isinstance(config, dict) else None) or id


def named_group(annotations: object) -> str:
    """The group that a container's annotations name; empty if they name none."""
    for name in _GROUPS:
        if isinstance(annotations, dict) and annotations.get(name):
            return str(annotations[name])
    return ""


def remove_empty(root: str) -> None:
    """Remove a root of states in which nothing is, and the directories above it that are only for such roots."""
    while root.startswith(f"{STATES}/") or root == STATES:
        try:
            posix.rmdir(root)
        except OSError:  # it exists, or another process has made it
            return
        root = posix.path.dirname(root)


def digest(text: str) -> str:
    """SHA-256 in hexadecimal digits, without the library that `hashlib` loads for it."""
    name = "_sha2" if sys.version_info >= (3, 12) else "_sha256"
    __import__(name)
    return str(sys.modules[name].sha256(text.encode("utf-8", "surrogateescape")).hexdigest())
