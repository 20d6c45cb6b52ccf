"""The programs that containerd executes: what each action of our shim reads and says."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("google.protobuf", "6.30", reason="needs protobuf")

from gosudacon import __version__
from gosudacon.linux import sched
from tests.clients.daemon import Template, end_templates, templates
from tests.clients.test_shim_alone import Task, events, prepared
from tests.clients.ttrpc_client import Events, any_of
from tests.conftest import PARENT
from tests.support import cgroups, processes
from tests.support.bundle import Bundle
from tests.support.containerd_api import message_class
from tests.support.needs import needs
from tests.support.runtime import runtime_command
from tests.support.timing import eventually, seconds

__all__ = ["events"]  # a fixture

pytestmark = needs("root", "busybox", "program:containerd")


@pytest.fixture
def task(program: Path, bundle: Bundle, scratch: Path, events: Events, token: str) -> Iterator[Task]:
    """A shim that has not started; it is ended."""
    task = prepared("own", program, bundle, scratch, events, token)
    yield task
    task.end()


def said(program: Path, *words: str, given: bytes = b"") -> bytes:
    """What the program prints, which must succeed and have nothing to warn of."""
    result = subprocess.run([program, *words], input=given, capture_output=True, timeout=seconds(30), check=False)
    assert (result.returncode, result.stderr) == (0, b"")
    return result.stdout


@pytest.mark.parametrize("word", ["-v", "-version", "--version"])
def test_its_version(program: Path, word: str) -> None:
    assert said(program, word).decode() == f"containerd-shim-gosudacon-v1:\n  Version: {__version__}\n"


def test_what_it_can(program: Path) -> None:
    """Its name and version, the features of the runtime as it prints them itself, and the options as they came."""
    options = any_of("example.org/Options", b"abc")
    for given in (b"", options.SerializeToString()):
        info: Any = message_class("containerd.types.RuntimeInfo").FromString(said(program, "-info", given=given))
        assert (info.name, info.version.version) == ("containerd-shim-gosudacon-v1", __version__)
        assert info.options.SerializeToString() == given
        assert info.features.type_url == "types.containerd.io/opencontainers/runtime-spec/1/features/Features"
        features = json.loads(info.features.value)
        command = subprocess.run([*runtime_command(), "features"], capture_output=True, text=True, check=True)
        assert features == json.loads(command.stdout)
        assert "rro" in features["mountOptions"] and features["linux"]["mountExtensions"]["idmap"]["enabled"]


@pytest.mark.parametrize("words", [["nonsense"], ["-nonsense"], ["-id"], ["start"], ["-id", "c", "start"]])
def test_wrong_words(program: Path, words: list[str], scratch: Path) -> None:
    """One line says what is wrong; nothing is left of it."""
    result = subprocess.run(
        [program, *words], stdin=subprocess.DEVNULL, capture_output=True, cwd=scratch, timeout=seconds(30), check=False
    )
    assert (result.returncode, result.stdout) == (1, b"")
    assert result.stderr.count(b"\n") <= 1 and result.stderr


def parameters(task: Task, namespace: str, **more: Any) -> Any:
    """What containerd from 2.3 on says on the standard input of `start`, and nowhere else."""
    task.shim.forget_environment()
    return message_class("containerd.runtime.bootstrap.v1.BootstrapParams")(
        instance_id=task.id,
        namespace=namespace,
        containerd_version="v2.3.4",
        containerd_ttrpc_address=str(task.events.path),
        containerd_grpc_address=f"{task.events.path}.grpc",
        extensions=[{"value": task.options}],
        **more,
    )


def test_parameters_of_containerd_2_3(task: Task, scratch: Path, token: str) -> None:
    """Asked by them the shim names the third version; they say where its socket is, and where events go."""
    sockets = scratch / "s"
    task.begin(parameters(task, token, socket_dir=str(sockets)))
    assert task.shim.version == 3
    assert task.shim.address.startswith(f"unix://{sockets}/")
    pid = task.client.call("Connect", id=task.id).shim_pid
    (found,) = [each for each in listed() if each["pid"] == pid]
    assert (found["kind"], found["namespace"], found["containers"]) == ("shim", token, [task.id])
    task.run("exit 7")
    assert task.client.call("Wait", id=task.id).exit_status == 7
    task.events.await_topics(task.id, ["create", "start", "exit"])


@pytest.mark.parametrize("form", ["nothing", "runc", "runtime", "parameters", "parameters for debugging"])
def test_what_is_said_to_each_containerd(task: Task, token: str, form: str) -> None:
    """Up to 2.2 an address and nothing else, which 1.6 wants, and which is the second version; then JSON."""
    given: Any = None
    if form == "runc":
        given = task.options
    elif form == "runtime":
        name = "runtimeoptions.v1.Options"
        given = any_of(name, message_class(name)(config_body=b"SystemdCgroup = false\n"))
    elif form != "nothing":
        more = {"log_level": -4, "containerd_binary": "/bin/false"} if "debugging" in form else {}
        given = parameters(task, token, **more)
    task.begin(given)
    third = form.startswith("parameters")
    assert task.shim.version == (3 if third else 2)
    assert (task.shim.said[:1] == "{") == third
    if not third:
        assert task.shim.said == task.shim.address
    task.run()
    for version in (2, 3):
        with task.shim.client(version) as client:
            assert client.call("Connect", id=task.id).task_pid > 0


def listed() -> list[dict[str, Any]]:
    """What ``gosudacon shim ps`` knows."""
    words = [*runtime_command(), "shim", "ps", "--format", "json"]
    found: list[dict[str, Any]] = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
    return found


def test_what_is_listed(task: Task, token: str) -> None:
    """The template, and the shim with its containers and memory; no worker."""
    task.begin(task.options)
    task.run()
    pid = task.client.call("Connect", id=task.id).shim_pid
    found = listed()
    assert Template.process is not None
    assert Template.process.pid in [each["pid"] for each in found if each["kind"] == "template"]
    (mine,) = [each for each in found if each["namespace"] == token]
    assert (mine["pid"], mine["containers"]) == (pid, [task.id])
    assert 0 < mine["private"] < mine["proportional"]


def test_the_options_of_containerd_1(task: Task) -> None:
    """A plain address, which means the second version to each containerd."""
    task.begin(task.options)
    assert task.shim.version == 2
    assert (task.bundle.path / "address").read_text() == task.shim.address


# Options.


def options(task: Task, **more: Any) -> Any:
    """Options for runc with these besides the root."""
    name = "containerd.runc.v1.Options"
    root = str(task.bundle.path.parent / "states")
    return any_of(name, message_class(name)(root=root, **more))


def test_a_cgroup_for_the_shim(task: Task, token: str) -> None:
    """In each hierarchy that has it; the container is where its configuration says."""
    name = f"/{PARENT}/{token}/shim"
    hierarchies = [each for each in cgroups.hierarchies() if "cpuset" not in each.controllers or each.version == 2]
    made = [Path(f"{each.mountpoint}{name}") for each in hierarchies]
    for directory in made:
        directory.mkdir(parents=True)
    task.options = options(task, shim_cgroup=name)
    task.begin(task.options)
    init = task.run()
    shim = task.client.call("Connect", id=task.id).shim_pid
    places = {line.split(":", 2)[2] for line in Path(f"/proc/{shim}/cgroup").read_text().splitlines()}
    assert name in places
    assert name not in Path(f"/proc/{init}/cgroup").read_text()
    task.end()
    for directory in made:
        eventually(lambda directory=directory: not (directory / "cgroup.procs").read_text(), 20, "the shim's end")  # type: ignore[misc]
        directory.rmdir()


def test_no_cgroup_for_the_shim(task: Task, token: str) -> None:
    with pytest.raises(AssertionError, match="the cgroup for the shim, /none, does not exist"):
        task.begin(options(task, shim_cgroup="/none"))


def test_options_that_are_ignored(task: Task) -> None:
    """The log says so; another runtime's program is not executed."""
    task.options = options(task, binary_name="/no/such/runc")
    task.begin(task.options)
    task.run()
    assert f"container {task.id}: ignored: BinaryName /no/such/runc" in task.shim.log()


