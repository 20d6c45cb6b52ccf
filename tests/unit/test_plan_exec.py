"""The plan of exec: what the built-in stages make of a process and a running container, and of what cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gosudacon.api import CONFINE, ISOLATE, ConfigError, Error, Host, Options, Rank, Spec, Stage, Step, Target
from gosudacon.container import process as processes
from gosudacon.container.exec import explained
from gosudacon.container.process import ExecOptions
from gosudacon.pipeline import discovery, order, plan
from gosudacon.pipeline.registry import Registry

KINDS = ["pid", "network", "ipc", "uts", "mount"]
V1 = {"devices": "/sys/fs/cgroup/devices/c", "pids": "/sys/fs/cgroup/pids/c", "": "/sys/fs/cgroup/unified/c"}
CAPABILITIES = {kind: ["CAP_KILL"] for kind in ("bounding", "effective", "permitted")}
PROCESS: dict[str, Any] = {"args": ["sh"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry(discovery.discover("/nonexistent", required=False)[0])


def steps_of(registry: Registry, spec: Spec, host: Host | None = None) -> list[Step]:
    return plan.make_exec(registry.stages(spec), spec, host or Host()).steps


def spec(
    process: dict[str, Any] | None = None,
    linux: dict[str, Any] | None = None,
    target: Target | None = None,
    **options: Any,
) -> Spec:
    target = target or Target(pid=7, start_time=9, namespaces=KINDS, cgroups=V1)
    config: Any = {"process": {**PROCESS, **(process or {})}, "linux": linux or {}}
    return Spec(config, "c", "/b", Options(**options), target=target)


def lines(steps: list[Step]) -> list[str]:
    return [f"{step.phase}/{step.rank} {step.runs_on()} {step.stage}: {step.describe()}" for step in steps]


def test_the_whole_plan(registry: Registry) -> None:
    process = {
        "capabilities": CAPABILITIES,
        "noNewPrivileges": True,
        "terminal": True,
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 20}],
    }
    seccomp = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["reboot"], "action": "SCMP_ACT_ERRNO"}]}
    assert lines(steps_of(registry, spec(process, {"seccomp": seccomp}, console_socket="/s"))) == [
        "prepare/0 runtime namespaces: open the namespaces pid, network, ipc, uts, mount of init, process 7",
        "prepare/0 runtime cgroups: open the cgroups /sys/fs/cgroup/devices/c, /sys/fs/cgroup/pids/c, "
        "/sys/fs/cgroup/unified/c",
        "prepare/0 runtime rootfs-mount: connect to the console socket /s",
        "prepare/0 runtime seccomp: compile the seccomp filter: SCMP_ACT_ALLOW, rules for 1 system calls; "
        "cached in /var/cache/gosudacon/seccomp",
        "isolate/0 runtime namespaces: clone3(CLONE_INTO_CGROUP): the container's process, "
        "in init's cgroup if that takes none",
        "isolate/0 container namespaces: prctl(PR_SET_DUMPABLE, 0)",
        "isolate/0 container cgroups: join the cgroup: write 0 to tasks of devices, pids",
        "isolate/0 runtime rootfs-mount: close what was opened for the container's process",
        "isolate/10 container namespaces: setns(pid, network, ipc, uts, mount), in the order that privileges allow",
        "isolate/10 container namespaces: setsid()",
        "mount/0 container rootfs-mount: open the container's root",
        "mount/0 container rootfs-mount: allocate a terminal in /dev/pts",
        "confine/0 container rootfs-mount: send the terminal's master; dup2 to 0, 1 and 2",
        "confine/0 container handoff: join the session keyring _ses.c",
        "confine/0 container handoff: sched_setaffinity(all CPUs)",
        "confine/0 container handoff: find HOME of uid 0 in /etc/passwd",
        "confine/0 container handoff: prctl(PR_SET_NO_NEW_PRIVS, 1)",
        "confine/0 container handoff: fchown(0-2, 0)",
        "confine/15 runtime handoff: prlimit: RLIMIT_NOFILE 10/20",
        "confine/20 container handoff: chdir(/)",
        "confine/20 container handoff: become uid 0, gid 0; bounding set KILL",
        "confine/20 container handoff: capset: effective KILL; permitted KILL",
        "confine/30 container handoff: find the program sh",
        "confine/30 container handoff: default signal dispositions, none blocked",
        "confine/60 container handoff: close_range(3, ~0)",
        "confine/60 container handoff: lay out 1 argument and 1 environment entry",
        "confine/70 container seccomp: load the seccomp filter (SPEC_ALLOW)",
        "confine/80 container namespaces: fork: the process is born into the pid namespace",
        "confine/85 container namespaces: setsid(); TIOCSCTTY",
        "start/0 container handoff: wait until the runtime has written the pid file",
        "start/100 container handoff: execve(sh)",
    ]


@pytest.mark.parametrize(
    ("namespaces", "listening", "place"),
    [(KINDS, 0, ("confine", 60)), (KINDS, 1, ("start", 3)), (["mount"], 0, ("start", 3))],
    ids=["born", "told of its pid", "not born"],
)
def test_laying_out(registry: Registry, namespaces: list[str], listening: int, place: tuple[str, int]) -> None:
    """Before the last fork, if there is one, except LISTEN_PID: only the process that is born knows its number."""
    given = spec(target=Target(7, 9, namespaces), listen_fds=listening, preserve_fds=listening)
    (step,) = (step for step in steps_of(registry, given) if type(step).__name__ == "PrepareExecve")
    assert (step.phase, step.rank) == place


def what(registry: Registry, given: Spec, host: Host | None = None, phase: str = ISOLATE) -> list[str]:
    return [step.describe() for step in steps_of(registry, given, host) if step.phase == phase]


def test_user_namespace(registry: Registry) -> None:
    """A user namespace is joined in the order that privileges allow."""
    found = what(registry, spec(target=Target(7, 9, ["user", *KINDS])))
    assert found[2:] == [
        "setns(user, pid, network, ipc, uts, mount), in the order that privileges allow",
        "setgroups(), setresgid(0), setresuid(0) in the user namespace",
        "setsid()",
    ]


def test_without_privileges_the_way_is_the_same(registry: Registry) -> None:
    found = what(registry, spec(target=Target(7, 9, ["user", *KINDS])), Host(euid=1000))
    assert found == [
        "clone3(0): the container's process",
        "prctl(PR_SET_DUMPABLE, 0)",
        "setns(user, pid, network, ipc, uts, mount), in the order that privileges allow",
        "setresgid(0), setresuid(0) in the user namespace",
        "setsid()",
    ]


def test_container_without_namespaces(registry: Registry) -> None:
    """A container without namespaces is a root and cgroups."""
    steps = what(registry, spec(target=Target(7, 9, [], V1)), phase="prepare") + what(registry, spec(target=Target(7)))
    assert steps == [
        "open the root of init, process 7",
        "open the cgroups /sys/fs/cgroup/devices/c, /sys/fs/cgroup/pids/c, /sys/fs/cgroup/unified/c",
        "clone3(0): the container's process",
        "prctl(PR_SET_DUMPABLE, 0)",
        "chroot into the container's root",
        "setsid()",
    ]


def test_labels_through_the_hosts_proc(registry: Registry) -> None:
    """That is where the process has a number; a user namespace would take the right to mount it."""
    given = spec({"apparmorProfile": "p"}, target=Target(7, 9, ["user", *KINDS]))
    found = what(registry, given, Host(apparmor=True))
    assert found.index("open a private proc mount (subset=pid)") == 2
    assert found.index("clone3(0): the container's process") == 0


def test_umask_keyring_and_listening(registry: Registry) -> None:
    """Umask keyring and listening are those of an exec."""
    found = " ".join(lines(steps_of(registry, spec(no_new_keyring=True))))
    assert "umask" not in found and "keyring" not in found and "start.sock" not in found
    assert "umask(007)" in " ".join(lines(steps_of(registry, spec({"user": {"uid": 0, "gid": 0, "umask": 7}}))))


@pytest.mark.parametrize(
    ("affinity", "steps"),
    [
        ({}, ["confine runtime=False sched_setaffinity(all CPUs)"]),
        ({"initial": "0"}, ["prepare runtime=True sched_setaffinity(0)"]),
        ({"final": "1-2"}, ["confine runtime=False sched_setaffinity(1-2)"]),
        (
            {"initial": "0", "final": "1"},
            ["prepare runtime=True sched_setaffinity(0)", "confine runtime=False sched_setaffinity(1)"],
        ),
    ],
)
def test_affinity(registry: Registry, affinity: dict[str, str], steps: list[str]) -> None:
    found = steps_of(registry, spec({"execCPUAffinity": affinity}))
    assert [
        f"{step.phase} runtime={step.runs_on() == 'runtime'} {step.describe()}"
        for step in found
        if "affinity" in step.describe()
    ] == steps


def test_oom_score_is_written_before_the_last_fork(registry: Registry) -> None:
    """Which passes it on."""
    lanes = plan.make_exec(registry.stages(given := spec({"oomScoreAdj": -5})), given, Host()).lanes()
    runtime = [move.step.describe() for move in lanes["runtime"]]
    waits = max(move.wait for move in lanes["container"] if move.step.rank < Rank.BIRTH or move.step.phase != CONFINE)
    assert waits > runtime.index("write -5 to oom_score_adj")


@pytest.mark.parametrize(
    ("below", "directories"),
    [
        ({"*": "a/b"}, ["/sys/fs/cgroup/devices/c/a/b", "/sys/fs/cgroup/pids/c/a/b", "/sys/fs/cgroup/unified/c/a/b"]),
        ({"*": "/"}, ["/sys/fs/cgroup/devices/c", "/sys/fs/cgroup/pids/c", "/sys/fs/cgroup/unified/c"]),
        ({"pids": "x"}, ["/sys/fs/cgroup/devices/c", "/sys/fs/cgroup/pids/c/x", "/sys/fs/cgroup/unified/c"]),
    ],
)
def test_a_chosen_cgroup(registry: Registry, below: dict[str, str], directories: list[str]) -> None:
    target = Target(7, 9, KINDS, V1, below)
    assert what(registry, spec(target=target), phase="prepare")[1] == "open the cgroups " + ", ".join(directories)


@pytest.mark.parametrize("below", [{"*": ".."}, {"*": "a/../../b"}, {"cpu": "x"}])
def test_a_cgroup_that_is_not_the_container_s(registry: Registry, below: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="invalid --cgroup argument"):
        steps_of(registry, spec(target=Target(7, 9, KINDS, V1, below)))


@pytest.mark.parametrize(
    ("process", "where"),
    [
        ({"args": []}, "args"),
        ({"cwd": "relative"}, "cwd"),
        ({"user": {"uid": "0", "gid": 0}}, "user.uid"),
        ({"user": {"uid": -1, "gid": 0}}, "user.uid"),
        ({"user": {"uid": (1 << 32) - 1, "gid": 0}}, "user.uid"),
        ({"user": {"uid": 1 << 32, "gid": 0}}, "user.uid"),
        ({"execCPUAffinity": {"initial": "x"}}, "execCPUAffinity.initial"),
    ],
)
def test_a_process_that_cannot_be(registry: Registry, process: dict[str, Any], where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        steps_of(registry, spec(process))
    assert caught.value.where == where


# Which stages take part.


def test_only_stages_with_steps_for_it_are_imported(registry: Registry) -> None:
    assert [stage.name for stage in registry.stages(spec())] == ["validate-config", "namespaces", "cgroups", "handoff"]
    everything = spec({"terminal": True}, {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}})
    everything.config["hooks"] = {"prestart": [{"path": "/x"}]}
    names = [stage.name for stage in registry.stages(everything)]
    assert names == ["validate-config", "namespaces", "cgroups", "rootfs-mount", "seccomp", "handoff"]


class Lasting(Step):
    phase = ISOLATE
    lasts = True

    def describe(self) -> str:
        return "stay"


class Plain(Stage):
    name = "plain"

    def plan(self, spec: Spec, host: Host) -> list[Step]:
        raise AssertionError("not for exec")


class Own(Plain):
    name = "own"
    keys = ("linux.x",)

    def plan_exec(self, spec: Spec, host: Host) -> list[Step]:
        return [Lasting(lasts=self.name == "lasting")]


def settings(**given: Any) -> Any:
    return {"plugins": [], "disable": [], "replace": {}, "stage": {}, **given}


def entry(stages: list[Stage], **given: Any) -> order.Entry:
    found = {stage.name: stage for stage in stages}
    return order.ordered(found, dict.fromkeys(found, "p"), settings(**given), "/c")[0]


def test_what_the_registry_knows_of_a_stage() -> None:
    assert entry([Plain()])["exec"] is None
    assert entry([Own()])["exec"] == ["linux.x"]
    wanting = Own()
    wanting.exec_keys = ()
    assert entry([wanting])["exec"] == []


def test_replaced_stage_does_exec() -> None:
    """A stage that is replaced goes on to do exec for one that does not."""
    plain, own = Plain(), Own()
    assert entry([plain, own], replace={"own": "plain"})["exec"] == ["linux.x"]
    assert [step.describe() for step in plain.plan_exec(spec(), Host())] == ["stay"]


def test_a_step_that_would_last_is_refused() -> None:
    stage = Own()
    plan.make_exec([stage], spec(), Host())
    stage.name = "lasting"
    with pytest.raises(Error, match="stay"):
        plan.make_exec([stage], spec(), Host())


# The process: from a file, from options.

OWN: Any = {
    "args": ["init"],
    "cwd": "/home",
    "env": ["A=1"],
    "terminal": True,
    "user": {"uid": 5, "gid": 6, "additionalGids": [7], "umask": 63},
    "capabilities": {**CAPABILITIES, "inheritable": [], "ambient": []},
    "noNewPrivileges": True,
    "rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}],
    "apparmorProfile": "own",
    "selinuxLabel": "label",
}


def test_options_change_the_container_s_process() -> None:
    unchanged = {key: value for key, value in OWN.items() if key != "terminal"}
    assert processes.build(OWN, ["ls", "-l"], ExecOptions()) == {**unchanged, "args": ["ls", "-l"]}
    options = ExecOptions(
        env=["B=2"],
        cwd="/x",
        user="1:2",
        additional_gids=["3"],
        cap=["CAP_CHOWN"],
        tty=True,
        apparmor="p",
        process_label="l",
    )
    found = processes.build(OWN, ["ls"], options)
    assert found["env"] == ["A=1", "B=2"]
    assert found["user"] == {"uid": 1, "gid": 2, "additionalGids": [7, 3], "umask": 63}
    assert (found["cwd"], found["terminal"], found["apparmorProfile"], found["selinuxLabel"]) == ("/x", True, "p", "l")
    assert found["capabilities"]["effective"] == ["CAP_KILL", "CAP_CHOWN"]
    assert found["capabilities"]["inheritable"] == found["capabilities"]["ambient"] == []
    assert OWN["user"]["uid"] == 5 and OWN["env"] == ["A=1"]


def test_given_process(tmp_path: Path) -> None:
    """What a caller has read is taken as what stands in a file."""
    given: Any = {"args": ["ls"], "cwd": "/x", "user": {}, "terminal": False}
    (tmp_path / "p").write_text(json.dumps(given))
    from_file = processes.build(OWN, [], ExecOptions(process=str(tmp_path / "p")))
    assert processes.build(OWN, [], ExecOptions(given=given)) == from_file
    assert from_file["user"]["uid"] == 0


def test_ambient_capabilities() -> None:
    """More capabilities become ambient only beside an inheritable set."""
    own: Any = {**OWN, "capabilities": {**CAPABILITIES, "inheritable": ["CAP_KILL"]}}
    assert processes.build(own, ["x"], ExecOptions(cap=["CAP_CHOWN"]))["capabilities"]["ambient"] == ["CAP_CHOWN"]
    assert "capabilities" not in processes.build({"args": ["x"]}, ["x"], ExecOptions(cap=["CAP_CHOWN"]))


def test_no_new_privs() -> None:
    without: Any = {**OWN, "noNewPrivileges": False}
    assert processes.build(without, ["x"], ExecOptions(no_new_privs=True))["noNewPrivileges"] is True


NO_USERS = [
    "",
    ":5",
    "1:",
    "x",
    "-1",
    "4294967295",
    "4294967296",
    "1" * 20,
    " 1",
    "1_0",
    "٣",
    "+1",
    "1:2:3",
    "1.0",
    "0x1",
]


@pytest.mark.parametrize("option", ["user", "cwd", "process_label", "apparmor"])
def test_an_empty_option_is_none(option: str) -> None:
    options = ExecOptions()
    setattr(options, option, "")
    assert processes.build(OWN, ["x"], options) == processes.build(OWN, ["x"], ExecOptions())


@pytest.mark.parametrize("user", [*NO_USERS, "1 ", "1:-1"])
def test_what_is_no_user(user: str) -> None:
    if user:  # an empty one is none
        with pytest.raises(Error, match="invalid user or group id"):
            processes.build(OWN, ["x"], ExecOptions(user=user))
    with pytest.raises(Error, match="invalid user or group id"):
        processes.build(OWN, ["x"], ExecOptions(additional_gids=[user]))


@pytest.mark.parametrize(
    ("user", "ids"), [("0", (0, 6)), ("1", (1, 6)), ("1000:1000", (1000, 1000)), ("4294967294:0", (4294967294, 0))]
)
def test_a_user(user: str, ids: tuple[int, int]) -> None:
    found = processes.build(OWN, ["x"], ExecOptions(user=user))["user"]
    assert (found["uid"], found["gid"]) == ids


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "process.json"
    path.write_text(json.dumps({"args": ["a"], "cwd": "/", "user": None, "terminal": False}))
    return path


def test_process_file(file: Path) -> None:
    """A file says everything but what is the container's."""
    found = processes.build(OWN, ["ignored"], ExecOptions(process=str(file), cwd="/ignored"))
    kept = {key: OWN[key] for key in ("capabilities", "rlimits", "apparmorProfile", "selinuxLabel")}
    assert found == {"args": ["a"], "cwd": "/", "user": {"uid": 0, "gid": 0, "umask": 63}, **kept}
    assert processes.build(OWN, [], ExecOptions(process=str(file), tty=True))["terminal"] is True


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '"x"'])
def test_a_file_that_holds_no_process(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError, match="invalid process file"):
        processes.build(OWN, [], ExecOptions(process=str(file)))


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(Error, match=r"^open /no/file: no such file or directory$"):
        processes.build(OWN, [], ExecOptions(process="/no/file"))


