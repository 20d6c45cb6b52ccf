"""``audit``: what each runtime has made of one configuration, and what is said of every property that changes."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gosudacon.api import in_namespaces, open_namespace
from gosudacon.audit.bpf import device_allowed
from gosudacon.linux import bpf
from tests.support import audits, cgroups, namespaces, processes
from tests.support.audits import audit
from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import Runtime
from tests.support.timing import eventually, seconds

pytestmark = needs("root", "busybox", "runtime:gosudacon")

ADMIN = ["CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_SETUID", "CAP_SETGID", "CAP_DAC_OVERRIDE", "CAP_NET_ADMIN"]
EVERYTHING: dict[str, Any] = {
    "ociVersion": "1.2.0",
    "hostname": "inside",
    "domainname": "example",
    "process": {
        "user": {"uid": 0, "gid": 0, "additionalGids": [5, 10], "umask": 0o027},
        "oomScoreAdj": 321,
        "scheduler": {"policy": "SCHED_BATCH", "nice": 3},
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 6},
        "rlimits": [
            {"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 512},
            {"type": "RLIMIT_CORE", "hard": 1 << 20, "soft": 0},
        ],
    },
    "linux": {
        "personality": {"domain": "LINUX32"},
        "sysctl": {"kernel.shmmax": "123456", "net.ipv4.ping_group_range": "0 100"},
        "resources": {"memory": {"limit": 100000001}, "pids": {"limit": 50}, "cpu": {"shares": 512}},
        "seccomp": {
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [
                {"names": ["acct", "swapon"], "action": "SCMP_ACT_ERRNO"},
                {
                    "names": ["personality"],
                    "action": "SCMP_ACT_ERRNO",
                    "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_NE"}],
                },
            ],
        },
    },
}


def wide(bundle: Bundle) -> Bundle:
    """Asks for everything that this machine has."""
    bundle.update(json.loads(json.dumps(EVERYTHING)))
    bundle.add_namespace("cgroup")
    bundle.add_mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", "ro")
    (bundle.path / "shared").mkdir()
    bundle.add_mount("/mnt", "bind", str(bundle.path / "shared"), "rbind", "ro", "nosuid")
    return bundle


@pytest.fixture
def running(runtime: Runtime, bundle: Bundle) -> Bundle:
    """A container that asks for everything, and runs."""
    runtime.run(wide(bundle), "--detach")
    return bundle


def enter(pid: int, kinds: str, *words: str) -> None:
    """nsenter(1) as root of the host."""
    subprocess.run(["nsenter", f"--target={pid}", *kinds.split(), *words], check=True)


def test_nothing_is_wrong_with_ours(runtime: Runtime, running: Bundle) -> None:
    """Every property of one that asks for everything is as it was asked for, and each is in the report."""
    report = audit(runtime, running, "--seccomp=program")
    assert report.bad() == []
    assert report.status == 0
    assert report.verdict("linux.resources.memory.limit") in ("rounded", "enforced")
    asked = {each["property"].partition("[")[0] for each in report.findings}
    assert {
        *("hostname", "domainname", "process.user.uid", "process.user.gid", "process.user.additionalGids"),
        *("process.user.umask", "process.oomScoreAdj", "process.scheduler", "process.ioPriority", "process.rlimits"),
        *("process.noNewPrivileges", "process.capabilities.bounding", "process.capabilities.effective", "mounts"),
        *("linux.personality", "linux.sysctl", "linux.resources.pids.limit", "linux.seccomp", "linux.namespaces"),
        *("linux.maskedPaths", "linux.readonlyPaths", "linux.cgroupsPath", "default devices", "root.path"),
        *("process.args", "process.cwd", "open descriptors", "processes", "CPU affinity"),
    } <= asked
    assert all(each.get("evidence") for each in report.findings if each["verdict"] != "cannot be observed")
    assert all(each["number"] for each in report.findings if each["property"].startswith("process."))


@needs("program:runc", "cgroup-v1")
def test_what_runc_ignores(runc: Runtime, bundle: Bundle) -> None:
    """runc 1.1 takes a configuration of a newer specification, and leaves out what it does not know, silently."""
    runc.run(wide(bundle), "--detach")
    version = subprocess.run(["runc", "--version"], capture_output=True, text=True, check=True).stdout
    report = audit(runc, bundle, "--seccomp=program")
    found = [each["property"] for each in report.findings if each["verdict"] == "NOT ENFORCED"]
    if version.startswith("runc version 1.1"):
        ignored = ["domainname", "linux.personality", "process.ioPriority", "process.scheduler"]
        assert [each for each in sorted(found) if not each.startswith("mounts")] == ignored
    assert all("/sys/fs/cgroup" in each["asked"] for each in report.findings if each["property"] in found[:1])
    assert report.status == bool(found)
    assert report.data["runtime"] == "runc"
    assert not [each for each in report.findings if each["verdict"] in ("drifted", "changed since")]


@needs("program:runc", "cgroup-v1")
def test_by_pid(runc: Runtime, bundle: Bundle) -> None:
    """A container of any runtime: its process and its bundle are enough."""
    runc.run(bundle, "--detach")
    result = audits.call(runc.root, "--format", "json", "--pid", str(runc.pid(bundle)), "--bundle", bundle.path)
    assert result.returncode == 0, result.stdout
    assert json.loads(result.stdout)["containers"][0]["pid"] == runc.pid(bundle)


def raise_limit(pid: int) -> None:
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (2048, 2048))


def lower_oom_score(pid: int) -> None:
    Path(f"/proc/{pid}/oom_score_adj").write_text("-500")


def lower_limit(pid: int) -> None:
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (128, 128))


def in_mounts_of(pid: int, work: Callable[[], None]) -> None:
    fd = open_namespace("mount", pid)
    try:
        in_namespaces({"mount": fd}, work)
    finally:
        os.close(fd)


def make_writable() -> None:
    """A bind mount that was read-only, by MS_REMOUNT | MS_BIND."""
    namespaces.mount("none", "/mnt", "", 0x1020)


@pytest.mark.vm
@needs("resource-capability")
@pytest.mark.parametrize("change", [raise_limit, lower_oom_score])
def test_raised_from_outside(runtime: Runtime, running: Bundle, change: Callable[[int], object]) -> None:
    """What only CAP_SYS_RESOURCE on the host may do."""
    change(runtime.pid(running))
    report = audit(runtime, running)
    assert [each.partition(": ")[2] for each in report.bad()] == ["drifted"]


def at_once(pid: int) -> None:
    os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0))
    os.setpriority(os.PRIO_PROCESS, pid, -5)


OUTSIDE: dict[str, tuple[Callable[[int], object], str, str, str]] = {
    "a lowered limit": (lower_limit, "process.rlimits", "NOFILE", "stricter"),
    "scheduler": (at_once, "process.scheduler", "", "drifted"),
    "I/O priority": (
        lambda pid: subprocess.run(["ionice", "-c", "1", "-n", "0", "-p", str(pid)], check=True),
        "process.ioPriority",
        "",
        "drifted",
    ),
    "affinity": (lambda pid: os.sched_setaffinity(pid, {0}), "CPU affinity", "", "stricter"),
    "host name": (lambda pid: enter(pid, "--uts", "hostname", "other"), "hostname", "", "drifted"),
    "domain name": (
        lambda pid: enter(pid, "--uts", "sh", "-c", "echo other > /proc/sys/kernel/domainname"),
        "domainname",
        "",
        "drifted",
    ),
    "a parameter": (
        lambda pid: enter(pid, "--ipc", "sh", "-c", "echo 654321 > /proc/sys/kernel/shmmax"),
        "linux.sysctl",
        "654321",
        "drifted",
    ),
    "a parameter of the network": (
        lambda pid: enter(pid, "--net", "sh", "-c", "echo 0 200 > /proc/sys/net/ipv4/ping_group_range"),
        "linux.sysctl",
        "0 200",
        "drifted",
    ),
    "loopback": (
        lambda pid: enter(pid, "--net", "ip", "link", "set", "lo", "down"),
        "network device lo",
        "",
        "drifted",
    ),
    "a mount more": (
        lambda pid: enter(pid, "--mount", "/bin/busybox", "mount", "-t", "tmpfs", "none", "/tmp"),
        "mounts",
        "nothing at /tmp",
        "drifted",
    ),
    "a mount less": (
        lambda pid: enter(pid, "--mount", "/bin/busybox", "umount", "/dev/shm"),
        "mounts[3]",
        "/dev/shm",
        "drifted",
    ),
    "a writable mount": (
        lambda pid: in_mounts_of(pid, make_writable),
        "mounts[7]",
        "/mnt",
        "drifted",
    ),
    "a mask": (
        lambda pid: enter(pid, "--mount", "/bin/busybox", "umount", "/sys/firmware"),
        "linux.maskedPaths",
        "/sys/firmware",
        "drifted",
    ),
    "a read-only path": (
        lambda pid: enter(pid, "--mount", "/bin/busybox", "umount", "/proc/sys"),
        "linux.readonlyPaths",
        "/proc/sys ",
        "drifted",
    ),
    "a node": (
        lambda pid: os.chmod(f"/proc/{pid}/root/dev/full", 0o600),
        "default devices",
        "/dev/full",
        "drifted",
    ),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_broken_from_outside(runtime: Runtime, running: Bundle, name: str) -> None:
    """Root of the host changes one property: the container could not have done it."""
    change, property, about, verdict = OUTSIDE[name]
    change(runtime.pid(running))
    report = audit(runtime, running)
    finding = report.of(property, about)
    assert finding["verdict"] == verdict, finding
    assert report.status == (verdict == "drifted")
    assert [each for each in report.bad() if not each.startswith(property.partition("[")[0])] == []


@needs("cgroup-v1")
@pytest.mark.parametrize(
    ("controller", "file", "value", "property"),
    [
        ("memory", "memory.limit_in_bytes", "-1", "linux.resources.memory.limit"),
        ("pids", "pids.max", "max", "linux.resources.pids.limit"),
        ("cpu", "cpu.shares", "1024", "linux.resources.cpu.shares"),
        ("devices", "devices.allow", "c 10:229 rwm", "linux.resources.devices"),
        ("devices", "devices.allow", "a", "linux.resources.devices"),
    ],
)
def test_echo_into_a_cgroup(
    runtime: Runtime, running: Bundle, controller: str, file: str, value: str, property: str
) -> None:
    (cgroups.directory(controller, running.cgroups_path) / file).write_text(value)
    report = audit(runtime, running)
    assert report.verdict(property) == "drifted"
    assert report.bad() == [f"{property}: drifted"]


@pytest.mark.vm
@needs("cgroup-v2")
def test_echo_into_a_unified_cgroup(runtime: Runtime, bundle: Bundle) -> None:
    """Limits of v2, and a program for devices that was read back."""
    bundle.update({"linux": {"resources": {"memory": {"limit": 100000001}, "pids": {"limit": 50}}}})
    runtime.run(bundle, "--detach")
    assert audit(runtime, bundle).bad() == []
    (cgroups.directory("pids", bundle.cgroups_path) / "pids.max").write_text("max")
    assert audit(runtime, bundle).bad() == ["linux.resources.pids.limit: drifted"]


@needs("cgroup-v1")
def test_an_ancestor_decides(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("linux.cgroupsPath", f"{bundle.cgroups_path}/above/own")
    bundle.set("linux.resources.memory.limit", 1 << 28)
    runtime.run(bundle, "--detach")
    above = cgroups.directory("memory", bundle.cgroups_path).parent
    (above / "memory.limit_in_bytes").write_text(str(1 << 27))
    finding = audit(runtime, bundle).of("linux.resources.memory.limit")
    assert finding["verdict"] == "enforced"
    assert finding["note"] == f"an ancestor decides: {above} allows {1 << 27}"


@needs("cgroup-v1")
def test_moved_to_another_cgroup(runtime: Runtime, running: Bundle) -> None:
    directory = cgroups.directory("memory", running.cgroups_path)
    (directory.parent / "cgroup.procs").write_text(str(runtime.pid(running)))
    report = audit(runtime, running)
    assert report.verdict("linux.cgroupsPath") == "drifted"


def test_limits_set_by_update_are_asked_for(runtime: Runtime, running: Bundle) -> None:
    runtime.call("update", "--pids-limit", "60", running.id)
    report = audit(runtime, running)
    assert report.bad() == []
    assert report.of("linux.resources.pids.limit")["kernel"] == "60"


INSIDE: dict[str, tuple[str, str, str, str]] = {
    "umask": ("umask 0", "process.user.umask", "", "changed since"),
    "lower limit": ("ulimit -n 100", "process.rlimits", "NOFILE", "stricter"),
    "soft limit": ("ulimit -S -n 1000", "process.rlimits", "NOFILE", "changed since"),
    "OOM score": ("echo 500 > /proc/self/oom_score_adj", "process.oomScoreAdj", "", "changed since"),
    "nice": ("renice -n 10 -p 1", "process.scheduler", "", "changed since"),
    "host name": ("hostname mine", "hostname", "", "changed since"),
    "a mount": ("mount -t tmpfs none /tmp", "mounts", "nothing at /tmp", "changed since"),
    "a mask": ("umount /sys/firmware", "linux.maskedPaths", "/sys/firmware", "changed since"),
    "a remount": ("mount -o remount,bind,rw /mnt", "mounts[7]", "/mnt", "changed since"),
    "a read-only path": ("umount /proc/sys", "linux.readonlyPaths", "/proc/sys ", "changed since"),
    "a node": ("chmod 600 /dev/full", "default devices", "/dev/full", "changed since"),
    "user": (
        "echo x:x:7:7::/:/bin/sh > /etc/passwd; echo x:x:7: > /etc/group; "
        "exec busybox start-stop-daemon -S -c 7:7 -x /bin/sleep -- 1000",
        "process.user.uid",
        "",
        "changed since",
    ),
    "working directory": ("cd /tmp", "process.cwd", "", "cannot be observed"),
    "root": ("exec chroot /jail /bin/busybox sleep 1000", "root.path", "init's root", "changed since"),
    "loopback": ("ip link set lo down", "network device lo", "", "changed since"),
}


@pytest.mark.parametrize("name", INSIDE)
def test_changed_by_the_container(
    runtime: Runtime, make_bundle: Callable[..., Bundle], busybox_rootfs: Path, name: str
) -> None:
    """It has the capabilities for it, so it is not drift; only ``--strict`` fails."""
    script, property, about, verdict = INSIDE[name]
    bundle = wide(make_bundle(f"{script}; touch /ready; exec sleep 1000"))
    if name in ("user", "root"):
        bundle.set("process.args", ["/bin/sh", "-c", f"touch /ready; {script}"])
    (bundle.rootfs / "jail/bin").mkdir(parents=True)
    busybox = next(path for path in (bundle.rootfs / "bin").iterdir() if path.name == "busybox")
    (bundle.rootfs / "jail/bin/busybox").write_bytes(busybox.read_bytes())
    (bundle.rootfs / "jail/bin/busybox").chmod(0o755)
    for kind in ("bounding", "effective", "permitted"):
        bundle.set(f"process.capabilities.{kind}", ADMIN)
    bundle.set("process.capabilities.ambient", [])
    runtime.run(bundle, "--detach")
    eventually((bundle.rootfs / "ready").exists, 20, "the script has run")
    finding = _eventual(runtime, bundle, property, about, verdict)
    assert finding["verdict"] == verdict, (finding, bundle.stderr)
    if verdict == "changed since":
        assert audit(runtime, bundle).status == 0
        assert audit(runtime, bundle, "--strict").status == 1


def _eventual(runtime: Runtime, bundle: Bundle, property: str, about: str, verdict: str) -> dict[str, Any]:
    """The finding, as soon as it has its verdict: the script may have an execve(2) before it."""
    found: list[dict[str, Any]] = []

    def settled() -> bool:
        try:
            found[:] = [audit(runtime, bundle).of(property, about)]
        except AssertionError:
            return False
        return bool(found[0]["verdict"] == verdict)

    eventually(settled, 20, f"{property} is {verdict}: {found}")
    return found[0]


def test_a_less_confined_neighbour(runtime: Runtime, running: Bundle) -> None:
    """``exec`` with more capabilities than init, and a process of the host's that entered the namespaces."""
    file = running.path / "exec.pid"
    words = "--detach", "--pid-file", file, "--cap", "CAP_SYS_ADMIN", running.id, "sleep", "1000"
    runtime.call("exec", *words)
    pid = int(file.read_text())
    try:
        finding = audit(runtime, running).of("processes")
    finally:
        os.kill(pid, 9)
        processes.wait(pid)
    assert finding["verdict"] == "drifted"
    assert "CapBnd has more: SYS_ADMIN" in finding["note"]


