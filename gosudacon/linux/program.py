"""Run a program as a child: fork(2), execve(2) and a wait with a limit. `subprocess` costs 10 ms.

posix_spawn(3) would save half a millisecond, but cannot make the program die with the runtime: a hook of a create that
was killed would go on while ``delete --force`` cleans up after it.
"""

from __future__ import annotations

import _signal
import fcntl
import select
import time
from errno import EIO

from gosudacon.base import posix
from gosudacon.linux import abi, namespace, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import NoReturn

_OUTPUT = 8192  # bytes of each stream that are kept for a message
_CHUNK = 65536
_F_DUPFD_CLOEXEC = 1030
_TICK = 20  # milliseconds between looks at a process for which there is no pidfd

_execve = abi.syscall("execve", abi.PATH, abi.BUFFER, abi.BUFFER)


class Ended:
    """How a program ended: ``status`` (wait(2)), None if its time was up, and the last of ``stdout`` and ``stderr``."""

    def __init__(self, status: int | None, stdout: bytes = b"", stderr: bytes = b"") -> None:
        self.status = status
        self.stdout = stdout
        self.stderr = stderr

    def how(self) -> str:
        """An empty string for exit status 0, else the status or signal in words; nothing if its time was up."""
        code = 0 if self.status is None else posix.waitstatus_to_exitcode(self.status)
        if code == 0:
            return ""
        return f"exit status {code}" if code > 0 else f"signal: {_signal_name(-code)}"


class Program:
    """A program at ``path`` with its arguments ``args``, the name first, and environment ``env``.

    ``directory`` is the working directory: a path (``/`` serves where it is gone), a descriptor, or None to stay
    where the caller is, with its umask instead of 022. ``executable``: where the file is found, if not at ``path``.
    ``confine`` is called right before execve(2): behind a seccomp filter that it loads, nothing else is. ``lent`` is
    a descriptor that the program has as well, under its number; it must be 3 or more. ``keep``: how many bytes of each
    stream are kept, the last ones.
    """

    confine: Callable[[], None] | None = None
    lent: int = -1
    keep: int = _OUTPUT

    def __init__(
        self,
        path: str,
        args: list[str],
        env: Mapping[bytes, bytes],
        directory: str | int | None,
        executable: str = "",
    ) -> None:
        self.path = path
        self.args = args
        self.env = env
        self.directory = directory
        self.executable = executable or path

    def run(self, data: bytes, timeout: float | None, outputs: tuple[int, int] = (-1, -1)) -> Ended:
        """Run it with ``data`` on standard input, for at most ``timeout`` seconds. Raises OSError if it cannot be run.

        ``outputs`` are its standard output and error; of one that is -1, the end is kept. It has descriptors 0 to 2,
        default signal dispositions and a process group of its own, with which it is killed when its time is up. If this
        process is killed, it dies with it; what it has left behind by then does not.
        """
        readers, writers = [-1, -1], list(outputs)
        given = [_filled(data)]  # what this process need not keep once the program has it
        try:
            for index, fd in enumerate(outputs):
                if fd < 0:
                    readers[index], writers[index] = posix.pipe()
                    given.append(writers[index])
            pid = self._spawn(given[0], *writers)
            while given:
                posix.close(given.pop())
            return _wait(pid, readers, timeout, self.keep)
        finally:
            for fd in (*given, *readers):
                if fd >= 0:
                    posix.close(fd)

    def _spawn(self, *stdio: int) -> int:
        """Start it; raises OSError if it cannot be executed."""
        told, tell = posix.pipe()
        try:
            parent = posix.getpid()
            pid = namespace.clone_child()  # os.fork of Python 3.12 reads /proc/self/stat, which may be the image's
            if pid == 0:
                self._become(parent, stdio, tell)
            posix.close(tell)
            tell = -1
            try:
                number = posix.read(told, 4)  # ends with execve(2)
            except BaseException:
                _kill(pid)
                raise
        finally:
            posix.close(told)
            if tell >= 0:
                posix.close(tell)
        if number:
            posix.waitpid(pid, 0)
            raise OSError(int.from_bytes(number, "little"), "execve")
        return pid

    def _become(self, parent: int, stdio: tuple[int, ...], tell: int) -> NoReturn:
        """In the new process: what keeps it apart from this one, then execve(2)."""
        try:
            _die_with(parent)
            if min(tell, *stdio) < 3:  # the caller had closed its own
                tell, *moved = (fcntl.fcntl(fd, _F_DUPFD_CLOEXEC, 3) for fd in (tell, *stdio))
                stdio = tuple(moved)
            try:
                posix.setpgid(0, 0)
            except OSError:
                pass  # a seccomp filter may forbid it: then the hook can only be killed alone
            for number, fd in enumerate(stdio):
                posix.dup2(fd, number)
            process.cloexec_from(3)
            if self.lent >= 0:
                posix.set_inheritable(self.lent, True)
            if self.directory is not None:
                posix.umask(0o022)
                _enter(self.directory)
            process.restore_signals()
            self._execute()
        except OSError as error:
            posix.write(tell, (error.errno or EIO).to_bytes(4, "little"))
        except BaseException:  # noqa: BLE001 - this is a copy of the runtime, which must not go on
            posix.write(tell, EIO.to_bytes(4, "little"))
        posix._exit(127)

    def _execute(self) -> None:
        path = posix.fsencode(self.executable)
        strings = [posix.fsencode(text) for text in self.args], [b"=".join(entry) for entry in self.env.items()]
        argv, envp = (abi.pointers(each) for each in strings)
        if self.confine is not None:
            self.confine()
        _execve(path, argv, envp)


