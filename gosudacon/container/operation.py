"""What ``create``, ``run``, ``exec`` and ``restore`` have in common: one transaction around the plan that each runs.

Prepare, run the plan, publish (terminal, pid file), start or hand over, wait in the foreground; undo all of it if any
of that fails. What differs is the `Work` of each, in `gosudacon.container.create`, ``exec`` and ``criu.restore``.
"""

from __future__ import annotations

from _stat import S_ISREG

from gosudacon.base import interrupt, posix
from gosudacon.base.errors import Error
from gosudacon.linux import process, sched

_DESCRIPTORS = 1024  # for undoing, which holds a batch of pidfds where it has to kill

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from gosudacon.container.caller import Caller
    from gosudacon.container.notify import Notifier
    from gosudacon.container.state import Container
    from gosudacon.container.terminal import Terminal
    from gosudacon.pipeline.registry import Listeners
    from gosudacon.pipeline.spec import Spec
    from gosudacon.pipeline.step import Context

    class Work(Protocol):
        """A plan that is ready to be run, and what this process then holds of the container."""

        caller: Caller
        spec: Spec
        context: Context
        container: Container
        makes_container: bool  # which goes when its process ends in the foreground
        told: Listeners  # plugins that want to know how it has ended

        def run(self) -> None:
            """Run the plan up to where the process waits to be let go."""

        def master(self) -> int:
            """The process's terminal for a caller in the foreground; -1 if it has none."""

        def commit(self) -> None:
            """Let the process go; it outlives this one from here on."""

        def warnings(self) -> list[str]:
            """What stages and steps have to say about the configuration, when all has gone well."""

        def abort(self) -> list[Error]:
            """Undo everything that `run` and `commit` have done, as far as they came; returns what could not be."""

        def release(self) -> None:
            """Let others change the container."""

        def close(self) -> None:
            """Give up what this process still holds."""


