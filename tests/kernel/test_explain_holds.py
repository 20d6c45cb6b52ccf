"""What `explain` says is what happens: each state-changing system call belongs to one step, whose line says it."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import subprocess
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase as fnmatch
from pathlib import Path
from typing import Any

import pytest

import gosudacon.stages
from gosudacon.api import Step
from tests.support import plugins
from tests.support.bundle import Bundle
from tests.support.console import ConsoleSocket
from tests.support.leftovers import Watch
from tests.support.needs import missing, needs
from tests.support.runtime import Runtime
from tests.support.timing import eventually, seconds
from tests.support.trace import CALLS, Ran, Trace

pytestmark = [needs("program:strace", "runtime:gosudacon", "kernel>=5.12"), pytest.mark.timeout(120)]


#: What is done outside of steps: when (see `Call`), calls, and what for.
ENGINE = (
    ("* begin", "execve", "the command itself, which strace starts"),
    (
        "* begin",
        "open_tree mount_setattr execveat",
        "the seal: the interpreter runs from a read-only mount",
    ),
    ("* runtime*", "write:*/err", "warnings, on standard error"),
    ("* begin", "*:/var/cache/gosudacon/stages-*", "the snapshot of the registry"),
    ("create *", "umask", "022 while the container is made; then the caller's again"),
    ("create *", "mkdir:{root}* create:{root}/* write:{root}/* renameat:{root}/*", "state.json and config.json"),
    ("create *", "*:*/.pid *:*/pid", "the pid file"),
    ("exec *", "*:*/.pid *:*/pid", "the pid file"),
    ("* container", "prctl:PR_SET_PDEATHSIG", "the process ends with the runtime until it is ready"),
    ("start *", "unlinkat:{root}/*/start.sock", "a container is started once"),
    ("delete *", "pidfd_send_signal write:*/cgroup.kill write:*/freezer.state", "`delete --force` ends what runs"),
    ("delete *", "unlinkat:/sys/fs/cgroup/*", "`undo` of CreateCgroup and CreateUnifiedCgroup"),
    ("delete *", "umount2 mount_setattr", "`undo` of BindRootOnHost"),
    ("mounts *", "create:{root}/* write:{root}/* renameat:{root}/*", "state.json: what was added"),
    ("delete *", "unlinkat:{root}/* rmdir:{root}/*", "the state directory"),
)

_OUTPUT = "create:*/hooks.out seccomp:SECCOMP_SET_MODE_FILTER"
_PLACE = "umask mkdirat create:*/rootfs/*"  # "on PLACE": the place is made if it is missing
_NEW_MOUNT = f"fsopen fsmount move_mount; fsconfig mount_setattr {_PLACE}"
_ATTACH = f"move_mount; mount_setattr {_PLACE}"
_CLASSIC = f"mount; {_PLACE}"
_COVER = "move_mount; open_tree mount_setattr fsopen fsconfig fsmount"
_CGROUP = "mkdirat:/sys/fs/cgroup/* create:*/cgroups.note write:*/cgroups.note"
_ROOT_NOTE = "create:*/root.note* write:*/root.note* rename renameat"
_LIMIT = "write:/sys/fs/cgroup/*"
_CAPABILITIES = "capset; prctl:PR_CAP_AMBIENT:*"

#: Class of a step, and where that tells two ways the first word of its line -> the calls that it makes each time;
#: behind a semicolon those that it may make.
DOES = {
    # validate-config, pivot-root
    "OpenRoot": "",
    "PivotRoot": "fchdir pivot_root mount umount2 chdir",
    "MaskHostMounts": "; umount2 mount",
    "MoveRoot": "fchdir mount chroot chdir",
    "ChangeRoot": "fchdir chroot chdir",
    "SetRootPropagation": "mount",
    "ReopenNull": "; dup2 dup3",
    "MakeWorkingDirectory": "; umask mkdirat",
    # namespaces
    "OpenNamespace": "",
    "Spawn": "clone3",
    "SpawnInside": "clone3",
    "Setsid": "setsid",
    "Setns": "setns",
    "SetnsForChild": "setns",
    "SetnsWhatCanBe": "setns",
    "Unshare": "unshare",
    "WriteIdMaps": "; write:/proc/*/uid_map write:/proc/*/gid_map write:/proc/*/setgroups clone vfork execve",
    "SetRootIdentity": "setresgid setresuid; setgroups",
    "CheckIdMaps": "",
    "TimeOffsets": "write:/proc/*/timens_offsets",
    "Fork": "clone; prctl:PR_SET_PDEATHSIG",  # which a fork does not pass on
    "SetNotDumpable": "prctl:PR_SET_DUMPABLE",
    "BringUpLoopback": "ioctl:SIOCSIFFLAGS",
    "UnshareCgroup": "unshare",
    "OpenProc": "fsopen fsconfig fsmount",
    "SetHostname": "sethostname",
    "SetDomainname": "setdomainname",
    "OpenTarget": "",
    "EnterRoot": "fchdir chroot",
    "ForkConfined": "clone",
    "NewSession": "setsid; ioctl:TIOCSCTTY",
    "MakeProc": "fsopen fsconfig fsmount; clone3 clone setns fchdir chroot capset prctl:* seccomp:* setsid",
    # cgroups
    "CreateCgroup": f"{_CGROUP}; write:*/cpuset.cpus write:*/cpuset.mems",
    "CreateUnifiedCgroup": f"{_CGROUP}; write:*/cgroup.subtree_control",
    "JoinCgroup": "; write:*/tasks write:*/cgroup.procs",
    "OpenCgroups": "",
    "EnterCgroups": "; write:*/tasks write:*/cgroup.procs",
    "Write": _LIMIT,
    "WriteLate": _LIMIT,
    "WriteFirst": _LIMIT,
    "WriteTogether": _LIMIT,
    "CheckUsage": "",
    "ChownCgroup": "; fchown fchownat",
    "RememberLimits": "",
    "NotedCgroups": "",
    "LimitDevices": "write:*/devices.deny; write:*/devices.allow",
    "LimitDevicesByProgram": "bpf",
    "ExpectScope": "",
    "StartScope": "create:*/cgroups.note write:*/cgroups.note",
    "SetUnitProperties": "",
    # intel-rdt
    "MakeClass": "mkdirat mkdir write:*/schemata create:*/intel-rdt.note write:*/intel-rdt.note",
    "JoinClass": "write:*/tasks create:*/intel-rdt.note write:*/intel-rdt.note",
    "EnterClass": "; write:*/tasks",
    "Monitor": "mkdirat mkdir write:*/tasks create:*/intel-rdt.note write:*/intel-rdt.note",
    # net-devices
    "HoldNamespace": "create:*/netns mount",
    "MoveDevice": "create:*/net-devices.note write:*/net-devices.note sendto clone setns; create:*/net-devices.note",
    # rootfs-mount
    "SetPropagation": "mount",
    "MakeParentPrivate": "mount",
    "BindRoot": "open_tree move_mount; mount_setattr mount",
    "BindRootClassic": "mount",
    "MountFilesystem": _NEW_MOUNT,
    "MountFilesystemClassic": _CLASSIC,
    "MountProcOfOthers": f"{_ATTACH} open_tree",
    "MountSysfs": f"move_mount; fsopen fsconfig fsmount open_tree mount_setattr {_PLACE}",
    "MountCopy": f"{_NEW_MOUNT} write:*",
    "MountCopyClassic": f"{_CLASSIC} write:*",
    "MountCgroup1": f"{_NEW_MOUNT} symlinkat",
    "MountCgroup2": f"move_mount; fsopen fsmount open_tree fsconfig mount_setattr {_PLACE}",
    "OpenSource": "open_tree; mount_setattr",
    "OpenSourceOrLink": "; open_tree mount_setattr",
    "Bind": _ATTACH,
    "BindOrLink": f"; symlinkat {_ATTACH.replace(';', '')}",
    "BindHere": f"open_tree {_ATTACH}",
    "BindLocked": f"{_ATTACH} open_tree",
    "BindHereOrLink": f"; symlinkat open_tree {_ATTACH.replace(';', '')}",
    "BindClassic": _CLASSIC,
    "BindClassicOrLink": f"; symlinkat {_CLASSIC.replace(';', '')}",
    "JoinPeers": "; mount_setattr move_mount",
    "BindRootOnHost": f"open_tree move_mount mount_setattr; {_ROOT_NOTE} mount",
    "NoteHostGroups": "",
    "CheckPlace": "",
    "Unmount": "mount_setattr fchdir umount2",
    "Leave": "; prctl:PR_SET_PDEATHSIG",
    "Remount": "; mount mount_setattr",
    "RemountReadOnly": "mount_setattr",
    "RemountRootReadOnly": "mount_setattr",
    "MakeIdMap": "clone3 write:/proc/*/uid_map write:/proc/*/gid_map",
    "OpenIdMap": "",
    "CloseHandedOver": "",
    "MakeNotifyDirectory": "mkdirat; fchmodat bind mkdir",
    "MakeNodes mknod": "mknodat; umask fchownat fchmodat",
    "MakeNodes bind": "create:*/rootfs/* open_tree mount_setattr move_mount; umask fchdir umount2 chdir",
    "MakeMissing": "; fsopen fsconfig fsmount mknodat fchownat umask",
    "LinkDev": "symlinkat",
    "ConnectConsole": "",
    "PairConsole": "",
    "OpenTerminal": "ioctl:TIOCSPTLCK; ioctl:TIOCSWINSZ create:*/dev/console open_tree move_mount mkdirat umask",
    "SetTerminal": "dup2; ioctl:TIOCSCTTY",
    "CheckNamespace": "",
    "WriteSysctls": "fsopen fsconfig fsmount write:/sys/*",  # in a proc mount that only its descriptor reaches
    "OpenNull": "open_tree mount_setattr",
    "Mask": _COVER,
    "MaskClassic": "mount",
    "MakeReadOnly": _COVER,
    "MakeReadOnlyClassic": "mount",
    # hooks
    "OpenHook": "",
    "OpenOutputs": "create:*/hooks.out",
    "RunHook": f"clone setpgid dup2 execve; prctl:PR_SET_PDEATHSIG umask chdir fchdir {_OUTPUT}",
    # seccomp
    "CompileSeccomp": "; seccomp:* *:/var/cache/gosudacon/seccomp*",  # the library tries out what the kernel can do
    "HoldSysAdmin": "",
    "LetSysAdminGo": "capset",
    "LendSeccomp": "",
    "LoadSeccomp": "seccomp:SECCOMP_SET_MODE_FILTER",
    "ConnectListener": "",
    "SendListener": "",
    "CloseListener": "",
    # handoff
    "Listen": "bind",
    "CheckDescriptors": "",
    "SetOomScoreAdj": "write:/proc/*/oom_score_adj",
    "JoinSessionKeyring": "keyctl:KEYCTL_JOIN_SESSION_KEYRING keyctl:KEYCTL_SETPERM",
    "ResetAffinity": "sched_setaffinity",
    "SetAffinity": "sched_setaffinity",
    "SetScheduler": "sched_setattr",
    "SetIoPriority": "ioprio_set",
    "SetPersonality": "personality",
    "SetMemoryPolicy": "set_mempolicy",
    "SetRlimits": "prlimit64",
    "SetApparmorProfile": "write:*/attr/*",
    "SetSelinuxLabel": "write:*/attr/*",
    "FindHome": "",
    "SetUmask": "umask",
    "SetNoNewPrivileges": "prctl:PR_SET_NO_NEW_PRIVS",
    "OwnStdio": "; fchown",
    # Capabilities are kept over the change of user, and that it stays not dumpable.
    "SetIdentity": "setresgid setresuid; setgroups prctl:PR_CAPBSET_DROP prctl:PR_SET_KEEPCAPS prctl:PR_SET_DUMPABLE",
    "ChangeDirectory": "chdir",
    "ChangeDirectoryAsUser": "; chdir",
    "SetCapabilities": _CAPABILITIES,
    "DropInheritedCapabilities": _CAPABILITIES,
    "LookUp": "",
    "RestoreSignals": "",
    "SendPidfd": "",
    "CloseDescriptors": "",
    "WaitForStart": "; prctl:PR_SET_PDEATHSIG",  # ready: it need not end with the runtime any more
    "WaitForRuntime": "; prctl:PR_SET_PDEATHSIG",
    "PrepareExecve": "",
    "Execve": "execve",
}
BASES = "Limit _Group MountStep _BindStep _CgroupStep _Path _WriteAttribute"

#: What a path that is not there, or a bind mount that has its flags already, leaves to do: nothing.
MAY_BE_NEEDLESS = ("Mask", "MaskClassic", "MakeReadOnly", "MakeReadOnlyClassic")

#: Steps of which these containers need not have any, and why.
NOT_HERE = {
    "network devices and resctrl": "MakeClass JoinClass EnterClass Monitor HoldNamespace MoveDevice",
    "other kernels": "BindRootClassic MountFilesystemClassic MountCopyClassic BindClassic BindClassicOrLink "
    "MaskClassic MakeReadOnlyClassic",
    "callers without privileges": "BindHere BindHereOrLink",
    "the other version of cgroups": "CreateCgroup LimitDevices CreateUnifiedCgroup LimitDevicesByProgram MountCgroup1 "
    "MountCgroup2 ChownCgroup CheckUsage WriteFirst WriteTogether",
    "systemd": "ExpectScope StartScope SetUnitProperties",
    "update and salvage": "RememberLimits NotedCgroups",
    "security modules": "SetApparmorProfile SetSelinuxLabel",
    "another process to talk to": "ConnectListener SendListener CloseListener SendPidfd MakeNotifyDirectory "
    "PairConsole",
    "what only looks": "CheckDescriptors CheckIdMaps CheckNamespace OpenIdMap",
    "mounts shared with the host": "MakeParentPrivate JoinPeers",
    "another network namespace": "MountSysfs",
    "a filesystem that takes no other ids": "MakeIdMap",
}

#: Classes -> what in their line the calls must have in them.
SAID = {
    "SetHostname SetDomainname SetUmask ChangeDirectory Execve": r"\((.*)\)",
    "SetOomScoreAdj Write WriteLate WriteTogether": r"(\S+) to ([\w.]+)",
    "TimeOffsets WriteSysctls": r"(\d+)(?:,|$)",
    "SetRlimits": r"(RLIMIT_\w+)",
    "SetScheduler SetIoPriority SetMemoryPolicy": r"\((\w+)",
    "JoinSessionKeyring MakeWorkingDirectory": r"(\S+)$",
    "MountFilesystem MountCopy": r"^mount (\w+) ",
    "MountFilesystem MountCopy MountProcOfOthers Bind MountCgroup1 MountCgroup2": r" on (/\S*)",
    "MakeNodes": r"(/dev/\w+)",
    "Mask MakeReadOnly": r"(/\S+)",
    "OpenSource": r"(/\S+) for",
    "BindRoot": r"filesystem (/\S+) on",
    "RunHook": r"hook (/[^\s,]+)",
    "WriteIdMaps": r"(\w+_map)",
    "LimitDevices": r"([bc] [0-9*]+:[0-9*]+ [rwm]+)",
}


class Traced:
    """A runtime whose commands run under strace(1), with the plugin that marks steps."""

    def __init__(self, runtime: Runtime, directory: Path) -> None:
        self.runtime = runtime
        self.plain = list(runtime.command)
        self.directory = directory
        self.traces: list[tuple[Path, str]] = []

    def strace(self, command: str) -> list[str]:
        report = self.directory / f"trace{len(self.traces)}"
        self.traces.append((report, command))
        return ["strace", "-f", "-y", "-s", "1000", "-e", "signal=none", "-e", CALLS, "-o", str(report)]

    def call(self, *words: str | Path, **kw: Any) -> None:
        self.runtime.command = [*self.strace(str(words[0])), *self.plain]
        try:
            self.runtime.call(*words, **kw)
        finally:
            self.runtime.command = self.plain

    def life(self, bundle: Bundle, *options: str | Path, then: Callable[[], None] = lambda: None) -> None:
        """create, start, whatever is done ``then``, and delete."""
        self.runtime.created.append(bundle.id)
        words = [*self.strace("create"), *self.plain, "--root", self.runtime.root, "create", *options, "--bundle"]
        with (
            (bundle.path / "err").open("w") as err,
            subprocess.Popen([*words, bundle.path, bundle.id], stdin=subprocess.DEVNULL, stderr=err) as create,
        ):
            try:
                eventually(lambda: create.poll() is not None or self.runtime.status(bundle) == "created", 20, "create")
                assert create.poll() is None, "create has failed"
                pid = self.runtime.pid(bundle)
                self.call("start", bundle.id)
                then()
                self.call("delete", "--force", bundle.id)
                self.runtime.wait(pid)
                assert create.wait(seconds(20)) == 0  # strace ends when init does
            finally:
                create.kill()

    def seen(self) -> list[Trace]:
        return [Trace(*each) for each in self.traces]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the plugin is installed."""
    path = tmp_path_factory.mktemp("marks")
    (path / "site").mkdir()
    plugins.install(path / "site", "marks", scratch=path)
    return path / "site"