def test_a_visitor(runtime: Runtime, running: Bundle) -> None:
    """A process of the host's that has entered the pid namespace."""
    visitor = subprocess.Popen(["nsenter", f"--target={runtime.pid(running)}", "--pid", "sleep", "1000"])
    try:
        eventually(lambda: audit(runtime, running).verdict("processes") == "drifted", 20, "it is there")
        note = audit(runtime, running).of("processes")["note"]
        assert "not in its cgroup" in note
        assert "no seccomp filter" in note
    finally:
        runtime.delete(running, "--force")
        visitor.wait(seconds(30))


def test_a_descriptor_that_leads_outside(runtime: Runtime, bundle: Bundle) -> None:
    words = [*runtime.command, "--root", str(runtime.root), "run", "--detach", "--preserve-fds=1", "--bundle", "."]
    script = 'exec 3< . && exec "$@" < /dev/null > /dev/null 2>&1'
    subprocess.run(["sh", "-c", script, "sh", *words, bundle.id], cwd=bundle.path, check=True)
    runtime.created.append(bundle.id)
    finding = audit(runtime, bundle).of("open descriptors")
    assert finding["verdict"] == "NOT ENFORCED"
    assert f"3 -> {bundle.path}" in finding["kernel"]


def test_user_namespace(runtime: Runtime, bundle: Bundle) -> None:
    """Ids are mapped, nodes are the host's, bound, and nothing is wrong."""
    bundle.map_users()
    subprocess.run(["chown", "-R", "100000:100000", bundle.rootfs], check=True)
    runtime.run(bundle, "--detach")
    report = audit(runtime, bundle)
    assert report.bad() == []
    assert report.of("process.user.uid")["kernel"] == "100000"
    assert report.verdict("linux.uidMappings") == "enforced"


