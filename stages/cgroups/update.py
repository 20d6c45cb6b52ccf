"""Change the limits of an existing container: read the old values first, and restore them on failure."""

from __future__ import annotations

from errno import EINVAL, ENOENT

from gosudacon.api import Context, Step
from gosudacon.base.errors import SyscallError
from gosudacon.linux.cgroup import files
from gosudacon.stages.cgroups.limits import Limit, Write, WriteFirst, WriteTogether

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Files with a line for each device, or the like: what to write for one that has no line.
_KEYED = {
    "io.max": "{} rbps=max wbps=max riops=max wiops=max",
    "io.weight": "{} default",
    "io.bfq.weight": "{} 0",
    "rdma.max": "{} hca_handle=max hca_object=max",
    "net_prio.ifpriomap": "{} 0",
    **{
        f"blkio.{name}": "{} 0"
        for name in (
            *("weight_device", "leaf_weight_device", "bfq.weight_device"),
            *(f"throttle.{way}_{unit}_device" for way in ("read", "write") for unit in ("bps", "iops")),
        )
    },
}


def plan(limits: Iterable[Step]) -> Iterator[Step]:
    """The steps that set ``limits``, and before them the one that knows what was set, if there is any."""
    steps = list(limits)
    writes = [write for step in steps for write in _writes(step)]
    if writes:
        yield RememberLimits(controller="", writes=writes)
    yield from steps


def _writes(step: Step) -> list[list[str]]:
    """What a step writes: [controller, file, value]."""
    if isinstance(step, Write):
        return [[step.controller, step.file, step.value]]
    if isinstance(step, (WriteFirst, WriteTogether)):
        values = step.choices if isinstance(step, WriteFirst) else step.values
        return [[step.controller, file, value] for file, value in values]
    return []


class _Before:
    """What the files said that an update changes."""

    def __init__(self) -> None:
        self.limits: list[tuple[int, str, str]] = []  # descriptor, file, value


class RememberLimits(Limit):
    """Read what the files to be written say; `undo` writes it back, which is best done in the same process.

    Why: an update of several limits succeeds as a whole or not at all.
    Without it: a failure half way would leave some new limits and some old ones.
    See: cgroups(7).
    """

    writes: list[list[str]]

    def describe(self) -> str:
        return "read " + ", ".join(dict.fromkeys(file for _, file, _ in self.writes))

    def run(self, context: Context) -> None:
        before = []
        for controller, file, value in self.writes:
            fd = context.cgroup_dirs.get(controller)
            if fd is None:  # the step that needs it says so
                continue
            try:
                before.append((fd, file, _restoring(file, value, files.read(fd, file))))
            except SyscallError as error:
                if error.errno != ENOENT:
                    raise
        context.own(_Before).limits = before

    def undo(self, context: Context) -> None:
        held = context.own(_Before)
        before, held.limits = held.limits, []
        again = [each for each in reversed(before) if not _put_back(*each)]
        for fd, file, value in again:  # values that bound each other: what was refused at first fits in the end
            files.write(fd, file, value)


def _put_back(fd: int, file: str, value: str) -> bool:
    try:
        files.write(fd, file, value)
    except SyscallError as error:
        if error.errno != EINVAL:
            raise
        return False
    return True


def _restoring(file: str, new: str, old: str) -> str:
    """What to write into a file so that it says what it did before ``new`` was written."""
    if file == "memory.oom_control":
        return dict(line.split() for line in old.splitlines())["oom_kill_disable"]
    words = new.split()
    if file == "io.bfq.weight" and len(words) == 1:
        return old.splitlines()[0].split()[-1]
    if file not in _KEYED:
        return old or "\n"  # an empty cpuset: a write of nothing would be none
    found = [line for line in old.splitlines() if line.split()[:1] == words[:1]]
    return found[0] if found else _KEYED[file].format(words[0])
