"""Telling systemd that the container is ready: sd_notify(3), passed on from the container to NOTIFY_SOCKET.

``create`` mounts a directory of the state directory on /run/notify in the container; the process that starts the
container listens there. Only READY=1 is passed on. The service manager is also told that the container's process is the
service's main process, and is asked to confirm (BARRIER=1).
"""

from __future__ import annotations

import _socket
import select

from gosudacon.base import layout, posix
from gosudacon.base.errors import Error, SyscallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.container.state import Container, Store

_DATAGRAM = 4096
_PATIENCE = (
    30_000  # milliseconds for the service manager to close its end of the barrier, as sd_notify_barrier(3) has it
)
_ENTRY = f"{layout.NOTIFY}/{layout.NOTIFY_SOCKET}"
_DIRECTORY = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC


class Notifier:
    """Listens to the container, and speaks to the service manager at ``address`` (NOTIFY_SOCKET)."""

    def __init__(self, address: str, listener: _socket.socket) -> None:
        self._address = address
        self._listener = listener
        self.fd: int = listener.fileno()
        self.done = False
        self.failure: Error | None = None  # of `handle`

    def take(self) -> bool:
        """Read one message of the container, which must be there; whether it says READY=1."""
        return b"READY=1" in self._listener.recv(_DATAGRAM).split(b"\n")

    def handle(self) -> None:
        """For a runtime that stays: pass on that the container is ready, once there is a message to be read.

        The service's main process remains this one, which passes signals and the exit status on.
        """
        if not self.take():
            return
        self.done = True
        try:
            self.tell()
        except Error as error:  # no reason to leave the container alone
            self.failure = error

    def wait(self, container: Container) -> None:
        """Wait until the container is ready or its init ends; tell the service manager in the former case."""
        pid: int = container.data["pid"]
        try:
            pidfd = posix.pidfd_open(pid)
        except OSError:
            return
        try:
            if not container.alive():  # checked after the pidfd pins the process
                return
            poller = select.poll()
            poller.register(pidfd, select.POLLIN)
            poller.register(self.fd, select.POLLIN)
            while True:
                ready = [fd for fd, _ in poller.poll()]
                if self.fd in ready and self.take():
                    self.tell(pid)
                    return
                if self.fd not in ready:
                    return
        finally:
            posix.close(pidfd)

    def tell(self, pid: int = 0) -> None:
        """Pass READY on; with ``pid``, hand the service over to that process. Raises `Error` if it is not confirmed."""
        connection = _connect(self._address)
        try:
            connection.send(b"READY=1\n")
            if pid:
                connection.send(b"MAINPID=%d\n" % pid)
                self._barrier(connection)
        except OSError as error:
            raise SyscallError(error.errno or 0, "send", f"NOTIFY_SOCKET {self._address}") from None
        finally:
            connection.close()

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()

    def _barrier(self, connection: _socket.socket) -> None:
        """BARRIER=1 with the end of a pipe, which the other side closes after all that was sent before."""
        reader, writer = posix.pipe()
        try:
            rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, writer.to_bytes(4, "little"))
            connection.sendmsg([b"BARRIER=1"], [rights])
            posix.close(writer)
            writer = -1
            poller = select.poll()
            poller.register(reader, 0)  # POLLHUP always counts
            if not poller.poll(_PATIENCE):
                raise Error("timed out waiting for the service manager behind NOTIFY_SOCKET to respond")
        finally:
            posix.close(reader)
            if writer >= 0:
                posix.close(writer)


def listen(store: Store, address: str) -> Notifier | None:
    """Listen for the container's messages; None if it was created without a place for them.

    Raises `Error` for an address that is not of AF_UNIX (sd_notify(3) knows others).
    """
    if address[:1] not in ("/", "@"):
        raise Error(f"NOTIFY_SOCKET {address}: neither a path nor an abstract AF_UNIX address")
    try:
        directory = posix.open(layout.NOTIFY, _DIRECTORY, dir_fd=store.fd)
    except FileNotFoundError:
        return None
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        posix.unlink(layout.NOTIFY_SOCKET, dir_fd=directory)  # of a start that was killed
    except FileNotFoundError:
        pass
    umask = posix.umask(0)  # not chmod(2) afterwards, which follows what might have been put there
    try:
        listener.bind(f"/proc/self/fd/{directory}/{layout.NOTIFY_SOCKET}")
    except OSError as error:
        listener.close()
        raise SyscallError(error.errno or 0, "bind", _ENTRY) from None
    finally:
        posix.umask(umask)
        posix.close(directory)
    return Notifier(address, listener)


def _connect(address: str) -> _socket.socket:
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        connection.connect("\0" + address[1:] if address[0] == "@" else address)
    except OSError as error:
        connection.close()
        raise SyscallError(error.errno or 0, "connect", f"NOTIFY_SOCKET {address}") from None
    return connection
