"""What `events` makes of the files of cgroups; the texts are those of real kernels."""

from __future__ import annotations

import pytest

from gosudacon.base.errors import Error
from gosudacon.cli.events import duration
from gosudacon.container import stats, stats_v1, stats_v2
from gosudacon.linux.cgroup import statistics

UNLIMITED = (1 << 64) - 1
PRESSURE = """\
some avg10=1.50 avg60=0.00 avg300=0.00 total=12345
full avg10=0.00 avg60=0.25 avg300=0.00 total=678
"""
PSI = {
    "some": {"avg10": 1.5, "avg60": 0.0, "avg300": 0.0, "total": 12345},
    "full": {"avg10": 0.0, "avg60": 0.25, "avg300": 0.0, "total": 678},
}
CPUSET = {
    "cpu_exclusive": 0,
    "mem_hardwall": 0,
    "mem_exclusive": 0,
    "memory_migrate": 0,
    "memory_spread_page": 0,
    "memory_spread_slab": 0,
    "memory_pressure": 0,
    "sched_load_balance": 0,
    "sched_relax_domain_level": 0,
}


def files(**contents: str) -> statistics.Files:
    """Files by name, with ``__`` for the dots."""
    named = {name.replace("__", "."): text for name, text in contents.items()}
    return lambda name: named.get(name, "")


def test_v2_with_everything() -> None:
    found = stats_v2.statistics(
        files(
            cpu__stat="usage_usec 7\nuser_usec 4\nsystem_usec 3\nnr_periods 9\nnr_throttled 2\nthrottled_usec 5\n",
            cpu__pressure=PRESSURE,
            cpuset__cpus__effective="0-1,3\n",
            cpuset__mems__effective="0\n",
            memory__max="max\n",
            memory__current="4096\n",
            memory__peak="8192\n",
            memory__swap__max="1024\n",
            memory__swap__current="512\n",
            memory__swap__peak="600\n",
            memory__stat="anon 100\nfile 200\n",
            memory__pressure=PRESSURE,
            pids__current="3\n",
            pids__max="10\n",
            io__stat="8:0 rbytes=1 wbytes=2 rios=3 wios=0 dbytes=9 dios=9\n(unknown) rbytes=1\n",
            io__pressure=PRESSURE,
            hugetlb__2MB__current="2097152\n",
            hugetlb__2MB__events="max 4\n",
        ),
        ["1GB", "2MB"],
    )
    assert found == {
        "cpu": {
            "usage": {"total": 7000, "kernel": 3000, "user": 4000},
            "throttling": {"periods": 9, "throttledPeriods": 2, "throttledTime": 5000},
            "psi": PSI,
        },
        "cpuset": {"cpus": [0, 1, 3], "mems": [0], **CPUSET},
        "memory": {
            "cache": 200,
            "usage": {"limit": UNLIMITED, "usage": 4096, "max": 8192, "failcnt": 0},
            "swap": {"limit": UNLIMITED, "usage": 4608, "max": 8792, "failcnt": 0},
            "raw": {"anon": 100, "file": 200},
            "psi": PSI,
        },
        "pids": {"current": 3, "limit": 10},
        "blkio": {
            "ioServiceBytesRecursive": [
                {"major": 8, "op": "Read", "value": 1},
                {"major": 8, "op": "Write", "value": 2},
            ],
            "ioServicedRecursive": [{"major": 8, "op": "Read", "value": 3}, {"major": 8, "op": "Write"}],
            "psi": PSI,
        },
        "hugetlb": {"2MB": {"usage": 2097152, "failcnt": 4}},
    }


def test_v2_with_nothing() -> None:
    """Controllers that are not enabled, and a cgroup that is gone."""
    assert stats_v2.statistics(files(), ["2MB"]) == {
        "cpu": {"usage": {"kernel": 0, "user": 0}, "throttling": {}},
        "cpuset": CPUSET,
        "memory": {},
        "pids": {},
        "blkio": {},
        "hugetlb": {},
    }


def test_v2_limits_together() -> None:
    found = stats_v2.memory(files(memory__max="100\n", memory__current="1\n", memory__swap__max="50\n"))
    assert found == {
        "usage": {"limit": 100, "usage": 1, "failcnt": 0},
        "swap": {"limit": 150, "usage": 1, "failcnt": 0},
    }


