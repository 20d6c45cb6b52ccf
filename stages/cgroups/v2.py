"""cgroup v2: one hierarchy for everything (kernel: Documentation/admin-guide/cgroup-v2.rst)."""

from __future__ import annotations

from errno import EBUSY, ENOENT

from gosudacon.api import ConfigError, Context, Spec, Step, StepError
from gosudacon.base import posix
from gosudacon.base.errors import SyscallError
from gosudacon.linux import mount
from gosudacon.linux.cgroup import files
from gosudacon.stages.cgroups import convert, devices
from gosudacon.stages.cgroups.create import CreateUnifiedCgroup
from gosudacon.stages.cgroups.limits import (
    Driver,
    Limit,
    Write,
    WriteFirst,
    WriteLate,
    WriteTogether,
    device_weights,
    hugepage_limits,
    rdma_limits,
    throttles,
)
from gosudacon.stages.cgroups.making import JoinCgroup
from gosudacon.stages.cgroups.paths import UNIFIED, v2_places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    from gosudacon.schema.types import BlockIO, Cpu, Memory, Resources, ResourcesDevice

    Value = TypeVar("Value")

_R = "linux.resources"
_UNSET_SWAPPINESS = (1 << 64) - 1  # -1 in the callers that say it so
_THROTTLE_KEYS = {"ReadBps": "rbps", "WriteBps": "wbps", "ReadIOPS": "riops", "WriteIOPS": "wiops"}
_MOVES_PROCESSES = ("cgroup.procs", "cgroup.threads")


class Unified(Driver):
    """One cgroup, with every controller that its parents can hand down."""

    def create(self) -> Iterator[Step]:
        yield CreateUnifiedCgroup(places=v2_places(self.spec, self.host), rootless=self.rootless)
        yield JoinCgroup(controllers=[UNIFIED], joins_by_clone=self.host.clones_into_cgroup())
        yield from chown(self.spec)

    def devices(self, rules: list[ResourcesDevice]) -> Iterator[Step]:
        effective = devices.rules_of(rules)
        if not self.rootless:  # bpf(2) is the host's root's alone
            yield from devices.steps(self.spec, effective, unified=True)

    def limits(self, resources: Resources) -> Iterator[Step]:
        _refuse_unconvertible(resources)
        pids = resources.get("pids") or {}
        if pids.get("limit") is not None:
            value = convert.number(-1 if pids["limit"] < 0 else max(pids["limit"], 1))
            yield WriteLate(controller=UNIFIED, file="pids.max", value=value, where=f"{_R}.pids.limit")
        yield from self._memory(resources.get("memory") or {})
        yield from self._block_io(resources.get("blockIO") or {})
        yield from self._cpu(resources.get("cpu") or {})
        cpu = resources.get("cpu") or {}
        for key, cpus_or_mems in (("cpus", cpu.get("cpus")), ("mems", cpu.get("mems"))):
            if cpus_or_mems:
                yield _write(f"cpuset.{key}", cpus_or_mems, f"{_R}.cpu.{key}")
        for where, size, limit in hugepage_limits(resources):
            yield _write(f"hugetlb.{size}.max", limit, where)
            yield _write(f"hugetlb.{size}.rsvd.max", limit, where, optional=True)
        for where, line in rdma_limits(resources):
            yield _write("rdma.max", line, where)
        yield from self._unified(resources.get("unified") or {})

    def _memory(self, memory: Memory) -> Iterator[Step]:
        limit, swap = memory.get("limit") or 0, memory.get("swap") or 0
        if limit < -1:
            raise ConfigError(f"invalid memory value: {limit}", where=f"{_R}.memory.limit")
        swap_max = _converted(lambda: convert.memory_swap(limit, swap), f"{_R}.memory.swap")
        if memory.get("checkBeforeUpdate"):
            for file, most in (("memory.current", limit), ("memory.swap.current", swap_max or 0)):
                if most > 0:
                    yield CheckUsage(controller=UNIFIED, file=file, limit=most, where=f"{_R}.memory.limit")
        if swap_max is not None:
            value = convert.number(swap_max)
            # Without swap accounting the file does not exist, and swap cannot be limited.
            yield _write("memory.swap.max", value, f"{_R}.memory.swap", optional=value in ("0", "max"))
        if limit:
            yield _write("memory.max", convert.number(limit), f"{_R}.memory.limit")
        if memory.get("reservation"):
            yield _write("memory.low", convert.number(memory["reservation"]), f"{_R}.memory.reservation")

    def _cpu(self, cpu: Cpu) -> Iterator[Step]:
        if cpu.get("idle") is not None:
            yield _write("cpu.idle", str(cpu["idle"]), f"{_R}.cpu.idle")
        if cpu.get("shares") and cpu.get("idle") != 1:  # the kernel takes no weight for an idle cgroup
            yield _write("cpu.weight", str(convert.cpu_weight(cpu["shares"])), f"{_R}.cpu.shares")
        values = []
        if cpu.get("quota") or cpu.get("period"):
            values.append(["cpu.max", convert.cpu_max(cpu.get("quota") or 0, cpu.get("period") or 0)])
        if cpu.get("burst") is not None:
            values.append(["cpu.max.burst", str(cpu["burst"])])
        if len(values) == 1:
            yield _write(values[0][0], values[0][1], f"{_R}.cpu.quota")
        elif values:
            yield WriteTogether(controller=UNIFIED, values=values, where=f"{_R}.cpu.quota")

    def _block_io(self, block: BlockIO) -> Iterator[Step]:
        where = f"{_R}.blockIO.weight"
        if block.get("weight"):
            weight = block["weight"]
            converted = _converted(lambda: convert.io_weight(weight), where)
            choices = [["io.bfq.weight", str(weight)], ["io.weight", f"default {converted}"]]
            yield WriteFirst(controller=UNIFIED, choices=choices, where=where)
        for place, device, entry in device_weights(block):
            if entry.get("weight"):
                yield _write("io.bfq.weight", f"{device} {entry['weight']}", place)
        for place, kind, device, rate in throttles(block):
            yield _write("io.max", f"{device} {_THROTTLE_KEYS[kind]}={rate}", place)

    def _unified(self, unified: dict[str, str]) -> Iterator[Step]:
        for file, text in unified.items():
            where = f"{_R}.unified[{file!r}]"
            if "/" in file or "\0" in file or file in ("", ".", ".."):
                raise ConfigError(f"unified resource {file!r} must be a file name (no slashes)", where=where)
            if file in _MOVES_PROCESSES:
                raise ConfigError(f"unified resource {file!r} moves processes and limits nothing", where=where)
            for line in text.split("\n"):
                if line:
                    yield WriteLate(controller=UNIFIED, file=file, value=line, where=where)


