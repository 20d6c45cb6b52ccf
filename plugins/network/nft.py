"""Loading rules with nft(8), without the module subprocess, which costs more to import than the program to run."""

from __future__ import annotations

import select

from gosudacon.api import Error
from gosudacon.base import posix

_PATIENCE = 30.0  # seconds, in which others wait for us
_MOST = 4096  # bytes of its message


class Refused(Error):
    """nft(8) has run, and loaded nothing."""


class loading:
    """For ``with``: the program loads ``text`` in one transaction meanwhile, and has ended when the block is left.

    Most of the time nft(8) waits for the kernel, which frees what the transaction has removed (RCU). The removal of
    links waits for the same: done in the block, both wait once. Entering raises `Error` if the program does not exist;
    leaving raises `Refused` if it refuses the text, and `Error` if it hangs.

    ``lock``: a descriptor that it holds as long as it runs, so that the lock on it outlives even our own kill -9.
    """

    def __init__(self, program: str, text: str, lock: int = -1) -> None:
        self._program = program
        self._text = text
        self._lock = lock

    def __enter__(self) -> None:
        self._said = _file(b"")
        given = _file(self._text.encode())
        try:
            self._pid = _started(self._program, given, self._said, self._lock)
        except BaseException:
            posix.close(self._said)
            raise
        finally:
            posix.close(given)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            status = _awaited(self._program, self._pid)
            message = posix.pread(self._said, _MOST, 0).decode(errors="replace") if status != 0 else ""
        finally:
            posix.close(self._said)
        if status == 0 or (status is None and not message) or kind is not None:
            return
        raise Refused(f"{self._program}: {' '.join(message.split())[:500] or f'exit status {status}'}")


def load(program: str, text: str, lock: int = -1) -> None:
    """Have the program load ``text``, and wait for it: see `loading`."""
    with loading(program, text, lock):
        pass


def _started(program: str, given: int, said: int, lock: int) -> int:
    actions = [(posix.POSIX_SPAWN_DUP2, given, 0), (posix.POSIX_SPAWN_DUP2, said, 1), (posix.POSIX_SPAWN_DUP2, said, 2)]
    if lock >= 0:
        actions.append((posix.POSIX_SPAWN_DUP2, lock, 3))
    try:
        return posix.posix_spawn(program, [program, "-f", "-"], {}, file_actions=actions, setsigmask=[])
    except FileNotFoundError:
        raise Error(
            f"NAT and published ports need {program}, which is not installed",
            hint="apt-get install nftables, or [stage.network] nat = false",
        ) from None


def _awaited(program: str, pid: int) -> int | None:
    """Its exit status, or minus the signal that ended it; None if our caller ignores SIGCHLD: then it is not known."""
    in_time = False
    try:
        in_time = _ends(pid)
    finally:
        if not in_time:
            posix.kill(pid, 9)
        try:
            _, status = posix.waitpid(pid, 0)
        except ChildProcessError:
            status = -1
    if not in_time:
        raise Error(f"{program} did not end within {_PATIENCE:g} seconds")
    return None if status == -1 else posix.waitstatus_to_exitcode(status)


def _ends(pid: int) -> bool:
    try:
        pidfd = posix.pidfd_open(pid)
    except ProcessLookupError:  # it has ended, and nobody had to wait for it
        return True
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(_PATIENCE * 1000))
    finally:
        posix.close(pidfd)


def _file(data: bytes) -> int:
    fd = posix.memfd_create("nft", posix.MFD_CLOEXEC)
    posix.pwrite(fd, data, 0)
    return fd