class Operation:
    """One transaction. `run` carries it out whole; ``pid`` is then the process's.

    For a container in the foreground: with ``keep`` it stays when its process has ended; without ``subreaper`` its
    orphans are not this process's to collect, and neither are other children of this process.

    ``take_terminal``: called with the master of a terminal that the process has, for a caller that does not wait.
    """

    def __init__(
        self,
        work: Work,
        keep: bool = False,
        subreaper: bool = True,
        take_terminal: Callable[[int], None] | None = None,
    ) -> None:
        if take_terminal is None:
            _check_console(work.spec)  # of a process that is valid: planning has checked it
        self._take_terminal = take_terminal
        self._work = work
        self._keep = keep or not work.makes_container
        self._subreaper = subreaper and work.makes_container
        self._caller = work.caller
        self._terminal: Terminal | None = None
        self._notifier: Notifier | None = None

    @property
    def pid(self) -> int:
        """The container's process as this process sees it; 0 before there is one."""
        return self._work.context.pid

    def run(self) -> int:
        """Carry it out. Returns the exit status of a process in the foreground, else 0.

        Raises `Error` or OSError; everything has then been undone.
        """
        try:
            if self._work.spec.options.foreground:
                return self._in_foreground()
            self._launch()
            if self._notifier is not None:
                self._work.release()
                self._notifier.wait(self._work.container)
            return 0
        finally:
            if self._notifier is not None:
                self._notifier.close()
            self._work.close()

    def _in_foreground(self) -> int:
        from gosudacon.container import foreground

        if not self._keep:
            from gosudacon.container import delete  # noqa: F401 - at the end the package may be another one

        host = foreground.prepare(self._caller, self._work.spec, self._subreaper)
        self._launch(host)
        self._work.release()
        end = foreground.wait(self.pid, self._terminal, self._notifier, self._subreaper)
        self._caller.mark("wait for the process to end")
        if end and self._work.makes_container:
            self._say_why(end)
        if self._notifier is not None and self._notifier.failure is not None:
            self._caller.log.warning(self._notifier.failure.message)
        if self._work.told:
            foreground.tell(self._work, end)
        if not self._keep:
            for warning in foreground.finish(self._work.container, self._caller.recorder):
                self._caller.log.warning(warning.message)
        return process.exit_status(end)

    def _say_why(self, end: int) -> None:
        """Say what killed a container, if that is not plain from its status (wait(2))."""
        try:
            from gosudacon.container import ended

            why = ended.why(end, self._work.spec, self._work.context.cgroups)
        except Exception:  # noqa: BLE001 - after days the package may be another one; the status is what counts
            return
        self._caller.log.outcome(*why)

    def _launch(self, host: int = -1) -> None:
        """Run the plan, tell of the process, let it go. ``host``: the terminal of a caller in the foreground."""
        work = self._work
        try:
            work.run()
            self._listen()
            self._attach(host)
            path = work.spec.options.pid_file
            if path:
                write_pid_file(path, work.context.pid)
            self._caller.mark("publish: terminal, pid file")
            work.commit()
            self._caller.mark("let the process go")
            # Not before all has gone well: Podman takes the record of a failure for the whole log.
            for message in work.warnings():
                self._caller.log.warning(message)
        except BaseException as error:
            failures = self._abort()
            if failures and isinstance(error, Error):
                error.hint = f"{failures[0].message}; delete --force {work.spec.id} tries again"
            raise

    def _abort(self) -> list[Error]:
        """The one place where an operation that fails is undone; what could not be undone is returned.

        Nothing of what made it fail gets in the way: neither more signals nor a limit on descriptors.
        """
        interrupt.defer()
        sched.allow_descriptors(_DESCRIPTORS)
        try:
            return self._work.abort()
        finally:
            if self._terminal is not None:
                self._terminal.finish()

    def _listen(self) -> None:
        """Listen for the container's readiness where its start is part of this and a service manager wants to know."""
        options = self._work.spec.options
        if options.run and options.notify_directory:
            from gosudacon.container import notify

            self._notifier = notify.listen(self._work.container.store, self._caller.notify_socket())

    def _attach(self, host: int) -> None:
        """Join the process's terminal to the caller's, or hand it over."""
        if not (self._work.spec.options.foreground or self._take_terminal):
            return
        master = self._work.master()
        if master >= 0 and self._take_terminal is not None:
            self._take_terminal(master)
        elif master >= 0:
            from gosudacon.container.terminal import Terminal

            self._terminal = Terminal(master, host, self._caller.streams)


def _check_console(spec: Spec) -> None:
    """Raise `Error` if the process has a terminal and the caller cannot take it."""
    terminal, socket = spec.process.get("terminal"), spec.options.console_socket
    foreground = spec.options.foreground
    if terminal and not socket and not foreground:
        raise Error("cannot allocate tty if gosudacon will detach without setting console socket")
    if socket and (foreground or not terminal):
        raise Error("cannot use console socket if gosudacon will not detach or allocate tty")


def _is_special(path: str) -> bool:
    try:
        return not S_ISREG(posix.stat(path).st_mode)
    except OSError:
        return False


def write_pid_file(path: str, pid: int) -> None:
    """The pid in decimal without a newline, written aside and renamed: callers read it as soon as they see it.

    What is not a regular file (``/dev/fd/3``, a FIFO) is written to, and stays what it is.
    """
    if posix.descriptor(path) >= 0 or _is_special(path):
        from gosudacon.base import pipes

        pipes.write(path, b"%d" % pid)
        return
    directory, name = posix.path.split(path)
    temporary = posix.path.join(directory, f".{name}")
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC
    try:
        fd = posix.open(temporary, flags, 0o644)
    except FileExistsError:  # of a create that was killed here
        posix.unlink(temporary)
        fd = posix.open(temporary, flags, 0o644)
    try:
        try:
            posix.write_all(fd, b"%d" % pid, path)
        finally:
            posix.close(fd)
        posix.rename(temporary, path)
    except BaseException:
        posix.unlink(temporary)
        raise
