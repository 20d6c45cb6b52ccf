"""Hooks of every kind, run by their steps in this process or in a scratch one that stands for init."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gosudacon.api import Context, Error, Host, Spec, Step
from gosudacon.linux import process
from gosudacon.pipeline.kinds import rebuild
from gosudacon.pipeline.plan import make
from gosudacon.pipeline.runner import run_step
from gosudacon.pipeline.step import Engine
from gosudacon.stages.hooks import KINDS, HooksStage, Opened
from tests.support import busybox, namespaces, processes
from tests.support.bundle import Bundle
from tests.support.children import Ended, in_child
from tests.support.timing import eventually

RUNTIME_KINDS = ("prestart", "createRuntime", "poststart", "poststop")
CLONE_NEWNS, MS_BIND = 0x20000, 0x1000

#: Writes what a hook can see to files in the directory $1.
REPORT = """
cat > "$1/stdin"
pwd > "$1/cwd"
ls /proc/self/fd > "$1/fds"
tr '\\0' '\\n' < /proc/$$/environ > "$1/environ"
grep -E 'Sig(Blk|Ign)|Umask|Uid' /proc/self/status > "$1/status"
tr '\\0' '\\n' < /proc/$$/cmdline > "$1/cmdline"
"""


class State(Engine):
    """As the real engines give it: no pid key for 0."""

    def __init__(self, pid: int = 4711, **more: Any) -> None:
        self.pid = pid
        self.more = more

    def state(self, status: str, pid: int | None = None) -> Any:
        state = {"ociVersion": "1.3.0", "id": "c", "status": status, "bundle": "/b", **self.more}
        pid = self.pid if pid is None else pid
        return {**state, "pid": pid} if pid else state


def shell(script: str, *args: str, **more: Any) -> dict[str, Any]:
    """A hook that needs no interpreter, and so has no descriptor of a script open."""
    path = str(busybox.static_busybox())
    return {"path": path, "args": ["sh", "-c", script, "hook", *args], **more}


def steps_of(kind: str, *hooks: dict[str, Any]) -> list[Step]:
    config: Any = {"hooks": {kind: list(hooks)}}
    return make([HooksStage()], Spec(config, "c", "/b"), Host()).steps


def context_in(bundle: Path | str) -> Context:
    context = Context(Spec({}, "c", str(bundle)), Host())
    context.engine = State()
    return context


def run(kind: str, hook: dict[str, Any], bundle: Path | str = "/") -> None:
    context = context_in(bundle)
    for step in steps_of(kind, hook):
        run_step(step, context)


def failure(kind: str, hook: dict[str, Any], bundle: Path | str = "/") -> Error:
    with pytest.raises(Error) as caught:
        run(kind, hook, bundle)
    return caught.value


# In the runtime's namespaces.


@pytest.mark.parametrize("kind", RUNTIME_KINDS)
def test_what_a_hook_of_the_runtime_sees(kind: str, scratch: Path) -> None:
    leaked = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leaked, True)

    def caller() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGTERM])
        os.environ["EVIL"] = "1"
        os.umask(0o077)
        run(kind, shell(REPORT, str(scratch), env=["A=1", "PATH=/bin:/usr/bin"]), scratch)

    try:
        in_child(caller)
    finally:
        os.close(leaked)
    status = {"poststart": "running", "poststop": "stopped"}.get(kind, "creating")
    pid = {} if kind == "poststop" else {"pid": 4711}
    expected = {"ociVersion": "1.3.0", "id": "c", "status": status, "bundle": "/b", **pid}
    assert json.loads((scratch / "stdin").read_text()) == expected
    assert (scratch / "cwd").read_text() == f"{scratch}\n"
    assert (scratch / "fds").read_text().split() == ["0", "1", "2", "3"]  # 3 is the directory that ls reads
    assert sorted((scratch / "environ").read_text().split()) == ["A=1", "PATH=/bin:/usr/bin"]
    assert (scratch / "cmdline").read_text().split("\n")[:2] == ["sh", "-c"]
    words = (scratch / "status").read_text().split()
    assert words[words.index("Umask:") + 1] == "0022"
    internal = 0b11 << 31  # 32 and 33, which posix_spawn(3) of the GNU C library ignores in every program it starts
    assert int(words[words.index("SigBlk:") + 1], 16) == 0
    assert int(words[words.index("SigIgn:") + 1], 16) & ~internal == 0


def test_without_env_the_environment_is_empty(scratch: Path) -> None:
    hook = {"path": str(busybox.static_busybox()), "args": ["cp", "/proc/self/environ", str(scratch / "environ")]}
    run("prestart", hook)
    assert (scratch / "environ").read_bytes() == b""


def test_environment_as_getenv_finds_it(scratch: Path) -> None:
    """Of an environment what getenv would find is passed."""
    entries = ["B=x=y", "A=1", "no value", "=x", "ä=ö", "A=2", "E="]
    hook = {"path": str(busybox.static_busybox()), "args": ["cp", "/proc/self/environ", str(scratch / "environ")]}
    run("prestart", {**hook, "env": entries})
    assert (scratch / "environ").read_text().split("\0") == ["B=x=y", "A=2", "ä=ö", "E=", ""]


def test_args_0(scratch: Path) -> None:
    """Args[0] is what is configured and else the path."""
    script = scratch / "hook"
    script.write_text(f'#!/bin/sh\ntr "\\0" "\\n" < /proc/$$/cmdline > {scratch}/cmdline\n')
    script.chmod(0o755)
    run("prestart", {"path": str(script)})
    assert (scratch / "cmdline").read_text().split() == ["/bin/sh", str(script)]
    link = {"path": str(busybox.static_busybox()), "args": ["touch", str(scratch / "touched")]}
    run("prestart", link)  # busybox is what argv[0] says
    assert (scratch / "touched").exists()


def test_input_is_ignored() -> None:
    """A hook that ignores its input is fine even where SIGPIPE kills."""

    def caller() -> str:
        process.restore_signals()
        run("prestart", {"path": str(busybox.static_busybox()), "args": ["true"]})
        return "alive"

    assert in_child(caller) == "alive"


@pytest.mark.parametrize("size", [100, 65536, 300_000])
def test_a_state_of_any_size_arrives(scratch: Path, size: int) -> None:
    context = context_in("/")
    context.engine = State(annotations={"a": "x" * size})
    for step in steps_of("prestart", shell('cat > "$1"', str(scratch / "stdin"), env=["PATH=/bin"])):
        run_step(step, context)
    assert json.loads((scratch / "stdin").read_text())["annotations"] == {"a": "x" * size}


def test_a_bundle_that_is_gone_does_not_stop_poststop(scratch: Path) -> None:
    run("poststop", shell('pwd > "$1"', str(scratch / "cwd")), scratch / "gone")
    assert (scratch / "cwd").read_text() == "/\n"


def test_a_rebuilt_step_runs(scratch: Path) -> None:
    (step,) = steps_of("poststop", shell('cat > "$1"', str(scratch / "stdin"), env=["PATH=/bin"]))
    run_step(rebuild(json.loads(json.dumps(step.record()))), context_in("/"))
    assert json.loads((scratch / "stdin").read_text())["status"] == "stopped"


# Failures.


def test_a_status_is_reported_with_what_the_hook_said() -> None:
    error = failure("prestart", shell("echo out; echo err >&2; exit 3"))
    assert error.message == "error running prestart hook #0: exit status 3, stdout: out\n, stderr: err\n"
    assert (error.stage, error.where) == ("hooks", "hooks.prestart[0]")


def test_index_of_the_failing_hook(scratch: Path) -> None:
    """The index counts from 0 and later hooks do not run."""
    context = context_in("/")
    steps = steps_of("createRuntime", shell("true"), shell("exit 1"), shell('touch "$1"', str(scratch / "ran")))
    with pytest.raises(Error, match="error running createRuntime hook #1: exit status 1, stdout: , stderr: "):
        for step in steps:
            run_step(step, context)
    assert not (scratch / "ran").exists()


def test_a_signal_is_named() -> None:
    assert failure("poststart", shell("kill -KILL $$")).message == (
        "error running poststart hook #0: signal: killed, stdout: , stderr: "
    )


@pytest.mark.parametrize("kind", RUNTIME_KINDS)
def test_a_missing_hook(kind: str) -> None:
    assert failure(kind, {"path": "/nonexistent/hook"}).message == (
        f"error running {kind} hook #0: fork/exec /nonexistent/hook: no such file or directory"
    )


def test_missing_create_container_hook() -> None:
    """A missing create container hook is found while preparing."""
    steps = steps_of("createContainer", {"path": "/nonexistent/hook"})
    with pytest.raises(Error, match="error running createContainer hook #0: fork/exec /nonexistent/hook: no such"):
        run_step(steps[0], context_in("/"))


def test_a_hook_that_cannot_be_executed(scratch: Path) -> None:
    plain = scratch / "plain"
    plain.write_text("")
    assert "permission denied" in failure("prestart", {"path": str(plain)}).message
    plain.chmod(0o755)
    plain.write_text("neither script nor ELF")
    assert "exec format error" in failure("prestart", {"path": str(plain)}).message


def test_a_flood_is_cut_to_its_end() -> None:
    error = failure("prestart", shell("yes | head -c 3000000; echo last; exit 1"))
    assert len(error.message) < 9000
    assert "y\ny\nlast\n, stderr: " in error.message


def test_output_that_is_no_text_is_shown_somehow() -> None:
    assert "stdout: \ufffd" in failure("prestart", shell(r"printf '\377'; exit 1")).message


# Time.


def test_timeout(scratch: Path) -> None:
    """A hook past its time is killed with what it started."""
    script = f"echo $$ > {scratch}/pids; sleep 1000 & echo $! >> {scratch}/pids; wait"
    error = failure("prestart", shell(script, timeout=1))
    assert error.message == "error running prestart hook #0: hook ran past specified timeout of 1.0s"
    pids = [int(line) for line in (scratch / "pids").read_text().split()]
    assert len(pids) == 2
    eventually(lambda: not any(processes.alive(pid) for pid in pids), what="the end of the hook")


def test_a_hook_within_its_time_is_not() -> None:
    run("prestart", shell("true", timeout=1000))


def test_daemon_that_holds_the_pipes(scratch: Path) -> None:
    """A daemon that holds the pipes is not waited for."""
    pidfile = scratch / "pid"
    run("prestart", shell(f"sleep 1000 & echo $! > {pidfile}"))
    pid = int(pidfile.read_text())
    assert processes.alive(pid)
    os.kill(pid, signal.SIGKILL)


def test_without_pidfds(scratch: Path) -> None:
    """A seccomp filter that hides pidfds does no harm."""
    from gosudacon.stages.seccomp import SeccompStage

    names = ["pidfd_open", "setpgid", "close_range", "execveat"]
    rules = [{"names": names, "action": "SCMP_ACT_ERRNO"}]
    stage = SeccompStage()
    stage.settings = {"cache": False}
    profile: Any = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}
    filters = make([stage], Spec({"linux": {"seccomp": profile}}, "c", "/b"), Host()).steps

    def init() -> list[str]:
        context = context_in("/")
        for step in (*filters, *steps_of("startContainer", shell('cat > "$1"', str(scratch / "in")))):
            run_step(step, context)
        texts = []
        for hook in (shell("exit 4"), shell("exec sleep 1000", timeout=1)):
            try:
                run_step(steps_of("startContainer", hook)[0], context)
            except Error as error:
                texts.append(error.message.rpartition("#0: ")[2])
        return texts

    assert in_child(init) == ["exit status 4, stdout: , stderr: ", "hook ran past specified timeout of 1.0s"]
    assert json.loads((scratch / "in").read_text())["status"] == "created"


# On the container side.


def as_init(root: Path, hook: dict[str, Any], setup: Callable[[], object] = lambda: None) -> Any:
    """Run a createContainer hook in a child with a mount namespace of its own; returns its host pid."""
    steps = steps_of("createContainer", hook)
    context = context_in("/b")
    run_step(steps[0], context)

    def init() -> int:
        libc_unshare(CLONE_NEWNS)
        namespaces.mount("none", "/", "none", 0x4000 | 1 << 18)
        setup()
        context.root = os.open(root, os.O_PATH | os.O_DIRECTORY)
        context.engine = State(1)
        run_step(steps[1], context)
        return int(os.readlink("/proc/self"))

    try:
        return in_child(init)
    finally:
        for fd, _ in context.own(Opened).hooks.values():
            os.close(fd)


def libc_unshare(flags: int) -> None:
    from gosudacon.linux import namespace

    namespace.unshare(flags)


def test_create_container_surroundings(scratch: Path, busybox_rootfs: Path) -> None:
    """Create container runs in the root with nothing of the process."""
    (scratch / "root").mkdir()
    as_init(scratch / "root", shell(REPORT, str(scratch), env=["PATH=/bin"]))
    state = json.loads((scratch / "stdin").read_text())
    assert state == {"ociVersion": "1.3.0", "id": "c", "status": "creating", "pid": 1, "bundle": "/b"}
    assert (scratch / "cwd").read_text() == f"{scratch}/root\n"
    assert (scratch / "environ").read_text() == "PATH=/bin\n"
    assert (scratch / "fds").read_text().split() == ["0", "1", "2", "3"]


def test_create_container_path_is_the_hosts(scratch: Path) -> None:
    """Also where the container has mounted something else over it."""
    (scratch / "host").mkdir()
    (scratch / "container").mkdir()
    (scratch / "host/hook").write_bytes(Path(str(busybox.static_busybox())).read_bytes())
    (scratch / "host/hook").chmod(0o755)

    def cover() -> None:
        namespaces.mount(str(scratch / "container"), str(scratch / "host"), "none", MS_BIND)

    hook = {"path": str(scratch / "host/hook"), "args": ["touch", str(scratch / "ran")]}
    as_init(scratch, hook, cover)
    assert (scratch / "ran").exists()


def test_a_script_runs_as_long_as_its_path_is_its_own(scratch: Path) -> None:
    (scratch / "host").mkdir()
    (scratch / "container").mkdir()
    for name in ("host", "container"):
        (scratch / name / "hook").write_text(f'#!/bin/sh\necho {name} > "$1"\n')
        (scratch / name / "hook").chmod(0o755)
    hook = {"path": str(scratch / "host/hook"), "args": ["hook", str(scratch / "said")]}
    as_init(scratch, hook)
    assert (scratch / "said").read_text() == "host\n"
    (scratch / "said").unlink()

    def cover() -> None:
        namespaces.mount(str(scratch / "container"), str(scratch / "host"), "none", MS_BIND)

    with pytest.raises(Ended, match="is another file in the container's mount namespace"):
        as_init(scratch, hook, cover)
    assert not (scratch / "said").exists()


def test_preserved_descriptors_are_not_passed(scratch: Path) -> None:
    """What is to be passed to the container is not passed to hooks."""
    leaked = [os.open("/dev/null", os.O_RDONLY) for _ in range(2)]
    context = context_in("/")
    context.spec.options.preserve_fds = max(leaked) - 2

    def caller() -> list[bool]:
        for fd in leaked:
            os.set_inheritable(fd, True)
        for kind in ("createRuntime", "startContainer"):
            hook = shell('ls /proc/self/fd > "$1"', str(scratch / kind), env=["PATH=/bin"])
            run_step(steps_of(kind, hook)[0], context)
        return [os.get_inheritable(fd) for fd in leaked]

    assert in_child(caller) == [True, True]  # the container still gets them
    for fd in leaked:
        os.close(fd)
    assert (scratch / "createRuntime").read_text() == (scratch / "startContainer").read_text() == "0\n1\n2\n3\n"


def test_the_caller_s_directory_and_umask_are_its_own(scratch: Path) -> None:
    def caller() -> list[Any]:
        os.chdir(scratch)
        os.umask(0o027)
        run("prestart", shell("true"), "/")
        failure("prestart", {"path": "/nonexistent"})
        return [os.getcwd(), os.umask(0)]

    assert in_child(caller) == [str(scratch), 0o027]


def test_start_container_is_the_container_s(bundle: Bundle) -> None:
    root = bundle.rootfs
    (root / "out").mkdir()
    (root / "out").chmod(0o777)
    (root / "work").mkdir()
    hook = {"path": "/bin/busybox", "args": ["sh", "-c", REPORT, "hook", "/out"], "env": ["PATH=/bin"]}
    steps = steps_of("startContainer", hook)

    def init() -> None:
        libc_unshare(CLONE_NEWNS)
        namespaces.mount("none", "/", "none", 0x4000 | 1 << 18)
        namespaces.mount("proc", str(root / "proc"), "proc")
        context = context_in("/bundle")
        context.engine = State(1)
        os.chroot(root)
        os.chdir("/work")
        os.umask(0o027)
        os.setresgid(1000, 1000, 1000)
        os.setresuid(1000, 1000, 1000)
        process.restore_signals()
        run_step(steps[0], context)

    in_child(init)
    state = json.loads((root / "out/stdin").read_text())
    assert (state["status"], state["pid"]) == ("created", 1)
    assert (root / "out/cwd").read_text() == "/work\n"
    assert (root / "out/environ").read_text() == "PATH=/bin\n"
    assert (root / "out/fds").read_text().split() == ["0", "1", "2", "3"]
    words = (root / "out/status").read_text().split()
    assert words[words.index("Umask:") + 1] == "0027"
    assert words[words.index("Uid:") + 1] == "1000"


def test_every_kind_is_tested_here() -> None:
    assert set(KINDS) == {*RUNTIME_KINDS, "createContainer", "startContainer"}


def test_runtime_dies(scratch: Path) -> None:
    """A hook dies with the runtime and its daemons do not."""
    script = (
        'echo $$ >"$1/hook"; (setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $! >"$1/daemon"); exec sleep 1000'
    )
    child = os.fork()
    if child == 0:
        try:
            run("prestart", shell(script, str(scratch), env=["PATH=/bin:/usr/bin"]), "/")
        finally:
            os._exit(0)
    hook, daemon = (number_in(scratch / name) for name in ("hook", "daemon"))
    os.kill(child, 9)
    assert os.waitpid(child, 0)[1] == 9
    assert processes.wait(hook) == 137
    os.kill(daemon, 9)  # is there
    assert processes.wait(daemon) == 137


def number_in(file: Path) -> int:
    return int(eventually(lambda: file.exists() and file.read_text().strip(), what=f"a number in {file.name}"))


def test_a_caller_without_streams(scratch: Path) -> None:
    def caller() -> None:
        os.closerange(0, 3)
        run("poststop", shell('cat >"$1"; echo out; echo err >&2', str(scratch / "state"), env=["PATH=/bin"]), "/")

    in_child(caller)
    assert json.loads((scratch / "state").read_text())["id"] == "c"
