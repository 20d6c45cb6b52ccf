"""The process: its namespaces, user, privileges, scheduling, filter, terminal and hooks."""

from __future__ import annotations

from errno import (
    E2BIG,
    EACCES,
    EBUSY,
    ECONNREFUSED,
    EDQUOT,
    EINVAL,
    ENOENT,
    ENOEXEC,
    ENOMEM,
    ENOSPC,
    ENOSYS,
    ENOTDIR,
    EPERM,
    ERANGE,
    EROFS,
    EUSERS,
)

from gosudacon.base import posix
from gosudacon.container.hints import facts
from gosudacon.container.hints.cgroups import lacks_cpus
from gosudacon.container.hints.kinds import Failure, Kind

DEVPTS = (
    '{"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]}'
)
_CLONES = ("clone3", "clone", "unshare")


def _path_missing(failure: Failure) -> str:
    if failure.stage != "namespaces" or failure.errno != ENOENT or "linux.namespaces" not in failure.where:
        return ""
    entry = failure.value()
    path = str(entry.get("path")) if isinstance(entry, dict) else str(entry)
    if path.startswith("/proc/"):
        return f"the process of {path} has ended: start it again, or name the namespace of another"
    if path.startswith(("/run/netns/", "/var/run/netns/")):
        return f"ip netns add {posix.path.basename(path)} makes it"
    return f"nothing is at {path}: a namespace is kept there by a bind mount of /proc/PID/ns/…"


def _path_wrong(failure: Failure) -> str:
    if failure.stage != "namespaces" or not failure.where.startswith("linux.namespaces"):
        return ""
    entry = failure.value()
    path = str(entry.get("path") or "") if isinstance(entry, dict) else ""
    wrong = " is not a " in failure.message or failure.errno in (EINVAL, EACCES, ENOTDIR)
    if not path or not wrong or failure.errno == EPERM:
        return ""
    try:
        kind = posix.readlink(path).partition(":")[0]
    except PermissionError:
        return f"the caller may not look at {path}: its process belongs to another user, or has more privileges"
    except OSError:
        kind = ""
    assert isinstance(entry, dict)
    return f"{path} is {'a namespace of type ' + kind if kind else 'no namespace'}, the entry says {entry.get('type')}"


def _user_namespaces(failure: Failure) -> str:
    if failure.call not in _CLONES or failure.errno not in (ENOSPC, EPERM, EUSERS):
        return ""
    if failure.errno == EUSERS:
        return "user namespaces are nested more than 32 deep"
    if failure.errno == ENOSPC:
        most = facts.text("/proc/sys/user/max_user_namespaces")
        return f"there are as many namespaces as sysctl user.max_*_namespaces allows (user: {most}; 0 turns them off)"
    for name in ("kernel/unprivileged_userns_clone", "kernel/apparmor_restrict_unprivileged_userns"):
        value = facts.text(f"/proc/sys/{name}")
        if posix.geteuid() and value == ("0" if "clone" in name else "1"):
            return f"this host keeps users from making user namespaces: sysctl {name.replace('/', '.')} is {value}"
    if posix.geteuid() and failure.spec is not None and "user" not in failure.spec.namespaces():
        return 'without root, add {"type": "user"} to linux.namespaces, with mappings (`gosudacon spec --rootless`)'
    return "the caller may not make namespaces: it lacks CAP_SYS_ADMIN, or a seccomp filter forbids it"


def _kernel_namespace(failure: Failure) -> str:
    if failure.call not in _CLONES or failure.errno not in (EINVAL, ENOSYS):
        return ""
    lacking = [
        name
        for name in ("user", "time", "cgroup", "ipc", "uts", "net", "pid")
        if not facts.exists(f"/proc/self/ns/{name}")
    ]
    return (
        f"this kernel has no namespaces of type {', '.join(lacking)}" if lacking else "a seccomp filter may forbid it"
    )


