"""What a container uses, in the form in which runc's ``events`` prints it.

`stats_v1` and `stats_v2` know which file holds what; `gosudacon.linux.cgroup.statistics` reads the files' formats.
"""

from __future__ import annotations

from gosudacon.base import posix, ranges
from gosudacon.base.errors import Error
from gosudacon.container import whereabouts
from gosudacon.linux.cgroup.statistics import page_sizes, read, reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeVar

    from gosudacon.container.state import Container

    Value = TypeVar("Value")

#: Flags of a cpuset that are always there, on cgroup v2 without a value.
CPUSET_FLAGS = (
    "cpu_exclusive",
    "mem_hardwall",
    "mem_exclusive",
    "memory_migrate",
    "memory_spread_page",
    "memory_spread_slab",
    "memory_pressure",
    "sched_load_balance",
    "sched_relax_domain_level",
)
PURPOSE = "tell what the container uses"
_LINK = ("Bytes", "Packets", "Errors", "Dropped")


def collect(container: Container) -> dict[str, object]:
    """The statistics of a container now; zero, or left out, for what its cgroups do not account.

    Raises `Error` for a container that has no cgroup, or whose init has been moved out of one that accounts.
    """
    cgroups: dict[str, str] = container.data["cgroups"]
    if not cgroups:
        raise Error("the container has no cgroup, so nothing of what it uses is accounted")
    whereabouts.require(container, accounting(cgroups), PURPOSE)
    if set(cgroups) - {""}:
        from gosudacon.container import stats_v1

        data = stats_v1.statistics({name: reader(path) for name, path in cgroups.items() if name}, page_sizes())
    else:
        from gosudacon.container import stats_v2

        data = stats_v2.statistics(reader(cgroups.get("", "")), page_sizes())
    data["intel_rdt"] = {}
    data["network_interfaces"] = links(container.data["pid"])
    return data


def accounting(cgroups: Mapping[str, str]) -> list[str]:
    """The controllers of the hierarchies that account: not those that only have a name, nor v2's next to v1's."""
    return [name for name in cgroups if name and "=" not in name] or [""]


def sparse(fields: Mapping[str, Value]) -> dict[str, Value]:
    """The fields without those that are zero or empty."""
    return {key: value for key, value in fields.items() if value}


def cpuset(cpus: str, mems: str, flags: Mapping[str, int]) -> dict[str, object]:
    """The object ``cpuset``, all of whose flags are always there."""
    lists = sparse({"cpus": ranges.parse(cpus, ranges.MOST_CPUS), "mems": ranges.parse(mems, ranges.MOST_NODES)})
    return {**lists, **{name: flags.get(name, 0) for name in CPUSET_FLAGS}}


def memory_entry(limit: int, usage: int, most: int = 0, failures: int = 0) -> dict[str, int]:
    """One kind of memory, in bytes; empty if there is nothing to say."""
    if not (limit or usage or most or failures):
        return {}
    return {"limit": limit, **sparse({"usage": usage, "max": most}), "failcnt": failures}


def interfaces(text: str) -> list[dict[str, object]]:
    """/proc/PID/net/dev (proc(5)) without ``lo``, whose traffic stays inside."""
    found = []
    for line in text.splitlines()[2:]:
        name, _, counters = line.partition(":")
        columns = [int(value) for value in counters.split()]
        if name.strip() != "lo":
            received = {f"Rx{what}": columns[index] for index, what in enumerate(_LINK)}
            sent = {f"Tx{what}": columns[8 + index] for index, what in enumerate(_LINK)}
            found.append({"Name": name.strip(), **received, **sent})
    return found


def links(pid: int) -> list[dict[str, object]] | None:
    """The network interfaces in the namespace of process ``pid``; None if that is the caller's, or has none."""
    try:
        if posix.readlink(f"/proc/{pid}/ns/net") == posix.readlink("/proc/self/ns/net"):
            return None
    except OSError:
        return None
    return interfaces(read(f"/proc/{pid}/net/dev")) or None
