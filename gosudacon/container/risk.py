"""How much of the host a container can reach: levels, and the one table of reasons for them.

A container has no number. It has the level of its gravest reason, and every reason is shown with its place. Each reason
has two levels: one where the container's root is the host's, and a milder one where a user namespace (or a user
other than root who can never become root) lies between them.
"""

from __future__ import annotations

NONE, LOW, MEDIUM, HIGH, CRITICAL = "none", "low", "medium", "high", "critical"
#: In ascending order. critical: its root is the host's root with ordinary tools. high: one mistake in a program or in
#: the kernel away from that, or it may disturb the machine. medium: a defence is missing that others stand behind.
#: low: worth knowing.
LEVELS = (NONE, LOW, MEDIUM, HIGH, CRITICAL)

NAMESPACES, MOUNTS, DEVICES, PRIVILEGES, LIMITS = "namespaces", "mounts", "devices", "privileges", "limits"
TOPICS = (NAMESPACES, MOUNTS, DEVICES, PRIVILEGES, LIMITS)

#: Reason -> topic, level where root is the host's, level where it is not, why.
REASONS: dict[str, tuple[str, str, str, str]] = {
    "namespace.mount": (NAMESPACES, CRITICAL, HIGH, "it mounts and unmounts on the host"),
    "namespace.pid": (NAMESPACES, HIGH, MEDIUM, "it sees every process of the host, and signals those of its user"),
    "namespace.network": (NAMESPACES, HIGH, MEDIUM, "it has the host's addresses, ports and abstract sockets"),
    "namespace.ipc": (NAMESPACES, MEDIUM, MEDIUM, "it opens shared memory and queues of the host's processes"),
    "namespace.uts": (NAMESPACES, LOW, LOW, "it sees the host's name, and with CAP_SYS_ADMIN changes it"),
    "namespace.cgroup": (NAMESPACES, LOW, LOW, "it sees where in the host's cgroups it is"),
    "namespace.user": (NAMESPACES, MEDIUM, LOW, "what escapes is root of the host"),
    "namespace.joined": (NAMESPACES, LOW, LOW, "other processes in that namespace share it"),
    "mount.engine": (MOUNTS, CRITICAL, CRITICAL, "who talks to this socket commands the host; read-only does not help"),
    "mount.system": (MOUNTS, CRITICAL, HIGH, "it changes what the host itself runs or reads"),
    "mount.writable": (MOUNTS, LOW, LOW, "it changes files of the host"),
    "mount.readable": (MOUNTS, MEDIUM, LOW, "it reads secrets of the host"),
    "mount.filesystem": (MOUNTS, MEDIUM, LOW, "it changes a filesystem of the host"),
    "mount.proc-sys": (MOUNTS, CRITICAL, LOW, "kernel.core_pattern names a program that the host runs as root"),
    "mount.sysrq": (MOUNTS, HIGH, LOW, "it reboots the host, or kills its processes"),
    "mount.unmasked": (MOUNTS, MEDIUM, LOW, "/proc tells of keys, timers and memory of the host"),
    "mount.sysfs": (MOUNTS, HIGH, LOW, "it changes settings of the host's devices and kernel"),
    "mount.cgroup": (MOUNTS, MEDIUM, LOW, "it changes cgroups of the host, its own limits among them"),
    "device.all": (DEVICES, CRITICAL, LOW, "it reads and writes the host's disks and memory"),
    "device.block": (DEVICES, CRITICAL, HIGH, "it reads and writes what is on it, past all permissions"),
    "device.memory": (DEVICES, CRITICAL, HIGH, "it reads and writes the host's memory or ports"),
    "device.other": (DEVICES, MEDIUM, MEDIUM, "its driver is one more part of the kernel to attack"),
    "capability.all": (PRIVILEGES, CRITICAL, LOW, "no capability is taken away from root"),
    "capability.root": (PRIVILEGES, CRITICAL, LOW, "enough to become root of the host"),
    "capability.machine": (PRIVILEGES, HIGH, LOW, "it reaches the whole machine"),
    "capability.other": (PRIVILEGES, MEDIUM, LOW, "beyond those that engines give by default"),
    "seccomp.none": (PRIVILEGES, MEDIUM, LOW, "it may make every system call, those with the next hole among them"),
    "seccomp.allows": (PRIVILEGES, LOW, LOW, "the filter allows what it does not name, new system calls among it"),
    "no-new-privs": (PRIVILEGES, MEDIUM, LOW, "a setuid program in the image makes its user root"),
    "label": (PRIVILEGES, MEDIUM, LOW, "the host's security module does not confine it"),
    "limit.memory": (LIMITS, MEDIUM, MEDIUM, "it can use all memory that is left, and have others killed for it"),
    "limit.pids": (LIMITS, MEDIUM, MEDIUM, "a fork bomb fills the host's table of processes"),
    "limit.cpu": (LIMITS, LOW, LOW, "it competes for every CPU"),
}