# What a shim is, though it is a fork of the template: what a process would be that containerd has executed.


def shim_of(task: Task, *wrapper: str) -> Path:
    """The directory in /proc of the shim of a call with this program before it."""
    task.shim.wrapper = list(wrapper)
    task.begin(task.options)
    return Path(f"/proc/{task.client.call('Connect', id=task.id).shim_pid}")


def field(place: Path, name: str) -> str:
    """A line of /proc/PID/status."""
    lines = (place / "status").read_text().splitlines()
    return next(line for line in lines if line.startswith(f"{name}:")).split(":", 1)[1].strip()


def test_its_arguments_and_its_name(task: Task, token: str) -> None:
    """As ps shows them: those of containerd's own shim, by which people and scripts find one."""
    place = shim_of(task)
    words = (place / "cmdline").read_text().rstrip("\0").split("\0")
    assert words[0].endswith("containerd-shim-gosudacon-v1")
    assert words[1:] == ["-namespace", token, "-id", task.id, "-address", f"{task.events.path}.grpc"]
    assert (place / "comm").read_text() == "containerd-shim\n"


def test_its_environment(task: Task) -> None:
    """The caller's, but for what was meant for the service that containerd is."""
    task.shim.add_environment(COLOUR="blue green", NOTIFY_SOCKET="/none", LISTEN_FDS="1", LISTEN_PID="1")
    shim_of(task)
    hook = task.bundle.path / "environment"
    command = ["sh", "-c", f"cat /proc/$PPID/environ /proc/self/environ >{hook}; cat >/dev/null"]
    task.bundle.set("hooks", {"createRuntime": [{"path": "/bin/sh", "args": command, "env": ["OWN=1"]}]})
    task.run()
    seen = hook.read_bytes()
    assert b"NOTIFY_SOCKET" not in seen and b"LISTEN_FDS" not in seen