@pytest.fixture
def traced(leftovers: Watch, scratch: Path, packages: Path) -> Iterator[Traced]:
    entry = plugins.entry(packages, scratch / "entry.py")
    runtime = plugins.runtime(entry, scratch / "config.toml", 'plugins = ["marks"]\n', scratch / "root")
    yield Traced(runtime, scratch)
    runtime.clean()


def rich(bundle: Bundle) -> Bundle:
    """A container with something of everything that one bundle can have."""
    for name in ("data", "other", "tree"):
        (bundle.path / name).mkdir()
    (bundle.path / "file").write_text("x")
    (bundle.path / "seccomp").mkdir()
    hook = [{"path": "/bin/true"}]
    kinds = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
    maps = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    bundle.update(
        {
            "hostname": "rich",
            "domainname": "example",
            "hooks": {kind: hook for kind in kinds},
            "annotations": {"run.oci.hooks.stdout": str(bundle.path / "hooks.out")},
            "process": {
                "args": ["/bin/sleep", "1000"],
                "terminal": True,
                "consoleSize": {"height": 30, "width": 100},
                "cwd": "/srv/made",
                "user": {"uid": 1000, "gid": 1000, "additionalGids": [5, 6], "umask": 0o027},
                "oomScoreAdj": 100,
                "scheduler": {"policy": "SCHED_BATCH", "nice": 3},
                "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 5},
                "noNewPrivileges": False,
            },
            "root": {"readonly": True},
            "linux": {
                "personality": {"domain": "LINUX"},
                "memoryPolicy": {"mode": "MPOL_LOCAL"},
                "sysctl": {"kernel.msgmax": "9000", "net.ipv4.ip_forward": "1"},
                "devices": [{"path": "/dev/other", "type": "c", "major": 1, "minor": 5, "fileMode": 0o600, "uid": 7}],
                "rootfsPropagation": "rprivate",
                "resources": {
                    "memory": {"limit": 1 << 28},
                    "cpu": {"shares": 512, "quota": 50000, "period": 100000},
                    "pids": {"limit": 100},
                },
                "seccomp": {
                    "defaultAction": "SCMP_ACT_ALLOW",
                    "syscalls": [{"names": ["reboot"], "action": "SCMP_ACT_ERRNO"}],
                },
            },
        }
    )
    bundle.add_namespace("cgroup")
    bundle.add_mount("/run", "tmpfs", "t", "ro", "tmpcopyup")
    bundle.add_mount("/data", "bind", str(bundle.path / "data"), "rbind", "ro", "rslave")
    bundle.add_mount("/file", "bind", str(bundle.path / "file"), "bind", "ro", "nosuid")
    bundle.add_mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro")
    bundle.add_mount("/mapped", "bind", str(bundle.path / "other"), "bind")
    if missing("idmapped-mounts") is None:
        bundle.config["mounts"][-1] |= {"uidMappings": maps, "gidMappings": maps}
    bundle.add_mount("/data", "none", "none", "remount", "bind", "noexec")
    bundle.write()
    return bundle