def test_time_namespace(runtime: Runtime, bundle: Bundle) -> None:
    bundle.add_namespace("time")
    bundle.set("linux.timeOffsets", {"monotonic": {"secs": 1000, "nanosecs": 5}, "boottime": {"secs": 7}})
    runtime.run(bundle, "--detach")
    report = audit(runtime, bundle)
    assert report.bad() == []
    assert report.of("linux.timeOffsets.monotonic")["kernel"] == "1000 s 5 ns"


def test_joined_namespace(runtime: Runtime, bundle: Bundle, make_bundle: Callable[..., Bundle]) -> None:
    runtime.run(bundle, "--detach")
    pid = runtime.pid(bundle)
    other = make_bundle()
    other.add_namespace("network", f"/proc/{pid}/ns/net")
    other.add_namespace("pid", f"/proc/{pid}/ns/pid")
    runtime.run(other, "--detach")
    report = audit(runtime, other)
    assert [each for each in report.bad() if not each.startswith("processes")] == []
    assert report.of("linux.namespaces", f"/proc/{pid}/ns/net")["verdict"] == "enforced"
    own = runtime.pid(other)
    os.kill(own, 9)  # in a pid namespace of others, so that they can end only when this has been reaped
    processes.wait(own)


def test_created_and_not_started(runtime: Runtime, running: Bundle, make_bundle: Callable[..., Bundle]) -> None:
    bundle = wide(make_bundle())
    runtime.create(bundle)
    report = audit(runtime, bundle)
    assert report.bad() == []
    assert report.of("linux.seccomp")["note"] == "the container has not been started: this is not final yet"