def test_its_place(task: Task) -> None:
    """The bundle, as containerd's shim has it; a session of its own; no stream of the caller's, and no descriptor."""
    place = shim_of(task)
    assert (place / "cwd").readlink() == task.bundle.path
    assert os.getsid(int(place.name)) == int(place.name)
    links = {int(path.name): str(path.readlink()) for path in (place / "fd").iterdir()}
    assert [links[number] for number in range(3)] == ["/dev/null", "/dev/null", str(task.bundle.path / "log")]
    others = {link for number, link in links.items() if number > 2}
    assert all(link.startswith(("socket:", "anon_inode:")) for link in others), others


def test_its_signals(task: Task) -> None:
    """None is blocked but the one that it reads; a hang-up does not end it."""
    place = shim_of(task)
    assert int(field(place, "SigBlk"), 16) == 1 << (signal.SIGCHLD - 1)
    ignored = int(field(place, "SigIgn"), 16)
    assert ignored & 1 << (signal.SIGHUP - 1) and not ignored & 1 << (signal.SIGTERM - 1)


@pytest.mark.parametrize("score", [0, 500, 999])
def test_its_oom_score(task: Task, score: int) -> None:
    """One more than containerd's, here of this process, so that it goes first."""
    own = Path("/proc/self/oom_score_adj")
    before = own.read_text()
    score = max(score, int(before))  # to go below may be forbidden
    own.write_text(str(score))
    try:
        place = shim_of(task)
    finally:
        own.write_text(before)
    assert int((place / "oom_score_adj").read_text()) == min(score + 1, 1000)


def test_its_cgroups(task: Task, token: str) -> None:
    """The caller's, in each hierarchy."""
    name = f"/{PARENT}/{token}/containerd"
    hierarchies = [each for each in cgroups.hierarchies() if "cpuset" not in each.controllers or each.version == 2]
    made = [Path(f"{each.mountpoint}{name}") for each in hierarchies]
    for directory in made:
        directory.mkdir(parents=True)
    script = "".join(f"echo $$ >{directory}/cgroup.procs; " for directory in made) + 'exec "$@"'
    place = shim_of(task, "/bin/sh", "-c", script, "sh")
    paths = [line.split(":", 2)[2] for line in (place / "cgroup").read_text().splitlines()]
    assert paths.count(name) == len(made)
    task.end()
    for directory in made:
        eventually(lambda directory=directory: not (directory / "cgroup.procs").read_text(), 20, "the shim's end")  # type: ignore[misc]
        directory.rmdir()


@needs("program:prlimit")
def test_its_limits(task: Task) -> None:
    place = shim_of(task, "prlimit", "--nofile=777:888", "--core=0:0")
    limits = (place / "limits").read_text().splitlines()
    found = {line[:26].strip(): line[26:].split()[:2] for line in limits}
    assert found["Max open files"] == ["777", "888"] and found["Max core file size"] == ["0", "0"]


