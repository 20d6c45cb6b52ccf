"""Stage ``namespaces``: create the container's process in new and joined namespaces.

May use: `api`, `linux`, `base`.
Start with `Namespaces.plan`, then `birth`.

Most containers need one clone3(2) with all the flags. The process forks once more when it must first join or
map a user namespace to which the new ones are to belong, or when only a child enters what was joined or
unshared (pid and time namespaces, pid_namespaces(7), time_namespaces(7)).

Into a pid namespace with other processes, it is born by its last fork: `birth`.
"""

from __future__ import annotations

from errno import EPERM

from gosudacon.api import (
    CONFINE,
    ISOLATE,
    MOUNT,
    RUNTIME,
    ConfigError,
    Context,
    Error,
    Host,
    Spec,
    Stage,
    Step,
    hookimpl,
)
from gosudacon.base import posix
from gosudacon.linux import identity, mount, namespace, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.schema.types import Features, TimeOffset
    from gosudacon.schema.types import TimeOffsets as Offsets


_FOR_CHILDREN = ("pid", "time")


class Spawn(Step):
    """Create the container's process, in a cgroup of the unified hierarchy from the first moment.

    Why: one call makes the process and its new namespaces, so that it never sees the host's as its own.
    Without it: there would be no container: namespaces are what hides processes, mounts, network and names of the
    host.
    See: clone(2); namespaces(7); runtime-spec config-linux.md, Namespaces.
    """

    phase = ISOLATE
    side = RUNTIME
    spawns = True
    flags: int

    def describe(self) -> str:
        flags = self.flags | (namespace.CLONE_INTO_CGROUP if self.into_cgroup else 0)
        return f"clone3({namespace.flag_names(flags)}): the container's process"

    def run(self, context: Context) -> None:
        assert context.engine is not None
        context.engine.spawn(self.flags, context.cgroup_fd)


class Setsid(Step):
    """Be a session of one's own: no terminal and no signal of the caller's.

    Why: a session has its own terminal and its own signals from it.
    Without it: Ctrl-C at the caller's terminal would end the container.
    See: setsid(2); credentials(7).
    """

    phase = ISOLATE

    def describe(self) -> str:
        return "setsid()"

    def run(self, context: Context) -> None:
        if posix.getsid(0) != posix.getpid():  # it may lead one since it was made
            posix.setsid()


class Unshare(Step):
    """Move to new namespaces.

    Why: where others are joined, new namespaces can be made only afterwards, in the right user namespace.
    Without it: they would belong to the host, or be missing.
    See: unshare(2); namespaces(7); runtime-spec config-linux.md, Namespaces.
    """

    phase = ISOLATE
    flags: int

    def describe(self) -> str:
        return f"unshare({namespace.flag_names(self.flags)})"

    def run(self, context: Context) -> None:
        namespace.unshare(self.flags)


class TimeOffsets(Step):
    """Set the clocks of the new time namespace, before its first process (time_namespaces(7)).

    Written by the runtime: init's own file is closed to it once it has changed its user, and after it has joined
    a mount namespace /proc is anybody's.

    Why: a container that was moved to another machine must not see the clocks jump back.
    Without it: its monotonic clock and uptime would be the host's.
    See: time_namespaces(7); runtime-spec config-linux.md, Offset for Time Namespace.
    """

    phase = ISOLATE
    side = RUNTIME
    by = ISOLATE
    where = "linux.timeOffsets"
    offsets: Offsets

    def describe(self) -> str:
        return "write " + ", ".join(self._lines()) + " to timens_offsets"

    def run(self, context: Context) -> None:
        identity.write_proc(context.pid, "timens_offsets", ("\n".join(self._lines()) + "\n").encode())

    def _lines(self) -> list[str]:
        return [f"{clock} {at.get('secs') or 0} {at.get('nanosecs') or 0}" for clock, at in _clocks(self.offsets)]


