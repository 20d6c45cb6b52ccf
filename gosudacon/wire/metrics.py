"""Statistics of a container as containerd wants them: ``Metrics`` of its cgroups project, one for each cgroup version.

The fields for the network and for tasks by their state are left out: nothing fills them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.wire.protobuf import Kind, Schema


UNLIMITED = (1 << 64) - 1


def _counters(*names: str) -> dict[str, tuple[int, Kind]]:
    """Unsigned numbers of 64 bits, numbered from 1."""
    return {name: (number, "uint64") for number, name in enumerate(names, 1)}


_PIDS: Schema = _counters("current", "limit")
_RDMA_ENTRY: Schema = {"device": (1, "string"), "hca_handles": (2, "uint32"), "hca_objects": (3, "uint32")}
_RDMA: Schema = {"current": (1, [_RDMA_ENTRY]), "limit": (2, [_RDMA_ENTRY])}

_V1_LIMITED: Schema = _counters("limit", "usage", "max", "failcnt")
_V1_OF_A_GROUP = ("cache", "rss", "rss_huge", "mapped_file", "dirty", "writeback", "pg_pg_in", "pg_pg_out", "pg_fault")
_V1_LISTS = ("pg_maj_fault", "inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable")
V1_MEMORY: Schema = {
    **_counters(
        *_V1_OF_A_GROUP,
        *_V1_LISTS,
        *("hierarchical_memory_limit", "hierarchical_swap_limit"),
        *(f"total_{name}" for name in (*_V1_OF_A_GROUP, *_V1_LISTS)),
    ),
    "usage": (33, _V1_LIMITED),
    "swap": (34, _V1_LIMITED),
    "kernel": (35, _V1_LIMITED),
    "kernel_tcp": (36, _V1_LIMITED),
}
_V1_BLKIO_ENTRY: Schema = {
    "op": (1, "string"),
    "device": (2, "string"),
    "major": (3, "uint64"),
    "minor": (4, "uint64"),
    "value": (5, "uint64"),
}
_V1_BLKIO: Schema = {
    "io_service_bytes_recursive": (1, [_V1_BLKIO_ENTRY]),
    "io_serviced_recursive": (2, [_V1_BLKIO_ENTRY]),
    "io_queued_recursive": (3, [_V1_BLKIO_ENTRY]),
    "io_service_time_recursive": (4, [_V1_BLKIO_ENTRY]),
    "io_wait_time_recursive": (5, [_V1_BLKIO_ENTRY]),
    "io_merged_recursive": (6, [_V1_BLKIO_ENTRY]),
    "io_time_recursive": (7, [_V1_BLKIO_ENTRY]),
    "sectors_recursive": (8, [_V1_BLKIO_ENTRY]),
}
_V1_CPU: Schema = {
    "usage": (1, {**_counters("total", "kernel", "user"), "per_cpu": (4, ["uint64"])}),
    "throttling": (2, _counters("periods", "throttled_periods", "throttled_time")),
}
V1_OOM: Schema = _counters("oom_kill_disable", "under_oom", "oom_kill")
V1_TYPE = "io.containerd.cgroups.v1.Metrics"
V1: Schema = {
    "hugetlb": (1, [{**_counters("usage", "max", "failcnt"), "pagesize": (4, "string")}]),
    "pids": (2, _PIDS),
    "cpu": (3, _V1_CPU),  # nanoseconds
    "memory": (4, V1_MEMORY),
    "blkio": (5, _V1_BLKIO),
    "rdma": (6, _RDMA),
    "memory_oom_control": (9, V1_OOM),
}

_PRESSURE: Schema = {"avg10": (1, "double"), "avg60": (2, "double"), "avg300": (3, "double"), "total": (4, "uint64")}
_STALLS: Schema = {"some": (1, _PRESSURE), "full": (2, _PRESSURE)}
V2_CPU: Schema = {  # microseconds
    **_counters("usage_usec", "user_usec", "system_usec", "nr_periods", "nr_throttled", "throttled_usec"),
    "psi": (7, _STALLS),
    "nr_bursts": (8, "uint64"),
    "burst_usec": (9, "uint64"),
}
V2_MEMORY: Schema = {
    **_counters(
        *("anon", "file", "kernel_stack", "slab", "sock", "shmem", "file_mapped", "file_dirty", "file_writeback"),
        *("anon_thp", "inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable"),
        *("slab_reclaimable", "slab_unreclaimable", "pgfault", "pgmajfault"),
        *("workingset_refault", "workingset_activate", "workingset_nodereclaim"),
        *("pgrefill", "pgscan", "pgsteal", "pgactivate", "pgdeactivate", "pglazyfree", "pglazyfreed"),
        *("thp_fault_alloc", "thp_collapse_alloc"),
        *("usage", "usage_limit", "swap_usage", "swap_limit", "max_usage", "swap_max_usage"),
    ),
    "psi": (38, _STALLS),
}
V2_IO_ENTRY: Schema = _counters("major", "minor", "rbytes", "wbytes", "rios", "wios")
V2_EVENTS: Schema = _counters("low", "high", "max", "oom", "oom_kill", "oom_group_kill")
_V2_HUGETLB: Schema = {**_counters("current", "max"), "pagesize": (3, "string"), "failcnt": (4, "uint64")}
V2_TYPE = "io.containerd.cgroups.v2.Metrics"
V2: Schema = {
    "pids": (1, _PIDS),
    "cpu": (2, V2_CPU),
    "memory": (4, V2_MEMORY),
    "rdma": (5, _RDMA),
    "io": (6, {"usage": (1, [V2_IO_ENTRY]), "psi": (2, _STALLS)}),
    "hugetlb": (7, [_V2_HUGETLB]),
    "memory_events": (8, V2_EVENTS),
}