@needs("program:nice", "program:taskset", "program:chrt", "program:ionice")
def test_its_share_of_the_processors(task: Task) -> None:
    """Niceness, scheduling policy, processors, and class of I/O."""
    cpu = min(os.sched_getaffinity(0))
    wrapper = ["nice", "-n", "5", "taskset", "-c", str(cpu), "chrt", "--batch", "0", "ionice", "-c", "3"]
    pid = int(shim_of(task, *wrapper).name)
    assert os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0) + 5
    assert os.sched_getaffinity(pid) == {cpu}
    assert os.sched_getscheduler(pid) == os.SCHED_BATCH
    shown = subprocess.run(["ionice", "-p", str(pid)], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "idle"


def alien(task: Task, *wrapper: str) -> Path:
    """As `shim_of` for a caller whom the template cannot serve; the one that is made for it is ended."""
    before = templates()
    try:
        return shim_of(task, *wrapper)
    finally:
        end_templates(before)


@needs("program:unshare")
@pytest.mark.parametrize("kind", ["uts", "ipc", "net"])
def test_its_namespaces(task: Task, kind: str) -> None:
    """The caller's, which the template's are not."""
    place = alien(task, "unshare", f"--{kind}")
    differing = [
        name for name in ("uts", "ipc", "net", "mnt") if own_namespace(name) != (place / "ns" / name).readlink()
    ]
    assert differing == [kind]


def own_namespace(kind: str) -> Path:
    return Path(f"/proc/self/ns/{kind}").readlink()


@needs("program:setpriv")
@pytest.mark.parametrize(
    ("words", "name"), [(["--bounding-set", "-sys_boot"], "CapBnd"), (["--groups", "7,8"], "Groups")]
)
def test_its_rights(task: Task, words: list[str], name: str) -> None:
    """Capabilities and groups are the caller's."""
    own = field(Path("/proc/self"), name)
    place = alien(task, "setpriv", *words)
    assert field(place, name) != own
    assert name != "CapBnd" or not int(field(place, name), 16) & 1 << 22


def test_cores_that_nobody_shares(task: Task) -> None:
    """containerd's option ``sched_core``; where the kernel has no such thing, that is what it says."""
    task.shim.add_environment(SCHED_CORE="1")
    try:
        place = shim_of(task)
    except AssertionError as error:
        assert "prctl" in str(error) and not has_core_scheduling()
        return
    assert has_core_scheduling()
    assert place.exists()


def has_core_scheduling() -> bool:
    """Whether a child of this process can have a cookie."""
    child = os.fork()
    if child == 0:
        try:
            sched.share_cores_with_nobody()
            os._exit(0)
        finally:
            os._exit(1)
    return processes.wait(child) == 0


@pytest.mark.parametrize("umask", ["022", "077"])
def test_its_umask(task: Task, umask: str) -> None:
    place = alien(task, "/bin/sh", "-c", f'umask {umask}; exec "$@"', "sh")
    assert field(place, "Umask") == f"0{umask}"


@needs("program:unshare")
def test_a_template_that_nobody_can_reach(program: Path) -> None:
    """Ends: it was of a containerd with a mount namespace of its own, a user's for example, which has ended."""
    script = 'mount -t tmpfs tmpfs /run/gosudacon-shim && exec "$1" template'
    words = ["unshare", "--mount", "sh", "-c", script, "sh", str(program)]
    template = subprocess.Popen(words, stdin=subprocess.DEVNULL, cwd="/")
    try:
        sockets = Path(f"/proc/{template.pid}/root/run/gosudacon-shim")
        title = Path(f"/proc/{template.pid}/cmdline")
        eventually(lambda: title.read_bytes().startswith(b"gosudacon-shim-template"), 20, "the template")
        (path,) = (path for path in sockets.iterdir() if path.is_socket())
        with socket.socket(socket.AF_UNIX) as caller:  # has it look around; it does so now and then
            caller.connect(str(path))
        assert template.wait(seconds(20)) == 0
    finally:
        template.kill()
        template.wait()


def _rehearsals() -> list[int]:
    """The processes of a rehearsal: a template, a client, and the shim with those of its container."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            title = (path / "cmdline").read_bytes()
            inside = os.readlink(path / "cwd").endswith(".rehearsal")
            if title.startswith(b"gosudacon-shim-rehearsal\0") or inside:
                found.append(int(path.name))
    return found


@contextmanager
def _template(program: Path, descriptors: int = 1024) -> Iterator[int]:
    """The pid of a template in a directory of its own, with a process that could call it."""
    script = (
        'mount -t tmpfs -o mode=700 tmpfs /run/gosudacon-shim && { ulimit -n "$2"; "$1" template & } && echo $! && wait'
    )
    words = ["unshare", "--mount", "sh", "-c", script, "sh", str(program), str(descriptors)]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, cwd="/") as shell:
        assert shell.stdout is not None
        pid = int(shell.stdout.readline())
        try:
            yield pid
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def template(program: Path) -> Iterator[int]:
    with _template(program) as pid:
        yield pid


def _names(template: int) -> list[str]:
    return os.listdir(f"/proc/{template}/root/run/gosudacon-shim")


def _has_image(template: int) -> bool:
    return "/memfd:gosudacon-image" in Path(f"/proc/{template}/maps").read_text()


@needs("program:unshare")
def test_a_template_rehearses_and_leaves_nothing_of_it(template: int) -> None:
    eventually(lambda: _has_image(template), 20, "the image")
    eventually(lambda: len(_names(template)) == 1, 20, "no directory of the rehearsal")
    eventually(lambda: not _rehearsals(), 20, "no process of the rehearsal")
    descriptors = Path(f"/proc/{template}/fd")
    eventually(lambda: len([*descriptors.iterdir()]) == 4, 20, "but the null device and its socket no descriptor")


@needs("program:unshare")
@pytest.mark.parametrize("pause", [0.0, 0.02, 0.05, 0.1, 0.3])
def test_a_template_is_killed_while_it_rehearses(template: int, pause: float) -> None:
    """No process stays; another template of the build removes what is left of the directory."""
    eventually(lambda: _rehearsals(), 20, "a rehearsal")
    time.sleep(pause)
    os.kill(template, signal.SIGKILL)
    eventually(lambda: not _rehearsals(), 20, "the end of the rehearsal")


@needs("program:unshare")
def test_a_rehearsal_is_killed(template: int) -> None:
    """Whichever of its processes is: the template goes on without an image, or with one."""
    eventually(lambda: _rehearsals(), 20, "a rehearsal")
    for pid in _rehearsals():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: not _rehearsals() and len(_names(template)) == 1, 30, "the end of the rehearsal")
    assert _names(template)  # it lives


@needs("program:unshare")
@pytest.mark.parametrize("descriptors", [7, 8, 9, 10, 11, 12, 16, 40])
def test_a_rehearsal_that_cannot_be(program: Path, descriptors: int) -> None:
    """With too few descriptors, at whatever point it comes to that: the template serves without an image."""
    with _template(program, descriptors) as template:
        eventually(lambda: Path(f"/proc/{template}/cmdline").read_bytes().startswith(b"gosudacon-"), 20, "a template")
        eventually(lambda: not _rehearsals() and len(_names(template)) == 1, 20, "the end of the rehearsal")
        (path,) = _names(template)
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(f"/proc/{template}/root/run/gosudacon-shim/{path}")
            caller.shutdown(socket.SHUT_WR)
            assert caller.recv(1) == b""
        assert not _has_image(template)


def test_a_shim_at_rest_shares_its_memory(program: Path, task: Task) -> None:
    """What it has written as every shim does is the template's again; it serves on."""
    assert Template.process is not None
    template = Template.process.pid
    eventually(lambda: _has_image(template), 20, "the image")
    task.begin(task.options)
    task.run()
    pid = task.client.call("Connect", id=task.id).shim_pid
    before = processes.anonymous_memory(pid)
    eventually(lambda: processes.anonymous_memory(pid) < before - 800, 10, "less memory")
    assert task.state() == 2  # it runs
    task.exec("more", "exit 3")
    task.client.call("Start", id=task.id, exec_id="more")
    assert task.client.call("Wait", id=task.id, exec_id="more").exit_status == 3


@needs("program:unshare")
def test_callers_wait_for_the_rehearsal(program: Path, task: Task) -> None:
    """A fork from before has the memory from before, of which the template then has nothing in common with it."""
    before = templates()
    try:
        shim = shim_of(task, "unshare", "--uts")  # makes a template, which is asked at once
        assert "/memfd:gosudacon-image" in (shim / "maps").read_text()
    finally:
        end_templates(before)
