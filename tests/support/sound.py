"""Configurations that run here, made up by Hypothesis: a usual one, changed in a few ways at once.

`CHANGES` has the ways, by what they are about: strategies for what is merged into the configuration. Values are
realistic and odd, and such that any machine with runc takes them. What runc 1.1 does not know is not among them, nor
what gosudacon does better on purpose (docs/protections.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

Strategy = st.SearchStrategy[Any]

MIB = 1 << 20
RLIMITS = st.sampled_from(["CORE", "MEMLOCK", "MSGQUEUE", "NICE", "SIGPENDING"])
AMOUNTS = st.sampled_from([0, 1, 4096, 65536, MIB, 1 << 30])


def words(text: str) -> list[str]:
    """The words of a text."""
    return text.split()


def one(*values: object) -> Strategy:
    return st.sampled_from(values)


def some(text: str, most: int = 4) -> Strategy:
    """Some of these words."""
    return st.lists(st.sampled_from(words(text)), unique=True, max_size=most)


def members(**values: Strategy) -> Strategy:
    """An object with some of these members."""
    return st.fixed_dictionaries({}, optional=values)


def at(path: str, value: Strategy) -> Strategy:
    """A change of what is at a dotted path."""
    for name in reversed(path.split(".")):
        value = st.builds(lambda name, value: {name: value}, st.just(name), value)
    return value


MOUNT_FLAGS = (
    "ro rw nosuid suid nodev dev noexec exec noatime relatime strictatime nodiratime sync "
    "private rprivate slave rslave shared rshared unbindable"
)


def mount(kind: str, source: str, points: list[str], options: str) -> Strategy:
    """One more mount."""
    first = ["bind"] if kind == "bind" else []
    chosen = st.fixed_dictionaries(
        {
            "destination": st.sampled_from(points),
            "type": st.just(kind),
            "source": st.just(source),
            "options": some(options).map(lambda more: first + more),
        }
    )
    return at("mounts", st.tuples(chosen).map(list))


def _rlimits(chosen: dict[str, tuple[int, int]]) -> list[dict[str, Any]]:
    return [{"type": f"RLIMIT_{name}", "soft": min(pair), "hard": max(pair)} for name, pair in chosen.items()]


def _capabilities(names: list[str], sets: str) -> dict[str, Any]:
    return {f"={kind}": [f"CAP_{name}" for name in names] for kind in words(sets)}


def _user_namespace(first: int, size: int) -> dict[str, Any]:
    mapping = [{"containerID": 0, "hostID": first, "size": size}]
    return {"linux": {"namespaces": [{"type": "user"}], "uidMappings": mapping, "gidMappings": mapping}}


def _without(kinds: list[str]) -> dict[str, Any]:
    return {"linux": {"-namespaces": kinds}}


CHANGES: dict[str, Strategy] = {
    "user": at(
        "process.user",
        st.fixed_dictionaries(
            {"uid": one(0, 1, 1000, 65534, 4000000), "gid": one(0, 1, 1000, 65534)},
            optional={"umask": one(0, 0o22, 0o77, 0o777), "additionalGids": one([], [5], [29, 5], [0, 0], [1000])},
        ),
    ),
    "capabilities": at(
        "process.capabilities",
        st.builds(
            _capabilities,
            some("CHOWN DAC_OVERRIDE KILL NET_RAW SETUID SETGID SYS_CHROOT MKNOD SETPCAP", 5),
            one(
                "bounding",
                "bounding effective permitted",
                "bounding effective inheritable permitted",
                "bounding effective inheritable permitted ambient",
            ),
        ),
    ),
    "noNewPrivileges": at("process.noNewPrivileges", st.booleans()),
    "rlimits": at("process.rlimits", st.dictionaries(RLIMITS, st.tuples(AMOUNTS, AMOUNTS), max_size=3).map(_rlimits)),
    "env": at("process.env", some("A=b A=c EMPTY= E=a=b HOME=/x TERM=dumb PATH=/bin:/none ü=é")),
    "cwd": at("process.cwd", one("/", "/tmp", "/home/user", "/new/deep", "/proc")),
    "oom": at("process.oomScoreAdj", one(0, 1, 500, 1000)),
    "hostname": at("hostname", one("a", "host.example.org", "x" * 64)),
    "shared": some("network ipc pid", 1).map(_without),
    "cgroup namespace": st.just({"linux": {"namespaces": [{"type": "cgroup"}]}}),
    "user namespace": st.builds(_user_namespace, one(100000, 1000), one(65536, 70000)),
    "root": at("root.readonly", st.booleans()),
    "propagation": at("linux.rootfsPropagation", one(*words("private rprivate slave rslave shared rshared"), "")),
    "tmpfs": mount(
        *("tmpfs", "tmpfs", ["/mnt", "/new/deep/er", "/tmp", "/etc/x"]),
        f"{MOUNT_FLAGS} mode=700 size=64k uid=7 nr_inodes=9",
    ),
    "bind": mount(
        *("bind", "@BUNDLE@/rootfs/etc", ["/mnt", "/new/a b", "/home/user", "/srv/é"]), f"{MOUNT_FLAGS} rbind"
    ),
    "file": mount("bind", "@BUNDLE@/rootfs/etc/passwd", ["/etc/group", "/new.file", "/a/b/file"], "ro noexec nosuid"),
    "masked": at("linux.=maskedPaths", some("/proc/kcore /etc/passwd /home /none /proc/sys")),
    "readonly": at("linux.=readonlyPaths", some("/proc/sys /etc /tmp /none /bin/sh")),
    "sysctl": at(
        "linux.sysctl",
        st.fixed_dictionaries(
            {},
            optional={
                "net.ipv4.ip_forward": one("1", "0"),
                "net.ipv4.ping_group_range": one("0 100"),
                "kernel.msgmax": one("4096"),
                "kernel.shm_rmid_forced": one("1"),
            },
        ),
    ),
    "memory": at(
        "linux.resources.memory",
        members(limit=one(0, -1, 64 * MIB, 64 * MIB + 1), reservation=one(0, -1, 32 * MIB)),
    ),
    "cpu": at(
        "linux.resources.cpu",
        members(
            shares=one(0, 2, 1024, 262144, 300000),
            quota=one(-1, 20000),
            period=one(50000, 100000),
            cpus=one("0", ""),
        ),
    ),
    "pids": at("linux.resources.pids.limit", one(-1, 20, 100)),
    "device": at(
        "linux.devices",
        st.tuples(
            st.fixed_dictionaries(
                {
                    "path": one("/dev/x", "/dev/deep/x", "/mnt/x"),
                    "type": one("c", "u"),
                    "major": one(1),
                    "minor": one(3, 7),
                },
                optional={"fileMode": one(0o600, 0o20666), "uid": one(0, 1000), "gid": one(0, 5)},
            )
        ).map(list),
    ),
    "fifo": at("linux.devices", one([{"path": "/dev/fifo", "type": "p", "fileMode": 0o666}])),
    "rule": at(
        "linux.resources.devices",
        st.tuples(
            st.one_of(
                st.fixed_dictionaries({"allow": one(True), "access": one("rwm", "r", "m"), "type": one("c", "b")}),
                st.fixed_dictionaries({"allow": st.booleans(), "access": one("rwm")}, optional={"type": one("a")}),
            )
        ).map(list),
    ),
    "seccomp": at(
        "linux.seccomp",
        st.fixed_dictionaries(
            {
                "defaultAction": one("SCMP_ACT_ALLOW"),
                "syscalls": st.tuples(
                    st.fixed_dictionaries(
                        {
                            "names": some("mkdir mkdirat chmod sethostname unshare keyctl no_such_call").filter(len),
                            "action": one("SCMP_ACT_ERRNO", "SCMP_ACT_LOG", "SCMP_ACT_ALLOW"),
                        }
                    )
                ).map(list),
            },
            optional={
                "flags": one([], ["SECCOMP_FILTER_FLAG_LOG"]),
                "architectures": one(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]),
            },
        ),
    ),
    "annotations": at("annotations", st.fixed_dictionaries({"org.example.a": one("", "x")})),
}


@st.composite
def changes(draw: Callable[[Strategy], Any]) -> list[dict[str, Any]]:
    """A few changes at once, none of one kind twice."""
    kinds = draw(st.lists(st.sampled_from(sorted(CHANGES)), unique=True, min_size=1, max_size=6))
    return [draw(CHANGES[kind]) for kind in kinds]


def merge(target: dict[str, Any], change: dict[str, Any]) -> None:
    """Merge a change: lists are added to; ``=NAME`` replaces one, ``-NAME`` takes out what has one of these types."""
    for name, value in change.items():
        known = target.get(name)
        if name.startswith("="):
            target[name[1:]] = value
        elif name.startswith("-"):
            target[name[1:]] = [item for item in target[name[1:]] if item["type"] not in value]
        elif isinstance(value, dict) and isinstance(known, dict):
            merge(known, value)
        elif isinstance(value, list) and isinstance(known, list):
            target[name] = known + value
        else:
            target[name] = value
