"""Times of a plan's steps on both sides, taken where ``--trace`` asks for them; nothing else imports this.

The two sides write into memory that they share (mmap(2), MAP_SHARED | MAP_ANONYMOUS), made before the clone: the
container's side needs neither a descriptor nor a system call for it, and what init had written is there when it is
killed. The clock is CLOCK_MONOTONIC, read without a system call (vdso(7)). What a seccomp filter may refuse is not
called behind it: the processor's clock never, and CLOCK_MONOTONIC only where the vDSO can read it.
"""

from __future__ import annotations

import time

from gosudacon.base import jsonio, posix
from gosudacon.linux import abi
from gosudacon.pipeline.step import CONTAINER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.base.errors import Error
    from gosudacon.pipeline.plan import Move, Plan
    from gosudacon.pipeline.runner import Observers
    from gosudacon.pipeline.step import Context, Step

# The numbers of a step: when it began to wait for the other side, began, ended, had told the other side (nanoseconds);
# processor time in it (nanoseconds).
WAITED, BEGAN, ENDED, TOLD, PROCESSOR = range(5)
_WIDTH = 5
_READY, _WENT_ON, _HEADER = 0, 1, 2  # init was ready; it went on
_USER_HZ = 100  # of the times in /proc, on every architecture that is supported (proc(5))
_PROT_READ_WRITE, _MAP_SHARED_ANONYMOUS = 3, 0x21
_READ_WITHOUT_A_CALL = ("tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter")
_CLOCKSOURCE = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
_mmap = abi.syscall("mmap", abi.ULONG, abi.SIZE, abi.INT, abi.INT, abi.INT, abi.ULONG)


class Lane:
    """The times of one side's steps, by their positions in the lane, from 1 on."""

    def __init__(self, moves: list[Move], memory: memoryview, clock_behind_filter: bool) -> None:
        self.moves = moves
        self._memory = memory
        self._filter = next((at for at, move in enumerate(moves, 1) if move.step.filters), len(moves) + 2)
        self._clock_behind_filter = clock_behind_filter
        self._before = 0

    def waits(self, position: int) -> None:
        """The other side has not come as far as this step needs."""
        self._stamp(position, WAITED)

    def begins(self, position: int) -> None:
        self._stamp(position, BEGAN)
        if position <= self._filter:
            self._before = time.process_time_ns()

    def ends(self, position: int) -> None:
        """The step has run; what raises has no end."""
        if position < self._filter:  # of a process that was forked in the step, the clock began at 0
            spent = time.process_time_ns()
            self._memory[_place(position) + PROCESSOR] = spent - self._before if spent >= self._before else spent
        self._stamp(position, ENDED)

    def told(self, position: int) -> None:
        """The other side has been told that the step is done."""
        self._stamp(position, TOLD)

    def ready(self) -> None:
        """Init waits to be let go."""
        self._memory[_READY] = time.monotonic_ns()

    def goes_on(self) -> None:
        self._memory[_WENT_ON] = time.monotonic_ns()

    def times(self, position: int) -> list[int]:
        """The five numbers of a step; 0: not known."""
        place = _place(position)
        return self._memory[place : place + _WIDTH].tolist()

    def waiting(self) -> tuple[int, int]:
        """When init was ready, and when it went on; 0: not yet."""
        return self._memory[_READY], self._memory[_WENT_ON]

    def reports_before(self, position: int) -> bool:
        """Whether this step is the last before which init may still send its times to ``start``."""
        return position == min(self._filter, len(self.moves))

    def report(self, position: int) -> bytes:
        """For ``start``, which has no plan: what the steps up to ``position`` are, and their times."""
        steps = [[move.step.stage, move.step.describe(), move.step.where] for move in self.moves]
        first = next((at for at, move in enumerate(self.moves, 1) if self.times(at)[ENDED] >= self.waiting()[0]), 1)
        rows = [[*steps[at - 1], *self.times(at)] for at in range(first, len(steps) + 1)]
        return jsonio.dumps({"before": position - first, "went_on": self.waiting()[1], "steps": rows}).encode()

    def _stamp(self, position: int, what: int) -> None:
        after = position > self._filter or (position == self._filter and what > BEGAN)
        if not after or self._clock_behind_filter:
            self._memory[_place(position) + what] = time.monotonic_ns()


def _place(position: int) -> int:
    return _HEADER + (position - 1) * _WIDTH