class CheckUsage(Limit):
    """Refuse a limit below what is in use, where the kernel would start to kill (``checkBeforeUpdate``).

    Why: a limit below what is in use makes the kernel reclaim, and then kill.
    Without it: an update could end the container that it was meant to bound.
    See: Documentation/admin-guide/cgroup-v2.rst; runtime-spec config-linux.md, Memory.
    """

    file: str
    limit: int

    def describe(self) -> str:
        return f"check that {self.file} is at most {self.limit}"

    def run(self, context: Context) -> None:
        try:
            used = int(files.read(self.directory(context), self.file))
        except SyscallError as error:
            if error.errno == ENOENT:  # no swap accounting: nothing in use
                return
            raise
        if used > self.limit:
            raise StepError(f"limit {self.limit} is below the current usage {used} ({self.file})", errno=EBUSY)


class ChownCgroup(Limit):
    """Give the cgroup to the container's user, who may then make cgroups in it (config-linux.md, Cgroup ownership).

    Why: a service manager in the container makes cgroups below its own.
    Without it: systemd would not start in a container without privileges.
    See: cgroups(7); runtime-spec config-linux.md, Cgroup ownership.
    """

    uid: int
    files = "/sys/kernel/cgroup/delegate"

    def describe(self) -> str:
        return f"chown the cgroup and the files that may be delegated to uid {self.uid}"

    def run(self, context: Context) -> None:
        fd = self.directory(context)
        posix.fchown(fd, self.uid, -1)
        for name in self._delegated():
            try:
                posix.chown(name, self.uid, -1, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                continue

    def _delegated(self) -> list[str]:
        try:
            fd = posix.open(self.files, posix.O_RDONLY | posix.O_CLOEXEC)
        except FileNotFoundError:
            return ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"]
        try:
            return posix.read(fd, 65536).decode().split()
        finally:
            posix.close(fd)


def chown(spec: Spec) -> Iterator[Step]:
    """Hand the cgroup over to the container's user, where it sees its own cgroups and may write there."""
    uid = _owner(spec)
    if uid:
        yield ChownCgroup(controller=UNIFIED, uid=uid, where="process.user.uid")


def _write(file: str, value: str, where: str, optional: bool = False) -> Step:
    return Write(controller=UNIFIED, file=file, value=value, where=where, optional=optional)


def _converted(conversion: Callable[[], Value], where: str) -> Value:
    try:
        return conversion()
    except ValueError as error:
        raise ConfigError(str(error), where=where) from error


def _refuse_unconvertible(resources: Resources) -> None:
    """Refuse what v2 has nothing for, as the specification demands where v1 is asked for on v2."""
    memory, cpu = resources.get("memory") or {}, resources.get("cpu") or {}
    block, network = resources.get("blockIO") or {}, resources.get("network") or {}
    leaves = [entry.get("leafWeight") for entry in block.get("weightDevice") or ()]
    impossible = (
        ("memory.swappiness", memory.get("swappiness") not in (None, _UNSET_SWAPPINESS)),
        ("memory.disableOOMKiller", memory.get("disableOOMKiller")),
        ("memory.kernel", (memory.get("kernel") or 0) > 0),
        ("memory.kernelTCP", (memory.get("kernelTCP") or 0) > 0),
        ("cpu.realtimePeriod", cpu.get("realtimePeriod")),
        ("cpu.realtimeRuntime", cpu.get("realtimeRuntime")),
        ("blockIO.leafWeight", block.get("leafWeight")),
        ("blockIO.weightDevice", any(leaves)),
        ("network.classID", network.get("classID")),
        ("network.priorities", network.get("priorities")),
    )
    for key, asked in impossible:
        if asked:
            raise ConfigError(f"cgroup v2 has no equivalent of {key}", where=f"{_R}.{key}")


def _owner(spec: Spec) -> int:
    """The host's uid that owns the cgroup; 0 if it stays as it is."""
    if spec.namespaces().get("cgroup") != "":
        return 0
    if not any(
        entry.get("source") == "cgroup"
        and mount.normal(entry["destination"]) == "/sys/fs/cgroup"
        and "ro" not in (entry.get("options") or ())
        for entry in spec.config.get("mounts") or ()
    ):
        return 0
    uid = (spec.process.get("user") or {}).get("uid") or 0
    if "user" not in spec.namespaces():
        return uid
    for entry in spec.linux.get("uidMappings") or ():
        if 0 <= uid - entry["containerID"] < entry["size"]:
            return entry["hostID"] + uid - entry["containerID"]
    return 0
