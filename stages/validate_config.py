"""Stage ``validate-config``: the configuration is valid and its root filesystem is there."""

from __future__ import annotations

from gosudacon.api import PREPARE, ConfigError, Context, Error, Host, PlanWarning, Spec, Stage, Step, hookimpl
from gosudacon.base import posix
from gosudacon.base.errors import reason
from gosudacon.schema import verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.api import Table
    from gosudacon.schema.types import Resources


class OpenRoot(Step):
    """Open the root filesystem's directory; it must be one, and no symbolic link.

    Why: everything that is mounted goes through this descriptor, which stays the same directory.
    Without it: the image could be swapped for a link while the container is made.
    See: openat2(2); runtime-spec config.md, Root.
    """

    phase = PREPARE
    where = "root.path"
    path: str

    def describe(self) -> str:
        return f"open the root filesystem {self.path}"

    def run(self, context: Context) -> None:
        try:
            context.root = posix.open(self.path, posix.O_PATH | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC)
        except NotADirectoryError:
            kind = "a symbolic link" if posix.path.islink(self.path) else "not a directory"
            raise Error(f"invalid rootfs: {self.path} is {kind}", call="open") from None
        except OSError as error:
            raise Error(f"invalid rootfs: {reason(error)}", call="open", errno=error.errno or 0) from None


# Annotations of crun that change what confines or runs the process, and are not supported: a user who wrote one
# must not get a container without it (docs/annotations.md).
REFUSED = {
    "run.oci.handler": "gosudacon runs Linux processes only",
    "run.oci.seccomp_bpf_data": "give the profile in linux.seccomp",
    "run.oci.seccomp_fail_unknown_syscall": "unknown system calls of a profile are left out",
    "run.oci.seccomp.plugins": "use linux.seccomp.listenerPath",
}


# What callers of runc may know the commonest mistakes by.
_WORDS = {"process.args": "args must not be empty: ", "process.cwd": "Cwd must be an absolute path: "}


class ValidateConfig(Stage):
    """Accepts or refuses the whole configuration before any other stage plans with it."""

    name = "validate-config"

    def plan(self, spec: Spec, host: Host) -> Iterator[Step]:
        """Raises `ConfigError` with all problems at once."""
        if not verdict.accepts(spec.plain()):
            raise _problems(spec)
        if spec.config.get("root") is None:
            raise ConfigError("root must be specified", where="root")
        if spec.config.get("process") is None:
            raise ConfigError("process property must not be empty", where="process")
        annotations = spec.config.get("annotations")
        for name in REFUSED.keys() & annotations.keys() if annotations else ():
            raise ConfigError(f"{name} is not supported: {REFUSED[name]}", where=f"annotations.{name}")
        if spec.rootfs == "/":
            raise ConfigError("invalid rootfs: / of the host", where="root.path")
        yield from _warnings(spec)
        yield OpenRoot(path=spec.rootfs)

    def plan_restore(self, spec: Spec, host: Host) -> Iterator[Step]:
        """As `plan`."""
        return self.plan(spec, host)

    def plan_exec(self, spec: Spec, host: Host) -> tuple[Step, ...]:
        """Raises `ConfigError` with all problems of the process; the rest of the configuration has been accepted."""
        if not verdict.accepts(spec.plain().get("process") or {}, "process"):
            raise _problems(spec, "process")
        return ()

    def plan_update(self, resources: Resources, spec: Spec, host: Host) -> Iterator[Step]:
        """No steps. Raises `ConfigError` with all problems of ``resources`` at once."""
        checked = spec.replace(config={**spec.config, "linux": {**spec.linux, "resources": dict(resources)}}, text=None)
        if not verdict.accepts(checked.plain()):
            raise _problems(checked)
        yield from ()


def _warnings(spec: Spec) -> Iterator[Step]:
    """What is read in a way that its author may not have meant."""
    for place, name in spec.renamed:
        yield PlanWarning(message=f"read as {place.rpartition('.')[2]}, though it is written {name}", where=place)
    if spec.config.get("ociVersion") is None:
        yield PlanWarning(message="absent", where="ociVersion")
    if "" in (spec.config.get("annotations") or {}):
        yield PlanWarning(message="an annotation without a name", where="annotations")
    for where, path in _paths(spec):
        if path[:1] != "/":
            yield PlanWarning(message=f"not absolute, read as /{path}" if path else "empty: ignored", where=where)


def _paths(spec: Spec) -> Iterator[tuple[str, str]]:
    """(place, path) of paths in the container that its / is put before, if they are relative."""
    for index, mount in enumerate(spec.config.get("mounts") or ()):
        yield f"mounts[{index}].destination", mount["destination"]
    for index, device in enumerate(spec.linux.get("devices") or ()):
        yield f"linux.devices[{index}].path", device["path"]
    hidden = (("maskedPaths", spec.linux.get("maskedPaths")), ("readonlyPaths", spec.linux.get("readonlyPaths")))
    for key, paths in hidden:
        for index, path in enumerate(paths or ()):
            yield f"linux.{key}[{index}]", path


def _problems(spec: Spec, kind: str = "config") -> ConfigError:
    from gosudacon.schema import problems

    name, prefix = ("config.json", "") if kind == "config" else ("process", "process.")
    config = spec.plain()
    found = problems.problems(config if kind == "config" else config.get("process") or {}, spec.text, kind)
    lines = [f"{prefix}{each.where}: found {each.found}, allowed: {each.allowed}" for each in found]
    words = _WORDS.get(prefix + found[0].where, "") if found else ""
    text = f"{words}invalid {name}: " + ("; ".join(lines) or "refused")
    error = ConfigError(text, where=found[0].where if found else "")
    error.problems = [each.row() for each in found]
    return error


def expected() -> Table:
    """What the step of this stage expects the kernel to show (`pipeline.expectation`)."""
    return {"OpenRoot": "seen with the mount of the root"}


@hookimpl
def gosudacon_stages() -> list[Stage]:
    """Contribute the stage."""
    return [ValidateConfig()]
