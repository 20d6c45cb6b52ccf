"""G12 and G13: who the container's process is, and what it may; exactly what was asked for, or nothing runs.

CVE-2026-30892, CVE-2024-40635, CVE-2026-46680; CVE-2022-24769, CVE-2022-29162, CVE-2022-27650, CVE-2025-27612.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from typing import Any

import pytest

from tests.security.conftest import facts
from tests.support.bundle import Bundle
from tests.support.runtime import Runtime, messages, runtime_command

Caller = Callable[[Runtime, str], None]
Introspect = Callable[..., dict[str, str]]

LARGEST = (1 << 32) - 2
# As written in the file: json.dumps would not write all of them.
NO_IDS = [
    *("-1", "4294967295", "4294967296", "4294967297", "18446744073709551616", "1" + 40 * "0", "-0.0", "1.0", "1e0"),
    *('"1"', '"0"', '"root"', '""', '"\\u0661"', "true", "false", "[1]", "{}", "1.5", "NaN", "Infinity", "01", "0x1"),
]


def write(bundle: Bundle, key: str, text: str) -> None:
    """Set ``process.user.KEY`` to a JSON text."""
    user: dict[str, Any] = {"uid": 1000, "gid": 1000, key: "PLACEHOLDER"}
    bundle.set("process.user", user)
    bundle.config_path.write_text(json.dumps(bundle.config).replace('"PLACEHOLDER"', text))


@pytest.mark.parametrize("text", NO_IDS)
def test_what_is_no_id_runs_nothing(runtime: Runtime, bundle: Bundle, text: str) -> None:
    bundle.set("process.args", ["id"])
    for key, form in (("uid", "{}"), ("gid", "{}"), ("additionalGids", "[{}]"), ("additionalGids", "[5, {}]")):
        write(bundle, key, form.format(text))
        result = runtime.run(bundle)
        assert (result.returncode, result.stdout) == (1, ""), (key, text)
        assert len(messages(result.stderr)) == 1


@pytest.mark.parametrize("text", ["null", "[null]"])
def test_null_is_no_member(runtime: Runtime, bundle: Bundle, text: str) -> None:
    """As for the runtimes written in Go, where it stands for one that is absent; in an array it has no meaning."""
    bundle.set("process.args", ["id", "-G"])
    write(bundle, "additionalGids", text)
    result = runtime.run(bundle)
    assert (result.returncode, result.stdout) == ((0, "1000\n") if text == "null" else (1, ""))


@pytest.mark.vm
@pytest.mark.parametrize("number", [0, 1, 1000, 65534, 65535, 65536, (1 << 31) - 1, 1 << 31, LARGEST])
def test_ids_are_exactly_those(runtime: Runtime, bundle: Bundle, introspect: Introspect, number: int) -> None:
    other = LARGEST - number
    bundle.set("process.user", {"uid": number, "gid": other, "additionalGids": [number, 7]})
    found = introspect(runtime, bundle)
    assert found["Uid"].split() == [str(number)] * 4
    assert found["Gid"].split() == [str(other)] * 4
    assert sorted(found["Groups"].split()) == sorted({str(number), "7"})


def test_groups_of_the_caller_stay_with_it(
    runtime: Runtime, caller: Caller, bundle: Bundle, introspect: Introspect
) -> None:
    caller(runtime, "os.setgroups([4242, 0])")
    for user in ({"uid": 0, "gid": 0}, {"uid": 1000, "gid": 1000}):
        found = introspect(runtime, bundle.set("process.user", user))
        assert found["Groups"].split() == []
        assert set(found["Gid"].split()) == {str(user["gid"])}


@pytest.mark.parametrize("key", ["uid", "gid", "additionalGids"])
def test_an_id_that_the_user_namespace_does_not_have(runtime: Runtime, bundle: Bundle, key: str) -> None:
    bundle.map_users(size=1000).set("process.args", ["id"])
    bundle.set("process.user", {"uid": 1, "gid": 1, key: [1000] if key == "additionalGids" else 1000})
    result = runtime.run(bundle)
    assert (result.returncode, result.stdout) == (1, "")


# Capabilities, called by a process that has given all it has to its children.

GENEROUS = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
status = open("/proc/self/status").read()
has = int(status.split("CapPrm:")[1].split()[0], 16)
header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
for half in (0, 1):
    data[3 * half] = data[3 * half + 1] = data[3 * half + 2] = has >> 32 * half & 0xffffffff
assert libc.capset(header, data) == 0
for number in range(41):
    if has >> number & 1:
        assert libc.prctl(47, 2, number, 0, 0) == 0
"""
NAMES = {"CAP_CHOWN": 1 << 0, "CAP_KILL": 1 << 5, "CAP_NET_BIND_SERVICE": 1 << 10, "CAP_SYS_CHROOT": 1 << 18}
EMPTY: dict[str, list[str]] = {}