def test_program_that_differs(runtime: Runtime, running: Bundle) -> None:
    """Asked about another profile than the one that it has: which calls, and what for."""
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["acct", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
    }
    config = json.loads(running.config_path.read_text())
    config["linux"]["seccomp"] = profile
    (runtime.root / running.id / "config.json").write_text(json.dumps(config))
    finding = audit(runtime, running, "--seccomp=program").of("linux.seccomp", "")
    assert finding["verdict"] == "NOT ENFORCED"
    assert "mkdirat (asked ERRNO(EPERM), kernel ALLOW)" in finding["note"]
    assert "ERRNO(EPERM) was asked for" in finding["note"]


@needs("program:runc", "cgroup-v1")
def test_limits_set_by_runc_s_update(runc: Runtime, bundle: Bundle) -> None:
    """It is runc's state that tells an update from an echo."""
    bundle.set("linux.resources.pids", {"limit": 50})
    runc.run(bundle, "--detach")
    runc.call("update", "--pids-limit", "60", bundle.id)
    finding = audit(runc, bundle).of("linux.resources.pids.limit")
    assert (finding["verdict"], finding["kernel"]) == ("enforced", "60")
    (cgroups.directory("pids", bundle.cgroups_path) / "pids.max").write_text("70")
    assert audit(runc, bundle).verdict("linux.resources.pids.limit") == "drifted"