class Fork(Step):
    """Fork: the child is in the pid and time namespaces that were joined or made, and goes on as init.

    Why: only a child enters the pid or time namespace that its parent joined or made.
    Without it: init would not be in them.
    See: pid_namespaces(7); time_namespaces(7).
    """

    phase = ISOLATE
    by = ISOLATE
    forks = True
    kinds: list[str]

    def describe(self) -> str:
        return f"fork into the {' and '.join(self.kinds)} namespace"

    def moves_clock(self) -> bool:
        return "time" in self.kinds

    def run(self, context: Context) -> None:
        assert context.engine is not None
        context.engine.fork(confined=False)


class SetNotDumpable(Step):
    """Close /proc/PID/{exe,fd,root,mem} of this process to the container (CVE-2016-9962).

    Why: processes in the container may look at those of the same user.
    Without it: one could reach the host through what the runtime has open.
    See: prctl(2), PR_SET_DUMPABLE; ptrace(2).
    """

    phase = ISOLATE

    def describe(self) -> str:
        return "prctl(PR_SET_DUMPABLE, 0)"

    def run(self, context: Context) -> None:
        process.set_dumpable(False)


class BringUpLoopback(Step):
    """Bring up ``lo`` in a new network namespace (netdevice(7)).

    Why: a new network namespace has the device lo, and it is down.
    Without it: programs could not reach themselves at 127.0.0.1.
    See: network_namespaces(7); netdevice(7).
    """

    phase = ISOLATE
    modules = ("_socket", "fcntl")

    def describe(self) -> str:
        return "bring up lo"

    def run(self, context: Context) -> None:
        import _socket
        import fcntl

        probe = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
        try:
            request = bytearray(b"lo".ljust(40, b"\0"))
            fcntl.ioctl(probe.fileno(), 0x8913, request)  # SIOCGIFFLAGS
            request[16] |= 1  # IFF_UP
            fcntl.ioctl(probe.fileno(), 0x8914, request)  # SIOCSIFFLAGS
        finally:
            probe.close()


class UnshareCgroup(Step):
    """A cgroup namespace whose root is the container's own cgroup: so not before it is a member.

    Why: the container sees its own cgroup as the root of the hierarchy.
    Without it: it would see where in the host's hierarchy it is, and the names of others.
    See: cgroup_namespaces(7); runtime-spec config-linux.md, Namespaces.
    """

    phase = MOUNT

    def describe(self) -> str:
        return "unshare(CLONE_NEWCGROUP)"

    def run(self, context: Context) -> None:
        namespace.unshare(namespace.CLONE_NEWCGROUP)


class OpenProc(Step):
    """A private proc mount of this pid namespace, reached by its descriptor only, so that it cannot be replaced.

    Why: masks, sysctls and labels are written through proc, and a container's /proc may be anything.
    Without it: a prepared image could have the runtime write to a file of its choice (CVE-2019-16884).
    See: proc(5); fsopen(2).
    """

    phase = MOUNT

    def describe(self) -> str:
        return "open a private proc mount (subset=pid)"

    def run(self, context: Context) -> None:
        try:
            context.proc = mount.new_filesystem("proc", {"subset": "pid"})
        except OSError as error:
            if error.errno not in (EPERM, 22, 38):
                raise
            context.proc = self._existing()

    def _existing(self) -> int:
        fd = posix.open("/proc", posix.O_PATH | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC)
        if mount.filesystem_type(fd) != mount.PROC_SUPER_MAGIC or posix.fstat(fd).st_ino != 1:
            raise Error("/proc is not a procfs")
        return fd


class SetHostname(Step):
    """Set the UTS namespace's names.

    Why: the UTS namespace begins as a copy of the host's.
    Without it: the container would have the host's name.
    See: sethostname(2); uts_namespaces(7); runtime-spec config.md, Hostname.
    """

    phase = CONFINE
    where = "hostname"
    hostname: str

    def describe(self) -> str:
        return f"sethostname({self.hostname})"

    def run(self, context: Context) -> None:
        process.sethostname(self.hostname)


