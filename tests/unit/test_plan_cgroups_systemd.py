"""Plans of the stage `cgroups` where systemd makes the cgroup, or no cgroup is made."""

from __future__ import annotations

from typing import Any

import pytest

from gosudacon.api import ConfigError, Host, Options, Spec, Step, Target
from gosudacon.pipeline import plan as plans
from gosudacon.pipeline.kinds import rebuild
from gosudacon.stages.cgroups import Cgroups, properties, unit, unit_annotations

HOST = Host(systemd=True)
INFINITY = (1 << 64) - 1
NOTE = "org.systemd.property."
DENY_ALL = {"allow": False, "access": "rwm"}


def spec(
    resources: dict[str, Any] | None = None,
    path: str | None = None,
    id: str = "c1",
    options: dict[str, Any] | None = None,
    **config: Any,
) -> Spec:
    linux: dict[str, Any] = {"resources": resources or {}, **config.pop("linux", {})}
    if path is not None:
        linux["cgroupsPath"] = path
    chosen = Options(**({"systemd_cgroup": True} if options is None else options))
    whole: Any = {"linux": linux, **config}
    return Spec(whole, id, "/b", chosen)


def plan(*args: Any, host: Host = HOST, **kw: Any) -> list[Step]:
    return plans.make([Cgroups()], spec(*args, **kw), host).steps


def refused(*args: Any, **kw: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        plan(*args, **kw)
    return caught.value


def names(path: str | None = None, id: str = "c1", rootless: bool = False) -> tuple[str, str, str]:
    found = unit.Unit(spec(path=path, id=id), rootless)
    return found.slice, found.name, found.path


def set_to(steps: list[Step]) -> dict[str, Any]:
    """The scope's properties."""
    (step,) = (vars(step) for step in steps if type(step).__name__ == "StartScope")
    return {name: value for name, _, value in step["properties"]}


def test_names() -> None:
    assert names() == ("system.slice", "runc-c1.scope", "system.slice/runc-c1.scope")
    assert names(rootless=True) == ("user.slice", "runc-c1.scope", "user.slice/runc-c1.scope")
    assert names("::") == ("system.slice", "-c1.scope", "system.slice/-c1.scope")
    assert names("a-b-c.slice:x:y") == ("a-b-c.slice", "x-y.scope", "a.slice/a-b.slice/a-b-c.slice/x-y.scope")
    assert names("-.slice:x:y") == ("-.slice", "x-y.scope", "x-y.scope")
    assert names(id="a+b")[1] == "runc-a\\x2bb.scope"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/a/b", "slice:prefix:name"),
        ("a.slice:b", "slice:prefix:name"),
        ("a.slice:b:c:d", "slice:prefix:name"),
        ("a:b:c", "invalid slice name: a"),
        (".slice:b:c", "invalid slice name: .slice"),
        ("a--b.slice:b:c", "invalid slice name: a--b.slice"),
        ("-a.slice:b:c", "invalid slice name: -a.slice"),
        ("a-.slice:b:c", "invalid slice name: a-.slice"),
        ("a/b.slice:b:c", "systemd does not allow '/'"),
        ("../x.slice:b:c", "systemd does not allow '/'"),
        (":../../x:c", "systemd does not allow '/'"),
        (":b:../../x", "systemd does not allow '/'"),
        (":b:a\nb", "systemd does not allow '\\n'"),
        (":b:a\0b", "systemd does not allow"),
        (":b:ä", "systemd does not allow 'ä'"),
        (":b:a@b", "systemd does not allow '@'"),
        (":.b:c", "invalid unit name"),
        (":b:" + "c" * 260, "longer than 255 bytes"),
        (":b:c.slice", "names the slice 'c.slice'"),
    ],
)
def test_paths_that_are_none(path: str, message: str) -> None:
    error = refused(path=path)
    assert message in error.message and error.where == "linux.cgroupsPath"


