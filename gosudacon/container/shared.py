"""What a container shares with the host: read from its configuration, as plugins left it, and from the host's facts.

Pure: nothing is looked at. What each thing means is said in `gosudacon.container.risk`.
"""

from __future__ import annotations

from gosudacon.container.risk import (
    DEFAULT_CAPABILITIES,
    DEVICES,
    ENGINE_DIRECTORIES,
    ENGINES,
    MACHINE_CAPABILITIES,
    MOUNTS,
    ROOT_CAPABILITIES,
    SECRET,
    SYSTEM,
    SYSTEM_WHOLLY,
    TOPICS,
    Reason,
)
from gosudacon.linux.mount import is_bind
from gosudacon.pipeline.spec import ADD_MOUNTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gosudacon.pipeline.spec import Host, Spec
    from gosudacon.schema.types import Mount

_KINDS = ("mount", "pid", "network", "ipc", "uts", "cgroup")
_VIRTUAL = ("proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2", "overlay", "ramfs", "bpf", "none")
_USUAL_NODES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/shm")
_USUAL_DEVICES = (  # (type, major, minor), allowed to every container: config-linux.md, Default Devices; tun, ptmx, pts
    *(("c", 1, 3), ("c", 1, 5), ("c", 1, 7), ("c", 1, 8), ("c", 1, 9), ("c", 5, 0), ("c", 5, 2), ("c", 10, 200)),
    *(("c", 136, None), ("c", None, None), ("b", None, None)),  # the last two only with `m`
)
_MEMORY = ((1, 1), (1, 2), (1, 4))  # mem, kmem, port: Documentation/admin-guide/devices.txt
_LETTERS = frozenset("rw")


def find(spec: Spec, host: Host) -> list[Reason]:
    """Everything that is shared, by topic. ``spec`` may be for `exec`, and for ``mounts add``: then of mounts alone."""
    looker = _Looker(spec, host)
    found = [
        *looker.namespaces(),
        *looker.mounts(),
        *looker.devices(),
        *looker.privileges(),
        *looker.limits(),
    ]
    if spec.operation == ADD_MOUNTS:
        return [each for each in found if each.topic in topics(spec) and each.where.startswith("mounts")]
    return found


def topics(spec: Spec) -> tuple[str, ...]:
    """What can be said about a plan."""
    return (MOUNTS, DEVICES) if spec.operation == ADD_MOUNTS else TOPICS


