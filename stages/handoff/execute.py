"""From the wait for ``start`` to execve(2): sockets, look-ups, limits, descriptors."""

from __future__ import annotations

from _signal import SIGHUP, SIGINT, SIGTERM
from _stat import S_ISDIR, S_ISLNK

from gosudacon.api import CONFINE, PREPARE, RUNTIME, START, Context, Error, Rank, Step, StepError
from gosudacon.base import layout, posix
from gosudacon.base.errors import SyscallError, reason
from gosudacon.linux import abi, process, sched

_BACKLOG = 1

_execve = abi.syscall("execve", abi.PATH, abi.BUFFER, abi.BUFFER)


class Program:
    """What is known of the container's program, and at last what execve(2) gets."""

    path: str
    encoded: bytes
    strings: tuple[list[bytes], list[bytes]]  # what the two arrays point to
    argv: bytearray
    envp: bytearray

    def __init__(self) -> None:
        self.home: str | None = None  # of its user; None if the environment says it
        self.entered = False  # the working directory


class Listen(Step):
    """The socket on which init waits for ``start``; its file's presence is what makes a container `created`.

    Why: create and start are two commands, and init must wait in between.
    Without it: the program would run before its network is set up.
    See: unix(7); runtime-spec runtime.md, Lifecycle.
    """

    phase = PREPARE

    def describe(self) -> str:
        return f"listen on {layout.START_SOCKET} in the state directory"

    def run(self, context: Context) -> None:
        import _socket

        listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
        listener.bind(f"/proc/self/fd/{context.state_dir}/{layout.START_SOCKET}")
        listener.listen(_BACKLOG)
        context.start_listener = listener


class CheckDescriptors(Step):
    """Descriptors that the caller wants passed on must be there.

    Why: the caller says how many descriptors the program gets, and each must be open.
    Without it: the program would find a closed descriptor, or another file.
    See: fstat(2).
    """

    phase = PREPARE
    first: int
    count: int

    def describe(self) -> str:
        return f"check the descriptors {self.first} to {self.first + self.count - 1} to pass on"

    def run(self, context: Context) -> None:
        for number in range(self.first, self.first + self.count):
            try:
                posix.fstat(number)
            except OSError:
                raise Error(f"unable to stat preserved-fd {number} (of {self.count})") from None


class SetRlimits(Step):
    """Resource limits, set by the runtime, which may raise them, once init has little left to do under them.

    Why: limits of a process, such as its number of open files, are inherited from the caller.
    Without it: they would be those of the caller of the runtime.
    See: prlimit(2); runtime-spec config.md, POSIX process.
    """

    phase = CONFINE
    failing = "error setting rlimits"
    side = RUNTIME
    either_side = True
    by = CONFINE
    rank = Rank.LIMITS  # before the change of user, after which prlimit(2) needs CAP_SYS_RESOURCE
    where = "process.rlimits"
    limits: list[list[int | str]]

    def describe(self) -> str:
        shown = ", ".join(f"{kind} {_limit(soft)}/{_limit(hard)}" for kind, soft, hard in self.limits)
        return f"prlimit: {shown}"

    def run(self, context: Context) -> None:
        for kind, soft, hard in self.limits:
            sched.prlimit(context.pid, sched.RLIMITS[str(kind)], int(soft), int(hard), about=str(kind))


class LookUp(Step):
    """Find the program as the container's user, so that ``create`` reports what cannot be executed.

    ``outside``: the process is not in its pid namespace yet, and /proc/self leads nowhere: execve(2) will tell.

    Why: an error at `create` is reported to the caller; many callers expect none at `start`.
    Without it: a mistyped program would be noticed when the container starts.
    See: execve(2); runtime-spec config.md, Process.
    """

    phase = CONFINE
    rank = Rank.LOOK_UP
    where = "process.args[0]"
    name: str
    search_path: str
    outside: bool

    def describe(self) -> str:
        return f"find the program {self.name}"

    def run(self, context: Context) -> None:
        context.own(Program).path = self._find()

    def _find(self) -> str:
        if "/" in self.name:
            problem = _problem(self.name)
            if problem and not (self.outside and _may_be_of_proc(self.name)):
                raise Error(f'exec: "{self.name}": {problem}', call="execve")
            return self.name
        for directory in self.search_path.split(":") if self.search_path else ():
            path = f"{directory or '.'}/{self.name}"
            if not _problem(path):  # a file without the x bit is passed over, as a shell does
                return path
        raise Error(f'exec: "{self.name}": executable file not found in $PATH', call="execve")


class WaitForStart(Step):
    """Created: wait until ``start`` is called.

    Why: engines set up network and storage between create and start.
    Without it: the program would run at once.
    See: runtime-spec runtime.md, Start.
    """

    phase = START

    def describe(self) -> str:
        return "wait for start"

    def run(self, context: Context) -> None:
        assert context.engine is not None
        context.engine.ready()


