"""What the stages rootfs-mount and pivot-root plan: for the callers' usual bundles, word for word, and in each detail.

The expected plans are files in ``rootfs_plans``; ``GOSUDACON_WRITE_PLANS=1`` writes them anew, to be read and
committed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from gosudacon.api import ConfigError, Host
from gosudacon.container import template
from gosudacon.pipeline.plan import Plan
from gosudacon.stages.rootfs_mount.options import PROPAGATION
from tests.support.scratch_root import plan_of

PLANS = Path(__file__).parent / "rootfs_plans"
SAFE = ["nosuid", "noexec", "nodev"]
OLD = Host(kernel=(5, 10))
V1 = Host(
    cgroup_mode="hybrid",
    cgroup_mounts={
        "": "/sys/fs/cgroup/unified",
        "cpu": "/sys/fs/cgroup/cpu,cpuacct",
        "cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
        "memory": "/sys/fs/cgroup/memory",
        "name=systemd": "/sys/fs/cgroup/systemd",
    },
    own_cgroups={"": "/", "cpu": "/user", "cpuacct": "/user", "memory": "/", "name=systemd": "/user/x"},
)


def mount(destination: str, fstype: str, source: str, *options: str, **more: Any) -> dict[str, Any]:
    return {"destination": destination, "type": fstype, "source": source, "options": list(options), **more}


def config(*mounts: dict[str, Any], kinds: str = "pid network ipc uts mount", **linux: Any) -> dict[str, Any]:
    spaces = [{"type": kind} for kind in kinds.split()]
    return {
        "root": {"path": "rootfs"},
        "process": {"cwd": "/", "args": ["x"]},
        "mounts": list(mounts),
        "linux": {"namespaces": spaces, **linux},
    }


def lines(plan: Plan) -> list[str]:
    width = max(len(step.phase) for step in plan.steps)
    return [
        f"{step.phase:{width}} {step.runs_on():9} {step.describe()}" + f"  [{step.where}]" * bool(step.where)
        for step in plan.steps
    ]


def describe(*mounts: dict[str, Any], host: Host | None = None, **linux: Any) -> list[str]:
    """The steps that these mounts alone bring about."""
    with_, without = plan_of(config(*mounts, **linux), host=host), plan_of(config(**linux), host=host)
    common = {step.describe() for step in without.steps}
    return [f"{step.phase}: {step.describe()}" for step in with_.steps if step.describe() not in common]


def refused(plan_config: dict[str, Any], host: Host | None = None, **options: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        plan_of(plan_config, host=host, **options)
    return caught.value


# Whole plans.


def podman() -> dict[str, Any]:
    made = config(
        mount("/proc", "proc", "proc", *SAFE),
        mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        mount("/sys", "sysfs", "sysfs", *SAFE, "ro"),
        mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
        mount("/dev/mqueue", "mqueue", "mqueue", *SAFE),
        mount("/etc/resolv.conf", "bind", "/run/c/resolv.conf", "bind", "rprivate"),
        mount("/dev/shm", "bind", "/var/lib/c/shm", "bind", "rprivate", *SAFE),
        mount("/run/secrets", "bind", "/run/c/run/secrets", "bind", "rprivate"),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", "rprivate", "relatime", "rw", *SAFE),
        mount("/data", "bind", "/srv/data", "rbind", "rw", "rprivate"),
        kinds="pid network ipc uts mount cgroup",
        rootfsPropagation="rslave",
        maskedPaths=["/proc/kcore", "/sys/firmware", "/sys/fs/selinux"],
        readonlyPaths=["/proc/sys"],
        sysctl={"net.ipv4.ping_group_range": "0 0"},
    )
    made["process"]["cwd"] = "/home/user"
    return made


def docker() -> dict[str, Any]:
    made = config(
        mount("/proc", "proc", "proc", *SAFE),
        mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
        mount("/sys", "sysfs", "sysfs", *SAFE, "ro"),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro", *SAFE),
        mount("/dev/mqueue", "mqueue", "mqueue", *SAFE),
        mount("/dev/shm", "tmpfs", "shm", *SAFE, "mode=1777", "size=67108864"),
        mount("/etc/resolv.conf", "bind", "/var/lib/docker/c/resolv.conf", "rbind", "rprivate"),
        mount("/etc/hostname", "bind", "/var/lib/docker/c/hostname", "rbind", "rprivate"),
        mount("/etc/hosts", "bind", "/var/lib/docker/c/hosts", "rbind", "rprivate"),
        mount("/run", "tmpfs", "tmpfs", *SAFE, "ro", "tmpcopyup"),
        maskedPaths=["/proc/acpi", "/proc/kcore"],
        readonlyPaths=["/proc/bus"],
        devices=[{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o660, "uid": 7}],
    )
    made["root"]["readonly"] = True
    return made


def cri() -> dict[str, Any]:
    made = config(
        mount("/proc", "proc", "proc", *SAFE),
        mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
        mount("/dev/mqueue", "mqueue", "mqueue", *SAFE),
        mount("/sys", "sysfs", "sysfs", *SAFE, "ro"),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", *SAFE, "relatime", "ro"),
        mount("/etc/hosts", "bind", "/var/lib/kubelet/hosts", "rbind", "rprivate", "rw"),
        mount("/dev/shm", "bind", "/run/containerd/shm", "rbind", "rprivate", "rw"),
        mount("/var/run/secrets", "bind", "/var/lib/kubelet/secret", "rbind", "rprivate", "ro", "rro"),
        mount("/csi", "bind", "/var/lib/kubelet/csi", "rbind", "rshared", "rw"),
        rootfsPropagation="rshared",
    )
    made["linux"]["namespaces"] = [
        {"type": "pid"},
        {"type": "ipc", "path": "/proc/7/ns/ipc"},
        {"type": "uts", "path": "/proc/7/ns/uts"},
        {"type": "network", "path": "/proc/7/ns/net"},
        {"type": "mount"},
    ]
    return made


def users() -> dict[str, Any]:
    ids = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    return config(
        mount("/proc", "proc", "proc"),
        mount("/dev", "tmpfs", "tmpfs", "nosuid", "mode=755"),
        mount("/data", "bind", "data", "bind", "idmap", "ro"),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", *SAFE),
        kinds="pid network ipc uts mount user cgroup",
        uidMappings=ids,
        gidMappings=ids,
    )


WHOLE: dict[str, tuple[Any, Host, dict[str, Any]]] = {
    "spec-v2": (template.default_spec(cgroup_v2=True), Host(), {"console_socket": "/run/tty.sock"}),
    "spec-v1": (template.default_spec(cgroup_v2=False), V1, {}),
    "spec-old-kernel": (template.default_spec(cgroup_v2=False), OLD, {}),
    "spec-rootless": (template.default_spec(cgroup_v2=True, rootless=(1000, 1000)), Host(euid=1000), {}),
    "podman": (podman(), Host(), {}),
    "docker": (docker(), V1, {}),
    "cri": (cri(), Host(), {}),
    "users": (users(), Host(), {}),
    "no-pivot": (config(mount("/proc", "proc", "proc")), Host(), {"no_pivot": True}),
    "no-mount-namespace": (config(kinds="pid"), Host(), {}),
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_plans(name: str) -> None:
    given, host, options = WHOLE[name]
    text = "\n".join(lines(plan_of(given, "/bundle", host, **options))) + "\n"
    path = PLANS / f"{name}.txt"
    if os.environ.get("GOSUDACON_WRITE_PLANS"):
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("name", WHOLE)
def test_steps_are_data(name: str) -> None:
    """Steps are data and nothing outlives the process."""
    given, host, options = WHOLE[name]
    plan = plan_of(given, "/bundle", host, **options)
    json.dumps(plan.to_json())
    assert not plan.lasting()
    assert all(step.stage in ("rootfs-mount", "pivot-root") for step in plan.steps)


@pytest.mark.parametrize("name", WHOLE)
def test_planning_twice_gives_the_same(name: str) -> None:
    given, host, options = WHOLE[name]
    before = json.dumps(given)
    assert lines(plan_of(given, "/b", host, **options)) == lines(plan_of(given, "/b", host, **options))
    assert json.dumps(given) == before


# One mount.


def test_sources_are_opened_on_the_runtime_side() -> None:
    assert describe(mount("/data/", "bind", "src", "rbind", "ro", "rprivate")) == [
        "prepare: clone the mount of /b/src for /data, with its options",
        "isolate: close what was opened for the container's process",
        "mount: mount /b/src on /data (rbind,ro,rprivate)",
    ]


def test_sources_without_privilege() -> None:
    """A caller without privilege opens them in the container."""
    assert describe(mount("/data", "bind", "/src", "bind"), host=Host(euid=1000))[-1:] == [
        "mount: mount /src on /data (bind) [in the container]"
    ]


def test_an_old_kernel_gets_mount_2() -> None:
    assert describe(mount("/data", "bind", "/src", "bind"), mount("/t", "tmpfs", "x", "ro"), host=OLD) == [
        "isolate: close what was opened for the container's process",
        "mount: mount /src on /data (bind) [mount(2)]",
        "mount: mount tmpfs x on /t (ro) [mount(2)]",
        "confine: make /t read-only",
    ]


@pytest.mark.parametrize(
    ("entry", "new"),
    [
        (mount("/m", "tmpfs", "tmpfs"), True),
        (mount("/m", "tmpfs", "tmpfs", "iversion"), False),
        (mount("/m", "tmpfs", "tmpfs", "remount"), False),
        (mount("/m", "tmpfs", "tmpfs", "mpol=" + "x" * 256), False),
        (mount("/m", "overlay", "overlay", "lowerdir=/a:/b"), False),
        (mount("/m", "ext4", "/dev/loop0", "ro"), False),
        (mount("/m", "cgroup2", "cgroup"), True),
    ],
)
def test_filesystems_for_mount_2(entry: dict[str, Any], new: bool) -> None:
    """Filesystems that fsconfig cannot do go through mount(2)."""
    (line,) = [each for each in describe(entry) if each.startswith("mount: mount")]
    assert line.endswith("[mount(2)]") != new


def steps(plan: Plan, kind: str) -> list[dict[str, Any]]:
    return [vars(step) for step in plan.steps if type(step).__name__ == kind]


def test_the_mode_of_a_tmpfs_is_inherited_unless_given() -> None:
    tmpfs = mount("/a", "tmpfs", "t"), mount("/b", "tmpfs", "t", "size=1,mode=700")
    plan = plan_of(config(*tmpfs, mount("/c", "proc", "")))
    assert [step["inherit_mode"] for step in steps(plan, "MountFilesystem")] == [True, False, False]


def test_read_only_tmpfs_and_dev() -> None:
    """A read only tmpfs or dev stays writable until the end."""
    deferred = mount("/a", "tmpfs", "t", "ro"), mount("/dev", "devtmpfs", "d", "ro")
    plan = plan_of(config(*deferred, mount("/s", "sysfs", "s", "ro")))
    tmpfs, sysfs = steps(plan, "MountFilesystem")
    (dev,) = steps(plan, "MountFilesystemClassic")
    assert (tmpfs["attributes"], tmpfs["parameters"], tmpfs["keep"]) == (0, [], True)
    assert (dev["flags"], dev["keep"]) == (0, True)
    assert (sysfs["attributes"], sysfs["parameters"], sysfs["keep"]) == (1, [["ro", None]], False)
    assert [step["destination"] for step in steps(plan, "RemountReadOnly")] == ["/a", "/dev"]


def test_propagation_is_repeated() -> None:
    """Propagation is repeated where the parent may be shared."""
    binds = [mount("/a", "bind", "/a", "bind", "private"), mount("/b", "bind", "/b", "rbind", "rshared")]
    plan = plan_of(config(*binds, mount("/b/c", "bind", "/c", "rbind", "rprivate")))
    assert [step["again"] for step in steps(plan, "Bind")] == [[], [], [1 << 18 | 0x4000]]


def test_flags_in_a_user_namespace() -> None:
    """Mounts in a user namespace keep the flags of their source."""
    entry = mount("/a", "bind", "/a", "bind", "ro")
    ids = [{"containerID": 0, "hostID": 1, "size": 1}]
    ordinary = steps(plan_of(config(entry)), "OpenSource")[0]
    mapped = steps(plan_of(config(entry, kinds="mount user", uidMappings=ids, gidMappings=ids)), "OpenSource")[0]
    assert (ordinary["set"], ordinary["clear"]) == (1, 0x20000E)
    assert (mapped["set"], mapped["clear"]) == (1, 0)


@pytest.mark.parametrize(
    ("word", "classic", "base", "afterwards"),
    [
        (None, "rslave", ["rslave"], ""),
        ("slave", "rslave", ["rslave"], ""),
        ("private", "rprivate", ["rprivate"], ""),
        ("rprivate", "rprivate", ["rprivate"], ""),
        ("shared", "shared", [], "shared"),
        ("rshared", "rshared", [], "rshared"),
        ("unbindable", "rprivate", ["rprivate"], "unbindable"),
        ("runbindable", "rprivate", ["rprivate"], "runbindable"),
    ],
)
def test_propagation_of_the_root(word: str | None, classic: str, base: list[str], afterwards: str) -> None:
    """Only mount(2) copies bind sources inside the namespace, and so needs it shared itself."""
    cases: tuple[tuple[Host, dict[str, Any], str], ...] = (
        (Host(), {}, classic.replace("rshared", "rslave").replace("shared", "rslave")),
        (OLD, {}, classic),
        (OLD, {"no_pivot": True}, classic.replace("rshared", "rslave").replace("shared", "rslave")),
    )
    for host, options, first in cases:
        if options and "private" in (word or ""):
            continue
        made = config(mount("/a", "bind", "/a", "rbind"), rootfsPropagation=word)
        plan = plan_of(made, host=host, **options)
        found = [step.describe() for step in plan.steps]
        assert f"make / {first}" in found
        (bind,) = steps(plan, "BindClassic" if host is OLD else "OpenSource")
        assert bind["propagation"] == [PROPAGATION[each] for each in base]
        assert bool(steps(plan, "SetRootPropagation")) == bool(afterwards)
        assert not afterwards or f"make / {afterwards}" in found
        assert ("make the mount that holds /b/rootfs private" in found) == ("shared" in first)


def test_devices_replace_default_ones() -> None:
    """Devices of the configuration take the place of default ones."""
    devices = [
        {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600},
        {"path": "/x/pipe", "type": "p", "uid": 1, "gid": 2},
        {"path": "/dev/sda", "type": "b", "major": 8, "minor": 0},
    ]
    found = [step.describe() for step in plan_of(config(devices=devices)).steps if type(step).__name__ == "MakeNodes"]
    assert found == [
        "mknod /dev/zero /dev/full /dev/random /dev/urandom /dev/tty",
        "mknod /dev/null (c 1:3 0600)",
        "mknod /x/pipe (p 0666 1:2)",
        "mknod /dev/sda (b 8:0 0666)",
    ]


def test_a_bound_dev_is_left_alone() -> None:
    plan = plan_of(config(mount("/dev/", "bind", "/dev", "rbind"), devices=[{"path": "/dev/x", "type": "p"}]))
    assert not steps(plan, "MakeNodes") and not steps(plan, "LinkDev")


def test_nodes_are_bound_in_a_user_namespace() -> None:
    ids = [{"containerID": 0, "hostID": 1, "size": 1}]
    plan = plan_of(config(kinds="mount user", uidMappings=ids, gidMappings=ids))
    assert steps(plan, "MakeNodes")[0]["bind"]
    assert steps(plan_of(config(), host=Host(initial_userns=False)), "MakeNodes")[0]["bind"]


def test_hidden_paths() -> None:
    """Hidden paths are hidden once and looked for where they belong."""
    hidden: dict[str, Any] = {
        "maskedPaths": ["/proc/a", "/x", "/proc/a", "/proc/cpuinfo", "/sys/b"],
        "readonlyPaths": ["/proc/a"],
    }
    mounts = [
        mount("/proc", "proc", "proc"),
        mount("/proc/cpuinfo", "bind", "/lxcfs", "bind"),
        mount("/sys", "sysfs", "sysfs"),
        mount("/sys/fs/cgroup", "cgroup2", "cgroup"),
    ]
    plan = plan_of(config(*mounts, **hidden))
    masks = [(step["path"], step["magic"], step["where"], step["last"]) for step in steps(plan, "Mask")]
    assert masks == [
        ("/proc/a", 0x9FA0, "linux.maskedPaths[0]", False),
        ("/x", 0, "linux.maskedPaths[1]", False),
        ("/proc/cpuinfo", 0, "linux.maskedPaths[3]", False),
        ("/sys/b", 0x62656572, "linux.maskedPaths[4]", True),
    ]
    phases = [step.phase for step in plan.steps if type(step).__name__ in ("Mask", "MakeReadOnly")]
    assert set(phases) == {"confine"}


def test_labels() -> None:
    mounts = [mount(f"/{fstype}", fstype, "x") for fstype in ("tmpfs", "proc", "mqueue", "overlay")]
    plan = plan_of(config(*mounts, mountLabel="u:o:t:s0:c1,c2"), host=Host(selinux=True))
    tmpfs, proc, mqueue = steps(plan, "MountFilesystem")
    assert ["context", "u:o:t:s0:c1,c2"] in tmpfs["parameters"]
    assert (proc["parameters"], proc["label"]) == ([], "")
    assert (mqueue["parameters"], mqueue["label"]) == ([], "u:o:t:s0:c1,c2")
    assert steps(plan, "MountFilesystemClassic")[0]["data"] == ['context="u:o:t:s0:c1,c2"']


def test_the_option_that_takes_the_label() -> None:
    wanted = config(mount("/t", "tmpfs", "x"), mount("/o", "overlay", "x"), mountLabel="u:o:t:s0")
    wanted["annotations"] = {"run.oci.mount_context_type": "rootcontext"}
    plan = plan_of(wanted, host=Host(selinux=True))
    assert ["rootcontext", "u:o:t:s0"] in steps(plan, "MountFilesystem")[0]["parameters"]
    assert steps(plan, "MountFilesystemClassic")[0]["data"] == ['rootcontext="u:o:t:s0"']
    wanted["annotations"]["run.oci.mount_context_type"] = "mode=0,context"
    assert refused(wanted, Host(selinux=True)).where == "annotations.run.oci.mount_context_type"


# Sysctl.


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
        ("net/ipv4/conf/eth0.1/forwarding", "net/ipv4/conf/eth0.1/forwarding"),
        ("net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"),
        ("kernel.shm_rmid_forced", "kernel/shm_rmid_forced"),
        ("fs.mqueue.msg_max", "fs/mqueue/msg_max"),
        ("kernel.domainname", "kernel/domainname"),
    ],
)
def test_sysctl_names(key: str, path: str) -> None:
    (step,) = steps(plan_of(config(sysctl={key: "1"})), "WriteSysctls")
    assert step["values"] == {path: "1"}


@pytest.mark.parametrize(
    "key",
    [
        "kernel.core_pattern",
        "net/../kernel/hostname",
        "net.../../kernel.hostname",
        "net/./x",
        "net..x",
        "net/",
        "/net/ipv4",
        ".net",
        "kernel/shm_rmid_forced/../core_pattern",
        "kernel.shm_rmid_forced.x",
        "fs.mqueue/../../kernel/core_pattern",
        "fs.mqueue",
        "kernel.hostname",
        "user.max_mnt_namespaces",
        "net\0.x",
        "",
    ],
)
def test_sysctls_that_are_not_the_containers_own(key: str) -> None:
    assert refused(config(sysctl={key: "1"})).where == f"linux.sysctl[{key}]"


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("net.core.somaxconn", "network"),
        ("kernel.msgmax", "ipc"),
        ("fs.mqueue.msg_max", "ipc"),
        ("kernel.domainname", "uts"),
    ],
)
def test_sysctls_need_their_namespace(key: str, kind: str) -> None:
    kinds = " ".join(each for each in ("pid", "network", "ipc", "uts", "mount") if each != kind)
    assert f'sysctl "{key}"' in refused(config(sysctl={key: "1"}, kinds=kinds)).message


def test_a_sysctl_of_a_user_namespace() -> None:
    ids = [{"containerID": 0, "hostID": 1, "size": 1}]
    plan = plan_of(
        config(sysctl={"user.max_ipc_namespaces": "3"}, kinds="mount user", uidMappings=ids, gidMappings=ids)
    )
    assert steps(plan, "WriteSysctls")


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("network", "net.core.somaxconn"),
        ("ipc", "kernel.msgmax"),
        ("ipc", "fs/mqueue/msg_max"),
        ("uts", "kernel.domainname"),
        ("user", "user.max_ipc_namespaces"),
    ],
)
def test_joined_namespace_compared_first(kind: str, key: str) -> None:
    """A joined namespace is compared with the host's first."""
    made = config(sysctl={key: "1"})
    made["linux"]["namespaces"] = [{"type": "mount"}, {"type": kind, "path": "/run/ns/x"}]
    (step,) = steps(plan_of(made), "CheckNamespace")
    assert (step["kind"], step["path"], step["key"]) == (kind, "/run/ns/x", key)


