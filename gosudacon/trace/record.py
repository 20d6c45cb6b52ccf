"""The trace of a command that is running: where it goes, what the recorder has noted, writing the file."""

from __future__ import annotations

import contextlib
import os
import re
import time

from gosudacon.base.errors import Error, reason
from gosudacon.pipeline.recorder import BEGAN, ENDED, PROCESSOR, TOLD, WAITED
from gosudacon.pipeline.recorder import Recorder as Recorder
from gosudacon.trace.formats import writer
from gosudacon.trace.model import (
    AROUND,
    CONTAINER,
    CUT,
    FAILED,
    OK,
    OPEN,
    RUNTIME,
    SEEN,
    STEP,
    UNDO,
    WAIT,
    Span,
    Trace,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    from gosudacon.pipeline.order import TraceSettings as TraceSettings
    from gosudacon.pipeline.step import Step

_OTHER = {RUNTIME: CONTAINER, CONTAINER: RUNTIME}
_KEPT = 100  # traces, unless the settings say otherwise
_NAME = re.compile(r".*-[a-z]+-([0-9]{13,})\.(?:json|jsonl|svg|html)")
_JUMP = 10**10  # nanoseconds: no step takes that long where the clock moves
_DIED = "before it was ready"  # how `executor.InitDied` ends


class Recording:
    """The trace that ``--trace FILE`` asks for. Raises `Error` at once for a file that could not be written."""

    def __init__(self, path: str, command: str, id: str) -> None:
        self._path = os.path.abspath(path)
        self._dumps = writer(path)
        _check_place(self._path)
        self._error: BaseException | None = None
        self._id = id
        self.recorder = Recorder(command)
        self.keep = 0  # traces in the directory; 0: as many as there are

    def failed(self, error: BaseException) -> None:
        """The command ends with this error."""
        self._error = error

    def write(self) -> list[str]:
        """Write the file, first under another name; what went wrong is returned: a trace never makes a command fail."""
        try:
            self._write(self._dumps(_trace(self.recorder, self._id, self._error)))
        except Exception as error:  # noqa: BLE001 - whatever it is, the command has done its work
            return [f"cannot write the trace: {reason(error)}"]
        return []

    def _write(self, text: str) -> None:
        temporary = f"{self._path}.{os.getpid()}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "w", encoding="utf-8", errors="replace") as file:
                file.write(text)
            os.rename(temporary, self._path)
        except BaseException:
            os.unlink(temporary)
            raise
        if self.keep:
            _prune(self._path, self.keep)


class Unwritable(Recording):
    """No trace: the directory of the administrator's settings cannot be used."""

    def __init__(self, message: str) -> None:
        self._message = message

    def write(self) -> list[str]:
        """The reason."""
        return [self._message]

    def failed(self, error: BaseException) -> None:
        """Nothing is written."""


if TYPE_CHECKING:

    class Command(Protocol):
        """What is traced: a command of the command line."""

        command: str
        args: list[str]
        recorder: Recorder | None
        recording: Recording | None


def begin(command: Command, path: str) -> None:
    """Trace the command to a file. Raises `Error` for a file that could not be written."""
    command.recording = Recording(path, command.command, _container(command))
    command.recorder = command.recording.recorder


def _container(command: Command) -> str:
    """The id of the container that a command is about: `mounts` has a verb before it."""
    return command.args[1 if command.command == "mounts" else 0]


def begin_by(command: Command, settings: TraceSettings) -> None:
    """Trace the command as ``[trace]`` of config.toml says. A directory that cannot be used is told at the end."""
    directory, suffix = settings["directory"], settings.get("format", "json")
    name = f"{_container(command)}-{command.command}-{time.time_ns() // 10**6}.{suffix}"
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        begin(command, os.path.join(directory, name))
    except (Error, OSError) as error:
        command.recording = Unwritable(f"cannot write a trace: {reason(error)}")
        return
    assert command.recording is not None
    command.recording.keep = settings.get("keep", _KEPT)


def _prune(path: str, keep: int) -> None:
    """Remove the oldest traces in the file's directory beyond ``keep``; others' files are not touched."""
    directory = os.path.dirname(path)
    found = [name for name in os.listdir(directory) if _NAME.fullmatch(name)]
    for name in sorted(found, key=lambda name: int(_NAME.fullmatch(name)[1]), reverse=True)[keep:]:  # type: ignore[index]
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, name))