def in_user_namespace(bundle: Bundle) -> Bundle:
    """A user namespace, and one for the time: init is made in several steps."""
    bundle.map_users(0)
    bundle.add_namespace("time")
    bundle.add_mount("/run/link", "bind", str(bundle.path / "link"), "bind", "copy-symlink")
    (bundle.path / "link").symlink_to("/run/elsewhere")
    bundle.remove("process.capabilities")
    bundle.set("linux.timeOffsets", {"monotonic": {"secs": 5}})
    bundle.add_mount("/tmp/own", "tmpfs", "t", "tmpcopyup")
    return bundle.set("process.args", ["/bin/sleep", "1000"])


def joining(bundle: Bundle, pid: int, *kinds: str) -> Bundle:
    """In the namespaces of another container."""
    for kind in kinds:
        bundle.add_namespace(kind, f"/proc/{pid}/ns/{ {'network': 'net'}.get(kind, kind) }")
    return bundle.set("process.args", ["/bin/sleep", "1000"])


def bare(bundle: Bundle) -> Bundle:
    """A root on the host's mounts, and nothing else of its own."""
    bundle.config["linux"] = {"namespaces": [{"type": "pid"}], "cgroupsPath": bundle.cgroups_path}
    bundle.config["mounts"] = []
    bundle.config.pop("hostname")
    return bundle.set("process.args", ["/bin/sleep", "1000"])


