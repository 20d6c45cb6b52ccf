"""The templates and shims that run on this machine, for `gosudacon shim ps`."""

from __future__ import annotations

from gosudacon.base import posix
from gosudacon.base.errors import Error
from gosudacon.linux import namespace, proc
from gosudacon.shim import arguments, dialogue, place, rehearsal, template
from gosudacon.shim.arguments import NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


_LONGEST = 1 << 14  # bytes of a shim's arguments


class Found:
    """One process: ``kind`` is ``template`` or ``shim``; memory is in KiB, its own and its share of what is shared."""

    def __init__(self, kind: str, pid: int, namespace: str, containers: list[str], memory: tuple[int, int]) -> None:
        self.kind = kind
        self.pid = pid
        self.namespace = namespace
        self.containers = containers
        self.private, self.proportional = memory


def take(directory: str = place.SOCKETS) -> Iterator[Found]:
    """All templates, then all shims.

    Those whose sockets are in ``directory`` say themselves what they have; of others, which have another directory or
    do not answer, their arguments name the first container.
    """
    words = {int(name): _words(int(name)) for name in posix.listdir("/proc") if name.isdigit()}
    for pid in sorted(words):
        if words[pid][0] == template.NAME:
            yield Found("template", pid, "", [], _memory(pid))
    shims = {pid for pid, each in words.items() if each[0] == NAME and _is_of_the_host(pid)}
    memory = {pid: _memory(pid) for pid in shims}  # before they are asked: to answer, they write to it
    for name in _names(directory):
        try:
            answer = dialogue.listed(f"{directory}/{name}")
        except (Error, OSError):
            continue
        if answer is not None:
            shims.discard(answer["pid"])
            pid = answer["pid"]
            yield Found("shim", pid, answer["namespace"], answer["ids"], memory.get(pid) or _memory(pid))
    for pid in sorted(shims):
        if words.get(proc.parent(pid), [""])[0] in (NAME, rehearsal.NAME):  # a worker has the arguments of its shim
            continue
        try:
            given = arguments.parse(words[pid][1:])
        except Error:  # it has only the name
            continue
        yield Found("shim", pid, given.namespace, [given.id], memory[pid])


def _names(directory: str) -> list[str]:
    try:
        return sorted(posix.listdir(directory))
    except FileNotFoundError:
        return []


def _words(pid: int) -> list[str]:
    """The arguments of a process; one that is empty if it has none, or is gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb", buffering=0) as file:
            return [posix.fsdecode(word) for word in (file.read(_LONGEST) or b"").removesuffix(b"\0").split(b"\0")]
    except OSError:
        return [""]


def _is_of_the_host(pid: int) -> bool:
    """Whether the process is in this one's pid namespace: in a container any process may take the name of a shim."""
    try:
        own, other = (posix.readlink(namespace.namespace_path("pid", each)) for each in ("self", pid))
    except OSError:
        return False
    return own == other


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
