"""Podman and conmon run containers with the runtime under test: what a container is given, and what it is not."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path

import pytest

from tests.clients.podman import IMAGE, USER_IMAGE, Podman
from tests.support import cgroups
from tests.support.needs import needs

_BITS = {
    "CHOWN": 0,
    "DAC_OVERRIDE": 1,
    "FOWNER": 3,
    "FSETID": 4,
    "KILL": 5,
    "SETGID": 6,
    "SETUID": 7,
    "SETPCAP": 8,
    "NET_BIND_SERVICE": 10,
    "NET_RAW": 13,
    "SYS_CHROOT": 18,
    "MKNOD": 27,
    "AUDIT_WRITE": 29,
    "SETFCAP": 31,
}
"""What podman gives by default, in all its versions, see capabilities(7)."""


def capabilities(podman: Podman, *options: str) -> set[int]:
    """Bits of the effective set."""
    text = podman.run("grep CapEff /proc/self/status", *options).stdout.split()[1]
    return {bit for bit in range(64) if int(text, 16) >> bit & 1}


# Output and exit status.


def test_output_and_exit_status(podman: Podman) -> None:
    result = podman.run("echo out; echo err >&2; exit 7", check=False)
    assert (result.returncode, result.stdout, result.stderr) == (7, "out\n", "err\n")


def test_standard_input(podman: Podman) -> None:
    assert podman.run("read a; read b; echo $b $a", "--interactive", input="one\ntwo\n").stdout == "two one\n"


def test_4_mib_of_output_arrive_whole(podman: Podman, scratch: Path) -> None:
    data = os.urandom(3 << 20).hex()
    (scratch / "data").write_text(data)
    result = podman.run(["cat", "/data"], "--volume", f"{scratch}/data:/data:ro")
    assert hashlib.sha256(result.stdout.encode()).digest() == hashlib.sha256(data.encode()).digest()


def test_killed_by_a_signal(podman: Podman) -> None:
    assert podman.run("sh -c 'kill -9 $$'; exit $?", check=False).returncode == 137


@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        ("missing-program", 127, 'exec: "missing-program": executable file not found in $PATH'),
        ("/missing/program", 127, "no such file or directory"),
        ("/etc", 126, ""),
        ("/etc/passwd", 126, "permission denied"),
    ],
)
def test_bad_commands(podman: Podman, command: str, status: int, message: str) -> None:
    result = podman.run([command], check=False)
    assert (result.returncode, result.stdout) == (status, "")
    assert message in result.stderr
    if status == 127:
        assert "OCI runtime attempted to invoke a command that was not found" in result.stderr


def test_errors_of_podman_itself(podman: Podman) -> None:
    assert podman.run("true", "--workdir", "/not/there", check=False).returncode == 126
    assert podman.run("true", "--no-such-option", check=False).returncode == 125
    assert podman.run("true", "--name", "-bad-", check=False).returncode == 125


def test_a_device_that_is_missing_on_the_host(podman: Podman) -> None:
    result = podman.run("true", "--device", "/dev/not-there", check=False)
    assert result.returncode in (125, 126)
    assert "not-there" in result.stderr


# Which runtime.


def test_runtime_by_path(podman: Podman) -> None:
    result = podman.run("echo hi; exit 3", runtime=podman.runtime, check=False)
    assert (result.returncode, result.stdout) == (3, "hi\n")
    result = podman.run(["missing-program"], runtime=podman.runtime, check=False)
    assert result.returncode == 127
    assert "executable file not found in $PATH" in result.stderr


def test_runtime_as_default(podman: Podman) -> None:
    name = podman.start("exec sleep 1000", runtime=None, conf="default.conf")
    assert podman.inspect(name, ".OCIRuntime") == "gosudacon"
    conmon = int(podman.inspect(name, ".State.ConmonPid"))
    assert str(podman.runtime).encode() in Path(f"/proc/{conmon}/cmdline").read_bytes().split(b"\0")
    podman.remove(name)


@needs("runtime:gosudacon")
def test_info_shows_the_runtime(podman: Podman) -> None:
    info = json.loads(podman.output("info", "--format", "json"))["host"]["ociRuntime"]
    assert (info["name"], info["path"]) == ("gosudacon", str(podman.runtime))
    assert info["version"].startswith("gosudacon version ")


# Security.


def test_usual_capabilities(podman: Podman) -> None:
    names = podman.output("info", "--format", "{{.Host.Security.DefaultCapabilities}}").split(",")
    usual = {_BITS[name.removeprefix("CAP_")] for name in names}
    assert capabilities(podman) == usual
    assert capabilities(podman, "--cap-drop", "ALL") == set()
    assert capabilities(podman, "--cap-add", "SYS_ADMIN", "--cap-drop", "CHOWN") == usual - {0} | {21}


def test_capabilities_are_in_force(podman: Podman) -> None:
    assert podman.run("touch /f && chown 7 /f && stat -c %u /f").stdout == "7\n"
    result = podman.run("touch /f && chown 7 /f", "--cap-drop", "CHOWN", check=False)
    assert result.returncode == 1
    assert "Operation not permitted" in result.stderr


def test_default_seccomp_profile_is_in_force(podman: Podman) -> None:
    script = "grep Seccomp: /proc/self/status; linux64 -R true"
    result = podman.run(script, check=False)
    assert result.returncode == 1
    assert result.stdout.split() == ["Seccomp:", "2"]
    assert "personality" in result.stderr
    # Nothing but the profile forbids it.
    result = podman.run(script, "--security-opt", "seccomp=unconfined")
    assert result.stdout.split() == ["Seccomp:", "0"]


def test_seccomp_profile_of_a_file(podman: Podman, scratch: Path) -> None:
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}
    (scratch / "profile").write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    result = podman.run("mkdir /new", "--security-opt", f"seccomp={scratch}/profile", check=False)
    assert result.returncode == 1
    assert "not supported" in result.stderr


def test_no_new_privileges(podman: Podman) -> None:
    command = "grep NoNewPrivs /proc/self/status"
    assert podman.run(command, "--security-opt", "no-new-privileges").stdout.split()[1] == "1"
    assert podman.run(command).stdout.split()[1] == "0"


def test_masked_and_read_only_paths(podman: Podman) -> None:
    result = podman.run("wc -c </proc/keys; ls /sys/firmware | wc -l; echo x >/proc/sys/kernel/domainname", check=False)
    assert result.stdout.split() == ["0", "0"]
    assert "Read-only file system" in result.stderr
    result = podman.run("grep -c ' /sys/firmware ' /proc/self/mounts", "--security-opt", "unmask=ALL", check=False)
    assert result.stdout == "0\n"


def test_privileged(podman: Podman) -> None:
    script = "mkdir /m && mount -t tmpfs t /m && grep -c ' /m ' /proc/self/mounts; grep Seccomp: /proc/self/status"
    assert podman.run(script, "--privileged").stdout.split() == ["1", "Seccomp:", "0"]


def test_devices(podman: Podman, scratch: Path) -> None:
    script = "ls -l /dev/full2; head -c 3 /dev/full2 | wc -c"
    result = podman.run(script, "--device", "/dev/full:/dev/full2:r")
    assert "1,   7" in result.stdout
    assert result.stdout.split()[-1] == "3"
    result = podman.run("mknod /d b 254 0; dd if=/d bs=1 count=1", "--cap-add", "MKNOD", check=False)
    assert "Operation not permitted" in result.stderr


# User, environment.


def test_process_of_the_image(podman: Podman) -> None:
    """User environment and working directory of the image."""
    result = podman.run("id; pwd; echo $COLOUR $container", image=USER_IMAGE)
    assert result.stdout.splitlines() == [
        "uid=1000(user) gid=1000(user) groups=29(audio),1000(user)",
        "/home/user",
        "blue podman",
    ]


def test_user_and_groups(podman: Podman) -> None:
    assert podman.run("id", "--user", "user").stdout.startswith("uid=1000(user) gid=1000(user)")
    result = podman.run("id -u; id -G; umask", "--user", "33:44", "--group-add", "55", "--umask", "0027")
    assert result.stdout.split() == ["33", "44", "55", "0027"]


def test_environment_hostname_and_hosts(podman: Podman) -> None:
    options = ["--env", "ONE=a b", "--hostname", "here", "--add-host", "there:10.1.2.3", "--workdir", "/tmp"]
    result = podman.run("pwd; echo $ONE; hostname; grep there /etc/hosts", *options)
    assert result.stdout.split() == ["/tmp", "a", "b", "here", "10.1.2.3", "there"]


def test_ulimits(podman: Podman) -> None:
    limits = ["--ulimit", "nofile=77:99", "--ulimit", "core=0", "--ulimit", "nproc=999:999"]
    result = podman.run("ulimit -n; ulimit -Hn; ulimit -c; ulimit -u", *limits)
    assert result.stdout.split() == ["77", "99", "0", "999"]


def test_sysctl(podman: Podman) -> None:
    result = podman.run("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax", "--sysctl", "kernel.msgmax=5000")
    assert result.stdout.split()[1] == "5000"


def test_oom_score(podman: Podman) -> None:
    assert podman.run(["cat", "/proc/self/oom_score_adj"], "--oom-score-adj", "321").stdout == "321\n"


# Files.


def test_read_only_root(podman: Podman) -> None:
    script = "echo x >/tmp/x && echo x >/run/x && echo x >/dev/shm/x && echo ok; echo x >/x"
    result = podman.run(script, "--read-only", check=False)
    assert (result.returncode, result.stdout) == (1, "ok\n")
    assert "Read-only file system" in result.stderr
    assert podman.run("echo x >/tmp/x", "--read-only", "--read-only-tmpfs=false", check=False).returncode == 1


def test_tmpfs(podman: Podman) -> None:
    script = "df -k /fast | tail -1; stat -c %a /fast; cp /bin/busybox /fast/ls; /fast/ls"
    result = podman.run(script, "--tmpfs", "/fast:size=4m,mode=0710,noexec", check=False)
    assert result.stdout.split()[1] == "4096"
    assert result.stdout.split()[-1] == "710"
    assert result.returncode == 126
    result = podman.run("df -k /dev/shm | tail -1", "--shm-size", "128k")
    assert result.stdout.split()[1] == "128"


def test_bind_mounts(podman: Podman, scratch: Path) -> None:
    (scratch / "shared").mkdir()
    (scratch / "shared/file").write_text("inside\n")
    mount = f"type=bind,source={scratch}/shared/file,target=/etc/name,readonly"
    options = ["-v", f"{scratch}/shared:/rw", "-v", f"{scratch}/shared:/ro:ro", "--mount", mount]
    result = podman.run("cat /etc/name; echo new >/rw/made; echo x >/ro/x", *options, check=False)
    assert (result.returncode, result.stdout) == (1, "inside\n")
    assert sorted(path.name for path in (scratch / "shared").iterdir()) == ["file", "made"]


def test_overlay_volume(podman: Podman, scratch: Path) -> None:
    (scratch / "lower").mkdir()
    (scratch / "lower/file").write_text("below\n")
    result = podman.run("cat /v/file; echo above >/v/file; cat /v/file", "-v", f"{scratch}/lower:/v:O")
    assert result.stdout == "below\nabove\n"
    assert (scratch / "lower/file").read_text() == "below\n"


def test_volume_that_is_given_to_the_user(podman: Podman, scratch: Path) -> None:
    (scratch / "own").mkdir()
    podman.run("touch /v/made", "--user", "1000:1000", "-v", f"{scratch}/own:/v:U")
    assert [(scratch / name).stat().st_uid for name in ("own", "own/made")] == [1000, 1000]


def test_named_volume(podman: Podman) -> None:
    podman.call("volume", "create", "data")
    podman.run("echo kept >/v/file", "-v", "data:/v")
    assert podman.run("cat /v/file", "-v", "data:/v").stdout == "kept\n"
    podman.call("volume", "rm", "data")


def test_copied_image_content_and_rshared_propagation(podman: Podman, scratch: Path) -> None:
    (scratch / "p").mkdir()
    script = "grep ' /p ' /proc/self/mountinfo; ls /home/user | wc -l"
    text = podman.run(script, "-v", f"{scratch}/p:/p:rslave").stdout
    assert " master:" in text
    assert "shared:" not in text.split(" - ")[0]


def test_image_mount(podman: Podman) -> None:
    script = "ls /image/bin/busybox; touch /image/x"
    result = podman.run(script, "--mount", f"type=image,source={IMAGE},target=/image", check=False)
    assert (result.returncode, result.stdout) == (1, "/image/bin/busybox\n")


def test_secret(podman: Podman) -> None:
    podman.call("secret", "create", "word", "-", input="sesame")
    try:
        assert (
            podman.run("stat -c %a /run/secrets/word; cat /run/secrets/word", "--secret", "word").stdout
            == "444\nsesame"
        )
    finally:
        podman.call("secret", "rm", "word")


# Namespaces.


def test_other_processes_are_out_of_sight(podman: Podman) -> None:
    assert podman.run("echo $$; ls -d /proc/[0-9]*").stdout.split()[:2] == ["1", "/proc/1"]


@pytest.mark.parametrize("kind", ["net", "pid", "ipc", "uts", "cgroup"])
def test_namespaces_of_its_own_and_of_the_host(podman: Podman, kind: str) -> None:
    own = os.readlink(f"/proc/self/ns/{kind}")
    option = {"net": "--network", "cgroup": "--cgroupns"}.get(kind, f"--{kind}")
    value = "none" if kind == "net" else "private"
    assert podman.run(["readlink", f"/proc/self/ns/{kind}"], option, value).stdout.strip() != own
    assert podman.run(["readlink", f"/proc/self/ns/{kind}"], option, "host").stdout.strip() == own


def test_pid_namespace_of_another_container(podman: Podman) -> None:
    name = podman.start("exec sleep 1234")
    result = podman.run("tr '\\0' ' ' </proc/1/cmdline; readlink /proc/self/ns/pid", "--pid", f"container:{name}")
    assert result.stdout.split() == ["sleep", "1234", os.readlink(f"/proc/{podman.pid(name)}/ns/pid")]
    assert podman.status(name) == "running"
    podman.remove(name)


def test_network_namespace_by_path(podman: Podman) -> None:
    name = podman.start("exec sleep 1000")
    path = f"/proc/{podman.pid(name)}/ns/net"
    expected = os.readlink(path)
    assert podman.run(["readlink", "/proc/self/ns/net"], "--network", f"ns:{path}").stdout.strip() == expected
    podman.remove(name)


def test_user_namespace(podman: Podman) -> None:
    options = ["--uidmap", "0:100000:1000", "--gidmap", "0:200000:1000"]
    script = "cat /proc/self/uid_map /proc/self/gid_map; stat -c %u:%g /bin/busybox; touch /made && id -u"
    words = podman.run(script, *options).stdout.split()
    assert words == ["0", "100000", "1000", "0", "200000", "1000", "0:0", "0"]
    name = podman.start("exec sleep 1000", *options)
    info = Path(f"/proc/{podman.pid(name)}").stat()
    assert (info.st_uid, info.st_gid) == (100000, 200000)
    assert podman.output("exec", name, "id", "-u") == "0"
    podman.remove(name)


def test_user_namespace_with_a_volume(podman: Podman, scratch: Path) -> None:
    (scratch / "v").mkdir()
    os.chown(scratch / "v", 100000, 100000)
    podman.run("touch /v/made", "--uidmap", "0:100000:1000", "-v", f"{scratch}/v:/v")
    assert (scratch / "v/made").stat().st_uid == 100000


# Limits.


def test_memory_limit(podman: Podman) -> None:
    name = podman.start("exec sleep 1000", "--memory", "64m", "--cpus", "0.5", "--pids-limit", "55")
    path = podman.cgroup(name)
    assert cgroups.read("memory", path, "memory.limit_in_bytes", "memory.max") == str(64 << 20)
    assert cgroups.read("pids", path, "pids.max", "pids.max") == "55"
    if cgroups.hierarchy("cpu").version == 1:
        assert cgroups.read("cpu", path, "cpu.cfs_quota_us", "") == "50000"
    else:
        assert cgroups.read("cpu", path, "", "cpu.max") == "50000 100000"
    podman.remove(name)


def test_memory_limit_is_enforced(podman: Podman) -> None:
    name = podman.start("dd if=/dev/zero of=/dev/null bs=64M count=1; exit $?", "--memory", "16m")
    assert podman.output("wait", name) == "137"
    podman.remove(name)


def test_pids_limit_is_enforced(podman: Podman) -> None:
    result = podman.run("for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; echo done", "--pids-limit", "4", check=False)
    assert result.returncode != 0
    assert "can't fork" in result.stderr


@needs("runtime:gosudacon")
def test_without_cgroups(podman: Podman) -> None:
    name = podman.output("run", "--detach", "--cgroups", "disabled", IMAGE, "sleep", "1000")
    own = cgroups.of_process(os.getpid())
    assert cgroups.of_process(podman.pid(name)) == own
    assert podman.output("exec", name, "echo", "hi") == "hi"
    podman.remove(name)


def test_files_of_the_state_are_private(podman: Podman) -> None:
    name = podman.start("exec sleep 1000")
    for root in ("/run/gosudacon", "/run/runc", "/run/crun"):
        for path in Path(root).iterdir():
            assert stat.S_IMODE(path.stat().st_mode) & 0o066 == 0
    podman.remove(name)
