"""Join namespaces that exist already: those that config.json names by path, those of a running container.

Each is opened before any is entered; afterwards its path may lead elsewhere.
"""

from __future__ import annotations

from errno import EPERM

from gosudacon.api import ISOLATE, PREPARE, Context, Error, Step
from gosudacon.base import posix
from gosudacon.linux import namespace


class Opened:
    """Descriptors that the steps of this stage leave for each other."""

    def __init__(self) -> None:
        self.namespaces: dict[str, int] = {}  # kind -> a namespace to join
        self.root = -1  # init's root, for ``exec`` where the container has no mount namespace


class OpenNamespace(Step):
    """Open a namespace to join and check its kind, before any namespace is entered.

    Why: once one namespace is entered, the paths of the others may lead elsewhere.
    Without it: a path could be another file by the time it is needed.
    See: setns(2); runtime-spec config-linux.md, Namespaces.
    """

    phase = PREPARE
    kind: str
    path: str

    def describe(self) -> str:
        return f"open the {self.kind} namespace {self.path}"

    def run(self, context: Context) -> None:
        fd = posix.open(self.path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK | posix.O_NOCTTY)
        try:
            found = namespace.kind_of(fd)
        except OSError:
            found = 0
        if found != namespace.KINDS[self.kind][0]:
            posix.close(fd)
            raise Error(f"{self.path} is not a {self.kind} namespace", call="ioctl")
        if self.kind == "mount" and self._is_ours(fd):
            posix.close(fd)
            raise Error(f"{self.path} is the runtime's own mount namespace, whose root pivot_root(2) would change")
        context.own(Opened).namespaces[self.kind] = fd

    def _is_ours(self, fd: int) -> bool:
        ours = posix.open(namespace.namespace_path(self.kind), posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            return namespace.same(fd, ours)
        finally:
            posix.close(ours)


class Setns(Step):
    """Join a namespace opened before.

    Why: several containers may share a namespace: those of a pod share the network.
    Without it: this one would be alone in a new one, or in the host's.
    See: setns(2); namespaces(7); runtime-spec config-linux.md, Namespaces.
    """

    phase = ISOLATE
    kind: str
    path: str

    def describe(self) -> str:
        return f"setns({self.path}, {namespace.KINDS[self.kind][1]})"

    def moves_clock(self) -> bool:
        return self.kind == "time"

    def run(self, context: Context) -> None:
        fd = context.own(Opened).namespaces.pop(self.kind)
        namespace.setns(fd, namespace.KINDS[self.kind][0], self.path)
        posix.close(fd)


class SetnsForChild(Step):
    """Join a pid namespace opened before, which moves the processes that this one forks, and not itself.

    Why: a process cannot change its own pid namespace, only that of its children.
    Without it: the container's processes would not see those that they share the namespace with.
    See: setns(2); pid_namespaces(7); runtime-spec config-linux.md, Namespaces.
    """

    phase = ISOLATE
    path: str

    def describe(self) -> str:
        return f"setns({self.path}, CLONE_NEWPID): for the last fork"

    def run(self, context: Context) -> None:
        fd = context.own(Opened).namespaces.pop("pid")
        namespace.setns(fd, namespace.CLONE_NEWPID, self.path)
        posix.close(fd)


class SetnsWhatCanBe(Step):
    """Join several namespaces around a user namespace: those that belong to it only after it, the others before.

    A pid namespace is joined for the children of this process, which itself stays where the container cannot see it.

    Why: a user namespace gives rights in those that belong to it, and takes away those in all others.
    Without it: one of them could not be joined.
    See: setns(2); user_namespaces(7); runtime-spec config-linux.md, Namespaces.
    """

    phase = ISOLATE
    kinds: list[str]

    def describe(self) -> str:
        return f"setns({', '.join(self.kinds)}), in the order that privileges allow"

    def moves_clock(self) -> bool:
        return "time" in self.kinds

    def run(self, context: Context) -> None:
        fds = context.own(Opened).namespaces
        kinds = [kind for kind in self.kinds if kind != "user"]
        later = [kind for kind in kinds if not self._join(kind, fds)]
        if "user" in self.kinds:
            namespace.setns(fds["user"], namespace.CLONE_NEWUSER, "user")
        for kind in later:
            namespace.setns(fds[kind], namespace.KINDS[kind][0], kind)
        for kind in self.kinds:
            posix.close(fds.pop(kind))

    def _join(self, kind: str, fds: dict[str, int]) -> bool:
        try:
            namespace.setns(fds[kind], namespace.KINDS[kind][0], kind)
        except OSError as error:
            if error.errno != EPERM or "user" not in self.kinds:
                raise
            return False
        return True
