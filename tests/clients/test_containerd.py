"""containerd, through ctr and its shim, runs containers with the runtime under test."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.clients.conftest import IMAGE, USER_IMAGE, new_name
from tests.clients.daemon import Completed, Containerd
from tests.clients.output import collect as collect_output
from tests.clients.output import patient
from tests.clients.tasks import finish, pid, status
from tests.support import cgroups, processes
from tests.support.console import Terminal
from tests.support.timing import eventually, seconds

Run = Callable[..., Completed]
Detached = Callable[..., str]


# Foreground.


def test_output_and_exit_status(run: Run) -> None:
    result = run("echo out; echo err >&2; exit 7", check=False)
    assert (result.returncode, result.stdout) == (7, "out\n")
    assert "err" in result.stderr.splitlines()


def test_standard_input(ctr: Containerd) -> None:
    words = ctr.words(*ctr.run_arguments(IMAGE, new_name(), "read a; read b; echo $b $a; read c; exit 3", "--rm"))
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) as client:
        assert client.stdin and client.stdout
        print("one\ntwo", file=client.stdin, flush=True)
        assert client.stdout.readline() == "two one\n"
        print("three", file=client.stdin, flush=True)
        assert client.wait(seconds(60)) == 3


def test_16_mib_of_output_arrive_whole(ctr: Containerd) -> None:
    script = "dd if=/dev/urandom of=/big bs=1M count=16 2>&-; sha256sum </big >&2; cat /big"
    status, out, err = collect_output(ctr.words(*ctr.run_arguments(IMAGE, new_name(), patient(script), "--rm")))
    assert (status, len(out)) == (0, 16 << 20)
    assert hashlib.sha256(out).hexdigest().encode() in err


def test_other_processes_are_out_of_sight(run: Run) -> None:
    assert run("echo $$; ls -d /proc/[0-9]*").stdout.split()[:2] == ["1", "/proc/1"]


def test_process_of_the_image(run: Run) -> None:
    """User environment and working directory of the image."""
    result = run("id; pwd; echo $COLOUR", image=USER_IMAGE)
    assert result.stdout.splitlines() == [
        "uid=1000(user) gid=1000(user) groups=29(audio),1000(user)",
        "/home/user",
        "blue",
    ]


def test_process_of_the_command(run: Run) -> None:
    """Environment and working directory of the command."""
    result = run("pwd; echo $ONE-$TWO-$HOME", "--cwd", "/tmp", "--env", "ONE=a b", "--env", "TWO=$ONE")
    assert result.stdout == "/tmp\na b-$ONE-/root\n"


def test_a_working_directory_that_is_missing_is_made(run: Run) -> None:
    assert run("pwd", "--cwd", "/not/there/yet").stdout == "/not/there/yet\n"


def test_writable_root(run: Run) -> None:
    assert run("echo text >/file && cat /file").stdout == "text\n"


def test_read_only_root(run: Run) -> None:
    result = run("echo text >/file", "--read-only", check=False)
    assert result.returncode == 1
    assert "Read-only file system" in result.stderr


def test_bind_mounts(run: Run, scratch: Path) -> None:
    (scratch / "shared").mkdir()
    (scratch / "shared/file").write_text("inside\n")
    source = f"type=bind,src={scratch}/shared"
    mounts = [
        "--mount",
        f"{source},dst=/new/rw,options=rbind:rw",
        "--mount",
        f"{source},dst=/ro,options=rbind:ro",
        "--mount",
        f"type=bind,src={scratch}/shared/file,dst=/etc/name,options=bind:ro",
    ]
    result = run("set -e; cat /etc/name /ro/file; echo new >/new/rw/made; ! echo x >/ro/x", *mounts, check=False)
    assert (result.returncode, result.stdout) == (0, "inside\ninside\n"), result.stderr
    assert (scratch / "shared/made").read_text() == "new\n"
    assert not (scratch / "shared/x").exists()


def test_tmpfs_mount(run: Run) -> None:
    result = run("df -k /fast | tail -1", "--mount", "type=tmpfs,src=tmpfs,dst=/fast,options=size=64k:noexec")
    assert result.stdout.split()[:2] == ["tmpfs", "64"]


def test_capabilities(run: Run) -> None:
    def effective(*options: str) -> int:
        return int(run("grep CapEff /proc/self/status", *options).stdout.split()[1], 16)

    usual = effective()
    assert usual & 1 << 0  # CAP_CHOWN
    assert not usual & 1 << 21  # CAP_SYS_ADMIN
    assert effective("--cap-add", "CAP_SYS_ADMIN", "--cap-drop", "CAP_CHOWN") == usual & ~1 | 1 << 21


def test_no_new_privileges(run: Run) -> None:
    command = "grep NoNewPrivs /proc/self/status"
    assert run(command).stdout.split()[1] == "1"
    assert run(command, "--allow-new-privs").stdout.split()[1] == "0"


def test_seccomp_default_profile(run: Run) -> None:
    result = run("grep Seccomp: /proc/self/status; unshare -m true; echo $?", "--seccomp", check=False)
    assert result.stdout.split()[:2] == ["Seccomp:", "2"]
    assert result.stdout.split()[-1] != "0"


def test_devices(run: Run) -> None:
    result = run("ls -l /dev/full /dev/random; cat /dev/full | head -c 3 | wc -c", "--device", "/dev/full")
    assert result.stdout.split()[-1] == "3"


def test_device_that_is_not_allowed(run: Run) -> None:
    result = run("mknod /tmp/disk b 254 0 && dd if=/tmp/disk bs=1 count=1", check=False)
    assert result.returncode != 0
    assert "Operation not permitted" in result.stderr


def test_privileged(run: Run) -> None:
    result = run("mkdir /m && mount -t tmpfs t /m && grep -c ' /m ' /proc/self/mounts", "--privileged")
    assert result.stdout == "1\n"


def test_host_network(run: Run) -> None:
    own = os.readlink("/proc/self/ns/net")
    assert run("readlink /proc/self/ns/net", "--net-host").stdout.strip() == own
    assert run("readlink /proc/self/ns/net").stdout.strip() != own


# Limits.


def test_memory_limit(ctr: Containerd, detached: Detached) -> None:
    name = detached("exec sleep 1000", "--memory-limit", str(64 << 20))
    path = f"/{ctr.namespace}/{name}"
    limit = cgroups.read("memory", path, "memory.limit_in_bytes", "memory.max")
    assert int(limit) == 64 << 20
    members = (cgroups.directory("memory", path) / "cgroup.procs").read_text().split()
    assert members == [str(pid(ctr, name))]
    finish(ctr, name)


def test_memory_limit_is_enforced(run: Run) -> None:
    result = run("dd if=/dev/zero of=/dev/null bs=64M count=1", "--memory-limit", str(16 << 20), check=False)
    assert result.returncode == 137


def test_cpu_limit(ctr: Containerd, detached: Detached) -> None:
    name = detached("exec sleep 1000", "--cpus", "0.5")
    path = f"/{ctr.namespace}/{name}"
    if cgroups.hierarchy("cpu").version == 1:
        assert cgroups.read("cpu", path, "cpu.cfs_quota_us", "") == "50000"
    else:
        assert cgroups.read("cpu", path, "", "cpu.max") == "50000 100000"
    finish(ctr, name)


# Detached.


def test_detached_kill_and_delete(ctr: Containerd, detached: Detached) -> None:
    name = detached("trap 'exit 5' TERM; touch /ready; while :; do sleep 0.1; done")
    assert status(ctr, name) == "RUNNING"
    assert processes.alive(pid(ctr, name))
    # The trap must be set before the signal comes, or PID 1 ignores it.
    root = Path(f"/proc/{pid(ctr, name)}/root")
    eventually(lambda: (root / "ready").exists(), 10, "the trap")
    assert finish(ctr, name, "TERM") == 5


def test_delete_of_a_running_task_is_refused(ctr: Containerd, detached: Detached) -> None:
    name = detached("exec sleep 1000")
    assert ctr.ctr("tasks", "delete", name, check=False).returncode == 1
    assert status(ctr, name) == "RUNNING"
    finish(ctr, name)


def test_forced_delete_of_a_running_task(ctr: Containerd, detached: Detached) -> None:
    name = detached("sleep 1001 & exec sleep 1000")
    first = pid(ctr, name)
    ctr.ctr("tasks", "delete", "--force", name, check=False)
    ctr.ctr("containers", "delete", name)
    assert not processes.alive(first)


def test_shared_namespaces(ctr: Containerd, run: Run, detached: Detached) -> None:
    name = detached("hostname shared; touch /ready; exec sleep 1000", "--cap-add", "CAP_SYS_ADMIN")
    place = Path(f"/proc/{pid(ctr, name)}")
    eventually(lambda: (place / "root/ready").exists(), 10, "the name")
    files = {"uts": "uts", "network": "net", "ipc": "ipc"}
    joined = [word for kind, file in files.items() for word in ("--with-ns", f"{kind}:{place}/ns/{file}")]
    result = run("hostname; readlink /proc/self/ns/net; readlink /proc/self/ns/ipc", *joined)
    wanted = ["shared"] + [os.readlink(place / "ns" / kind) for kind in ("net", "ipc")]
    assert (result.stdout.split(), result.stderr) == (wanted, "")
    finish(ctr, name)


# Terminal.


@contextmanager
def terminal(ctr: Containerd, command: str) -> Iterator[tuple[subprocess.Popen[bytes], Terminal]]:
    """``ctr run -t`` on a new pseudo terminal: the client's process and the terminal."""
    master, slave = os.openpty()
    words = ctr.words(*ctr.run_arguments(IMAGE, new_name(), command, "--rm", "-t"))
    client = subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    try:
        yield client, Terminal(master)
    finally:
        client.kill()
        client.wait()
        os.close(master)


