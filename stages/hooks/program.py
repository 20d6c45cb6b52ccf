"""Running a program beside the interpreter: posix_spawn(3) and a wait with a limit. `subprocess` costs 10 ms.

posix_spawn(3) suspends the caller instead of copying its page tables, as fork(2) does: 0.5 ms less, and no Python
runs in the new process. What it cannot do there (working directory, umask) is done here, and taken back.
"""

from __future__ import annotations

import _signal
import select
import time

from gosudacon.linux import process
from gosudacon.linux import system as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_OUTPUT = 8192  # bytes of each stream kept for the message, the last ones
_CHUNK = 65536
_SIGKILL = 9
_EPERM = 1
_TICK = 20  # milliseconds between looks at a process for which there is no pidfd
_SIGNALS = _signal.valid_signals()


class Program:
    """A program with its arguments and environment.

    ``directory`` is the working directory: a path (``/`` serves where it is gone), a descriptor, or None to stay
    where the caller is, with its umask instead of 022. ``passed_on`` descriptors from 3 on are not close-on-exec,
    being for another program. ``executable`` is where the file is found, if that is not ``path``.
    """

    def __init__(
        self,
        path: str,
        args: list[str],
        env: list[str],
        directory: str | int | None,
        passed_on: int = 0,
        executable: str = "",
    ) -> None:
        self.path = path
        self.args = args
        # An entry without a name or a value is none to getenv(3) either; of several the last counts.
        self.env = {entry[:at]: entry[at + 1 :] for entry in env if (at := entry.find("=")) > 0}
        self.directory = directory
        self.passed_on = passed_on
        self.executable = executable or path

    def run(self, data: bytes, timeout: int | None) -> str:
        """Run it with ``data`` on standard input, for at most ``timeout`` seconds.

        Returns an empty string if it succeeded, else what went wrong, in runc's words. It has descriptors 0 to 2,
        default signal dispositions (but for 32 and 33, which the C library keeps for itself) and a process group of
        its own, with which it is killed when its time is up.
        """
        opened: list[int] = []
        try:
            stdin = _filled(data)
            opened.append(stdin)
            stdout, out = os.pipe()
            opened += (stdout, out)
            stderr, err = os.pipe()
            opened += (stderr, err)
            try:
                pid = self._spawn(stdin, out, err)
            except OSError as error:
                return exec_failed(self.path, error.errno or 0)
            for fd in (stdin, out, err):
                opened.remove(fd)
                os.close(fd)
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

    def _spawn(self, *stdio: int) -> int:
        actions: list[tuple[int, ...]] = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(stdio)]
        actions += [(os.POSIX_SPAWN_CLOSE, 3 + number) for number in range(self.passed_on)]
        if self.directory is None:
            return self._spawn_here(actions)
        process.cloexec_from(3 + self.passed_on)
        back = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        umask = os.umask(0o022)
        try:
            _enter(self.directory)
            return self._spawn_here(actions)
        finally:
            os.umask(umask)
            os.chdir(back)
            os.close(back)

    def _spawn_here(self, actions: list[tuple[int, ...]]) -> int:
        how: dict[str, Any] = {"file_actions": actions, "setsigmask": (), "setsigdef": _SIGNALS}
        try:
            return os.posix_spawn(self.executable, self.args, self.env, setpgroup=0, **how)
        except PermissionError as error:
            if error.errno != _EPERM:
                raise
        # A seccomp filter may forbid setpgid(2): then the hook can only be killed alone.
        return os.posix_spawn(self.executable, self.args, self.env, **how)


def _enter(directory: str | int) -> None:
    try:
        os.chdir(directory)
    except OSError:
        if isinstance(directory, int):
            raise
        os.chdir("/")  # poststop: the bundle may be gone


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