class SetDomainname(Step):
    """Set the NIS domain name of the UTS namespace.

    Why: the NIS domain is one of the two names that the UTS namespace has.
    Without it: it would be the host's.
    See: setdomainname(2); uts_namespaces(7); runtime-spec config.md, Domainname.
    """

    phase = CONFINE
    where = "domainname"
    domainname: str

    def describe(self) -> str:
        return f"setdomainname({self.domainname})"

    def run(self, context: Context) -> None:
        process.setdomainname(self.domainname)


class Namespaces(Stage):
    """Decides between one clone3(2) and the longer ways."""

    name = "namespaces"
    after = ("validate-config",)

    def features(self) -> Features:
        """The kinds of namespaces."""
        return {"linux": {"namespaces": sorted(namespace.KINDS)}}

    def plan(self, spec: Spec, host: Host) -> Iterator[Step]:
        """Raises `ConfigError` for namespaces that contradict each other or the rest of the configuration."""
        wanted = _wanted(spec)
        joined = {kind: path for kind, path in wanted.items() if path}
        new = [kind for kind, path in wanted.items() if not path]
        if joined:
            from gosudacon.stages.namespaces.join import OpenNamespace

            for kind, path in joined.items():
                yield OpenNamespace(kind=kind, path=path, where=_where(spec, kind))
        if not {*joined} & {"user", "pid", "time"} and "time" not in new and not ("user" in new and joined):
            yield from self._at_once(spec, host, new, joined)
        else:
            yield from self._by_and_by(spec, host, new, joined)
        yield Setsid()
        if "network" in new:
            yield BringUpLoopback(where=_where(spec, "network"))
        if "cgroup" in new:
            yield UnshareCgroup(where=_where(spec, "cgroup"))
        yield OpenProc()
        yield from self._names(spec, wanted)

    def plan_exec(self, spec: Spec, host: Host) -> Iterator[Step]:
        """Into the namespaces of the container's init."""
        from gosudacon.stages.namespaces import enter

        return enter.plan_enter(spec, host)

    def plan_mounts(self, spec: Spec, host: Host) -> Iterator[Step]:
        """Into those namespaces of the container's init that mounts are made in."""
        from gosudacon.stages.namespaces import enter

        return enter.plan_visit(spec, host)

    def _at_once(self, spec: Spec, host: Host, new: list[str], joined: dict[str, str]) -> Iterator[Step]:
        """One process for all of it: what is new needs no other rights than what is joined, and no process before."""
        users = "user" in new
        flags = _flags(kind for kind in new if kind != "cgroup" and not (users and kind == "ipc"))
        yield Spawn(flags=flags, where="linux.namespaces")
        if joined:
            yield from self._join(spec, joined)
        if users:
            yield from self._map(spec, host)
        if users and "ipc" in new:  # its message queues (mqueue) belong to whoever makes it: to the namespace's root
            yield Unshare(flags=namespace.CLONE_NEWIPC, where=_where(spec, "ipc"))
        yield SetNotDumpable()

    def _by_and_by(self, spec: Spec, host: Host, new: list[str], joined: dict[str, str]) -> Iterator[Step]:
        yield Spawn(flags=0, where="linux.namespaces")
        shows_others = "pid" in joined and _mounts_proc(spec)
        if shows_others and host.euid == 0:
            yield from _plan_proc(host)
        if "user" in joined:
            yield from self._join_users(spec, host, joined)
            if shows_others and host.euid != 0:
                yield from _plan_proc(host)
        elif joined:
            yield from self._join(spec, joined)
        if "user" in new:
            yield Unshare(flags=namespace.CLONE_NEWUSER, by=ISOLATE, where=_where(spec, "user"))
            yield from self._map(spec, host)
        flags = _flags(kind for kind in new if kind not in ("user", "cgroup"))
        offsets = spec.linux.get("timeOffsets")
        if flags:
            yield Unshare(flags=flags, by=ISOLATE if offsets else "", where="linux.namespaces")
        if offsets:
            yield TimeOffsets(offsets=offsets)
        yield SetNotDumpable()
        children = [kind for kind in _FOR_CHILDREN if kind in new or kind in joined]
        if "pid" in joined:
            from gosudacon.stages.namespaces import birth

            yield from birth.plan_birth(spec, children)
        elif children:
            yield Fork(kinds=children)

    def _join(self, spec: Spec, joined: dict[str, str]) -> Iterator[Step]:
        from gosudacon.stages.namespaces.join import Setns, SetnsForChild

        for kind, path in joined.items():
            if kind == "pid":
                yield SetnsForChild(path=path, where=_where(spec, kind))
            else:
                yield Setns(kind=kind, path=path, where=_where(spec, kind))

    def _join_users(self, spec: Spec, host: Host, joined: dict[str, str]) -> Iterator[Step]:
        from gosudacon.stages.namespaces import maps
        from gosudacon.stages.namespaces.join import SetnsWhatCanBe

        ids = maps.ids(spec)
        checked = bool(ids["uids"] or ids["gids"])
        yield SetnsWhatCanBe(kinds=list(joined), by=ISOLATE if checked else "", where="linux.namespaces")
        if checked:
            yield maps.CheckIdMaps(**ids)
        yield maps.SetRootIdentity(groups=host.euid == 0)

    def _map(self, spec: Spec, host: Host) -> Iterator[Step]:
        from gosudacon.stages.namespaces import maps

        yield maps.WriteIdMaps(**maps.ids(spec), privileged=host.euid == 0, where="linux.uidMappings")
        yield maps.SetRootIdentity(groups=host.euid == 0)

    def _names(self, spec: Spec, wanted: dict[str, str]) -> Iterator[Step]:
        hostname, domainname = spec.config.get("hostname"), spec.config.get("domainname")
        for key, name in (("hostname", hostname), ("domainname", domainname)):
            if name and "uts" not in wanted:
                raise ConfigError(f"unable to set {key} without a private UTS namespace", where=key)
        if hostname:
            yield SetHostname(hostname=hostname)
        if domainname:
            yield SetDomainname(domainname=domainname)


