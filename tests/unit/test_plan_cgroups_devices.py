"""Device rules: what they mean, v1's two lists, and the eBPF program, run here by an interpreter of its own."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from gosudacon.api import ConfigError, Host, Spec
from gosudacon.linux import bpf
from gosudacon.stages.cgroups import Cgroups, devices

Rule = list[Any]
ANY = -1
ALL = "rwm"
DENY_ALL: Rule = [False, "a", ANY, ANY, ALL]
ALLOW_ALL: Rule = [True, "a", ANY, ANY, ALL]


def meaning(rules: list[Rule], kind: str, major: int, minor: int, wanted: str) -> bool:
    """The definition: for every bit that is wanted the last rule that matches decides, and denial if none matches."""
    for bit in wanted:
        answer = False
        for allow, kinds, one, other, access in rules:
            if kinds in ("a", kind) and one in (ANY, major) and other in (ANY, minor) and bit in access:
                answer = allow
        if not answer:
            return False
    return True


def run(program: bytes, kind: str, major: int, minor: int, wanted: str) -> bool:
    """What a program answers; fails for what the kernel's verifier would refuse."""
    access = sum({"m": 1, "r": 2, "w": 4}[bit] for bit in wanted)
    context = [access << 16 | {"b": 1, "c": 2}[kind], major, minor]
    registers: dict[int, int] = {}
    at = 0
    while True:
        opcode, pair, *_ = program[8 * at : 8 * at + 8]
        target, source = pair & 15, pair >> 4
        offset = int.from_bytes(program[8 * at + 2 : 8 * at + 4], "little", signed=True)
        value = int.from_bytes(program[8 * at + 4 : 8 * at + 8], "little", signed=True)
        at += 1
        if opcode == 0x61:
            assert source == 1
            registers[target] = context[offset // 4]
        elif opcode == 0xBF:
            registers[target] = registers[source]
        elif opcode == 0xB7:
            registers[target] = value
        elif opcode == 0x77:
            registers[target] >>= value
        elif opcode == 0x57:
            registers[target] &= value
        elif opcode == 0x55:
            at += offset if registers[target] != value else 0
        elif opcode == 0x45:
            at += offset if registers[target] & value else 0
        elif opcode == 0x05:
            at += offset
        elif opcode == 0x95:
            return bool(registers[0])
        else:
            pytest.fail(f"unknown opcode {opcode:#x}")


ACCESSES = ["".join(some) for size in (1, 2, 3) for some in itertools.combinations("rwm", size)]
REQUESTS = list(itertools.product("bc", (1, 5, 8), (0, 3), ACCESSES))


def check(rules: list[Rule]) -> None:
    program = bpf.device_program(rules)
    for request in REQUESTS:
        assert run(program, *request) == meaning(rules, *request), (rules, request)


def test_programs_mean_what_the_rules_mean() -> None:
    dice = random.Random(20)
    for _ in range(300):
        rules: list[Rule] = [
            [dice.random() < 0.5, dice.choice("abc"), dice.choice((ANY, 1, 5)), dice.choice((ANY, 3)), access]
            for access in dice.choices(ACCESSES, k=dice.randrange(6))
        ]
        check(rules)


def test_allowances_for_parts_of_an_access_add_up() -> None:
    rules: list[Rule] = [DENY_ALL, [True, "c", 1, 3, "r"], [True, "c", 1, 3, "w"]]
    assert run(bpf.device_program(rules), "c", 1, 3, "rw")
    check(rules)


def test_a_denied_part_denies_the_whole_access() -> None:
    rules: list[Rule] = [ALLOW_ALL, [False, "c", 1, 3, "w"]]
    assert not run(bpf.device_program(rules), "c", 1, 3, "rw")
    assert run(bpf.device_program(rules), "c", 1, 3, "r")


def test_no_instruction_is_out_of_reach() -> None:
    """The verifier refuses such: nothing may follow the rule that settles everything."""
    program = bpf.device_program([[True, "c", 1, 3, "r"], DENY_ALL, [True, "c", 1, 5, "r"]])
    assert program == bpf.device_program([DENY_ALL, [True, "c", 1, 5, "r"]])


def spec(entries: list[dict[str, Any]], **config: Any) -> Spec:
    whole: Any = {"linux": {"resources": {"devices": entries}}, **config}
    return Spec(whole, "c1", "/bundle")


def test_rules_of_entries() -> None:
    """Entries become rules with the defaults behind them."""
    rules = devices.rules_of(
        [{"allow": False, "access": "rwm"}, {"allow": True, "type": "b", "major": 8, "access": "mr"}]
    )
    assert rules[:2] == [DENY_ALL, [True, "b", 8, ANY, "rm"]]
    assert [devices.show(rule) for rule in rules[2:]] == [
        *("c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm"),
        *("c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm", "c 10:200 rwm"),
    ]


FULL = {"type": "c", "major": 1, "minor": 7, "access": "rwm"}
SWEEPING: dict[str, Any] = {"allow": False, "access": "rwm"}


@pytest.mark.parametrize(
    ("entries", "wanted"),
    [
        ([], True),
        ([{"allow": False, **FULL}], False),
        ([SWEEPING, {"allow": False, **FULL}], False),
        ([{"allow": False, **FULL}, SWEEPING], True),
        ([SWEEPING, {"allow": False, **FULL}, {"allow": True, **FULL}], True),
        ([SWEEPING, {"allow": True, **FULL}, {"allow": False, **FULL, "minor": None}], False),
        ([SWEEPING, {"allow": False, "access": "r"}], False),
        ([SWEEPING, {**SWEEPING, "type": "c"}], True),
    ],
)
def test_a_default_device_is_denied_only_by_name(entries: Any, wanted: bool) -> None:
    assert run(bpf.device_program(devices.rules_of(entries)), "c", 1, 7, "r") == wanted
    assert run(bpf.device_program(devices.rules_of(entries)), "b", 1, 7, "m")


def test_v1_lets_what_may_not_be_opened_be_made() -> None:
    """All devices can be made, by default, and v1 makes no exceptions from that."""
    rules: list[Rule] = [[True, "c", ANY, ANY, "m"], [True, "c", 1, 7, "rwm"], [False, "c", 1, 7, "rwm"]]
    assert devices.effective(rules) == (False, ["c *:* m"])
    with pytest.raises(ConfigError, match="cgroup v1 cannot take"):
        devices.effective([*rules, [False, "c", 1, 7, "m"]])


@pytest.mark.parametrize(
    ("entry", "where", "words"),
    [
        ({"allow": True}, "access", "device access at 1 field cannot be empty"),
        ({"allow": True, "access": ""}, "access", "device access at 1 field cannot be empty"),
        ({"allow": True, "type": "p", "access": "r"}, "type", "invalid device type 'p'"),
        ({"allow": True, "major": -2, "access": "r"}, "major", "invalid device major -2"),
        ({"allow": True, "minor": 1 << 31, "access": "r"}, "minor", "invalid device minor"),
    ],
)
def test_entries_that_are_refused(entry: Any, where: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        devices.rules_of([{"allow": False, "access": "rwm"}, entry])
    assert caught.value.where == f"linux.resources.devices[1].{where}"


@pytest.mark.parametrize(
    ("entry", "rule"),
    [
        ({"access": "a"}, DENY_ALL),
        ({"allow": True, "access": "a"}, ALLOW_ALL),
        ({"allow": True, "type": "c", "major": 10, "minor": 232, "access": "awr"}, [True, "c", 10, 232, "rw"]),
        ({"type": "c", "major": 10, "minor": 232, "access": "a"}, None),
    ],
)
def test_letters_that_are_no_access(entry: Any, rule: Rule | None) -> None:
    """As runc has it: a rule for all devices is for all access, another one without letters says nothing."""
    found = devices.rules_of([{"allow": False, "access": "rwm"}, entry])
    assert found == devices.rules_of([{"allow": False, "access": "rwm"}]) if rule is None else rule in found


@pytest.mark.parametrize(
    ("rules", "allowed", "exceptions"),
    [
        ([], False, []),
        ([DENY_ALL], False, []),
        ([ALLOW_ALL], True, []),
        ([[True, "c", 1, 3, "r"], DENY_ALL], False, []),
        ([DENY_ALL, [True, "c", 1, 3, "r"], [True, "c", 1, 3, "wm"]], False, ["c 1:3 rwm"]),
        ([DENY_ALL, [True, "a", 1, 3, "r"]], False, ["c 1:3 r", "b 1:3 r"]),
        ([[True, "c", 1, 3, "rw"], [False, "c", 1, 3, "w"]], False, ["c 1:3 r"]),
        ([[True, "c", 1, 3, "rw"], [True, "c", 1, 5, "rw"], [False, "c", 1, ANY, "rwm"]], False, []),
        ([ALLOW_ALL, [False, "b", 8, ANY, "w"]], True, ["b 8:* w"]),
        ([ALLOW_ALL, [False, "b", 8, 1, "w"], [True, "b", 8, ANY, "rwm"]], True, []),
    ],
)
def test_v1_lists(rules: list[Rule], allowed: bool, exceptions: list[str]) -> None:
    assert devices.effective(rules) == (allowed, exceptions)


@pytest.mark.parametrize(
    "rules",
    [
        [[True, "c", ANY, ANY, "rwm"], [False, "c", 1, 3, "w"]],
        [[True, "c", 1, ANY, "r"], [False, "c", ANY, 3, "r"]],
        [ALLOW_ALL, [False, "b", 8, ANY, "w"], [True, "b", 8, 1, "w"]],
    ],
)
def test_v1_cannot_punch_holes(rules: list[Rule]) -> None:
    with pytest.raises(ConfigError, match="cgroup v1 cannot take"):
        devices.effective(rules)


def planned(host: Host, entries: list[dict[str, Any]], **config: Any) -> list[Any]:
    return [step for step in Cgroups().plan(spec(entries, **config), host) if "Devices" in type(step).__name__]


V1 = Host(cgroup_mode="v1", cgroup_mounts={"devices": "/sys/fs/cgroup/devices"}, own_cgroups={})
EVERYTHING: Any = [{"allow": False, "access": "rwm"}, {"allow": True, "access": "rwm"}]


def test_a_privileged_container_needs_no_program() -> None:
    assert planned(Host(), EVERYTHING) == []
    assert [step.describe() for step in planned(V1, EVERYTHING)] == ["allow all devices"]


@pytest.mark.parametrize("host", [V1, Host()])
def test_mounts_of_block_devices_come_before_the_rules(host: Host) -> None:
    disk = {"destination": "/data", "type": "ext4", "source": "/dev/vda"}
    node = {"destination": "/dev/vda", "type": "bind", "source": "/dev/vda", "options": ["bind"]}
    early = planned(host, [], mounts=[node])[0]
    late = planned(host, [], mounts=[node, disk])[0]
    assert early.phase in ("prepare", "isolate")
    assert (late.phase, late.by) == ("create-container", "pivot")


def test_allow_everything_means_everything() -> None:
    assert devices.allows_everything(devices.rules_of(EVERYTHING))
    assert not devices.allows_everything(devices.rules_of([]))
    assert not devices.allows_everything([ALLOW_ALL, [False, "c", 1, 3, "r"]])
    assert devices.allows_everything([DENY_ALL, ALLOW_ALL, [True, "c", 1, 3, "r"]])


BLOCK: Any = {"destination": "/data", "type": "ext4", "source": "/dev/vda"}
NONE: Any = {"destination": "/x", "type": "none", "source": "/dev/x"}
BIND: Any = {"destination": "/y", "type": "bind", "source": "/dev/y"}
RBIND: Any = {"destination": "/z", "source": "/dev/z", "options": ["ro", "rbind"]}
PROC: Any = {"destination": "/proc", "type": "proc", "source": "proc"}


@pytest.mark.parametrize("order", [*itertools.permutations([BLOCK, NONE, BIND, RBIND, PROC])])
def test_a_block_device_is_mounted_in_any_order(order: tuple[Any, ...]) -> None:
    def answer(*mounts: Any) -> bool:
        return devices.mounts_block_device(Spec({"mounts": [*mounts]}, "c1", "/bundle"))

    assert answer(*order)
    assert not answer(*(entry for entry in order if entry is not BLOCK))
