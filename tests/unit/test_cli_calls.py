"""Every form of call that containerd, Docker, Podman and the CRI plugin were recorded to make."""

from __future__ import annotations

import pytest

from gosudacon.cli.parse import parse

ROOTS = {
    "containerd": "/run/containerd/runc/group",
    "docker": "/run/docker-exec/runtime-runc/docker",
    "cri": "/run/containerd/runc/k8s.io",
}
TASK = "/run/io.containerd.runtime.v2.task/ns/ID"

# What the shim puts after its global options: (words, options given, positional arguments).
SHIM = [
    (
        f"create --bundle {TASK} --pid-file {TASK}/init.pid ID",
        {"bundle": TASK, "pid-file": f"{TASK}/init.pid"},
        ["ID"],
    ),
    (
        f"create --bundle {TASK} --pid-file {TASK}/init.pid --console-socket /tmp/pty1/pty.sock ID",
        {"bundle": TASK, "pid-file": f"{TASK}/init.pid", "console-socket": "/tmp/pty1/pty.sock"},
        ["ID"],
    ),
    ("start ID", {}, ["ID"]),
    ("delete --force ID", {"force": True}, ["ID"]),
    ("delete ID", {}, ["ID"]),
    (
        f"exec --process /tmp/runc-process1 --detach --pid-file {TASK}/e.pid ID",
        {"process": "/tmp/runc-process1", "detach": True, "pid-file": f"{TASK}/e.pid"},
        ["ID"],
    ),
    (
        f"exec --process /tmp/runc-process1 --console-socket /tmp/p.sock --detach --pid-file {TASK}/e.pid ID",
        {
            "process": "/tmp/runc-process1",
            "console-socket": "/tmp/p.sock",
            "detach": True,
            "pid-file": f"{TASK}/e.pid",
        },
        ["ID"],
    ),
    ("kill --all ID 9", {"all": True}, ["ID", "9"]),
    ("kill ID 15", {}, ["ID", "15"]),
    ("kill ID 9", {}, ["ID", "9"]),
    ("kill ID 10", {}, ["ID", "10"]),
    ("kill ID 28", {}, ["ID", "28"]),
    ("pause ID", {}, ["ID"]),
    ("resume ID", {}, ["ID"]),
    ("ps --format json ID", {"format": "json"}, ["ID"]),
    ("update --resources - ID", {"resources": "-"}, ["ID"]),
    ("update --resources=- ID", {"resources": "-"}, ["ID"]),
    (
        "checkpoint --image-path /i --work-path /w --leave-running ID",
        {"image-path": "/i", "work-path": "/w", "leave-running": True},
        ["ID"],
    ),
    (
        f"restore --image-path /i --work-path /w --detach --pid-file /p -no-subreaper --bundle {TASK} ID",
        {
            "image-path": "/i",
            "work-path": "/w",
            "detach": True,
            "pid-file": "/p",
            "no-subreaper": True,
            "bundle": TASK,
        },
        ["ID"],
    ),
    (
        f"create --bundle {TASK} --pid-file /p --pidfd-socket /s --no-pivot --no-new-keyring --preserve-fds 2 ID",
        {
            "bundle": TASK,
            "pid-file": "/p",
            "pidfd-socket": "/s",
            "no-pivot": True,
            "no-new-keyring": True,
            "preserve-fds": 2,
        },
        ["ID"],
    ),
]

CONMON_LOG = "/run/podman/overlay-containers/ID/userdata/oci-log"
DATA = "/run/podman/overlay-containers/ID/userdata"
# conmon's calls, after `--log-format=json --log F`.
CONMON = [
    (
        f"create --bundle {DATA} --pid-file {DATA}/pidfile ID",
        {"bundle": DATA, "pid-file": f"{DATA}/pidfile"},
        ["ID"],
    ),
    (
        f"create --bundle {DATA} --pid-file {DATA}/pidfile --console-socket /tmp/conmon-term.X ID",
        {"bundle": DATA, "pid-file": f"{DATA}/pidfile", "console-socket": "/tmp/conmon-term.X"},
        ["ID"],
    ),
    (
        f"create --bundle {DATA} --pid-file {DATA}/pidfile --preserve-fds 1 ID",
        {"bundle": DATA, "pid-file": f"{DATA}/pidfile", "preserve-fds": 1},
        ["ID"],
    ),
    (
        f"exec --pid-file {DATA}/exec_pid --process {DATA}/exec-process-1 --detach ID",
        {"pid-file": f"{DATA}/exec_pid", "process": f"{DATA}/exec-process-1", "detach": True},
        ["ID"],
    ),
    (
        f"exec --pid-file {DATA}/exec_pid --process {DATA}/p --detach --tty --console-socket /tmp/conmon-term.X ID",
        {
            "pid-file": f"{DATA}/exec_pid",
            "process": f"{DATA}/p",
            "detach": True,
            "tty": True,
            "console-socket": "/tmp/conmon-term.X",
        },
        ["ID"],
    ),
]

