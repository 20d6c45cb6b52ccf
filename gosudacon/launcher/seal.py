"""The seal: what the interpreter runs from cannot be written to, not even through ``/proc/<pid>/exe``.

A container gets a handle to the text of the process that becomes it (an entry point ``#!/proc/self/exe`` is
enough, CVE-2019-5736), and the text of this runtime is the host's Python. So a process that enters a
container runs from one of these, tried in this order:

``tree``   a detached, read-only clone of the interpreter's own mount: open_tree(2), mount_setattr(2). The
           descriptor of the clone is close-on-exec; execve closes it, which dissolves the clone's mount
           namespace, and a mount without a namespace cannot be changed by any process.
           CAP_SYS_ADMIN, Linux 5.12.
``memfd``  a sealed copy in memory: memfd_create(2), F_ADD_SEALS. 4 ms, and 7 MB for as long as it runs.
``copy``   a copy in a file that has no name: O_TMPFILE. No other process runs it, so whatever becomes of it harms
           no other process; and the kernel must refuse to write to it while it runs.

The launcher makes the first before Python starts. `ensure` is for a process that was started otherwise.
"""

from __future__ import annotations

import sys

from gosudacon.base import posix
from gosudacon.base.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OPTION = "gosudacon"  # -X gosudacon=METHOD: how the process that started us says it sealed us
PATHS_OPTION = "gosudacon-path"  # -X gosudacon-path=DIR:DIR: where the dependencies are
#: The commands that enter a container.
ENTERING = ("create", "run", "exec", "restore", "mounts", "learn", "containerd-shim")

_EXE = "/proc/self/exe"
_DELETED = " (deleted)"
_F_ADD_SEALS, _F_GET_SEALS = 1033, 1034
_SEALS = 0x1 | 0x2 | 0x4 | 0x8  # F_SEAL_SEAL, SHRINK, GROW, WRITE
_MFD_EXEC = 0x10  # 6.3; older kernels answer EINVAL
_COPY_DIRECTORIES = ("/run", "/dev/shm", "/tmp", "/var/tmp")


def enters(arguments: Sequence[str]) -> bool:
    """Whether a command line may be that of a command that enters a container.

    True for some that do not (a container may be called ``run``): sealing is cheaper than parsing.
    """
    return any(word in ENTERING for word in arguments)


def verified() -> str:
    """The method by which this process is sealed, as the kernel confirms it; empty if it is not.

    The option on the command line says where to look, and proves nothing.
    """
    method = str(sys._xoptions.get(OPTION, ""))
    check = {"tree": _is_tree, "memfd": _is_memfd, "copy": _is_copy}.get(method)
    try:
        return method if check is not None and check() else ""
    except OSError:
        return ""


def require() -> None:
    """Raise `Error` unless this process is sealed. Every command that enters a container calls it first."""
    if not verified():
        raise Error(
            "refusing to enter a container: the interpreter is not sealed",
            hint="use the command that `gosudacon install` installs",
        )


def ensure(arguments: Sequence[str], entry: str, paths: Sequence[str] = ()) -> None:
    """Return if this process is sealed; otherwise start over, sealed, and do not return.

    The new interpreter is isolated, runs the file ``entry`` with ``arguments`` and is told to look for
    modules in ``paths`` too. Descriptors, umask and working directory stay; the environment is hidden.
    Raises `Error` where the seal is claimed and not there, and where no method works.
    """
    if verified():
        return
    claim = sys._xoptions.get(OPTION, "none")
    if claim != "none":
        raise Error(f"the interpreter was started as sealed by {claim}, but the kernel says that it is not")
    failures = [_restart(method, make, arguments, entry, paths) for method, make in _LADDER]
    raise Error("cannot seal the interpreter: " + "; ".join(failures))


def _restart(
    method: str, make: Callable[[int], int], arguments: Sequence[str], entry: str, paths: Sequence[str]
) -> str:
    """Execute a sealed interpreter; returns why that was not possible."""
    exe = posix.open(_EXE, posix.O_PATH | posix.O_CLOEXEC)
    sealed = -1
    try:
        sealed = make(exe)
        posix.execve(sealed, _command(method, arguments, entry, paths), _hidden())
    except OSError as error:
        return f"{method}: {error.strerror}"
    finally:
        for fd in (exe, sealed):
            if fd >= 0:
                posix.close(fd)


def _command(method: str, arguments: Sequence[str], entry: str, paths: Sequence[str]) -> list[str]:
    """The new process's argv. Its first word is the interpreter's real path: from it Python finds its library."""
    interpreter = posix.readlink(_EXE).removesuffix(_DELETED)
    command = [interpreter, "-ISB", "-Xutf8", f"-X{OPTION}={method}", f"-X{OPTION}-again"]
    if paths:
        command.append(f"-X{PATHS_OPTION}=" + ":".join(paths))
    return [*command, entry, *arguments]


