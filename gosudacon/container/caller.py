"""The caller of an operation: streams, terminal, environment and log, as values that an operation is given.

An operation takes none of this from the process that it runs in, so that any process with three descriptors can run
it. `Caller` holds the values; `of_process` makes those of a command line.
"""

from __future__ import annotations

import _signal

from gosudacon.base import posix
from gosudacon.base.errors import Error
from gosudacon.launcher import seal
from gosudacon.linux import process
from gosudacon.pipeline.registry import OBSERVERS
from gosudacon.pipeline.spec import Options as Options  # for the command line, too

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Protocol

    from gosudacon.pipeline.executor import RuntimeSide
    from gosudacon.pipeline.order import TraceSettings
    from gosudacon.pipeline.recorder import Recorder
    from gosudacon.pipeline.registry import Registry
    from gosudacon.pipeline.runner import Observers
    from gosudacon.pipeline.spec import Spec
    from gosudacon.pipeline.step import Context, Step

    class Tracing(Protocol):
        """The trace of a command: ``recorder`` takes the times, None if they are not wanted."""

        recorder: Recorder | None

        def wanted_by(self, settings: TraceSettings | None) -> Recorder | None:
            """The recorder, begun now if these settings of the administrator's ask for it."""

    class Log(Protocol):
        """Where warnings go, and with ``debugging`` the steps that begin."""

        debugging: bool

        def warning(self, message: str) -> None:
            """What is odd and no failure."""

        def outcome(self, message: str, hint: str) -> None:
            """How a container in the foreground has ended, for people; nothing if ``message`` is empty."""

        def debug(self, message: str) -> None:
            """What is being done."""


class Caller:
    """Who wants an operation, and what the container's process gets from there.

    ``streams``: the descriptors of standard input, output and error; ``preserved``: those that the process gets after
    them, as 3, 4, …, the first ``listening`` of which LISTEN_FDS announces (sd_listen_fds(3)). ``terminal``: the
    descriptor of the caller's terminal, for a process in the foreground that is to have one; -1: the first of standard
    error, output and input that is a terminal, else, with ``controlling``, /dev/tty. ``environment``: NOTIFY_SOCKET is
    looked for in it. ``observers``: called before and after each step, as plugins are. ``tracing``: of a command that
    may be traced.

    ``private``: what the container's process closes at once. By default that is every other descriptor that this
    process has open now; each of them must stay open until `close`, which the end of a ``with`` block calls and which
    closes what was opened since. Until then the numbers that descriptors will have in the container's process are kept
    from being used for others.

    An operation sets this process's umask for its time, and a SIGCHLD that is ignored to its default. It may block
    signals, in the foreground all of them, until `close`. Raises `Error` for a descriptor that is not open, and unless
    the interpreter is sealed.
    """

    def __init__(
        self,
        streams: tuple[int, int, int],
        log: Log,
        *,
        preserved: Sequence[int] = (),
        listening: int = 0,
        terminal: int = -1,
        controlling: bool = False,
        environment: Mapping[bytes, bytes] | None = None,
        observers: Observers = ((), ()),
        private: Sequence[int] | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        seal.require()
        self.streams = streams
        self.descriptors = [*streams, *preserved]
        self.listening = listening
        self.terminal = terminal
        self.controlling = controlling
        self.environment = environment or {}
        self.log = log
        self.tracing = tracing
        self.recorder = None if tracing is None else tracing.recorder
        self.spec: Spec | None = None  # what the operation is about, for who tells of its failure
        self.observers = _tracing(log, observers) if log.debugging else observers
        self._before: list[int] | None = None
        if private is None:
            self._before = process.descriptors()
            self._blocked = _signal.pthread_sigmask(_signal.SIG_BLOCK, ())
            private = self._others(self._before)
            process.fill_below(len(self.descriptors))
        self.private = list(private)

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what operations have left open, and unblock the signals that they have blocked.

        A command, which ends with its operation, has no use for either: what was meant for the container's process must
        not end the command before it has returned that process's status.
        """
        if self._before is not None:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, self._blocked)
            for fd in process.descriptors():
                if fd not in self._before:
                    posix.close(fd)

    def trace(self, settings: TraceSettings | None) -> None:
        """Take times from here on if the administrator wants a trace of every command."""
        if settings and self.tracing is not None:
            self.recorder = self.tracing.wanted_by(settings)

    def mark(self, name: str) -> None:
        """For a trace: what the operation has done since the last mark."""
        if self.recorder is not None:
            self.recorder.mark(name)

    def count_descriptors(self, options: Options) -> None:
        """Note in the options how many descriptors there are to pass on."""
        options.preserve_fds = len(self.descriptors) - len(self.streams)
        options.listen_fds = self.listening

    def notify_socket(self) -> str:
        """Where a service manager wants to hear that the container is ready; empty if none does."""
        return posix.fsdecode(self.environment.get(b"NOTIFY_SOCKET", b""))

    def watching(self, stages: Registry) -> Observers:
        """The observers of plugins, and the caller's own."""
        before, after = (stages.hook(name) for name in OBSERVERS)
        return [*before, *self.observers[0]], [*after, *self.observers[1]]

    def equip(self, engine: RuntimeSide) -> None:
        """Have the container's process get its descriptors, and close those that are not for it."""
        engine.inherited = self.descriptors
        engine.private = list(self.private)
        engine.recorder = self.recorder
        if _signal.getsignal(_signal.SIGCHLD) == _signal.SIG_IGN:  # the kernel would reap our children
            _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)

    def _others(self, there: list[int]) -> list[int]:
        """What is open in addition to the descriptors that are passed on, as far as these do not take its number."""
        for fd in self.descriptors:
            if fd not in there:
                raise Error(f"descriptor {fd} to pass on is not open")
        return [fd for fd in there if fd >= len(self.descriptors)]


