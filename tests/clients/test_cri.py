"""Pods: containerd's implementation of Kubernetes' Container Runtime Interface, with the runtime under test.

The tests do what a kubelet does, over the same socket. The pods have the network that Debian's CNI plugins make.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients.cri import Cri, Failure, Pod
from tests.clients.cri_types import (
    BOTH_WAYS,
    CREATED,
    EXITED,
    FROM_THE_HOST,
    LOCALHOST,
    NODE,
    NOT_READY,
    POD,
    PRIVATE,
    READY,
    RUNNING,
    RUNTIME_DEFAULT,
)
from tests.clients.daemon import Containerd, own_shim, wrapper
from tests.conftest import PARENT
from tests.security import programs
from tests.support import cgroups, namespaces, processes
from tests.support.leftovers import Watch
from tests.support.needs import missing, needs
from tests.support.runtime import runtime_command
from tests.support.timing import eventually

if TYPE_CHECKING:
    from gosudacon.wire.protobuf import Message

pytestmark = needs("program:containerd", "program:/usr/lib/cni/ptp")

PAUSE = "docker.io/gosudacon/pause:test"
IMAGE = "docker.io/gosudacon/busybox:cri"
CLASS = "own-class"
"""A runtime class besides the default; its containers are kept below another root."""
PLAIN_CLASS = "plain-class"
"""One without options, which our shim needs for pods with user namespaces: containerd wants runc's there."""

_CONFIG = """\
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  netns_mounts_under_state_dir = true
  restrict_oom_score_adj = {restricted}
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{base}.cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "gosudacon"
"""
_WITH_RUNC_SHIM = """\
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}.options]
        BinaryName = "{runtime}"
        Root = "{root}"
"""
_PLAIN = """\
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}]
      runtime_type = "io.containerd.gosudacon.v1"
"""
_WITH_OWN_SHIM = """\
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}]
      runtime_type = "io.containerd.gosudacon.v1"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}.options]
        ConfigPath = "{root}.toml"
"""
_PLACES = [(kind, what) for kind in ("root", "state") for what in ("sandboxes", "containers")]
# A sandbox's own process: it waits, and collects the orphans of the pod.
_WAIT = "trap 'exit 0' TERM; while :; do sleep 1000000; done"


@pytest.fixture(scope="module", params=["runc", "shim"])
def daemon(
    request: pytest.FixtureRequest, shims: None, session_scratch: Path, image: Callable[..., Path]
) -> Iterator[Containerd]:
    """A private containerd with the plugin, and images for sandboxes and containers; with either shim."""
    shim = own_shim(runtime_command()) if request.param == "shim" else None
    base = session_scratch / f"cri-{request.param}"
    runtime = wrapper(runtime_command(), session_scratch / "runtime")
    network = {
        "cniVersion": "0.4.0",
        "name": "tests",
        "plugins": [
            {
                "type": "ptp",
                "ipam": {"type": "host-local", "subnet": "10.99.0.0/24", "dataDir": f"{base}.addresses"},
            }
        ],
    }
    Path(f"{base}.cni").mkdir()
    Path(f"{base}.cni/tests.conflist").write_text(json.dumps(network))
    restricted = "true" if missing("resource-capability") else "false"
    config = _CONFIG.format(base=base, pause=PAUSE, restricted=restricted)
    for name, root in (("gosudacon", f"{base}/runtime"), (CLASS, f"{base}/class")):
        config += (_WITH_OWN_SHIM if shim else _WITH_RUNC_SHIM).format(name=name, runtime=runtime, root=root)
    plain = _PLAIN if shim else _WITH_RUNC_SHIM
    config += plain.format(name=PLAIN_CLASS, runtime=runtime, root=f"{base}/plain")
    daemon = Containerd(base, "k8s.io", runtime, config, shim=shim)
    for root in ("runtime", "class", "plain"):
        (base / f"{root}.toml").write_text(f'Root = "{base}/{root}"\n')
    try:
        for name, settings in ((PAUSE, {"Cmd": ["sh", "-c", _WAIT]}), (IMAGE, {})):
            daemon.ctr("images", "import", image(name, settings))
        yield daemon
    finally:
        daemon.stop()


