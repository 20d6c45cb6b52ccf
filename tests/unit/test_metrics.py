"""Statistics for containerd: what becomes of the files of cgroups, which were recorded from real kernels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gosudacon.container import metrics
from gosudacon.wire import metrics as messages
from gosudacon.wire import protobuf

if TYPE_CHECKING:
    from gosudacon.linux.cgroup.statistics import Files
    from gosudacon.wire.protobuf import Message

RECORDED = Path(__file__).with_name("cgroup_files")
UNLIMITED = (1 << 64) - 1
NO_LIMIT_V1 = 9223372036854771712  # of a machine with pages of 4 KiB
PRESSURE = "some avg10=1.50 avg60=0.25 avg300=0.00 total=12345\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=678\n"


def recorded(name: str) -> dict[str, str]:
    """The files of a recording by name."""
    sections = RECORDED.joinpath(name).read_text().split("=== ")[1:]
    return dict(section.split("\n", 1) for section in sections)


def files(contents: dict[str, str]) -> Files:
    return lambda name: contents.get(name, "")


def v1(contents: dict[str, str], sizes: tuple[str, ...] = ("2MB",)) -> Message:
    """What containerd reads; the names are CONTROLLER/FILE."""
    groups: dict[str, dict[str, str]] = {}
    for name, text in contents.items():
        controller, _, file = name.partition("/")
        groups.setdefault(controller, {})[file] = text
    message = metrics.of_v1({controller: files(texts) for controller, texts in groups.items()}, sizes)
    return protobuf.decode(messages.V1, protobuf.encode(messages.V1, message))


def v2(contents: dict[str, str], sizes: tuple[str, ...] = ("1GB", "2MB")) -> Message:
    """What containerd reads."""
    return protobuf.decode(messages.V2, protobuf.encode(messages.V2, metrics.of_v2(files(contents), sizes)))


def some(message: Message) -> dict[str, Any]:
    """The fields that are not zero."""
    return {name: value for name, value in message.items() if value}


def test_v2_as_recorded() -> None:
    """Linux 6.1, a limit of 100 MB, of 77 processes and of half a processor."""
    found = v2(recorded("v2.txt"))
    assert found["pids"] == {"current": 2, "limit": 77}
    stalls = found["cpu"].pop("psi")
    assert some(found["cpu"]) == {
        "usage_usec": 3081822,
        "user_usec": 80746,
        "system_usec": 3001076,
        "nr_periods": 63,
        "nr_throttled": 60,
        "throttled_usec": 2894611,
    }
    assert stalls == {
        "some": {"avg10": 19.30, "avg60": 3.95, "avg300": 0.84, "total": 2765740},
        "full": {"avg10": 19.30, "avg60": 3.95, "avg300": 0.84, "total": 2765422},
    }
    stalls = found["memory"].pop("psi")
    assert some(found["memory"]) == {
        "anon": 1159168,
        "kernel_stack": 16384,
        "slab": 34040,
        "inactive_anon": 1155072,
        "active_anon": 4096,
        "slab_unreclaimable": 34040,
        "pgfault": 333,
        "usage": 1294336,
        "usage_limit": 99999744,
        "swap_limit": UNLIMITED,
        "max_usage": 1294336,
    }
    nothing = {"avg10": 0.0, "avg60": 0.0, "avg300": 0.0, "total": 0}
    assert stalls == {"some": nothing, "full": nothing}
    assert found["io"] == {"usage": [], "psi": {"some": nothing, "full": nothing}}
    assert found["hugetlb"] == [
        {"current": 0, "max": UNLIMITED, "pagesize": "1GB", "failcnt": 0},
        {"current": 0, "max": UNLIMITED, "pagesize": "2MB", "failcnt": 0},
    ]
    assert set(found["memory_events"]) == {"low", "high", "max", "oom", "oom_kill", "oom_group_kill"}
    assert found["rdma"] is None


def test_v2_the_rest() -> None:
    """What that machine had no use for."""
    found = v2(
        {
            "memory.events": "low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\noom_group_kill 6\nnew 7\n",
            "memory.current": "1\n",
            "memory.stat": "workingset_refault_anon 1\nworkingset_refault_file 2\nworkingset_activate 5\n",
            "memory.pressure": PRESSURE,
            "io.stat": "8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=9 dios=9\n(unknown) rbytes=1\n8:0 \n",
            "hugetlb.2MB.current": "2097152\n",
            "hugetlb.2MB.max": "4194304\n",
            "hugetlb.2MB.events": "max 4\n",
            "rdma.current": "mlx4_0 hca_handle=2 hca_object=20\n",
            "rdma.max": "mlx4_0 hca_handle=max hca_object=2000\n",
            "pids.current": "3\n",
            "pids.max": "max\n",
        }
    )
    assert list(found["memory_events"].values()) == [1, 2, 3, 4, 5, 6]
    memory = found["memory"]
    assert (memory["usage"], memory["workingset_refault"], memory["workingset_activate"]) == (1, 3, 5)
    assert memory["psi"]["some"] == {"avg10": 1.5, "avg60": 0.25, "avg300": 0.0, "total": 12345}
    assert [list(entry.values()) for entry in found["io"]["usage"]] == [[8, 16, 1, 2, 3, 4], [8, 0, 0, 0, 0, 0]]
    assert found["hugetlb"] == [{"current": 2097152, "max": 4194304, "pagesize": "2MB", "failcnt": 4}]
    assert found["rdma"] == {
        "current": [{"device": "mlx4_0", "hca_handles": 2, "hca_objects": 20}],
        "limit": [{"device": "mlx4_0", "hca_handles": (1 << 32) - 1, "hca_objects": 2000}],
    }
    assert found["pids"] == {"current": 3, "limit": UNLIMITED}


def test_v2_with_nothing() -> None:
    """Controllers that are not enabled: no message, rather than one that says zero."""
    found = v2({"cpu.stat": "usage_usec 1\n"})
    assert {name for name, value in found.items() if value} == {"cpu", "io"}
    assert found["cpu"]["psi"] is found["io"]["psi"] is None


def test_v1_as_recorded() -> None:
    found = v1(recorded("v1.txt"))
    assert found["cpu"]["usage"] == {
        "total": 12210048951,
        "kernel": 8260000000,
        "user": 3940000000,
        "per_cpu": [6553621347, 5656427604],
    }
    assert found["cpu"]["throttling"] == {"periods": 0, "throttled_periods": 0, "throttled_time": 0}
    memory = found["memory"]
    kinds = {name: memory.pop(name) for name in ("usage", "swap", "kernel", "kernel_tcp")}
    assert kinds["usage"]["limit"] == kinds["swap"]["limit"] == NO_LIMIT_V1
    assert (kinds["kernel"]["usage"], kinds["kernel"]["max"]) == (422350848, 429117440)
    assert kinds["kernel_tcp"] == {"limit": NO_LIMIT_V1, "usage": 0, "max": 0, "failcnt": 0}
    text = recorded("v1.txt")["memory/memory.stat"]
    words = {name: int(value) for name, value in (line.split() for line in text.splitlines())}
    assert memory["hierarchical_memory_limit"] == memory["hierarchical_swap_limit"] == NO_LIMIT_V1
    for field, word in (
        *(("total_cache", "total_cache"), ("total_rss", "total_rss"), ("total_rss_huge", "total_rss_huge")),
        *(("total_pg_fault", "total_pgfault"), ("total_pg_maj_fault", "total_pgmajfault")),
        *(("total_pg_pg_in", "total_pgpgin"), ("total_pg_pg_out", "total_pgpgout")),
        *(("total_inactive_file", "total_inactive_file"), ("total_dirty", "total_dirty")),
    ):
        assert memory[field] == words[word] > 0
    assert found["memory_oom_control"] == {"oom_kill_disable": 0, "under_oom": 0, "oom_kill": 0}
    assert found["pids"] == {"current": 1, "limit": 0}
    operations = [entry["op"] for entry in found["blkio"]["io_serviced_recursive"]]
    assert operations == ["Read", "Write", "Sync", "Async", "Discard", "Total"]
    assert {(entry["major"], entry["minor"]) for entry in found["blkio"]["io_serviced_recursive"]} == {(7, 0)}
    assert found["hugetlb"] == [] and found["rdma"] is None


def test_v1_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """What that machine had no use for."""
    monkeypatch.setattr(metrics, "read", {"/proc/diskstats": "   8       0 sda 1 2 3\n   0       1 nul 1\n"}.get)
    found = v1(
        {
            "cpu/cpu.stat": "nr_periods 9\nnr_throttled 2\nthrottled_time 5\n",
            "memory/memory.stat": "cache 1\nrss 2\npgfault 3\n",
            "memory/memory.limit_in_bytes": "100\n",
            "memory/memory.failcnt": "7\n",
            "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 1\noom_kill 2\n",
            "pids/pids.current": "3\n",
            "pids/pids.max": "77\n",
            "blkio/blkio.throttle.io_service_bytes_recursive": "8:0 Read 10\n9:1 Read 5\nTotal 15\n",
            "blkio/blkio.bfq.io_serviced_recursive": "",
            "hugetlb/hugetlb.2MB.usage_in_bytes": "1\n",
            "hugetlb/hugetlb.2MB.max_usage_in_bytes": "2\n",
            "hugetlb/hugetlb.2MB.failcnt": "3\n",
            "rdma/rdma.current": "mlx4_0 hca_handle=2 hca_object=20\n",
            "rdma/rdma.max": "mlx4_0 hca_handle=max hca_object=max\n",
        }
    )
    assert found["cpu"] == {
        "usage": None,
        "throttling": {"periods": 9, "throttled_periods": 2, "throttled_time": 5},
    }
    memory = found["memory"]
    assert (memory["cache"], memory["rss"], memory["pg_fault"]) == (1, 2, 3)
    assert memory["usage"] == {"limit": 100, "usage": 0, "max": 0, "failcnt": 7}
    assert memory["swap"] is memory["kernel"] is None
    assert found["memory_oom_control"] == {"oom_kill_disable": 0, "under_oom": 1, "oom_kill": 2}
    assert found["pids"] == {"current": 3, "limit": 77}
    assert found["blkio"]["io_service_bytes_recursive"] == [
        {"op": "Read", "device": "/dev/sda", "major": 8, "minor": 0, "value": 10},
        {"op": "Read", "device": "", "major": 9, "minor": 1, "value": 5},
    ]
    assert found["hugetlb"] == [{"usage": 1, "max": 2, "failcnt": 3, "pagesize": "2MB"}]
    assert found["rdma"]["limit"] == [{"device": "mlx4_0", "hca_handles": (1 << 32) - 1, "hca_objects": (1 << 32) - 1}]


def test_v1_with_nothing() -> None:
    """No controller of v1 is there that counts."""
    assert not any(v1({"devices/devices.list": ""}).values())


def test_which_version(tmp_path: Path) -> None:
    """Controllers of v1 decide; of cgroups that are gone there is nothing to say."""
    unified, gone = str(tmp_path), str(tmp_path / "gone")
    for cgroups, kind in (
        ({"": unified}, messages.V2_TYPE),
        ({"": unified, "pids": unified}, messages.V1_TYPE),
        ({"pids": unified, "memory": gone}, messages.V1_TYPE),
    ):
        found = metrics.collect(cgroups)
        assert found is not None and found["type_url"] == kind
    for cgroups in ({"": gone}, {"": unified, "pids": gone}, {"pids": gone}, {}):
        assert metrics.collect(cgroups) is None


def test_a_cgroup_that_goes_while_it_is_read() -> None:
    """memory.stat has a word ``swap``, which must not take the place of the numbers in memory.memsw.*."""
    message = metrics.of_v1({"memory": files({"memory.stat": "cache 7\nswap 5\nrss 3\n"})}, ())
    data = protobuf.encode(messages.V1, message)
    assert protobuf.decode(messages.V1, data)["memory"]["cache"] == 7