class Recorder:
    """What a command did and when: `mark` names what lies outside of steps, `lanes` times the steps of a plan."""

    def __init__(self, command: str) -> None:
        self.command = command
        self.began = _process_began()
        self.marks: list[tuple[str, int, int]] = []
        self.alone: list[tuple[str, Step, int, int, Error | None]] = []
        self.plan: Plan | None = None
        self.sides: dict[str, Lane] = {}
        self.reported: dict[str, object] = {}
        self.pid = posix.getpid()
        self.init = 0
        self.id = self.bundle = ""
        self.clock_offset = 0
        self.stopped = self.execve = 0
        self.unix = time.time_ns() - time.monotonic_ns()
        self._last = self.began
        self.mark("start the interpreter, read arguments")

    def mark(self, name: str) -> None:
        """What has been done since the last mark is called ``name``."""
        now = time.monotonic_ns()
        self.marks.append((name, self._last, now))
        self._last = now

    def executed(self) -> None:
        """The process has been executed, as the runtime sees it."""
        self.mark("wait for execve")
        self.execve = self._last

    def watch(self, plan: Plan, lanes: dict[str, list[Move]]) -> dict[str, Lane]:
        """The lanes of a plan that is about to be run, in memory that a clone shares."""
        behind = clock_needs_no_call()
        self.plan = plan
        for side, moves in lanes.items():
            self.sides[side] = Lane(moves, _shared(_HEADER + (len(moves) + 1) * _WIDTH), behind)
        return self.sides

    def follow(self, pid: int) -> None:
        """Note who init is, and by how much its clock differs if it is in another time namespace."""
        self.init = pid
        container = self.sides.get(CONTAINER)
        if container is None or any(move.step.moves_clock() for move in container.moves):
            self.clock_offset = _monotonic_offset(f"/proc/{pid}") - _monotonic_offset("/proc/self")

    def finish(self) -> None:
        """The lanes have run, or one of them has failed: what follows is again outside of them."""
        self._last = self.stopped = time.monotonic_ns()

    def did(self, what: str, step: Step, error: Error | None) -> None:
        """A step outside of lanes was ``run`` or ``undone`` since the last mark."""
        current = time.monotonic_ns()
        self.alone.append((what, step, self._last, current, error))
        self._last = current

    def undone(self, step: Step, error: Error | None) -> None:
        """For `runner.undo_steps`."""
        self.did("undone", step, error)

    def observers(self) -> Observers:
        """For steps that `runner.run_step` runs outside of lanes: hooks of ``start`` and ``delete``, limits."""

        def after(step: Step, context: Context, error: Error | None) -> None:
            self.did("run", step, error)

        return (), [("--trace", after)]

    def receive(self, payload: bytes) -> None:
        """What init has reported to ``start``. It is believed as far as it has the form of a report."""
        try:
            data = jsonio.loads(payload)
        except ValueError:
            return
        if isinstance(data, dict):
            self.reported = data


def clock_needs_no_call() -> bool:
    """Whether CLOCK_MONOTONIC is read without a system call on this machine (vdso(7))."""
    return _read(_CLOCKSOURCE).decode(errors="replace").strip() in _READ_WITHOUT_A_CALL


def _shared(numbers: int) -> memoryview:
    size = numbers * 8
    address = _mmap(0, size, _PROT_READ_WRITE, _MAP_SHARED_ANONYMOUS, -1, 0)
    memory = memoryview((abi.c_char * size).from_address(address)).cast("B").cast("Q")
    for place in range(0, numbers, 512):
        memory[place] = 0  # now: a page is charged to the memory cgroup of the process that touches it first
    return memory


def _process_began() -> int:
    """When this process was made: known to a tick (10 ms) from /proc, and not later than its processor time says."""
    current = time.monotonic_ns()
    latest = current - time.process_time_ns()
    fields = _read("/proc/self/stat").rpartition(b")")[2].split()
    if len(fields) < 20:
        return latest
    tick = 10**9 // _USER_HZ
    suspended = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
    earliest = int(fields[19]) * tick - suspended
    return max(earliest, min(latest, earliest + tick))


def _monotonic_offset(process: str) -> int:
    """Nanoseconds by which a process's CLOCK_MONOTONIC is ahead of the host's (time_namespaces(7))."""
    for line in _read(f"{process}/timens_offsets").decode().splitlines():
        clock, seconds, nanoseconds = line.split()
        if clock in ("monotonic", "1"):
            return int(seconds) * 10**9 + int(nanoseconds)
    return 0


def _read(path: str) -> bytes:
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return posix.read(fd, 4096)
    finally:
        posix.close(fd)
