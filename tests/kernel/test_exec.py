"""exec: other processes in a running container, as callers and the container itself see them."""

from __future__ import annotations

import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import cgroups, processes
from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import CHECKOUT, Completed, Runtime
from tests.support.timing import eventually, seconds

Bundles = Callable[..., Bundle]
SLEEP = ["/bin/sleep", "1000"]
KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


class Running:
    """A running container, and exec into it."""

    def __init__(self, runtime: Runtime, bundle: Bundle) -> None:
        self.runtime = runtime
        self.bundle = bundle
        self.pid = 0

    def boot(self) -> Running:
        self.pid = self.runtime.boot(self.bundle)
        return self

    def __call__(self, command: str | list[str], *options: str | Path, check: bool = True, **kw: Any) -> Completed:
        """``exec OPTIONS ID COMMAND``; a string is for ``sh -c``."""
        words = ["sh", "-c", command] if isinstance(command, str) else command
        return self.runtime.call("exec", *options, self.bundle.id, *words, check=check, **kw)

    def process(self, *options: str | Path, check: bool = True, **changes: Any) -> Completed:
        """``exec --process FILE OPTIONS ID``, with the container's process and these changes (None: left out)."""
        process = {**self.bundle.config["process"], **changes}
        file = self.bundle.path / "process.json"
        file.write_text(json.dumps({key: value for key, value in process.items() if value is not None}))
        return self.runtime.call("exec", "--process", file, *options, self.bundle.id, check=check)

    def detached(self, command: str | list[str], *options: str | Path) -> int:
        """``exec --detach``; the pid in the pid file."""
        file = self.bundle.path / "exec.pid"
        file.unlink(missing_ok=True)
        self(command, "--detach", "--pid-file", file, *options)
        return int(file.read_text())

    @contextmanager
    def waiting(self) -> Iterator[int]:
        """A process that sleeps in the container, ended and reaped in the end."""
        pid = self.detached(SLEEP)
        try:
            yield pid
        finally:
            os.kill(pid, 9)
            assert processes.wait(pid) == 137


@pytest.fixture
def container(runtime: Runtime, bundle: Bundle) -> Running:
    """A container that sleeps."""
    bundle.set("process.args", SLEEP)
    return Running(runtime, bundle).boot()


@pytest.fixture
def container_of(runtime: Runtime) -> Callable[[Bundle], Running]:
    """A function that makes a container of a bundle, which sleeps unless the test has its own ideas."""
    return lambda bundle: Running(runtime, bundle).boot()


def status_of(text: str) -> dict[str, str]:
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def namespaces_of(pid: int) -> dict[str, str]:
    return {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in KINDS}


# Arguments, environment, directory, user, capabilities.


def test_other_arguments(container: Running) -> None:
    """The process is the container's with other arguments."""
    result = container('echo "$#: $1, $2"; pwd; echo $PATH $TERM; hostname; id', "--")
    assert result.stderr == ""
    assert result.stdout.splitlines()[1:] == [
        "/",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin xterm",
        "gosudacon",
        "uid=0(root) gid=0(root)",
    ]
    assert container(["echo", "a b", "", "--help", "-x"]).stdout == "a b  --help -x\n"


def test_options_of_the_process(container: Running) -> None:
    options = ["--env", "ONE=a b", "-e", "TWO=", "-e", "TERM=vt100", "--cwd", "/tmp", "--user", "1000:5", "-g", "29"]
    result = container('echo "$ONE-$TWO-$TERM"; pwd; id; echo $HOME; umask', *options)
    assert result.stdout.splitlines()[:4] == [
        "a b--vt100",
        "/tmp",
        "uid=1000(user) gid=5(tty) groups=29(audio)",
        "/home/user",
    ]


@pytest.mark.vm
def test_a_process_file(container: Running) -> None:
    args = ["/bin/sh", "-c", "echo $A; pwd; id -u; id -g; id -G; ulimit -n; grep -E 'Cap|NoNew' /proc/self/status"]
    result = container.process(
        args=args, env=["A=b", "PATH=/bin"], cwd="/var", user={"uid": 7, "gid": 8, "additionalGids": [9]}
    )
    assert result.stdout.split("\n")[:6] == ["b", "/var", "7", "8", "8 9", "1024"]
    assert status_of(result.stdout)["NoNewPrivs"] == "1"
    # What the file does not say is the container's, except no_new_privs.
    result = container.process(args=args, rlimits=None, capabilities=None, noNewPrivileges=None, user=None, env=None)
    found = status_of(result.stdout)
    assert result.stdout.split("\n")[2:6] == ["0", "0", "0", "1024"]
    assert (found["CapBnd"], found["CapEff"], found["NoNewPrivs"]) == ("0000000020000420", "0000000020000420", "0")


