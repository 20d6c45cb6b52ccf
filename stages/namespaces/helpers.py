"""newuidmap(1) and newgidmap(1): programs with the right to map ids that /etc/subuid and /etc/subgid give a user."""

from __future__ import annotations

from errno import EACCES, ENOENT

from gosudacon.api import Error
from gosudacon.base import posix
from gosudacon.linux import identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.schema.types import IdMapping

_PATH = "/usr/bin:/bin"  # for callers that hand down no PATH
_FILES = {"newuidmap": "/etc/subuid", "newgidmap": "/etc/subgid"}
_WORDS_LIMIT = 4096


def write_map(program: str, pid: int, mappings: list[IdMapping]) -> None:
    """Have ``program`` map the ids of process ``pid``'s user namespace.

    Raises `Error` if it is missing, or says no; what it says is in the message.
    """
    where = "linux.uidMappings" if program == "newuidmap" else "linux.gidMappings"
    path = _find(program)
    if not path:
        raise Error(
            f"{program} is not installed, and without it a user can map only the own id",
            where=where,
            hint="install the package uidmap (Debian), shadow-utils or shadow (others)",
        )
    status, words = _run(path, [path, str(pid), *identity.map_text(mappings).decode().split()])
    if status:
        raise Error(
            f"{program} failed: {words or f'exit status {status}'}",
            where=where,
            hint=f"{_FILES[program]} must give this user these ids, and {path} be setuid root",
        )


def _find(program: str) -> str:
    for directory in [*posix.getenv("PATH").split(":"), *_PATH.split(":")]:
        path = f"{directory}/{program}"
        if directory.startswith("/") and posix.access(path, posix.X_OK):
            return path
    return ""


def _run(path: str, arguments: list[str]) -> tuple[int, str]:
    """Its exit status, and the last line that it prints."""
    reader, writer = posix.pipe2(posix.O_CLOEXEC)
    try:
        actions = [(posix.POSIX_SPAWN_DUP2, writer, 1), (posix.POSIX_SPAWN_DUP2, writer, 2)]
        child = posix.posix_spawn(path, arguments, {}, file_actions=actions)
    except OSError as error:
        posix.close(reader)
        if error.errno not in (EACCES, ENOENT):
            raise
        return 127, posix.strerror(error.errno).lower()
    finally:
        posix.close(writer)
    words = b""
    try:
        while chunk := posix.read(reader, _WORDS_LIMIT):
            words = (words + chunk)[-_WORDS_LIMIT:]
    finally:
        posix.close(reader)
    status = posix.waitstatus_to_exitcode(posix.waitpid(child, 0)[1])
    lines = words.decode(errors="replace").strip().splitlines()
    return status, lines[-1].removeprefix(f"{path.rpartition('/')[2]}: ") if lines else ""