def test_no_arguments() -> None:
    with pytest.raises(Error, match="exec args cannot be empty"):
        processes.build(OWN, [], ExecOptions())


@pytest.mark.parametrize(
    ("arguments", "below"),
    [
        ([], {}),
        (["a/b"], {"*": "a/b"}),
        (["cpu,pids:a", "devices:b"], {"cpu": "a", "pids": "a", "devices": "b"}),
    ],
)
def test_sub_cgroups(arguments: list[str], below: dict[str, str]) -> None:
    assert processes.sub_cgroups(arguments) == below


@pytest.mark.parametrize("arguments", [["a", "b"], ["cpu:a", "b"], [":a"], ["cpu,:a"], ["cpu:a", "cpu:b"]])
def test_what_are_no_sub_cgroups(arguments: list[str]) -> None:
    with pytest.raises(Error, match="invalid --cgroup argument"):
        processes.sub_cgroups(arguments)


def test_what_explain_shows_needs_nothing_that_runs(registry: Registry, tmp_path: Path, file: Path) -> None:
    config = {"ociVersion": "1.0.2", "root": {"path": "r"}, "process": OWN, "linux": {"cgroupsPath": "/p"}}
    config["linux"]["namespaces"] = [{"type": kind} for kind in ("mount", "pid")]
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = steps_of(
        registry, explained("c", str(tmp_path), ExecOptions(process=str(file))), Host(apparmor=True, selinux=True)
    )
    assert [step.describe() for step in found[:2]] == [
        "open the namespaces pid, mount of init",
        "open the cgroups /sys/fs/cgroup/p",
    ]
    assert found[-1].describe() == "execve(a)"
