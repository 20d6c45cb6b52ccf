"""What the steps of ``rootfs-mount`` expect: mounts, what hides a path, device nodes, kernel parameters."""

from __future__ import annotations

from gosudacon.api import Expectation, Host, Spec
from gosudacon.linux import mount as m
from gosudacon.stages.rootfs_mount.options import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.api import Table
    from gosudacon.stages.rootfs_mount import bind, cgroup, devices, filesystem, hide, root, sysctl, terminal

_FLAGS = {
    m.MS_RDONLY: "ro",
    m.MS_NOSUID: "nosuid",
    m.MS_NODEV: "nodev",
    m.MS_NOEXEC: "noexec",
    m.MS_NODIRATIME: "nodiratime",
    m.MS_NOSYMFOLLOW: "nosymfollow",
    m.MS_NOATIME: "noatime",
}
_TREE = {
    m.MOUNT_ATTR_RDONLY: "ro",
    m.MOUNT_ATTR_NOSUID: "nosuid",
    m.MOUNT_ATTR_NODEV: "nodev",
    m.MOUNT_ATTR_NOEXEC: "noexec",
    m.MOUNT_ATTR_NODIRATIME: "nodiratime",
    m.MOUNT_ATTR_NOSYMFOLLOW: "nosymfollow",
}
_PROPAGATION = {m.MS_PRIVATE: "private", m.MS_SLAVE: "slave", m.MS_SHARED: "shared", m.MS_UNBINDABLE: "unbindable"}


def _options(step: filesystem.MountStep) -> dict[str, object]:
    """Words that the mount must have, and all mounts below it; its propagation; the filesystem's data."""
    options = Options(step.words, step.where)
    words = [word for flag, word in _FLAGS.items() if options.flags & flag]
    if options.flags & m.MS_STRICTATIME and "noatime" in words:
        words.remove("noatime")
    changes = [change & ~m.MS_REC for change in options.propagation]
    return {
        "words": words,
        "tree": [word for flag, word in _TREE.items() if options.recursive[0] & flag],
        "propagation": _PROPAGATION[changes[-1]] if changes else "",
        "data": options.data,
        "source": "",
        "fstype": step.fstype,
        "idmap": False,
        "recursive": bool(options.flags & m.MS_REC),
    }


def _filesystem(step: filesystem.MountStep, spec: Spec, host: Host) -> Iterator[Expectation]:
    asked = _options(step)
    if Options(step.words, step.where).remount:
        asked["fstype"] = ""
    yield Expectation(step.where, "mount", asked, step.destination)


def _sysfs(step: filesystem.MountStep, spec: Spec, host: Host) -> Iterator[Expectation]:
    """Where the kernel refuses one, the host's is bound, with all that is mounted below it."""
    yield Expectation(step.where, "mount", {**_options(step), "whole": True}, step.destination)


def _bind(step: bind._BindStep, spec: Spec, host: Host) -> Iterator[Expectation]:
    more = {"source": step.source, "fstype": "", "idmap": bool(step.idmap), "inside": step.inside}
    yield Expectation(step.where, "mount", {**_options(step), **more}, step.destination)


def _remount(step: bind.Remount, spec: Spec, host: Host) -> Iterator[Expectation]:
    yield Expectation(step.where, "mount", {**_options(step), "fstype": ""}, step.destination)


def _cgroup1(step: cgroup.MountCgroup1, spec: Spec, host: Host) -> Iterator[Expectation]:
    yield Expectation(
        step.where, "mount", {**_options(step), "fstype": "tmpfs", "data": [], "whole": True}, step.destination
    )
    for name, *_ in step.hierarchies:
        asked = {**_options(step), "fstype": "cgroup", "data": [], "optional": True}
        yield Expectation(step.where, "mount", asked, f"{step.destination}/{name}")