def test_v1_with_everything() -> None:
    found = stats_v1.statistics(
        {
            "cpuacct": files(
                cpuacct__usage="900\n",
                cpuacct__usage_percpu="400 500 \n",
                cpuacct__usage_all="cpu user system\n0 300 100\n1 350 150\n",
                cpuacct__stat="user 2\nsystem 1\n",
            ),
            "cpu": files(cpu__stat="nr_periods 9\nnr_throttled 2\nthrottled_time 5\n"),
            "cpuset": files(
                cpuset__cpus="0-1\n",
                cpuset__mems="0\n",
                cpuset__sched_load_balance="1\n",
                cpuset__sched_relax_domain_level="-1\n",
            ),
            "memory": files(
                memory__limit_in_bytes="100\n",
                memory__usage_in_bytes="50\n",
                memory__max_usage_in_bytes="60\n",
                memory__failcnt="7\n",
                memory__kmem__limit_in_bytes="100\n",
                memory__stat="cache 5\nrss 6\n",
            ),
            "pids": files(pids__current="3\n", pids__max="max\n"),
            "blkio": files(
                blkio__throttle__io_service_bytes_recursive="8:0 Read 10\n8:0 Total 10\nTotal 10\n",
                blkio__throttle__io_serviced_recursive="8:16 Write 2\n",
                blkio__bfq__io_serviced_recursive="",
            ),
            "hugetlb": files(
                hugetlb__2MB__usage_in_bytes="1\n", hugetlb__2MB__max_usage_in_bytes="2\n", hugetlb__2MB__failcnt="0\n"
            ),
        },
        ["2MB"],
    )
    assert found == {
        "cpu": {
            "usage": {
                "total": 900,
                "percpu": [400, 500],
                "percpu_kernel": [100, 150],
                "percpu_user": [300, 350],
                "kernel": 10_000_000,
                "user": 20_000_000,
            },
            "throttling": {"periods": 9, "throttledPeriods": 2, "throttledTime": 5},
        },
        "cpuset": {**CPUSET, "cpus": [0, 1], "mems": [0], "sched_load_balance": 1, "sched_relax_domain_level": -1},
        "memory": {
            "cache": 5,
            "usage": {"limit": 100, "usage": 50, "max": 60, "failcnt": 7},
            "kernel": {"limit": 100, "failcnt": 0},
            "raw": {"cache": 5, "rss": 6},
        },
        "pids": {"current": 3},
        "blkio": {
            "ioServiceBytesRecursive": [
                {"major": 8, "op": "Read", "value": 10},
                {"major": 8, "op": "Total", "value": 10},
            ],
            "ioServicedRecursive": [{"major": 8, "minor": 16, "op": "Write", "value": 2}],
        },
        "hugetlb": {"2MB": {"usage": 1, "max": 2, "failcnt": 0}},
    }


def test_v1_a_scheduler_that_accounts_comes_first() -> None:
    found = stats_v1.blkio(
        files(
            blkio__bfq__io_serviced_recursive="8:0 Read 1\n",
            blkio__throttle__io_serviced_recursive="8:0 Read 2\n",
            blkio__bfq__sectors_recursive="8:0 7\n",
        )
    )
    assert found == {
        "ioServicedRecursive": [{"major": 8, "op": "Read", "value": 1}],
        "sectorsRecursive": [{"major": 8, "value": 7}],
    }


def test_v1_without_a_controller() -> None:
    assert stats_v1.statistics({}, [])["memory"] == {}


def test_interfaces() -> None:
    text = """\
Inter-|   Receive                                     |  Transmit
 face |bytes packets errs drop fifo frame compr multi |bytes packets errs drop fifo colls carrier compr
    lo:    9       9    0    0    0     0     0     0       9      9    0    0    0     0       0     0
  eth0: 1000      11    1    2    0     0     0     0    2000     21    3    4    0     0       0     0
"""
    assert stats.interfaces(text) == [
        {
            "Name": "eth0",
            "RxBytes": 1000,
            "RxPackets": 11,
            "RxErrors": 1,
            "RxDropped": 2,
            "TxBytes": 2000,
            "TxPackets": 21,
            "TxErrors": 3,
            "TxDropped": 4,
        }
    ]


@pytest.mark.parametrize(("kibibytes", "name"), [(64, "64KB"), (2048, "2MB"), (1 << 20, "1GB"), (16 << 20, "16GB")])
def test_page_sizes(kibibytes: int, name: str) -> None:
    assert statistics.size_name(kibibytes) == name


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5s", 5), ("500ms", 0.5), ("1m30s", 90), ("1.5h", 5400), ("10us", 1e-5), ("10µs", 1e-5), ("0", 0), ("+2s", 2)],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "5x", "-5s", "1.2.3s", "1s2", " 5s", "+", "infs"])
def test_no_durations(text: str) -> None:
    with pytest.raises(Error, match="invalid duration"):
        duration(text)
