"""What both cgroup versions share: the interface of a driver, the steps that write limits, checks of names."""

from __future__ import annotations

from errno import EBUSY, EINVAL, ENOENT

from gosudacon.api import (
    CREATE_CONTAINER,
    CREATE_RUNTIME,
    ISOLATE,
    RUNTIME,
    ConfigError,
    Context,
    Host,
    Spec,
    Step,
    StepError,
)
from gosudacon.base.errors import SyscallError
from gosudacon.linux.cgroup import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gosudacon.schema.types import BlockIO, Resources, ResourcesDevice, WeightDevice

_DIGITS = frozenset("0123456789")
_UNITS = ("KB", "MB", "GB")


class Driver:
    """One way to make cgroups and to limit what is in them.

    A driver plans, and its steps act. All paths in the steps it gives are checked.
    """

    def __init__(self, spec: Spec, host: Host) -> None:
        self.spec = spec
        self.host = host
        self.rootless = is_rootless(spec, host)

    def create(self) -> Iterable[Step]:
        """Make the cgroup before there is a process, and join it with that process."""
        raise NotImplementedError

    def devices(self, rules: list[ResourcesDevice]) -> Iterable[Step]:
        """Allow the container the devices of ``linux.resources.devices`` and the default ones, and no others."""
        raise NotImplementedError

    def limits(self, resources: Resources) -> Iterable[Step]:
        """Set what ``linux.resources`` says, devices aside. Absent: left as it is."""
        raise NotImplementedError

    def update(self, resources: Resources) -> Iterable[Step]:
        """Set them in a container that exists."""
        return self.limits(resources)


def is_rootless(spec: Spec, host: Host) -> bool:
    """Whether a lack of permission is to be expected: ``--rootless``, else by uid and user namespace."""
    choice = spec.options.rootless
    if choice in ("true", "false"):
        return choice == "true"
    return host.euid != 0 or not host.initial_userns


class Limit(Step):
    """A step on the files of the container's cgroup.

    It runs while the container side mounts: nothing before the container's own programs relies on a limit.
    """

    phase = ISOLATE
    side = RUNTIME
    by = CREATE_CONTAINER
    controller: str

    def directory(self, context: Context) -> int:
        fd = context.cgroup_dirs.get(self.controller)
        if fd is None:
            raise StepError(
                f"cannot {self.describe()}: no permission to make a cgroup for it",
                hint="limits need root, or a cgroup delegated to this user",
            )
        return fd

    def _put(self, fd: int, file: str, value: str) -> None:
        """Write, with what the kernel's commonest refusals mean."""
        try:
            files.write(fd, file, value)
        except SyscallError as error:
            if error.errno == ENOENT:
                raise self._missing(file) from error
            if error.errno == EBUSY and file == "memory.limit_in_bytes":
                raise self._in_use(fd, value) from error
            raise

    def _missing(self, file: str) -> StepError:
        return StepError(
            f"cannot {self.describe()}: no such file {file}",
            errno=ENOENT,
            hint=f"the kernel lacks it, or the {file.partition('.')[0]} controller is not enabled for this cgroup",
        )

    def _in_use(self, fd: int, limit: str) -> StepError:
        used, peak = (files.read(fd, f"memory.{name}usage_in_bytes") for name in ("", "max_"))
        return StepError(
            f"unable to set memory limit to {limit} (current usage: {used}, peak usage: {peak})", errno=EBUSY
        )


class Write(Limit):
    """Write one value; ``optional`` if the kernel need not have the file.

    Why: a limit is a number in a file of the cgroup; the kernel holds it from then on.
    Without it: the container could use what it likes of that resource.
    See: cgroups(7); runtime-spec config-linux.md, Control groups.
    """

    failing = 'failed to write "{value}"'
    file: str
    value: str
    optional: bool = False

    def describe(self) -> str:
        return f"write {self.value} to {self.file}" + (" if it is there" if self.optional else "")

    def run(self, context: Context) -> None:
        try:
            self._put(self.directory(context), self.file, self.value)
        except StepError as error:
            if not self.optional or error.errno != ENOENT:
                raise


class WriteLate(Write):
    """Write a value that could make the container's own forks fail, so not before the last of them.

    Why: a low limit of processes would stop the runtime's own forks on the way into the container.
    Without it: a limit of one process would leave no room for the container's first.
    See: cgroups(7); runtime-spec config-linux.md, Control groups.
    """

    phase = CREATE_RUNTIME


