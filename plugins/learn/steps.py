"""The steps of stage ``learn``. What works on the kernel is imported when it runs: explaining needs none of it."""

from __future__ import annotations

import fcntl
from errno import ECONNREFUSED, ENOENT

from gosudacon.api import CONFINE, PREPARE, START, Context, Error, Rank, Step, StepError
from gosudacon.base import layout, posix

_PATIENCE = 10.0  # seconds for a recorder to write and to end
_SYS_ADMIN = 1 << 21  # CAP_SYS_ADMIN (capabilities(7))
_INSIDE = "gosudacon.linux.notify_all"


class Recording:
    """What the steps leave for each other: the connection to the recorder, -1 if the container has none."""

    def __init__(self) -> None:
        self.connection = -1


class StartRecorder(Step):
    """Start the process that answers for the container's system calls, and writes down which there were.

    ``profile`` is the file that it writes, or merges with unless ``anew``.

    Why: which system calls a program makes is known when it has made them, and the kernel asks about each.
    Without it: no process would answer, and every call would fail.
    See: seccomp_unotify(2); docs/learn.md.
    """

    phase = PREPARE
    lasts = True
    recorded_as = ("learn.start-recorder", 1)
    modules = ("gosudacon.plugins.learn.daemon", "gosudacon.plugins.learn.files", "select", "signal")
    profile: str
    anew: bool

    def describe(self) -> str:
        return f"start a recorder of system calls, which {'writes' if self.anew else 'adds to'} {self.profile}"

    def run(self, context: Context) -> None:
        import socket

        from gosudacon.api import SyscallNames, listener
        from gosudacon.plugins.learn import daemon, files, supervisor

        files.check(self.profile, self.anew)
        names = SyscallNames(listener.library())
        source = context.spec.plain().get("linux", {}).get("seccomp") or None
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        output = files.Output(self.profile, self.anew, source)
        job = supervisor.Job(context.spec.id, context.seccomp_program, names, output)
        try:
            daemon.start(job, theirs, context.state_dir)
        finally:
            theirs.close()
            output.close()
        answer = mine.recv(4096)
        if answer != supervisor.READY:
            mine.close()
            raise StepError(answer.decode(errors="replace") or "the recorder died at once")
        context.own(Recording).connection = fd = mine.detach()
        context.spared += (fd,)

    def undo(self, context: Context) -> None:
        """End the recorder; it writes what it has. One that was killed, or has ended with the container, is fine."""
        import select
        import signal

        try:
            note = posix.open(
                layout.LEARN_NOTE, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=context.state_dir
            )
        except FileNotFoundError:
            return
        try:
            pid = posix.read(note, 32).strip()
            pidfd = posix.pidfd_open(int(pid)) if pid.isdigit() else -1
        except ProcessLookupError:
            posix.close(note)
            return
        try:
            for number in (signal.SIGTERM, signal.SIGKILL):
                if pidfd < 0 or _lock(note):
                    return  # another process has that number now
                signal.pidfd_send_signal(pidfd, number)
                if select.select([pidfd], [], [], _PATIENCE)[0]:
                    return
            raise Error(f"the recorder of system calls, process {int(pid)}, does not end")
        except ProcessLookupError:
            return
        finally:
            for fd in (note, pidfd):
                if fd >= 0:
                    posix.close(fd)


class FindRecorder(Step):
    """Connect to the container's recorder for a process that is executed in it, if it has one.

    Why: what is executed in a container needs the container's profile, too.
    Without it: the profile would lack what only `exec` does.
    See: unix(7); docs/learn.md.
    """

    phase = PREPARE
    modules = ("socket",)

    def describe(self) -> str:
        return "connect to the container's recorder of system calls"

    def run(self, context: Context) -> None:
        import socket

        peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            peer.connect(f"/proc/self/fd/{context.state_dir}/{layout.LEARN_SOCKET}")
        except OSError as error:
            peer.close()
            if error.errno == ENOENT:
                return  # the container was made without one
            if error.errno == ECONNREFUSED:
                hint = "nothing in it works any more: make the container again"
                raise StepError("the recorder of this container's system calls is gone", hint=hint) from None
            raise
        context.own(Recording).connection = fd = peer.detach()
        context.spared += (fd,)


class HoldSysAdmin(Step):
    """Keep CAP_SYS_ADMIN until the filter is loaded; execve(2) takes it away.

    Why: without no_new_privs only CAP_SYS_ADMIN loads a filter, and the container's user need not have it.
    Without it: the kernel would refuse the filter.
    See: seccomp(2); capabilities(7).
    """

    phase = CONFINE

    def describe(self) -> str:
        return "hold CAP_SYS_ADMIN until the filter that asks is loaded"

    def run(self, context: Context) -> None:
        context.held_capabilities |= _SYS_ADMIN


class LendProfile(Step):
    """Have each startContainer hook load the container's own filter: hooks are not recorded.

    Why: such a hook runs with the container's rights, and is not part of the program.
    Without it: hooks would run without a filter.
    See: seccomp(2); runtime-spec config.md, POSIX-platform Hooks.
    """

    phase = START
    rank = Rank.LAY_OUT
    modules = (_INSIDE, "gosudacon.linux.seccomp")
    flags: list[str]

    def describe(self) -> str:
        return "have startContainer hooks load the seccomp filter"

    def run(self, context: Context) -> None:
        from gosudacon.api import flag_bits, load_filter

        program, flags = context.seccomp_program, flag_bits(self.flags)

        def confine() -> None:
            load_filter(program, flags)

        context.confine = confine


class LoadRecorder(Step):
    """Put this process under a filter that asks the recorder about every system call, which knows the profile.

    Instead of the profile's own: of two filters the stricter answer counts, and what one refuses the
    recorder would not be told of. A process of a container without a recorder loads the profile's.

    Why: the kernel asks about a call only where a filter says so.
    Without it: no call would be recorded.
    See: seccomp(2); seccomp_unotify(2); docs/learn.md.
    """

    phase = START
    rank = Rank.FILTER
    filters = True
    failing = "unable to init seccomp: error loading seccomp filter into kernel"
    modules = (_INSIDE, "gosudacon.linux.seccomp")
    flags: list[str]

    def describe(self) -> str:
        return "load a filter that asks the recorder about every system call"

    def run(self, context: Context) -> None:
        from gosudacon.api import flag_bits, load_filter, notify_all

        connection = context.own(Recording).connection
        flags = flag_bits(self.flags)
        if connection >= 0:
            notify_all(connection, flags)
        elif context.seccomp_program:
            load_filter(context.seccomp_program, flags)


def _lock(note: int) -> bool:
    try:
        fcntl.flock(note, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
