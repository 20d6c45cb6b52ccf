"""The steps of the seccomp stage; what only a profile not yet compiled or an agent needs is imported when needed."""

from __future__ import annotations

from _stat import S_ISREG

from gosudacon import __version__
from gosudacon.api import CONFINE, PREPARE, START, Context, Error, Rank, Step
from gosudacon.base import jsonio, posix
from gosudacon.linux import capability, seccomp

try:
    from _blake2 import blake2b  # the C half of hashlib, which costs 2 ms to import
except ImportError:
    from hashlib import blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

    from gosudacon.schema.types import Seccomp

library = seccomp.library
_DIGEST = 32
_USERS = "$XDG_RUNTIME_DIR/"  # or what is used instead: gosudacon.base.user
#: Counted up when the same profile no longer compiles to the same program.
_REVISION = 2


class Held:
    """What the steps of this stage leave for each other."""

    agent: socket  # the connection to the agent, on both sides

    def __init__(self) -> None:
        self.reader = self.writer = -1  # of a pipe, over which init tells the number of its notification descriptor
        self.listener = -1  # that descriptor


class CompileSeccomp(Step):
    """Turn the profile into BPF, or take what an earlier container's turned into from the cache.

    ``profile`` is what the program depends on of ``linux.seccomp``, ``others`` the action for architectures that
    are not listed, ``cache`` a directory or empty, ``library`` the path of libseccomp or empty for the usual places.

    Why: the kernel takes a filter as a program in BPF, and a profile is a list of names.
    Without it: there would be nothing to load.
    See: seccomp(2); seccomp_rule_add(3); runtime-spec config-linux.md, Seccomp.
    """

    phase = PREPARE
    profile: Seccomp
    others: str
    cache: str
    library: str

    def describe(self) -> str:
        names = {name for rule in self.profile.get("syscalls") or () for name in rule["names"]}
        what = f"compile the seccomp filter: {self.profile['defaultAction']}, rules for {len(names)} system calls"
        return what + (f"; cached in {self.cache}" if self.cache else "")

    def details(self) -> list[str]:
        rules: dict[str, list[str]] = {}
        for rule in self.profile.get("syscalls") or ():
            some = " (some arguments)" if rule.get("args") else ""
            rules.setdefault(rule["action"], []).extend(f"{name}{some}" for name in rule["names"])
        return [f"{action}: {', '.join(dict.fromkeys(names))}" for action, names in rules.items()]

    def run(self, context: Context) -> None:
        path = library(self.library)
        cache = self.cache
        if cache.startswith(_USERS):
            cache = f"{_users_directory()}/{cache.removeprefix(_USERS)}"
        key = b""
        if cache.startswith("/"):
            key = self._key(path)
            program = cached(f"{cache}/{key.hex()}", key)
            if program:
                context.seccomp_program = program
                return
        from gosudacon.stages.seccomp import compiler

        program = compiler.build(self.profile, self.others, path, context.warnings)
        context.seccomp_program = program
        if key and not context.warnings:  # a warning is to be seen again
            from gosudacon.stages.seccomp import store

            store.save(cache, key.hex(), key + blake2b(program, digest_size=_DIGEST).digest() + program)

    def _key(self, path: str) -> bytes:
        """A digest of all that the program depends on."""
        machine = posix.uname()
        status = posix.stat(path)
        identity = [path, status.st_ino, status.st_size, status.st_mtime_ns]
        depends = [
            _REVISION,
            __version__,
            machine.machine,
            machine.release,
            identity,
            self.others,
            self.profile,
        ]
        return blake2b(jsonio.dumps(depends).encode(), digest_size=_DIGEST).digest()


class HoldSysAdmin(Step):
    """Keep CAP_SYS_ADMIN until the filter is loaded, which the kernel wants of a process without no_new_privs.

    It is not in the bounding set any more by then, so execve(2) takes it away (capabilities(7)).

    Why: without no_new_privs only CAP_SYS_ADMIN may load a filter, and the capabilities are gone by then.
    Without it: the filter could not be loaded, or only before steps that it may forbid.
    See: seccomp(2); capabilities(7).
    """

    phase = CONFINE

    def describe(self) -> str:
        return "hold CAP_SYS_ADMIN until the seccomp filter is loaded"

    def run(self, context: Context) -> None:
        context.held_capabilities = 1 << capability.NUMBERS["CAP_SYS_ADMIN"]


