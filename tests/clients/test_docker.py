"""Docker, through dockerd, containerd and its shim, runs containers with the runtime under test."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import stat
import subprocess
import time
from pathlib import Path

import pytest

from gosudacon.cli.engine_config import text
from tests.clients.dockerd import INSTALLED, Dockerd, daemon_json
from tests.support import cgroups
from tests.support.needs import needs
from tests.support.timing import eventually, seconds

DEFAULT_CAPABILITIES = 0x00000000A80425FB
SLEEP = "exec sleep 1000"


# Foreground.


def test_the_runtime_under_test_is_the_default(docker: Dockerd) -> None:
    assert docker.docker("info", "--format", "{{.DefaultRuntime}}").stdout == "gosudacon\n"
    name = docker.detached(SLEEP)
    assert docker.inspect(name, ".HostConfig.Runtime") == "gosudacon"
    assert [path.name for path in docker.states.iterdir()] == [name]


def test_install_prints_what_the_guide_says() -> None:
    lines = text(Path(INSTALLED)).partition("\nDocker, ")[2].partition("\n\n\n")[0].splitlines()
    assert daemon_json("name", Path(INSTALLED)) in [json.loads(line) for line in lines if line.startswith("    { ")]


def test_output_and_exit_status(docker: Dockerd) -> None:
    result = docker.run("echo out; echo err >&2; exit 7", check=False)
    assert (result.returncode, result.stdout, result.stderr) == (7, "out\n", "err\n")


def test_standard_input(docker: Dockerd) -> None:
    assert docker.run("read a; read b; echo $b $a; cat", "--interactive", input="1\n2\n3\n").stdout == "2 1\n3\n"


def test_16_mib_of_output_arrive_whole(docker: Dockerd) -> None:
    script = "dd if=/dev/urandom of=/big bs=1M count=16 2>&-; sha256sum </big >&2; cat /big"
    words = docker.words(*docker.run_arguments(script, "--rm", "--log-driver", "none"))
    result = subprocess.run(words, capture_output=True, timeout=seconds(60), check=True)
    assert len(result.stdout) == 16 << 20
    assert hashlib.sha256(result.stdout).hexdigest().encode() in result.stderr


def test_log(docker: Dockerd) -> None:
    name = docker.detached("echo one; echo two >&2")
    assert docker.wait(name) == 0
    logs = docker.docker("logs", name)
    assert (logs.stdout, logs.stderr) == ("one\n", "two\n")


def test_killed_by_a_signal(docker: Dockerd) -> None:
    assert docker.run(["sh", "-c", "kill -USR1 $$; kill -KILL $$; exec true"], "--init", check=False).returncode == 138


@pytest.mark.parametrize(
    ("command", "status", "text"),
    [
        ("nosuch", 127, 'exec: "nosuch": executable file not found in $PATH'),
        ("/no/such", 127, 'exec: "/no/such": stat /no/such: no such file or directory'),
        ("/etc/passwd", 126, 'exec: "/etc/passwd": permission denied'),
        ("/etc", 126, 'exec: "/etc": '),
    ],
    ids=["unknown", "missing", "not-executable", "directory"],
)
def test_bad_command(docker: Dockerd, command: str, status: int, text: str) -> None:
    result = docker.run([command], check=False)
    assert (result.returncode, result.stdout) == (status, "")
    assert "OCI runtime create failed: " in result.stderr
    assert text in result.stderr


def test_a_container_that_cannot_be_made(docker: Dockerd) -> None:
    result = docker.run("true", "--sysctl", "net.no.such=1", check=False)
    assert (result.returncode, result.stdout) == (127, "")  # as with runc: Docker takes "no such file" for the program
    assert "net.no.such" in result.stderr


# The process.


def test_user_groups_and_home(docker: Dockerd) -> None:
    assert docker.run("id; echo $HOME", "--user", "user").stdout.splitlines() == [
        "uid=1000(user) gid=1000(user) groups=29(audio),1000(user)",
        "/home/user",
    ]
    numbers = docker.run("id; echo $HOME", "--user", "1234:5", "--group-add", "29", "--group-add", "77").stdout
    assert numbers.splitlines() == ["uid=1234 gid=5(tty) groups=5(tty),29(audio),77", "/"]


def test_environment_working_directory_and_entry_point(docker: Dockerd) -> None:
    options = ["--env", "ONE=a b", "--env", "TWO=$ONE", "--workdir", "/not/there", "--entrypoint", "sh"]
    assert docker.run(["-c", 'echo "$ONE-$TWO"; pwd'], *options).stdout == "a b-$ONE\n/not/there\n"


def test_resource_limits_of_the_process(docker: Dockerd) -> None:
    script = "ulimit -n; ulimit -Hn; ulimit -c; cat /proc/self/oom_score_adj"
    options = ["--ulimit", "nofile=100:200", "--ulimit", "core=0", "--oom-score-adj", "500"]
    assert docker.run(script, *options).stdout.split() == ["100", "200", "0", "500"]


def test_init(docker: Dockerd) -> None:
    # The shell leaves an orphan, which init must collect before it ends with the shell's status.
    result = docker.run("(sleep 0.1 &); cat /proc/1/comm; echo $$; exit 5", "--init", check=False)
    name, number = result.stdout.split()
    assert (result.returncode, name) == (5, "docker-init")
    assert int(number) > 1


# Security.


def _process(docker: Dockerd, *options: str) -> dict[str, str]:
    lines = docker.run(["cat", "/proc/self/status"], *options).stdout.splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def test_default_capabilities(docker: Dockerd) -> None:
    status = _process(docker)
    assert [int(status[f"Cap{kind}"], 16) for kind in ("Prm", "Eff", "Bnd")] == [DEFAULT_CAPABILITIES] * 3
    assert int(status["CapAmb"], 16) == 0
    assert _process(docker, "--user", "1000")["CapEff"] == "0" * 16
    # They are in force: one that is there, one that is not.
    script = "chown 5 /tmp && stat -c %u /tmp; ip link set lo mtu 1400"
    result = docker.run(script, check=False)
    assert (result.returncode, result.stdout) == (2, "5\n")
    assert "Operation not permitted" in result.stderr
    assert docker.run(script, "--cap-add", "NET_ADMIN").stdout == "5\n"


def test_capabilities_added_and_dropped(docker: Dockerd) -> None:
    assert int(_process(docker, "--cap-drop", "ALL")["CapBnd"], 16) == 0
    assert int(_process(docker, "--cap-drop", "ALL", "--cap-add", "NET_RAW")["CapEff"], 16) == 1 << 13
    more = _process(docker, "--cap-drop", "CHOWN", "--cap-add", "SYS_PTRACE")
    assert int(more["CapEff"], 16) == DEFAULT_CAPABILITIES & ~1 | 1 << 19


def test_default_seccomp_profile(docker: Dockerd) -> None:
    # Any user may make a user namespace; only the profile forbids it.
    script = "grep Seccomp: /proc/self/status; unshare --user true"
    result = docker.run(script, check=False)
    assert result.stdout.split() == ["Seccomp:", "2"]
    assert result.returncode == 1
    assert "Operation not permitted" in result.stderr
    assert docker.run(script, "--security-opt", "seccomp=unconfined").stdout.split() == ["Seccomp:", "0"]


def test_a_seccomp_profile_of_ones_own(docker: Dockerd, scratch: Path) -> None:
    rules = [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules}
    (scratch / "profile.json").write_text(json.dumps(profile))
    result = docker.run("mkdir /x", "--security-opt", f"seccomp={scratch}/profile.json", check=False)
    assert result.returncode == 1
    assert "No space left on device" in result.stderr


def test_no_new_privileges(docker: Dockerd) -> None:
    assert _process(docker)["NoNewPrivs"] == "0"
    assert _process(docker, "--security-opt", "no-new-privileges")["NoNewPrivs"] == "1"


def test_paths_of_proc_and_sys(docker: Dockerd) -> None:
    script = "cat /proc/keys | wc -c; ls /sys/firmware | wc -l; echo 1 >/proc/sys/kernel/panic"
    result = docker.run(script, check=False)
    assert (result.returncode, result.stdout.split()) == (1, ["0", "0"])
    assert "Read-only file system" in result.stderr
    count = ["sh", "-c", "grep -c ' /proc/' /proc/self/mountinfo"]
    assert docker.run(count, "--security-opt", "systempaths=unconfined", check=False).stdout == "0\n"


@needs("runtime:gosudacon")
def test_privileged(docker: Dockerd) -> None:
    # runc insists on all 41 capabilities; where the caller does not have them, it cannot do this.
    script = "mkdir /m && mount -t tmpfs t /m && grep -c ' /m ' /proc/self/mounts; test -w /sys/kernel && echo $?"
    result = docker.run(f"{script}; grep Seccomp: /proc/self/status; ls /dev | wc -l", "--privileged")
    words = result.stdout.split()
    assert words[:4] == ["1", "0", "Seccomp:", "0"]
    assert int(words[4]) > 20
    own = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapBnd"))
    every = int(own.split()[1], 16)
    # Docker before 23 knows the first 38.
    assert int(_process(docker, "--privileged")["CapEff"], 16) in (every, every & (1 << 38) - 1)


# Devices.


def test_devices(docker: Dockerd) -> None:
    result = docker.run("ls /dev; head -c 3 /dev/zero | wc -c; echo >/dev/full", check=False)
    nodes = {"full", "mqueue", "null", "ptmx", "pts", "random", "shm", "tty", "urandom", "zero"}
    assert set(result.stdout.split()) - {"core"} == nodes | {"fd", "stderr", "stdin", "stdout", "3"}
    assert "No space left on device" in result.stderr
    assert docker.run("mknod /tmp/d b 254 0 && dd if=/tmp/d count=1", check=False).returncode == 1


def test_device_of_the_host(docker: Dockerd, scratch: Path) -> None:
    os.mknod(scratch / "device", 0o640 | stat.S_IFCHR, os.makedev(240, 77))  # a number that no driver has
    result = docker.run(
        "stat -c '%F %a %t %T' /dev/mine; cat /dev/mine; echo x >/dev/mine",
        "--device",
        f"{scratch}/device:/dev/mine:r",
        check=False,
    )
    assert result.stdout == "character special file 640 f0 4d\n"
    read, write = result.stderr.splitlines()
    assert read.endswith("No such device or address")
    assert write.endswith("Operation not permitted")


def test_device_rule(docker: Dockerd) -> None:
    script = "mknod /tmp/loop b 7 0 && dd if=/tmp/loop count=0"
    assert "Operation not permitted" in docker.run(script, check=False).stderr
    assert "Operation not permitted" not in docker.run(script, "--device-cgroup-rule", "b 7:* rmw", check=False).stderr


# Files.


def test_read_only_root(docker: Dockerd) -> None:
    result = docker.run("touch /run/x && touch /dev/shm/x && touch /x", "--read-only", "--tmpfs", "/run", check=False)
    assert result.returncode == 1
    assert result.stderr == "touch: /x: Read-only file system\n"


def test_tmpfs(docker: Dockerd) -> None:
    options = ["--tmpfs", "/one:size=64k,mode=1700", "--mount", "type=tmpfs,dst=/two,tmpfs-size=1m"]
    result = docker.run("df -k /one /two /dev/shm; ls -ld /one", *options, "--shm-size", "2m")
    lines = [line.split() for line in result.stdout.splitlines()[1:]]
    assert [(line[0], line[1]) for line in lines[:3]] == [("tmpfs", "64"), ("tmpfs", "1024"), ("shm", "2048")]
    assert lines[3][0] == "drwx-----T"


def test_bind_mounts(docker: Dockerd, scratch: Path) -> None:
    (scratch / "shared").mkdir()
    (scratch / "shared/file").write_text("inside\n")
    options = ["-v", f"{scratch}/shared:/rw", "-v", f"{scratch}/shared:/ro:ro", "-v", f"{scratch}/shared/file:/one"]
    result = docker.run("cat /ro/file /one; echo new >/rw/made; echo x >/ro/x", *options, check=False)
    assert (result.returncode, result.stdout) == (1, "inside\ninside\n")
    assert "/ro/x: Read-only file system" in result.stderr
    assert (scratch / "shared/made").read_text() == "new\n"


def test_propagation_of_mounts(docker: Dockerd, scratch: Path) -> None:
    (scratch / "shared/inner").mkdir(parents=True)
    name = docker.detached(SLEEP, "--mount", f"type=bind,src={scratch}/shared,dst=/s,bind-propagation=rslave")
    subprocess.run(["mount", "-t", "tmpfs", "late", scratch / "shared/inner"], check=True)
    try:
        assert docker.docker("exec", name, "grep", "-c", "^late /s/inner ", "/proc/mounts").stdout == "1\n"
    finally:
        subprocess.run(["umount", scratch / "shared/inner"], check=True)
    assert docker.docker("exec", name, "grep", "-c", "^late /s/inner ", "/proc/mounts", check=False).returncode == 1


def test_volumes(docker: Dockerd) -> None:
    docker.docker("volume", "create", "kept")
    docker.run("echo text >/v/file", "-v", "kept:/v")
    assert docker.run("cat /v/file; touch /v/x", "-v", "kept:/v:ro", check=False).stdout == "text\n"
    # What the image has at that place is copied into an empty volume, owners included.
    assert docker.run("stat -c %u /home/user", "-v", "/home").stdout == "1000\n"
    first = docker.detached("echo mine >/data/file; exec sleep 1000", "-v", "/data")
    docker.ready(first, "data/file")
    assert docker.run("cat /data/file", "--volumes-from", first).stdout == "mine\n"
    docker.remove(first)
    docker.docker("volume", "rm", "kept")


# Namespaces.


def test_names(docker: Dockerd) -> None:
    assert docker.run("hostname; cat /etc/hostname", "--hostname", "h7").stdout == "h7\nh7\n"
    assert docker.run(["hostname"], "--uts", "host").stdout.strip() == socket.gethostname()


def test_sysctl(docker: Dockerd) -> None:
    options = ["--sysctl", "net.ipv4.ip_default_ttl=77", "--sysctl", "kernel.msgmax=9000"]
    script = "cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/msgmax"
    assert docker.run(script, *options).stdout.split() == ["77", "9000"]


def test_pid_namespace_of_another_container(docker: Dockerd) -> None:
    name = docker.detached(SLEEP)
    script = "ps -o pid,args; readlink /proc/self/ns/pid"
    assert "1 sleep 1000" in docker.run(script, "--pid", f"container:{name}").stdout
    assert "1 sleep 1000" not in docker.run(script).stdout
    # A container in the other one's namespace is not its first process, and all of it must go nevertheless.
    other = docker.detached("sleep 1001 & exec sleep 1002", "--pid", f"container:{name}")
    docker.remove(other)
    assert "sleep 100" not in docker.docker("exec", name, "ps", "-o", "args").stdout.replace("sleep 1000", "")


def test_pid_namespace_of_the_host(docker: Dockerd) -> None:
    own = os.readlink("/proc/self/ns/pid")
    assert docker.run(["readlink", "/proc/self/ns/pid"], "--pid", "host").stdout.strip() == own
    docker.remove(docker.detached("sleep 1001 & exec sleep 1002", "--pid", "host"))


def test_network_namespaces(docker: Dockerd) -> None:
    assert docker.run("ls /sys/class/net", "--network", "none").stdout.split() == ["lo"]
    assert docker.run("readlink /proc/self/ns/net", "--network", "host").stdout.strip() == os.readlink(
        "/proc/self/ns/net"
    )
    name = docker.detached("exec nc -l -p 7000 -e echo hello", "--network", "none")
    script = "until nc 127.0.0.1 7000; do sleep 0.05; done; readlink /proc/self/ns/net"
    hello, namespace = docker.run(script, "--network", f"container:{name}").stdout.split()
    assert (hello, namespace.partition(":")[0]) == ("hello", "net")


def test_bridge_network(docker: Dockerd) -> None:
    name = docker.detached("exec httpd -f -p 80 -h /etc", "-p", "127.0.0.1:7780:80")
    address = docker.inspect(name, ".NetworkSettings.IPAddress")
    script = f"until wget -qO- http://{address}/hostname; do sleep 0.05; done; ls /sys/class/net"
    assert docker.run(script).stdout.split() == [name[:12], "eth0", "lo"]

    def answer() -> bytes:
        try:
            with socket.create_connection(("127.0.0.1", 7780), 5) as connection:
                connection.sendall(b"GET /hostname HTTP/1.0\r\n\r\n")
                return connection.makefile("rb").read()
        except OSError:
            return b""

    assert eventually(answer, 10, "the published port's answer").endswith(f"\r\n\r\n{name[:12]}\n".encode())


def test_ipc_namespace_of_another_container(docker: Dockerd) -> None:
    name = docker.detached("echo text >/dev/shm/file; exec sleep 1000", "--ipc", "shareable")
    docker.ready(name, "dev/shm/file")
    assert docker.run(["cat", "/dev/shm/file"], "--ipc", f"container:{name}").stdout == "text\n"


def test_cgroup_namespace(docker: Dockerd) -> None:
    own = docker.run("cut -d: -f3 /proc/self/cgroup; ls /sys/fs/cgroup", "--cgroupns", "private").stdout.split()
    assert own[0] == "/"
    assert docker.parent in docker.run("cat /proc/self/cgroup", "--cgroupns", "host").stdout
    result = docker.run("mkdir /sys/fs/cgroup/pids/x || mkdir /sys/fs/cgroup/x", check=False)
    assert "Read-only file system" in result.stderr


# Limits.


def test_limits(docker: Dockerd) -> None:
    options = ["--memory", "64m", "--cpus", "0.5", "--pids-limit", "20", "--cpu-shares", "512", "--cpuset-cpus", "0"]
    name = docker.detached(SLEEP, *options)
    path = docker.cgroup(name)
    assert cgroups.read("memory", path, "memory.limit_in_bytes", "memory.max") == str(64 << 20)
    assert cgroups.read("pids", path, "pids.max", "pids.max") == "20"
    assert cgroups.read("cpuset", path, "cpuset.cpus", "cpuset.cpus") == "0"
    assert cgroups.read("cpu", path, "cpu.cfs_quota_us", "cpu.max") in ("50000", "50000 100000")
    members = (cgroups.directory("memory", path) / "cgroup.procs").read_text().split()
    assert members == [str(docker.pid(name))]


def test_memory_limit_is_enforced_and_seen(docker: Dockerd) -> None:
    # The shim for runc looks from the answer to the start on, and while the container is there.
    until = "until test -e /{}; do sleep 0.05; done"
    script = f"{until.format('go')}; dd if=/dev/zero of=/dev/null bs=64M count=1; s=$?; {until.format('seen')}; exit $s"
    name = docker.detached(script, "--memory", "16m")
    root = Path(f"/proc/{docker.pid(name)}/root")
    (root / "go").touch()
    events = ["events", "--since", "0", "--filter", f"container={name}", "--filter", "event=oom", "--until"]
    eventually(lambda: docker.docker(*events, str(int(time.time()) + 1)).stdout, 20, "the report of the shortage")
    (root / "seen").touch()
    assert docker.wait(name) == 137
    eventually(lambda: docker.inspect(name, ".State.OOMKilled") == "true", 10, "the state of the container")


def test_limit_of_processes_is_enforced(docker: Dockerd) -> None:
    script = "for n in 1 2 3 4 5 6 7 8 9 10; do sleep 1 & done"
    result = docker.run(script, "--pids-limit", "5", check=False)
    assert result.returncode != 0
    assert "can't fork" in result.stderr
