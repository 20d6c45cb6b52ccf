"""The resctrl file system: classes of service and monitoring groups (Documentation/filesystems/resctrl.rst).

Making a directory makes a group, with the files ``tasks`` and ``schemata`` in it; removing it removes the group, and
its tasks belong to the group above.
"""

from __future__ import annotations

from errno import EINVAL, ENOENT

from gosudacon.base import posix
from gosudacon.base.errors import Error, SyscallError, reason
from gosudacon.linux import mount

ROOT = "/sys/fs/resctrl"
RESCTRL_SUPER_MAGIC = 0x07655821
_FLAGS = posix.O_PATH | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC


def is_mounted(directory: str) -> bool:
    """Whether ``directory`` is of a resctrl file system."""
    try:
        fd = posix.open(directory, _FLAGS)
    except OSError:
        return False
    try:
        return mount.filesystem_type(fd) == RESCTRL_SUPER_MAGIC
    finally:
        posix.close(fd)


def make(group: str) -> bool:
    """Make a group; False if it is there already. Raises SyscallError (ENOSPC: there are no more classes)."""
    try:
        posix.mkdir(group, 0o755)
    except FileExistsError:
        return False
    except OSError as error:
        raise SyscallError(error.errno or 0, "mkdir", group) from None
    return True


def remove(group: str) -> None:
    """Remove a group, if it is there. Raises SyscallError."""
    try:
        posix.rmdir(group)
    except FileNotFoundError:
        return
    except OSError as error:
        raise SyscallError(error.errno or 0, "rmdir", group) from None


def exists(group: str) -> bool:
    """Whether there is such a group."""
    return posix.path.isdir(group)


def read(path: str) -> str:
    """What a file of the file system says. Raises SyscallError."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError as error:
        raise SyscallError(error.errno or 0, "read", path) from None


def write(root: str, path: str, text: str) -> None:
    """Write to a file of the file system at ``root``. Raises `Error` with what the kernel says of an invalid value."""
    try:
        fd = posix.open(path, posix.O_WRONLY | posix.O_TRUNC | posix.O_CLOEXEC)
        try:
            posix.write(fd, text.encode())
        finally:
            posix.close(fd)
    except OSError as error:
        hint = _last_status(root) if error.errno in (EINVAL, ENOENT) else ""
        message = f"intel rdt: write {text.strip()!r} to {path}: {reason(error)}"
        raise Error(message, call="write", errno=error.errno or 0, hint=hint) from None


def _last_status(root: str) -> str:
    """Why the kernel refused the last write; empty if it does not say."""
    try:
        status = read(f"{root}/info/last_cmd_status").strip()
    except SyscallError:
        return ""
    return "" if status == "ok" else status


def values(schemata: str) -> dict[tuple[str, str], str]:
    """(resource, domain) -> value of lines such as ``L3:0=ff;1=f0``, numbers without what means nothing in them."""
    found: dict[tuple[str, str], str] = {}
    for line in schemata.splitlines():
        resource, colon, domains = line.strip().partition(":")
        for domain in domains.split(";") if colon else ():
            number, _, value = domain.partition("=")
            found[resource.strip(), number.strip().lstrip("0") or "0"] = value.strip().lower().lstrip("0") or "0"
    return found
