"""The plugin policy without a container: what each demand finds, and the documented rules against what engines make."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gosudacon.api import ADD_MOUNTS, EXEC, REMOVE_MOUNTS, RESTORE, UPDATE, ConfigError, Host, SettingsError, Spec
from gosudacon.pipeline import plan as plans
from gosudacon.pipeline.registry import Registry, registry
from gosudacon.plugins.policy import Policy, facts, gosudacon_gather_facts, patterns
from tests.support.runtime import CHECKOUT

if TYPE_CHECKING:
    from typing import Any

CORPUS = CHECKOUT / "tests/unit/policy_corpus"
DOCUMENTED = re.search(r"```toml\n(.*?)```", (CHECKOUT / "docs/policy.md").read_text(), re.DOTALL)


def spec(config: Any, operation: str = "create") -> Spec:
    return Spec(config, "web", "/bundle", operation=operation)


def judged(config: Any, operation: str = "create", host: Host | None = None, **rule: Any) -> list[str]:
    """What breaks a rule of these demands: place and what is wrong."""
    rule = {"name": "r", "message": "m", **{name.replace("_", "-"): value for name, value in rule.items()}}
    return refused({"rule": [rule]}, config, operation, host)


def refused(settings: Any, config: Any, operation: str = "create", host: Host | None = None) -> list[str]:
    stage = Policy()
    stage.settings = settings
    try:
        assert list(stage.plan(spec(config, operation), host or Host())) == []
    except ConfigError as error:
        texts = [f"{each['where']}: {each['message']}" for each in error.problems]
        assert error.message == "refused by the policy of this host: " + "; ".join(texts)
        assert error.where == error.problems[0]["where"]
        return [text.replace(": m: ", ": ").replace(" (policy: r)", "") for text in texts]
    return []


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        *(("a", "a", True), ("a", "ab", False), ("*", "", True), ("*", "x/y", True), ("a*", "a", True)),
        *(("*a", "ba", True), ("a*a", "a", False), ("a*a", "aa", True), ("a*b*c", "axxbyyc", True)),
        *(("a*b*c", "acb", False), ("a*bc*c", "abc", False), ("", "", True), ("", "a", False)),
    ],
)
def test_patterns(pattern: str, text: str, fits: bool) -> None:
    assert patterns.matches(pattern, text) is fits


# What must be.


@pytest.mark.parametrize(
    ("word", "good", "bad", "said"),
    [
        (
            "no-new-privileges",
            {"process": {"noNewPrivileges": True}},
            {"process": {}},
            "process.noNewPrivileges: is not true",
        ),
        (
            "non-root-user",
            {"process": {"user": {"uid": 7}}},
            {"process": {"user": {"uid": 0}}},
            "process.user.uid: is 0",
        ),
        (
            "access-control",
            {"process": {"apparmorProfile": "docker-default"}},
            {"process": {"apparmorProfile": "unconfined"}},
            "process.apparmorProfile: is 'unconfined', and there is no selinuxLabel",
        ),
        (
            "access-control",
            {"process": {"selinuxLabel": "system_u:system_r:container_t:s0"}},
            {},
            "process.apparmorProfile: is ''",
        ),
        (
            "seccomp",
            {"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ERRNO"}}},
            {"linux": {"seccomp": {"defaultAction": "SCMP_ACT_LOG", "syscalls": [{"action": "SCMP_ACT_ALLOW"}]}}},
            "linux.seccomp: denies no system call",
        ),
        (
            "seccomp",
            {"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_KILL"}]}}},
            {},
            "linux.seccomp: is not there",
        ),
        (
            "user-namespace",
            {"linux": {"namespaces": [{"type": "user"}]}},
            {"linux": {"namespaces": [{"type": "pid"}]}},
            "linux.namespaces: has no user namespace but the host's",
        ),
        ("read-only-root", {"root": {"readonly": True}}, {"root": {"path": "x"}}, "root.readonly: is not true"),
        (
            "masked-paths",
            {
                "linux": {
                    "maskedPaths": ["/proc/keys", "/proc/kcore"],
                    "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"],
                }
            },
            {"linux": {"maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"]}},
            "linux.maskedPaths: has no /proc/keys",
        ),
    ],
)
def test_what_must_be(word: str, good: Any, bad: Any, said: str) -> None:
    assert judged(good, require=[word]) == []
    (found,) = judged(bad, require=[word])
    assert found.startswith(said)


def test_the_user_namespace_of_a_rootless_caller_is_one() -> None:
    assert judged({}, host=Host(initial_userns=False, euid=0), require=["user-namespace"]) == []


def test_a_user_namespace_with_the_host_s_root_in_it() -> None:
    maps = [{"containerID": 1, "hostID": 100000, "size": 9}, {"containerID": 0, "hostID": 0, "size": 1}]
    config = {"linux": {"namespaces": [{"type": "user"}], "uidMappings": maps, "gidMappings": maps[:1]}}
    assert judged(config, require=["user-namespace"]) == ["linux.uidMappings[1]: maps the host's root"]


def test_limits() -> None:
    wanted: Any = {"memory": "1g", "pids": 100, "cpus": 1.5}
    good = {"memory": {"limit": 1 << 30}, "pids": {"limit": 100}, "cpu": {"quota": 75000, "period": 50000}}
    assert judged({"linux": {"resources": good}}, limits=wanted) == []
    assert judged({"linux": {"resources": good}}, UPDATE, limits=wanted) == []
    bad = {"memory": {"limit": (1 << 30) + 1}, "pids": {"limit": -1}, "cpu": {"quota": 200000}}
    assert judged({"linux": {"resources": bad}}, UPDATE, limits=wanted) == [
        "linux.resources.memory.limit: is 1073741825, more than 1073741824",
        "linux.resources.pids.limit: is not set",
        "linux.resources.cpu.quota: is 2, more than 1.5",
    ]
    assert judged({"linux": {"resources": bad}}, limits={"cpus": True, "memory": True}) == []
    assert len(judged({}, limits=wanted)) == 3


@pytest.mark.parametrize(
    ("unified", "said"),
    [
        ({"memory.max": "max"}, ["linux.resources.unified.memory.max: is not set"]),
        ({"memory.max": "4096", "pids.max": " 3\n", "cpu.max": "50000 100000"}, []),
        ({"pids.max": "101"}, ["linux.resources.unified.pids.max: is 101, more than 100"]),
        ({"cpu.max": "max 100000"}, ["linux.resources.unified.cpu.max: is not set"]),
        ({"cpu.max": "200000"}, ["linux.resources.unified.cpu.max: is 2, more than 1"]),
    ],
)
def test_the_last_word_on_limits(unified: Any, said: list[str]) -> None:
    resources = {"memory": {"limit": 1}, "pids": {"limit": 1}, "cpu": {"quota": 1}, "unified": unified}
    wanted: Any = {"memory": "8k", "pids": 100, "cpus": 1}
    assert judged({"linux": {"resources": resources}}, limits=wanted) == said
    assert judged({"linux": {"resources": resources}}, host=Host(cgroup_mode="hybrid"), limits=wanted) == []


def test_annotations_that_must_not_be() -> None:
    config = {"annotations": {"org.systemd.property.MemoryMax": "uint64 1", "a": "b"}}
    assert judged(config, deny_annotations=["org.systemd.*"]) == [
        "annotations.org.systemd.property.MemoryMax: is there"
    ]


def test_labels() -> None:
    config = {"annotations": {"org.example.owner": "team-a"}}
    assert judged(config, labels={"org.example.owner": "team-*"}) == []
    assert judged(config, labels={"org.example.owner": "x*", "y": "*"}) == [
        "annotations.org.example.owner: is 'team-a', not x*",
        "annotations: has no y",
    ]


# What must not be.


def test_capabilities() -> None:
    sets = {"bounding": ["CAP_KILL", "CAP_SYS_ADMIN"], "ambient": ["CAP_SYS_ADMIN", "CAP_BPF"], "effective": []}
    config = {"process": {"capabilities": sets}}
    assert judged(config, allow_capabilities=["kill"]) == [
        "process.capabilities.bounding: has CAP_SYS_ADMIN",
        "process.capabilities.ambient: has CAP_BPF",
    ]
    assert judged(config, deny_capabilities=["CAP_SYS_*"]) == ["process.capabilities.bounding: has CAP_SYS_ADMIN"]
    assert judged(config, deny_capabilities=["NET_ADMIN"]) == []
    assert judged({"process": {}}, deny_capabilities=["BPF"]) == [
        "process.capabilities: is absent, which leaves root all of them"
    ]


def bind(source: str, *options: str, **more: Any) -> dict[str, Any]:
    return {"destination": "/x", "type": "bind", "source": source, "options": ["rbind", *options], **more}


@pytest.mark.parametrize(
    ("mount", "said"),
    [
        (bind("/etc"), "mounts[0].source: is /etc"),
        (bind("/etc/passwd"), "mounts[0].source: is /etc/passwd, and /etc is denied"),
        (bind("/"), "mounts[0].source: is /, and /etc is denied"),
        (bind("/srv/../etc//"), "mounts[0].source: is /etc"),
        (bind("../etc"), "mounts[0].source: is /etc"),
        ({"destination": "/x", "source": "/etc", "options": ["bind"]}, "mounts[0].source: is /etc"),
        (
            {"type": "overlay", "source": "overlay", "options": ["lowerdir=/srv/a\\:b:/etc", "upperdir=/srv/u"]},
            "mounts[0].options[0]: is /etc",
        ),
        ({"type": "ext4", "source": "/etc/disk"}, "mounts[0].source: is /etc/disk, and /etc is denied"),
        (bind("/etcetera"), ""),
        (bind("/srv"), ""),
        ({"type": "tmpfs", "source": "/etc"}, ""),
        ({"type": "proc", "source": "proc"}, ""),
    ],
)
def test_denied_paths(mount: Any, said: str) -> None:
    config = {"mounts": [mount], "root": {"path": "/var/lib/x"}}
    assert judged(config, deny_paths=["/etc"]) == ([said] if said else [])
    assert judged(config, ADD_MOUNTS, deny_paths=["/etc"]) == ([said] if said else [])


def test_denied_paths_in_the_root_filesystem() -> None:
    assert judged({"root": {"path": "/"}}, deny_paths=["/etc"]) == ["root.path: is /, and /etc is denied"]
    assert judged({"root": {"path": "/var/lib/docker/x"}}, deny_paths=["/var/lib"]) == []


def test_allowed_paths() -> None:
    config = {"mounts": [bind("/srv/a", "ro"), bind("/srv"), bind("/srvx"), bind("/data", "rw", "ro"), bind("/")]}
    assert [each.split(":")[0] for each in judged(config, allow_paths=["/srv"])] == [
        f"mounts[{n}].source" for n in (2, 3, 4)
    ]
    assert judged(config, allow_writable_paths=["/srvx"]) == [
        "mounts[1].source: is /srv, and can be written to",
        "mounts[4].source: is /, and can be written to",
    ]


def test_links_are_followed(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/etc")
    root = tmp_path / "root"
    root.symlink_to("/")
    made = spec({"mounts": [bind(f"{link}"), bind("/no/such")], "root": {"path": str(root)}})
    found = gosudacon_gather_facts(made)
    host = Host(facts={"policy": found})
    assert judged(made.config, host=host, deny_paths=["/etc"]) == [
        f"mounts[0].source: is {link}, which is /etc",
        "root.path: is /, and /etc is denied",
    ]
    assert judged(made.config, host=host, allow_paths=["/no", str(tmp_path)])[0].startswith("mounts[0].source")
    assert judged(made.config, host=host, allow_roots=[str(tmp_path)]) == ["root.path: is /"]


def test_looking_at_a_path_opens_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert facts.leads_to(f"{tmp_path}/pipe") == f"{tmp_path}/pipe"
    assert facts.leads_to("/no/such") == facts.leads_to("a\0b") == ""


def test_roots() -> None:
    assert judged({"root": {"path": "/etc"}}, allow_roots=["/var/lib"]) == ["root.path: is /etc"]
    assert judged({"root": {"path": "rootfs"}}, allow_roots=["/bundle"]) == []


def test_filesystems() -> None:
    config = {"mounts": [bind("/x"), {"type": "tmpfs"}, {"type": "ext4", "source": "/dev/sda"}]}
    assert judged(config, allow_filesystems=["tmpfs"]) == ["mounts[2].type: is 'ext4'"]
    assert judged(config, ADD_MOUNTS, deny_filesystems=["tmpfs"]) == ["mounts[1].type: is 'tmpfs'"]


def test_host_namespaces() -> None:
    config = {"linux": {"namespaces": [{"type": "pid"}, {"type": "network", "path": "/proc/self/ns/net"}]}}
    host = Host(facts={"policy": gosudacon_gather_facts(spec(config))})
    assert judged(config, host=host, deny_host_namespaces=["pid", "network", "ipc"]) == [
        "linux.namespaces[1].path: the network namespace is the host's",
        "linux.namespaces: the ipc namespace is the host's",
    ]
    assert judged(config, host=Host(facts={"policy": {"host_namespaces": []}}), deny_host_namespaces=["network"]) == []
    assert judged({}, host=Host(initial_userns=False), deny_host_namespaces=["user"]) == []


def rule(text: str, access: str = "rwm", allow: bool = True) -> dict[str, Any]:
    kind, _, numbers = text.partition(" ")
    major, _, minor = numbers.partition(":")
    found = {"allow": allow, "type": kind, "access": access}
    return found | {name: int(value) for name, value in (("major", major), ("minor", minor)) if value not in ("", "*")}


def node(path: str, text: str) -> dict[str, Any]:
    return {"path": path, **{name: value for name, value in rule(text).items() if name not in ("allow", "access")}}


def devices(nodes: list[Any], *rules: Any) -> dict[str, Any]:
    return {"linux": {"devices": nodes, "resources": {"devices": list(rules)}}}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            devices([], rule("a", allow=False), rule("c 1:3"), rule("c 136:*"), rule("c *:*", "m"), rule("b *:*", "m")),
            [],
        ),
        (devices([node("/dev/fuse", "c 10:229")], rule("c 10:229")), []),
        (devices([node("/dev/x", "c 10:200")], rule("c 10:200", "rw")), []),
        (devices([node("/dev/x", "b 8:0")]), ["linux.devices[0].path: is /dev/x, b 8:0"]),
        (devices([], rule("a")), ["linux.resources.devices[0]: allows every device"]),
        (devices([], rule("b *:*")), ["linux.resources.devices[0]: allows every block device"]),
        (devices([], {"allow": True}), ["linux.resources.devices[0]: allows every device"]),
        (devices([], rule("c 10:*")), ["linux.resources.devices[0]: allows c 10:*"]),
        (devices([], rule("a"), rule("a", allow=False)), []),
        (devices([{"path": "/dev/p", "type": "p"}]), []),
    ],
)
def test_allowed_devices(config: Any, said: list[str]) -> None:
    assert judged(config, allow_devices=["/dev/fuse", "c 10:200"]) == said
    assert judged(config, UPDATE, allow_devices=["/dev/fuse", "c 10:200"]) == said


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (devices([node("/dev/mem", "c 1:1")], rule("c 1:1", "r")), 2),
        (devices([node("/dev/memory", "c 1:1")]), 1),
        (devices([node("/dev/mem", "c 9:9")]), 1),
        (devices([], rule("a")), 1),
        (devices([], rule("b 8:0")), 1),
        (devices([], rule("c 1:*")), 1),
        (devices([], rule("c *:*", "m"), rule("c 1:3")), 0),
    ],
)
def test_denied_devices(config: Any, count: int) -> None:
    assert len(judged(config, deny_devices=["/dev/mem", "c 1:1", "b *:*"])) == count


def test_sysctls_and_hooks() -> None:
    config = {
        "linux": {"sysctl": {"net.ipv4.ip_forward": "1", "kernel/shmmax": "1"}},
        "hooks": {"prestart": [{"path": "/proc/47/exe"}], "poststop": [{"path": "/usr/../tmp/x"}]},
    }
    assert judged(config, allow_sysctls=["net.*"]) == ["linux.sysctl.kernel/shmmax: is set"]
    assert judged(config, allow_hooks=["/proc/*/exe", "/usr/*"]) == ["hooks.poststop[0].path: is /tmp/x"]


# Which operation, which rule.


def test_exec_is_judged_by_its_process() -> None:
    demands: Any = {
        "require": ["no-new-privileges", "seccomp", "read-only-root"],
        "deny_paths": ["/etc"],
        "deny_capabilities": ["SYS_ADMIN"],
        "limits": {"pids": 1},
    }
    config = {"process": {"capabilities": {"bounding": ["CAP_SYS_ADMIN"]}}, "mounts": [bind("/etc")]}
    assert judged(config, EXEC, **demands) == [
        "process.noNewPrivileges: is not true",
        "process.capabilities.bounding: has CAP_SYS_ADMIN",
    ]
    assert len(judged(config, RESTORE, **demands)) == len(judged(config, **demands)) == 6
    assert judged(config, UPDATE, **demands) == ["linux.resources.pids.limit: is not set"]
    assert judged(config, ADD_MOUNTS, **demands) == ["mounts[0].source: is /etc"]


def test_removing_mounts_breaks_nothing() -> None:
    stage = Policy()
    stage.settings = {"rule": [{"name": "r", "message": "m", "deny-paths": ["/"]}]}
    assert list(stage.plan_mounts(spec({"mounts": [bind("/etc")]}, REMOVE_MOUNTS), Host())) == []


def test_together_only_what_breaks_all_demands() -> None:
    demands: Any = {"require": ["seccomp"], "deny_capabilities": ["SYS_ADMIN"], "together": True}
    filter = {"seccomp": {"defaultAction": "SCMP_ACT_ERRNO"}}
    process = {"capabilities": {"bounding": ["CAP_SYS_ADMIN"]}}
    assert judged({"process": process, "linux": filter}, **demands) == []
    assert judged({"process": {"capabilities": {}}}, **demands) == []
    assert len(judged({"process": process}, **demands)) == 2
    assert judged({"process": process, "linux": filter}, EXEC, **demands) == []
    assert len(judged({"process": process}, EXEC, **demands)) == 2  # the container's filter counts for its processes


def test_together_each_word_of_require_counts_for_itself() -> None:
    demands: Any = {"require": ["seccomp", "non-root-user"], "deny_capabilities": ["SYS_ADMIN"], "together": True}
    process = {"capabilities": {"bounding": ["CAP_SYS_ADMIN"]}}
    filter = {"seccomp": {"defaultAction": "SCMP_ACT_ERRNO"}}
    for operation in ("create", EXEC):
        assert judged({"process": process, "linux": filter}, operation, **demands) == []
        assert judged({"process": {**process, "user": {"uid": 1}}}, operation, **demands) == []
        assert len(judged({"process": process}, operation, **demands)) == 3


def test_together_with_what_the_operation_does_not_change() -> None:
    demands: Any = {"deny_host_namespaces": ["pid"], "deny_capabilities": ["SYS_PTRACE"], "together": True}
    config = {"process": {"capabilities": {"bounding": ["CAP_SYS_PTRACE"]}}}
    assert judged(config, EXEC, **demands) == ["process.capabilities.bounding: has CAP_SYS_PTRACE"]
    assert judged({**config, "linux": {"namespaces": [{"type": "pid"}]}}, EXEC, **demands) == []
    assert judged(config, UPDATE, **demands) == []


RULES = [
    {"name": "a", "message": "first", "require": ["seccomp"]},
    {"name": "b", "message": "second", "require": ["read-only-root"], "mode": "report"},
]


def test_all_that_is_wrong_is_said_at_once() -> None:
    both = [{**rule, "mode": "enforce"} for rule in RULES]
    assert refused({"rule": both}, {}) == [
        "linux.seccomp: first: is not there (policy: a)",
        "root.readonly: second: is not true (policy: b)",
    ]


def test_what_is_only_reported() -> None:
    stage = Policy()
    stage.settings = {"mode": "report", "rule": RULES}
    plan = plans.make([stage], spec({}), Host())
    assert plan.steps == []
    assert [warning.describe() for warning in plan.warnings] == [
        "linux.seccomp: first: is not there (policy: a)",
        "root.readonly: second: is not true (policy: b)",
    ]
    stage.settings = {"rule": RULES}
    with pytest.raises(ConfigError, match="first") as caught:
        plans.make([stage], spec({}), Host())
    assert "second" not in caught.value.message


@pytest.mark.parametrize(("value", "said"), [("kube-system", 1), ("infra-7", 1), ("default", 2), ("kube-system2", 2)])
def test_exceptions(value: str, said: int) -> None:
    rules = [{**rule, "mode": "enforce"} for rule in RULES]
    exception = {"annotation": "ns", "values": ["kube-system", "infra-*"], "rules": ["b"]}
    settings = {"rule": rules, "exception": [exception]}
    assert len(refused(settings, {"annotations": {"ns": value}})) == said
    assert len(refused(settings, {"annotations": {"other": value}})) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "rule must be a list of tables"),
        ({"rules": []}, "rules is not a setting"),
        ({"mode": "warn", "rule": RULES}, "mode must be one of enforce, report"),
        ({"rule": [1]}, r"rule\[0\] must be a table"),
        ({"rule": [{"name": "a", "message": "m"}]}, r"rule\[0\] demands nothing"),
        ({"rule": [{"name": "a", "require": ["seccomp"]}]}, r"rule\[0\].message must be a string"),
        ({"rule": [{**RULES[0], "name": ""}]}, r"rule\[0\].name must be a string, and not empty"),
        ({"rule": [RULES[0], RULES[0]]}, "rule has one name twice: a"),
        ({"rule": [{**RULES[0], "deny-path": ["/"]}]}, r"rule\[0\].deny-path is not known"),
        ({"rule": [{**RULES[0], "require": ["secomp"]}]}, r"rule\[0\].require has the unknown word 'secomp'"),
        ({"rule": [{**RULES[0], "require": "seccomp"}]}, r"rule\[0\].require must be a list of strings"),
        ({"rule": [{**RULES[0], "deny-paths": ["etc"]}]}, r"must be absolute paths, not 'etc'"),
        ({"rule": [{**RULES[0], "limits": {"cpu": 1}}]}, "has the unknown limit 'cpu'"),
        ({"rule": [{**RULES[0], "limits": {"pids": "x"}}]}, "has pids = 'x'"),
        ({"rule": [{**RULES[0], "limits": {"memory": "4x"}}]}, "must be a size such as 512m"),
        ({"rule": [{**RULES[0], "limits": {"memory": False}}]}, "must be a size such as 512m"),
        ({"rule": [{**RULES[0], "labels": {"a": 1}}]}, "must be a table of strings"),
        ({"rule": [{**RULES[0], "deny-devices": ["c 10"]}]}, "'c 10', which is neither an absolute path nor like"),
        ({"rule": [{**RULES[0], "deny-host-namespaces": ["net"]}]}, "has the unknown word 'net'"),
        ({"rule": [{**RULES[0], "together": 1}]}, "together must be true or false"),
        (
            {"rule": RULES, "exception": [{"annotation": "a", "values": ["*"], "rules": ["c"]}]},
            "has the unknown word 'c'",
        ),
        ({"rule": RULES, "exception": [{"annotation": "a", "rules": ["a"]}]}, r"exception\[0\].values must be a list"),
        ({"rule": RULES, "exception": [{"a": 1}]}, r"exception\[0\].a is not known"),
        ({"rule": RULES, "exception": {}}, "exception must be a list of tables"),
    ],
)
def test_settings_that_are_wrong(settings: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        refused(settings, {})


def test_sizes() -> None:
    assert [patterns.size(each) for each in (5, "5", "2k", "3M", "1g", "1T")] == [5, 5, 2048, 3 << 20, 1 << 30, 1 << 40]


# The documented rules, from the file to the verdict.


@pytest.fixture
def documented(tmp_path: Path) -> Registry:
    assert DOCUMENTED is not None
    path = tmp_path / "config.toml"
    path.write_text(DOCUMENTED[1])
    path.chmod(0o644)
    return registry(str(path), use_snapshot=False)


def verdict(documented: Registry, config: Any, operation: str = "create") -> tuple[set[str], set[str]]:
    """The names of the rules that are broken, and those that are only reported."""
    (stage,) = [each for each in documented.stages(spec({})) if each.name == "policy"]
    broken = set()
    warnings = []
    made = spec(config, operation)
    try:
        for step in stage.plan(made, Host(facts={"policy": facts.gather(made)})):
            warnings.append(step.describe())
    except ConfigError as error:
        broken = {re.findall(r"\(policy: (.+?)\)$", each["message"])[0] for each in error.problems}
    return broken, {re.findall(r"\(policy: (.+?)\)$", text)[0] for text in warnings}


def corpus(kind: str) -> list[Path]:
    return [path for path in sorted(CORPUS.glob("*.json")) if ("privileged" in path.stem) == (kind == "privileged")]


@pytest.mark.parametrize("path", corpus("ordinary"), ids=lambda path: path.stem)
def test_ordinary_containers_of_engines_are_accepted(documented: Registry, path: Path) -> None:
    assert verdict(documented, json.loads(path.read_text()))[0] == set()


@pytest.mark.parametrize("path", corpus("privileged"), ids=lambda path: path.stem)
def test_privileged_containers_of_engines_are_refused(documented: Registry, path: Path) -> None:
    config = json.loads(path.read_text())
    broken, _ = verdict(documented, config)
    assert {"privileges", "confinement", "devices", "root-with-admin"} <= broken
    config["annotations"] = {**(config.get("annotations") or {}), "io.kubernetes.cri.sandbox-namespace": "kube-system"}
    assert verdict(documented, config)[0] == set()


def test_the_policy_comes_first(documented: Registry) -> None:
    names = documented.names()
    assert names.index("policy") == names.index("validate-config") + 1
    for name in ("namespaces", "cgroups", "hooks", "rootfs-mount"):
        assert names.index("policy") < names.index(name)


def test_judging_is_light() -> None:
    heavy = ("re", "os", "json", "tomllib", "fnmatch", "functools", "ctypes")
    script = f"""
import sys
sys.path.insert(0, {str(CHECKOUT)!r})
from gosudacon.api import Host, Spec
from gosudacon.plugins import policy
stage = policy.Policy()
stage.settings = {{"rule": [{{"name": "r", "message": "m", "deny-paths": ["/etc"], "limits": {{"pids": True}}}}]}}
spec = Spec({{"linux": {{"resources": {{"pids": {{"limit": 1}}}}}}}}, "web", "/srv/web")
assert list(stage.plan(spec, Host(facts={{"policy": policy.gosudacon_gather_facts(spec)}}))) == []
print([name for name in {heavy!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-ISB", "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
