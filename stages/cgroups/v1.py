"""cgroup v1, and the hybrid layout in which the unified hierarchy only groups processes."""

from __future__ import annotations

from gosudacon.api import ConfigError, Host, Spec, Step
from gosudacon.stages.cgroups import devices
from gosudacon.stages.cgroups.create import CreateCgroup
from gosudacon.stages.cgroups.limits import (
    Driver,
    Write,
    WriteFirst,
    WriteLate,
    WriteTogether,
    check_word,
    device_weights,
    hugepage_limits,
    rdma_limits,
    throttles,
)
from gosudacon.stages.cgroups.making import JoinCgroup
from gosudacon.stages.cgroups.paths import UNIFIED, v1_places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.schema.types import BlockIO, Cpu, Memory, Network, Pids, Resources, ResourcesDevice

_R = "linux.resources"
_LEAST_SHARES, _MOST_SHARES = 2, 1 << 18
_UNSET_SWAPPINESS = (1 << 64) - 1  # -1 in the callers that say it so
_THROTTLE_FILES = {
    "ReadBps": "read_bps",
    "WriteBps": "write_bps",
    "ReadIOPS": "read_iops",
    "WriteIOPS": "write_iops",
}


class Legacy(Driver):
    """A cgroup in each v1 hierarchy, and in the unified one if it is mounted as well."""

    def __init__(self, spec: Spec, host: Host) -> None:
        super().__init__(spec, host)
        self._places = v1_places(spec, host)
        self._mounted = host.cgroup_mounts

    def create(self) -> Iterator[Step]:
        yield CreateCgroup(places=self._places, rootless=self.rootless)
        controllers = [name for place in self._places for name in place[2]]
        by_clone = UNIFIED in controllers and self.host.clones_into_cgroup()
        yield JoinCgroup(controllers=controllers, joins_by_clone=by_clone)

    def devices(self, rules: list[ResourcesDevice]) -> Iterator[Step]:
        effective = devices.rules_of(rules)
        if self.rootless:  # mknod and device rules are the host's root's alone
            return
        if "devices" in self._mounted:
            yield from devices.steps(self.spec, effective, unified=False)
        elif UNIFIED in self._mounted:
            yield from devices.steps(self.spec, effective, unified=True)
        elif rules:
            self._need("devices", devices.WHERE)

    def limits(self, resources: Resources) -> Iterator[Step]:
        if resources.get("unified"):
            raise ConfigError("invalid configuration: cannot use unified on cgroup v1", where=f"{_R}.unified")
        yield from self._memory(resources.get("memory") or {})
        yield from self._cpu(resources.get("cpu") or {})
        yield from self._cpuset(resources.get("cpu") or {})
        yield from self._pids(resources.get("pids") or {})
        yield from self._block_io(resources.get("blockIO") or {})
        for where, size, limit in hugepage_limits(resources):
            for file, optional in ((f"hugetlb.{size}", False), (f"hugetlb.{size}.rsvd", True)):
                yield self._write("hugetlb", f"{file}.limit_in_bytes", limit, where, optional)
        yield from self._network(resources.get("network") or {})
        for where, line in rdma_limits(resources):
            yield self._write("rdma", "rdma.max", line, where)

    def _memory(self, memory: Memory) -> Iterator[Step]:
        limit, swap = memory.get("limit") or 0, memory.get("swap") or 0
        if limit == -1 and not swap:
            swap = -1
        both = [["memory.limit_in_bytes", str(limit)]] if limit else []
        both += [["memory.memsw.limit_in_bytes", str(swap)]] if swap else []
        if limit > 0 and 0 < swap < limit:
            raise ConfigError("memory+swap limit should be >= memory limit", where=f"{_R}.memory.swap")
        if both and not (limit == swap == -1):
            self._need("memory", f"{_R}.memory")
            yield WriteTogether(controller="memory", values=both, where=f"{_R}.memory.{'limit' if limit else 'swap'}")
        elif both:
            yield self._write("memory", both[1][0], "-1", f"{_R}.memory.limit", optional=True)  # never below the other
            yield self._write("memory", both[0][0], "-1", f"{_R}.memory.limit")
        for key, file, value in (
            ("reservation", "memory.soft_limit_in_bytes", memory.get("reservation")),
            ("kernelTCP", "memory.kmem.tcp.limit_in_bytes", memory.get("kernelTCP")),
        ):
            if value:
                yield self._write("memory", file, str(value), f"{_R}.memory.{key}")
        if memory.get("disableOOMKiller"):
            yield self._write("memory", "memory.oom_control", "1", f"{_R}.memory.disableOOMKiller")
        swappiness = memory.get("swappiness")
        if swappiness not in (None, _UNSET_SWAPPINESS):
            where = f"{_R}.memory.swappiness"
            if not 0 <= swappiness <= 100:
                raise ConfigError(f"invalid memory swappiness value: {swappiness} (valid range is 0-100)", where=where)
            yield self._write("memory", "memory.swappiness", str(swappiness), where)

    def _cpu(self, cpu: Cpu) -> Iterator[Step]:
        if cpu.get("idle") is not None:
            yield self._write("cpu", "cpu.idle", str(cpu["idle"]), f"{_R}.cpu.idle")
        shares = cpu.get("shares") or 0
        if shares and cpu.get("idle") != 1:  # the kernel takes no shares for an idle cgroup
            for bound, word, wrong in (
                (_LEAST_SHARES, "minimum", shares < _LEAST_SHARES),
                (_MOST_SHARES, "maximum", shares > _MOST_SHARES),
            ):
                if wrong:
                    raise ConfigError(f"the {word} allowed cpu-shares is {bound}", where=f"{_R}.cpu.shares")
            yield self._write("cpu", "cpu.shares", str(shares), f"{_R}.cpu.shares")
        bandwidth = _set({"cpu.cfs_period_us": cpu.get("period"), "cpu.cfs_quota_us": cpu.get("quota")})
        if cpu.get("burst") is not None:
            bandwidth.append(["cpu.cfs_burst_us", str(cpu["burst"])])
        yield from self._together("cpu", bandwidth, f"{_R}.cpu.quota")
        realtime = _set(
            {"cpu.rt_period_us": cpu.get("realtimePeriod"), "cpu.rt_runtime_us": cpu.get("realtimeRuntime")}
        )
        yield from self._together("cpu", realtime, f"{_R}.cpu.realtimeRuntime")

    def _cpuset(self, cpu: Cpu) -> Iterator[Step]:
        for key, value in (("cpus", cpu.get("cpus")), ("mems", cpu.get("mems"))):
            if value:
                yield self._write("cpuset", f"cpuset.{key}", value, f"{_R}.cpu.{key}")

    def _pids(self, pids: Pids) -> Iterator[Step]:
        limit = pids.get("limit")
        if limit is not None:
            self._need("pids", f"{_R}.pids.limit")
            value = "max" if limit < 0 else str(max(limit, 1))
            yield WriteLate(controller="pids", file="pids.max", value=value, where=f"{_R}.pids.limit")

    def _block_io(self, block: BlockIO) -> Iterator[Step]:
        where = f"{_R}.blockIO"
        if block.get("weight"):
            yield self._first(f"{where}.weight", ["blkio.weight", "blkio.bfq.weight"], str(block["weight"]))
        if block.get("leafWeight"):
            yield self._write("blkio", "blkio.leaf_weight", str(block["leafWeight"]), f"{where}.leafWeight")
        for place, device, entry in device_weights(block):
            if entry.get("weight"):
                files = ["blkio.weight_device", "blkio.bfq.weight_device"]
                yield self._first(place, files, f"{device} {entry['weight']}")
            if entry.get("leafWeight"):
                yield self._write("blkio", "blkio.leaf_weight_device", f"{device} {entry['leafWeight']}", place)
        for place, kind, device, rate in throttles(block):
            file = f"blkio.throttle.{_THROTTLE_FILES[kind]}_device"
            yield self._write("blkio", file, f"{device} {rate}", place)

    def _network(self, network: Network) -> Iterator[Step]:
        if network.get("classID"):
            yield self._write("net_cls", "net_cls.classid", str(network["classID"]), f"{_R}.network.classID")
        for index, entry in enumerate(network.get("priorities") or ()):
            where = f"{_R}.network.priorities[{index}]"
            check_word(entry["name"], "interface", f"{where}.name")
            yield self._write("net_prio", "net_prio.ifpriomap", f"{entry['name']} {entry['priority']}", where)

    def _write(self, controller: str, file: str, value: str, where: str, optional: bool = False) -> Step:
        self._need(controller, where)
        return Write(controller=controller, file=file, value=value, where=where, optional=optional)

    def _first(self, where: str, files: list[str], value: str) -> Step:
        self._need("blkio", where)
        return WriteFirst(controller="blkio", choices=[[file, value] for file in files], where=where)

    def _together(self, controller: str, values: list[list[str]], where: str) -> Iterator[Step]:
        if len(values) == 1:
            yield self._write(controller, values[0][0], values[0][1], where)
        elif values:
            self._need(controller, where)
            yield WriteTogether(controller=controller, values=values, where=where)

    def _need(self, controller: str, where: str) -> None:
        if controller not in self._mounted:
            raise ConfigError(
                f"the {controller} cgroup controller is not mounted, so {where} cannot be set", where=where
            )


def _set(values: dict[str, int | None]) -> list[list[str]]:
    """[file, value] of those that are there and not 0, which means "not set"."""
    return [[file, str(value)] for file, value in values.items() if value]