def of_process(
    log: Log,
    log_fd: int,
    preserve: int = 0,
    listen: bool = False,
    named: Sequence[int] = (),
    tracing: Tracing | None = None,
) -> Caller:
    """The caller whose process this is: a command's, which has its streams as 0 to 2 and its environment.

    Closes what the caller leaked: close-on-exec would not do, since init waits for ``start`` before it calls execve(2).
    The log stays, and ``preserve`` more descriptors; with ``listen`` those of LISTEN_FDS (sd_listen_fds(3)), too.
    Those ``named`` stay for this process: options name them as files.
    Raises `Error` if one of these is missing.
    """
    given = posix.getenv("LISTEN_FDS") if listen else ""
    listening = 0
    if given.isascii() and given.isdigit() and posix.getenv("LISTEN_PID") == str(posix.getpid()):
        listening = int(given)
    count = preserve + listening
    kept = [fd for fd in (log_fd, *named) if fd >= 3 + count]
    _sweep(count, log_fd, kept)
    return Caller(
        (0, 1, 2),
        log,
        preserved=range(3, 3 + count),
        listening=listening,
        controlling=True,
        environment=posix.environ,
        private=[fd for fd in kept if fd == log_fd or _is_open(fd)],
        tracing=tracing,
    )


def _is_open(fd: int) -> bool:
    try:
        posix.set_inheritable(fd, False)
    except OSError:
        return False  # the option that names it will say so
    return True


def _sweep(count: int, log: int, kept: Sequence[int]) -> None:
    if 3 <= log < 3 + count:  # opened at a number that the caller says is one of those, and left free
        raise Error(f"unable to stat preserved-fd {log} (of {count})")
    process.close_from(3 + count, *kept)
    for fd in process.fill_below(3):
        posix.set_inheritable(fd, True)
    for fd in range(3, 3 + count):
        try:
            posix.set_inheritable(fd, True)
        except OSError:  # said now, before a descriptor of our own can have that number
            raise Error(f"unable to stat preserved-fd {fd} (of {count})") from None


def _tracing(log: Log, observers: Observers) -> Observers:
    """With what logs each step that begins; on the container's side the log is closed."""

    def trace(step: Step, context: Context) -> None:
        if context.side == "runtime":
            log.debug(f"{step.stage}: {step.describe()}")

    return [*observers[0], ("--debug", trace)], observers[1]
