"""Changing the mounts of a running container: the same stages plan it, and the same two sides run the plan."""

from __future__ import annotations

from gosudacon.base import interrupt, jsonio, posix
from gosudacon.base.errors import ConfigError, Error, StateError
from gosudacon.container import bundle as bundles
from gosudacon.container import host as hosts
from gosudacon.container.state import Container, Store
from gosudacon.linux import namespace
from gosudacon.pipeline import plan as plans
from gosudacon.pipeline.executor import RuntimeSide
from gosudacon.pipeline.registry import registry
from gosudacon.pipeline.spec import ADD_MOUNTS, REMOVE_MOUNTS, Options, Spec, Target
from gosudacon.pipeline.step import Context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.container.caller import Caller
    from gosudacon.pipeline.plan import Plan
    from gosudacon.pipeline.registry import Registry
    from gosudacon.pipeline.spec import Host
    from gosudacon.schema.types import Mount, State

_LIMIT = 16 << 20


def add(root: str, id: str, mounts: list[Mount], options: Options, caller: Caller) -> None:
    """Mount them in a running container, all or none. Raises `StateError`, `ConfigError` or `Error`."""
    change = _Change(root, id, options, caller)
    try:
        change.add(mounts)
    finally:
        change.close()


def remove(root: str, id: str, mounts: list[Mount], options: Options, caller: Caller) -> None:
    """Unmount what is at their destinations, the last first. Raises `StateError`, `ConfigError` or `Error`."""
    change = _Change(root, id, options, caller)
    try:
        change.remove(mounts)
    finally:
        change.close()


class _Change:
    """One container, locked, whose init is alive."""

    def __init__(self, root: str, id: str, options: Options, caller: Caller) -> None:
        store = Store(root, id)
        store.open()
        _alive(Container.load(store))  # asked before the lock: a hook of its own creation must not wait for it
        store.close()
        store.open(exclusive=True)
        self.container = _alive(Container.load(store))
        self.options = options
        self.caller = caller
        self._entered = False  # a process was in the container, so something may have been mounted

    def add(self, mounts: list[Mount]) -> None:
        try:
            self._run(ADD_MOUNTS, mounts)
        except Error as error:
            done = _done(error, mounts) if self._entered else []
            if done:
                interrupt.defer()
                self._run(REMOVE_MOUNTS, done)
            raise
        self._record(self._recorded() + mounts)

    def remove(self, mounts: list[Mount]) -> None:
        self._run(REMOVE_MOUNTS, mounts)
        left = self._recorded()
        for each in mounts:
            for other in reversed(left):
                if other["destination"] == each["destination"]:
                    left.remove(other)
                    break
        self._record(left)

    def close(self) -> None:
        self.container.store.close()

    def _run(self, operation: str, mounts: list[Mount]) -> None:
        stages = registry(self.options.config_file, not self.options.no_snapshot)
        self.caller.trace(stages.trace)
        self.caller.mark("read the state")
        spec, host = self._spec(operation, mounts), hosts.gather()
        context = Context(spec, host)
        context.state_dir = posix.dup(self.container.store.fd)
        plan = stages.plan(spec, host, plans.make_mounts)
        self.caller.mark("check the mounts, plan")
        engine = RuntimeSide(plan, context, self._state, self.caller.watching(stages))
        engine.child = "the process"
        self.caller.equip(engine)
        try:
            engine.run()
            engine.go()
            posix.waitpid(context.pid, 0)
        except BaseException:
            self._entered = context.pid != 0
            engine.kill()
            raise
        finally:
            engine.close()
            posix.close(context.state_dir)
            context.forget()
        for warning in plan.warnings:
            self.caller.log.warning(warning.describe())

    def _spec(self, operation: str, mounts: list[Mount]) -> Spec:
        data = self.container.data
        config = bundles.saved(self.container.store)
        config["mounts"] = mounts
        kinds = namespace.differing(data["pid"])
        target = Target(pid=data["pid"], start_time=data["start_time"], namespaces=kinds, cgroups=data["cgroups"])
        return Spec(config, data["id"], data["bundle"], self.options, target=target, operation=operation)

    def _state(self, status: str, pid: int) -> State:
        return self.container.oci_state(self.container.status(), self.container.data["pid"])

    def _recorded(self) -> list[Mount]:
        return list(self.container.data.get("added_mounts") or ())

    def _record(self, mounts: list[Mount]) -> None:
        if mounts or "added_mounts" in self.container.data:
            self.container.data["added_mounts"] = mounts
            self.container.save()


