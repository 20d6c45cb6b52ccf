"""Stage ``net-devices``: the host's network devices that a container gets, and that the host gets back.

config-linux.md, "Network Devices". The kernel gives a device without a driver's hardware (veth, dummy, macvlan …) not
back when its network namespace ends, but destroys it. So the namespace is held by a bind mount in the state directory
until `delete` has moved the devices out of it. What the host knew of each (number, addresses, whether it was up)
is in a note there before the device is touched.
"""

from __future__ import annotations

from errno import EEXIST, EINVAL

from gosudacon.api import (
    CREATE_CONTAINER,
    MOUNT,
    RUNTIME,
    ConfigError,
    Context,
    Error,
    Host,
    Spec,
    Stage,
    Step,
    hookimpl,
    in_namespaces,
    open_namespace,
)
from gosudacon.base import jsonio, layout, posix
from gosudacon.linux import mount, namespace
from gosudacon.linux.netlink import Netlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypedDict

    from gosudacon.api import Table
    from gosudacon.linux.netlink import Address
    from gosudacon.schema.types import Features

    class Noted(TypedDict, total=False):
        """What the note says of a device that the host knows as ``name``."""

        name: str
        into: str  # its name in the container
        index: int  # its number: on the host, and once it is there, in the container
        up: bool
        addresses: list[Address]


_WHERE = "linux.netDevices"
_APPEND = posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND | posix.O_NOFOLLOW | posix.O_CLOEXEC
_MOST = 1 << 20


class HoldNamespace(Step):
    """Bind the container's network namespace in the state directory, so that devices survive the container in it.

    Why: a physical device whose namespace ends goes back without its name, a virtual one ends.
    Without it: `delete` could not bring the device back.
    See: network_namespaces(7); runtime-spec config-linux.md, Network Devices.
    """

    phase = MOUNT
    side = RUNTIME
    by = CREATE_CONTAINER
    lasts = True
    recorded_as = ("net-devices.hold-namespace", 1)
    modules = ("gosudacon.linux.child",)
    where = _WHERE

    def describe(self) -> str:
        return f"bind the network namespace on {layout.NETWORK_NAMESPACE} in the state directory"

    def run(self, context: Context) -> None:
        flags = posix.O_RDONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
        posix.close(posix.open(layout.NETWORK_NAMESPACE, flags, 0, dir_fd=context.state_dir))
        mount.mount(namespace.namespace_path("network", context.pid), _held(context), "", mount.MS_BIND)

    def undo(self, context: Context) -> None:
        """Give back what is noted, also where the steps that moved it are not known any more, and let go."""
        for name in _noted(context):
            _give_back(context, name)
        try:
            mount.umount(_held(context), mount.MNT_DETACH | mount.UMOUNT_NOFOLLOW)
        except OSError as error:
            if error.errno not in (EINVAL, 2):  # not mounted, not there
                raise
        for file in (layout.NETWORK_NAMESPACE, layout.NET_DEVICES_NOTE):
            try:
                posix.unlink(file, dir_fd=context.state_dir)
            except FileNotFoundError:
                continue


class MoveDevice(Step):
    """Move a device into the container's network namespace, with its global addresses, and bring it up there.

    Why: a device of the host becomes the container's, with its addresses.
    Without it: the container could not use it without the host's network.
    See: rtnetlink(7); network_namespaces(7); runtime-spec config-linux.md, Network Devices.
    """

    phase = MOUNT
    side = RUNTIME
    by = CREATE_CONTAINER
    lasts = True
    recorded_as = ("net-devices.move-device", 1)
    modules = ("gosudacon.linux.child",)
    name: str
    into: str

    def describe(self) -> str:
        renamed = f" as {self.into}" if self.into != self.name else ""
        return f"move network device {self.name} into the container{renamed}, with its addresses, and bring it up"

    def run(self, context: Context) -> None:
        inside = open_namespace("network", context.pid)
        try:
            with Netlink() as netlink:
                link = netlink.link(self.name)
                if link is None:
                    hint = "ip link shows what there is"
                    raise Error(f"link not found for interface {self.name} on runtime namespace", hint=hint)
                addresses = netlink.addresses(link.index)
                noted: Noted = {"name": self.name, "into": self.into, "index": link.index, "up": link.up}
                _note(context, {**noted, "addresses": addresses})
                netlink.set_up(link.index, False)
                netlink.move(link.index, inside, self.into)
            index = in_namespaces({"network": inside}, lambda: _equip(self.into, addresses, True))
            _note(context, {"name": self.name, "index": index})
        finally:
            posix.close(inside)

    def undo(self, context: Context) -> None:
        _give_back(context, self.name)


def _equip(name: str, addresses: list[Address], up: bool) -> int:
    """Give the link of this name the addresses, and bring it up; returns its number."""
    with Netlink() as netlink:
        link = netlink.link(name)
        if link is None:
            raise Error(f"network device {name} is gone")
        for address in addresses:
            netlink.add_address(link.index, address)
        if up:
            netlink.set_up(link.index, True)
        return link.index


