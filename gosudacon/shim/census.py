"""The templates and shims that run on this machine, for `gosudacon shim ps`."""

from __future__ import annotations

from gosudacon.base import posix
from gosudacon.base.errors import Error
from gosudacon.shim import dialogue, place, template

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Found:
    """One process: ``kind`` is ``template`` or ``shim``; memory is in KiB, its own and its share of what is shared."""

    def __init__(self, kind: str, pid: int, namespace: str, containers: list[str]) -> None:
        self.kind = kind
        self.pid = pid
        self.namespace = namespace
        self.containers = containers
        self.private, self.proportional = _memory(pid)


def take(directory: str = place.SOCKETS) -> Iterator[Found]:
    """All templates, then all shims whose sockets are in ``directory``; one that does not answer is not there."""
    for pid in sorted(int(name) for name in posix.listdir("/proc") if name.isdigit()):
        if _title(pid) == template.NAME:
            yield Found("template", pid, "", [])
    for name in _names(directory):
        try:
            answer = dialogue.listed(f"{directory}/{name}")
        except (Error, OSError):
            continue
        if answer is not None:
            yield Found("shim", answer["pid"], answer["namespace"], answer["ids"])


def _names(directory: str) -> list[str]:
    try:
        return sorted(posix.listdir(directory))
    except FileNotFoundError:
        return []


def _title(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb", buffering=0) as file:
            return posix.fsdecode((file.read(256) or b"").split(b"\0")[0])
    except OSError:
        return ""


def _memory(pid: int) -> tuple[int, int]:
    """Private and proportional memory (proc_pid_smaps(5)); 0 where this process may not look."""
    sums = {b"Private_Clean:": 0, b"Private_Dirty:": 0, b"Pss:": 0}
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                words = line.split()
                if words[0] in sums:
                    sums[words[0]] = int(words[1])
    except OSError:
        pass
    return sums[b"Private_Clean:"] + sums[b"Private_Dirty:"], sums[b"Pss:"]