class WriteFirst(Limit):
    """Write to the first of several files that the kernel has.

    Why: kernels name the same limit differently, and the first name that there is counts.
    Without it: the limit would be missing on some kernels.
    See: cgroups(7); runtime-spec config-linux.md, Control groups.
    """

    choices: list[list[str]]  # [file, value]

    def describe(self) -> str:
        return "write " + ", else ".join(f"{value} to {file}" for file, value in self.choices)

    def run(self, context: Context) -> None:
        fd = self.directory(context)
        for file, value in self.choices:
            try:
                return files.write(fd, file, value)
            except SyscallError as error:
                if error.errno != ENOENT:
                    raise
        raise self._missing(self.choices[0][0])


class WriteTogether(Limit):
    """Write values that bound each other: one that the kernel refuses as invalid is tried again after the others.

    Why: the kernel refuses a limit above one that bounds it, and which is to be written first depends on what is
    there.
    Without it: lowering or raising both at once would fail.
    See: cgroups(7); runtime-spec config-linux.md, Control groups.
    """

    values: list[list[str]]  # [file, value]

    def describe(self) -> str:
        return "write " + ", ".join(f"{value} to {file}" for file, value in self.values)

    def run(self, context: Context) -> None:
        fd = self.directory(context)
        again = [(file, value) for file, value in self.values if not self._try(fd, file, value)]
        for file, value in again:
            self._put(fd, file, value)

    def _try(self, fd: int, file: str, value: str) -> bool:
        try:
            self._put(fd, file, value)
        except SyscallError as error:
            if error.errno != EINVAL:
                raise
            return False
        return True


def hugepage_limits(resources: Resources) -> Iterator[tuple[str, str, str]]:
    """(where, page size, limit) of ``hugepageLimits``. Raises `ConfigError` for an invalid page size."""
    for index, entry in enumerate(resources.get("hugepageLimits") or ()):
        where = f"linux.resources.hugepageLimits[{index}]"
        size = entry["pageSize"]
        number, unit = size[:-2], size[-2:]
        if unit not in _UNITS or not number or not _DIGITS.issuperset(number) or number.startswith("0"):
            raise ConfigError(f"invalid huge page size {size!r}", where=f"{where}.pageSize", hint="64KB, 2MB, 1GB, …")
        yield where, size, str(entry["limit"])


def rdma_limits(resources: Resources) -> Iterator[tuple[str, str]]:
    """(where, line for ``rdma.max``) of ``rdma``. Raises `ConfigError` for an impossible name or an empty entry."""
    for device, entry in (resources.get("rdma") or {}).items():
        where = f"linux.resources.rdma[{device!r}]"
        check_word(device, "RDMA device", where)
        numbers = {"hca_handle": entry.get("hcaHandles"), "hca_object": entry.get("hcaObjects")}
        values = [f"{word}={number}" for word, number in numbers.items() if number is not None]
        if not values:
            raise ConfigError(f"rdma device {device} has neither hcaHandles nor hcaObjects", where=where)
        yield where, " ".join((device, *values))


def check_word(name: str, what: str, where: str) -> None:
    """Refuse a name that would be a path, or more than one word of a kernel file's line."""
    if not name or name in (".", "..") or "/" in name or "\0" in name or len(name.split()) != 1 or name != name.strip():
        raise ConfigError(f"invalid {what} name {name!r}", where=where)


def device_weights(block: BlockIO) -> Iterator[tuple[str, str, WeightDevice]]:
    """(where, ``MAJOR:MINOR``, entry) of ``weightDevice``. Raises `ConfigError` for an entry without any weight."""
    for index, entry in enumerate(block.get("weightDevice") or ()):
        where = f"linux.resources.blockIO.weightDevice[{index}]"
        if entry.get("weight") is None and entry.get("leafWeight") is None:
            raise ConfigError("weightDevice needs a weight or a leafWeight", where=where)
        yield where, f"{entry['major']}:{entry['minor']}", entry


def throttles(block: BlockIO) -> Iterator[tuple[str, str, str, int]]:
    """(where, kind such as ``ReadBps``, ``MAJOR:MINOR``, rate) of the four throttle lists."""
    lists = {
        "ReadBps": block.get("throttleReadBpsDevice"),
        "WriteBps": block.get("throttleWriteBpsDevice"),
        "ReadIOPS": block.get("throttleReadIOPSDevice"),
        "WriteIOPS": block.get("throttleWriteIOPSDevice"),
    }
    for kind, entries in lists.items():
        for index, entry in enumerate(entries or ()):
            where = f"linux.resources.blockIO.throttle{kind}Device[{index}]"
            yield where, kind, f"{entry['major']}:{entry['minor']}", entry["rate"]
