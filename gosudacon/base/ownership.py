"""Who can change a file of the host, seen from any user namespace (user_namespaces(7))."""

from __future__ import annotations

from gosudacon.base import posix

_PROC = "/proc"  # the kernel makes it for the host's root, so it shows what that one is called here
_LOOK = posix.O_RDONLY | posix.O_NOATIME | posix.O_NONBLOCK | posix.O_CLOEXEC


def is_safe(path: str, status: posix.stat_result) -> bool:
    """Whether only root and the caller can write to ``path``, whose ``status`` is stat(2)'s. Raises OSError."""
    return not status.st_mode & 0o022 and is_trusted(path, status.st_uid)


def is_trusted(path: str, uid: int) -> bool:
    """Whether ``uid``, the owner of ``path``, is the caller, root, or the host's root. Raises OSError.

    In a user namespace all users who have no id there look alike (overflowuid, 65534), and like the one who has that
    very id. No process in the namespace can write to a file of the former; outside of it, the user who chose the
    command has trusted its owner.
    """
    if uid in (0, posix.geteuid()):
        return True
    return uid == posix.stat(_PROC).st_uid and _has_id(path) == _has_id(_PROC)


def _has_id(path: str) -> bool:
    """Whether the file's owner has an id in this user namespace.

    O_NOATIME is for the owner and for CAP_FOWNER, which counts for owners that have an id (open(2), capabilities(7)).
    """
    try:
        posix.close(posix.open(path, _LOOK))
    except PermissionError:
        return False
    return True