def test_the_steps() -> None:
    steps = plan({"memory": {"limit": 1 << 26}, "pids": {"limit": 5}}, "a.slice:p:n")
    assert [f"{step.phase} {step.runs_on()} {step.describe()}" for step in steps if "eBPF" not in step.describe()] == [
        "prepare runtime expect the cgroup a.slice/p-n.scope",
        "isolate runtime systemd starts p-n.scope around the process: Description=container c1, Slice=a.slice, "
        "Delegate=yes, DefaultDependencies=no, CPUAccounting=yes, MemoryAccounting=yes, TasksAccounting=yes, "
        "IOAccounting=yes, MemoryMax=67108864, TasksMax=5, DevicePolicy=strict, DeviceAllow=c *:* m, b *:* m, "
        "c 1:3 rwm, c 1:5 rwm, c 1:7 rwm, c 1:8 rwm, c 1:9 rwm, c 5:0 rwm, c 5:2 rwm, c 136:* rwm, c 10:200 rwm",
        "isolate runtime write 67108864 to memory.max",
        "create-runtime runtime write 5 to pids.max",
    ]
    lasting = [step for step in steps if step.lasts]
    assert len(lasting) == 1 and vars(rebuild(lasting[0].record())) == vars(lasting[0])


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"memory": {"limit": -1}}, {"MemoryMax": INFINITY, "MemorySwapMax": INFINITY}),
        (
            {"memory": {"limit": 9, "swap": 9, "reservation": 4}},
            {"MemoryMax": 9, "MemorySwapMax": 0, "MemoryLow": 4},
        ),
        ({"cpu": {"shares": 1024}}, {"CPUWeight": 100}),
        ({"cpu": {"shares": 1024, "idle": 1}}, {"CPUWeight": 0}),
        ({"cpu": {"idle": 0}}, {"CPUWeight": INFINITY}),
        ({"cpu": {"quota": 50000}}, {"CPUQuotaPerSecUSec": 500000}),
        ({"cpu": {"quota": 12345, "period": 100000}}, {"CPUQuotaPerSecUSec": 130000, "CPUQuotaPeriodUSec": 100000}),
        ({"cpu": {"quota": -1, "period": 50000}}, {"CPUQuotaPerSecUSec": INFINITY, "CPUQuotaPeriodUSec": 50000}),
        ({"cpu": {"cpus": "0,2-3,9", "mems": "0"}}, {"AllowedCPUs": [13, 2], "AllowedMemoryNodes": [1]}),
        ({"pids": {"limit": 0}}, {"TasksMax": 1}),
        ({"pids": {"limit": -1}}, {"TasksMax": INFINITY}),
        ({"blockIO": {"weight": 500}}, {"IOWeight": 4950}),
        ({"unified": {"memory.high": "max", "pids.max": "7"}}, {"MemoryHigh": INFINITY, "TasksMax": 7}),
        ({"unified": {"cpu.max": "max 1000"}}, {"CPUQuotaPerSecUSec": INFINITY, "CPUQuotaPeriodUSec": 1000}),
        ({"unified": {"cpu.max": "500"}}, {"CPUQuotaPerSecUSec": 10000}),
        ({"unified": {"cpu.idle": "1", "cpuset.cpus": "1"}}, {"CPUWeight": 0, "AllowedCPUs": [2]}),
        ({"unified": {"memory.oom.group": "1", "hugetlb.2MB.max": "0"}}, {"OOMPolicy": "kill"}),
        ({"memory": {"limit": 5}, "unified": {"memory.max": "6"}}, {"MemoryMax": 6}),
        ({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}, {}),
    ],
)
def test_limits_as_properties(resources: dict[str, Any], expected: dict[str, Any]) -> None:
    found = set_to(plan(resources))
    assert {name: found[name] for name in list(found)[8:]} == expected


@pytest.mark.parametrize(
    ("resources", "where"),
    [
        ({"unified": {"memory.max": "lots"}}, "linux.resources.unified['memory.max']"),
        ({"unified": {"cpu.max": "5 x"}}, "linux.resources.unified['cpu.max']"),
        ({"cpu": {"cpus": "3-1"}}, "linux.resources.cpu.cpus"),
        ({"cpu": {"cpus": "0-99999999999"}}, "linux.resources.cpu.cpus"),
        ({"memory": {"limit": 2, "swap": 1}}, "linux.resources.memory.swap"),
    ],
)
def test_limits_that_are_none(resources: dict[str, Any], where: str) -> None:
    assert refused(resources).where == where


def test_devices() -> None:
    groups = properties.device_groups("Character devices:\n  1 mem\n136 pts\n136 x\n\nBlock devices:\n  8 sd\n")
    assert groups == {("c", 1): "mem", ("c", 136): "pts", ("b", 8): "sd"}
    assert properties.of_devices(["c *:* m", "c 136:* rwm", "b 8:1 r", "b 8:* w"], groups) == [
        ["DevicePolicy", "s", "strict"],
        ["DeviceAllow", "a(ss)", [["char-*", "m"], ["char-pts", "rwm"], ["/dev/block/8:1", "r"], ["block-sd", "w"]]],
    ]
    for unknown in ("c 137:* rwm", "c *:5 rwm"):  # left to the eBPF program
        assert properties.of_devices(["c 1:3 rwm", unknown], groups) == []


@pytest.mark.parametrize(
    "rules",
    [
        [{"allow": True, "access": "rwm"}],
        [{"allow": True, "access": "rwm"}, {"allow": False, "type": "c", "major": 1, "minor": 1, "access": "w"}],
        [
            {"allow": True, "type": "c", "major": 4, "access": "rw"},
            {"allow": False, "type": "c", "major": 4, "minor": 1, "access": "w"},
        ],
    ],
)
def test_device_rules_for_ebpf(rules: list[dict[str, Any]]) -> None:
    """Device rules that systemd cannot have are left to eBPF."""
    (start,) = (vars(step) for step in plan({"devices": rules}) if type(step).__name__ == "StartScope")
    assert start["devices"] is None