def _check_place(path: str) -> None:
    directory = os.path.dirname(path)
    if os.path.isdir(path):
        raise Error(f"--trace {path}: is a directory")
    if not os.path.isdir(directory):
        raise Error(f"--trace {path}: {directory} is not a directory")
    if os.path.lexists(path) and not os.path.isfile(path):
        raise Error(f"--trace {path}: is not a regular file")
    if not os.access(directory, os.W_OK):
        raise Error(f"--trace {path}: cannot write to {directory}")


def _trace(recorder: Recorder, container: str, error: BaseException | None) -> Trace:
    recorder.mark("report" if error is None else "report the failure")
    end = recorder.marks[-1][2]
    trace = Trace(recorder.command, container, end - recorder.began, recorder.unix + recorder.began, recorder.pid)
    trace.init = recorder.init
    trace.kernel = os.uname().release
    trace.error = "" if error is None else reason(error) if isinstance(error, Exception) else str(error)
    for name, start, stop in recorder.marks:
        kind, told = (WAIT if name.startswith("wait for ") else AROUND), (stop if stop == recorder.execve else 0)
        trace.spans.append(Span(kind, RUNTIME, name, start, stop, told=told))
    for what, step, start, stop, failure in recorder.alone:
        kind, prefix = (UNDO, "undo ") if what == "undone" else (STEP, "")
        span = Span(kind, RUNTIME, prefix + step.describe(), start, stop, **_about(step))
        trace.spans.append(span if failure is None else _failed(span, failure))
    if recorder.plan is not None:
        index = {id(step): number for number, step in enumerate(recorder.plan.steps)}
        sides = {side: _Side(recorder, side, index, end) for side in recorder.sides}
        for side, lane in sides.items():
            lane.add(trace, sides[_OTHER[side]], error)
    trace.spans += _reported(recorder, end)
    _end_with(trace, end)
    for span in trace.spans:
        span.start -= recorder.began
        span.end -= recorder.began
        span.told -= recorder.began if span.told else 0
    return trace


def _end_with(trace: Trace, end: int) -> None:
    """Leave out what the container has done since the command's answer: `start` may have been called meanwhile."""
    late = [span for span in trace.spans if span.start > end]
    trace.not_run += [span.name for span in late if span.kind == STEP]
    trace.spans = [span for span in trace.spans if span.start <= end]
    for span in trace.spans:
        if span.end > end:
            span.end, span.status = end, OPEN if span.kind == WAIT else span.status