@pytest.mark.parametrize(
    ("values", "domainname", "where"),
    [
        ({"net.ipv4.ip_forward": "1", "net/ipv4/ip_forward": "0"}, None, "net/ipv4/ip_forward"),
        ({"kernel.domainname": "a"}, "b", "kernel.domainname"),
        ({"net.ipv4.ip_forward": "1\n0"}, None, "net.ipv4.ip_forward"),
    ],
)
def test_a_sysctl_has_one_value(values: dict[str, str], domainname: str | None, where: str) -> None:
    assert refused({**config(sysctl=values), "domainname": domainname}).where == f"linux.sysctl[{where}]"


def test_one_value_under_two_spellings_is_written_once() -> None:
    plan = plan_of(config(sysctl={"net.ipv4.ip_forward": "1", "net/ipv4/ip_forward": "1"}))
    assert steps(plan, "WriteSysctls")[0]["values"] == {"net/ipv4/ip_forward": "1"}


# What is refused.


@pytest.mark.parametrize(
    ("entry", "text", "where"),
    [
        (mount("/", "proc", "proc"), "cannot be the root filesystem", "mounts[0].destination"),
        (mount("//./", "sysfs", "sysfs"), "cannot be the root filesystem", "mounts[0].destination"),
        (mount("/a", "bind", "/x", "bind", "copy-symlink", "src-nofollow"), "goes with neither", "mounts[0].options"),
        (mount("/proc", "tmpfs", "t"), "not of type proc", "mounts[0].destination"),
        (mount("proc/", "tmpfs", "t"), "not of type proc", "mounts[0].destination"),
        (mount("/proc/sys", "tmpfs", "t"), "inside /proc", "mounts[0].destination"),
        (mount("/proc/self/attr", "bind", "/x", "bind"), "inside /proc", "mounts[0].destination"),
        (mount("/proc/sys/proc", "proc", "proc"), "inside /proc", "mounts[0].destination"),
        (mount("/a", "bind", "", "bind"), "needs a source", "mounts[0].source"),
        (mount("/a", "bind", "/x", "bind", "size=1"), "filesystem-specific options", "mounts[0].options"),
        (mount("/a", "", "/x"), "needs a type", "mounts[0].type"),
        (mount("/a", "tmpfs", "t", "copy-symlink"), "copy-symlink is for bind", "mounts[0].options"),
        (mount("/a", "tmpfs", "t", "idmap"), "only supported for bind", "mounts[0]"),
        (mount("/a", "ramfs", "t", "tmpcopyup"), "tmpfs only", "mounts[0].options"),
        (mount("/a", "bind", "/x", "bind", "idmap"), "needs mappings", "mounts[0]"),
        (mount("/a", "bind", "/x", "bind", uidMappings=[1]), "both", "mounts[0]"),
        (mount("/a", "tmpfs", "t", "x" * 5000), "longer than", "mounts[0].options"),
    ],
)
def test_mounts_that_cannot_be(entry: dict[str, Any], text: str, where: str) -> None:
    error = refused(config(entry))
    assert text in error.message and (error.where, error.stage) == (where, "rootfs-mount")


