"""Scheduling, NUMA policy, personality, clocks: what the kernel says of the container's process."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.bundle import Bundle
from tests.support.needs import needs
from tests.support.runtime import Runtime

pytestmark = needs("runtime:gosudacon")
Make = Callable[..., Bundle]
_MILLISECOND = 1_000_000
_SYS_IOPRIO_GET = {"x86_64": 252, "aarch64": 31}


class Attributes(ctypes.Structure):
    """``struct sched_attr`` of sched_setattr(2)."""

    _fields_ = [
        *((name, ctypes.c_uint32) for name in ("size", "policy")),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        *((name, ctypes.c_uint64) for name in ("runtime", "deadline", "period")),
    ]


def scheduling(pid: int) -> dict[str, int]:
    found = Attributes()
    number = {"x86_64": 315, "aarch64": 275}[os.uname().machine]
    assert ctypes.CDLL(None).syscall(number, pid, ctypes.byref(found), ctypes.sizeof(found), 0) == 0
    return {name: getattr(found, name) for name, *_ in Attributes._fields_[1:]}


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        ({"policy": "SCHED_OTHER", "nice": 5}, {"policy": 0, "nice": 5}),
        ({"policy": "SCHED_BATCH", "nice": -5}, {"policy": 3, "nice": -5}),
        ({"policy": "SCHED_IDLE", "nice": 5}, {"policy": 5}),
        ({"policy": "SCHED_BATCH", "flags": ["SCHED_FLAG_RESET_ON_FORK"]}, {"policy": 3, "flags": 1}),
    ],
)
def test_scheduler(runtime: Runtime, make_bundle: Make, scheduler: dict[str, Any], expected: dict[str, int]) -> None:
    bundle = make_bundle(["/bin/sleep", "1000"]).set("process.scheduler", scheduler)
    found = scheduling(runtime.boot(bundle))
    assert {name: found[name] for name in expected} == expected


def test_deadline(runtime: Runtime, make_bundle: Make) -> None:
    """With a nice value, which it has no use for; a process may not fork under it."""
    times = {"runtime": _MILLISECOND, "deadline": 10 * _MILLISECOND, "period": 20 * _MILLISECOND}
    bundle = make_bundle(["/bin/sleep", "1000"])
    bundle.set("process.scheduler", {"policy": "SCHED_DEADLINE", "nice": 5, **times})
    found = scheduling(runtime.boot(bundle))
    assert {**times, "policy": 6}.items() <= found.items()


@pytest.mark.parametrize(("name", "number"), [("RT", 1), ("BE", 2), ("IDLE", 3)])
@pytest.mark.parametrize("level", [None, 0, 7])
def test_io_priority(runtime: Runtime, make_bundle: Make, name: str, number: int, level: int | None) -> None:
    value = {"class": f"IOPRIO_CLASS_{name}"} | ({} if level is None else {"priority": level})
    pid = runtime.boot(make_bundle(["/bin/sleep", "1000"]).set("process.ioPriority", value))
    found = ctypes.CDLL(None).syscall(_SYS_IOPRIO_GET[os.uname().machine], 1, pid)
    assert (found >> 13, found & 7) == (number, level or 0)


@needs("numa")
@pytest.mark.parametrize(
    ("policy", "word"),
    [
        ({"mode": "MPOL_BIND", "nodes": "0"}, "bind:0"),
        ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}, "bind=static:0"),
        ({"mode": "MPOL_INTERLEAVE", "nodes": "0"}, "interleave:0"),
        ({"mode": "MPOL_PREFERRED", "nodes": "0"}, "prefer:0"),
        ({"mode": "MPOL_DEFAULT"}, "default"),
        ({"mode": "MPOL_LOCAL", "nodes": ""}, "local"),
    ],
)
def test_memory_policy(runtime: Runtime, make_bundle: Make, policy: dict[str, Any], word: str) -> None:
    pid = runtime.boot(make_bundle(["/bin/sleep", "1000"]).set("linux.memoryPolicy", policy))
    lines = Path(f"/proc/{pid}/numa_maps").read_text().splitlines()
    assert {line.split()[1] for line in lines} == {word}


@pytest.mark.parametrize(("domain", "value"), [("LINUX", 0), ("LINUX32", 8)])
def test_personality(runtime: Runtime, make_bundle: Make, domain: str, value: int) -> None:
    pid = runtime.boot(make_bundle(["/bin/sleep", "1000"]).set("linux.personality", {"domain": domain}))
    assert int(Path(f"/proc/{pid}/personality").read_text(), 16) == value


@needs("timens")
def test_clocks(runtime: Runtime, make_bundle: Make) -> None:
    offsets = {"monotonic": {"secs": 100, "nanosecs": 5}, "boottime": {"secs": 200, "nanosecs": 7}}
    bundle = make_bundle(["/bin/sleep", "1000"]).add_namespace("time").set("linux.timeOffsets", offsets)
    text = Path(f"/proc/{runtime.boot(bundle)}/timens_offsets").read_text()
    assert [line.split() for line in text.splitlines()] == [["monotonic", "100", "5"], ["boottime", "200", "7"]]