def test_the_configuration_is_that_of_creation(container: Running) -> None:
    container.bundle.set("process.env", ["PATH=/bin", "LATER=yes"])
    assert "LATER" not in container("env").stdout


@pytest.mark.parametrize("user", ["0", "1000"])
def test_capabilities(runtime: Runtime, bundle: Bundle, container_of: Callable[[Bundle], Running], user: str) -> None:
    """More on request, none inheritable: from a caller that has inheritable and ambient ones, too (G13)."""
    bundle.remove("process.capabilities.ambient")
    container = container_of(bundle)
    caller = (
        f"import os, sys; sys.path.insert(0, {str(CHECKOUT)!r})\n"
        "from gosudacon.linux import capability as c\n"
        "effective, permitted, _ = c.held(); c.set_caps(effective, permitted, permitted); c.set_ambient(1 << 21)\n"
        "os.execvp(sys.argv[1], sys.argv[1:])"
    )
    runtime.command = [sys.executable, "-c", caller, *runtime.command]
    shown = container("cat /proc/self/status", "--cap", "CAP_CHOWN", "--cap", "CAP_KILL", "--user", user).stdout
    found = status_of(shown)
    wanted = f"{0x20000421:016x}"
    assert (found["CapBnd"], found["CapInh"], found["CapAmb"]) == (wanted, "0" * 16, "0" * 16)
    assert (found["CapPrm"], found["CapEff"]) == ((wanted,) * 2 if user == "0" else ("0" * 16,) * 2)


def test_an_unknown_capability(container: Running) -> None:
    """It is left out, as in runc."""
    without = status_of(container("cat /proc/self/status").stdout)
    found = status_of(container("cat /proc/self/status", "--cap", "CAP_NONE").stdout)
    assert found["CapBnd"] == without["CapBnd"]


def test_process_file_of_another_age(container: Running) -> None:
    """Unknown names, a user without numbers, a name in other letters, an unknown capability."""
    odd: dict[str, Any] = {"user": {}, "cwd": None, "CWD": "/bin", "new": {"x": 1}}
    result = container.process(args=["/bin/sh", "-c", "id -u; pwd"], capabilities={"bounding": ["CAP_NEW"]}, **odd)
    assert result.stdout == "0\n/bin\n"


@pytest.mark.parametrize("user", [":5", "1:", "x", "-1", "4294967295", "4294967296", "100000000000000000000",
                                  " 1", "1_0", "٣", "+1"])  # fmt: skip
def test_what_is_no_user_runs_nothing(container: Running, user: str) -> None:
    result = container("id", f"--user={user}", check=False)
    assert (result.returncode, result.stdout) == (255, "")


@pytest.mark.parametrize(("user", "ids"), [("1", "1 0"), ("1000:1000", "1000 1000"), ("4294967294:3", "4294967294 3")])
def test_a_user(container: Running, user: str, ids: str) -> None:
    assert container("echo $(id -u) $(id -g)", "--user", user).stdout == f"{ids}\n"


def test_umask(container: Running, make_bundle: Bundles, container_of: Callable[[Bundle], Running]) -> None:
    """The umask is the caller's unless the container says otherwise."""
    assert container("umask", umask=0o037).stdout == "0037\n"
    other = container_of(make_bundle(SLEEP, {"process": {"user": {"uid": 0, "gid": 0, "umask": 0o027}}}))
    assert other("umask", umask=0o037).stdout == "0027\n"
    assert other.process(args=["sh", "-c", "umask"], user={"uid": 0, "gid": 0}).stdout == "0027\n"


# What the container's processes have in common.