def _die_with(parent: int) -> None:
    """SIGKILL when this process's parent dies; what the program forks does not inherit that (prctl(2))."""
    try:
        process.set_pdeathsig(_signal.SIGKILL)
    except OSError:
        return  # under a seccomp filter that forbids it
    if posix.getppid() not in (parent, 0):  # 0: in another pid namespace
        posix._exit(127)


def _enter(directory: str | int) -> None:
    try:
        posix.chdir(directory)
    except OSError:
        if isinstance(directory, int):
            raise
        posix.chdir("/")  # poststop: the bundle may be gone


def _filled(data: bytes) -> int:
    """A descriptor to read ``data`` from, then the end of file.

    A pipe, filled before there is a reader: no process can make us wait, or cause SIGPIPE. What does not fit in
    one comes from memory.
    """
    reader, writer = posix.pipe()
    try:
        posix.set_blocking(writer, False)
        if posix.write(writer, data) == len(data):
            return reader
    finally:
        posix.close(writer)
    posix.close(reader)
    fd = posix.memfd_create("state")
    while data:
        data = data[posix.write(fd, data) :]
    posix.lseek(fd, 0, 0)
    return fd


def _wait(pid: int, streams: list[int], timeout: float | None, keep: int) -> Ended:
    """Wait for the process, not for the end of its streams: a daemon that it leaves behind may hold those."""
    deadline = None if timeout is None else time.monotonic() + timeout
    kept = {fd: bytearray() for fd in streams if fd >= 0}
    poller = select.poll()
    for fd in kept:
        posix.set_blocking(fd, False)
        poller.register(fd, select.POLLIN)
    pidfd = _pidfd(pid)
    if pidfd >= 0:
        poller.register(pidfd, select.POLLIN)
    try:
        while True:
            for fd, _ in poller.poll(_patience(deadline, pidfd)):
                if fd in kept and _read(fd, kept[fd], keep) == 0:
                    poller.unregister(fd)
            ended, status = posix.waitpid(pid, posix.WNOHANG)
            if ended:
                break
            if deadline is not None and time.monotonic() >= deadline:
                _kill(pid)
                return Ended(None, *(bytes(kept.get(fd, b"")) for fd in streams))
    except BaseException:  # a signal: what the program does must not go on during the undoing
        _kill(pid)
        raise
    finally:
        if pidfd >= 0:
            posix.close(pidfd)
    for fd, text in kept.items():
        for _ in range(16):  # a pipe holds at most so much when the limit of pipe(7) is the usual one
            if _read(fd, text, keep) <= 0:
                break
    return Ended(status, *(bytes(kept.get(fd, b"")) for fd in streams))


def _patience(deadline: float | None, pidfd: int) -> float | None:
    """For poll(2), in milliseconds; None is for ever."""
    left = None if deadline is None else max(deadline - time.monotonic(), 0) * 1000 + 1
    if pidfd >= 0:
        return left
    return _TICK if left is None else min(left, _TICK)


def _pidfd(pid: int) -> int:
    try:
        return posix.pidfd_open(pid)
    except OSError:
        return -1  # under a seccomp filter that forbids it


def _read(fd: int, text: bytearray, keep: int) -> int:
    """Append what is there, forgetting what is too much; its length, 0 at the end of file, -1 for nothing yet."""
    try:
        data = posix.read(fd, _CHUNK)
    except BlockingIOError:
        return -1
    text += data
    del text[:-keep]
    return len(data)


def _kill(pid: int) -> None:
    try:
        posix.killpg(pid, _signal.SIGKILL)
    except OSError:
        posix.kill(pid, _signal.SIGKILL)  # it has no group of its own
    posix.waitpid(pid, 0)


def _signal_name(number: int) -> str:
    return (_signal.strsignal(number) or f"{number}").lower()
