"""Every kind of failure that has a hint: one that the table knows by it, and says something useful about."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gosudacon.base.errors import ConfigError, Error
from gosudacon.container import hints
from gosudacon.container.hints import facts, program
from gosudacon.container.hints.image import Dangling, Image, Unseen
from gosudacon.container.template import default_spec
from gosudacon.pipeline.spec import Host, Spec
from gosudacon.schema import problems
from tools.hints_table import table

KINDS = [kind.name for kind in hints.TABLE]
ELF = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\0"
Edit = Callable[[Any, Path], None]


def spec(tmp_path: Path, edit: Edit | None = None) -> Spec:
    """The usual bundle, with an image that has nothing but a directory."""
    config: Any = default_spec(cgroup_v2=True)
    config["process"]["terminal"] = False
    (tmp_path / "rootfs/etc").mkdir(parents=True, exist_ok=True)
    if edit is not None:
        edit(config, tmp_path / "rootfs")
    return Spec(config, "c", str(tmp_path))


def put(key: str, value: Any) -> Edit:
    """Set a dotted key."""

    def edit(config: Any, _root: Path) -> None:
        *above, last = key.split(".")
        for name in above:
            config = config.setdefault(name, {})
        config[last] = value

    return edit


def mount(**entry: Any) -> Edit:
    return lambda config, _root: config["mounts"].append({"destination": "/x", **entry})


def runs(args: str, contents: bytes | None = None, mode: int = 0o755, user: int = 0) -> Edit:
    """A program ``args``, and in the image a file ``/p`` with these contents."""

    def edit(config: Any, root: Path) -> None:
        config["process"].update(args=[args], user={"uid": user, "gid": user})
        if contents is not None:
            (root / "p").write_bytes(contents)
            (root / "p").chmod(mode)

    return edit


def both(*edits: Edit) -> Edit:
    def edit(config: Any, root: Path) -> None:
        for each in edits:
            each(config, root)

    return edit


def inside(path: str, target: str = "") -> Edit:
    """A file in the image, or a link to ``target``."""

    def edit(_config: Any, root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if target:
            (root / path).symlink_to(target)
        else:
            (root / path).write_bytes(b"#!/bin/sh\n")
            (root / path).chmod(0o755)

    return edit


def closed(config: Any, root: Path) -> None:
    (root / "private").mkdir(mode=0o700)
    (root / "private/p").write_bytes(b"#!/bin/sh\n")
    (root / "private/p").chmod(0o755)
    config["process"].update(args=["/private/p"], user={"uid": 4711, "gid": 4711})


def special(config: Any, root: Path) -> None:
    os.mkfifo(root / "p", 0o755)
    config["process"]["args"] = ["/p"]


def emptied(config: Any, root: Path) -> None:
    (root / "etc").rmdir()
    config["process"]["args"] = ["/p"]


def removed(_config: Any, root: Path) -> None:
    (root / "etc").rmdir()
    root.rmdir()


DENYING = put(
    "linux.seccomp",
    {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["execve"], "action": "SCMP_ACT_ERRNO"}]},
)
RT = put("process.scheduler", {"policy": "SCHED_FIFO", "priority": 3})
BIND = {"type": "bind", "options": ["bind"]}
AT = {"stage": "rootfs-mount", "where": "mounts[7]"}
LOADER = ELF + b"\x3e\0" + bytes(12) + (64).to_bytes(8, "little") + bytes(14) + b"\x38\0\x01\0" + bytes(6)
LOADER += b"\x03\0\0\0" + bytes(4) + (120).to_bytes(8, "little") + bytes(16) + (10).to_bytes(8, "little") + bytes(16)
LOADER += b"/lib/ld-x\0"

# Kind -> what the hint says, message, edit of the bundle, the error's other attributes.
CASES: dict[str, tuple[str, str, Edit | None, dict[str, Any]]] = {
    "misspelt-capability": ("did you mean CAP_NET_ADMIN?", "unknown capability CAP_NET_ADMN", None, {}),
    "misspelt-rlimit": ("did you mean RLIMIT_NOFILE?", "unknown rlimit RLIMIT_NOFILES", None, {}),
    "misspelt-policy": ("did you mean SCHED_FIFO?", "unknown scheduling policy SCHED_FIO", None, {}),
    "namespace-missing": (
        'add {"type": "uts"} to linux.namespaces, or remove hostname',
        "unable to set hostname without a private UTS namespace",
        None,
        {"where": "hostname"},
    ),
    "mappings-missing": ("uidMappings", "a new user namespace needs uidMappings and gidMappings", None, {}),
    "id-unmapped": (
        "maps 0 to 9:",
        "uid 77 is not in linux.uidMappings",
        put("linux.uidMappings", [{"containerID": 0, "hostID": 1000, "size": 10}]),
        {},
    ),
    "root-missing": ("unpack or mount", "invalid rootfs: /x", removed, {}),
    "config-incomplete": ("gosudacon spec", "root must be specified", None, {}),
    "seccomp-execve": ("SCMP_ACT_ERRNO", "exec", both(runs("/p", b"\n"), DENYING), {"call": "execve", "errno": 1}),
    "script-interpreter": ("/bin/bash, which", "exec", runs("/p", b"#!/bin/bash -e\n"), {"call": "execve"}),
    "script-carriage-return": ("CR", "exec", runs("/p", b"#!/bin/sh\r\n"), {"call": "execve"}),
    "script-first-line": ("#!", "exec", runs("/p", b"echo hi\n"), {"call": "execve"}),
    "script-bom": ("byte order mark", "exec", runs("/p", b"\xef\xbb\xbf#!/bin/sh\n"), {"call": "execve"}),
    "loader": ("/lib/ld-x", "exec", runs("/p", LOADER), {"call": "execve"}),
    "architecture": ("s390x", "exec", runs("/p", ELF + b"\x16\0" + bytes(99)), {"call": "execve"}),
    "program-foreign": ("Windows", "exec", runs("/p", b"MZ\0"), {"call": "execve"}),
    "program-empty": ("empty file", "exec", runs("/p", b""), {"call": "execve"}),
    "program-mode": ("mode 0644", "exec", runs("/p", b"#!/bin/sh\n", 0o644), {"call": "execve"}),
    "program-owner": ("may not execute", "exec", runs("/p", b"#!/bin/sh\n", 0o700, 4711), {"call": "execve"}),
    "program-parent": ("cannot enter", "exec", closed, {"call": "execve"}),
    "program-directory": ("is a directory", "exec", runs("/etc"), {"call": "execve"}),
    "program-special": ("not a regular file", "exec", special, {"call": "execve"}),
    "program-link": ("is a link to /no", "exec", both(runs("/p"), inside("p", "/no")), {"call": "execve"}),
    "program-words": ('["echo", "hi"]', "exec", both(runs("echo hi"), inside("bin/echo")), {"call": "execve"}),
    "program-unnamed": ("empty string", "exec", runs(""), {"call": "execve"}),
    "no-path": ('add "PATH=', "exec", both(runs("p"), put("process.env", [])), {"call": "execve"}),
    "program-elsewhere": (
        "the image has /usr/bin/p",
        "exec",
        both(runs("p"), put("process.env", ["PATH=/opt"]), inside("usr/bin/p")),
        {"call": "execve"},
    ),
    "no-shell": ("no shell", "exec", runs("/bin/sh"), {"call": "execve"}),
    "image-empty": ("is empty", "exec", emptied, {"call": "execve"}),
    "program-misspelt": ("mean python?", "exec", both(runs("pyhton"), inside("bin/python")), {"call": "execve"}),
    "program-missing": ("has no /p", "exec", runs("/p"), {"call": "execve"}),
    "arguments-too-long": ("128 KiB", "exec", None, {"call": "execve", "errno": errno.E2BIG}),
    "program-written": ("for writing", "exec", inside("bin/sh"), {"call": "execve", "errno": errno.ETXTBSY}),
    "label-denies": (
        "apparmorProfile is web",
        "exec",
        both(put("process.apparmorProfile", "web"), inside("bin/sh"), put("process.args", ["sh"])),
        {"call": "execve", "errno": errno.EACCES},
    ),
    "source-missing": ("make it on the host", "x", mount(source="/no", **BIND), {**AT, "errno": errno.ENOENT}),
    "filesystem-helper": ("mount(8)", "x", mount(type="nfs", source="h:/"), {**AT, "errno": errno.EINVAL}),
    "filesystem-unknown": ("did you mean tmpfs?", "x", mount(type="tmpsf"), {**AT, "errno": errno.ENODEV}),
    "option-unknown": ("did you mean nosuid?", "Unknown parameter 'nosiud': x", mount(type="tmpfs"), AT),
    "option-value": ("bytes", "Bad value for 'size': x", mount(type="tmpfs"), AT),
    "mount-without-type": ("rbind", "a mount needs a type, or the option bind", None, AT),
    "overlay": ("lowerdir /no", "x", mount(type="overlay", options=["lowerdir=/no"]), {**AT, "errno": errno.EINVAL}),
    "idmap-unsupported": (
        "id-mapped",
        "x",
        mount(source="/", type="bind", options=["bind", "idmap"]),
        {**AT, "call": "mount_setattr", "errno": errno.EINVAL},
    ),
    "directory-onto-file": (
        "/proc is a directory",
        "x",
        both(mount(source="/proc", **BIND), inside("x")),
        {**AT, "errno": errno.ENOTDIR},
    ),
    "destination-read-only": ("read-only", "x", mount(type="tmpfs"), {**AT, "errno": errno.EROFS}),
    "source-denied": (
        "cannot reach /proc",
        "x",
        mount(source="/proc", **BIND),
        {**AT, "call": "open_tree", "errno": errno.EACCES},
    ),
    "mount-not-permitted": (
        "bind it",
        "x",
        both(mount(type="sysfs"), put("linux.namespaces", [{"type": "user"}])),
        {**AT, "errno": errno.EPERM},
    ),
    "links-in-a-circle": ("circle", "x", mount(type="tmpfs"), {**AT, "errno": errno.ELOOP}),
    "too-many-mounts": ("fs.mount-max", "x", mount(type="tmpfs"), {**AT, "errno": errno.ENOSPC}),
    "mount-busy": ("in use", "x", mount(type="ext4"), {**AT, "errno": errno.EBUSY}),
    "not-a-block-device": ("losetup", "x", mount(type="ext4", source="/f"), {**AT, "errno": errno.ENOTBLK}),
    "destination-in-proc": ("maskedPaths", '"/proc/x" cannot be mounted because it is inside /proc', None, {}),
    "device-missing": ("mknod", "x", None, {"where": "linux.devices[0]", "errno": errno.ENOENT}),
    "sysctl-of-the-host": (
        "sysctl -w",
        'sysctl "vm.x" is not in a separate kernel namespace',
        None,
        {"where": "linux.sysctl[vm.x]"},
    ),
    "sysctl-unknown": ("did you mean", "x", None, {"where": "linux.sysctl[kernel.msgmaxx]", "errno": errno.ENOENT}),
    "sysctl-value": ("does not take", "x", None, {"where": "linux.sysctl[kernel.msgmax]", "errno": errno.EINVAL}),
    "cpus-missing": (
        "the host has the CPUs",
        "x",
        put("linux.resources.cpu", {"cpus": "0-4000"}),
        {"where": "linux.resources.cpu.cpus", "errno": errno.ERANGE},
    ),
    "controller-missing": ("no controller nope", "the nope cgroup controller is not mounted", None, {}),
    "unified-on-v1": ("cgroup v2", "invalid configuration: cannot use unified on cgroup v1", None, {}),
    "memory-too-low": (
        "meant in MiB?",
        "container init was OOM-killed",
        put("linux.resources.memory", {"limit": 512}),
        {},
    ),
    "cgroup-not-empty": ("choose another", "container's cgroup is not empty: 1 process(es) found", None, {}),
    "page-size": ("huge pages of", "invalid huge page size '3MB'", None, {}),
    "disk-missing": ("lsblk", "x", None, {"where": "linux.resources.blockIO.weightDevice[0]", "errno": errno.ENODEV}),
    "realtime": ("RT_GROUP_SCHED", "x", None, {"where": "linux.resources.cpu.realtimeRuntime", "errno": errno.EINVAL}),
    "below-usage": ("higher limit", "limit 1 is below the current usage 2", None, {}),
    "limit-file-missing": (
        "not enabled above",
        "x",
        None,
        {"stage": "cgroups", "where": "linux.resources.pids", "errno": errno.ENOENT},
    ),
    "limit-value": (
        "does not take 7",
        "x",
        put("linux.resources.pids", {"limit": 7}),
        {"where": "linux.resources.pids.limit", "errno": errno.EINVAL},
    ),
    "cgroup-occupied": ("a sibling of it", "x", None, {"stage": "cgroups", "errno": errno.EBUSY}),
    "sub-cgroup": ("--cgroup", "bad sub cgroup path: no", None, {"stage": "cgroups"}),
    "cgroup-threaded": ("threaded", "x", None, {"stage": "cgroups", "errno": errno.EOPNOTSUPP}),
    "cgroup-read-only": ("read-only", "x", None, {"stage": "cgroups", "errno": errno.EROFS}),
    "cgroup-permission": ("", "x", None, {"stage": "cgroups", "errno": errno.EACCES}),
    "too-many-cgroups": ("room", "x", None, {"stage": "cgroups", "errno": errno.ENOSPC}),
    "unit-exists": ("reset-failed", "Unit x.scope already exists", None, {}),
    "too-many-processes": ("pids.max", "x", None, {"call": "clone3", "errno": errno.EAGAIN}),
    "namespace-path-missing": (
        "ip netns add web",
        "x",
        put("linux.namespaces", [{"type": "network", "path": "/run/netns/web"}]),
        {"stage": "namespaces", "where": "linux.namespaces[0]", "errno": errno.ENOENT},
    ),
    "namespace-wrong": (
        "the entry says network",
        "/proc/self/ns/uts is not a network namespace",
        put("linux.namespaces", [{"type": "network", "path": "/proc/self/ns/uts"}]),
        {"stage": "namespaces", "where": "linux.namespaces[0]"},
    ),
    "namespaces-not-allowed": ("max_*_namespaces", "x", None, {"call": "clone3", "errno": errno.ENOSPC}),
    "namespaces-unknown": ("", "x", None, {"call": "unshare", "errno": errno.EINVAL}),
    "subordinate-ids": ("/etc/subuid", "newuidmap failed", None, {}),
    "mapping-not-allowed": ("own id", "write /proc/7/uid_map: no", None, {"call": "write", "errno": errno.EPERM}),
    "time-offset": ("uptime", "x", None, {"where": "linux.timeOffsets", "errno": errno.ERANGE}),
    "hostname-too-long": ("has 70", "x", put("hostname", "x" * 70), {"where": "hostname", "errno": errno.EINVAL}),
    "rlimit-too-high": (
        "CAP_SYS_RESOURCE",
        "prlimit64 RLIMIT_CORE: no",
        put("process.rlimits", [{"type": "RLIMIT_CORE", "soft": 1, "hard": 1}]),
        {"call": "prlimit64", "errno": errno.EPERM},
    ),
    "scheduler": ("SCHED_FIFO needs", "x", RT, {"call": "sched_setattr", "errno": errno.EPERM}),
    "io-priority": ("CAP_SYS_ADMIN", "x", None, {"call": "ioprio_set", "errno": errno.EPERM}),
    "memory-policy": (
        "memory nodes",
        "x",
        put("linux.memoryPolicy", {"mode": "MPOL_BIND", "nodes": "900"}),
        {"call": "set_mempolicy", "errno": errno.EINVAL},
    ),
    "affinity": (
        "the host has",
        "x",
        put("process.execCPUAffinity", {"initial": "4000"}),
        {"call": "sched_setaffinity", "where": "process.execCPUAffinity.initial"},
    ),
    "apparmor": (
        "web is not loaded",
        "x",
        put("process.apparmorProfile", "web"),
        {"where": "process.apparmorProfile", "errno": errno.ENOENT},
    ),
    "selinux": ("no SELinux", "selinux is disabled or not supported", None, {"where": "process.selinuxLabel"}),
    "too-many-keys": ("maxkeys", "x", None, {"call": "keyctl", "errno": errno.EDQUOT}),
    "keyring-denied": ("--no-new-keyring", "x", None, {"call": "keyctl", "errno": errno.EPERM}),
    "user-denied": ("uidMappings", "x", None, {"where": "process.user", "errno": errno.EINVAL}),
    "groups-without-root": ("additionalGids", "additional groups need root", None, {}),
    "oom-score": ("higher value", "x", None, {"where": "process.oomScoreAdj", "errno": errno.EACCES}),
    "cwd": ("is a file", "x", put("process.cwd", "/f"), {"where": "process.cwd", "errno": errno.ENOTDIR}),
    "seccomp-agent": (
        "start the agent",
        "failed to connect with seccomp agent specified in the seccomp profile: /s: no",
        None,
        {"errno": errno.ENOENT},
    ),
    "seccomp-filter": ("flags", "x", None, {"call": "seccomp", "errno": errno.EINVAL}),
    "terminal-detached": (
        "--console-socket",
        "cannot allocate tty if gosudacon will detach without setting console socket",
        None,
        {},
    ),
    "terminal-socket": ("listens", "x", None, {"stage": "rootfs-mount", "call": "connect", "errno": errno.ENOENT}),
    "terminal-without-devpts": (
        "devpts",
        "x",
        None,
        {"stage": "rootfs-mount", "step": "allocate a terminal in /dev/pts", "errno": errno.ENOENT},
    ),
    "hook-missing": (
        "/no is not there",
        "error running prestart hook #0: fork/exec /no: no such file or directory",
        put("hooks", {"prestart": [{"path": "/no"}]}),
        {"where": "hooks.prestart[0]"},
    ),
    "hook-failed": ("by hand", "error running prestart hook #0: exit status 1", None, {"where": "hooks.prestart[0]"}),
    "init-killed": ("memory", "container init was killed by signal 9 before it was ready", None, {}),
    "state-directory": ("XDG_RUNTIME_DIR", "/r/x: permission denied", None, {"errno": errno.EACCES}),
    "disk-full": ("df -i", "x", None, {"errno": errno.ENOSPC}),
    "descriptors": ("ulimit -n", "x", None, {"errno": errno.EMFILE}),
    "memory": ("no memory", "x", None, {"errno": errno.ENOMEM}),
    "name-too-long": ("107 bytes", "x", None, {"errno": errno.ENAMETOOLONG}),
    "misspelt-signal": ("did you mean TERM?", 'unknown signal "TEMR"', None, {}),
}
# Kind -> what the hint says, and an edit that the schema refuses.
REFUSED: dict[str, tuple[str, Edit]] = {
    "misspelt-word": ("did you mean SCMP_ACT_ALLOW?", put("linux.seccomp", {"defaultAction": "SCMP_ACT_ALOW"})),
    "listed-twice": ("linux.namespaces[1]", put("linux.namespaces", [{"type": "pid"}, {"type": "pid"}])),
    "args-empty": ('"args"', put("process.args", [])),
    "cwd-relative": ("absolute", put("process.cwd", "tmp")),
}


def failure(tmp_path: Path, kind: str) -> hints.Failure:
    _, message, edit, attributes = CASES[kind]
    return hints.Failure(Error(message, **attributes), spec(tmp_path, edit), "/r", Host())


@pytest.mark.parametrize("kind", CASES)
def test_kind(tmp_path: Path, kind: str) -> None:
    known, text = hints.recognized(failure(tmp_path, kind))
    assert (known, CASES[kind][0] in text) == (kind, True), text
    assert len(text) < 300 and "\n" not in text and not text.endswith(".")


@pytest.mark.parametrize("kind", REFUSED)
def test_kind_that_the_schema_refuses(tmp_path: Path, kind: str) -> None:
    text, edit = REFUSED[kind]
    (problem,) = problems.problems(spec(tmp_path, edit).config)
    error = ConfigError("invalid config.json: …", where=problem.where)
    error.problems = [problem.row()]
    known, hint = hints.recognized(hints.Failure(error))
    assert (known, text in hint) == (kind, True), hint


@pytest.mark.parametrize(
    ("text", "words"), [(b'{"a": 1,}', "no comma"), (b"{'a': 1}", "double quotes"), (b'{"a": 1 // x\n}', "comments")]
)
def test_json(text: bytes, words: str) -> None:
    from gosudacon.container import bundle

    with pytest.raises(ConfigError) as caught:
        bundle.parse(text)
    known, hint = hints.recognized(hints.Failure(caught.value))
    assert known == "json" and words in hint


def test_noexec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The filesystem of the test is not mounted so."""
    from gosudacon.container.hints.image import Found

    monkeypatch.setattr(Found, "noexec", True)
    error = Error('exec: "/p": permission denied', call="execve")
    known, hint = hints.recognized(hints.Failure(error, spec(tmp_path, runs("/p", b"#!/etc\n"))))
    assert known == "noexec" and "/p" in hint


