"""A container's cgroups today: whether they still are its own, and whether its init still is in them.

Init may have been moved: by systemd, an administrator, or the container itself, if it can write to the host's cgroup
filesystem. What is done *to* a cgroup (freeze, limit, kill) is only ever done to those that `create` made; init's
new place may be one that others live in. docs/security.md has the reasons.
"""

from __future__ import annotations

from errno import ENOENT, ESRCH

from gosudacon.base import jsonio, layout, posix
from gosudacon.base.errors import Error
from gosudacon.container import host as hosts
from gosudacon.linux import proc
from gosudacon.linux.cgroup import processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from gosudacon.container.state import Container
    from gosudacon.pipeline.spec import Host


def own(container: Container) -> dict[str, str]:
    """Those of the recorded cgroups that are the ones that were made, and not others of the same names.

    All of them where the note of their inodes is lost.
    """
    recorded: dict[str, str] = container.data.get("cgroups") or {}
    try:
        notes = [jsonio.loads(line) for line in container.store.read(layout.CGROUPS_NOTE).splitlines()]
        noted: dict[str, int] = [note["owned"] for note in notes if "owned" in note][-1]  # type: ignore
    except (OSError, Error, LookupError, TypeError, ValueError):
        return recorded
    return {name: path for name, path in recorded.items() if _inode(path) == noted.get(path)}


def strays(container: Container, host: Host | None = None) -> dict[str, str]:
    """Controller -> where init is, of those in which it is neither in the container's cgroup nor below.

    An empty string where that cannot be seen from here. Nothing for a container that has stopped.
    """
    recorded: dict[str, str] = container.data.get("cgroups") or {}
    pid: int = container.data["pid"]
    if not recorded or not pid:
        return {}
    host = host or hosts.gather()
    found = {}
    try:
        for controller, now in hosts.cgroups_of(host, pid).items():
            if controller in recorded:
                made = recorded[controller]
                if now != made and not now.startswith(f"{made}/") and pid not in processes.pids({controller: made}):
                    found[controller] = now
    except OSError as error:
        if error.errno not in (ENOENT, ESRCH):
            raise
    return found if container.alive() else {}  # what has ended is in the root, as far as /proc says


def require(container: Container, controllers: Iterable[str], what: str, host: Host | None = None) -> None:
    """Raise `Error` if init has left the container's cgroup of one of these controllers."""
    strayed = strays(container, host)
    concerned = {name: strayed[name] for name in controllers if name in strayed}
    if concerned:
        raise Error(
            f"cannot {what}: {told(concerned)}",
            hint="move its processes back: write their pids to cgroup.procs of the container's cgroup",
        )


def told(strayed: dict[str, str]) -> str:
    """The words for what `strays` has found."""
    places: dict[str, list[str]] = {}
    for controller, now in strayed.items():
        places.setdefault(now or "one that is out of sight", []).append(controller or "unified")
    where = ", ".join(f"{now} ({', '.join(names)})" for now, names in places.items())
    return f"the container's init has been moved out of the container's cgroup, to {where}"


def processes_of(container: Container) -> list[int]:
    """The pids of all processes of the container, wherever they are.

    They are those in its cgroups and below. If init is not among them, or there are no cgroups, also those of init's
    pid namespace or, where that is not the container's own, init and what it has made.
    """
    found = set(processes.pids(own(container)))
    init: int = container.data["pid"]
    if init in found or not container.alive():
        return sorted(found)
    if not container.data["shares_pid_namespace"]:
        return sorted(found.union(proc.in_pid_namespace(init)))
    return sorted(found.union([init], proc.descendants(init)))


def _inode(path: str) -> int | None:
    try:
        return posix.lstat(path).st_ino
    except OSError:
        return None