@pytest.fixture(scope="module")
def service(daemon: Containerd, token: str) -> Iterator[Cri]:
    """The service, when it knows both images and a network."""
    cri = Cri(daemon.base / "s", f"/{PARENT}/{token}", daemon.base / "logs")
    for name in (PAUSE, IMAGE):
        eventually(lambda name=name: cri.call("ImageStatus", image={"image": name})["image"], 20, "the images")  # type: ignore[misc]
    eventually(lambda: all(item["status"] for item in cri.call("Status")["status"]["conditions"]), 20, "readiness")
    yield cri
    cri.close()


@pytest.fixture
def cri(service: Cri, daemon: Containerd, leftovers: Watch) -> Iterator[Cri]:
    """The service for one test; its pods are removed afterwards, and then nothing of them is left."""
    own = [daemon.base / kind / "io.containerd.grpc.v1.cri" / what for kind, what in _PLACES]
    leftovers.add_roots(daemon.state, daemon.states, daemon.base / "class/k8s.io", *own)

    def everything() -> dict[str, set[str]]:
        lists = {kind: daemon.list(kind) for kind in ("tasks", "containers", "snapshots")}
        for method, field in (("ListPodSandbox", "items"), ("ListContainers", "containers")):
            lists[method] = {str(item["id"]) for item in service.call(method)[field]}
        lists["addresses"] = {path.name for path in Path(f"{daemon.base}.addresses").glob("tests/10.*")}
        return lists

    before, length = everything(), daemon.log.stat().st_size
    yield service
    try:
        service.clear()
        assert everything() == before
    finally:
        print(daemon.log.read_bytes()[length:].decode(errors="replace"))


@pytest.fixture
def pod(cri: Cri) -> Pod:
    """A pod with a network of its own and the default runtime."""
    return cri.pod()


def start(
    pod: Pod, command: str | list[str] = "exec sleep 1000", security: Message | None = None, **config: Any
) -> str:
    """Create and start a container; its id."""
    container = pod.create(command, IMAGE, security=security or {}, **config)
    pod.cri.call("StartContainer", container_id=container)
    return container


def output(pod: Pod, command: str | list[str], security: Message | None = None, **config: Any) -> str:
    """What a container has written when it has ended well."""
    container = start(pod, command, security, **config)
    status = pod.ended(container)
    assert status["exit_code"] == 0, (status, pod.log(container))
    return pod.log(container)


def state(pod: Pod) -> int:
    """The state of the pod's sandbox."""
    return int(pod.cri.call("PodSandboxStatus", pod_sandbox_id=pod.id)["status"]["state"])


def namespace(process: int, kind: str) -> str:
    return os.readlink(f"/proc/{process}/ns/{kind}")


# A pod's life.


def test_a_pod_with_two_containers(cri: Cri, daemon: Containerd) -> None:
    pod = cri.pod()
    assert state(pod) == READY
    one = pod.create("echo first; exec sleep 1000", IMAGE, security={})
    assert pod.status(one)["state"] == CREATED
    cri.call("StartContainer", container_id=one)
    two = start(pod, "exit 7")
    assert pod.ended(two)["exit_code"] == 7
    status = pod.status(one)
    assert status["state"] == RUNNING
    assert status["finished_at"] == 0 < status["created_at"] < status["started_at"]
    listed = cri.call("ListContainers", filter={"pod_sandbox_id": pod.id})["containers"]
    assert {item["id"]: item["state"] for item in listed} == {one: RUNNING, two: EXITED}
    assert {path.name for path in daemon.states.iterdir()} == {pod.id, one}
    eventually(lambda: pod.log(one) == "first\n", 10, "the log")

    cri.call("RemoveContainer", container_id=two)
    cri.call("StopContainer", container_id=one, timeout=0)
    assert pod.status(one)["exit_code"] == 137
    cri.call("RemoveContainer", container_id=one)
    assert cri.call("ListContainers", filter={"pod_sandbox_id": pod.id})["containers"] == []
    cri.call("StopPodSandbox", pod_sandbox_id=pod.id)
    cri.call("StopPodSandbox", pod_sandbox_id=pod.id)
    assert state(pod) == NOT_READY
    cri.call("RemovePodSandbox", pod_sandbox_id=pod.id)
    assert not list(daemon.states.glob("*"))
    pod.id = ""


