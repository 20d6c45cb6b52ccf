"""Configurations made up by Hypothesis: valid ones of every shape, from the schema, and words that callers use.

What the schema says of a value is turned into a strategy: enums, ranges with their edges, formats. `WORDS` has what
people write where the schema allows any text. Rules that reach over several members (uniqueBy, dependentRequired, if)
are not known here: the validator is asked what is wrong, and that is taken out again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import reject
from hypothesis import strategies as st

from gosudacon.api import Host
from gosudacon.schema import problems
from gosudacon.stages.rootfs_mount.options import WORDS as MOUNT_OPTIONS

Strategy = st.SearchStrategy[Any]

SCHEMA: dict[str, Any] = json.loads((Path(problems.__file__).parent / "config.schema.json").read_text())
USUAL = [0, 1, 2, 3, 5, 7, 10, 100, 1000, 1024, 4096, 65534, 65536, 100000, 1 << 20, 1 << 26, 1 << 30]
"""Numbers that stand in configurations; those in range are as likely as all others together."""
MANY = 12
"""Members that an object has at most besides those that it must have; the root and ``linux`` may have all."""


def _pick(*values: object) -> Strategy:
    return st.sampled_from(values)


def _words(text: str) -> Strategy:
    """One of the words, and where they are set apart by semicolons, of the phrases."""
    return st.sampled_from([word.strip() for word in text.split(";")] if ";" in text else text.split())


def _texts() -> Strategy:
    return st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)


PATHS = _words(
    "/; /proc; /proc/sys; /proc/self/fd; /sys; /sys/fs/cgroup; /dev; /dev/pts; /dev/shm; /dev/null; /dev/mqueue; /tmp; "
    "/etc/hosts; /run/x; /data/a b; /a/../b; //x//; /no/such; /x/; /é/.."
)
FORMATS: dict[str, Strategy] = {
    "text": _texts(),
    "line": _words("; L3:0=ffff; MB:0=50; x y"),
    "absolute-path": PATHS,
    "component": _words("a eth0 x-1 memory.high pids.max cgroup.freeze mlx5_0 10"),
    "clos-id": _words("/ class a.b"),
    "interface-name": _words("eth0 lo a xxxxxxxxxxxxxxx wlan-é"),
    "hostname": st.one_of(_pick("", "host", "h.example.org", "x" * 64, "ü"), _texts()),
    "cpu-list": _words("; 0; 0-1; 0,1; 0-3,8-15:2/4; 1; 99999; 0-"),
    "env-entry": _words("PATH=/bin:/usr/bin PATH= HOME=/ A=b=c A= ü=é TERM=xterm A=2 LISTEN_FDS=1"),
    "capability": _words("CAP_CHOWN CAP_KILL CAP_SYS_ADMIN CAP_NET_RAW CAP_BPF CAP_SETPCAP CAP_NEW_ONE"),
    "sysctl-key": _words(
        "net.ipv4.ip_forward net/ipv4/conf/eth0.1/forwarding net.core.somaxconn kernel.shmmax kernel.msgmax kernel.sem "
        "kernel.hostname kernel.domainname fs.mqueue.msg_max vm.swappiness"
    ),
    "mb-schema": _words("MB:0=50 MB:"),
    "device-access": _words("r w m rw rwm mr"),
    "hugepage-size": _words("2MB 1GB 64KB 1024MB"),
}
WORDS: dict[str, Strategy] = {
    "ociVersion": _words("1.0.2; 1.2.0; 1.3.0; 1.0.2-dev; "),
    "root.path": _words("rootfs; /srv/rootfs; .; ./a b/ü; ../x; /"),
    "annotations": st.dictionaries(
        _words("org.example.a run.oci.keep_original_groups org.systemd.property.TasksMax é a[0].b"),
        _texts(),
        max_size=2,
    ),
    "mounts[].type": _words("bind; proc; sysfs; tmpfs; devpts; mqueue; cgroup; cgroup2; overlay; none; ; ext4"),
    "mounts[].source": _words("/; /etc/hosts; proc; tmpfs; shm; data; ../x; ; /dev/sda1; /a b; cgroup"),
    "mounts[].destination": st.one_of(PATHS, _words("relative dev/x ..")),
    "mounts[].options[]": st.one_of(
        st.sampled_from(sorted(MOUNT_OPTIONS)),
        _words("mode=755; mode=1777; size=64k; gid=5; newinstance; ptmxmode=0666; x=y; ; context=x; lowerdir=/a:/b"),
        _pick("idmap=uids=0-1-2;gids=0-1-2", "src-nofollow", "dest-nofollow"),
    ),
    "process.args[]": _words("sh; /bin/true; ./x; -c; echo $A; ; é; [x]"),
    "process.cwd": PATHS,
    "process.apparmorProfile": _words("; unconfined; docker-default; a//&b"),
    "process.selinuxLabel": _words("; system_u:system_r:container_t:s0"),
    "linux.mountLabel": _words("; system_u:object_r:container_file_t:s0"),
    "linux.namespaces[].path": _words("/proc/1/ns/net /run/netns/x /proc/self/ns/pid /"),
    "linux.cgroupsPath": _words("; /a/b; a; user.slice:pre:name; :pre:name; system.slice::name; /; ../x; /a/../b; a:b"),
    "linux.sysctl.*": _words("1; 0; ; 1 2 3; x"),
    "linux.resources.unified.*": _words("max; 0; 100; ; +memory; 8:0 rbps=1"),
    "linux.seccomp.syscalls[].names[]": _words(
        "read; mknod; clone; clone3; no_such_call; faccessat2; socket; personality; "
    ),
    "linux.personality.flags[]": _words("ADDR_NO_RANDOMIZE"),
}


def _resolve(schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        found: Any = SCHEMA
        for name in schema["$ref"].split("/")[1:]:
            found = found[name]
        schema = {**found, **{name: value for name, value in schema.items() if name != "$ref"}}
    return schema


def _number(schema: dict[str, Any]) -> Strategy:
    low, high = schema["minimum"], schema["maximum"]
    edges = {low, low + 1, high - 1, high, *(number for number in USUAL if low <= number <= high)}
    return st.one_of(st.sampled_from(sorted(edges)), st.integers(low, high))


def _of(schema: dict[str, Any], path: str = "") -> Strategy:
    """The values that the schema allows at a path such as ``mounts[].options[]``, as far as it says."""
    schema = _resolve(schema)
    if path in WORDS:
        return WORDS[path]
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kind = schema["type"]
    if kind == "boolean":
        return st.booleans()
    if kind == "integer":
        return _number({"minimum": -(1 << 63), "maximum": (1 << 64) - 1, **schema})
    if kind == "string":
        return FORMATS.get(schema.get("format", ""), _texts())
    if kind == "array":
        return st.lists(_of(schema["items"], f"{path}[]"), min_size=schema.get("minItems", 0), max_size=4)
    if "additionalProperties" in schema:
        return st.dictionaries(
            _of(schema["propertyNames"]), _of(schema["additionalProperties"], f"{path}.*"), max_size=3
        )
    return _object(schema, path)


def _object(schema: dict[str, Any], path: str) -> Strategy:
    members = {name: _of(part, f"{path}.{name}".strip(".")) for name, part in schema["properties"].items()}
    needed = schema.get("required", [])
    free = [name for name in members if name not in needed]
    most = len(free) if path in ("", "linux") else MANY

    @st.composite
    def build(draw: Callable[[Strategy], Any]) -> dict[str, Any]:
        chosen = draw(st.sets(st.sampled_from(free), max_size=most)) if free else set()
        return {name: draw(members[name]) for name in members if name in needed or name in chosen}

    return build()


def _steps(where: str) -> list[Any]:
    """The steps of a place as the validator writes it: ``linux.sysctl["a.b"][0]``."""
    found = re.findall(r'\[(\d+)\]|\[("(?:[^"\\]|\\.)*")\]|([^.\[\]]+)', where)
    return [int(number) if number else json.loads(quoted) if quoted else name for number, quoted, name in found]


def take_out(config: Any, where: str) -> bool:
    """Remove what is at a place, or, where nothing is there, the object that misses it; whether one of both was."""
    *parents, last = _steps(where) or [""]
    node: Any = config
    holder: Any = None
    for step in parents:
        if isinstance(node, dict) and step not in node:
            return False
        holder = node
        node = node[step]
    if isinstance(node, list) or last in node:
        del node[last]
    elif holder is not None:
        del holder[parents[-1]]
    else:
        return False
    return True


@st.composite
def configs(draw: Callable[[Strategy], Any]) -> dict[str, Any]:
    """Any valid config.json that has a process."""
    config: dict[str, Any] = draw(_ANY)
    for _ in range(30):
        wrong = problems.problems(config)
        if not wrong:
            return config if "process" in config else reject()
        if not take_out(config, wrong[-1].where):
            return reject()
    return reject()


_ANY = _of({**SCHEMA, "required": [*SCHEMA["required"], "process"]})


def _host(mode: str, **more: Any) -> Host:
    v1 = {name: f"/sys/fs/cgroup/{name}" for name in ("cpu", "memory", "pids", "devices", "freezer", "blkio", "cpuset")}
    mounts = {"v1": v1, "hybrid": {**v1, "": "/sys/fs/cgroup/unified"}, "v2": {"": "/sys/fs/cgroup"}}[mode]
    return Host(cgroup_mode=mode, cgroup_mounts=mounts, own_cgroups=dict.fromkeys(mounts, "/own"), **more)


HOSTS = {
    "v2": _host("v2", systemd=True, apparmor=True),
    "hybrid": _host("hybrid", kernel=(6, 18)),
    "v1": _host("v1", kernel=(5, 4), clone3=False),
    "rootless": _host("v2", euid=1000, kernel=(6, 12)),
    "in a user namespace": _host("v2", initial_userns=False, selinux=True),
}
