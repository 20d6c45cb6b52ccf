"""The calling user: whether it is the host's root, what it is called outside, and a folder of its own."""

from __future__ import annotations

from _stat import S_ISDIR

from gosudacon.base import layout, posix
from gosudacon.base.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

FALLBACK = f"/tmp/{layout.USER_STATE_ROOT}"
"""What the directory of a user who has no other is called, before ``-UID``."""
_HINT = "set XDG_RUNTIME_DIR to a directory of your own, or use --root"


def is_host_root() -> bool:
    """Whether the caller is the host's root, to whom the kernel gives /proc, and not only that of a user namespace."""
    return posix.geteuid() == 0 and posix.stat("/proc").st_uid == 0


def state_root(environment: Mapping[bytes, bytes]) -> str:
    """The default directory of all containers' state, by the rules of `runtime_dir`. Raises `Error`.

    /run/gosudacon for the host's root, and for a namespace's that calls itself root and may write to /run.
    """
    named_root = posix.geteuid() == 0 and environment.get(b"USER") == b"root"
    if is_host_root() or (named_root and posix.access("/run", posix.W_OK)):
        return layout.STATE_ROOT
    return f"{runtime_dir(environment)}/{layout.USER_STATE_ROOT}"


def runtime_dir(environment: Mapping[bytes, bytes]) -> str:
    """The user's directory for what lasts until the machine is off. Raises `Error`.

    $XDG_RUNTIME_DIR unless it is another user's, else /run/user/UID if it is the user's, else /tmp/gosudacon-UID, which
    is made if it is missing and refused if others could change what is in it. UID is the one outside of the caller's
    user namespace.
    """
    given = session_dir(environment)
    if given:
        return given
    own = f"{FALLBACK}-{outer_uid()}"
    try:
        posix.mkdir(own, 0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise Error(
            f"mkdir {own}: {posix.strerror(error.errno or 0).lower()}", errno=error.errno or 0, hint=_HINT
        ) from None
    if not _is_private(own):
        raise Error(f"{own} is not a directory of this user's alone", hint=_HINT)
    return own


def session_dir(environment: Mapping[bytes, bytes]) -> str:
    """$XDG_RUNTIME_DIR, else /run/user/UID if it is the user's, else an empty string.

    The variable of another user, which su(1) passes on, does not count: https://specifications.freedesktop.org/basedir-spec
    says that the directory is the user's own.
    """
    given = posix.fsdecode(environment.get(b"XDG_RUNTIME_DIR", b""))
    if given.startswith("/") and not _is_anothers(given):
        return given
    usual = f"/run/user/{outer_uid()}"
    return usual if _is_private(usual) else ""


def outer_uid() -> int:
    """What the parent user namespace calls the caller; the caller's own uid if it is not mapped."""
    with open("/proc/self/uid_map", "rb", buffering=0) as file:
        return outside(posix.geteuid(), file.read(65536))


def outside(uid: int, uid_map: bytes) -> int:
    """What the parent user namespace calls ``uid``, by its uid_map; ``uid`` itself if it is not mapped."""
    for line in uid_map.splitlines():
        inside, outside, count = map(int, line.split())
        if inside <= uid < inside + count:
            return outside + uid - inside
    return uid


def _is_anothers(path: str) -> bool:
    try:
        return posix.stat(path).st_uid != posix.geteuid()
    except OSError:  # what is missing can be made, unless it is out of reach
        return False


def _is_private(path: str) -> bool:
    """Whether this is a directory, and no link to one, that belongs to the caller and is closed to all others."""
    try:
        status = posix.lstat(path)
    except OSError:
        return False
    return S_ISDIR(status.st_mode) and status.st_uid == posix.geteuid() and not status.st_mode & 0o077