def test_a_runtime_class(cri: Cri, daemon: Containerd) -> None:
    pod = cri.pod(CLASS)
    container = start(pod)
    assert {path.name for path in (daemon.base / "class/k8s.io").iterdir()} == {pod.id, container}
    assert cri.call("PodSandboxStatus", pod_sandbox_id=pod.id)["status"]["runtime_handler"] == CLASS
    assert pod.execute(container, "echo hi") == (0, "hi\n", "")


def test_remove_running_pod(pod: Pod) -> None:
    """Removal of a pod takes its running containers along."""
    numbers = [pod.process(start(pod, "sleep 1001 & exec sleep 1000")) for _ in range(2)]
    numbers.append(pod.first())
    pod.remove()
    assert not [number for number in numbers if processes.alive(number)]


def test_a_container_is_started_again(pod: Pod) -> None:
    for _ in range(3):
        container = start(pod, "exit 3")
        assert pod.ended(container)["exit_code"] == 3
        pod.cri.call("RemoveContainer", container_id=container)


@pytest.mark.parametrize(
    ("command", "text"),
    [(["nosuch"], "executable file not found in $PATH"), (["/etc/passwd"], "permission denied")],
    ids=["unknown", "not-executable"],
)
def test_bad_entrypoint(pod: Pod, command: list[str], text: str) -> None:
    container = pod.create(command, IMAGE, security={})
    with pytest.raises(Failure, match=text.replace("$", "[$]")):
        pod.cri.call("StartContainer", container_id=container)
    status = pod.status(container)
    assert (status["state"], status["reason"]) == (EXITED, "StartError")
    assert text in status["message"]


# Namespaces.


def test_namespaces_that_a_pod_shares(pod: Pod) -> None:
    one, two = (pod.process(start(pod)) for _ in range(2))
    for kind in ("net", "ipc", "uts"):
        assert (
            namespace(one, kind) == namespace(two, kind) == namespace(pod.first(), kind) != namespace(os.getpid(), kind)
        )
    for kind in ("pid", "mnt"):
        assert len({namespace(process, kind) for process in (one, two, pod.first(), os.getpid())}) == 4


def test_shared_memory(pod: Pod) -> None:
    start(pod, "echo text >/dev/shm/file; exec sleep 1000")
    assert output(pod, "until grep . /dev/shm/file; do sleep 0.1; done") == "text\n"


def test_process_namespace_of_the_pod(cri: Cri) -> None:
    pod = cri.pod(pid=POD)
    one = start(pod, "exec sleep 1234")
    two = start(pod)
    assert len({namespace(process, "pid") for process in (pod.process(one), pod.process(two), pod.first())}) == 1
    status, out, _ = pod.execute(two, "ps -o pid,args")
    assert status == 0
    assert "sleep 1234" in out
    assert "sleep 1000000" in out.split("\n", 3)[1] or "trap" in out.split("\n", 3)[1]


