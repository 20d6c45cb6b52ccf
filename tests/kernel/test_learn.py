"""``gosudacon learn``: system calls are recorded, and the profile that comes out runs the same program."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gosudacon.api import SyscallNames
from gosudacon.linux import notify_all, process, seccomp
from gosudacon.plugins.learn import daemon, files, supervisor
from tests.support import processes
from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import Completed, Runtime
from tests.support.timing import eventually

Bundles = Callable[..., Bundle]
SOURCE = Path(__file__).with_name("learn.c")
KILL = "SCMP_ACT_KILL_PROCESS"
pytestmark = needs("runtime:gosudacon", "kernel>=5.9", "compiler")


@pytest.fixture(scope="module")
def program(session_scratch: Path) -> Path:
    """learn.c, compiled."""
    target = session_scratch / "learn"
    compiler = next(name for name in ("cc", "gcc", "clang") if shutil.which(name))
    command = [compiler, "-static", "-O1", "-pthread", "-o", str(target), str(SOURCE)]
    subprocess.run(command, check=True, timeout=120, capture_output=True)
    return target


@pytest.fixture
def doing(make_bundle: Bundles, program: Path) -> Callable[..., Bundle]:
    """A function that makes a bundle whose program does what the words say, under a profile if one is given."""

    def make(*words: str, profile: dict[str, Any] | None = None) -> Bundle:
        bundle = make_bundle(["/bin/learn", *words])
        target = bundle.rootfs / "bin/learn"
        target.write_bytes(program.read_bytes())
        target.chmod(0o755)
        if profile is not None:
            bundle.set("linux.seccomp", profile)
        return bundle

    return make


@pytest.fixture
def profile(scratch: Path) -> Path:
    """Where the profile goes."""
    return scratch / "learnt.json"


def learn(runtime: Runtime, bundle: Bundle, profile: Path, *extra: str | Path, **kw: Any) -> Completed:
    """``learn``, which must succeed."""
    runtime.created.append(bundle.id)
    outputs = bundle.path / "stdout", bundle.path / "stderr"
    return runtime.call("learn", "-b", bundle.path, "--profile", profile, *extra, bundle.id, outputs=outputs, **kw)


def report(profile: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(profile.with_suffix(".report.json").read_text())
    return value


def names(profile: Path, action: str = "SCMP_ACT_ALLOW") -> set[str]:
    rules = json.loads(profile.read_text())["syscalls"]
    return {name for rule in rules if rule["action"] == action for name in rule["names"]}


def strictly(profile: Path) -> dict[str, Any]:
    """The profile, with which everything else ends the program."""
    value: dict[str, Any] = {**json.loads(profile.read_text()), "defaultAction": KILL}
    value.pop("defaultErrnoRet", None)
    return value


def test_what_is_learnt_runs_the_program_under_kill(
    runtime: Runtime, doing: Callable[..., Bundle], profile: Path
) -> None:
    result = learn(runtime, doing("mkdir"), profile)
    assert result.stdout == "mkdir 0\n"
    assert {"execve", "mkdir", "exit_group"} <= names(profile)
    assert not names(profile) & {"getpriority", "clone", "seccomp", "sendmsg"}
    assert [json.loads(profile.read_text())[name] for name in ("defaultAction", "defaultErrnoRet")] == [
        "SCMP_ACT_ERRNO",
        1,
    ]
    assert report(profile)["runs"] == 1 and report(profile)["refused"] == [] and report(profile)["unused"] is None
    assert "CALLED" in result.stderr and "mkdir" in result.stderr
    assert runtime.output(doing("mkdir", profile=strictly(profile))) == "mkdir 0\n"
    assert runtime.run(doing("mkdir", "more", profile=strictly(profile))).returncode == 128 + signal.SIGSYS


def test_one_call_more_is_refused_and_told(runtime: Runtime, doing: Callable[..., Bundle], profile: Path) -> None:
    """Under a learnt profile, what it lacks has the outcome that it asks for, and is in the report with its name."""
    learn(runtime, doing("mkdir"), profile)
    known = json.loads(profile.read_text())
    bundle = doing("mkdir", "more", profile=known)
    result = learn(runtime, bundle, profile)
    assert result.stdout == "mkdir 0\nmore 1\n"
    (refusal,) = report(profile)["refused"]
    assert refusal["name"] == "getpriority" and refusal["error"] == "EPERM" and refusal["count"] == 1
    assert refusal["program"] == "/bin/learn" and refusal["comm"] == "learn" and refusal["container"] == bundle.id
    assert refusal["arguments"][:2] == ["0x0", "0x0"]
    assert report(profile)["runs"] == 2
    assert "getpriority" not in names(profile)
    line = next(line for line in result.stderr.splitlines() if line.startswith("getpriority"))
    assert "EPERM" in line and "/bin/learn" in line


def test_a_call_that_kills(runtime: Runtime, doing: Callable[..., Bundle], profile: Path, scratch: Path) -> None:
    """A profile that kills does so, and the report has what for."""
    learn(runtime, doing("mkdir"), profile)
    other = scratch / "other.json"
    result = learn(runtime, doing("more", "mkdir", profile=strictly(profile)), other, check=False)
    assert (result.returncode, result.stdout) == (128 + signal.SIGKILL, "")
    assert [(each["name"], each["action"]) for each in report(other)["refused"]] == [("getpriority", KILL)]


@pytest.mark.parametrize("handled", [True, False])
def test_a_call_that_traps(runtime: Runtime, doing: Callable[..., Bundle], profile: Path, handled: bool) -> None:
    rules = [{"names": ["getpriority"], "action": "SCMP_ACT_TRAP"}]
    words = ("handle", "more") if handled else ("more",)
    bundle = doing(*words, profile={"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})
    result = learn(runtime, bundle, profile, check=False)
    if handled:
        assert result.returncode == 0 and "trapped" in result.stdout
    else:
        assert result.returncode == 128 + signal.SIGKILL
    assert report(profile)["refused"][0]["action"] == "SCMP_ACT_TRAP"


def test_errno_conditions_and_what_was_not_used(
    runtime: Runtime, doing: Callable[..., Bundle], profile: Path, scratch: Path
) -> None:
    """Rules are kept as they are, with their errno and conditions, as far as their calls were made."""
    learn(runtime, doing("mkdir", "more"), profile)
    used = sorted(names(profile) - {"mkdir", "getpriority"})
    rules = [
        {"names": [*used, "reboot", "swapon"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["mkdir", "rmdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95},
        {"names": ["getpriority"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]},
    ]
    bundle = doing("mkdir", "more", profile={"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules})
    other = scratch / "other.json"
    result = learn(runtime, bundle, other)
    assert result.stdout == "mkdir 95\nmore 0\n"
    assert json.loads(other.read_text())["syscalls"] == [
        {"names": used, "action": "SCMP_ACT_ALLOW"},
        {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95},
        rules[2],
    ]
    assert report(other)["unused"] == ["reboot", "swapon"]
    assert "ALLOWED, AND NOT USED\nreboot swapon\n" in result.stderr
    again = doing("mkdir", "more", profile=json.loads(other.read_text()))
    assert runtime.output(again) == "mkdir 95\nmore 0\n"


def test_runs_are_merged(runtime: Runtime, doing: Callable[..., Bundle], profile: Path) -> None:
    learn(runtime, doing("mkdir"), profile)
    learn(runtime, doing("more"), profile)
    assert {"mkdir", "getpriority"} <= names(profile)
    assert report(profile)["runs"] == 2 and len(report(profile)["containers"]) == 2
    counts = {call["name"]: call["count"] for call in report(profile)["calls"]}
    assert counts["execve"] == 2 and counts["mkdir"] == 1
    assert runtime.output(doing("mkdir", "more", profile=strictly(profile))) == "mkdir 0\nmore 0\n"
    learn(runtime, doing("more"), profile, "--anew")
    assert "mkdir" not in names(profile) and report(profile)["runs"] == 1


def test_threads(runtime: Runtime, doing: Callable[..., Bundle], profile: Path) -> None:
    learn(runtime, doing("threads"), profile)
    counts = {call["name"]: call["count"] for call in report(profile)["calls"]}
    assert counts["gettid"] >= 2000
    assert runtime.run(doing("threads", profile=strictly(profile))).returncode == 0


@needs("x86-64")
def test_another_architecture(runtime: Runtime, doing: Callable[..., Bundle], profile: Path) -> None:
    """A program may make calls of another architecture of its processor: they are told apart."""
    learn(runtime, doing("i386"), profile)
    assert json.loads(profile.read_text())["architectures"] == ["SCMP_ARCH_X86", "SCMP_ARCH_X86_64"]
    found = [call for call in report(profile)["calls"] if call["architecture"] == "SCMP_ARCH_X86"]
    assert [(call["name"], call["number"]) for call in found] == [("getpid", 20)]
    assert runtime.run(doing("i386", profile=strictly(profile))).returncode == 0


def test_a_program_that_wants_to_listen_itself(runtime: Runtime, doing: Callable[..., Bundle], profile: Path) -> None:
    result = learn(runtime, doing("listener"), profile)
    assert result.stdout == "listener 16\n"  # EBUSY
    assert "EBUSY" in report(profile)["warnings"][0] and "warning: a program asked for a seccomp" in result.stderr


@pytest.mark.parametrize("new_privileges", [True, False])
def test_capabilities_are_those_of_any_other_run(
    runtime: Runtime, make_bundle: Bundles, profile: Path, new_privileges: bool
) -> None:
    """CAP_SYS_ADMIN, which loading the filter may need, is gone when the program runs."""
    bundle = make_bundle(["grep", "-E", "Cap|NoNewPrivs|Seccomp:", "/proc/self/status"])
    bundle.set("process.noNewPrivileges", not new_privileges)
    rules = [{"names": ["reboot"], "action": "SCMP_ACT_ERRNO"}]
    bundle.set("linux.seccomp", {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})
    expected = runtime.output(bundle)
    learn(runtime, bundle, profile)
    assert bundle.stdout == 2 * expected and "Seccomp:\t2" in expected


def test_hooks_in_the_container(runtime: Runtime, make_bundle: Bundles, profile: Path) -> None:
    """startContainer hooks run under the profile, and are not recorded."""
    bundle = make_bundle("exec true")
    rules = [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]
    bundle.set("linux.seccomp", {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})
    bundle.set("process.noNewPrivileges", False)
    script = "mkdir /tmp/hook; echo $? > /tmp/status; chroot / true; true"
    bundle.set("hooks.startContainer", [{"path": "/bin/sh", "args": ["sh", "-c", script]}])
    learn(runtime, bundle, profile)
    assert (bundle.rootfs / "tmp/status").read_text() == "1\n"
    assert not names(profile) & {"mkdir", "chroot", "fork", "vfork"} and report(profile)["refused"] == []


def test_an_agent_of_its_own(runtime: Runtime, doing: Callable[..., Bundle], profile: Path) -> None:
    bundle = doing("mkdir")
    rules = [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]
    bundle.set("linux.seccomp", {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules, "listenerPath": "/x"})
    result = learn(runtime, bundle, profile, check=False)
    assert result.returncode == 1 and "one listener" in result.stderr and not profile.exists()


def test_where_nothing_can_be_written(runtime: Runtime, doing: Callable[..., Bundle], scratch: Path) -> None:
    for target, words in (
        (scratch / "no/p.json", "no such file or directory"),
        (scratch / "open/p.json", "others can write to it"),
        (scratch / "b.json", "cannot merge with"),
    ):
        if target.parent.name == "open":
            target.parent.mkdir()
            target.parent.chmod(0o777)
        (scratch / "b.json").write_text("[]")
        result = learn(runtime, doing("mkdir"), target, check=False)
        assert result.returncode == 1 and words in result.stderr.lower(), result.stderr


def test_a_program_that_is_not_there(runtime: Runtime, make_bundle: Bundles, profile: Path) -> None:
    result = learn(runtime, make_bundle(["/bin/nothing"]), profile, check=False)
    assert result.returncode == 1 and "/bin/nothing" in result.stderr and not profile.exists()


def test_a_program_that_cannot_be_executed(runtime: Runtime, make_bundle: Bundles, profile: Path) -> None:
    """The runtime says why, as without a recorder: what it calls behind execve(2) is none of the program's."""
    bundle = make_bundle(["/bin/broken"])
    (bundle.rootfs / "bin/broken").write_bytes(b"\x7fELF")
    (bundle.rootfs / "bin/broken").chmod(0o755)
    result = learn(runtime, bundle, profile, check=False)
    assert result.returncode == 1 and "exec format error" in result.stderr and not profile.exists()