def _alive(container: Container) -> Container:
    if not container.alive():
        raise StateError("container not running")
    return container


def _done(error: Error, mounts: list[Mount]) -> list[Mount]:
    """Those before the one that the error is about: its place is ``mounts[N]``, or in it."""
    number = error.where.removeprefix("mounts[").partition("]")[0]
    return mounts[: int(number)] if number.isdigit() else []


def read(path: str, stdin: int = 0) -> list[Mount]:
    """The mounts in a file, or in the descriptor ``stdin`` for ``-``: a JSON array, or one as ``mounts`` of an object.

    Raises `ConfigError` for anything else, `Error` or OSError if it cannot be read.
    """
    fd = stdin if path == "-" else posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    with open(fd, "rb", buffering=0, closefd=fd != stdin) as file:
        data = b""
        while len(data) <= _LIMIT and (chunk := file.read(1 << 20)):
            data += chunk
    what = "standard input" if path == "-" else path
    if len(data) > _LIMIT:
        raise Error(f"{what}: larger than 16 MiB")
    try:
        value = jsonio.without_nulls(jsonio.loads(data))
    except jsonio.JSONError as error:
        raise ConfigError(f"invalid mounts in {what}: {error}") from error
    if isinstance(value, dict):
        value = value.get("mounts")
    if not isinstance(value, list) or not value:
        raise ConfigError(f"invalid mounts in {what}: not a JSON array of mounts")
    for index, entry in enumerate(value):
        if not _valid(entry):
            text = "want an object with destination, type, source and options, as in config.json"
            raise ConfigError(f"invalid mounts in {what}: {text}", where=f"mounts[{index}]")
    return value


def _valid(entry: object) -> bool:
    if not isinstance(entry, dict) or not entry.get("destination"):
        return False
    options = entry.get("options", [])
    texts = [entry.get(name, "") for name in ("destination", "type", "source")]
    maps = [entry.get(name, []) for name in ("uidMappings", "gidMappings")]
    return (
        isinstance(options, list)
        and all(isinstance(each, str) and "\0" not in each for each in [*texts, *options])
        and all(isinstance(each, list) and all(_is_range(item) for item in each) for each in maps)
    )


def _is_range(item: object) -> bool:
    return isinstance(item, dict) and all(
        type(item.get(name)) is int and 0 <= item[name] < 1 << 32 for name in ("containerID", "hostID", "size")
    )


def compile_mounts(spec: Spec, host: Host, config: str = "", use_snapshot: bool = True) -> tuple[Plan, Registry]:
    """The plan that adds ``spec``'s mounts to ``spec.target``, and the registry it came from; as `compile_plan`."""
    stages = registry(config, use_snapshot)
    return stages.plan(spec, host, plans.make_mounts), stages


def explained(id: str, bundle: str, path: str, options: Options, host: Host) -> Spec:
    """What ``mounts add`` would be asked for in a container of this bundle; nothing needs to run."""
    spec = bundles.load(id, bundle, options)
    registry(options.config_file, not options.no_snapshot).edit(spec, host)
    target = Target(namespaces=list(spec.namespaces()))
    config = {**spec.config, "mounts": read(path)}
    return spec.replace(config=config, text=None, target=target, operation=ADD_MOUNTS)
