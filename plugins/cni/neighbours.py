"""The host's ports that other containers have, as their notes say.

portmap notices nothing: of two containers with one port, the first keeps it. Known are the containers below the same
``--root``, whatever their networks; each has its note before the first plug-in is called, and until the last DEL.
"""

from __future__ import annotations

import fcntl

from gosudacon.api import Context
from gosudacon.base import posix
from gosudacon.plugins.cni import record
from gosudacon.plugins.cni.document import PORT_MAPPINGS
from gosudacon.plugins.netcommon.ports import Port

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.plugins.cni.record import Header


class published:
    """For ``with``: the id and a port of the containers beside this one; no other one takes a port meanwhile.

    The lock is on the directory above the state directories (flock(2)). Raises OSError.
    """

    def __init__(self, context: Context) -> None:
        flags = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC
        self._root = posix.open("..", flags, dir_fd=context.state_dir)

    def __enter__(self) -> list[tuple[str, Port]]:
        try:
            fcntl.flock(self._root, fcntl.LOCK_EX)
            return [
                (id, port)
                for id in sorted(posix.listdir(self._root))
                if (header := record.noted(id, self._root)) is not None
                for port in _ports(header)
            ]
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        posix.close(self._root)


def _ports(header: Header) -> Iterator[Port]:
    """As `adding.port_mappings` has written them: one by one."""
    for attachment in header["attachments"]:
        found = attachment["runtime"].get(PORT_MAPPINGS)
        for entry in found if isinstance(found, list) else ():
            yield Port(entry.get("hostIP", ""), entry["hostPort"], entry["containerPort"], 1, entry["protocol"])