def test_hunt_in_a_shared_pid_namespace(cri: Cri, scratch: Path) -> None:
    """To a container that may trace the processes it sees, of those that come in (tests/security/test_birth.py)."""
    mark = scratch / "of-the-host"
    mark.touch()
    programs.build("hunt", scratch / "hunt")
    pod = cri.pod(pid=POD)
    security: Message = {"capabilities": {"add_capabilities": ["SYS_PTRACE"]}}
    mounts = [{"container_path": "/hunt", "host_path": f"{scratch}/hunt", "readonly": True}]
    hunter = start(pod, ["/hunt", str(mark), "word-that-is-nowhere", "0"], security, mounts=mounts)
    eventually(lambda: "hunting" in pod.log(hunter), 10, "the hunt's beginning")
    for _ in range(5):
        assert pod.ended(start(pod, "true", security))["exit_code"] == 0
        assert pod.execute(hunter, ["/bin/true"])[0] == 0
    assert pod.log(hunter) == "hunting\n"


def test_network_of_the_pod(pod: Pod) -> None:
    address = pod.cri.call("PodSandboxStatus", pod_sandbox_id=pod.id)["status"]["network"]["ip"]
    start(pod, "nc -l -p 8080 -e echo served")
    other = start(pod)
    assert f"inet {address}/" in pod.execute(other, "ip address show eth0")[1]
    eventually(lambda: pod.execute(other, "nc 127.0.0.1 8080 </dev/null")[1] == "served\n", 20, "an answer")


def test_network_and_processes_of_the_node(cri: Cri) -> None:
    pod = cri.pod(network=NODE, pid=NODE, ipc=NODE)
    container = pod.process(start(pod))
    for kind in ("net", "ipc", "pid"):
        assert namespace(container, kind) == namespace(os.getpid(), kind)


def test_host_name(pod: Pod) -> None:
    assert output(pod, "hostname; cat /etc/hostname").split() == [pod.name] * 2


def test_sysctls_of_the_pod(cri: Cri) -> None:
    sysctls = {"net.ipv4.ip_unprivileged_port_start": "80", "kernel.shm_rmid_forced": "1"}
    pod = cri.pod(sysctls=sysctls)
    command = "cd /proc/sys; cat net/ipv4/ip_unprivileged_port_start kernel/shm_rmid_forced"
    assert output(pod, command).split() == ["80", "1"]


# Commands in a container.


def test_execute(pod: Pod) -> None:
    container = start(pod)
    assert pod.execute(container, "echo out; echo err >&2; exit 5") == (5, "out\n", "err\n")
    assert pod.execute(container, ["true"]) == (0, "", "")
    big = pod.execute(container, "dd if=/dev/zero bs=1M count=3 2>&- | tr '\\0' x")
    assert (big[0], len(big[1]), big[2]) == (0, 3 << 20, "")


def test_execute_takes_too_long(pod: Pod) -> None:
    container = start(pod)
    with pytest.raises(Failure, match=r"timeout|DEADLINE_EXCEEDED"):
        pod.execute(container, "sleep 1234", timeout=1)
    eventually(lambda: "sleep 1234" not in pod.execute(container, "ps -o args")[1], 10, "the command's end")
    assert pod.status(container)["state"] == RUNNING


def test_execute_what_is_not_there(pod: Pod) -> None:
    container = start(pod)
    with pytest.raises(Failure, match="nosuch"):
        pod.execute(container, ["nosuch"])
    assert pod.execute(container, ["true"])[0] == 0


def test_execute_has_the_containers_confinement(pod: Pod) -> None:
    security = {"no_new_privs": True, "seccomp": {"profile_type": RUNTIME_DEFAULT}, "run_as_user": {"value": 1000}}
    container = start(pod, security=security)
    fields = "grep -E '^(NoNewPrivs|Seccomp|Uid|CapBnd):' /proc/self/status"
    own = pod.execute(container, fields)[1]
    first = pod.execute(container, fields.replace("self", "1"))[1]
    assert own == first
    assert "Seccomp:\t2" in own


# Resources.


def test_statistics(pod: Pod) -> None:
    container = start(pod, "head -c 20000000 /dev/zero >/dev/shm/file; exec sleep 1000")

    def grown() -> bool:
        stats = pod.cri.call("ContainerStats", container_id=container)["stats"]
        assert stats["attributes"]["id"] == container
        memory = stats["memory"].get("working_set_bytes", {}).get("value", 0)
        return bool(memory > 0 < stats["cpu"]["usage_core_nano_seconds"]["value"])

    eventually(grown, 20, "figures")


