"""What a fork of the template must have in common with the program that containerd executed, and what it can take on.

A process that containerd starts has its namespaces, cgroups, limits and so on. A fork of the template has the
template's: it takes on what a process may set on itself, and serves only callers that do not differ in the rest.
"""

from __future__ import annotations

from gosudacon.base import posix
from gosudacon.base.errors import Error
from gosudacon.linux import namespace, sched

#: Lines of /proc/PID/status (proc_pid_status(5)) in which both must be alike.
_ALIKE = (
    *(b"Uid:", b"Gid:", b"Groups:", b"CapInh:", b"CapPrm:", b"CapEff:", b"CapBnd:", b"CapAmb:"),
    *(b"NoNewPrivs:", b"Seccomp:", b"Umask:"),
)
_NICE = 18  # place of the nice value in /proc/PID/stat, counted from the field after the name
_PRIO_PROCESS = 0


def facts(pid: int | str = "self") -> tuple[object, ...]:
    """What cannot be changed. Raises OSError."""
    place = f"/proc/{pid}"
    status = _read(f"{place}/status").split(b"\n")
    root = posix.stat(f"{place}/root/")
    return (
        *(posix.readlink(namespace.namespace_path(kind, pid)) for kind in namespace.KINDS if _has(kind)),
        *(line for line in status if line.startswith(_ALIKE)),
        (root.st_dev, root.st_ino),
        _read(f"{place}/attr/current"),
        _read(f"{place}/loginuid"),
    )


def has_company() -> bool:
    """Whether a process besides this one is in its mount namespace: only such a one can call it."""
    own = posix.readlink(namespace.namespace_path("mount"))
    for name in posix.listdir("/proc"):
        if name.isdigit() and int(name) != posix.getpid():
            try:
                if posix.readlink(namespace.namespace_path("mount", name)) == own:
                    return True
            except OSError:  # it has ended, or is another user's
                continue
    return False


def take_on(pid: int) -> None:
    """Be in the cgroups of the process, with its limits, niceness, scheduling and processors. Raises OSError."""
    _enter_cgroups(_read(f"/proc/{pid}/cgroup"))
    for number in sched.RLIMITS.values():
        limits = sched.limits_of(pid, number)
        if limits != sched.limits_of(0, number):
            sched.prlimit(0, number, *limits, about="limits of the caller")
    nice = int(_read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[_NICE - 2])
    if nice != posix.getpriority(_PRIO_PROCESS, 0):
        posix.setpriority(_PRIO_PROCESS, 0, nice)
    policy = posix.sched_getscheduler(pid)
    if policy != posix.sched_getscheduler(0):
        posix.sched_setscheduler(0, policy, posix.sched_getparam(pid))
    priority = sched.ioprio_of(pid)  # follows the niceness where none was chosen, and is the same then
    if priority != sched.ioprio_of(0):
        sched.ioprio_set(priority >> sched.IOPRIO_SHIFT, priority & ((1 << sched.IOPRIO_SHIFT) - 1))
    cpus = posix.sched_getaffinity(pid)
    if cpus != posix.sched_getaffinity(0):
        posix.sched_setaffinity(0, cpus)


def enter(cgroup: str) -> None:
    """Be in this cgroup, a path below the root of each hierarchy that has it; an empty one changes nothing.

    Raises `Error` if none has it, OSError.
    """
    if not cgroup:
        return
    from gosudacon.container import host

    path = posix.path.normpath(f"/{cgroup}")
    found = {f"{mounted}{path}" for mounted in host.gather().cgroup_mounts.values()}
    there = sorted(directory for directory in found if posix.path.isdir(directory))
    if not there:
        raise Error(f"the cgroup for the shim, {cgroup}, does not exist")
    for directory in there:
        _enter(directory)


def _enter_cgroups(wanted: bytes) -> None:
    own = _read("/proc/self/cgroup")
    if wanted == own:
        return
    from gosudacon.container import host

    facts = host.gather()
    mine = dict(_cgroups(own))
    for controllers, path in _cgroups(wanted):
        name = controllers.split(",")[0]
        mounted = facts.cgroup_mounts.get(name)
        if mounted is None or mine.get(controllers) == path:
            continue
        _enter(f"{mounted}{path}")


def _enter(directory: str) -> None:
    with open(f"{directory}/cgroup.procs", "wb", buffering=0) as file:
        file.write(b"0")


def _cgroups(text: bytes) -> list[tuple[str, str]]:
    """Controllers and path of each line of /proc/PID/cgroup (cgroups(7))."""
    found = []
    for line in text.splitlines():
        _, controllers, path = posix.fsdecode(line).split(":", 2)
        found.append((controllers, path))
    return found


def _has(kind: str) -> bool:
    return posix.path.exists(namespace.namespace_path(kind))


def _read(path: str) -> bytes:
    """The contents; empty where the kernel has no such file."""
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return posix.read(fd, 1 << 16)
    except OSError:
        return b""
    finally:
        posix.close(fd)