class _Looker:
    """What one container is, in the words of the table."""

    def __init__(self, spec: Spec, host: Host) -> None:
        self.spec, self.host = spec, host
        self.spaces = {kind: path for kind, path in spec.namespaces().items() if not _is_hosts(path)}
        self.uid = (spec.process.get("user") or {}).get("uid") or 0
        self.locked = bool(spec.process.get("noNewPrivileges"))
        rootful = host.euid == 0 and host.initial_userns
        self.own_users = "user" in self.spaces or not rootful
        maps = spec.linux.get("uidMappings") or ()
        mapped = "user" in self.spaces and any(each["hostID"] == 0 and each["size"] for each in maps)
        self.hosts_root = rootful and (not self.own_users or mapped)
        #: Whether a process of the container is, or can become, root of the host.
        self.root = self.hosts_root and (self.uid == 0 or not self.locked)

    def namespaces(self) -> Iterator[Reason]:
        for kind in _KINDS:
            if kind not in self.spaces:
                yield Reason(f"namespace.{kind}", f"the host's {kind}", "linux.namespaces", not self.hosts_root)
        for index, entry in enumerate(self.spec.linux.get("namespaces") or ()):
            path = entry.get("path")
            if path and not _is_hosts(path):
                yield Reason("namespace.joined", f"{entry['type']} of {path}", f"linux.namespaces[{index}]")
        if self.root:
            place = "linux.uidMappings" if self.own_users else "linux.namespaces"
            who = "uid 0 is the host's root" if self.uid == 0 else f"uid {self.uid} can become the host's root"
            yield Reason("namespace.user", who, place, self.uid != 0)

    def mounts(self) -> Iterator[Reason]:
        for index, entry in enumerate(self.spec.config.get("mounts") or ()):
            where = f"mounts[{index}]"
            if is_bind(entry.get("type"), entry.get("options")):
                yield from self._bind(entry, where)
            else:
                yield from self._filesystem(entry, where)

    def _bind(self, entry: Mount, where: str) -> Iterator[Reason]:
        source = _normal(self.spec.bundle, entry.get("source") or "")
        read_only = _is_read_only(entry)
        what = f"{source} on {entry['destination']}"
        if _is_engine(source):
            yield Reason("mount.engine", what, where)
        elif source.startswith("/dev/") and not source.startswith(("/dev/pts", "/dev/mqueue", "/dev/hugepages")):
            if source not in _USUAL_NODES:
                yield Reason("device.other", source, where)
        elif read_only:
            if source in SECRET and not _is_in(source, self.spec.bundle):
                yield Reason("mount.readable", f"{what} (to read)", where, not self.root)
        else:
            system = _is_system(source) and not _is_in(source, self.spec.bundle)
            name = "mount.system" if system else "mount.writable"
            yield Reason(name, f"{what} (writable)", where, not self.root)

    def _filesystem(self, entry: Mount, where: str) -> Iterator[Reason]:
        kind, read_only, at = entry.get("type") or "", _is_read_only(entry), entry["destination"].rstrip("/")
        if kind == "proc":
            yield from self._proc(at, read_only, where)
        elif read_only:
            return
        elif kind == "sysfs" and self.root:
            yield Reason("mount.sysfs", f"sysfs on {at} (writable)", where)
        elif kind.startswith("cgroup") and self.root and "cgroup" not in self.spaces:
            yield Reason("mount.cgroup", f"the host's cgroups on {at} (writable)", where)
        elif kind not in _VIRTUAL and entry.get("source", "").startswith("/dev/"):
            yield Reason("mount.filesystem", f"{entry.get('source')} on {at} (writable)", where, not self.root)

    def _proc(self, at: str, read_only: bool, where: str) -> Iterator[Reason]:
        linux = self.spec.linux
        masked = [*(linux.get("maskedPaths") or ())]
        closed = [*masked, *(linux.get("readonlyPaths") or ())]
        if self.root and not read_only:
            for name, path in (("mount.proc-sys", f"{at}/sys"), ("mount.sysrq", f"{at}/sysrq-trigger")):
                if not any(_is_in(path, other) for other in closed):
                    yield Reason(name, f"{path} (writable)", "linux.readonlyPaths")
        if not any(_is_in(path, at) for path in masked):
            yield Reason("mount.unmasked", f"all of {at}", "linux.maskedPaths", not self.root)

    def devices(self) -> Iterator[Reason]:
        rules = (self.spec.linux.get("resources") or {}).get("devices") or []
        place, mild = "linux.resources.devices", not self.root
        nodes = {
            (node["type"], node.get("major"), node.get("minor")): node["path"]
            for node in self.spec.linux.get("devices") or ()
            if node["type"] != "p"
        }
        allowed: dict[tuple[str, int | None, int | None], int] = {}
        everything = -1
        for index, rule in enumerate(rules):
            kind = rule.get("type") or "a"
            device = (kind, _number(rule.get("major")), _number(rule.get("minor")))
            if device == ("a", None, None):
                allowed.clear()
                everything = index if rule.get("allow") else -1
            elif not rule.get("allow"):
                allowed.pop(device, None)
            elif _LETTERS & set(rule.get("access") or "") and device not in _USUAL_DEVICES[:-2]:
                allowed[device] = index
        if everything >= 0:
            yield Reason("device.all", "all devices", f"{place}[{everything}]", mild)
        for device, index in allowed.items():
            kind, major, minor = device
            name = "device.block" if kind != "c" else "device.other"
            name = "device.memory" if (major, minor) in _MEMORY and kind == "c" else name
            number = ":".join("*" if number is None else str(number) for number in (major, minor))
            yield Reason(name, nodes.get(device) or f"{kind} {number}", f"{place}[{index}]", mild)

    def privileges(self) -> Iterator[Reason]:
        yield from self._capabilities()
        seccomp = self.spec.linux.get("seccomp")
        if not seccomp:
            yield Reason("seccomp.none", "no seccomp filter", "linux.seccomp", self.own_users)
        elif seccomp.get("defaultAction") in ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG"):
            where = "linux.seccomp.defaultAction"
            yield Reason("seccomp.allows", "seccomp allows what it does not name", where, self.own_users)
        if not self.locked and self.uid != 0:
            yield Reason("no-new-privs", "no_new_privs is off", "process.noNewPrivileges", self.own_users)
        profile, label = self.spec.process.get("apparmorProfile"), self.spec.process.get("selinuxLabel")
        if self.host.apparmor and profile in (None, "", "unconfined"):
            yield Reason("label", "no AppArmor profile", "process.apparmorProfile", self.own_users)
        if self.host.selinux and not label:
            yield Reason("label", "no SELinux label", "process.selinuxLabel", self.own_users)

    def _capabilities(self) -> Iterator[Reason]:
        sets = self.spec.process.get("capabilities")
        where = "process.capabilities"
        if sets is None:
            if self.uid == 0 or not self.locked:
                yield Reason("capability.all", "all capabilities", where, self.own_users)
            return
        kinds: tuple[str, ...] = ("bounding", "effective", "permitted", "inheritable", "ambient")
        if (
            self.uid != 0 and self.locked
        ):  # capabilities(7): execve(2) leaves the ambient ones, and nothing adds to them
            kinds = kinds[-1:]
        members: Mapping[str, object] = sets
        lists = [names for kind in kinds if isinstance(names := members.get(kind), list)]
        for name in sorted({name for names in lists for name in names} - DEFAULT_CAPABILITIES):
            reason = "root" if name in ROOT_CAPABILITIES else "machine" if name in MACHINE_CAPABILITIES else "other"
            if name == "CAP_NET_ADMIN" and "network" in self.spaces:
                reason = "other"
            yield Reason(f"capability.{reason}", name, where, self.own_users)

    def limits(self) -> Iterator[Reason]:
        resources = self.spec.linux.get("resources") or {}
        unified: Mapping[str, object] = resources.get("unified") or {}
        memory, pids, cpu = resources.get("memory") or {}, resources.get("pids") or {}, resources.get("cpu") or {}
        bounds: dict[str, Sequence[object]] = {
            "memory": (memory.get("limit"), unified.get("memory.max")),
            "pids": (pids.get("limit"), unified.get("pids.max")),
            "cpu": (cpu.get("quota"), cpu.get("cpus"), unified.get("cpu.max"), unified.get("cpuset.cpus")),
        }
        without = self.spec.options.cgroup_manager == "disabled"
        for name, values in bounds.items():
            if without or not any(_bounds(value) for value in values):
                yield Reason(f"limit.{name}", f"no limit of {name}", f"linux.resources.{name}")


