"""What a container uses, in the form in which containerd asks a shim for it (`gosudacon.wire.metrics`).

Each cgroup version has its message. What a kernel does not account is left out, and zero for the reader; a limit of
``max`` is 2^64 - 1, but no limit of processes on cgroup v1 is zero, as from containerd's own shim.
"""

from __future__ import annotations

from gosudacon.base import posix
from gosudacon.container import stats_v1
from gosudacon.linux.cgroup.statistics import number, page_sizes, pressure, read, reader, table
from gosudacon.wire import metrics, protobuf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gosudacon.linux.cgroup.statistics import Files
    from gosudacon.wire.protobuf import Message, Schema

_MOST_RDMA = (1 << 32) - 1  # "max" of a field of 32 bits
#: Words of v1's memory.stat -> fields; with ``total_`` before both for a cgroup and those below.
_V1_WORDS = {"pgpgin": "pg_pg_in", "pgpgout": "pg_pg_out", "pgfault": "pg_fault", "pgmajfault": "pg_maj_fault"}
_V1_WORDS |= {f"total_{word}": f"total_{field}" for word, field in _V1_WORDS.items()}
_V1_WORDS["hierarchical_memsw_limit"] = "hierarchical_swap_limit"
_V1_KINDS = {"usage": "memory", "swap": "memory.memsw", "kernel": "memory.kmem", "kernel_tcp": "memory.kmem.tcp"}
_V1_FILES = {"limit": "limit_in_bytes", "usage": "usage_in_bytes", "max": "max_usage_in_bytes", "failcnt": "failcnt"}
_V2_FILES = {
    "usage": "memory.current",
    "usage_limit": "memory.max",
    "max_usage": "memory.peak",
    "swap_usage": "memory.swap.current",
    "swap_limit": "memory.swap.max",
    "swap_max_usage": "memory.swap.peak",
}
#: Keys of `stats_v1` -> fields.
_BLKIO = {
    "ioServiceBytesRecursive": "io_service_bytes_recursive",
    "ioServicedRecursive": "io_serviced_recursive",
    "ioQueueRecursive": "io_queued_recursive",
    "ioServiceTimeRecursive": "io_service_time_recursive",
    "ioWaitTimeRecursive": "io_wait_time_recursive",
    "ioMergedRecursive": "io_merged_recursive",
    "ioTimeRecursive": "io_time_recursive",
    "sectorsRecursive": "sectors_recursive",
}


def collect(cgroups: Mapping[str, str]) -> Message | None:
    """The statistics of a container now, as the fields of `ANY`; None if its cgroups are gone.

    ``cgroups`` has the directory of each controller; the unified hierarchy's key is empty. Raises OSError.
    """
    legacy = {name: path for name, path in cgroups.items() if name and posix.path.exists(path)}
    if legacy:
        message = of_v1({name: reader(path) for name, path in legacy.items()}, page_sizes())
        return {"type_url": metrics.V1_TYPE, "value": protobuf.encode(metrics.V1, message)}
    unified = cgroups.get("", "")
    if set(cgroups) - {""} or not posix.path.exists(unified):
        return None
    message = of_v2(reader(unified), page_sizes())
    return {"type_url": metrics.V2_TYPE, "value": protobuf.encode(metrics.V2, message)}


def of_v1(groups: Mapping[str, Files], sizes: Iterable[str]) -> Message:
    """``io.containerd.cgroups.v1.Metrics`` from what reads the files of each controller's cgroup."""
    found: Message = {}
    if "pids" in groups:
        found["pids"] = _pids(groups["pids"], 0)
    if "cpuacct" in groups:
        found["cpu"] = {"usage": _v1_usage(groups["cpuacct"])}
    if "cpu" in groups:
        found.setdefault("cpu", {})["throttling"] = _v1_throttling(groups["cpu"]("cpu.stat"))
    if "memory" in groups:
        found["memory"] = _v1_memory(groups["memory"])
        found["memory_oom_control"] = _known(table(groups["memory"]("memory.oom_control")), metrics.V1_OOM)
    if "blkio" in groups:
        found["blkio"] = _v1_blkio(groups["blkio"])
    if "hugetlb" in groups:
        by_size = stats_v1.hugetlb(groups["hugetlb"], list(sizes))
        found["hugetlb"] = [{**entry, "pagesize": size} for size, entry in by_size.items()]
    if "rdma" in groups:
        found["rdma"] = _rdma(groups["rdma"])
    return found


def of_v2(files: Files, sizes: Iterable[str]) -> Message:
    """``io.containerd.cgroups.v2.Metrics`` from what reads the files of the cgroup."""
    return {
        "pids": _pids(files, metrics.UNLIMITED) if files("pids.current") else None,
        "cpu": {**_known(table(files("cpu.stat")), metrics.V2_CPU), "psi": _stalls(files("cpu.pressure"))},
        "memory": _v2_memory(files) if files("memory.current") else None,
        "rdma": _rdma(files),
        "io": {"usage": _v2_io(files("io.stat")), "psi": _stalls(files("io.pressure"))},
        "hugetlb": _v2_hugetlb(files, sizes),
        "memory_events": _known(table(files("memory.events")), metrics.V2_EVENTS) or None,
    }


