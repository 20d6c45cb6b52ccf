"""The steps that have systemd make a container's cgroup, a scope, change its limits, and stop it (systemd.scope(5)).

systemd makes a scope around processes, so it is started when the container's process is there, before that one goes
on, and after its last fork: a limit on processes (TasksMax) does not limit the runtime. Everything here runs on the
runtime's side.
"""

from __future__ import annotations

from errno import ENOENT

from gosudacon.api import ISOLATE, PREPARE, RUNTIME, Context, Error, Step, StepError
from gosudacon.base import posix
from gosudacon.base.errors import SyscallError
from gosudacon.linux.cgroup import hierarchy
from gosudacon.stages.cgroups.create import Note

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.stages.cgroups.properties import Property

_INFINITY = (1 << 64) - 1


class ExpectScope(Step):
    """Say where the cgroup will be, for those who cannot wait until it is.

    Why: systemd makes the cgroup once there is a process for it, and other steps need to know its place before.
    Without it: they would wait for systemd.
    See: systemd.scope(5).
    """

    phase = PREPARE
    where = "linux.cgroupsPath"
    point: str
    path: str
    user: bool

    def describe(self) -> str:
        return f"expect the cgroup {self.path}" + (" below that of the user's systemd" if self.user else "")

    def run(self, context: Context) -> None:
        above = ""
        if self.user:
            from gosudacon.wire.systemd import Manager

            with Manager(user=True) as manager:
                above = manager.control_group().strip("/") + "/"
        context.cgroups = {"": f"{self.point}/{above}{self.path}"}


class StartScope(Step):
    """Have systemd start the scope around the container's process; `undo` stops it with all that is left in it.

    Leaves `Context.cgroups` and ``cgroup_dirs``, as `CreateCgroup` does.
    ``devices`` are the exceptions from "no device", or None if systemd is not told about devices.

    Why: where systemd owns the cgroups, it is asked to make one, or it would undo what others do there.
    Without it: no limit would hold, and systemd might move the container's processes.
    See: systemd.scope(5); org.freedesktop.systemd1(5); runtime-spec config-linux.md, Cgroups Path.
    """

    phase = ISOLATE
    side = RUNTIME
    where = "linux.cgroupsPath"
    lasts = True
    modules = ("gosudacon.linux.cgroup.processes", "gosudacon.wire.systemd")
    recorded_as = ("cgroups.start-scope", 1)
    unit: str
    point: str
    properties: list[Property]
    devices: list[str] | None
    user: bool

    def describe(self) -> str:
        shown = ", ".join(f"{name}={show(value)}" for name, _, value in self.properties)
        devices = "" if self.devices is None else ", DevicePolicy=strict, DeviceAllow=" + ", ".join(self.devices)
        manager = "the user's systemd" if self.user else "systemd"
        return f"{manager} starts {self.unit} around the process: {shown}{devices}"

    def run(self, context: Context) -> None:
        from gosudacon.wire.systemd import Manager, UnitExistsError

        note = Note(context)
        with Manager(self.user) as manager:
            note.expect({})
            try:
                manager.start_scope(self.unit, [*self.properties, *self._device_properties()], [context.pid])
            except UnitExistsError:
                note.drop()  # it is not ours
                raise
            group: str = manager.get(self.unit, "ControlGroup")[2]
        if group in ("", "/"):
            raise StepError(f"{self.unit} has no cgroup: the container's process has ended")
        directory = f"{self.point}{group}"
        fd = self._open(group.strip("/"))
        note.settle({directory: posix.fstat(fd).st_ino})
        context.cgroups = {"": directory}
        context.cgroup_dirs = {"": fd}

    def _open(self, path: str) -> int:
        """The scope's cgroup, with the controllers that systemd does not know handed down to it, too."""
        from gosudacon.linux.cgroup import files
        from gosudacon.stages.cgroups.making import enable_controllers

        here = files.open_hierarchy(self.point)
        try:
            for name in path.split("/"):
                enable_controllers(here)
                below = files.open_below(here, name)
                posix.close(here)
                here = below
        except SyscallError as error:
            posix.close(here)
            if error.errno != ENOENT:
                raise
            raise StepError(f"{self.unit} has ended: was the container's process killed?") from None
        return here

    def _device_properties(self) -> list[Property]:
        if self.devices is None:
            return []
        from gosudacon.stages.cgroups.properties import device_groups, of_devices

        fd = posix.open("/proc/devices", posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            return of_devices(self.devices, device_groups(posix.read(fd, 1 << 16).decode()))
        finally:
            posix.close(fd)

    def undo(self, context: Context) -> None:
        note = Note(context)
        found = note.read()
        if found is None:  # never begun, or refused
            return
        left = {directory: inode for directory, inode in found[1].items() if _is_there(directory, inode)}
        if left:
            from gosudacon.linux.cgroup import processes

            processes.kill_all({"": next(iter(left))})
        self._stop(required=bool(left))
        for directory, inode in left.items():
            if _is_there(directory, inode):
                processes.remove({"": directory})
        note.drop()

    def _stop(self, required: bool) -> None:
        """Stop the unit. What is gone already, process by process, only needs to be forgotten if it has failed."""
        from gosudacon.wire.systemd import Manager

        try:
            with Manager(self.user) as manager:
                if required:
                    manager.stop(self.unit)
                else:
                    manager.reset_failed(self.unit)
        except Error:
            if required:
                raise


class _Before:
    """What `SetUnitProperties` has changed, as it was."""

    def __init__(self) -> None:
        self.properties: list[Property] = []


class SetUnitProperties(Step):
    """Tell systemd of limits, or it would write its own values again at the next occasion (systemctl daemon-reload).

    Why: systemd writes its own idea of the limits again when it reloads.
    Without it: `update` would be forgotten at the next `systemctl daemon-reload`.
    See: systemd.resource-control(5).
    """

    phase = ISOLATE
    side = RUNTIME
    where = "linux.resources"
    unit: str
    properties: list[Property]
    user: bool

    def describe(self) -> str:
        return f"set {', '.join(f'{name}={show(value)}' for name, _, value in self.properties)} of {self.unit}"

    def run(self, context: Context) -> None:
        from gosudacon.wire.systemd import Manager

        with Manager(self.user) as manager:
            before = [manager.get(self.unit, str(name)) for name, _, _ in self.properties]
            manager.set_properties(self.unit, self.properties)
            context.own(_Before).properties = before

    def undo(self, context: Context) -> None:
        held = context.own(_Before)
        before, held.properties = held.properties, []
        if not before:  # refused, and nothing changed
            return
        from gosudacon.wire.systemd import Manager

        with Manager(self.user) as manager:
            manager.set_properties(self.unit, before)


def show(value: object) -> str:
    """A property's value for a person, as systemctl(1) has it, roughly."""
    if value is True or value is False:
        return "yes" if value else "no"
    if value == _INFINITY:
        return "infinity"
    if isinstance(value, list) and value and all(isinstance(each, int) for each in value):
        return "0x" + bytes(reversed(value)).hex()
    if isinstance(value, list):
        return " ".join(map(show, value))
    return str(value)


def _is_there(directory: str, inode: int) -> bool:
    above, _, name = directory.rpartition("/")
    try:
        fd = hierarchy.open_hierarchy(above)
    except OSError:
        return False
    try:
        return hierarchy.inode(fd, name) == inode
    finally:
        posix.close(fd)