@pytest.fixture
def generous(runtime: Runtime, caller: Caller) -> Runtime:
    """A runtime whose caller has full inheritable and ambient sets."""
    caller(runtime, GENEROUS)
    return runtime


def sets_of(found: dict[str, str]) -> dict[str, int]:
    return {name: int(found[f"Cap{name}"], 16) for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")}


def test_the_caller_is_generous(generous: Runtime, bundle: Bundle) -> None:
    """Otherwise the others would prove nothing."""
    generous.command[-len(runtime_command()) :] = ["/bin/sh", "-c", "cat /proc/self/status"]
    lines = dict(line.split(":\t", 1) for line in generous.call().stdout.splitlines() if ":\t" in line)
    assert int(lines["CapAmb"], 16) == int(lines["CapInh"], 16) == int(lines["CapPrm"], 16) != 0


@pytest.mark.vm
@pytest.mark.parametrize("user", [0, 1000], ids=["root", "user"])
@pytest.mark.parametrize(
    "sets",
    [
        {},
        {"bounding": ["CAP_KILL"]},
        {kind: ["CAP_CHOWN", "CAP_KILL"] for kind in ("bounding", "effective", "permitted")},
        {kind: ["CAP_SYS_CHROOT"] for kind in ("bounding", "effective", "permitted", "inheritable")},
        {kind: ["CAP_KILL"] for kind in ("bounding", "effective", "permitted", "inheritable", "ambient")},
    ],
    ids=["none", "bounding", "usual", "inheritable", "ambient"],
)
def test_capabilities_are_exactly_those(
    generous: Runtime, bundle: Bundle, introspect: Introspect, sets: dict[str, list[str]], user: int
) -> None:
    """What execve(2) makes of them (capabilities(7)): root has its bounding set, another user the ambient one."""
    bundle.set("process.capabilities", sets).set("process.user", {"uid": user, "gid": user})
    bundle.set("process.noNewPrivileges", False)
    asked = {kind: sum(NAMES[name] for name in names) for kind, names in sets.items()}
    found = sets_of(introspect(generous, bundle))
    assert found["Bnd"] == asked.get("bounding", 0)
    assert found["Inh"] == asked.get("inheritable", 0)
    assert found["Amb"] == asked.get("ambient", 0)
    expected = found["Amb"] if user else found["Bnd"] | found["Inh"]
    assert found["Prm"] == found["Eff"] == expected


@pytest.mark.parametrize("user", [0, 1000], ids=["root", "user"])
def test_no_word_about_capabilities(generous: Runtime, bundle: Bundle, introspect: Introspect, user: int) -> None:
    """Root keeps what it has, as with runc, but nothing is handed down to a user, nor on by what it executes."""
    bundle.remove("process.capabilities").set("process.user", {"uid": user, "gid": user})
    found = sets_of(introspect(generous, bundle))
    assert found["Inh"] == found["Amb"] == 0
    assert bool(found["Eff"]) == (user == 0)


def test_ambient_takes_what_is_inheritable_only(runtime: Runtime, bundle: Bundle, introspect: Introspect) -> None:
    sets = {kind: ["CAP_KILL"] for kind in ("bounding", "effective", "permitted", "ambient")}
    found = sets_of(introspect(runtime, bundle.set("process.capabilities", sets)))
    assert found["Inh"] == found["Amb"] == 0


@pytest.mark.parametrize("name", ["CAP_NOTHING", "kill", "cap_kill", "KILL", "CAP_KILL ", "", "CAP_64"])
@pytest.mark.parametrize("kind", ["bounding", "ambient"])
def test_an_unknown_capability_is_none(
    runtime: Runtime, bundle: Bundle, introspect: Introspect, kind: str, name: str
) -> None:
    """It is left out, as in runc: the caller may know more of them than this program."""
    found = sets_of(introspect(runtime, bundle.set("process.capabilities", {kind: [name]})))
    assert set(found.values()) == {0}


@pytest.mark.parametrize("effective", [False, True])
def test_a_program_with_file_capabilities_gains_none(
    generous: Runtime, bundle: Bundle, introspect: Introspect, effective: bool
) -> None:
    """The bounding set holds whatever the image says of its programs; one that insists cannot be executed."""
    bundle.set("process.capabilities", EMPTY).set("process.user", {"uid": 1000, "gid": 1000})
    bundle.set("process.noNewPrivileges", False)
    introspect(generous, bundle)
    attribute = struct.pack("<5I", 0x02000000 | effective, *[0xFFFFFFFF] * 4)  # capabilities(7), version 2
    os.setxattr(bundle.rootfs / "bin/self", "security.capability", attribute)
    result = generous.run(bundle)
    assert result.returncode == effective
    assert "operation not permitted" in result.stderr or not effective
    assert sets_of(facts(bundle))["Prm"] == 0