#: What containerd, Docker and Podman give by default, all of them or some.
DEFAULT_CAPABILITIES = frozenset(
    f"CAP_{name}"
    for name in (
        *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW"),
        *("SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
    )
)
#: With one of these, root of the host is a few commands away (capabilities(7)).
ROOT_CAPABILITIES = frozenset(
    f"CAP_{name}" for name in ("SYS_ADMIN", "SYS_MODULE", "SYS_RAWIO", "SYS_PTRACE", "DAC_READ_SEARCH", "BPF")
)
MACHINE_CAPABILITIES = frozenset(
    f"CAP_{name}"
    for name in (
        *("NET_ADMIN", "SYS_BOOT", "SYS_TIME", "PERFMON", "MAC_ADMIN", "MAC_OVERRIDE", "CHECKPOINT_RESTORE"),
        *("SYS_RESOURCE", "LINUX_IMMUTABLE", "AUDIT_CONTROL"),
    )
)

#: Directories whose content the host runs or trusts.
SYSTEM = (
    *("/", "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/opt", "/proc", "/root", "/run"),
    *("/sbin", "/sys", "/usr", "/var"),
)
#: Those of which every part is such a directory, too.
SYSTEM_WHOLLY = ("/bin", "/boot", "/etc", "/lib", "/lib32", "/lib64", "/proc", "/root", "/sbin", "/sys", "/usr")
#: What a container should not even read.
SECRET = ("/", "/etc", "/etc/shadow", "/home", "/proc", "/root", "/root/.ssh", "/var", "/var/lib", "/var/lib/kubelet")
#: Sockets of services that start programs as root for their clients.
ENGINES = (
    *("docker.sock", "containerd.sock", "crio.sock", "podman.sock", "buildkitd.sock", "system_bus_socket"),
    *("cri-dockerd.sock", "snapd.socket", "libvirt-sock"),
)
ENGINE_DIRECTORIES = ("/run/docker", "/run/containerd", "/run/podman", "/run/crio", "/run/systemd", "/run/dbus")


class Reason:
    """One thing that a container shares with the host: ``what`` in few words, ``where`` in config.json.

    ``name`` is a key of `REASONS`; ``mild``: a user namespace lies between.
    """

    def __init__(self, name: str, what: str, where: str = "", mild: bool = False) -> None:
        self.name = name
        self.what = what
        self.where = where
        topic, grave, milder, why = REASONS[name]
        self.topic = topic
        self.level = milder if mild else grave
        self.why = why

    def to_json(self) -> dict[str, str]:
        """As `explain --format json` shows it."""
        names = ("level", "topic", "name", "what", "why", "where")
        return {name: str(getattr(self, name)) for name in names}


def reaches(level: str, threshold: str) -> bool:
    """Whether a level is the threshold's or above."""
    return LEVELS.index(level) >= LEVELS.index(threshold)


def level_of(reasons: list[Reason]) -> str:
    """The level of the gravest one; `NONE` without any."""
    return max((reason.level for reason in reasons), key=LEVELS.index, default=NONE)
