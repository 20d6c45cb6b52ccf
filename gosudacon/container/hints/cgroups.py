"""Cgroups and limits."""

from __future__ import annotations

from errno import EACCES, EAGAIN, EBUSY, EINVAL, ENODEV, ENOENT, ENOSPC, EOPNOTSUPP, EPERM, ERANGE, EROFS

from gosudacon.base import posix
from gosudacon.container.hints import facts
from gosudacon.container.hints.kinds import Failure, Kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.pipeline.spec import Host, Spec

_SHOWN = 3  # processes


def _own(failure: Failure) -> bool:
    return failure.stage == "cgroups"


def lacks_cpus(text: object, what: str = "cpu") -> str:
    """What to do about a list of CPUs (or memory nodes) some of which this host does not have; empty if it has all."""
    from gosudacon.base import ranges

    try:
        wanted = set(ranges.parse(str(text or ""), ranges.MOST_CPUS))
    except ValueError as error:
        return f"{text!r} is not a list such as 0-3,7: {error}"
    there = facts.online(what)
    if not there or wanted <= there:
        return ""
    words = "CPUs" if what == "cpu" else "memory nodes"
    return f"the host has the {words} {facts.shown(there)}, and not {facts.shown(wanted - there)}"


def _cpus(failure: Failure) -> str:
    for name, what in (("cpus", "cpu"), ("mems", "node")):
        where = f"linux.resources.cpu.{name}"
        if failure.where != where or failure.errno not in (ERANGE, EINVAL, EACCES):
            continue
        value = failure.value(where)
        hint = lacks_cpus(value, what)
        if hint:
            return hint
        return f"the cgroup above the container's does not have all of them: see cpuset.{name}.effective there"
    return ""


def _controller(failure: Failure) -> str:
    if " cgroup controller is not mounted" not in failure.message:
        return ""
    name = failure.message.partition(" cgroup controller")[0].removeprefix("the ")
    return lacks_controller(name, failure)


def lacks_controller(name: str, failure: Failure) -> str:
    """What to do about a controller that this host does not have mounted."""
    known = [line.split()[0] for line in facts.text("/proc/cgroups").splitlines() if line[:1] != "#" and line.split()]
    if name not in known:
        return f"this kernel has no controller {name} (/proc/cgroups): remove the limit"
    if failure.host.cgroup_mode == "v2":
        return f"enable it: echo +{name} > cgroup.subtree_control in the cgroups above"
    return f"mount it: mount -t cgroup -o {name} cgroup /sys/fs/cgroup/{name}, or remove the limit"


def _file(failure: Failure) -> str:
    if not _own(failure) or failure.errno != ENOENT or not failure.where.startswith("linux.resources"):
        return ""
    return "the kernel does not have this file: the controller is not enabled above, or it is older"


def _unified(failure: Failure) -> str:
    if "cannot use unified on cgroup v1" not in failure.message:
        return ""
    return "write the limits as linux.resources.memory, cpu, pids, …: linux.resources.unified is for cgroup v2"


def _memory(failure: Failure) -> str:
    if "OOM-killed" not in failure.message and "unable to set memory limit" not in failure.message:
        return ""
    limit = failure.value("linux.resources.memory.limit")
    if type(limit) is not int:
        return "raise linux.resources.memory.limit"
    failure.error.where = failure.error.where or "linux.resources.memory.limit"
    return f"linux.resources.memory.limit is {limit} bytes ({limit >> 20} MiB), too little to start: meant in MiB?"


def _not_empty(failure: Failure) -> str:
    if "cgroup is not empty" not in failure.message and "unexpectedly frozen" not in failure.message:
        return ""
    if "frozen" in failure.message:
        return "thaw it (freezer.state or cgroup.freeze), or choose another linux.cgroupsPath"
    owners = inhabitants(failure.spec, failure.host) if failure.spec is not None else []
    where = "choose another linux.cgroupsPath, or end them"
    return f"in it: {', '.join(owners)}; {where}" if owners else f"processes of something else are in it: {where}"


def inhabitants(spec: Spec, host: Host) -> list[str]:
    """Some of the processes in the cgroup that config.json names, with their names."""
    path = str(spec.linux.get("cgroupsPath") or spec.id).strip("/")
    for point in sorted(set(host.cgroup_mounts.values())):
        pids = facts.text(f"{point}/{path}/cgroup.procs").split() if path else []
        if pids:
            names = [f"process {pid} ({facts.text(f'/proc/{pid}/comm')})" for pid in pids[:_SHOWN]]
            return names + ([f"{len(pids) - _SHOWN} more"] if len(pids) > _SHOWN else [])
    return []


def _occupied(failure: Failure) -> str:
    if not _own(failure) or failure.errno != EBUSY or failure.where.startswith("linux.resources"):
        return ""
    return "a cgroup with controllers enabled for those below holds no processes itself (v2): choose a sibling of it"


def _below(failure: Failure) -> str:
    if not failure.message.startswith("bad sub cgroup path"):
        return ""
    return "--cgroup names a cgroup below the container's that is there already, such as a process in it has made"