def _cgroup2(step: cgroup.MountCgroup2, spec: Spec, host: Host) -> Iterator[Expectation]:
    yield Expectation(step.where, "mount", {**_options(step), "fstype": "cgroup2", "data": []}, step.destination)


def _readonly(step: root.RemountReadOnly, spec: Spec, host: Host) -> Iterator[Expectation]:
    asked = {"words": ["ro"]}
    yield Expectation(step.where, "mount", asked, step.destination)


def _root(step: root.BindRoot, spec: Spec, host: Host) -> Iterator[Expectation]:
    yield Expectation(step.where, "root", step.path)


def _root_readonly(step: root.RemountRootReadOnly, spec: Spec, host: Host) -> Iterator[Expectation]:
    yield Expectation(step.where, "mount", {"words": ["ro"]}, "/")


def _hidden(step: hide.Mask, spec: Spec, host: Host) -> Iterator[Expectation]:
    yield Expectation(step.where, "masked", step.path, step.path)


def _readonly_path(step: hide.MakeReadOnly, spec: Spec, host: Host) -> Iterator[Expectation]:
    yield Expectation(step.where, "read-only", step.path, step.path)


def _nodes(step: devices.MakeNodes, spec: Spec, host: Host) -> Iterator[Expectation]:
    for path, *node in step.nodes:
        yield Expectation(step.where or "default devices", "node", node, path)


def _links(step: devices.LinkDev, spec: Spec, host: Host) -> Iterator[Expectation]:
    for name in ("fd", "stdin", "stdout", "stderr", "ptmx"):
        yield Expectation("default devices", "link", f"/dev/{name}", f"/dev/{name}")


def _sysctls(step: sysctl.WriteSysctls, spec: Spec, host: Host) -> Iterator[Expectation]:
    for name, value in step.values.items():
        yield Expectation(f"{step.where}['{name.replace('/', '.')}']", "sysctl", value, name)


def _console(step: terminal.OpenTerminal, spec: Spec, host: Host) -> Iterator[Expectation]:
    yield Expectation(step.where, "terminal", step.console)


def _nothing(step: object, spec: Spec, host: Host) -> Iterator[Expectation]:
    yield from ()


_SHARED = "what comes later gives each mount its propagation"
_SOCKET = "the connection is closed when the terminal has been passed on"
_RUNNING = "it is of the command mounts"

TABLE: Table = {
    "CloseHandedOver": "it only closes what the runtime had opened",
    "OpenSource": _bind,
    "Bind": "seen with the step that copies the source",
    "BindHere": _bind,
    "BindLocked": _bind,
    "BindClassic": _bind,
    "Remount": _remount,
    "MountCgroup1": _cgroup1,
    "MountCgroup2": _cgroup2,
    "MountStep": _filesystem,
    "MountSysfs": _sysfs,
    "MakeNodes": _nodes,
    "LinkDev": _links,
    "OpenNull": "seen with the paths that it masks",
    "MakeReadOnly": _readonly_path,
    "Mask": _hidden,
    "MakeIdMap": "seen with the mounts that have it",
    "OpenIdMap": "seen with the mounts that have it",
    "MakeNotifyDirectory": "it is in the state directory, for the service manager",
    "BindRoot": _root,
    "JoinPeers": _SHARED,
    "SetPropagation": _SHARED,
    "MakeParentPrivate": "the mount is the host's, and out of the container's sight",
    "RemountReadOnly": _readonly,
    "RemountRootReadOnly": _root_readonly,
    "NoteHostGroups": _RUNNING,
    "CheckPlace": _RUNNING,
    "Unmount": _RUNNING,
    "Leave": _RUNNING,
    "MakeMissing": "seen with the device nodes",
    "CheckNamespace": "it only looks",
    "WriteSysctls": _sysctls,
    "ConnectConsole": _SOCKET,
    "PairConsole": _SOCKET,
    "OpenRoot": "it only opens",
    "OpenTerminal": _console,
    "SetTerminal": "seen with the step that makes the terminal",
}
