"""What a container shares with the host, and how grave that is: `explain`'s end. Pure."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from gosudacon.container import risk, shared, summary
from gosudacon.container.template import default_spec
from gosudacon.pipeline.spec import Host, Options, Spec


def confined() -> Any:
    """A configuration that shares as little as can be."""
    config: Any = default_spec(cgroup_v2=True)
    linux = config["linux"]
    linux["seccomp"] = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": []}
    linux["namespaces"] = [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup", "user")]
    linux["uidMappings"] = linux["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    linux["resources"] = {"memory": {"limit": 1 << 30}, "pids": {"limit": 100}, "cpu": {"quota": 50000}}
    return config


def found(config: Any, host: Host | None = None, options: Options | None = None) -> dict[str, risk.Reason]:
    return {each.name: each for each in shared.find(Spec(config, "c", "/b", options), host or Host())}


def test_nothing() -> None:
    assert found(confined()) == {}
    assert summary.as_json([])["risk"] == {"level": "none", "reasons": []}


def namespace(kind: str, path: str | None = None) -> Callable[[Any], None]:
    def change(config: Any) -> None:
        spaces = config["linux"]["namespaces"]
        spaces[:] = [each for each in spaces if each["type"] != kind]
        if path:
            spaces.append({"type": kind, "path": path})

    return change


def mount(source: str, *options: str, type: str = "bind", at: str = "/x") -> Callable[[Any], None]:
    entry = {"destination": at, "type": type, "source": source, "options": [*options]}
    return lambda config: config["mounts"].append(entry)


def linux(**values: object) -> Callable[[Any], None]:
    return lambda config: config["linux"].update(values)


def process(**values: object) -> Callable[[Any], None]:
    return lambda config: config["process"].update(values)


def device(*rules: dict[str, object]) -> Callable[[Any], None]:
    return lambda config: config["linux"]["resources"].update(devices=[*rules])


def host_root(config: Any) -> None:
    """Without the user namespace."""
    namespace("user")(config)
    del config["linux"]["uidMappings"], config["linux"]["gidMappings"]


CASES: list[tuple[Callable[[Any], None], str, str, str]] = [
    (namespace("mount"), "namespace.mount", "critical", "high"),
    (namespace("pid"), "namespace.pid", "high", "medium"),
    (namespace("pid", "/proc/1/ns/pid"), "namespace.pid", "high", "medium"),
    (namespace("network"), "namespace.network", "high", "medium"),
    (namespace("network", "/run/netns/x"), "namespace.joined", "low", "low"),
    (namespace("ipc"), "namespace.ipc", "medium", "medium"),
    (namespace("uts"), "namespace.uts", "low", "low"),
    (namespace("cgroup"), "namespace.cgroup", "low", "low"),
    (mount("/data", "rbind"), "mount.writable", "low", "low"),
    (mount("/data", "ro", "rw"), "mount.writable", "low", "low"),
    (mount("/usr/../etc"), "mount.system", "critical", "high"),
    (mount("/"), "mount.system", "critical", "high"),
    (mount("/root", "ro"), "mount.readable", "medium", "low"),
    (mount("/var/run/docker.sock", "ro"), "mount.engine", "critical", "critical"),
    (mount("/dev/sdb1", type="ext4"), "mount.filesystem", "medium", "low"),
    (mount("/dev/kvm"), "device.other", "medium", "medium"),
    (linux(maskedPaths=[]), "mount.unmasked", "medium", "low"),
    (device({"allow": True, "access": "rwm"}), "device.all", "critical", "low"),
    (device({"allow": True, "type": "b", "major": 8, "access": "r"}), "device.block", "critical", "high"),
    (device({"allow": True, "type": "c", "major": 1, "minor": 1, "access": "r"}), "device.memory", "critical", "high"),
    (
        device({"allow": True, "type": "c", "major": 10, "minor": 232, "access": "rw"}),
        "device.other",
        "medium",
        "medium",
    ),
    (process(capabilities={"bounding": ["CAP_SYS_ADMIN"]}), "capability.root", "critical", "low"),
    (process(capabilities={"bounding": ["CAP_SYS_BOOT"]}), "capability.machine", "high", "low"),
    (process(capabilities={"bounding": ["CAP_NET_ADMIN"]}), "capability.other", "medium", "low"),
    (lambda config: config["process"].pop("capabilities"), "capability.all", "critical", "low"),
    (lambda config: config["linux"].pop("seccomp"), "seccomp.none", "medium", "low"),
    (linux(seccomp={"defaultAction": "SCMP_ACT_ALLOW"}), "seccomp.allows", "low", "low"),
    (process(user={"uid": 5, "gid": 5}, noNewPrivileges=False), "no-new-privs", "medium", "low"),
    (lambda config: config["linux"]["resources"].pop("memory"), "limit.memory", "medium", "medium"),
    (lambda config: config["linux"]["resources"].pop("pids"), "limit.pids", "medium", "medium"),
    (lambda config: config["linux"]["resources"].update(cpu={"quota": -1}), "limit.cpu", "low", "low"),
]


@pytest.mark.parametrize(("change", "name", "level", "milder"), CASES)
def test_each_reason(change: Callable[[Any], None], name: str, level: str, milder: str) -> None:
    """Alone it has its milder level in a user namespace, and the other one without."""
    config = confined()
    change(config)
    reasons = found(config)
    assert list(reasons) == [name]
    assert reasons[name].level == milder
    host_root(config)
    assert found(config)[name].level == level


def test_root_of_the_host() -> None:
    """Without a user namespace: what only the host's root can do."""
    config = confined()
    host_root(config)
    assert list(found(config)) == ["namespace.user"]
    config["linux"]["readonlyPaths"] = []
    mount("sysfs", type="sysfs")(config)
    namespace("cgroup")(config)
    mount("cgroup", type="cgroup", at="/sys/fs/cgroup")(config)
    wanted = {"mount.proc-sys", "mount.sysrq", "mount.sysfs", "mount.cgroup"}
    assert wanted <= {*found(config)}
    config["process"]["user"] = {"uid": 7, "gid": 7}
    assert wanted.isdisjoint(found(config)), "with no_new_privs no process becomes root"
    assert wanted.isdisjoint(found(config, Host(euid=1000)))