def test_limits_and_their_change(pod: Pod) -> None:
    limits = {"memory_limit_in_bytes": 64 << 20, "cpu_period": 100000, "cpu_quota": 50000, "cpu_shares": 512}
    container = start(pod, resources={**limits, "oom_score_adj": 500})
    place = f"{pod.config['linux']['cgroup_parent']}/{container}"

    def memory() -> int:
        return int(cgroups.read("memory", place, "memory.limit_in_bytes", "memory.max"))

    def quota() -> int:
        return int(cgroups.read("cpu", place, "cpu.cfs_quota_us", "cpu.max").split()[0])

    assert (memory(), quota()) == (64 << 20, 50000)
    assert Path(f"/proc/{pod.process(container)}/oom_score_adj").read_text() == "500\n"
    change = {"memory_limit_in_bytes": 32 << 20, "cpu_period": 100000, "cpu_quota": 25000, "cpu_shares": 1024}
    pod.cri.call("UpdateContainerResources", container_id=container, linux=change)
    assert (memory(), quota()) == (32 << 20, 25000)
    assert pod.status(container)["state"] == RUNNING


def test_out_of_memory(pod: Pod) -> None:
    container = start(pod, "dd if=/dev/zero of=/dev/null bs=64M count=1", resources={"memory_limit_in_bytes": 16 << 20})
    status = pod.ended(container)
    assert status["exit_code"] == 137
    eventually(lambda: pod.status(container)["reason"] == "OOMKilled", 10, "the reason")


# The end of a container.


def test_stop_with_grace(pod: Pod) -> None:
    container = start(pod, "trap 'exit 4' TERM; echo ready; while :; do sleep 0.1; done")
    eventually(lambda: pod.log(container) == "ready\n", 20, "the trap")
    pod.cri.call("StopContainer", container_id=container, timeout=30)
    assert pod.status(container)["exit_code"] == 4


def test_stop_when_the_grace_is_over(pod: Pod) -> None:
    container = start(pod, "trap '' TERM; echo ready; while :; do sleep 0.1; done")
    eventually(lambda: pod.log(container) == "ready\n", 20, "the trap")
    pod.cri.call("StopContainer", container_id=container, timeout=1)
    assert pod.status(container)["exit_code"] == 137


def test_killed_from_outside(pod: Pod) -> None:
    container = start(pod, "sleep 1001 & exec sleep 1000")
    os.kill(pod.process(container), signal.SIGKILL)
    assert pod.ended(container)["exit_code"] == 137


def test_the_sandbox_killed_from_outside(pod: Pod) -> None:
    container = start(pod)
    os.kill(pod.first(), signal.SIGKILL)
    eventually(lambda: state(pod) == NOT_READY, 20, "the sandbox's end")
    assert pod.status(container)["state"] == RUNNING


# The security context.


def test_capabilities(pod: Pod) -> None:
    def effective(**capabilities: list[str]) -> int:
        text = output(pod, "grep CapEff /proc/self/status", {"capabilities": capabilities})
        return int(text.split()[1], 16)

    usual = effective()
    assert usual & 1 << 0  # CAP_CHOWN
    assert not usual & 1 << 21  # CAP_SYS_ADMIN
    assert effective(add_capabilities=["SYS_ADMIN"], drop_capabilities=["CHOWN"]) == usual & ~1 | 1 << 21
    assert effective(add_capabilities=["NET_ADMIN"], drop_capabilities=["ALL"]) == 1 << 12


def test_read_only_root(pod: Pod) -> None:
    text = output(pod, "touch /file 2>&1 || touch /dev/shm/file && echo done", {"readonly_rootfs": True})
    assert "Read-only file system" in text
    assert text.endswith("done\n")