@pytest.mark.parametrize("shape", ["plain", "user", "cgroup", "host pid", "host network", "no mount", "user and time"])
def test_all_namespaces_are_joined(bundle: Bundle, container_of: Callable[[Bundle], Running], shape: str) -> None:
    bundle.set("process.args", SLEEP)
    if shape.startswith("user"):
        bundle.map_users()
    if shape == "user and time":
        bundle.add_namespace("time")
    if shape == "cgroup":
        bundle.add_namespace("cgroup")
    if shape.startswith("host"):
        bundle.drop_namespace(shape.removeprefix("host "))
        bundle.config["mounts"] = [each for each in bundle.config["mounts"] if each["type"] != "sysfs"]
    if shape == "no mount":
        bundle.drop_namespace("mount").update({"mounts": [], "linux": {"maskedPaths": [], "readonlyPaths": []}})
    container = container_of(bundle.update({}))
    kinds = [*KINDS, *(["time"] if shape == "user and time" else [])]
    with container.waiting() as pid:
        for kind in kinds:
            own, init = os.readlink(f"/proc/{pid}/ns/{kind}"), os.readlink(f"/proc/{container.pid}/ns/{kind}")
            assert own == init, kind
        assert os.path.samefile(f"/proc/{pid}/root", f"/proc/{container.pid}/root")
        assert os.path.samefile(f"/proc/{pid}/cwd", f"/proc/{container.pid}/root")
        uids = status_of(Path(f"/proc/{pid}/status").read_text())["Uid"].split()
        assert set(uids) == {"100000" if shape.startswith("user") else "0"}
    assert container("id -u").stdout == "0\n"