def _threaded(failure: Failure) -> str:
    if not _own(failure) or failure.errno != EOPNOTSUPP:
        return ""
    return "a cgroup above is threaded (cgroup.type), where containers cannot be: choose another linux.cgroupsPath"


def _permission(failure: Failure) -> str:
    if not _own(failure) or failure.errno not in (EACCES, EPERM):
        return ""
    if posix.geteuid():
        text = "have systemd delegate a cgroup (systemd-run --user --scope -p Delegate=yes)"
        return f"{text}, or leave the limits out: they need root"
    if failure.where.startswith("linux.resources.devices"):
        return "the kernel allows no device rules here: BPF may be locked down, or a cgroup above forbids the device"
    return "the kernel does not allow this here: this may be a container whose cgroups are read-only or not delegated"


def _read_only(failure: Failure) -> str:
    if failure.errno != EROFS or ("/sys/fs/cgroup" not in failure.message and not _own(failure)):
        return ""
    return "/sys/fs/cgroup is mounted read-only: in a container, start that one with its cgroups writable"


def _page_size(failure: Failure) -> str:
    if "invalid huge page size" not in failure.message and not (
        failure.where.startswith("linux.resources.hugepageLimits") and failure.errno == ENOENT
    ):
        return ""
    try:
        sizes = [name.removeprefix("hugepages-") for name in posix.listdir("/sys/kernel/mm/hugepages")]
    except OSError:
        return ""
    return f"this host has huge pages of {', '.join(sorted(sizes)) or 'no size'}"


def _device(failure: Failure) -> str:
    if not failure.where.startswith("linux.resources.blockIO") or failure.errno not in (ENODEV, EINVAL):
        return ""
    return "major and minor are those of a whole disk of this host (lsblk), not of a partition"


def _limit(failure: Failure) -> str:
    if not _own(failure) or failure.errno not in (ENOSPC, EAGAIN):
        return ""
    if failure.errno == EAGAIN:
        return "a cgroup above the container's may have no more cgroups: cgroup.max.depth and cgroup.max.descendants"
    return "the kernel has no room for another cgroup: delete stopped containers, or give the cpuset above CPUs"


def _realtime(failure: Failure) -> str:
    if not failure.where.startswith("linux.resources.cpu.realtime"):
        return ""
    return "realtime limits need a kernel with CONFIG_RT_GROUP_SCHED, and room in the cgroups above (cpu.rt_runtime_us)"


def _below_usage(failure: Failure) -> str:
    if "is below the current usage" not in failure.message and not (
        failure.errno == EBUSY and failure.where.startswith("linux.resources.memory")
    ):
        return ""
    return "the container uses more than that now: choose a higher limit, or have it give memory back first"


def _value(failure: Failure) -> str:
    if not failure.where.startswith("linux.resources") or failure.errno not in (EINVAL, ERANGE):
        return ""
    value = failure.value()
    shown = "this value" if value is None else repr(value)
    return f"the kernel does not take {shown} as {failure.where}: it bounds it, or the cgroup above does"


def _systemd(failure: Failure) -> str:
    if "already exists" not in failure.message or ".scope" not in failure.message:
        return ""
    return "a unit of that name is there: systemctl reset-failed clears one that failed; or another cgroupsPath"


def _pids(failure: Failure) -> str:
    if failure.call not in ("clone3", "clone", "fork", "vfork") or failure.errno != EAGAIN:
        return ""
    limit = failure.value("linux.resources.pids.limit")
    more = f"; linux.resources.pids.limit is {limit}" if limit is not None else ""
    return f"no more processes: look at pids.max of the cgroups above, ulimit -u, and kernel.pid_max{more}"


KINDS = (
    Kind("cpus-missing", "CPUs or memory nodes that the host, or the cgroup above, does not have", _cpus),
    Kind("controller-missing", "a limit whose controller is not there", _controller),
    Kind("unified-on-v1", "linux.resources.unified on cgroup v1", _unified),
    Kind("memory-too-low", "a memory limit in which nothing can start", _memory),
    Kind("cgroup-not-empty", "a cgroup in which others live, or that is frozen", _not_empty),
    Kind("page-size", "a size of huge pages that the host does not have", _page_size),
    Kind("disk-missing", "a block I/O limit for a disk that is not there", _device),
    Kind("realtime", "realtime limits without a kernel for them", _realtime),
    Kind("below-usage", "a memory limit below what is in use", _below_usage),
    Kind("limit-file-missing", "a limit whose file the kernel does not have", _file),
    Kind("limit-value", "a limit that the kernel does not take", _value),
    Kind("sub-cgroup", "`exec --cgroup` with a cgroup that is not there", _below),
    Kind("cgroup-occupied", "processes in a cgroup whose controllers are enabled below", _occupied),
    Kind("cgroup-threaded", "a cgroup in threaded mode", _threaded),
    Kind("cgroup-read-only", "cgroups that are mounted read-only", _read_only),
    Kind("cgroup-permission", "no permission on cgroups", _permission),
    Kind("too-many-cgroups", "no room for another cgroup", _limit),
    Kind("unit-exists", "a unit of systemd with the container's name", _systemd),
    Kind("too-many-processes", "no more processes", _pids),
)