def test_a_profile_that_refuses_execve(runtime: Runtime, doing: Callable[..., Bundle], profile: Path) -> None:
    bundle = doing("mkdir", profile={"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 95})
    result = learn(runtime, bundle, profile, check=False)
    assert result.returncode == 1 and "operation not supported" in result.stderr
    assert [each["name"] for each in report(profile)["refused"]] == ["execve"]


def test_any_number(runtime: Runtime, doing: Callable[..., Bundle], profile: Path) -> None:
    """A program that calls numbers without a call does not fill the recorder's memory."""
    learn(runtime, doing("numbers"), profile)
    assert len(report(profile)["calls"]) < 2100
    assert any("has no name" in text for text in report(profile)["warnings"])


@pytest.mark.parametrize("new_privileges", [True, False])
def test_in_a_user_namespace(
    runtime: Runtime, doing: Callable[..., Bundle], profile: Path, new_privileges: bool
) -> None:
    bundle = doing("mkdir")
    bundle.map_users()
    bundle.set("process.noNewPrivileges", not new_privileges)
    learn(runtime, bundle, profile)
    assert {"execve", "mkdir"} <= names(profile)


def test_detached_and_shown(runtime: Runtime, doing: Callable[..., Bundle], profile: Path) -> None:
    """The recorder outlives the command, and writes when the container ends; `--show` prints what it wrote."""
    bundle = doing("mkdir", "pause")
    learn(runtime, bundle, profile, "--detach")
    runtime.until(bundle, "running")
    runtime.kill(bundle, "KILL")
    runtime.until(bundle, "stopped")
    eventually(profile.with_suffix(".report.json").exists, 20, "the report is written")
    runtime.delete(bundle)
    shown = runtime.call("learn", "--show", profile.with_suffix(".report.json"))
    assert "CALLED" in shown.stdout and "pause" in shown.stdout
    data = runtime.call("learn", "--show", profile.with_suffix(".report.json"), "--format", "json")
    assert json.loads(data.stdout) == report(profile)


# For containers of engines: the administrator's settings, and an annotation.


class Site:
    """A configuration that enables the plugin, and the directory of its profiles."""

    def __init__(self, runtime: Runtime, scratch: Path, settings: str) -> None:
        self.directory = scratch / "profiles"
        self.directory.mkdir()
        self.config = scratch / "config.toml"
        self.config.write_text(
            f'plugins = ["learn"]\n[stage.learn]\ndirectory = "{self.directory}"\nnames = ["web", "db-*"]\n{settings}'
        )
        self.config.chmod(0o644)
        self.options = ("--config-file", self.config)
        self.runtime = runtime

    def boot(self, bundle: Bundle) -> int:
        self.runtime.create(bundle, options=self.options)
        pid = self.runtime.pid(bundle)
        self.runtime.start(bundle, options=self.options)
        return pid

    def exec(self, bundle: Bundle, *words: str, **kw: Any) -> Completed:
        return self.runtime.call("exec", bundle.id, *words, options=self.options, **kw)


@pytest.fixture
def site(runtime: Runtime, scratch: Path) -> Iterator[Site]:
    yield Site(runtime, scratch, "")


def annotate(bundle: Bundle, name: str) -> None:
    bundle.update({"annotations": {"io.gosudacon.learn": name}})


def recorder(runtime: Runtime, bundle: Bundle) -> int:
    """The recorder's pid."""
    return int((runtime.root / bundle.id / "learn.note").read_text())


def gone(pid: int) -> Callable[[], bool]:
    def look() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
        except OSError:
            return True

    return look


@pytest.mark.parametrize("new_privileges", [True, False])
@pytest.mark.parametrize("filtered", [True, False])
def test_an_annotation_that_is_allowed(
    runtime: Runtime, doing: Callable[..., Bundle], site: Site, new_privileges: bool, filtered: bool
) -> None:
    """Also what is executed in the container later is recorded; the recorder is gone after `delete`."""
    rules = [{"names": ["reboot"], "action": "SCMP_ACT_ERRNO"}]
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules} if filtered else None
    bundle = doing("mkdir", "pause", profile=profile)
    bundle.set("process.noNewPrivileges", not new_privileges)
    annotate(bundle, "db-1")
    site.boot(bundle)
    supervisor = recorder(runtime, bundle)
    assert Path(f"/proc/{supervisor}/comm").read_text() == "gosudacon-learn\n"
    assert site.exec(bundle, "/bin/learn", "more").stdout == "more 0\n"
    runtime.kill(bundle, "KILL")
    runtime.until(bundle, "stopped")
    runtime.delete(bundle, options=site.options)
    assert gone(supervisor)()
    learnt = site.directory / "db-1.json"
    assert {"mkdir", "pause", "getpriority", "execve"} <= names(learnt)
    assert report(learnt)["containers"] == [bundle.id]
    assert sorted(path.name for path in site.directory.iterdir()) == ["db-1.json", "db-1.report.json"]


@pytest.mark.parametrize("name", ["other", "../web", "web/../x", "web.report", "", "db-" + 80 * "x"])
def test_an_annotation_that_is_not(runtime: Runtime, doing: Callable[..., Bundle], site: Site, name: str) -> None:
    """The container runs as any other, and a warning says why it is not recorded."""
    bundle = doing("mkdir")
    annotate(bundle, name)
    result = runtime.run(bundle, options=site.options)
    assert result.returncode == 0 and result.stdout == "mkdir 0\n"
    assert "annotations.io.gosudacon.learn: ignored" in result.stderr
    assert list(site.directory.iterdir()) == []


def test_exec_where_nothing_is_recorded(runtime: Runtime, doing: Callable[..., Bundle], site: Site) -> None:
    """A container that was made before the plugin was enabled keeps its own filter for what is executed in it."""
    rules = [{"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]
    bundle = doing("pause", profile={"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})
    annotate(bundle, "web")
    runtime.boot(bundle)
    assert site.exec(bundle, "/bin/learn", "more").stdout == "more 95\n"
    assert list(site.directory.iterdir()) == []


def test_a_recorder_that_is_killed(runtime: Runtime, doing: Callable[..., Bundle], site: Site) -> None:
    """No call waits for ever: the kernel answers ENOSYS. Nothing is left by `delete --force`, and exec says why not."""
    bundle = doing("mkdir", "pause")
    annotate(bundle, "web")
    pid = site.boot(bundle)
    supervisor = recorder(runtime, bundle)
    eventually(lambda: "mkdir 0" in bundle.stdout, 20, "the program runs")
    os.kill(supervisor, signal.SIGKILL)
    eventually(gone(supervisor), 20, "the recorder is gone")
    result = site.exec(bundle, "/bin/learn", "more", check=False)
    assert result.returncode != 0 and "recorder of this container's system calls is gone" in result.stderr
    os.kill(pid, signal.SIGCONT)
    runtime.delete(bundle, "--force", options=site.options)
    assert not (runtime.root / bundle.id).exists()


def test_a_recorder_that_is_killed_while_the_program_works(
    runtime: Runtime, doing: Callable[..., Bundle], site: Site
) -> None:
    """A call that waits for the answer, and all that follow, fail: the program does not hang."""
    bundle = doing("work")
    annotate(bundle, "web")
    pid = site.boot(bundle)
    os.kill(recorder(runtime, bundle), signal.SIGKILL)
    assert processes.wait(pid, 30) != 0
    runtime.delete(bundle, "--force", options=site.options)


def test_init_that_does_not_get_to_sending(scratch: Path) -> None:
    """An unexpected call between filter and descriptor does not wait for ever: the recorder fetches it."""
    state, profiles = scratch / "state", scratch / "profiles"
    state.mkdir()
    profiles.mkdir()
    profile = profiles / "p.json"
    output = files.Output(str(profile), False, None)
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    directory = os.open(state, os.O_RDONLY)
    daemon.start(supervisor.Job("x", b"", SyscallNames(seccomp.library()), output), theirs, directory)
    for held in (theirs, output):
        held.close()
    assert mine.recv(100) == supervisor.READY
    child = os.fork()
    if child == 0:
        number = os.dup(directory)
        os.close(number)
        mine.send(b"%d" % number)
        mine.recv(1)
        process.set_no_new_privs()
        seccomp.load(notify_all.program(-1 & 0xFFFF, 1, 1), seccomp.FLAG_NEW_LISTENER)
        os.getppid()  # no process has the descriptor
        os.execv("/bin/true", ["true"])
    mine.close()
    os.close(directory)
    assert processes.wait(child, 20) == 0
    eventually(profile.exists, 20, "the profile is written")
    assert "execve" in names(profile) and "getppid" not in names(profile)


def test_what_is_no_listener(scratch: Path) -> None:
    """The recorder does not believe what it is sent."""
    (scratch / "state").mkdir()
    output = files.Output(str(scratch / "p.json"), False, None)
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    directory = os.open(scratch / "state", os.O_RDONLY)
    daemon.start(supervisor.Job("x", b"", SyscallNames(seccomp.library()), output), theirs, directory)
    theirs.close()
    assert mine.recv(100) == supervisor.READY
    reader, writer = os.pipe()
    os.write(writer, b"x")
    mine.send(b"7")
    assert mine.recv(100) == supervisor.READY
    socket.send_fds(mine, [b"L"], [reader, writer])
    assert mine.recv(100) == b""  # and it has ended, since there is no other process
    eventually(gone(int((scratch / "state/learn.note").read_text())), 20, "the end of the recorder")
    for fd in (reader, writer, directory):
        os.close(fd)
    mine.close()
    output.close()
    assert not (scratch / "p.json").exists()


def test_a_container_that_is_never_started(runtime: Runtime, doing: Callable[..., Bundle], site: Site) -> None:
    bundle = doing("mkdir")
    annotate(bundle, "web")
    runtime.create(bundle, options=site.options)
    supervisor = recorder(runtime, bundle)
    runtime.delete(bundle, "--force", options=site.options)
    assert gone(supervisor)() and list(site.directory.iterdir()) == []


def test_init_that_is_killed(runtime: Runtime, doing: Callable[..., Bundle], site: Site) -> None:
    """The recorder ends with the last process, whatever deletes the container."""
    bundle = doing("pause")
    annotate(bundle, "web")
    runtime.create(bundle, options=site.options)
    supervisor, pid = recorder(runtime, bundle), runtime.pid(bundle)
    os.kill(pid, signal.SIGKILL)
    processes.wait(pid, 20)
    eventually(gone(supervisor), 20, "the recorder is gone")


def test_the_plan_says_it(runtime: Runtime, doing: Callable[..., Bundle], site: Site) -> None:
    bundle = doing("mkdir", profile={"defaultAction": "SCMP_ACT_ERRNO", "syscalls": []})
    annotate(bundle, "web")
    text = runtime.call("explain", bundle.path, "--no-check", "--format", "json", options=site.options).stdout
    plan = [step["what"] for step in json.loads(text)["steps"]]
    assert f"start a recorder of system calls, which adds to {site.directory}/web.json" in plan
    assert "load a filter that asks the recorder about every system call" in plan
    assert not [line for line in plan if line.startswith("load the seccomp filter")]