def test_covered_by_a_later_mount(runtime: Runtime, bundle: Bundle) -> None:
    bundle.add_mount("/mnt", "tmpfs", "tmpfs", "nosuid")
    bundle.add_mount("/mnt/x", "tmpfs", "tmpfs", "ro", "nosuid", "mode=0700")
    bundle.add_mount("/mnt", "tmpfs", "tmpfs", "nodev", "size=64k")
    runtime.run(bundle, "--detach")
    report = audit(runtime, bundle)
    assert report.bad() == []
    assert report.verdict("mounts[6]") == "cannot be observed"
    assert report.verdict("mounts[8]") == "enforced"


def test_mounts_of_a_hook(runtime: Runtime, bundle: Bundle) -> None:
    """What hooks mount, those of GPU toolkits among them, is not drift."""
    script = f"mount -t tmpfs none {bundle.rootfs}/tmp"
    bundle.set("hooks", {"createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"]}]})
    runtime.run(bundle, "--detach")
    finding = audit(runtime, bundle).of("mounts", "nothing at /tmp")
    assert finding["verdict"] == "changed since"
    assert finding["who"] == "a hook of the configuration (createContainer), or root of the host"


def test_frozen(runtime: Runtime, running: Bundle) -> None:
    """A frozen process of cgroup v1 does not stop for its filter to be read: nothing hangs, nothing is wrong."""
    runtime.call("pause", running.id)
    report = audit(runtime, running, "--seccomp=program")
    runtime.call("resume", running.id)
    assert report.bad() == []
    assert report.verdict("linux.seccomp") in ("cannot be observed", "enforced")