class RestoreSignals(Step):
    """Default dispositions and an empty mask: Python ignores SIGPIPE and SIGXFSZ, callers may ignore or block more.

    Why: dispositions and masks survive execve(2), and those of the runtime are not the program's.
    Without it: a program might never see SIGPIPE, or ignore SIGTERM.
    See: signal(7); execve(2).
    """

    phase = CONFINE
    rank = Rank.LOOK_UP
    waits: bool  # for start: the first process of a pid namespace ends on a signal only if it handles it

    def describe(self) -> str:
        return "default signal dispositions, none blocked" + ("; SIGHUP, SIGINT, SIGTERM end it" if self.waits else "")

    def run(self, context: Context) -> None:
        process.restore_signals()
        if self.waits:
            process.end_on((SIGHUP, SIGINT, SIGTERM))  # until execve(2), which takes handlers away


class WaitForRuntime(WaitForStart):
    """Wait until the runtime has told the caller who this process is.

    Why: the caller must know the pid before the process can end.
    Without it: a short process would be over before its pid file is written.
    See: unix(7).
    """

    def describe(self) -> str:
        return "wait until the runtime has written the pid file"


class CloseDescriptors(Step):
    """Close every descriptor that is not the container's; what the engine needs closes itself at execve.

    Why: an open directory of the host is a way out of the container (CVE-2024-21626).
    Without it: the program could reach the host through what the runtime or its caller left open.
    See: close_range(2).
    """

    phase = CONFINE
    rank = Rank.CLOSE
    first: int

    def describe(self) -> str:
        return f"close_range({self.first}, ~0)"

    def run(self, context: Context) -> None:
        assert context.engine is not None
        process.close_from(self.first, *context.engine.descriptors(), *context.spared)


class Execve(Step):
    """Become the container's process.

    Why: here the runtime ends, and the container's program takes over its process.
    Without it: there would be a well-made container with nothing in it.
    See: execve(2); runtime-spec config.md, Process.
    """

    phase = START
    rank = Rank.EXECVE
    where = "process.args"
    args: list[str]

    def describe(self) -> str:
        return f"execve({' '.join(self.args)})"

    def run(self, context: Context) -> None:
        program = context.own(Program)
        try:
            _execve(program.encoded, program.argv, program.envp, about=self.args[0])
        except SyscallError as error:
            text = reason(SyscallError(error.errno or 0, "exec", program.path))
            raise StepError(text, call="execve", errno=error.errno or 0) from None
        raise AssertionError("execve(2) returned")


class PrepareExecve(Step):
    """Lay out path, arguments and environment in memory, so that between the filter and execve(2) nothing is called.

    Why: behind the seccomp filter every system call may be forbidden, even one for memory.
    Without it: a strict filter would kill the runtime before it executes the program.
    See: execve(2); environ(7); runtime-spec config.md, Process.
    """

    phase = START
    rank = Rank.LAY_OUT
    args: list[str]
    environment: list[str]
    listening: bool  # LISTEN_PID is to be set: it names the process that may use LISTEN_FDS (sd_listen_fds(3))

    def describe(self) -> str:
        entries = "entry" if len(self.environment) == 1 else "entries"
        arguments = "argument" if len(self.args) == 1 else "arguments"
        return f"lay out {len(self.args)} {arguments} and {len(self.environment)} environment {entries}"

    def details(self) -> list[str]:
        return [*(f"[{number}] {each}" for number, each in enumerate(self.args)), *self.environment]

    def run(self, context: Context) -> None:
        environment = list(self.environment)
        program = context.own(Program)
        if program.home is not None:
            environment = [entry for entry in environment if entry != "HOME="] + [f"HOME={program.home}"]
        if self.listening:
            environment.append(f"LISTEN_PID={posix.getpid()}")
        program.encoded = posix.fsencode(program.path)
        program.strings = [posix.fsencode(text) for text in self.args], [posix.fsencode(text) for text in environment]
        context.environment = {name: value for name, _, value in (each.partition(b"=") for each in program.strings[1])}
        program.argv, program.envp = (abi.pointers(strings) for strings in program.strings)


def _may_be_of_proc(name: str) -> bool:
    """Whether a path that leads nowhere may do so for lack of /proc/self: it names /proc, or a link that dangles."""
    try:
        posix.stat(name)
    except FileNotFoundError:
        return name.startswith("/proc/") or _is_link(name)
    except OSError:
        return False
    return False


def _is_link(path: str) -> bool:
    try:
        return S_ISLNK(posix.lstat(path).st_mode)
    except OSError:
        return False


def _problem(path: str) -> str:
    try:
        mode = posix.stat(path).st_mode
    except OSError as error:
        text = posix.strerror(error.errno or 0)
        return f"stat {path}: {text[:1].lower()}{text[1:]}"
    if S_ISDIR(mode):
        # execve(2) says EACCES; callers that do not know "is a directory" make an exit status of 126 of that.
        return "is a directory: permission denied"
    try:
        executable = posix.access(path, posix.X_OK, effective_ids=True)
    except SyscallError:
        executable = False
    return "" if executable else "permission denied"


def _limit(value: int | str) -> str:
    return "infinity" if value == (1 << 64) - 1 else str(value)
