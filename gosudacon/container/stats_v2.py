"""Statistics from the files of cgroup v2 (Documentation/admin-guide/cgroup-v2.rst)."""

from __future__ import annotations

from gosudacon.container.stats import cpuset, memory_entry, sparse
from gosudacon.linux.cgroup.statistics import number, pressure, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.linux.cgroup.statistics import Files

_UNLIMITED = (1 << 64) - 1
_MICROSECOND = 1000  # nanoseconds
#: Key of io.stat -> where it belongs; discards have no place in the format.
_IO = {
    "rbytes": ("ioServiceBytesRecursive", "Read"),
    "wbytes": ("ioServiceBytesRecursive", "Write"),
    "rios": ("ioServicedRecursive", "Read"),
    "wios": ("ioServicedRecursive", "Write"),
}


def statistics(files: Files, page_sizes: list[str]) -> dict[str, object]:
    """All but the network, from what reads the files of the cgroup."""
    limit = files("pids.max").strip()
    return {
        "cpu": cpu(files),
        "cpuset": cpuset(files("cpuset.cpus.effective"), files("cpuset.mems.effective"), {}),
        "memory": memory(files),
        "pids": sparse({"current": number(files("pids.current")), "limit": 0 if limit == "max" else number(limit)}),
        "blkio": blkio(files("io.stat"), files("io.pressure")),
        "hugetlb": hugetlb(files, page_sizes),
    }


def cpu(files: Files) -> dict[str, object]:
    """``cpu``, nanoseconds."""
    found = table(files("cpu.stat"))

    def time(name: str) -> int:
        return found.get(name, 0) * _MICROSECOND

    return {
        "usage": {
            **sparse({"total": time("usage_usec")}),
            "kernel": time("system_usec"),
            "user": time("user_usec"),
        },
        "throttling": sparse(
            {
                "periods": found.get("nr_periods", 0),
                "throttledPeriods": found.get("nr_throttled", 0),
                "throttledTime": time("throttled_usec"),
            }
        ),
        **sparse({"psi": pressure(files("cpu.pressure"))}),
    }


def memory(files: Files) -> dict[str, object]:
    """``memory``, bytes. ``swap`` is memory and swap together, as on cgroup v1."""
    raw = table(files("memory.stat"))
    limit, usage, most = (number(files(f"memory.{name}")) for name in ("max", "current", "peak"))
    swap_limit, swap, swap_most = (number(files(f"memory.swap.{name}")) for name in ("max", "current", "peak"))
    together = _UNLIMITED if _UNLIMITED in (limit, swap_limit) else limit + swap_limit
    return sparse(
        {
            "cache": raw.get("file", 0),
            "usage": memory_entry(limit, usage, most),
            "swap": memory_entry(together, usage + swap, most + swap_most),
            "raw": raw,
            "psi": pressure(files("memory.pressure")),
        }
    )


def blkio(text: str, stalls: str) -> dict[str, object]:
    """``blkio`` from io.stat and io.pressure."""
    found: dict[str, list[object]] = {}
    for line in text.splitlines():
        device, *pairs = line.split()
        major, _, minor = device.partition(":")
        if not minor.isdigit():  # "(unknown)", of a device that is gone
            continue
        for key, value in (pair.split("=") for pair in pairs if "=" in pair):
            if key in _IO:
                name, operation = _IO[key]
                entry = {"major": int(major), "minor": int(minor), "op": operation, "value": int(value)}
                found.setdefault(name, []).append(sparse(entry))
    return sparse({**found, "psi": pressure(stalls)})


def hugetlb(files: Files, page_sizes: list[str]) -> dict[str, object]:
    """``hugetlb``, bytes, by page size."""
    found: dict[str, object] = {}
    for size in page_sizes:
        usage = files(f"hugetlb.{size}.current")
        if usage:
            failures = table(files(f"hugetlb.{size}.events")).get("max", 0)
            found[size] = {**sparse({"usage": number(usage)}), "failcnt": failures}
    return found