def test_all(runtime: Runtime, running: Bundle, make_bundle: Callable[..., Bundle]) -> None:
    """All that run of a directory of states; what cannot be read is said, and makes the status 2."""
    other = make_bundle()
    runtime.run(other, "--detach")
    result = audits.call(runtime.root, "--all", "--format", "json")
    assert {each["id"] for each in json.loads(result.stdout)["containers"]} == {running.id, other.id}
    assert result.returncode == 0
    runtime.kill(other, "KILL")
    eventually(lambda: runtime.status(other) == "stopped", 20, "it has stopped")
    result = audits.call(runtime.root, "--all")
    assert (result.returncode, other.id in result.stdout) == (0, False)
    result = audits.call(runtime.root, other.id)
    assert result.returncode == 2
    assert f"{other.id}: cannot be audited: the container" in result.stderr
    (runtime.root / "broken").mkdir()
    (runtime.root / "broken/state.json").write_text("{")
    result = audits.call(runtime.root, "--all")
    (runtime.root / "broken/state.json").unlink()
    (runtime.root / "broken").rmdir()
    assert result.returncode == 2
    assert "broken: cannot be audited" in result.stderr
    assert running.id in result.stdout


def test_prometheus(runtime: Runtime, running: Bundle) -> None:
    enter(runtime.pid(running), "--uts", "hostname", "other")
    result = audits.call(runtime.root, "--format", "prometheus", running.id)
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    assert f'gosudacon_audit_properties{{container="{running.id}",verdict="drifted"}} 1' in lines
    failure = f'container="{running.id}",property="hostname",verdict="drifted"'
    assert f"gosudacon_audit_failure{{{failure}}} 1" in lines
    assert f'gosudacon_audit_success{{container="{running.id}"}} 1' in lines