@pytest.mark.parametrize("name", ["cpuinfo", "sys/kernel/ns_last_pid", "uptime"])
def test_what_others_emulate_may_be_mounted_in_proc(name: str) -> None:
    assert describe(mount(f"/proc/{name}", "bind", "/x", "bind"))


def test_a_bind_on_proc_is_decided_by_its_source_later() -> None:
    assert describe(mount("/proc", "bind", "/proc", "rbind"))


@pytest.mark.parametrize(("host", "text"), [(Host(euid=1), "rootless"), (OLD, "5.12")], ids=["rootless", "old kernel"])
def test_id_mapped_mounts_that_cannot_be(host: Host, text: str) -> None:
    ids = [{"containerID": 0, "hostID": 1, "size": 1}]
    entry = mount("/a", "bind", "/x", "bind", uidMappings=ids, gidMappings=ids)
    assert text in refused(config(entry), host).message


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"mounts": [mount("/a", "tmpfs", "t")]}, "mounts[0]"),
        ({"root": {"path": "r", "readonly": True}}, "root.readonly"),
        ({"linux": {"maskedPaths": ["/a"]}}, "linux.maskedPaths"),
        ({"linux": {"readonlyPaths": ["/a"]}}, "linux.readonlyPaths"),
    ],
)
def test_what_needs_a_mount_namespace(changes: dict[str, Any], where: str) -> None:
    """Of a caller without the host's rights, or of any."""
    assert refused({**config(kinds=""), **changes}, Host(euid=1000)).where == where