def _subordinate(failure: Failure) -> str:
    if "newuidmap" not in failure.message and "newgidmap" not in failure.message:
        return ""
    if "not found" in failure.message or failure.errno == ENOENT:
        return "install uidmap (shadow-utils), or map only your own id, with size 1"
    return f"/etc/subuid and /etc/subgid must give these ids to user {posix.geteuid()}: usermod --add-subuids"


def _map_write(failure: Failure) -> str:
    if failure.call != "write" or "id_map" not in failure.message or failure.errno not in (EPERM, EINVAL):
        return ""
    return "without root, one may map one's own id alone: for more, install newuidmap and newgidmap (uidmap)"


def _clock(failure: Failure) -> str:
    if failure.where != "linux.timeOffsets" or failure.errno not in (ERANGE, EINVAL):
        return ""
    return "an offset must leave the clock between 0 and 146 years: a negative one is at most the host's uptime"


def _hostname(failure: Failure) -> str:
    if failure.where not in ("hostname", "domainname") or failure.errno != EINVAL:
        return ""
    return f"the kernel takes 64 bytes, and {failure.where} has {len(str(failure.value()).encode())}"


def _rlimit(failure: Failure) -> str:
    if failure.call != "prlimit64":
        return ""
    limits = failure.value("process.rlimits")
    for index, each in enumerate(limits if isinstance(limits, list) else ()):
        if each["type"] in failure.message.rpartition("prlimit64")[2]:
            failure.error.where = f"process.rlimits[{index}]"
            if each["type"] == "RLIMIT_NOFILE" and each["hard"] > int(facts.text("/proc/sys/fs/nr_open") or 0):
                return f"RLIMIT_NOFILE is at most {facts.text('/proc/sys/fs/nr_open')} on this host (sysctl fs.nr_open)"
            return (
                f"to raise the hard limit of {each['type']}, CAP_SYS_RESOURCE is needed: choose one below the caller's"
            )
    return ""


def _scheduler(failure: Failure) -> str:
    if failure.call != "sched_setattr" and "AllowedCPUs" not in failure.message:
        return ""
    config = failure.value("process.scheduler")
    policy = config.get("policy") if isinstance(config, dict) else ""
    if "AllowedCPUs" in failure.message:
        return "SCHED_DEADLINE needs all CPUs of the host: remove linux.resources.cpu.cpus, or the scheduler"
    if failure.errno == EBUSY:
        return "the CPUs have no room for this runtime and period: lower runtime, or raise period (sched(7))"
    if failure.errno == EPERM:
        return f"{policy} needs CAP_SYS_NICE on the host, and realtime for the cgroup (cpu.rt_runtime_us)"
    if policy == "SCHED_DEADLINE":
        return "SCHED_DEADLINE needs 1024 <= runtime <= deadline <= period, in nanoseconds"
    return "see sched_setattr(2) for what the policy takes"


def _io_priority(failure: Failure) -> str:
    if failure.call != "ioprio_set":
        return ""
    if failure.errno == EPERM:
        return "IOPRIO_CLASS_RT needs CAP_SYS_ADMIN or CAP_SYS_NICE: use IOPRIO_CLASS_BE"
    failure.error.where = "process.ioPriority.priority"
    return "a priority is 0 to 7"


def _memory_policy(failure: Failure) -> str:
    if failure.call != "set_mempolicy":
        return ""
    if failure.errno == ENOSYS:
        return "this kernel has no NUMA policies (CONFIG_NUMA): remove linux.memoryPolicy"
    nodes = failure.value("linux.memoryPolicy.nodes")
    lacking = lacks_cpus(nodes, "node")
    failure.error.where = "linux.memoryPolicy.nodes" if nodes else "linux.memoryPolicy.mode"
    return lacking or "the cpuset above, or the flags, leave none of these nodes"


def _affinity(failure: Failure) -> str:
    if failure.call != "sched_setaffinity":
        return ""
    return lacks_cpus(failure.value() or failure.value("process.execCPUAffinity.initial")) or (
        "the container's cpuset has none of these CPUs"
    )