def test_table(runtime: Runtime, running: Bundle) -> None:
    """Only differences by default, with evidence, step and suspect below them; all of it on demand."""
    enter(runtime.pid(running), "--uts", "hostname", "other")
    short = audits.call(runtime.root, running.id).stdout
    assert "hostname" in short
    assert "who: root of the host, from outside" in short
    assert "seen in /proc/sys/kernel/hostname in its UTS namespace; step " in short
    assert "process.user.uid" not in short
    assert "process.user.uid" in audits.call(runtime.root, "--all-properties", running.id).stdout


def test_verdicts_on_the_page(runtime: Runtime, running: Bundle, scratch: Path) -> None:
    """Of the plan: what was saved of an audit, beside each step."""
    (scratch / "audit.json").write_text(runtime.call("audit", "--format", "json", running.id, check=False).stdout)
    words = ("--audit", scratch / "audit.json", "--id", running.id)
    page = runtime.call("explain", "--format", "html", *words, running.path).stdout
    assert page.count("✓ enforced") > 20 and "NOT ENFORCED" not in page
    refused = runtime.call("explain", *words, running.path, check=False)
    assert refused.returncode == 1 and "--audit is for --format html and svg" in refused.stderr


def test_no_such_container(runtime: Runtime) -> None:
    result = audits.call(runtime.root, "absent")
    assert result.returncode == 2
    assert "container does not exist" in result.stderr


def test_words_that_do_not_go_together(runtime: Runtime) -> None:
    for words in ((), ("--all", "x"), ("--pid", "1"), ("x", "--pid", "1")):
        assert audits.call(runtime.root, *words).returncode == 2


@needs("cgroup-hybrid")
def test_device_program_is_read_back(token: str) -> None:
    """The kernel gives back what was loaded, byte for byte, and both say the same about every device."""
    rules = [[False, "a", -1, -1, "rwm"], [True, "c", 1, 3, "rw"], [True, "b", 8, -1, "r"]]
    unified = next(each for each in cgroups.hierarchies() if each.version == 2)
    directory = unified.mountpoint / f"gosudacon-test/{token}/program"
    directory.mkdir()
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        bpf.limit_devices(fd, rules)
        (number,) = bpf.attached(fd)
        program = bpf.instructions(number)
    finally:
        os.close(fd)
        directory.rmdir()
    assert program == bpf.device_program(rules)
    assert device_allowed(program, "c", 1, 3, "w") and not device_allowed(program, "c", 1, 3, "m")
    assert device_allowed(program, "b", 8, 16, "r") and not device_allowed(program, "b", 9, 0, "r")
