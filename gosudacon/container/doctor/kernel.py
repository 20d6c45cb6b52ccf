"""What the kernel can do: asked of the kernel where that leaves nothing behind, read from /proc otherwise."""

from __future__ import annotations

from errno import EINVAL, ENOSYS, EPERM

from gosudacon.base import posix
from gosudacon.base.errors import SyscallError
from gosudacon.container.doctor.report import FAILS, LESS, OK, Row
from gosudacon.linux import mount, path, seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gosudacon.pipeline.spec import Host

OLDEST = (5, 12)
_AREA = "kernel"
_NEEDED = ("mnt", "pid", "net", "ipc", "uts")
_MORE = ("user", "cgroup", "time")
_NEWER = "a newer kernel, or one that is configured with it"


def rows(host: Host) -> Iterator[Row]:
    """Version, namespaces, system calls, seccomp, user namespaces for ordinary users."""
    release = posix.uname().release
    mark = OK if host.kernel >= OLDEST else FAILS
    yield Row(_AREA, "version", mark, release, f"Linux {OLDEST[0]}.{OLDEST[1]} or newer")
    yield from _namespaces()
    yield _call("openat2", _openat2, FAILS)
    yield _call("new mounts (fsopen)", lambda: posix.close(mount.new_filesystem("tmpfs", {})), FAILS)
    yield _call("mount_setattr", lambda: mount.mount_setattr(-1, 0), FAILS)
    found = "there" if host.clone3 else "refused"
    advice = "cgroups are joined more slowly; a seccomp filter around this process may hide it"
    yield Row(_AREA, "clone3", OK if host.clone3 else LESS, found, advice)
    yield from _seccomp()
    yield _user_namespaces(host)


def _namespaces() -> Iterator[Row]:
    for kinds, mark in ((_NEEDED, FAILS), (_MORE, LESS)):
        absent = [kind for kind in kinds if not posix.path.exists(f"/proc/self/ns/{kind}")]
        found = f"without {', '.join(absent)}" if absent else ", ".join(kinds)
        yield Row(_AREA, "namespaces" if mark == FAILS else "more namespaces", mark if absent else OK, found, _NEWER)


def _call(name: str, call: Callable[[], None], mark: str) -> Row:
    """Whether a system call is there: it is made so that it does nothing, or what it makes goes with a descriptor."""
    try:
        call()
    except SyscallError as error:
        if error.errno == ENOSYS:
            return Row(_AREA, name, mark, "not implemented, or hidden by a seccomp filter", _NEWER)
        if error.errno == EPERM and posix.geteuid() != 0:
            return Row(_AREA, name, OK, "present; this user can use it only in a user namespace")
        if error.errno == EPERM:
            return Row(_AREA, name, mark, "not permitted", "run it where CAP_SYS_ADMIN is not taken away")
    return Row(_AREA, name, OK, "there")


def _openat2() -> None:
    root = posix.open("/", posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        posix.close(path.open_in_root(root, "."))
    finally:
        posix.close(root)


def _seccomp() -> Iterator[Row]:
    try:
        there = seccomp.knows_flags(0)
    except SyscallError as error:
        there = error.errno not in (ENOSYS, EINVAL)
    advice = "profiles cannot be loaded: a kernel with CONFIG_SECCOMP_FILTER"
    yield Row(_AREA, "seccomp", OK if there else LESS, "there" if there else "missing", advice)
    notifies = there and seccomp.knows_flags(seccomp.FLAG_NEW_LISTENER)
    yield Row(_AREA, "seccomp notify", OK if notifies else LESS, "there" if notifies else "missing", _NEWER)


def _user_namespaces(host: Host) -> Row:
    """Whether the caller can make user namespaces: sysctls of the kernel, of Debian, of Ubuntu."""
    name, root = "user namespaces", host.euid == 0
    mark = LESS if root else FAILS
    if read("/proc/sys/user/max_user_namespaces") == "0":
        return Row(_AREA, name, mark, "none may be made", "sysctl user.max_user_namespaces=15000")
    if not root and read("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        return Row(_AREA, name, mark, "for root alone", "sysctl kernel.unprivileged_userns_clone=1")
    if not root and read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        advice = "a profile for gosudacon with `userns`, or sysctl kernel.apparmor_restrict_unprivileged_userns=0"
        return Row(_AREA, name, LESS, "AppArmor restricts them", advice)
    there = posix.path.exists("/proc/self/ns/user")
    return Row(_AREA, name, OK if there else mark, "can be made" if there else "missing", _NEWER)


def read(file: str) -> str:
    """The text of a small file, stripped; empty if it cannot be read."""
    try:
        return posix.read_file(file, 1 << 20).decode(errors="replace").strip()
    except OSError:
        return ""