def test_the_host_s_root_takes_no_mounts() -> None:
    changes = {"mounts": [mount("/a", "tmpfs", "t")], "root": {"path": "/"}}
    assert "host's root filesystem" in refused({**config(kinds=""), **changes}).message


def test_mounts_in_the_host_s_mount_namespace() -> None:
    """All below one, which delete unmounts."""
    plan = plan_of({**config(mount("/a", "tmpfs", "t"), kinds="")})
    (step,) = plan.lasting()
    assert step.describe() == "bind the root filesystem /b/rootfs on itself, private, in the host's mount namespace"
    assert "make / " not in " ".join(lines(plan))


@pytest.mark.parametrize("word", ["private", "rprivate"])
def test_a_private_root_needs_pivot_root(word: str) -> None:
    assert "not safe without pivot_root" in refused(config(rootfsPropagation=word), no_pivot=True).message


@pytest.mark.parametrize(
    ("linux", "where"),
    [
        ({"rootfsPropagation": "public"}, "linux.rootfsPropagation"),
        ({"devices": [{"path": "/dev/x/..", "type": "p"}]}, "linux.devices[0].path"),
        ({"devices": [{"path": "/dev/x", "type": "d"}]}, "linux.devices[0].type"),
        ({"sysctl": {"net.a": "1\n2"}}, "linux.sysctl[net.a]"),
    ],
)
def test_other_values_that_cannot_be(linux: dict[str, Any], where: str) -> None:
    assert refused(config(**linux)).where == where


def test_a_label_without_selinux_is_an_error() -> None:
    error = refused(config(mount("/a", "tmpfs", "t"), mountLabel="u:o:t:s0"))
    assert (error.where, "selinux is disabled" in error.message) == ("linux.mountLabel", True)


def test_the_working_directory_must_be_absolute() -> None:
    made = config()
    made["process"]["cwd"] = "tmp"
    assert refused(made).where == "process.cwd"