@pytest.fixture
def story(traced: Traced, make_bundle: Callable[..., Bundle], console_socket: ConsoleSocket, scratch: Path) -> Traced:
    """Containers of many kinds, and processes executed in them."""
    socket = ("--console-socket", console_socket.path)
    first, second, third, fourth, fifth, sixth = (make_bundle("sleep 1000") for _ in range(6))

    def beside_the_first() -> None:
        process = {
            "args": ["/bin/true"],
            "cwd": "/",
            "user": {"uid": 0, "gid": 0},
            "terminal": True,
            "execCPUAffinity": {"initial": "0", "final": "0"},
        }
        file, pid_file = scratch / "process.json", scratch / "pid"
        file.write_text(json.dumps(process))
        traced.call("exec", "--detach", "--pid-file", pid_file, *socket, "--process", file, first.id)
        traced.runtime.wait(int(pid_file.read_text()))
        pid = traced.runtime.pid(first)
        traced.life(joining(second, pid, "pid", "network", "ipc", "uts"))

    traced.life(rich(first), *socket, then=beside_the_first)
    in_user_namespace(third).add_mount("/mnt", "bind", str(third.path), "bind")
    traced.life(third, then=lambda: traced.call("exec", third.id, "true"))
    traced.life(bare(fourth), then=lambda: traced.call("exec", fourth.id, "true"))
    fifth.update({"linux": {"rootfsPropagation": "shared"}})
    file = scratch / "mounts.json"
    file.write_text(json.dumps([{"destination": "/new", "type": "tmpfs", "source": "tmpfs"}]))

    def change_mounts() -> None:
        traced.call("mounts", "add", fifth.id, file)
        traced.call("mounts", "remove", fifth.id, file)

    traced.life(fifth, "--no-pivot", then=change_mounts)
    bare(sixth).add_mount("/mnt", "tmpfs", "tmpfs").drop_namespace("mount")
    traced.life(sixth)
    return traced