def test_user_and_groups(pod: Pod) -> None:
    security = {"run_as_user": {"value": 1000}, "run_as_group": {"value": 29}, "supplemental_groups": [5, 7]}
    assert output(pod, "id", security) == "uid=1000(user) gid=29(audio) groups=5(tty),7,29(audio)\n"
    assert output(pod, "id -un", {"run_as_username": "daemon"}) == "daemon\n"


def test_no_new_privileges(pod: Pod) -> None:
    command = "grep NoNewPrivs /proc/self/status"
    assert output(pod, command, {"no_new_privs": True}).split()[1] == "1"
    assert output(pod, command).split()[1] == "0"


def test_default_seccomp_profile(pod: Pod) -> None:
    command = "grep Seccomp: /proc/self/status; unshare -m true 2>&1 || true"
    text = output(pod, command, {"seccomp": {"profile_type": RUNTIME_DEFAULT}})
    assert text.split()[:2] == ["Seccomp:", "2"]
    assert "Operation not permitted" in text


def test_seccomp_profile_of_the_node(pod: Pod, scratch: Path) -> None:
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    (scratch / "profile.json").write_text(json.dumps(profile))
    seccomp = {"profile_type": LOCALHOST, "localhost_ref": f"{scratch}/profile.json"}
    assert "Operation not permitted" in output(pod, "mkdir /x 2>&1 || true", {"seccomp": seccomp})


def test_masked_and_read_only_paths(pod: Pod) -> None:
    security = {"masked_paths": ["/proc/meminfo", "/home"], "readonly_paths": ["/etc"]}
    text = output(pod, "wc -c </proc/meminfo; ls /home; touch /etc/x 2>&1 || true", security)
    assert text.split("\n")[0] == "0"
    assert "Read-only file system" in text
    assert "user" not in text


@needs("containerd>=2", "idmapped-mounts")
def test_a_pod_with_a_user_namespace(cri: Cri, daemon: Containerd) -> None:
    """Its root has no rights on the host, its layers have a map of ids, and its users can write to their streams."""
    maps = [{"host_id": 100_000, "container_id": 0, "length": 65536}]
    pod = cri.pod(PLAIN_CLASS, users={"mode": 0, "uids": maps, "gids": maps})
    script = "cat /proc/self/uid_map; touch /new; stat -c %u /bin /new; echo x >/dev/stdout; exec sleep 1000"
    container = start(pod, script)
    eventually(lambda: pod.log(container).endswith("x\n"), 20, "the log")
    assert pod.log(container).split() == ["0", "100000", "65536", "0", "0", "x"]
    assert Path(f"/proc/{pod.process(container)}").stat().st_uid == 100_000
    assert pod.execute(container, "id -u; echo y >/dev/stderr") == (0, "0\n", "y\n")
    user = start(pod, "id -u; echo x >/dev/stdout", {"run_as_user": {"value": 1000}})
    assert pod.ended(user)["exit_code"] == 0
    assert pod.log(user) == "1000\nx\n"
    assert output(pod, "test -t 0 && touch /dev/stdout && echo yes", tty=True).split() == ["yes"]


def test_privileged(cri: Cri) -> None:
    pod = cri.pod(security_context={"privileged": True})
    text = output(
        pod, "mkdir /m; mount -t tmpfs t /m; grep -c ' /m ' /proc/mounts; test -c /dev/full", {"privileged": True}
    )
    assert text == "1\n"


# What is in a container.


def test_environment_arguments_and_working_directory(pod: Pod) -> None:
    config: Message = {"envs": [{"key": "ONE", "value": "a b"}], "args": ["x y"], "working_dir": "/home"}
    assert output(pod, ["sh", "-c", "echo $ONE; pwd; echo $0"], **config) == "a b\n/home\nx y\n"