def test_terminal(ctr: Containerd) -> None:
    with terminal(ctr, "tty; echo ready; read line; echo got $line; read line; exit 4") as (client, screen):
        assert "/dev/pts/0" in screen.expect("ready", 30)
        screen.send("hello\n")
        screen.expect("got hello")
        screen.send("\n")
        assert client.wait(seconds(30)) == 4


def test_control_c_on_a_terminal(ctr: Containerd) -> None:
    loop = "trap 'echo caught; read line; exit 3' INT; echo ready; while :; do sleep 0.1; done"
    with terminal(ctr, loop) as (client, screen):
        screen.expect("ready", 30)
        screen.send("\x03")
        screen.expect("caught")
        screen.send("\n")
        assert client.wait(seconds(30)) == 3


# Errors.


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (["nosuch"], 'exec: "nosuch": executable file not found in $PATH'),
        (["/no/such"], "no such file or directory"),
        (["/etc/passwd"], "permission denied"),
        (["/etc"], 'exec: "/etc": '),
    ],
    ids=["unknown", "missing", "not-executable", "directory"],
)
def test_bad_entrypoint(run: Run, command: list[str], text: str) -> None:
    result = run(command, check=False)
    assert result.returncode == 1
    assert text in result.stderr
    assert "create failed" in result.stderr


def test_the_name_of_a_running_container_is_taken(ctr: Containerd, run: Run, detached: Detached) -> None:
    name = detached("exec sleep 1000")
    result = run("true", name=name, check=False)
    assert result.returncode == 1
    assert "already exists" in result.stderr
    assert status(ctr, name) == "RUNNING"
    finish(ctr, name)


def test_bind_mount_of_what_does_not_exist(run: Run) -> None:
    result = run("true", "--mount", "type=bind,src=/no/such/place,dst=/x,options=rbind", check=False)
    assert result.returncode == 1
    assert "no such file or directory" in result.stderr