def test_a_joined_pid_namespace(
    container: Running, make_bundle: Bundles, container_of: Callable[[Bundle], Running]
) -> None:
    """As in a pod: the second container is in the first one's namespaces, and so is what is executed in it."""
    bundle = make_bundle(SLEEP)
    for kind, name in (("pid", "pid"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts")):
        bundle.add_namespace(kind, f"/proc/{container.pid}/ns/{name}")
    second = container_of(bundle)
    with second.waiting() as pid:
        assert namespaces_of(pid) == namespaces_of(second.pid)
        assert namespaces_of(pid)["pid"] == namespaces_of(container.pid)["pid"]
        assert namespaces_of(pid)["mnt"] != namespaces_of(container.pid)["mnt"]
    second.runtime.kill(bundle, "KILL")
    processes.wait(second.pid)  # the first one's init does not end before every process in its namespace is reaped


@pytest.mark.vm
def test_cgroups_are_joined_in_every_hierarchy(container: Running) -> None:
    with container.waiting() as pid:
        assert cgroups.of_process(pid) == cgroups.of_process(container.pid)
        assert container.bundle.cgroups_path in cgroups.of_process(pid).values()


@needs("cgroup-v1")
def test_a_cgroup_below_the_container_s(container: Running) -> None:
    path = container.bundle.cgroups_path
    for controller in ("pids", "devices"):
        (cgroups.directory(controller, path) / "sub").mkdir()
    try:
        pid = container.detached(SLEEP, "--cgroup", "pids,devices:sub")
        found = cgroups.of_process(pid)
        assert (found["pids"], found["devices"], found["freezer"]) == (f"{path}/sub", f"{path}/sub", path)
        os.kill(pid, 9)
        processes.wait(pid)
        result = container("true", "--cgroup", "sub", check=False)  # not there in the other hierarchies
        assert result.returncode == 255 and "no such file or directory" in result.stderr
    finally:
        for controller in ("pids", "devices"):
            (cgroups.directory(controller, path) / "sub").rmdir()
    for wrong in ("..", "pids:../x", "nosuch:x", ":x"):
        result = container("true", "--cgroup", wrong, check=False)
        assert result.returncode == 255 and "invalid --cgroup argument" in result.stderr


@pytest.mark.vm
@needs("cgroup-v2")
def test_a_cgroup_that_has_become_a_parent(bundle: Bundle, container_of: Callable[[Bundle], Running]) -> None:
    """An init that moves to a cgroup of its own and hands on controllers, as systemd does: exec goes where it is."""
    container = container_of(bundle.set("process.args", SLEEP))
    directory = cgroups.directory("pids", bundle.cgroups_path)
    (directory / "init").mkdir()
    (directory / "other").mkdir()
    (directory / "init/cgroup.procs").write_text(str(container.pid))
    (directory / "cgroup.subtree_control").write_text("+pids")
    with container.waiting() as pid:
        assert cgroups.of_process(pid) == {"": f"{bundle.cgroups_path}/init"}
    pid = container.detached(SLEEP, "--cgroup", "other")
    assert cgroups.of_process(pid) == {"": f"{bundle.cgroups_path}/other"}
    os.kill(pid, 9)
    processes.wait(pid)


@pytest.mark.vm
def test_limits_hold(bundle: Bundle, container_of: Callable[[Bundle], Running]) -> None:
    container = container_of(bundle.set("process.args", SLEEP).set("linux.resources.memory", {"limit": 32 << 20}))
    # No other process may be killed first, such as a shell that would tell.
    result = container(["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"], check=False)
    assert result.returncode == 137, result.stderr
    assert container("true").returncode == 0


def test_seccomp_and_no_new_privs(bundle: Bundle, container_of: Callable[[Bundle], Running]) -> None:
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}
    bundle.set("linux.seccomp", {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
    container = container_of(bundle.set("process.args", SLEEP))
    for nnp in (True, False):
        args = ["sh", "-c", "mkdir /tmp/x; grep -E 'Seccomp:|NoNew' /proc/self/status"]
        result = container.process(args=args, noNewPrivileges=nnp)
        assert "No space left" in result.stderr
        found = status_of(result.stdout)
        assert (found["Seccomp"], found["NoNewPrivs"]) == ("2", str(int(nnp)))
    assert status_of(container("cat /proc/self/status").stdout)["NoNewPrivs"] == "1"


def test_scores_affinity_and_session(container: Running) -> None:
    args = ["sh", "-c", "cat /proc/self/oom_score_adj; grep Cpus_allowed_list /proc/self/status; cat /proc/self/stat"]
    result = container.process(args=args, oomScoreAdj=321, execCPUAffinity={"initial": "0", "final": "0"})
    score, cpus, _ = result.stdout.splitlines()
    assert (score, cpus.split()[1]) == ("321", "0")
    args[2] = "cut -d ' ' -f 1,5,6 /proc/$$/stat; echo $$"
    pid, group, session, own = container.process(args=args).stdout.split()
    assert pid == group == session == own  # its own session: no terminal and no signals of the caller's


def test_the_session_keyring_is_the_container_s(container: Running) -> None:
    with container.waiting() as one, container.waiting() as two:
        rings = {Path(f"/proc/{pid}/root").stat().st_ino for pid in (one, two)}
        assert len(rings) == 1
    shown = container("cat /proc/keys 2>/dev/null || true").stdout
    assert shown == "" or f"_ses.{container.bundle.id}" in shown


# Streams, signals, exit status.


def test_standard_input(container: Running) -> None:
    assert container(["cat"], stdin="one\ntwo\n").stdout == "one\ntwo\n"


def test_16_mib_through_both_pipes(container: Running) -> None:
    data = os.urandom(1 << 20) * 16
    words = [*container.runtime.command, "--root", str(container.runtime.root), "exec", container.bundle.id, "cat"]
    result = subprocess.run(words, input=data, capture_output=True, timeout=seconds(60), check=True)
    assert hashlib.sha256(result.stdout).digest() == hashlib.sha256(data).digest()
    assert result.stderr == b""


@pytest.mark.parametrize("status", [0, 1, 2, 125, 126, 127, 128, 200, 254, 255])
def test_the_exit_status(container: Running, status: int) -> None:
    result = container(f"exit {status}", check=False)
    assert (result.returncode, result.stdout, result.stderr) == (status, "", "")


@pytest.mark.parametrize("name", ["TERM", "KILL", "SEGV", "HUP", "INT", "USR1"])
def test_exit_status_of_a_signal(container: Running, name: str) -> None:
    """The exit status of a process that a signal ends."""
    result = container(f"kill -{name} $$", check=False)
    assert result.returncode == 128 + getattr(signal, f"SIG{name}")


@pytest.mark.parametrize("name", ["HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "CONT", "WINCH", "ALRM"])
def test_signals_are_passed_on(container: Running, name: str) -> None:
    script = f"trap 'echo got; exit 9' {name}; echo ready; while :; do sleep 0.05; done"
    words = [*container.runtime.command, "--root", str(container.runtime.root), "exec", container.bundle.id]
    with subprocess.Popen([*words, "sh", "-c", script], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(getattr(signal, f"SIG{name}"))
        if name == "WINCH":  # for a terminal; without one it is not passed on
            time.sleep(0.2)
            assert child.poll() is None
            child.terminate()
            assert child.wait(seconds(10)) == 143
            return
        assert child.stdout.readline() == "got\n"
        assert child.wait(seconds(10)) == 9


def test_runtime_killed(container: Running) -> None:
    """A runtime that is killed leaves the process to its reaper."""
    words = [*container.runtime.command, "--root", str(container.runtime.root), "exec", container.bundle.id]
    with subprocess.Popen([*words, "sh", "-c", "echo $$; exec sleep 1000"], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        before = {each.pid for each in processes.descendants()}
        child.kill()
        child.wait()
    left = eventually(
        lambda: [pid for pid in before if processes.alive(pid) and _command(pid) == ["sleep", "1000"]], 10, "sleep"
    )
    assert len(left) == 1
    os.kill(left[0], 9)
    assert processes.wait(left[0]) == 137


def _command(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]


# Detached.


@pytest.mark.vm
def test_detached(container: Running) -> None:
    pid = container.detached("echo $$ >/pid; exec sleep 1000")
    assert (container.bundle.path / "exec.pid").read_text() == str(pid)
    status = status_of(Path(f"/proc/{pid}/status").read_text())
    assert int(status["PPid"]) == os.getpid()  # the nearest subreaper's
    inner = eventually(lambda: (container.bundle.rootfs / "pid").read_text().strip(), 10, "its own pid")
    assert status["NSpid"].split() == [str(pid), inner]
    os.kill(pid, 15)
    assert processes.wait(pid) == 143


def test_detached_processes_end_with_the_container(container: Running) -> None:
    pids = [container.detached(SLEEP) for _ in range(3)]
    container.runtime.kill(container.bundle, "KILL")
    for pid in pids:
        assert processes.wait(pid) == 137
    assert processes.wait(container.pid) == 137


def test_a_pid_file_that_cannot_be_written(container: Running) -> None:
    result = container("echo ran >/ran", "--detach", "--pid-file", "/no/such/file", check=False)
    assert result.returncode == 255
    assert not (container.bundle.rootfs / "ran").exists()


def test_at_the_same_time(container: Running) -> None:
    results: dict[int, Completed] = {}

    def one(number: int) -> None:
        results[number] = container(f"echo {number}; exit {number}", check=False)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {number: (each.returncode, each.stdout) for number, each in results.items()} == {
        number: (number, f"{number}\n") for number in range(10)
    }


# Descriptors.


def test_no_descriptor_but_the_streams(container: Running) -> None:
    with container.waiting() as pid:
        assert set(os.listdir(f"/proc/{pid}/fd")) == {"0", "1", "2"}


def test_descriptors_to_pass_on(container: Running) -> None:
    code = "import os, sys; n = os.open('/dev/zero', 0); [os.dup2(n, x) for x in (7, 4)]; os.dup2(7, 3)\n"
    code += "os.execv(sys.argv[1], sys.argv[1:])"
    plain = container.runtime.command
    container.runtime.command = [sys.executable, "-c", code, *plain]
    shown = container("ls /proc/$$/fd; readlink /proc/$$/fd/3", "--preserve-fds", "1").stdout
    assert {"3", "/dev/zero"} <= set(shown.split()) and not {"4", "7"} & set(shown.split())
    container.runtime.command = plain
    result = container("true", "--preserve-fds", "2", check=False)
    assert result.returncode == 255 and "unable to stat preserved-fd 3 (of 2)" in result.stderr


def test_listen_fds_are_not_passed_on(container: Running) -> None:
    """They are a service's at its start (sd_listen_fds(3)), not those of what is executed later."""
    assert "LISTEN" not in container("env", env={**os.environ, "LISTEN_FDS": "1", "LISTEN_PID": "1"}).stdout


def test_foreground_holds_nothing(container: Running) -> None:
    """A runtime in the foreground holds nothing of the container."""
    words = [*container.runtime.command, "--root", str(container.runtime.root), "exec", container.bundle.id]
    with subprocess.Popen(
        [*words, "sh", "-c", "echo ready; read x"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None and child.stdin is not None
        child.stdout.readline()
        links = [os.readlink(f"/proc/{child.pid}/fd/{name}") for name in os.listdir(f"/proc/{child.pid}/fd")]
        assert not [link for link in links if link.startswith(("mnt:", "net:", "pid:", "user:"))], links
        child.stdin.close()
        child.wait()


# Refusals.


def test_in_a_created_container(runtime: Runtime, bundle: Bundle) -> None:
    runtime.create(bundle)
    container = Running(runtime, bundle)
    assert container("echo in; ls /bin/sh").stdout == "in\n/bin/sh\n"
    assert runtime.status(bundle) == "created"


def test_in_a_stopped_container(container: Running) -> None:
    container.runtime.kill(container.bundle, "KILL")
    container.runtime.until(container.bundle, "stopped")
    result = container("true", check=False)
    assert (result.returncode, result.stdout) == (255, "")
    assert "exec failed: cannot exec in a stopped container" in result.stderr


def test_in_no_container(runtime: Runtime) -> None:
    result = runtime.call("exec", "absent", "true", check=False)
    assert (result.returncode, result.stdout) == (255, "")
    assert "exec failed: container does not exist" in result.stderr


@contextmanager
def frozen(path: str) -> Iterator[Callable[[], object]]:
    """A frozen container; gives the function that thaws it."""
    v1 = cgroups.hierarchy("freezer").version == 1
    file = cgroups.directory("freezer", path) / ("freezer.state" if v1 else "cgroup.freeze")
    file.write_text("FROZEN" if v1 else "1")
    try:
        yield lambda: file.write_text("THAWED" if v1 else "0")
    finally:
        file.write_text("THAWED" if v1 else "0")


@pytest.mark.vm
def test_in_a_paused_container(container: Running) -> None:
    with frozen(container.bundle.cgroups_path) as thaw:
        result = container("true", check=False)
        assert (result.returncode, result.stdout) == (255, "")
        assert "cannot exec in a paused container (use --ignore-paused to override)" in result.stderr
        words = [*container.runtime.command, "--root", str(container.runtime.root), "exec", "--ignore-paused"]
        with subprocess.Popen([*words, container.bundle.id, "echo", "hi"], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert not select.select([child.stdout], [], [], 0.3)[0]  # it stands still, too
            thaw()
            assert child.stdout.read() == b"hi\n"
            assert child.wait(seconds(10)) == 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nosuch"], 'exec: "nosuch": executable file not found in $PATH'),
        (["/no/such"], 'exec: "/no/such": stat /no/such: no such file or directory'),
        (["/etc/passwd"], 'exec: "/etc/passwd": permission denied'),
        (["/etc"], 'exec: "/etc": is a directory: permission denied'),
    ],
)
def test_what_cannot_be_executed(container: Running, args: list[str], message: str) -> None:
    log, pid_file = container.bundle.path / "log.json", container.bundle.path / "pid"
    options = ["--log", str(log), "--log-format", "json"]
    result = container(args, "--detach", "--pid-file", pid_file, check=False, options=options)
    assert (result.returncode, result.stdout) == (255, "")
    record = json.loads(log.read_text())
    assert record["level"] == "error" and record["msg"].startswith(f"exec failed: {message} (")
    assert result.stderr.splitlines()[0] == record["msg"]
    assert not pid_file.exists()


def test_a_program_that_the_kernel_refuses(container: Running) -> None:
    (container.bundle.rootfs / "bin/broken").write_text("#!/no/such/interpreter\n")
    (container.bundle.rootfs / "bin/broken").chmod(0o755)
    result = container(["broken"], check=False)
    assert (result.returncode, result.stdout) == (255, "")
    assert "no such file or directory" in result.stderr


def test_a_working_directory_that_is_not_there(container: Running) -> None:
    result = container("true", "--cwd", "/not/there", check=False)
    assert result.returncode == 255 and "chdir /not/there: no such file or directory" in result.stderr
    assert not (container.bundle.rootfs / "not").exists()


def test_bad_calls(container: Running) -> None:
    runtime, name = container.runtime, container.bundle.id
    result = runtime.call("exec", name, check=False)
    assert result.returncode == 255 and "exec args cannot be empty" in result.stderr
    result = runtime.call("exec", "--process", "/no/file", name, check=False)
    assert result.returncode == 255 and "open /no/file: no such file or directory" in result.stderr
    result = container.process(args=["true"], user={"uid": "0", "gid": 0}, check=False)
    assert result.returncode == 255 and "user.uid" in result.stderr


def test_failures_leave_no_process(container: Running) -> None:
    before = processes.descendants()
    for args in (["nosuch"], ["/etc"]):
        container(args, check=False)
    container("true", "--cwd", "/no", check=False)
    assert {each for each in processes.descendants() - before if processes.alive(each.pid)} == set()
    members = (cgroups.directory("pids", container.bundle.cgroups_path) / "cgroup.procs").read_text().split()
    assert members == [str(container.pid)]
