"""The last fork of a process into a pid namespace that has other processes.

The kernel moves only children into a pid namespace (pid_namespaces(7)). So the process stays where the container cannot
see it until root, descriptors, user, capabilities, limits and, if the profile allows what follows, the seccomp filter
are the container's. Only then it forks, and what its new neighbours see can do nothing that they could not.
"""

from __future__ import annotations

from errno import ENOMEM

from gosudacon.api import CONFINE, Context, Rank, Spec, Step
from gosudacon.base import posix
from gosudacon.base.errors import StateError, SyscallError
from gosudacon.linux import memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class ForkConfined(Step):
    """Fork: the child is born into the pid namespace that was joined, as confined as its neighbours.

    They may read its memory, from which the caller's environment and arguments are gone by then.

    Why: processes that are in the pid namespace already could trace one that is not confined yet.
    Without it: a neighbour could take over the runtime's process, and with it the host.
    See: pid_namespaces(7); ptrace(2).
    """

    phase = CONFINE
    by = CONFINE
    rank = Rank.BIRTH
    forks = True
    kinds: list[str]

    def describe(self) -> str:
        return f"fork: the process is born into the {' and '.join(self.kinds)} namespace"

    def moves_clock(self) -> bool:
        return "time" in self.kinds

    def run(self, context: Context) -> None:
        assert context.engine is not None
        memory.forget_caller(b"gosudacon init")
        try:
            context.engine.fork(confined=True)
        except SyscallError as error:
            if error.errno != ENOMEM:  # the kernel's answer for a pid namespace whose init has ended
                raise
            what = "cannot exec in a stopped container" if context.spec.target else "the pid namespace has no init"
            raise StateError(what, call="clone", errno=ENOMEM) from None


class NewSession(Step):
    """Lead a session, which a fork does not pass on; with a terminal, make standard input that of the session.

    Why: a session has its own terminal and its own signals from it.
    Without it: Ctrl-C at the caller's terminal would reach the process, and it could type into that terminal.
    See: setsid(2); tty(4).
    """

    phase = CONFINE
    rank = Rank.BORN
    terminal: bool

    def describe(self) -> str:
        return "setsid()" + ("; TIOCSCTTY" if self.terminal else "")

    def run(self, context: Context) -> None:
        posix.setsid()
        if self.terminal:
            from gosudacon.linux import console  # there since `rootfs-mount` has opened the terminal

            console.control(0)


def plan_birth(spec: Spec, kinds: list[str]) -> Iterator[Step]:
    """The steps of the last fork; ``kinds``: the namespaces that the child enters by it."""
    yield ForkConfined(kinds=kinds)
    yield NewSession(terminal=bool(spec.process.get("terminal")))
