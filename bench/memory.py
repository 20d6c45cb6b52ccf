"""Peak memory of each command, and private memory of an init that waits for ``start``."""

from __future__ import annotations

from pathlib import Path

from .bundle import busybox
from .runtimes import BARE, Runtime
from .timing import EXTRAS, steps
from .workspace import Workspace

#: runtime → command (or BARE) → KiB of each sample.
Peaks = dict[str, dict[str, list[int]]]
_SELF_REPORT = """
import resource, sys
with open(sys.argv[1], "w") as file:
    file.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
"""


class PeakMeter:
    """Runs a command below ``busybox time`` and reads its ru_maxrss (getrusage(2)).

    Not below the bench itself: on execve the kernel carries the peak of the address space that is
    left behind into ru_maxrss of the process, and for a vforked child that is the bench's own (some 30 MB).
    busybox needs 1.4 MB, which is the floor of what this can see.
    """

    def __init__(self, workspace: Workspace, python: str) -> None:
        self._work = workspace
        self._file = workspace.folder / "maxrss"
        self._factor = 1
        self._factor = self._calibrate(python)

    def peak(self, argv: list[str]) -> int:
        """Largest resident set, in KiB, that the command or a child it waited for has reached."""
        self._work.spawner.run([busybox(), "time", "-f", "%M", "-o", str(self._file), *argv])
        return int(self._file.read_text().split()[-1]) // self._factor

    def _calibrate(self, python: str) -> int:
        """busybox multiplies the kernel's KiB as if they were pages; find out by how much it is wrong."""
        own = self._work.folder / "self-report"
        reported = self.peak([python, "-I", "-S", "-B", "-c", _SELF_REPORT, str(own)])
        return max(1, round(reported / int(own.read_text())))


def measure_peaks(workspace: Workspace, python: str, samples: int) -> Peaks:
    """Peak memory of every command of every runtime, ``samples`` times each."""
    meter = PeakMeter(workspace, python)
    peaks: Peaks = {}
    for runtime in workspace.runtimes.values():
        found = peaks.setdefault(runtime.name, {})
        for _ in range(samples):
            if runtime.name == BARE:
                found.setdefault(BARE, []).append(meter.peak(list(runtime.command)))
            else:
                _lifecycle_peaks(workspace, meter, runtime, found)
    return peaks


def _lifecycle_peaks(workspace: Workspace, meter: PeakMeter, runtime: Runtime, found: dict[str, list[int]]) -> None:
    container = workspace.container(runtime, "peak")
    workspace.enter(runtime)
    workspace.track([container], alive=True)
    for step in (*steps(EXTRAS), "run"):
        found.setdefault(step, []).append(meter.peak(workspace.command(container, step)))
        if step == "create":
            workspace.created(container)
        elif step == "kill":
            workspace.spawner.reap(container.pid)
    workspace.track([container], alive=False)


def parse_rollup(text: str) -> dict[str, int]:
    """KiB by field of a /proc/PID/smaps_rollup (proc_pid_smaps(5)), ``Private`` added as clean plus dirty."""
    fields = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[2] == "kB":
            fields[words[0].rstrip(":")] = int(words[1])
    fields["Private"] = fields.get("Private_Clean", 0) + fields.get("Private_Dirty", 0)
    return fields


def measure_waiting_init(workspace: Workspace, samples: int) -> dict[str, dict[str, list[int]]]:
    """KiB of Private, Pss and Rss of an init between ``create`` and ``start``, by runtime."""
    result: dict[str, dict[str, list[int]]] = {}
    for runtime in workspace.runtimes.values():
        if runtime.name == BARE:
            continue
        found = result.setdefault(runtime.name, {})
        for _ in range(samples):
            container = workspace.container(runtime, "waiting")
            workspace.do(container, "create")
            fields = parse_rollup(_rollup(container.pid))
            for key in ("Private", "Pss", "Rss"):
                found.setdefault(key, []).append(fields[key])
            for step in ("kill", "delete"):
                workspace.do(container, step)
    return result


def _rollup(pid: int) -> str:
    # /proc of the bench's own pid namespace, whichever mount namespace is current.
    with Path(f"/proc/{pid}/smaps_rollup").open() as file:
        return file.read()
