"""The container's terminal: from its own devpts, on /dev/console, its master handed to the caller."""

from __future__ import annotations

from gosudacon.api import CONFINE, MOUNT, PREPARE, Context, Spec, Step
from gosudacon.base import posix
from gosudacon.linux import console, mount, path
from gosudacon.stages.rootfs_mount.filesystem import BY_DESCRIPTOR, Held

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

DEVPTS = "/dev/pts"


class ConnectConsole(Step):
    """Connect to the caller's console socket, while its path is in reach: `Held.console`.

    Why: the caller waits at a socket for the terminal's master, and its path is the host's.
    Without it: the output of the program would be lost.
    See: unix(7); runtime-spec config.md, Process.
    """

    phase = PREPARE
    path: str

    def describe(self) -> str:
        return f"connect to the console socket {self.path}"

    def run(self, context: Context) -> None:
        context.own(Held).console = console.connect(self.path)


class PairConsole(Step):
    """A connection between the two sides: `Held.console` is init's end, `Context.console_peer` the runtime's.

    Why: the command in the foreground reads and writes the terminal's master.
    Without it: the output of the program would be lost.
    See: unix(7); socketpair(2).
    """

    phase = PREPARE

    def describe(self) -> str:
        return "make a socket pair to pass the terminal over"

    def run(self, context: Context) -> None:
        context.own(Held).console, context.console_peer = console.socketpair()


class OpenRoot(Step):
    """The root that this process has entered, as the one in which the terminal is looked for.

    Why: the container is looked at through descriptors only.
    Without it: a path could be a link that leads elsewhere.
    See: openat2(2).
    """

    phase = MOUNT

    def describe(self) -> str:
        return "open the container's root"

    def run(self, context: Context) -> None:
        context.root = posix.open("/", posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)


class OpenTerminal(Step):
    """Allocate a terminal in the container's devpts, by descriptors only, and mount it on /dev/console.

    Why: the terminal must be one of the container's own devpts, or its programs cannot find its name.
    Without it: the program would have no terminal, or one of the host's.
    See: pts(4); openat2(2); runtime-spec config.md, Process.
    """

    phase = MOUNT
    where = "process.terminal"
    height: int
    width: int
    console: bool
    devpts: str  # the place in config.json of the mount that the terminal comes from, where it was kept

    def describe(self) -> str:
        size = f" of {self.height} rows, {self.width} columns" if self.height or self.width else ""
        place = ", mount it on /dev/console" if self.console else ""
        return f"allocate a terminal{size} in {DEVPTS}{place}"

    def run(self, context: Context) -> None:
        devpts = context.own(Held).mounts.pop(self.devpts, -1)
        if devpts < 0:
            devpts = path.open_in_root(context.root, DEVPTS, posix.O_PATH | posix.O_DIRECTORY)
        try:
            master, slave = console.allocate(devpts)
        finally:
            posix.close(devpts)
        context.own(Held).terminal = (master, slave)
        if self.height or self.width:
            console.set_size(master, self.height, self.width)
        if self.console:
            self._mount(context, slave)

    def _mount(self, context: Context, slave: int) -> None:
        directory = path.mkdir_in_root(context.root, "/dev")
        try:
            below = path.create_file(directory, "console", 0o600)
        finally:
            posix.close(directory)
        try:
            if context.host.kernel < BY_DESCRIPTOR:
                source, target = f"/proc/self/fd/{slave}", f"/proc/self/fd/{below}"
                mount.mount(source, target, None, mount.MS_BIND, about="/dev/console")
                return
            fd = mount.clone_tree(slave, about="/dev/console")
            try:
                mount.move_mount(fd, below, about="/dev/console")
            finally:
                posix.close(fd)
        finally:
            posix.close(below)


class SetTerminal(Step):
    """Send the master away and make the slave the standard streams and, if it is to be, this session's terminal.

    Why: a shell wants a controlling terminal, for Ctrl-C and for jobs.
    Without it: it would complain that there is no job control, and Ctrl-C would do nothing.
    See: ioctl_tty(2); setsid(2); runtime-spec config.md, Process.
    """

    phase = CONFINE
    where = "process.terminal"
    control: bool  # a process that is born later has a session of its own then

    def describe(self) -> str:
        return "send the terminal's master; " + ("TIOCSCTTY, " if self.control else "") + "dup2 to 0, 1 and 2"

    def run(self, context: Context) -> None:
        held = context.own(Held)
        (master, slave), connection = held.terminal, held.console
        held.console = -1
        try:
            console.send(connection, master, f"{DEVPTS}/{console.number(master)}")
            if self.control:
                console.control(slave)
            console.take(slave)
        finally:
            for fd in (connection, master, slave):
                posix.close(fd)


def plan_terminal(spec: Spec, console: bool) -> Iterator[Step]:
    """The steps for ``process.terminal``; ``console``: it can be mounted on /dev/console."""
    yield _connection(spec)
    yield _open(spec, console)
    yield SetTerminal(control=not spec.joins_pid_namespace)


def plan_exec_terminal(spec: Spec) -> Iterator[Step]:
    """The steps for the terminal of another process; /dev/console stays the first one's."""
    yield _connection(spec)
    yield OpenRoot()
    yield _open(spec, console=False)
    yield SetTerminal(control=not spec.joins_pid_namespace)


def _connection(spec: Spec) -> Step:
    if spec.options.console_socket:
        return ConnectConsole(path=spec.options.console_socket, where="process.terminal")
    return PairConsole(where="process.terminal")


def _open(spec: Spec, console: bool) -> OpenTerminal:
    size = spec.process.get("consoleSize") or {}
    height, width = size.get("height") or 0, size.get("width") or 0
    devpts = _devpts(spec) if console else ""
    return OpenTerminal(height=min(height, 65535), width=min(width, 65535), console=console, devpts=devpts)


def _devpts(spec: Spec) -> str:
    for index, entry in reversed([*enumerate(spec.config.get("mounts") or ())]):
        if mount.normal(entry["destination"]) == DEVPTS and entry.get("type") == "devpts":
            return f"mounts[{index}]"
    return ""