class _Side:
    """Makes the spans of one lane from the numbers that the recorder has, in the host's clock."""

    def __init__(self, recorder: Recorder, side: str, index: dict[int, int], end: int) -> None:
        self.side = side
        self.moves = recorder.sides[side].moves
        self._recorder = recorder
        self._index = index
        self._end = end
        self._stopped = recorder.stopped or end
        self._executed = recorder.execve if side == CONTAINER else 0
        lane = recorder.sides[side]
        mover = next((at for at, move in enumerate(self.moves, 1) if move.step.moves_clock()), len(self.moves) + 2)
        raw = [lane.times(position) for position in range(1, len(self.moves) + 2)]
        offset = recorder.clock_offset
        if side == CONTAINER and mover <= len(self.moves) and not offset and raw[mover - 1][ENDED]:
            jump = raw[mover - 1][ENDED] - raw[mover - 1][BEGAN]
            offset = jump if abs(jump) > _JUMP else 0  # it could not be asked for: init is gone
        offset = offset if side == CONTAINER else 0
        self.times = [_moved(times, offset, at - mover) for at, times in enumerate(raw, 1)]
        self.ready, self.went_on = (at and at - (offset if mover <= len(self.moves) else 0) for at in lane.waiting())

    def add(self, trace: Trace, other: _Side, error: BaseException | None) -> None:
        """Add them to the trace."""
        for move, (waited, began, ended, told, processor) in zip(self.moves, self.times, strict=False):
            step = move.step
            if waited:
                trace.spans.append(self._wait(other, move.wait, waited, began or self._stopped))
            if began and self.side == CONTAINER and self.ready >= began and (not ended or self.ready <= ended):
                trace.spans += self._waiting(step, began)
            elif began and ended:
                facts = {"told": told, "processor": -1 if step.filters else processor}
                trace.spans.append(self._span(step, began, ended, **facts))
            elif began and self._executed:
                trace.spans.append(self._span(step, began, self._executed, status=SEEN))
            elif began:
                trace.spans.append(self._cut(step, began, error))
            elif self._executed:  # behind the filter, where no clock is read
                trace.spans.append(self._span(step, self._executed, self._executed, status=SEEN))
            else:
                trace.not_run.append(step.describe())
        waited = self.times[-1][WAITED]
        if waited:
            name = "wait for container: everything before start"
            trace.spans.append(Span(WAIT, self.side, name, waited, self._stopped, told=other.ready))

    def _wait(self, other: _Side, awaited: int, start: int, end: int) -> Span:
        step, told = other.moves[awaited - 1].step, other.times[awaited - 1][TOLD]
        name = f"wait for {other.side}: {step.describe()}"
        return Span(WAIT, self.side, name, start, end, awaits=self._index[id(step)], told=told)

    def _waiting(self, step: Step, began: int) -> list[Span]:
        """The step in which init says that it is ready, and what it waits for then."""
        what = "wait for start" if self._recorder.command in ("create", "restore") else "wait for runtime: go on"
        status = OK if self.went_on else OPEN
        wait = Span(WAIT, self.side, what, self.ready, self.went_on or self._end, status=status)
        return [self._span(step, began, self.ready), wait]

    def _cut(self, step: Step, began: int, error: BaseException | None) -> Span:
        span = self._span(step, began, self._stopped, status=CUT)
        if isinstance(error, Error) and error.step in ("", span.name):
            _failed(span, error)
        return span

    def _span(self, step: Step, start: int, end: int, **more: object) -> Span:
        more = {**_about(step), "step": self._index[id(step)], **more}
        return Span(STEP, self.side, step.describe(), start, end, **more)


def _moved(times: list[int], offset: int, distance: int) -> list[int]:
    """The numbers of a step ``distance`` places behind the one that moves the clock, in the host's clock."""
    for number in (WAITED, BEGAN, ENDED, TOLD):
        if times[number] and (distance > 0 or (distance == 0 and number in (ENDED, TOLD))):
            times[number] -= offset
    return times


def _about(step: Step) -> dict[str, object]:
    return {"stage": step.stage, "phase": step.phase, "where": step.where, "spawns": step.spawns}


def _failed(span: Span, error: Error) -> Span:
    span.status = CUT if error.message.endswith(_DIED) else FAILED
    span.errno, span.call, span.message = error.errno, error.call, error.message
    return span


def _reported(recorder: Recorder, end: int) -> Iterator[Span]:
    """What init reported to ``start``: its steps from there to execve(2). What has not the form of it is left out."""
    rows = recorder.reported.get("steps")
    went_on = recorder.reported.get("went_on")
    if not isinstance(rows, list) or not isinstance(went_on, int):
        return
    offset = recorder.clock_offset
    executed = recorder.execve or end
    for row in rows:
        if not (isinstance(row, list) and [type(value) for value in row] == [str] * 3 + [int] * 5):
            continue
        stage, name, where = row[:3]
        began, ended = row[3 + BEGAN], row[3 + ENDED]
        if began and began < went_on:  # it is the one that waited
            continue
        start = began - offset if began else executed
        stop = ended - offset if ended else executed
        if recorder.began <= start <= stop <= end:
            status, processor = (OK, row[3 + PROCESSOR]) if ended else (SEEN, -1)
            facts = {"stage": stage, "where": where, "status": status, "processor": processor, "phase": "start"}
            yield Span(STEP, CONTAINER, name, start, stop, **facts)
