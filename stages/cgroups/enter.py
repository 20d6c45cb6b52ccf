"""Put another process into a container's existing cgroups: the runtime opens them, the process enters them."""

from __future__ import annotations

from errno import EBUSY

from gosudacon.api import ISOLATE, PREPARE, ConfigError, Context, Host, Spec, Step
from gosudacon.base import posix
from gosudacon.base.errors import SyscallError
from gosudacon.linux import path, proc
from gosudacon.linux.cgroup import files
from gosudacon.stages.cgroups import joining

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_UNIFIED = ""
_STRAIGHT = path.RESOLVE_NO_SYMLINKS | path.RESOLVE_NO_MAGICLINKS
_AT_FDCWD = -100


class _Opened:
    """What `EnterCgroups` writes ``0`` to."""

    def __init__(self) -> None:
        self.joins: dict[str, int] = {}  # path -> descriptor
        self.beside = -1  # cgroup.procs of init's own cgroup: the way out of EBUSY, where clone3(2) cannot be used


class OpenCgroups(Step):
    """Open what the process has to write to, and the unified cgroup for clone3(2).

    Leaves `Context.cgroup_fd`, ``cgroup_dirs`` (to be closed) and for `EnterCgroups` what it writes to.

    Why: the process loses sight of the host's cgroups on its way in, and must hold what it writes to.
    Without it: a process of `exec` would not be in the container's cgroup.
    See: cgroups(7); openat(2).
    """

    phase = PREPARE
    cgroups: dict[str, str]
    init: int

    def describe(self) -> str:
        return "open the cgroups " + ", ".join(sorted({*self.cgroups.values()}))

    def run(self, context: Context) -> None:
        held = context.own(_Opened)
        joins = held.joins
        for controller, directory in self.cgroups.items():
            if controller != _UNIFIED:
                file = f"{directory}/tasks"
                if file not in joins:  # some controllers share a hierarchy
                    joins[file] = _open_to_write(file)
            elif context.host.clones_into_cgroup():
                context.cgroup_fd = context.cgroup_dirs[_UNIFIED] = files.open_directory(directory)
            else:
                joins[f"{directory}/cgroup.procs"] = _open_to_write(f"{directory}/cgroup.procs")
                if self.init:
                    own = context.host.cgroup_mounts[_UNIFIED] + proc.cgroups(self.init).get(_UNIFIED, "/")
                    held.beside = _open_to_write(f"{own}/cgroup.procs")


class EnterCgroups(Step):
    """Enter them, while this process has one thread and sees the host's cgroups.

    Why: a process of `exec` shares the container's limits, and its end.
    Without it: it would use memory and processors without limit, and survive `delete`.
    See: cgroups(7).
    """

    phase = ISOLATE
    controllers: list[str]

    def describe(self) -> str:
        return joining(self.controllers, self.joins_by_clone)

    def run(self, context: Context) -> None:
        held = context.own(_Opened)
        for name, fd in held.joins.items():
            self._enter(name, fd, held.beside)
            posix.close(fd)
        for fd in {*context.cgroup_dirs.values(), held.beside} - {-1}:
            posix.close(fd)
        held.joins, held.beside = {}, -1
        context.cgroup_dirs, context.cgroup_fd = {}, -1

    def _enter(self, name: str, fd: int, beside: int) -> None:
        try:
            posix.write(fd, b"0")
        except OSError as error:
            if error.errno != EBUSY or beside < 0 or name.endswith("/tasks"):
                raise SyscallError(error.errno or 0, "write", name) from None
            posix.write(beside, b"0")


def plan_enter(spec: Spec, host: Host, cgroups: dict[str, str]) -> Iterator[Step]:
    """The steps into ``cgroups`` (controller -> directory), or into those below them that the caller has chosen.

    Raises `ConfigError` for a choice that does not fit them.
    """
    target = spec.target
    assert target is not None
    chosen = {controller: _below(controller, directory, target.below) for controller, directory in cgroups.items()}
    for name in target.below:
        if name != "*" and name not in cgroups:
            raise ConfigError(f"invalid --cgroup argument: the container has no cgroup of controller {name!r}")
    init = 0 if target.below else target.pid
    yield OpenCgroups(cgroups=chosen, init=init, failing="bad sub cgroup path" if target.below else "")
    by_clone = _UNIFIED in cgroups and host.clones_into_cgroup()
    yield EnterCgroups(controllers=[*cgroups], joins_by_clone=by_clone)


def _below(controller: str, directory: str, below: dict[str, str]) -> str:
    name = below.get(controller) or below.get("*") or ""
    names = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in names or "\0" in name:
        raise ConfigError(f"bad sub cgroup path: invalid --cgroup argument: {name!r} is not a sub cgroup path")
    return "/".join([directory, *names])


def _open_to_write(file: str) -> int:
    return path.openat2(_AT_FDCWD, file, posix.O_WRONLY, _STRAIGHT)