def _bounds(value: object) -> bool:
    if isinstance(value, str):
        return bool(value) and not value.startswith("max")
    return isinstance(value, int) and value > 0


def _number(number: int | None) -> int | None:
    return None if number in (None, -1) else number


def _is_hosts(path: str) -> bool:
    """Whether a namespace's path is that of the host's first process, or of the runtime's caller."""
    return path.startswith(("/proc/1/ns/", "/proc/self/ns/", "/proc/thread-self/ns/"))


def _is_read_only(entry: Mount) -> bool:
    words = entry.get("options") or ()
    last = [word for word in words if word in ("ro", "rw", "rro", "rrw")]
    return bool(last) and last[-1] in ("ro", "rro")


def _normal(bundle: str, source: str) -> str:
    path = source if source.startswith("/") else f"{bundle}/{source}"
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts[-1:] = []
        elif part not in ("", "."):
            parts.append(part)
    path = "/" + "/".join(parts)
    return path.replace("/var/run/", "/run/", 1) if path.startswith("/var/run/") else path


def _is_in(path: str, other: str) -> bool:
    return path == other or path.startswith(f"{other.rstrip('/')}/")


def _is_system(source: str) -> bool:
    return source in SYSTEM or any(_is_in(source, each) for each in SYSTEM_WHOLLY)


def _is_engine(source: str) -> bool:
    return source.rpartition("/")[2] in ENGINES or source in ENGINE_DIRECTORIES
