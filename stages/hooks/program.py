"""Running a program beside the interpreter: fork(2), execve(2), a wait with a limit; `subprocess` would cost 10 ms."""

from __future__ import annotations

import _signal
import select
import time

from gosudacon.linux import abi, process
from gosudacon.linux import system as os
from gosudacon.linux.errors import SyscallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_OUTPUT = 8192  # bytes of each stream kept for the message, the last ones
_CHUNK = 65536
_SIGKILL = 9
_AT_EMPTY_PATH = 0x1000
_ENOENT = 2
_TICK = 20  # milliseconds between looks at a process for which there is no pidfd

_execve = abi.syscall("execve", abi.PATH, abi.BUFFER, abi.BUFFER)
_execveat = abi.syscall("execveat", abi.INT, abi.PATH, abi.BUFFER, abi.BUFFER, abi.INT)


class Program:
    """A program with its arguments and environment, laid out in memory before there is a process for it.

    ``directory`` is the working directory: a path (``/`` serves where it is gone), a descriptor, or None to stay
    where the caller is, with its umask instead of 022. ``handle`` >= 0 is an O_PATH descriptor of the file to
    execute, found where ``path`` still meant something.
    """

    def __init__(
        self, path: str, args: list[str], env: list[str], directory: str | int | None, handle: int = -1
    ) -> None:
        self.path = path
        self.directory = directory
        self.handle = handle
        self._keep = [os.fsencode(text) for text in args], [os.fsencode(text) for text in env]
        self._vectors = abi.pointers(self._keep[0]), abi.pointers(self._keep[1])

    def run(self, data: bytes, timeout: int | None) -> str:
        """Run it with ``data`` on standard input, for at most ``timeout`` seconds.

        Returns an empty string if it succeeded, else what went wrong, in runc's words. It has descriptors 0 to 2,
        default signal dispositions and a process group of its own, with which it is killed when its time is up.
        """
        opened: list[int] = []
        try:
            stdin = _filled(data)
            opened.append(stdin)
            pipes = []
            for _ in range(3):  # standard output, standard error, and what execve(2) said
                pipes.append(os.pipe())
                opened += pipes[-1]
            (stdout, out), (stderr, err), (report, reports) = pipes
            pid = os.fork()
            if pid == 0:
                self._become((stdin, out, err), reports)
            for fd in (stdin, out, err, reports):
                opened.remove(fd)
                os.close(fd)
            number = os.read(report, 16)  # the end of file comes with execve(2)
            if number:
                os.waitpid(pid, 0)
                return exec_failed(self.path, int(number))
            status, texts = _wait(pid, (stdout, stderr), timeout)
        finally:
            for fd in opened:
                os.close(fd)
        if status is None:
            return f"hook ran past specified timeout of {timeout}.0s"
        code = os.waitstatus_to_exitcode(status)
        if code == 0:
            return ""
        how = f"exit status {code}" if code > 0 else f"signal: {_signal_name(-code)}"
        return f"{how}, stdout: {texts[0]}, stderr: {texts[1]}"

    def _become(self, stdio: tuple[int, int, int], report: int) -> NoReturn:
        try:
            for number, fd in enumerate(stdio):
                os.dup2(fd, number)
            self._prepare()
            self._execute()
        except OSError as error:
            os.write(report, b"%d" % (error.errno or 0))
        finally:
            os._exit(127)

    def _prepare(self) -> None:
        process.cloexec_from(3)
        process.restore_signals()
        _lead_a_group()
        if self.directory is None:
            return
        os.umask(0o022)
        try:
            os.chdir(self.directory)
        except OSError:
            if isinstance(self.directory, int):
                raise
            os.chdir("/")

    def _execute(self) -> NoReturn:
        if self.handle < 0:
            _execve(self.path, *self._vectors)
        try:
            _execveat(self.handle, "", *self._vectors, _AT_EMPTY_PATH)
        except SyscallError as error:
            if error.errno != _ENOENT:
                raise
        # A script: its interpreter opens it by name, which must still be that of the same file here.
        found, here = os.stat(self.handle), os.stat(self.path)
        if (found.st_dev, found.st_ino) != (here.st_dev, here.st_ino):
            raise OSError(_ENOENT, "")
        _execve(self.path, *self._vectors)
        raise AssertionError("execve(2) returned")


def _lead_a_group() -> None:
    try:
        os.setpgid(0, 0)
    except OSError:
        return  # a seccomp filter forbids it: the hook would then be killed alone


def exec_failed(path: str, number: int) -> str:
    """The words for a program that could not be executed; ``number`` is the errno."""
    text = os.strerror(number)
    return f"fork/exec {path}: {text[:1].lower()}{text[1:]}"


def _filled(data: bytes) -> int:
    """A descriptor to read ``data`` from, then the end of file.

    A pipe, filled before there is a reader: no one can make us wait, or send us SIGPIPE. What does not fit in
    one comes from memory.
    """
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        if os.write(writer, data) == len(data):
            return reader
    finally:
        os.close(writer)
    os.close(reader)
    fd = os.memfd_create("state")
    while data:
        data = data[os.write(fd, data) :]
    os.lseek(fd, 0, 0)
    return fd


def _wait(pid: int, streams: tuple[int, ...], timeout: int | None) -> tuple[int | None, list[str]]:
    """Wait for the process, not for the end of its streams: a daemon that it leaves behind may hold those.

    Returns its wait status, None if it was killed after ``timeout`` seconds, and the last of what it wrote.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    kept = {fd: bytearray() for fd in streams}
    poller = select.poll()
    for fd in streams:
        os.set_blocking(fd, False)
        poller.register(fd, select.POLLIN)
    pidfd = _pidfd(pid)
    if pidfd >= 0:
        poller.register(pidfd, select.POLLIN)
    try:
        while True:
            for fd, _ in poller.poll(_patience(deadline, pidfd)):
                if fd in kept and _read(fd, kept[fd]) == 0:
                    poller.unregister(fd)
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                break
            if deadline is not None and time.monotonic() >= deadline:
                _kill(pid)
                return None, []
    finally:
        if pidfd >= 0:
            os.close(pidfd)
    for fd, text in kept.items():
        for _ in range(16):  # a pipe holds at most so much when the limit of pipe(7) is the usual one
            if _read(fd, text) <= 0:
                break
    return status, [bytes(text).decode(errors="replace") for text in kept.values()]


def _patience(deadline: float | None, pidfd: int) -> float | None:
    """For poll(2), in milliseconds; None is for ever."""
    left = None if deadline is None else max(deadline - time.monotonic(), 0) * 1000 + 1
    if pidfd >= 0:
        return left
    return _TICK if left is None else min(left, _TICK)


def _pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except OSError:
        return -1  # under a seccomp filter that forbids it


def _read(fd: int, text: bytearray) -> int:
    """Append what is there, forgetting what is too much; its length, 0 at the end of file, -1 for nothing yet."""
    try:
        data = os.read(fd, _CHUNK)
    except BlockingIOError:
        return -1
    text += data
    del text[:-_OUTPUT]
    return len(data)


def _kill(pid: int) -> None:
    try:
        os.killpg(pid, _SIGKILL)
    except OSError:
        os.kill(pid, _SIGKILL)  # it has no group of its own
    os.waitpid(pid, 0)


def _signal_name(number: int) -> str:
    return (_signal.strsignal(number) or f"{number}").lower()
