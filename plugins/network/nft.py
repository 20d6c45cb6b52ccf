"""Loading rules with nft(8), without the module subprocess, which costs more to import than the program to run."""

from __future__ import annotations

import select

from gosudacon.api import Error
from gosudacon.base import posix

_PATIENCE = 30.0  # seconds, in which others wait for us
_MOST = 4096  # bytes of its message


def load(program: str, text: str) -> None:
    """Have the program load ``text`` in one transaction. Raises `Error` if it is not there or refuses."""
    given, said = _file(text.encode()), _file(b"")
    try:
        status = _run(program, given, said)
        message = posix.pread(said, _MOST, 0).decode(errors="replace") if status != 0 else ""
        if status is None and not message:
            return
        if status != 0:
            raise Error(f"{program}: {' '.join(message.split())[:500] or f'exit status {status}'}")
    finally:
        posix.close(given)
        posix.close(said)


def _run(program: str, given: int, said: int) -> int | None:
    """Its exit status, or minus the signal that ended it; None if nobody knows, where our caller ignores SIGCHLD."""
    actions = [(posix.POSIX_SPAWN_DUP2, given, 0), (posix.POSIX_SPAWN_DUP2, said, 1), (posix.POSIX_SPAWN_DUP2, said, 2)]
    try:
        pid = posix.posix_spawn(program, [program, "-f", "-"], {}, file_actions=actions, setsigmask=[])
    except FileNotFoundError:
        raise Error(
            f"NAT and published ports need {program}, which is not installed",
            hint="apt-get install nftables, or [stage.network] nat = false",
        ) from None
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