def given() -> dict[bytes, bytes]:
    """The environment that this process was started with. The interpreter has changed its own: proc_pid_environ(5)."""
    fd = posix.open("/proc/self/environ", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        content = b""
        while chunk := posix.read(fd, 1 << 16):
            content += chunk
    finally:
        posix.close(fd)
    found: dict[bytes, bytes] = {}
    for entry in content.split(b"\0"):
        name, assigned, value = entry.partition(b"=")
        if assigned:
            found.setdefault(name, value)
    return found


def _hidden() -> dict[bytes, bytes]:
    """The environment as launcher.c hides it from the interpreter; `gosudacon.__main__` shows it again."""
    if OPTION in sys._xoptions:
        return given()
    hidden = {b"LC_ALL": b"C"}
    for name, value in given().items():
        odd = name[:1] >= b"\x80" or not name
        hidden[b"\x80" + name if odd else bytes((name[0] | 0x80,)) + name[1:]] = value
    return hidden


def _tree(exe: int) -> int:
    from gosudacon.linux import mount

    tree = mount.open_tree(exe, b"", mount.OPEN_TREE_CLONE | mount.AT_EMPTY_PATH, about="the interpreter")
    try:
        mount.mount_setattr(tree, mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NODEV)
    except BaseException:
        posix.close(tree)
        raise
    return tree


def _memfd(exe: int) -> int:
    import fcntl

    flags = posix.MFD_CLOEXEC | posix.MFD_ALLOW_SEALING
    try:
        memory = posix.memfd_create("gosudacon", flags | _MFD_EXEC)
    except OSError:
        memory = posix.memfd_create("gosudacon", flags)
    try:
        _copy_text(exe, memory)
        fcntl.fcntl(memory, _F_ADD_SEALS, _SEALS)
    except BaseException:
        posix.close(memory)
        raise
    return memory


def _copy(exe: int) -> int:
    writable = _nameless_file()
    try:
        _copy_text(exe, writable)
        return posix.open(f"/proc/self/fd/{writable}", posix.O_PATH | posix.O_CLOEXEC)
    finally:
        posix.close(writable)  # the kernel executes nothing that is open for writing


def _nameless_file() -> int:
    failure = OSError(0, "no directory for it")
    for directory in _COPY_DIRECTORIES:
        try:
            if not posix.statvfs(directory).f_flag & posix.ST_NOEXEC:
                return posix.open(directory, posix.O_TMPFILE | posix.O_RDWR | posix.O_EXCL | posix.O_CLOEXEC, 0o500)
        except OSError as error:
            failure = error
    raise failure


def _copy_text(exe: int, target: int) -> None:
    source = posix.open(f"/proc/self/fd/{exe}", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        while posix.sendfile(target, source, None, 1 << 30):
            pass
    finally:
        posix.close(source)


_LADDER: tuple[tuple[str, Callable[[int], int]], ...] = (("tree", _tree), ("memfd", _memfd), ("copy", _copy))


def possible() -> tuple[str, list[str]]:
    """The first method that works here, empty if none does, and why those before it do not; nothing is left of it."""
    failures = []
    exe = posix.open(_EXE, posix.O_PATH | posix.O_CLOEXEC)
    try:
        for method, make in _LADDER:
            try:
                posix.close(make(exe))
            except OSError as error:
                failures.append(f"{method}: {error.strerror}")
            else:
                return method, failures
    finally:
        posix.close(exe)
    return "", failures


def _is_tree() -> bool:
    # The root of a mount that has no namespace, and so no path. A /usr that is merely mounted read-only has
    # one, and can be made writable while a process holds a handle to the file.
    link = posix.readlink(_EXE)
    return link in ("/", "/" + _DELETED) and bool(posix.statvfs(_EXE).f_flag & posix.ST_RDONLY)


def _is_memfd() -> bool:
    import fcntl

    exe = posix.open(_EXE, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return fcntl.fcntl(exe, _F_GET_SEALS) & _SEALS == _SEALS
    finally:
        posix.close(exe)


def _is_copy() -> bool:
    import errno

    if posix.stat(_EXE).st_nlink:
        return False
    posix.chmod(_EXE, 0o700)  # so that it is the running, not the mode, that forbids what follows
    try:
        posix.close(posix.open(_EXE, posix.O_WRONLY | posix.O_CLOEXEC))
    except OSError as error:
        # Linux 6.11 to 6.12 do let running text be written to.
        return error.errno == errno.ETXTBSY
    finally:
        posix.chmod(_EXE, 0o500)
    return False