def test_each_call_belongs_to_a_step_that_says_it(story: Traced) -> None:
    traces = story.seen()
    root = story.runtime.root
    wrong = [
        f"{call.when}, in no step: {call.text}"
        for trace in traces
        for call in trace.outside
        if not call.failed
        and not any(
            fnmatch(call.when, when) and call.is_one_of(patterns.format(root=root)) for when, patterns, _ in ENGINE
        )
    ]
    steps = [step for trace in traces for step in trace.steps]
    for step in steps:
        wrong += [f"{step.name}, {step.line}: {problem}" for problem in problems(step)]
    assert not wrong, "\n".join(wrong)
    seen = {step.name for step in steps}
    seen |= {f"{step.name} {step.line.split()[0]}" for step in steps}
    assert {*DOES} - seen <= {name for names in NOT_HERE.values() for name in names.split()}


def problems(step: Ran) -> Iterator[str]:
    """What a step has done that its kind does not, what it has left out, and what its line says otherwise."""
    must, _, may = (DOES.get(step.name) or DOES.get(f"{step.name} {step.line.split()[0]}", "")).partition(";")
    done = [call for call in step.calls if not call.failed]
    for call in step.calls:
        if not call.is_one_of(f"{must} {may}"):
            yield f"also does {call.text}"
    if not done and step.name in MAY_BE_NEEDLESS:
        return
    for word in must.split():
        if not any(call.is_one_of(word) for call in done):
            yield f"does no {word}"
    text = "\n".join(f"{call.what} {call.text}" for call in done)
    for names, pattern in SAID.items():
        if step.name in names.split():
            for said in re.findall(pattern, step.line):
                words = said if isinstance(said, tuple) else said.split()
                yield from (f"does not do it with {word}" for word in words if word not in text)
    if any(call.is_one_of("clone3 unshare setns") for call in done) and "CLONE_" in step.line:
        flags = {*re.findall(r"CLONE_(?:NEW|INTO_)\w+", text)}
        if flags != {*re.findall(r"CLONE_\w+", step.line)}:
            yield f"has the flags {flags}"


def test_every_kind_of_step_has_an_entry() -> None:
    for module in pkgutil.walk_packages(gosudacon.stages.__path__, "gosudacon.stages."):
        importlib.import_module(module.name)
    known = {*(entry.split()[0] for entry in DOES), *BASES.split()}
    assert {kind.__name__ for kind in kinds(Step) if kind.__module__.startswith("gosudacon.stages.")} <= known


def kinds(kind: type[Step]) -> Iterator[type[Step]]:
    for each in kind.__subclasses__():
        yield each
        yield from kinds(each)
