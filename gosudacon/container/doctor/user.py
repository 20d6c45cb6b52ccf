"""The calling user: ids for user namespaces, who maps them, and where states are kept. Nothing is made."""

from __future__ import annotations

from _stat import S_ISUID

from gosudacon.base import layout, ownership, posix, user
from gosudacon.container import idmaps
from gosudacon.container.doctor.report import FAILS, LESS, OK, Row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_AREA = "user"
_ENOUGH = 65536  # ids: as many as images use
_HELPERS = ("newuidmap", "newgidmap")


def rows(environment: Mapping[bytes, bytes]) -> Iterator[Row]:
    """Subordinate ids, the programs that map them, the directory of states."""
    if posix.geteuid() != 0:
        for name in _HELPERS:
            yield _helper(name)
    for kind in ("uid", "gid"):
        yield _range(kind)
    yield _state_root(environment)


def _helper(name: str) -> Row:
    path = next((place for place in (f"/usr/bin/{name}", f"/bin/{name}") if posix.access(place, posix.X_OK)), "")
    advice = "without it only the own id can be mapped: install uidmap (Debian), shadow-utils or shadow (others)"
    if not path:
        return Row(_AREA, name, LESS, "not installed", advice)
    capable = "security.capability" in posix.listxattr(path)
    if not posix.stat(path).st_mode & S_ISUID and not capable:
        return Row(
            _AREA, name, LESS, f"{path} is not setuid root and does not have the capability", f"chmod u+s {path}"
        )
    return Row(_AREA, name, OK, path)


def _range(kind: str) -> Row:
    """What /etc/subuid or /etc/subgid gives the caller; root can map any ids, and needs them for default mappings."""
    uid, file = posix.geteuid(), f"/etc/sub{kind}"
    first, count = idmaps.given(kind, uid)
    found = f"{count} from {first}" if count else f"{file} gives user {uid} none"
    mark = OK if count >= _ENOUGH or (uid == 0 and not count) else LESS
    if uid == 0 and not count:
        found += ", which root needs for default mappings alone"
    return Row(_AREA, f"sub{kind}", mark, found, f"usermod --add-sub{kind}s 100000-165535 USER")


def _state_root(environment: Mapping[bytes, bytes]) -> Row:
    name, path = "state root", _path(environment)
    if not path:
        own = f"{user.FALLBACK}-{user.outer_uid()}"
        advice = "containers are forgotten when /tmp is cleaned: set XDG_RUNTIME_DIR, or log in through pam_systemd"
        return Row(_AREA, name, LESS, f"{own}, since there is no XDG_RUNTIME_DIR", advice)
    there = path
    while not posix.path.exists(there) and there != "/":
        there = posix.path.dirname(there)
    if not posix.access(there, posix.W_OK):
        return Row(_AREA, name, FAILS, f"{path}: {there} cannot be written", "set XDG_RUNTIME_DIR, or use --root")
    if there == path and not ownership.is_safe(path, posix.stat(path)):
        return Row(_AREA, name, FAILS, f"{path}: others can write there", f"chmod go-w {path}")
    return Row(_AREA, name, OK, path if there == path else f"{path}, to be made")


def _path(environment: Mapping[bytes, bytes]) -> str:
    """As `user.state_root` without making anything: empty where that would be in /tmp."""
    if user.is_host_root() or (posix.geteuid() == 0 and environment.get(b"USER") == b"root"):
        return layout.STATE_ROOT
    session = user.session_dir(environment)
    return f"{session}/{layout.USER_STATE_ROOT}" if session else ""