def _apparmor(failure: Failure) -> str:
    if failure.where != "process.apparmorProfile":
        return ""
    profile = failure.value()
    if "not enabled" in failure.message:
        return "remove process.apparmorProfile, or boot with apparmor=1 security=apparmor"
    if failure.errno == ENOENT or failure.errno == EINVAL:
        return f"the profile {profile} is not loaded: apparmor_parser -r loads it, aa-status lists those that are"
    return "aa-status lists the profiles that are loaded"


def _selinux(failure: Failure) -> str:
    if failure.where not in ("process.selinuxLabel", "linux.mountLabel"):
        return ""
    if "disabled" in failure.message:
        return f"remove {failure.where}: this host has no SELinux"
    return "the policy does not know the label, or does not allow the change (ausearch -m avc)"


def _keyring(failure: Failure) -> str:
    if failure.call != "keyctl" or failure.errno not in (EDQUOT, ENOMEM):
        return ""
    text = f"sysctl kernel.keys.maxkeys is {facts.text('/proc/sys/kernel/keys/maxkeys')} (root: root_maxkeys)"
    return f"the user has too many keys: {text}; raise it, or use --no-new-keyring"


def _keyring_denied(failure: Failure) -> str:
    if failure.call != "keyctl":
        return ""
    return "a seccomp filter or SELinux around the runtime forbids keyrings: use --no-new-keyring"


def _identity(failure: Failure) -> str:
    if failure.where != "process.user" or failure.errno not in (EPERM, EINVAL):
        return ""
    if failure.errno == EINVAL:
        return "user or group are not mapped in the user namespace: see linux.uidMappings and gidMappings"
    return "to change user or groups needs root, or setgroups is denied in this user namespace (/proc/self/setgroups)"


def _groups(failure: Failure) -> str:
    if "additional groups need root" not in failure.message:
        return ""
    return "remove process.user.additionalGids: without root, the kernel does not allow groups to be set"


def _oom_score(failure: Failure) -> str:
    if failure.where != "process.oomScoreAdj" or failure.errno not in (EACCES, EPERM):
        return ""
    return "to lower it below the caller's needs CAP_SYS_RESOURCE: choose a higher value"


def _cwd(failure: Failure) -> str:
    if failure.where != "process.cwd" or failure.error.problems:
        return ""
    cwd = failure.value()
    if failure.errno == ENOENT:
        return f"the container has no directory {cwd}: make it, or choose another (create makes it, exec does not)"
    if failure.errno == ENOTDIR:
        return f"{cwd}, or a directory above it, is a file in the image"
    if failure.errno in (EACCES, EPERM):
        return f"the container's user may not enter {cwd}: chmod it in the image, or choose another process.cwd"
    if failure.errno == EROFS:
        return f"{cwd} is not in the image, whose root is read-only: make it there"
    return ""


def _agent(failure: Failure) -> str:
    if "seccomp agent" not in failure.message:
        return ""
    path = failure.value("linux.seccomp.listenerPath")
    if failure.errno == ECONNREFUSED:
        return f"{path} is there, but no process listens on it: has the agent ended?"
    return f"start the agent before the container: it listens on {path}"


def _filter(failure: Failure) -> str:
    if failure.call != "seccomp":
        return ""
    if failure.errno == EINVAL:
        return "the kernel does not know a flag of linux.seccomp.flags, or the filter is too long (4096 instructions)"
    if failure.errno in (ENOMEM, E2BIG):
        return "too many filters are loaded: the runtime itself runs under some"
    if failure.errno == EBUSY:
        return "another filter with a listener is there already: only one may have one"
    return "a filter needs noNewPrivileges, or CAP_SYS_ADMIN in the container's user namespace"


def _console(failure: Failure) -> str:
    if "cannot allocate tty if" in failure.message:
        return "process.terminal needs --console-socket, or `run` in the foreground; or set it to false"
    if "cannot use console socket if" in failure.message:
        return "set process.terminal to true, or leave --console-socket out"
    return ""


def _console_socket(failure: Failure) -> str:
    if failure.call != "connect" or (failure.stage != "rootfs-mount" and "pidfd" not in failure.step):
        return ""
    return "start the program that is to get the descriptor first: it listens there (AF_UNIX, SOCK_STREAM)"


