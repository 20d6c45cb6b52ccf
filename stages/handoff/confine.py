"""Confine the process that becomes the container's: CPUs, scheduling, labels, identity, capabilities."""

from __future__ import annotations

from errno import EACCES, EINVAL, ENOENT, ENOSYS, EPERM, EROFS

from gosudacon.api import CONFINE, ISOLATE, RUNTIME, START, Context, Error, Rank, Step
from gosudacon.base import posix
from gosudacon.base.errors import SyscallError
from gosudacon.linux import abi, capability, identity, process, sched
from gosudacon.linux.path import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV, openat2
from gosudacon.stages.handoff.execute import Program

_keyctl = abi.syscall("keyctl", abi.INT, abi.PATH, abi.ULONG)
_keyctl_setperm = abi.syscall("keyctl", abi.INT, abi.LONG, abi.ULONG)
_keyctl_describe = abi.syscall("keyctl", abi.INT, abi.LONG, abi.BUFFER, abi.SIZE)


class SetOomScoreAdj(Step):
    """Written by the runtime, which may lower it; inherited by whatever the container runs (proc(5)).

    Why: when memory runs out, the kernel picks its victim by this number.
    Without it: the container would be as likely a victim as its caller.
    See: proc_pid_oom_score_adj(5); runtime-spec config.md, Linux Process.
    """

    phase = ISOLATE
    failing = "failed to set oom_score_adj"
    side = RUNTIME
    either_side = True
    by = START
    where = "process.oomScoreAdj"
    value: int

    def describe(self) -> str:
        return f"write {self.value} to oom_score_adj"

    def run(self, context: Context) -> None:
        identity.write_proc(context.pid, "oom_score_adj", b"%d" % self.value)


class JoinSessionKeyring(Step):
    """A session keyring of the container's own instead of the caller's (keyrings(7)).

    Why: the session keyring of the caller holds keys that are not the container's.
    Without it: processes in the container could read and use them.
    See: keyrings(7); keyctl(2).
    """

    phase = CONFINE
    failing = "unable to join session keyring"
    name: str

    def describe(self) -> str:
        return f"join the session keyring {self.name}"

    def run(self, context: Context) -> None:
        try:
            serial = _keyctl(1, self.name, 0)  # KEYCTL_JOIN_SESSION_KEYRING
            description = bytearray(512)  # four numbers and a name, of which an id is all but five bytes
            length = _keyctl_describe(6, serial, description, len(description))  # KEYCTL_DESCRIBE
            permissions = int(bytes(description[: length - 1]).split(b";")[3], 16)
            _keyctl_setperm(5, serial, permissions | 0x80000)  # KEYCTL_SETPERM, user may search
        except SyscallError as error:
            if error.errno != ENOSYS:
                raise


class ResetAffinity(Step):
    """All CPUs, as far as the cpuset allows: not those the caller happens to be bound to.

    Why: the caller may be bound to some CPUs, which has nothing to do with the container.
    Without it: the container would be stuck on the CPUs of the process that started it.
    See: sched_setaffinity(2).
    """

    phase = CONFINE

    def describe(self) -> str:
        return "sched_setaffinity(all CPUs)"

    def run(self, context: Context) -> None:
        try:
            sched.allow_all_cpus()
        except SyscallError as error:
            if error.errno != EINVAL:  # none of them is in the cpuset: the kernel has chosen already
                raise


class SetAffinity(Step):
    """The CPUs of a process that ``exec`` starts; those to begin with it has from the runtime, which sets its own.

    Why: the process is to run on these CPUs, and `exec` may begin on others than it ends up on.
    Without it: it would run wherever the container may.
    See: sched_setaffinity(2); runtime-spec config.md, Linux Process.
    """

    phase = CONFINE
    modules = ("gosudacon.base.ranges",)
    cpus: str

    def describe(self) -> str:
        return f"sched_setaffinity({self.cpus})"

    def run(self, context: Context) -> None:
        from gosudacon.base import ranges

        try:
            posix.sched_setaffinity(0, ranges.parse(self.cpus, ranges.MOST_CPUS))
        except ValueError as error:
            what = f"{self.cpus!r} is not a list of CPUs such as 0-3,7: {error}"
            raise Error(what, call="sched_setaffinity") from None
        except OSError as error:
            raise SyscallError(error.errno or 0, "sched_setaffinity", self.cpus) from None