def test_bundle_missing() -> None:
    known, hint = hints.recognized(hints.Failure(Error("chdir /no: no such file or directory")))
    assert known == "bundle-missing" and "--bundle" in hint


def test_every_kind_has_a_case() -> None:
    assert {*CASES, *REFUSED, "json", "noexec", "bundle-missing"} == set(KINDS)
    assert len(KINDS) == len(set(KINDS)) >= 50


def test_the_documented_table() -> None:
    """``python -m tools.hints_table`` prints it."""
    assert table() in (Path(__file__).parents[2] / "docs/errors.md").read_text()


def test_nothing_to_say() -> None:
    assert hints.find(hints.Failure(Error("no"))) == ""


@pytest.mark.parametrize("config", [{}, {"process": 7}, {"mounts": {}, "linux": []}, {"mounts": [None]}])
def test_a_configuration_of_any_form(config: Any, tmp_path: Path) -> None:
    """A hint does not cause a second failure."""
    for kind, (_, message, _, attributes) in CASES.items():
        error = Error(message, **attributes)
        assert isinstance(hints.find(hints.Failure(error, Spec(config, "c", str(tmp_path)))), str), kind


def test_nothing_leads_out_of_the_image(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    image = Image(spec(tmp_path, both(inside("up", "../../secret"), inside("bin/sh"), inside("abs", "/bin/sh"))))
    try:
        with pytest.raises(Dangling):
            image.look("/up")
        found = image.look("/abs")
        assert found is not None and found.path == "/bin/sh"
        assert image.look("/../../../bin/sh") is not None
        with pytest.raises(Unseen):
            image.look("/proc/self/exe")
    finally:
        image.close()


def test_what_a_bind_mount_shows(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/p").write_bytes(b"")
    (tmp_path / "tools/p").chmod(0o755)
    edit = both(mount(source="tools", **BIND), runs("/x/p"))
    assert program.examine(spec(tmp_path, edit)).kind == "program-empty"


def test_descriptors_are_given_back(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    program.examine(spec(tmp_path, runs("/p", b"#!/bin/sh\n")))
    assert os.listdir("/proc/self/fd") == before


def test_numbers() -> None:
    assert facts.shown({0, 1, 2, 5, 7, 8}) == "0-2,5,7-8"


@pytest.mark.parametrize(
    ("message", "entry", "number", "guess"),
    [
        ("bind mounts cannot have any filesystem-specific options applied: nosiud", {"type": "bind"}, 0, "nosuid"),
        ("error mounting", {"type": "none", "options": ["rbnd", "ro"]}, errno.ENODEV, "rbind"),
    ],
)
def test_misspelt_options_of_bind_mounts(
    tmp_path: Path, message: str, entry: dict[str, Any], number: int, guess: str
) -> None:
    error = Error(message, errno=number, stage="rootfs-mount", where="mounts[7]")
    assert hints.find(hints.Failure(error, spec(tmp_path, mount(**entry)))) == f"did you mean {guess}?"