class LetSysAdminGo(Step):
    """Give up CAP_SYS_ADMIN in the ``sets`` in which it was held: the process is about to be seen by others.

    Why: from here on the container's other processes can see and trace this one.
    Without it: a neighbour could borrow CAP_SYS_ADMIN.
    See: capset(2); ptrace(2).
    """

    phase = CONFINE
    sets: list[str]

    def describe(self) -> str:
        return "capset: drop CAP_SYS_ADMIN"

    def run(self, context: Context) -> None:
        effective, permitted, inheritable = capability.held()
        others = ~context.held_capabilities
        context.held_capabilities = 0
        if "permitted" in self.sets:
            permitted &= others
        capability.set_caps(effective & others, permitted, inheritable)


class LoadSeccomp(Step):
    """Put this process under the filter; ``notify`` opens the descriptor on which an agent is told of system calls.

    Why: most programs use few of the kernel's hundreds of system calls, and its faults are often in the rest.
    Without it: the program could make every system call there is.
    See: seccomp(2); runtime-spec config-linux.md, Seccomp.
    """

    filters = True
    failing = "unable to init seccomp: error loading seccomp filter into kernel"
    flags: list[str]
    notify: bool = False

    def describe(self) -> str:
        what = "load the seccomp filter"
        if self.notify:
            what += ", with a notification descriptor"
        names = [name.removeprefix("SECCOMP_FILTER_FLAG_") for name in self.flags]
        return f"{what} ({', '.join(names)})" if names else what

    def run(self, context: Context) -> None:
        flags = _bits(self.flags)
        if not self.notify:
            seccomp.load(context.seccomp_program, flags)
            return
        held = context.own(Held)
        held.agent.close()  # the runtime speaks to it, and closes the connection when it has
        posix.close(held.reader)
        held.listener = seccomp.load(context.seccomp_program, flags | seccomp.FLAG_NEW_LISTENER)
        posix.write(held.writer, b"%d" % held.listener)


class LendSeccomp(Step):
    """Have each startContainer hook load the filter itself, right before its execve(2): `Context.confine`.

    So what runs a hook and waits for it needs no system call that the profile has to allow.

    Why: a startContainer hook runs a program of the container, under its rules.
    Without it: such a program could make system calls that the container may not.
    See: seccomp(2); runtime-spec config.md, POSIX-platform Hooks.
    """

    phase = START
    rank = Rank.LAY_OUT
    flags: list[str]

    def describe(self) -> str:
        return "have startContainer hooks load the seccomp filter"

    def run(self, context: Context) -> None:
        program, flags = context.seccomp_program, _bits(self.flags)

        def confine() -> None:
            seccomp.load(program, flags)

        context.confine = confine


def _bits(names: list[str]) -> int:
    flags = 0
    for name in names:
        flags |= getattr(seccomp, name.removeprefix("SECCOMP_FILTER_"))
    return flags


def _users_directory() -> str:
    from gosudacon.base import user

    try:
        return user.runtime_dir(posix.environ)
    except Error:  # the filter is compiled every time
        return "/nonexistent"


def cached(path: str, key: bytes) -> bytes:
    """The program in a file of the cache; empty if it is missing or damaged, or others could write it."""
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_CLOEXEC)
    except OSError:
        return b""
    try:
        status = posix.fstat(fd)
        if not S_ISREG(status.st_mode) or status.st_mode & 0o022 or status.st_uid not in (0, posix.geteuid()):
            return b""  # not a regular file, or writable by group or others
        data = posix.read(fd, 2 * _DIGEST + seccomp.MAX_INSTRUCTIONS * seccomp.INSTRUCTION + 1)
    except OSError:
        return b""
    finally:
        posix.close(fd)
    program = data[2 * _DIGEST :]
    if not program or len(program) % seccomp.INSTRUCTION:
        return b""
    if data[: 2 * _DIGEST] != key + blake2b(program, digest_size=_DIGEST).digest():
        return b""
    return program
