"""Pseudo terminals: allocated in a given devpts, never looked up by name, and passed over a socket (pty(7), devpts)."""

from __future__ import annotations

import _socket
import fcntl
from _stat import S_ISCHR
from errno import ECONNREFUSED

from gosudacon.base import posix
from gosudacon.base.errors import Error, SyscallError
from gosudacon.linux import mount
from gosudacon.linux.path import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

_TIOCSCTTY = 0x540E
_TIOCGWINSZ = 0x5413
_TIOCSWINSZ = 0x5414
_TIOCGPTN = 0x80045430
_TIOCSPTLCK = 0x40045431
_TIOCGPTPEER = 0x5441
_PTMX = posix.makedev(5, 2)
_PATH_LIMIT = 107  # bytes that fit sockaddr_un
_SOL_SOCKET, _SCM_RIGHTS = _socket.SOL_SOCKET, _socket.SCM_RIGHTS


def allocate(devpts: int) -> tuple[int, int]:
    """A new terminal of the devpts mount behind ``devpts``: its master and slave, both close-on-exec.

    Raises `Error` if that is not a devpts with a ptmx; opening one that an image made up would hang or mislead.
    """
    if mount.filesystem_type(devpts) != mount.DEVPTS_SUPER_MAGIC:
        raise Error("/dev/pts is not a devpts")
    probe = openat2(devpts, "ptmx", posix.O_PATH, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
    status = posix.fstat(probe)
    posix.close(probe)
    if not S_ISCHR(status.st_mode) or status.st_rdev != _PTMX:
        raise Error("/dev/pts/ptmx is not the device 5:2")
    master = openat2(devpts, "ptmx", posix.O_RDWR | posix.O_NOCTTY, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
    try:
        _ioctl(master, "TIOCSPTLCK", _TIOCSPTLCK, bytes(4))
        slave = _ioctl_number(master, "TIOCGPTPEER", _TIOCGPTPEER, posix.O_RDWR | posix.O_NOCTTY | posix.O_CLOEXEC)
    except BaseException:
        posix.close(master)
        raise
    return master, slave


def number(master: int) -> int:
    """N of the terminal's /dev/pts/N (TIOCGPTN)."""
    return int.from_bytes(_ioctl(master, "TIOCGPTN", _TIOCGPTN, bytes(4)), "little")


def set_size(fd: int, height: int, width: int) -> None:
    """Rows and columns of the terminal (TIOCSWINSZ)."""
    size = height.to_bytes(2, "little") + width.to_bytes(2, "little") + bytes(4)
    _ioctl(fd, "TIOCSWINSZ", _TIOCSWINSZ, size)


def copy_size(source: int, target: int) -> None:
    """Give one terminal the size of another."""
    _ioctl(target, "TIOCSWINSZ", _TIOCSWINSZ, _ioctl(source, "TIOCGWINSZ", _TIOCGWINSZ, bytes(8)))


def control(slave: int) -> None:
    """Make the terminal that of this session, which must have none."""
    _ioctl_number(slave, "TIOCSCTTY", _TIOCSCTTY, 0)


def take(slave: int) -> None:
    """Make the terminal standard input, output and error."""
    for fd in (0, 1, 2):
        posix.dup2(slave, fd, inheritable=True)


def connect(path: str) -> int:
    """Connect to a caller's socket (AF_UNIX, SOCK_STREAM), or take the caller's connection that is ``/dev/fd/N``.

    Close-on-exec. Paths may be longer than sockaddr_un.
    """
    kind = _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK  # a full backlog is not waited for
    connection = _socket.socket(_socket.AF_UNIX, kind)
    directory = -1
    address = posix.fsencode(path)
    try:
        if len(address) > _PATH_LIMIT:
            parent, name = posix.path.split(path)
            directory = posix.open(parent, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
            address = b"/proc/self/fd/%d/" % directory + posix.fsencode(name)
        connection.connect(address)
        return connection.detach()
    except OSError as error:
        if error.errno == ECONNREFUSED and posix.descriptor(path) >= 0:
            from gosudacon.base import pipes

            return pipes.duplicate(path)  # of a connection that the caller has made
        raise SyscallError(error.errno or 0, "connect", path) from None
    finally:
        connection.close()
        if directory >= 0:
            posix.close(directory)


def socketpair() -> tuple[int, int]:
    """Two connected descriptors to pass a terminal over."""
    one, other = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    return one.detach(), other.detach()


def send(connection: int, fd: int, text: str, about: str = "console socket") -> None:
    """Send the one message of a console or pidfd socket: a few bytes, and one descriptor with them."""
    sender = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, connection)
    try:
        rights = (_SOL_SOCKET, _SCM_RIGHTS, fd.to_bytes(4, "little"))
        sender.sendmsg([text.encode()], [rights])
    except OSError as error:
        raise SyscallError(error.errno or 0, "sendmsg", about) from None
    finally:
        sender.detach()


def receive(connection: int, what: str = "terminal") -> int:
    """The descriptor that `send` sent, close-on-exec. Raises `Error` if the connection ends without one."""
    receiver = _socket.socket(fileno=connection)
    try:
        _, ancillary, _, _ = receiver.recvmsg(4096, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
    finally:
        receiver.detach()
    for level, kind, data in ancillary:
        if (level, kind) == (_SOL_SOCKET, _SCM_RIGHTS) and len(data) >= 4:
            return int.from_bytes(data[:4], "little")
    raise Error(f"no {what} came from the container")


def _ioctl(fd: int, name: str, request: int, data: bytes) -> bytes:
    try:
        return fcntl.ioctl(fd, request, data)
    except OSError as error:
        raise SyscallError(error.errno or 0, "ioctl", name) from None


def _ioctl_number(fd: int, name: str, request: int, value: int) -> int:
    try:
        return fcntl.ioctl(fd, request, value)
    except OSError as error:
        raise SyscallError(error.errno or 0, "ioctl", name) from None