def test_annotations() -> None:
    notes = {
        f"{NOTE}TimeoutStopSec": "uint64 5",
        f"{NOTE}RuntimeMaxSec": "1.5",
        f"{NOTE}CollectMode": "'inactive-or-failed'",
        f"{NOTE}After": '[\'a.service\', "b\\"c"]',
        f"{NOTE}Before": "@as []",
        f"{NOTE}SendSIGHUP": "true",
        f"{NOTE}KillSignal": "int32 2",
        f"{NOTE}MemoryMax": "7",
        "other": "x",
    }
    found = set_to(plan({"memory": {"limit": 5}}, annotations=notes))
    assert (found["TimeoutStopUSec"], found["RuntimeMaxUSec"]) == (5_000_000, 1_500_000)
    assert (found["After"], found["Before"]) == (["a.service", 'b"c'], [])
    assert (found["CollectMode"], found["SendSIGHUP"], found["KillSignal"]) == ("inactive-or-failed", True, 2)
    assert found["MemoryMax"] == 5  # limits have the last word


@pytest.mark.parametrize("name", ["PIDs", "Slice", "Delegate", "DeviceAllow", "SuccessAction", "Wants", "X", ""])
def test_annotations_that_would_do_more(name: str) -> None:
    error = refused(annotations={NOTE + name: "'x'"})
    assert "an annotation cannot set" in error.message and error.where == f"annotations['{NOTE}{name}']"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("CollectMode", "inactive"),
        ("CollectMode", "'a' b"),
        ("CollectMode", "'a"),
        ("CollectMode", "5"),
        ("MemoryHigh", "'5'"),
        ("MemoryHigh", "-1"),
        ("MemoryHigh", "1.5"),
        ("MemoryHigh", "true"),
        ("MemoryHigh", "byte 256"),
        ("MemoryHigh", "18446744073709551616"),
        ("TimeoutStopSec", "nan"),
        ("TimeoutStopSec", "1e999"),
        ("After", "['a'"),
        ("After", "['a' 'b']"),
        ("After", "'a'"),
        ("SendSIGHUP", "1"),
        ("Description", "'a\nb'"),
        ("Description", ""),
    ],
)
def test_values_of_annotations_that_are_none(name: str, text: str) -> None:
    assert refused(annotations={NOTE + name: text}).message.startswith(f"systemd property {name[:8]}")


def test_without_systemd() -> None:
    assert "systemd is not running" in refused(host=Host(systemd=False)).message
    mounts = {"memory": "/sys/fs/cgroup/memory", "": "/sys/fs/cgroup/unified"}
    hybrid = Host(systemd=True, cgroup_mode="hybrid", cgroup_mounts=mounts)
    assert "needs cgroup v2, and this host has hybrid" in refused(host=hybrid).message


def test_a_users_own_systemd() -> None:
    steps = plan({"devices": [DENY_ALL]}, host=Host(systemd=True, euid=1000))
    assert [step.describe().partition(" around")[0] for step in steps] == [
        "expect the cgroup user.slice/runc-c1.scope below that of the user's systemd",
        "the user's systemd starts runc-c1.scope",
    ]


def test_either_option_chooses_it() -> None:
    both = {"systemd_cgroup": True, "cgroup_manager": "cgroupfs"}
    for options in ({"systemd_cgroup": True}, {"cgroup_manager": "systemd"}, both):
        assert set_to(plan(options=options))["Delegate"] is True
    contradiction = refused(options={"systemd_cgroup": True, "cgroup_manager": "disabled"})
    assert "contradict each other" in contradiction.message


def test_exec_explained() -> None:
    wanted = spec(path="a.slice:p:n")
    wanted.target = Target()
    steps = plans.make_exec([Cgroups()], wanted, HOST).steps
    assert steps[0].describe() == "open the cgroups /sys/fs/cgroup/a.slice/p-n.scope"


def test_update_tells_systemd_first() -> None:
    resources: Any = {"memory": {"limit": 5, "swap": 6, "checkBeforeUpdate": True}}
    steps = list(Cgroups().plan_update(resources, spec(resources, "a.slice:p:n"), HOST))
    assert [step.describe() for step in steps] == [
        "read memory.swap.max, memory.max",
        "check that memory.current is at most 5",
        "check that memory.swap.current is at most 1",
        "set MemoryMax=5, MemorySwapMax=1 of p-n.scope",
        "write 1 to memory.swap.max",
        "write 5 to memory.max",
    ]


DISABLED = {"cgroup_manager": "disabled"}


def test_no_cgroup_at_all() -> None:
    assert plan({"devices": [DENY_ALL]}, options=DISABLED) == []
    error = refused({"memory": {"limit": 5}}, options=DISABLED)
    assert (error.where, error.message) == (
        "linux.resources.memory",
        "memory cannot be limited without a cgroup (--cgroup-manager=disabled)",
    )
    wanted = spec(options=DISABLED)
    wanted.target = Target()
    assert plans.make_exec([Cgroups()], wanted, HOST).steps == []
    assert list(Cgroups().plan_update({}, wanted, HOST)) == []
    with pytest.raises(ConfigError, match="pids cannot be limited"):
        list(Cgroups().plan_update({"pids": {"limit": 5}}, wanted, HOST))


def test_a_gvariant_text() -> None:
    assert [unit_annotations.parse(text) for text in ("0x10", "-5", "double 2.5", "false", '"a\\\\b"', "[]")] == [
        *(16, -5, 2.5, False, "a\\b", []),
    ]
