"""A proc filesystem of a pid namespace that is joined, made by a process that is not in it.

proc shows the pid namespace of the process that mounts it, unless it is told another one, which Linux 6.17 can be.
On older kernels a helper is born into the namespace, where the container may get hold of it. It has an empty root, a
socket and CAP_SYS_ADMIN, and a seccomp filter lets it make filesystems without options or source, and nothing else.
"""

from __future__ import annotations

import sys
from errno import EPERM

from gosudacon.api import ISOLATE, Context, Host, Step, StepError
from gosudacon.base import posix
from gosudacon.linux import abi, capability, console, memory, mount, namespace, process, seccomp
from gosudacon.stages.namespaces.join import Opened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

OPTION_PIDNS = (6, 17)
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CALLS = ("fsopen", "fsmount", "sendmsg", "close", "brk", "mmap", "munmap", "clone", "wait4", "exit_group")
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _EPERM, _KILL = 0x7FFF0000, 0x00050000 | EPERM, 0x80000000
_OF_NUMBER, _OF_ARCHITECTURE, _OF_SECOND_ARGUMENT = 0, 4, 24  # in struct seccomp_data, linux/seccomp.h


class MakeProc(Step):
    """Make it before the namespaces are entered; `rootfs-mount` attaches copies, of `Context.proc_of_others`.

    Why: proc shows the pid namespace of the process that mounts it, and this process is not in it.
    Without it: /proc would show the host's processes.
    See: proc(5); pid_namespaces(7).
    """

    phase = ISOLATE
    helper: bool

    def describe(self) -> str:
        how = "by a helper in it" if self.helper else "pidns="
        return f"make a proc filesystem of the pid namespace to join ({how})"

    def run(self, context: Context) -> None:
        fd = context.own(Opened).namespaces["pid"]
        context.proc_of_others = by_helper(fd) if self.helper else mount.new_proc(fd)


def plan_proc(host: Host) -> Step:
    """The step for a container that joins a pid namespace and mounts proc."""
    return MakeProc(helper=host.kernel < OPTION_PIDNS)


def by_helper(pid_namespace: int) -> int:
    """A detached proc mount of the namespace, made by a process that is born in it.

    Raises `StepError` if the helper fails, or sends something else: those it is born among may have made it do so.
    """
    ours, theirs = console.socketpair()
    pid = namespace.clone(0)
    if pid == 0:
        _help(pid_namespace, theirs)
    posix.close(theirs)
    try:
        made = console.receive(ours, "proc filesystem")
    except OSError as error:
        raise StepError(f"the helper that makes proc failed: {posix.strerror(error.errno or 0)}") from None
    finally:
        posix.close(ours)
        posix.waitpid(pid, 0)
    if mount.filesystem_type(made) != mount.PROC_SUPER_MAGIC:
        posix.close(made)
        raise StepError("the helper that makes proc has sent something else")
    return made


def _help(pid_namespace: int, connection: int) -> NoReturn:
    """In a process of its own: give up everything but what it takes to mount, then fork into the namespace."""
    try:
        process.set_dumpable(False)
        memory.forget_caller(b"gosudacon proc")
        namespace.setns(pid_namespace, namespace.CLONE_NEWPID, "pid")
        _enter_empty_root()
        for fd in range(3):
            posix.close(fd)
        process.close_from(3, connection)
        admin = 1 << capability.NUMBERS["CAP_SYS_ADMIN"]
        capability.set_caps(admin, admin, 0)
        process.set_no_new_privs()
        seccomp.load(_filter())
        pid = namespace.clone_child()
        if pid == 0:
            console.send(connection, mount.new_filesystem("proc", {}), "proc")
            posix._exit(0)
        posix.waitpid(pid, 0)
    finally:
        posix._exit(1)


def _enter_empty_root() -> None:
    """Make an empty filesystem the root. It is attached to nothing, so no ".." leads out of it.

    A directory of the host would not do: who follows /proc/PID/root walks on from there by its own root's rules.
    """
    empty = mount.new_filesystem("tmpfs", {"mode": "0555"}, mount.MOUNT_ATTR_RDONLY)
    posix.chdir(empty)
    mount.chroot(".")


def _filter() -> bytes:
    """`_CALLS`, and fsconfig(2) to create what was opened; EPERM for everything else."""
    program = [
        (_LOAD, 0, 0, _OF_ARCHITECTURE),
        (_JUMP_IF_EQUAL, 1, 0, _ARCHITECTURES[abi.MACHINE]),
        (_RETURN, 0, 0, _KILL),
    ]
    program.append((_LOAD, 0, 0, _OF_NUMBER))
    for position, name in enumerate(_CALLS):
        program.append((_JUMP_IF_EQUAL, len(_CALLS) - position + 3, 0, abi.NUMBERS[name]))
    program += [
        (_JUMP_IF_EQUAL, 0, 2, abi.NUMBERS["fsconfig"]),
        (_LOAD, 0, 0, _OF_SECOND_ARGUMENT),
        (_JUMP_IF_EQUAL, 1, 0, mount.FSCONFIG_CMD_CREATE),
        (_RETURN, 0, 0, _EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
    order = sys.byteorder
    return b"".join(
        code.to_bytes(2, order) + bytes((yes, no)) + value.to_bytes(4, order) for code, yes, no, value in program
    )