def _mounts_proc(spec: Spec) -> bool:
    return any(entry.get("type") == "proc" for entry in spec.config.get("mounts") or ())


def _plan_proc(host: Host) -> Iterator[Step]:
    from gosudacon.stages.namespaces import proc

    yield proc.plan_proc(host)


def _wanted(spec: Spec) -> dict[str, str]:
    wanted: dict[str, str] = {}
    for index, entry in enumerate(spec.linux.get("namespaces") or ()):
        where = f"linux.namespaces[{index}]"
        if entry["type"] in wanted:
            raise ConfigError(f"namespace {entry['type']} is listed twice", where=where)
        path = entry.get("path") or ""
        if path and not path.startswith("/"):
            raise ConfigError(f"namespace path {path!r} is not absolute", where=f"{where}.path")
        wanted[entry["type"]] = path
    if "user" in wanted or spec.linux.get("uidMappings") or spec.linux.get("gidMappings"):
        from gosudacon.stages.namespaces import maps

        maps.check(spec, wanted)
    if spec.linux.get("timeOffsets") and wanted.get("time") != "":
        raise ConfigError("timeOffsets need a new time namespace", where="linux.timeOffsets")
    return {kind: wanted[kind] for kind in namespace.KINDS if kind in wanted}


def _clocks(offsets: Offsets) -> Iterator[tuple[str, TimeOffset]]:
    for clock, at in (("monotonic", offsets.get("monotonic")), ("boottime", offsets.get("boottime"))):
        if at is not None:
            yield clock, at


def _flags(kinds: Iterator[str]) -> int:
    flags = 0
    for kind in kinds:
        flags |= namespace.KINDS[kind][0]
    return flags


def _where(spec: Spec, kind: str) -> str:
    for index, entry in enumerate(spec.linux.get("namespaces") or ()):
        if entry["type"] == kind:
            return f"linux.namespaces[{index}]"
    return "linux.namespaces"


@hookimpl
def gosudacon_stages() -> list[Stage]:
    """Contribute the stage."""
    return [Namespaces()]