def _give_back(context: Context, name: str) -> None:
    """Move a device back to this process's network namespace, if it is noted, and still in the container's."""
    noted = _noted(context).get(name)
    inside = _open_held(context) if noted else -1
    if inside < 0 or noted is None:
        return
    outside = posix.open(namespace.namespace_path("network"), posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        if namespace.same(inside, outside):
            return
        back = in_namespaces({"network": inside}, lambda: _move_out(noted, outside))
    finally:
        posix.close(inside)
        posix.close(outside)
    if back:
        _equip(back, noted.get("addresses", []), noted.get("up", False))


def _move_out(noted: Noted, outside: int) -> str:
    """Move a device out of the namespace that this process is in; returns its name there, empty if it is not there."""
    with Netlink() as netlink:
        link = netlink.link(index=noted["index"])
        if link is None or link.index == 1:  # lo
            return ""
        netlink.set_up(link.index, False)
        for name in (
            noted["name"],
            *(f"dev{number}" for number in range(1000)),
        ):  # as the kernel names those it returns
            try:
                netlink.move(link.index, outside, name)
            except OSError as error:
                if error.errno != EEXIST:
                    raise
                continue
            return name
    raise Error(f"network device {noted['name']}: no name is free for it on the host", errno=EEXIST)


def _held(context: Context) -> str:
    return f"/proc/self/fd/{context.state_dir}/{layout.NETWORK_NAMESPACE}"


def _open_held(context: Context) -> int:
    """A descriptor of the namespace that is held; -1 if it does not exist."""
    flags = posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_CLOEXEC
    try:
        fd = posix.open(layout.NETWORK_NAMESPACE, flags, dir_fd=context.state_dir)
    except FileNotFoundError:
        return -1
    try:
        if namespace.kind_of(fd) == namespace.CLONE_NEWNET:
            return fd
    except OSError:  # the file alone: nothing was bound
        pass
    posix.close(fd)
    return -1


def _note(context: Context, entry: Noted) -> None:
    fd = posix.open(layout.NET_DEVICES_NOTE, _APPEND, 0o600, dir_fd=context.state_dir)
    try:
        posix.write(fd, jsonio.dumps(entry).encode() + b"\n")
    finally:
        posix.close(fd)


def _noted(context: Context) -> dict[str, Noted]:
    """Name on the host -> what the complete lines of the note say of it."""
    try:
        flags = posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_CLOEXEC
        fd = posix.open(layout.NET_DEVICES_NOTE, flags, dir_fd=context.state_dir)
    except FileNotFoundError:
        return {}
    try:
        data = posix.read(fd, _MOST)
    finally:
        posix.close(fd)
    noted: dict[str, Noted] = {}
    for line in data.split(b"\n")[:-1]:
        entry = jsonio.loads(line)
        if isinstance(entry, dict):
            noted.setdefault(entry["name"], {}).update(entry)  # type: ignore[typeddict-item]  # our own lines
    return noted


class NetDevices(Stage):
    """Moves ``linux.netDevices`` once the network namespace is there."""

    name = "net-devices"
    after = ("namespaces",)
    before = ("hooks",)
    keys = (_WHERE,)
    exec_keys = ("",)  # of no interest to exec

    def features(self) -> Features:
        """That there is support."""
        return {"linux": {"netDevices": {"enabled": True}}}

    def plan(self, spec: Spec, host: Host) -> Iterator[Step]:
        """Raises `ConfigError` for devices without a namespace to go to, and for names that are not one each."""
        devices = spec.linux.get("netDevices") or {}
        if "network" not in spec.namespaces():
            raise ConfigError("unable to move network devices without a NET namespace", where=_WHERE)
        if host.euid != 0 or not host.initial_userns:
            raise ConfigError("network devices are not supported for rootless containers", where=_WHERE)
        names: set[str] = set()
        steps: list[Step] = []
        for name, device in devices.items():
            into, where = device.get("name") or name, f"{_WHERE}.{name}"
            if into in names:
                raise ConfigError(f"two network devices cannot both be {into}", where=where)
            names.add(into)
            steps.append(MoveDevice(name=name, into=into, where=where))
        yield HoldNamespace()
        yield from steps


def expected() -> Table:
    """What the steps of this stage expect the kernel to show (`pipeline.expectation`)."""
    from gosudacon.api import Expectation

    return {
        "HoldNamespace": "the file in the state directory is for devices to survive the container",
        "MoveDevice": lambda step, spec, host: [
            Expectation(step.where or _WHERE, "device-up", True, step.into or step.name)
        ],
    }


@hookimpl
def gosudacon_stages() -> list[Stage]:
    """Contribute the stage."""
    return [NetDevices()]