def test_volumes(pod: Pod, scratch: Path) -> None:
    for name in ("rw", "ro"):
        (scratch / name).mkdir()
        (scratch / name / "file").write_text(f"{name}\n")
    mounts = [
        {"container_path": "/new/rw", "host_path": f"{scratch}/rw"},
        {"container_path": "/ro", "host_path": f"{scratch}/ro", "readonly": True},
    ]
    text = output(pod, "cat /new/rw/file /ro/file; echo made >/new/rw/made; ! echo x 2>&1 >/ro/x", mounts=mounts)
    assert text.startswith("rw\nro\n")
    assert "Read-only file system" in text
    assert (scratch / "rw/made").read_text() == "made\n"


def test_propagation_of_mounts(cri: Cri, scratch: Path) -> None:
    pod = cri.pod(security_context={"privileged": True})
    for propagation in PRIVATE, FROM_THE_HOST, BOTH_WAYS:
        volume = scratch / f"volume{propagation}"
        for name in ("own", "host"):
            (volume / name).mkdir(parents=True)
        mount = {"container_path": "/v", "host_path": str(volume), "propagation": propagation}
        container = start(pod, security={"privileged": True}, mounts=[mount])
        assert pod.execute(container, "mount -t tmpfs t /v/own")[0] == 0
        assert os.path.ismount(volume / "own") == (propagation == BOTH_WAYS)
        assert pod.execute(container, "umount /v/own")[0] == 0
        namespaces.mount("t", str(volume / "host"), "tmpfs")
        seen = "/v/host" in pod.execute(container, "cat /proc/mounts")[1]
        namespaces.unmount(str(volume / "host"))
        assert seen == (propagation != PRIVATE)


def test_terminal(pod: Pod) -> None:
    container = start(pod, "test -t 0 && test -t 1 && stty -a | head -1; exec sleep 1000", tty=True)
    eventually(lambda: "speed" in pod.log(container), 10, "the terminal's settings")
    assert pod.execute(container, "readlink /proc/1/fd/0")[1].startswith("/dev/pts/")


@pytest.mark.parametrize("daemon", ["shim"], indirect=True)
def test_the_shim_of_a_pod_at_rest(cri: Cri) -> None:
    """Has little memory of its own, whatever its options, and whatever its template has done before."""
    for _ in range(2):
        cri.pod().remove()
    pod = cri.pod()
    start(pod)
    shim = shim_of(pod)
    eventually(lambda: processes.anonymous_memory(shim) < 2400, 10, "less memory")


@pytest.mark.parametrize("daemon", ["shim"], indirect=True)
def test_the_shim_of_a_pod_after_many_commands_and_containers(cri: Cri) -> None:
    """What they have taken is given back: a probe may be executed every second, for months."""
    pod = cri.pod()
    first = start(pod)

    def live(execs: int, containers: int) -> None:
        for _ in range(execs):
            assert pod.execute(first, ["true"])[0] == 0
        for _ in range(containers):
            with pytest.raises(Failure, match="nosuch"):
                pod.execute(first, ["nosuch"])
            container = start(pod, "exit 3")
            assert pod.ended(container)["exit_code"] == 3
            cri.call("ContainerStats", container_id=first)
            cri.call("RemoveContainer", container_id=container)

    shim = shim_of(pod)
    live(20, 80)  # more than a shim remembers
    memory, descriptors = processes.anonymous_memory(shim), descriptors_of(shim)
    live(200, 60)
    eventually(lambda: processes.anonymous_memory(shim) - memory < 200, 10, "as little memory as before")
    eventually(lambda: descriptors_of(shim) <= descriptors, 10, "as few descriptors as before")


def shim_of(pod: Pod) -> int:
    """The shim of our own that a pod has."""
    title = f"containerd-shim-gosudacon-v1\0-namespace\0k8s.io\0-id\0{pod.id}\0".encode()
    (shim,) = (path for path in Path("/proc").glob("[0-9]*/cmdline") if path.read_bytes().startswith(title))
    return int(shim.parent.name)


def descriptors_of(process: int) -> int:
    return len(os.listdir(f"/proc/{process}/fd"))