def _devpts(failure: Failure) -> str:
    if failure.stage != "rootfs-mount" or "terminal" not in failure.step or failure.call == "connect":
        return ""
    return f"a terminal needs a devpts in the container: add {DEVPTS} to mounts"


def _hook_path(failure: Failure) -> str:
    if not failure.where.startswith("hooks.") or "fork/exec" not in failure.message:
        return ""
    entry = failure.value()
    path = entry.get("path") if isinstance(entry, dict) else ""
    inside = ".createContainer" in failure.where or ".startContainer" in failure.where
    side = "of the container" if ".startContainer" in failure.where else "of the host"
    if "no such file" in failure.message:
        return f"hooks run programs {side}: {path} is not there, or its interpreter is not"
    if "exec format" in failure.message or failure.errno == ENOEXEC:
        return f"{path} is for another architecture, or a script without #!"
    return f"make {path} executable (chmod +x)" + (", also in the container's namespaces" if inside else "")


def _hook_failed(failure: Failure) -> str:
    if not failure.where.startswith("hooks.") or not failure.message.startswith("error running "):
        return ""
    if "timeout" in failure.message or "timed out" in failure.message or "deadline" in failure.message:
        return "raise the hook's timeout (seconds), or find out what it waits for: it reads the state on standard input"
    return "the hook itself failed: run it by hand, with the container's state (JSON) on its standard input"


def _killed(failure: Failure) -> str:
    if "was killed by signal 9" not in failure.message and "was killed before" not in failure.message:
        return ""
    return "it was killed: by the kernel for lack of memory (dmesg), or by a `delete --force` meanwhile"


KINDS = (
    Kind("namespace-path-missing", "a namespace to join that is gone", _path_missing),
    Kind("namespace-wrong", "a namespace of another type, or no namespace", _path_wrong),
    Kind("namespaces-not-allowed", "no more namespaces, or not for this user", _user_namespaces),
    Kind("namespaces-unknown", "a namespace that this kernel does not have", _kernel_namespace),
    Kind("subordinate-ids", "newuidmap or newgidmap that is missing or refuses", _subordinate),
    Kind("mapping-not-allowed", "more mappings than a user may write", _map_write),
    Kind("time-offset", "a time offset out of range", _clock),
    Kind("hostname-too-long", "a host name of more than 64 bytes", _hostname),
    Kind("rlimit-too-high", "a resource limit above what the host allows", _rlimit),
    Kind("scheduler", "a scheduling policy with values that it does not take", _scheduler),
    Kind("io-priority", "an I/O priority that is not allowed", _io_priority),
    Kind("memory-policy", "a memory policy with nodes that are not there", _memory_policy),
    Kind("affinity", "a process bound to CPUs that it may not use", _affinity),
    Kind("apparmor", "an AppArmor profile that is not loaded, or no AppArmor", _apparmor),
    Kind("selinux", "an SELinux label without SELinux, or that the policy refuses", _selinux),
    Kind("too-many-keys", "more keyrings than the user may have", _keyring),
    Kind("keyring-denied", "keyrings that are forbidden", _keyring_denied),
    Kind("user-denied", "a user that cannot be become", _identity),
    Kind("groups-without-root", "additional groups without root", _groups),
    Kind("oom-score", "an OOM score below the caller's", _oom_score),
    Kind("cwd", "a working directory that is a file, or closed", _cwd),
    Kind("seccomp-agent", "a seccomp agent that does not listen", _agent),
    Kind("seccomp-filter", "a filter that the kernel does not take", _filter),
    Kind("terminal-detached", "a terminal that no socket takes, or a socket without a terminal", _console),
    Kind("terminal-socket", "no program listens on the socket for the terminal or the pidfd", _console_socket),
    Kind("terminal-without-devpts", "a terminal without a devpts to make it in", _devpts),
    Kind("hook-missing", "a hook that cannot be executed", _hook_path),
    Kind("hook-failed", "a hook that failed", _hook_failed),
    Kind("init-killed", "the container's process was killed before it was ready", _killed),
)