class SetScheduler(Step):
    """Scheduling policy and parameters.

    Set by the runtime for a process that was born by a last fork: not every policy is passed on (sched(7)).

    Why: a real-time or background policy belongs to the process, and execve(2) keeps it.
    Without it: the program would compete with everything else for time.
    See: sched(7); sched_setattr(2); runtime-spec config.md, Linux Process.
    """

    phase = CONFINE
    failing = "error setting scheduler"
    where = "process.scheduler"
    policy: str
    flags: int
    nice: int
    priority: int
    runtime: int
    deadline: int
    period: int
    restricted: bool = False  # the cgroup has not all CPUs

    def describe(self) -> str:
        return f"sched_setattr({self.policy}, nice {self.nice}, priority {self.priority})"

    def run(self, context: Context) -> None:
        policy = sched.POLICIES[self.policy]
        values = (policy, self.flags, self.nice, self.priority, self.runtime, self.deadline, self.period)
        try:
            sched.sched_setattr(*values, pid=context.pid if self.side == RUNTIME else 0)
        except SyscallError as error:
            if error.errno == EPERM and self.restricted:
                what = "process scheduler can't be used together with AllowedCPUs"
                raise Error(what, call="sched_setattr", errno=EPERM) from None
            raise


class SetIoPriority(Step):
    """I/O scheduling class and priority.

    Why: the order in which requests to a disk are served belongs to the process, and execve(2) keeps it.
    Without it: the program's requests would be served as the caller's.
    See: ioprio_set(2); runtime-spec config.md, Linux Process.
    """

    phase = CONFINE
    failing = "failed to set io priority"
    where = "process.ioPriority"
    io_class: str
    priority: int

    def describe(self) -> str:
        return f"ioprio_set({self.io_class}, {self.priority})"

    def run(self, context: Context) -> None:
        sched.ioprio_set(sched.IO_CLASSES[self.io_class], self.priority)


class SetPersonality(Step):
    """Execution domain.

    Why: a 32-bit program wants to hear from uname(2) that the machine is one.
    Without it: it would take the machine for what the kernel is built for.
    See: personality(2); runtime-spec config-linux.md, Personality.
    """

    phase = CONFINE
    where = "linux.personality"
    domain: str

    def describe(self) -> str:
        return f"personality({self.domain})"

    def run(self, context: Context) -> None:
        sched.personality(sched.DOMAINS[self.domain])


class SetMemoryPolicy(Step):
    """NUMA policy.

    Why: on a machine with several nodes of memory the near one is faster.
    Without it: memory would come from wherever the kernel finds it first.
    See: set_mempolicy(2); runtime-spec config-linux.md, Memory Policy.
    """

    phase = CONFINE
    failing = "invalid memory policy"
    where = "linux.memoryPolicy"
    mode: str
    flags: int
    nodes: int

    def describe(self) -> str:
        return f"set_mempolicy({self.mode}, nodes {self.nodes:#x})"

    def run(self, context: Context) -> None:
        sched.set_mempolicy(sched.MEMORY_MODES[self.mode] | self.flags, self.nodes)


class _WriteAttribute(Step):
    phase = CONFINE
    rank = Rank.IDENTITY - 1

    def _write(self, context: Context, names: tuple[str, ...], value: str) -> None:
        """Write to the first attribute of this process that exists, through the private proc mount."""
        resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV
        for name in names:
            try:
                fd = openat2(context.proc, f"{posix.getpid()}/{name}", posix.O_WRONLY, resolve)
            except SyscallError as error:
                if error.errno != ENOENT:
                    raise
                continue
            try:
                posix.write(fd, value.encode())
            except OSError as error:
                raise SyscallError(error.errno or 0, "write", f"/proc/self/{name}") from None
            finally:
                posix.close(fd)
            return
        raise Error(f"no {names[0]} in /proc/self")


class SetApparmorProfile(_WriteAttribute):
    """The AppArmor profile to change to at execve(2).

    Why: a profile says which files and capabilities the program may use, whatever its user may.
    Without it: only users, capabilities and seccomp would stand between it and the kernel.
    See: apparmor(7); runtime-spec config.md, Linux Process.
    """

    where = "process.apparmorProfile"
    failing = "unable to apply apparmor profile"
    profile: str

    def describe(self) -> str:
        return f"apparmor: change to {self.profile} at execve"

    def run(self, context: Context) -> None:
        self._write(context, ("attr/apparmor/exec", "attr/exec"), f"exec {self.profile}")