def _known(values: Mapping[str, int], schema: Schema) -> Message:
    """Those that the message has a number for, of the same name: memory.stat has a word ``swap``, which is not it."""
    return {name: value for name, value in values.items() if name in schema and isinstance(schema[name][1], str)}


def _pids(files: Files, unlimited: int) -> Message:
    limit = files("pids.max").strip()
    return {"current": number(files("pids.current")), "limit": unlimited if limit == "max" else number(limit)}


def _rdma(files: Files) -> Message | None:
    current, limit = (_rdma_entries(files(f"rdma.{name}")) for name in ("current", "max"))
    return {"current": current, "limit": limit} if current or limit else None


def _rdma_entries(text: str) -> list[Message]:
    """Lines ``mlx4_0 hca_handle=2 hca_object=max``."""
    found = []
    for line in text.splitlines():
        device, *pairs = line.split()
        values = dict(pair.split("=") for pair in pairs)
        counts = {f"{name}s": _rdma_number(values.get(name, "0")) for name in ("hca_handle", "hca_object")}
        found.append({"device": device, **counts})
    return found


def _rdma_number(text: str) -> int:
    return min(number(text), _MOST_RDMA)


def _v1_usage(files: Files) -> Message:
    usage = stats_v1.cpu_usage(files)
    return {**{name: usage.get(name) for name in ("total", "kernel", "user")}, "per_cpu": usage.get("percpu")}


def _v1_throttling(text: str) -> Message:
    found = stats_v1.throttling(text)
    names = {"periods": "periods", "throttled_periods": "throttledPeriods", "throttled_time": "throttledTime"}
    return {field: found.get(key) for field, key in names.items()}


def _v1_memory(files: Files) -> Message:
    words = table(files("memory.stat"))
    found = _known({_V1_WORDS.get(word, word): value for word, value in words.items()}, metrics.V1_MEMORY)
    for field, prefix in _V1_KINDS.items():
        texts = {key: files(f"{prefix}.{name}") for key, name in _V1_FILES.items()}
        if any(texts.values()):
            found[field] = {key: number(text) for key, text in texts.items()}
    return found


def _v1_blkio(files: Files) -> Message:
    found = stats_v1.blkio(files)
    names = _devices() if found else {}

    def named(entry: Message) -> Message:
        return {**entry, "device": names.get((entry.get("major", 0), entry.get("minor", 0)))}

    return {field: [named(entry) for entry in found[key]] for key, field in _BLKIO.items() if key in found}


def _devices() -> dict[tuple[int, int], str]:
    """The files of block devices by number, from /proc/diskstats (Documentation/admin-guide/iostats.rst)."""
    rows = (line.split() for line in read("/proc/diskstats").splitlines())
    return {(int(row[0]), int(row[1])): f"/dev/{row[2]}" for row in rows}


def _v2_memory(files: Files) -> Message:
    words = table(files("memory.stat"))
    found = _known(words, metrics.V2_MEMORY)
    for word in ("workingset_refault", "workingset_activate"):  # since Linux 5.9 for each kind of pages
        if word not in words:
            found[word] = words.get(f"{word}_anon", 0) + words.get(f"{word}_file", 0)
    values = {field: number(files(name)) for field, name in _V2_FILES.items()}
    return {**found, **values, "psi": _stalls(files("memory.pressure"))}


def _v2_io(text: str) -> list[Message]:
    """Lines ``MAJOR:MINOR key=value …``; a device that is gone has no numbers."""
    found = []
    for line in text.splitlines():
        device, *pairs = line.split()
        major, _, minor = device.partition(":")
        if minor.isdigit():
            values = dict(pair.split("=") for pair in pairs if "=" in pair)
            known = {name: int(values[name]) for name in metrics.V2_IO_ENTRY if name in values}
            found.append({"major": int(major), "minor": int(minor), **known})
    return found


def _v2_hugetlb(files: Files, sizes: Iterable[str]) -> list[Message]:
    found = []
    for size in sizes:
        current = files(f"hugetlb.{size}.current")
        if current:
            failures = table(files(f"hugetlb.{size}.events")).get("max", 0)
            limit = number(files(f"hugetlb.{size}.max"))
            found.append({"current": number(current), "max": limit, "pagesize": size, "failcnt": failures})
    return found


def _stalls(text: str) -> Message | None:
    """A file ``*.pressure``; None where the kernel has none. Of the CPU, older kernels have no ``full``."""
    return dict(pressure(text)) or None
