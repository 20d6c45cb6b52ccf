"""Default id mappings, for a new user namespace to which config.json gives none: those that crun makes.

The caller's own ids are the process's, and what /etc/subuid and /etc/subgid give the caller (subuid(5)) is mapped
around them.
"""

from __future__ import annotations

from gosudacon.base import posix
from gosudacon.base.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.pipeline.spec import Host, Spec
    from gosudacon.schema.types import IdMapping

_HELPERS = ("/usr/bin/newuidmap", "/usr/bin/newgidmap")
_FILES = {"uid": "/etc/subuid", "gid": "/etc/subgid"}
_LIMIT = 1 << 20  # bytes of such a file


def complete(spec: Spec, host: Host) -> None:
    """Add the mappings that are missing to the configuration, which need not be valid. Raises `ConfigError`."""
    linux: dict[str, object] = spec.config["linux"]  # type: ignore[assignment]
    user = (spec.config.get("process") or {}).get("user") or {}
    own = {"uid": host.euid, "gid": posix.getegid()}
    for kind, mine in own.items():
        key, number = f"{kind}Mappings", user.get(kind) if isinstance(user, dict) else 0
        if not linux.get(key):
            inside = number if type(number) is int and number > 0 else 0
            linux[key] = _mappings(kind, inside, mine, host.euid)


def _mappings(kind: str, inside: int, mine: int, euid: int) -> list[IdMapping]:
    """Of the id ``mine`` to ``inside``, and of the caller's subordinate ids to those below and above it."""
    first, count = _subordinate(kind, euid)
    if not count and euid == 0:
        return [{"containerID": 0, "hostID": 0, "size": inside + 1}]
    if not count and inside:
        what = f"{kind} {inside} cannot be mapped beside root: {_FILES[kind]} gives user {euid} no ids"
        raise ConfigError(what, where=f"linux.{kind}Mappings", hint="give mappings, or run as user 0 in the container")
    below = min(inside, count)
    ranges = [(0, first, below), (inside, mine, 1), (inside + 1, first + below, count - below)]
    return [{"containerID": at, "hostID": of, "size": size} for at, of, size in ranges if size]


def _subordinate(kind: str, euid: int) -> tuple[int, int]:
    """The first range of ids that the caller may map: its start and its size, (0, 0) for none."""
    if euid != 0 and not all(posix.access(path, posix.X_OK) for path in _HELPERS):
        return 0, 0
    return given(kind, euid)


def given(kind: str, euid: int) -> tuple[int, int]:
    """The first range that /etc/subuid or /etc/subgid (``kind``: uid or gid) gives a user."""
    names = {str(euid), _name(euid)}
    try:
        text = posix.read_file(_FILES[kind], _LIMIT).decode(errors="replace")
    except OSError:
        return 0, 0
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) == 3 and fields[0] in names and fields[1].isdecimal() and fields[2].isdecimal():
            return int(fields[1]), int(fields[2])
    return 0, 0


def _name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