class SetSelinuxLabel(_WriteAttribute):
    """The SELinux label to change to at execve(2).

    Why: the policy says what a process with this label may touch.
    Without it: it would run with the label of the runtime, which may do almost everything.
    See: selinux(8); runtime-spec config.md, Linux Process.
    """

    where = "process.selinuxLabel"
    failing = "can't set process label"
    label: str

    def describe(self) -> str:
        return f"selinux: change to {self.label} at execve"

    def run(self, context: Context) -> None:
        self._write(context, ("attr/exec",), self.label)


class FindHome(Step):
    """HOME for the environment, from the image's /etc/passwd.

    Why: programs look for their files in HOME, and config.json does not say where it is.
    Without it: HOME would be missing from the environment.
    See: passwd(5); environ(7).
    """

    phase = CONFINE
    uid: int

    def describe(self) -> str:
        return f"find HOME of uid {self.uid} in /etc/passwd"

    def run(self, context: Context) -> None:
        root = posix.open("/", posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
        try:
            context.own(Program).home = identity.home_of(self.uid, root)
        finally:
            posix.close(root)


class SetUmask(Step):
    """File mode creation mask: 022 unless the configuration says otherwise, whatever the caller's was.

    Why: the permissions of new files must not depend on who called the runtime.
    Without it: files might be made writable for every user, or readable for none.
    See: umask(2); runtime-spec config.md, POSIX-platform User.
    """

    phase = CONFINE
    where = "process.user.umask"
    umask: int

    def describe(self) -> str:
        return f"umask({self.umask & 0o777:03o})"

    def run(self, context: Context) -> None:
        posix.umask(self.umask & 0o777)


class SetNoNewPrivileges(Step):
    """No execve(2) from here on gains privileges.

    Why: setuid programs and file capabilities are ways to more privileges than a process was given.
    Without it: a setuid program in the image could make a plain user root.
    See: prctl(2), PR_SET_NO_NEW_PRIVS; runtime-spec config.md, Linux Process.
    """

    phase = CONFINE
    where = "process.noNewPrivileges"

    def describe(self) -> str:
        return "prctl(PR_SET_NO_NEW_PRIVS, 1)"

    def run(self, context: Context) -> None:
        process.set_no_new_privs()


class OwnStdio(Step):
    """Give standard input, output and error to the container's user, unless they are null devices.

    Why: pipes and terminals were made by the caller, whose user may be another one.
    Without it: the program could not open /dev/stdout or /proc/self/fd/1 again.
    See: fchown(2).
    """

    phase = CONFINE
    uid: int

    def describe(self) -> str:
        return f"fchown(0-2, {self.uid})"

    def run(self, context: Context) -> None:
        for fd in range(3):
            try:
                status = posix.fstat(fd)
                if status.st_uid != self.uid and status.st_rdev != posix.makedev(1, 3):
                    posix.fchown(fd, self.uid, -1)
            except OSError as error:
                if error.errno not in (EPERM, EROFS, EINVAL):
                    raise


class SetIdentity(Step):
    """Bounding set, groups, gid, uid: in this order, since each needs what the next takes away.

    Why: everything that follows, and the program, is done with the rights of the container's user.
    Without it: the program would run as the user that the runtime is.
    See: setresuid(2); setgroups(2); capabilities(7); runtime-spec config.md, POSIX-platform User.
    """

    phase = CONFINE
    failing = "unable to setup user"
    rank = Rank.IDENTITY
    where = "process.user"
    uid: int
    gid: int
    groups: list[int] | None
    sets: dict[str, list[str]] | None

    def describe(self) -> str:
        groups = f", groups {self.groups}" if self.groups else ", the caller's groups" if self.groups is None else ""
        bounding = "" if self.sets is None else f"; bounding set {_short(self.sets['bounding'])}"
        return f"become uid {self.uid}, gid {self.gid}{groups}{bounding}"

    def run(self, context: Context) -> None:
        if self.sets is not None:
            capability.drop_bounding(capability.mask(self.sets["bounding"]))
        capability.keep_over_setuid(True)
        identity.become(self.uid, self.gid, self.groups)
        capability.keep_over_setuid(False)
        process.set_dumpable(False)  # the change of user has made it what fs.suid_dumpable says


class ChangeDirectory(Step):
    """Enter the working directory; it must lie inside the container (CVE-2024-21626).

    With the rights of the runtime first: the container's user may be denied what is another's (mode 0700).

    Why: the program begins there, and a directory outside of the container would be a way out.
    Without it: it would begin in `/`, or hold a directory of the host.
    See: chdir(2); runtime-spec config.md, Process.
    """

    phase = CONFINE
    failing = 'chdir to cwd ("{cwd}") set in config.json failed'
    rank = Rank.IDENTITY
    where = "process.cwd"
    cwd: str
    last: bool  # no other step will try

    def describe(self) -> str:
        return f"chdir({self.cwd})"

    def run(self, context: Context) -> None:
        try:
            posix.chdir(self.cwd)
        except OSError as error:
            if error.errno in (EACCES, EPERM) and not self.last:
                return
            raise SyscallError(error.errno or 0, "chdir", self.cwd) from None
        context.own(Program).entered = True
        if not process.raw_getcwd().startswith(b"/"):
            raise Error(f"working directory {self.cwd} is outside of the container", call="getcwd")


class ChangeDirectoryAsUser(ChangeDirectory):
    """Enter it as the container's user, where root was refused (EACCES or EPERM), as on a network filesystem.

    Why: on network filesystems root may have no rights where the user has.
    Without it: a container with its working directory there could not start.
    See: chdir(2); runtime-spec config.md, Process.
    """

    def describe(self) -> str:
        return f"chdir({self.cwd}), if that was denied before"

    def run(self, context: Context) -> None:
        if not context.own(Program).entered:
            super().run(context)


class SetCapabilities(Step):
    """The effective, permitted, inheritable and ambient sets.

    What `Context.held_capabilities` names stays for a step to come. It is gone from the bounding set already,
    and with execve(2) from all others (capabilities(7)).

    Why: root's power is cut into capabilities, and a container gets the few that it needs.
    Without it: root in the container could do what root on the host can.
    See: capset(2); capabilities(7); runtime-spec config.md, Linux Process.
    """

    phase = CONFINE
    failing = "unable to apply caps"
    rank = Rank.IDENTITY
    where = "process.capabilities"
    sets: dict[str, list[str]]

    def describe(self) -> str:
        parts = [f"{kind} {_short(names)}" for kind, names in self.sets.items() if kind != "bounding" and names]
        return "capset: " + ("; ".join(parts) or "none")

    def run(self, context: Context) -> None:
        wanted = {kind: capability.mask(names) for kind, names in self.sets.items()}
        _, may, _ = capability.held()
        lacking = ~may & (wanted["bounding"] | wanted["effective"] | wanted["permitted"] | wanted["inheritable"])
        if lacking:
            names = " ".join(name for name, number in capability.NUMBERS.items() if lacking >> number & 1)
            context.warnings.append(f"process.capabilities: cannot be granted, the runtime lacks them: {names}")
        more = context.held_capabilities
        effective, permitted = (wanted["effective"] | more) & may, (wanted["permitted"] | more) & may
        capability.set_caps(effective, permitted, wanted["inheritable"] & may)
        capability.set_ambient(wanted["ambient"])


class DropInheritedCapabilities(Step):
    """Empty the inheritable and the ambient set of the caller where the configuration is silent (CVE-2022-24769).

    Why: what a caller can pass on is its own business, not the container's.
    Without it: a program with inheritable file capabilities would gain those of the caller.
    See: capabilities(7).
    """

    phase = CONFINE
    rank = Rank.IDENTITY

    def describe(self) -> str:
        return "capset: nothing inheritable, nothing ambient"

    def run(self, context: Context) -> None:
        effective, permitted, _ = capability.held()
        more = context.held_capabilities
        capability.set_caps(effective | more & permitted, permitted, 0)
        capability.set_ambient(0)


def _short(names: list[str]) -> str:
    if len(names) > 5:
        return f"{len(names)} capabilities"
    return "+".join(name.removeprefix("CAP_") for name in names) or "empty"
