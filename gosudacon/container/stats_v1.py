"""Statistics from the files of cgroup v1 (Documentation/admin-guide/cgroup-v1)."""

from __future__ import annotations

from gosudacon.base import posix
from gosudacon.container.stats import CPUSET_FLAGS, cpuset, memory_entry, sparse
from gosudacon.linux.cgroup.statistics import number, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from gosudacon.linux.cgroup.statistics import Files

_TICK = 1_000_000_000 // posix.sysconf("SC_CLK_TCK")  # nanoseconds
_MEMORY = ("limit_in_bytes", "usage_in_bytes", "max_usage_in_bytes", "failcnt")
#: Key -> its name in each family of files: those of the CFQ and BFQ schedulers, then, without either, of throttling.
_BLKIO = {
    "ioServiceBytesRecursive": "io_service_bytes_recursive",
    "ioServicedRecursive": "io_serviced_recursive",
    "ioQueueRecursive": "io_queued_recursive",
    "ioServiceTimeRecursive": "io_service_time_recursive",
    "ioWaitTimeRecursive": "io_wait_time_recursive",
    "ioMergedRecursive": "io_merged_recursive",
    "ioTimeRecursive": "time_recursive",
    "sectorsRecursive": "sectors_recursive",
}
_THROTTLED = ("ioServiceBytesRecursive", "ioServicedRecursive")


def statistics(groups: Mapping[str, Files], sizes: list[str]) -> dict[str, object]:
    """All but the network, from what reads the files of each controller's cgroup."""

    def files(controller: str) -> Files:
        return groups.get(controller, _nothing)

    sets, pids = files("cpuset"), files("pids")
    limit = pids("pids.max").strip()
    return {
        "cpu": {"usage": cpu_usage(files("cpuacct")), "throttling": throttling(files("cpu")("cpu.stat"))},
        "cpuset": cpuset(
            sets("cpuset.cpus"),
            sets("cpuset.mems"),
            {name: number(sets(f"cpuset.{name}")) for name in CPUSET_FLAGS},
        ),
        "memory": memory(files("memory")),
        "pids": sparse({"current": number(pids("pids.current")), "limit": 0 if limit == "max" else number(limit)}),
        "blkio": blkio(files("blkio")),
        "hugetlb": hugetlb(files("hugetlb"), sizes),
    }


def cpu_usage(files: Files) -> dict[str, object]:
    """``cpu.usage``, nanoseconds."""
    ticks = table(files("cpuacct.stat"))
    rows = [line.split() for line in files("cpuacct.usage_all").splitlines()[1:]]  # cpu user system
    return {
        **sparse(
            {
                "total": number(files("cpuacct.usage")),
                "percpu": [int(word) for word in files("cpuacct.usage_percpu").split()],
                "percpu_kernel": [int(row[2]) for row in rows],
                "percpu_user": [int(row[1]) for row in rows],
            }
        ),
        "kernel": ticks.get("system", 0) * _TICK,
        "user": ticks.get("user", 0) * _TICK,
    }


def throttling(text: str) -> dict[str, int]:
    """``cpu.throttling`` from cpu.stat."""
    found = table(text)
    return sparse(
        {
            "periods": found.get("nr_periods", 0),
            "throttledPeriods": found.get("nr_throttled", 0),
            "throttledTime": found.get("throttled_time", 0),
        }
    )


def memory(files: Files) -> dict[str, object]:
    """``memory``, bytes."""
    raw = table(files("memory.stat"))
    found: dict[str, object] = {"cache": raw.get("cache", 0)}
    for key, infix in (("usage", ""), ("swap", ".memsw"), ("kernel", ".kmem"), ("kernelTCP", ".kmem.tcp")):
        values = (files(f"memory{infix}.{name}") for name in _MEMORY)
        found[key] = memory_entry(*(number(value) for value in values))
    return sparse({**found, "raw": raw})


def blkio(files: Files) -> dict[str, list[dict[str, object]]]:
    """``blkio``: of the scheduler that accounts, else of throttling, which counts what any of them passes."""
    for family in ("blkio.bfq.", "blkio."):
        found = {key: operations(files(family + name)) for key, name in _BLKIO.items()}
        if found["ioServicedRecursive"]:
            return sparse(found)
    return sparse({key: operations(files(f"blkio.throttle.{_BLKIO[key]}")) for key in _THROTTLED})


def operations(text: str) -> list[dict[str, object]]:
    """Lines ``MAJOR:MINOR OPERATION VALUE`` or ``MAJOR:MINOR VALUE``; the sum over all devices is left out."""
    found = []
    for line in text.splitlines():
        device, *rest = line.split()
        if device == "Total":
            continue
        major, minor = (int(word) for word in device.split(":"))
        entry = {"major": major, "minor": minor, "op": rest[0] if len(rest) > 1 else "", "value": int(rest[-1])}
        found.append(sparse(entry))
    return found


def hugetlb(files: Files, sizes: list[str]) -> dict[str, dict[str, int]]:
    """``hugetlb``, bytes, by page size."""
    found: dict[str, dict[str, int]] = {}
    for size in sizes:
        usage = files(f"hugetlb.{size}.usage_in_bytes")
        if usage:
            most = number(files(f"hugetlb.{size}.max_usage_in_bytes"))
            failures = number(files(f"hugetlb.{size}.failcnt"))
            found[size] = {**sparse({"usage": number(usage), "max": most}), "failcnt": failures}
    return found


def _nothing(_name: str) -> str:
    return ""