# podman, buildah, BuildKit, CRI-O, dockerd: whole command lines.
WHOLE = [
    (
        "create --bundle /t/buildah1 --pid-file /t/buildah1/pid buildah-1",
        "create",
        {"bundle": "/t/buildah1", "pid-file": "/t/buildah1/pid"},
        ["buildah-1"],
    ),
    ("start buildah-1", "start", {}, ["buildah-1"]),
    ("state buildah-1", "state", {}, ["buildah-1"]),
    ("delete buildah-1", "delete", {}, ["buildah-1"]),
    ("delete --force ID", "delete", {"force": True}, ["ID"]),
    ("kill ID 9", "kill", {}, ["ID", "9"]),
    ("kill ID 15", "kill", {}, ["ID", "15"]),
    ("pause ID", "pause", {}, ["ID"]),
    ("resume ID", "resume", {}, ["ID"]),
    ("start ID", "start", {}, ["ID"]),
    ("update --resources=/t/podman1 ID", "update", {"resources": "/t/podman1"}, ["ID"]),
    (
        "--log /b/runc-log.json --log-format json run --bundle /b/ID ID",
        "run",
        {"log": "/b/runc-log.json", "log-format": "json", "bundle": "/b/ID"},
        ["ID"],
    ),
    ("--version", "version", {}, []),
    ("--root /r kill -a ID 15", "kill", {"root": "/r", "all": True}, ["ID", "15"]),
    ("--root /r --systemd-cgroup state ID", "state", {"root": "/r", "systemd-cgroup": True}, ["ID"]),
    (
        "--root /r --systemd-cgroup delete --force ID",
        "delete",
        {"root": "/r", "systemd-cgroup": True, "force": True},
        ["ID"],
    ),
    ("--root=/r exec --process /p ID", "exec", {"root": "/r", "process": "/p"}, ["ID"]),
    (
        "checkpoint --file-locks --image-path /i --work-path /w --leave-running --leave-running ID",
        "checkpoint",
        {"file-locks": True, "image-path": "/i", "work-path": "/w", "leave-running": True},
        ["ID"],
    ),
    (
        "restore --bundle /b --pid-file /p --detach --image-path /i --work-path /b --tcp-established "
        "--tcp-close --lsm-profile=apparmor:x --lsm-mount-context=c ID",
        "restore",
        {
            "bundle": "/b",
            "pid-file": "/p",
            "detach": True,
            "image-path": "/i",
            "work-path": "/b",
            "tcp-established": True,
            "tcp-close": True,
            "lsm-profile": "apparmor:x",
            "lsm-mount-context": "c",
        },
        ["ID"],
    ),
    ("features", "features", {}, []),
]


def check(words: list[str], command: str, given: dict[str, object], args: list[str]) -> None:
    invocation = parse(words)
    assert invocation.command == command
    values = invocation.globals | invocation.options
    assert {name: values[name] for name in invocation.given - {"version"}} == given
    assert invocation.args == args


@pytest.mark.parametrize("client", ROOTS)
@pytest.mark.parametrize(("line", "given", "args"), SHIM)
def test_shim(client: str, line: str, given: dict[str, object], args: list[str]) -> None:
    before = ["--root", ROOTS[client], "--log", f"{TASK}/log.json", "--log-format", "json"]
    log = {"root": ROOTS[client], "log": f"{TASK}/log.json", "log-format": "json"}
    words = line.split()
    check([*before, *words], words[0], {**log, **given}, args)


@pytest.mark.parametrize("extra", [["--systemd-cgroup"], ["--rootless=false"], ["--systemd-cgroup", "--rootless=auto"]])
def test_shim_with_more_global_options(extra: list[str]) -> None:
    words = ["--root", "/r", "--log", "/l", "--log-format", "json", *extra, "create", "--bundle", "/b", "ID"]
    invocation = parse(words)
    assert invocation.command == "create"
    assert invocation.globals["systemd-cgroup"] == ("--systemd-cgroup" in extra)


@pytest.mark.parametrize(("line", "given", "args"), CONMON)
def test_conmon(line: str, given: dict[str, object], args: list[str]) -> None:
    words = ["--log-format=json", "--log", CONMON_LOG, *line.split()]
    check(words, line.split()[0], {"log-format": "json", "log": CONMON_LOG, **given}, args)


@pytest.mark.parametrize(("line", "command", "given", "args"), WHOLE)
def test_whole(line: str, command: str, given: dict[str, object], args: list[str]) -> None:
    check(line.split(), command, given, args)
