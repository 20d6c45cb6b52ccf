"""The container's network namespace, bound on a file in the state directory: it outlives the container until DEL.

Without it, DEL would find no namespace, and some plug-ins, which look up there what they have made, leave rules behind.
``/proc/PID/ns/net`` is no help then: the process is dead, and its number may be a stranger's.
"""

from __future__ import annotations

from errno import EINVAL, ENOENT

from gosudacon.api import (
    Context,
    Error,
    Rtnetlink,
    clone_tree,
    in_namespaces,
    move_mount,
    open_namespace,
    umount,
)
from gosudacon.base import layout, posix

_CREATE = posix.O_RDONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
_HARDWARE = b"\2gsdcn"  # an address of a link that nothing is sent to; locally administered
_UMOUNT = 2 | 8  # MNT_DETACH | UMOUNT_NOFOLLOW


def identity(pid: int) -> tuple[int, int]:
    """Device and inode of a process's network namespace. Raises `Error` if it is dead, or in that of this process."""
    try:
        status = posix.stat(f"/proc/{pid}/ns/net")
    except (FileNotFoundError, ProcessLookupError):
        raise Error("container init died before its network was ready") from None
    own = posix.stat("/proc/self/ns/net")
    if (status.st_dev, status.st_ino) == (own.st_dev, own.st_ino):
        raise Error("the container has no network namespace of its own")
    return status.st_dev, status.st_ino


def pin(context: Context) -> None:
    """Bind the namespace of init. Raises OSError."""
    posix.close(posix.open(layout.CNI_NAMESPACE, _CREATE, 0, dir_fd=context.state_dir))
    target = posix.open(layout.CNI_NAMESPACE, posix.O_PATH | posix.O_CLOEXEC, dir_fd=context.state_dir)
    try:
        namespace = open_namespace("network", context.pid)
        try:
            tree = clone_tree(namespace)
        finally:
            posix.close(namespace)
        try:
            move_mount(tree, target, about=layout.CNI_NAMESPACE)
        finally:
            posix.close(tree)
    finally:
        posix.close(target)


def path(context: Context, namespace: tuple[int, int] | None) -> str:
    """The path of the pinned namespace; empty if what is there is not the noted one: somebody has unmounted it."""
    found = f"{posix.readlink(f'/proc/self/fd/{context.state_dir}')}/{layout.CNI_NAMESPACE}"
    try:
        status = posix.stat(found)
    except OSError:
        return ""
    return found if (status.st_dev, status.st_ino) == namespace else ""


def restore_link(path: str, interface: str, address: str) -> bool:
    """Put a device of the name, with the address, into the namespace; False if one of the name is there."""
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)

    def work() -> bool:
        with Rtnetlink() as netlink:
            if netlink.link(interface) is not None:
                return False
            netlink.add_bridge(interface, _HARDWARE, 0)
            link = netlink.link(interface)
            if link is not None:
                text, _, length = address.partition("/")
                netlink.give(link.index, text, int(length))
            return True

    try:
        return in_namespaces({"network": fd}, work)
    finally:
        posix.close(fd)


def release(context: Context) -> None:
    """Take away the mount and the file; none is fine."""
    try:
        umount(f"/proc/self/fd/{context.state_dir}/{layout.CNI_NAMESPACE}", _UMOUNT)
    except OSError as error:
        if error.errno not in (EINVAL, ENOENT):  # not mounted, not there
            raise
    try:
        posix.unlink(layout.CNI_NAMESPACE, dir_fd=context.state_dir)
    except FileNotFoundError:
        return