def test_the_hosts_root_that_is_mapped() -> None:
    config = confined()
    config["linux"]["uidMappings"] = [{"containerID": 0, "hostID": 0, "size": 1}]
    mount("/etc")(config)
    reasons = found(config)
    assert (reasons["mount.system"].level, reasons["namespace.user"].where) == ("critical", "linux.uidMappings")


def test_capabilities_that_cannot_be_had() -> None:
    """A user who is not root, with no_new_privs: only ambient capabilities survive execve(2)."""
    config = confined()
    process(user={"uid": 5, "gid": 5}, capabilities={"bounding": ["CAP_SYS_ADMIN"]})(config)
    assert found(config) == {}
    config["process"]["capabilities"]["ambient"] = ["CAP_SYS_ADMIN"]
    assert [*found(config)] == ["capability.root"]


def test_usual_things_are_none() -> None:
    config = confined()
    mount("/b/data")(config)
    mount("/dev/null")(config)
    mount("/usr", "ro")(config)
    device({"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rw"})(
        config
    )
    assert [*found(config)] == ["mount.writable"]
    config["linux"]["resources"]["devices"].insert(0, {"allow": True, "access": "rwm"})
    assert "device.all" not in found(config), "what comes later counts"


def test_security_modules_and_no_cgroups() -> None:
    assert [*found(confined(), Host(apparmor=True))] == ["label"]
    options = Options(cgroup_manager="disabled")
    assert {*found(confined(), options=options)} == {"limit.memory", "limit.pids", "limit.cpu"}


def test_unified_limits_count() -> None:
    config = confined()
    unified = {"memory.max": "5", "pids.max": "max", "cpu.max": "max 100000"}
    config["linux"]["resources"] = {"unified": unified}
    assert {*found(config)} == {"limit.pids", "limit.cpu"}


def test_every_reason_is_tested() -> None:
    tested = {name for _, name, _, _ in CASES} | {"namespace.user", "label"}
    tested |= {"mount.proc-sys", "mount.sysrq", "mount.sysfs", "mount.cgroup"}
    assert tested == set(risk.REASONS)


def test_five_lines_that_fit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    config = copy.deepcopy(confined())
    host_root(config)
    for number in range(30):
        mount(f"/srv/a-rather-long-name/{number}")(config)
    mount("/very" * 50 + "\n")(config)
    summary.show(shared.find(Spec(config, "c", "/b"), Host()))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "shared with the host"
    assert [line.split()[0] for line in lines[2:7]] == list(risk.TOPICS)
    assert all(len(line) <= 80 and line == line.rstrip() for line in lines)
    assert "more" in lines[3] and lines[7] == "risk medium: uid 0 is the host's root"


def test_a_threshold_has_its_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    config = confined()
    namespace("pid")(config)
    reasons = shared.find(Spec(config, "c", "/b"), Host())
    summary.show(reasons, "medium")
    assert "reaches medium" in (text := capsys.readouterr().out)
    assert "the host's pid: it sees every process" in " ".join(text.split())
    summary.show(reasons, "critical")
    assert "below critical" in capsys.readouterr().out
    assert summary.exceeds(reasons, "low") and not summary.exceeds(reasons, "high") and not summary.exceeds(reasons, "")


def test_the_threshold_none(capsys: pytest.CaptureFixture[str]) -> None:
    """It lists everything and is never reached."""
    config = confined()
    namespace("uts")(config)
    reasons = shared.find(Spec(config, "c", "/b"), Host())
    summary.show(reasons, "none")
    assert "low      the host's uts" in capsys.readouterr().out
    assert not summary.exceeds(reasons, "none")
