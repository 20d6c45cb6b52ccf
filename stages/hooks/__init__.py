"""Stage ``hooks``: programs that config.json lists for six moments of the container's life (config.md, Hooks).

May use: `api`, `linux`, `base`.
Start with `RunHook`.

Every hook gets the container's state on standard input, the environment it lists, and descriptors 0 to 2 only. See
docs/hooks.md.
"""

from __future__ import annotations

from gosudacon.api import (
    CREATE_CONTAINER,
    CREATE_RUNTIME,
    DELETE,
    PREPARE,
    START,
    STARTED,
    ConfigError,
    Context,
    Host,
    Rank,
    Spec,
    Stage,
    Step,
    StepError,
    hookimpl,
)
from gosudacon.base import jsonio, posix
from gosudacon.linux.program import Program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gosudacon.schema.types import Features, Hook

#: Kind -> (phase, rank, the status in the state it is given), in the order in which they run.
KINDS = {
    "prestart": (CREATE_RUNTIME, 0, "creating"),
    "createRuntime": (CREATE_RUNTIME, 0, "creating"),
    "createContainer": (CREATE_CONTAINER, 0, "creating"),
    "startContainer": (START, Rank.HOOKS, "created"),
    "poststart": (STARTED, 0, "running"),
    "poststop": (DELETE, 0, "stopped"),
}
#: crun's: files of the host that the hooks' standard output and error are appended to (docs/annotations.md).
OUTPUTS = ("run.oci.hooks.stdout", "run.oci.hooks.stderr")
_IN_CONTAINER = ("createContainer", "startContainer")


class HooksStage(Stage):
    """prestart, createRuntime, createContainer, startContainer, poststart and poststop."""

    name = "hooks"
    after = ("cgroups",)
    keys = ("hooks",)

    def features(self) -> Features:
        """The kinds of hooks, and the annotations that say where their output goes."""
        return {"hooks": list(KINDS), "potentiallyUnsafeConfigAnnotations": list(OUTPUTS)}

    def plan(self, spec: Spec, host: Host) -> Iterator[Step]:
        hooks = spec.config.get("hooks") or {}
        annotations = spec.config.get("annotations") or {}
        stdout, stderr = (annotations.get(name) or "" for name in OUTPUTS)
        if (stdout or stderr) and any(hooks.get(kind) for kind in _IN_CONTAINER):
            from gosudacon.stages.hooks import output

            yield output.OpenOutputs(stdout=stdout, stderr=stderr, keep=bool(hooks.get("startContainer")))
        for kind, (phase, rank, _) in KINDS.items():
            entries: list[Hook] = hooks.get(kind) or []  # type: ignore[assignment]  # the key is of a table
            for index, hook in enumerate(entries):
                where = f"hooks.{kind}[{index}]"
                path = _check(hook, where)
                if kind == "createContainer":
                    yield OpenHook(index=index, path=path, where=where)
                yield RunHook(
                    phase=phase,
                    rank=rank,
                    kind=kind,
                    index=index,
                    path=path,
                    args=list(hook.get("args") or ()) or [path],
                    env=None if hook.get("env") is None else list(hook["env"]),
                    timeout=hook.get("timeout"),
                    stdout=stdout,
                    stderr=stderr,
                    where=where,
                )

    def plan_restore(self, spec: Spec, host: Host) -> Iterator[Step]:
        """prestart and createRuntime hooks, which may bring the network, and poststop; no other, as with runc."""
        for step in self.plan(spec, host):
            if step.phase in (CREATE_RUNTIME, DELETE):
                yield step


def _check(hook: Hook, where: str) -> str:
    path, timeout = hook.get("path"), hook.get("timeout")
    if not isinstance(path, str) or not path.startswith("/"):
        raise ConfigError(f"the path of a hook must be absolute: {path!r}", where=f"{where}.path")
    if timeout is not None and (type(timeout) is not int or timeout <= 0):
        raise ConfigError(f"the timeout of a hook must be greater than zero: {timeout!r}", where=f"{where}.timeout")
    return path


class Opened:
    """What `OpenHook` and `OpenOutputs` leave for `RunHook`."""

    def __init__(self) -> None:
        self.hooks: dict[int, tuple[int, bool]] = {}  # index -> descriptor, and whether it is a script
        self.outputs = (-1, -1)  # for standard output and error of hooks in the container


class OpenHook(Step):
    """Find a createContainer hook in the host's namespace, where the specification wants its path resolved.

    Why: the hook runs in the container's namespaces, and its program is on the host.
    Without it: the path would be looked for in the image.
    See: runtime-spec config.md, POSIX-platform Hooks.
    """

    phase = PREPARE
    index: int
    path: str

    def describe(self) -> str:
        return f"open the createContainer hook {self.path}"

    def run(self, context: Context) -> None:
        try:
            fd = posix.open(self.path, posix.O_PATH | posix.O_CLOEXEC)
        except OSError as error:
            raise _failure("createContainer", self.index, _exec_failed(self.path, error.errno or 0)) from error
        context.own(Opened).hooks[self.index] = (fd, _is_script(fd))


def _is_script(fd: int) -> bool:
    try:
        file = posix.open(f"/proc/self/fd/{fd}", posix.O_RDONLY | posix.O_NONBLOCK | posix.O_CLOEXEC)
    except OSError:
        return False  # not readable, and so nothing an interpreter could read
    try:
        return posix.read(file, 2) == b"#!"
    except OSError:
        return False  # a directory: the error is execve's to report
    finally:
        posix.close(file)


class RunHook(Step):
    """Run one hook and wait for it; anything but exit status 0 within its time is an error.

    ``env`` is None where the hook lists none: then it gets the environment of the runtime's caller, in startContainer
    the process's. ``timeout`` is in seconds, None for no limit. A hook that is killed for it is killed with its process
    group, which is its own. What it leaves running otherwise is none of our business, and is not waited for. ``stdout``
    and ``stderr`` are files that its output is appended to; of what has none, the end is kept for the error.

    Why: hooks let others take part in a container's life: networks, devices of GPUs, logs.
    Without it: what they set up would be missing.
    See: runtime-spec config.md, POSIX-platform Hooks.
    """

    recorded_as = ("hooks.run", 2)
    kind: str
    index: int
    path: str
    args: list[str]
    env: list[str] | None
    timeout: int | None
    stdout: str
    stderr: str

    @classmethod
    def restored(cls, version: int, fields: dict[str, object]) -> Step:
        """Version 1 had no ``stdout`` and ``stderr``, and an empty ``env`` where none was listed."""
        if version == 1:
            version, fields = 2, {**fields, "stdout": "", "stderr": ""}
        return super().restored(version, fields)

    def describe(self) -> str:
        limit = "" if self.timeout is None else f" (at most {self.timeout} s)"
        files = [f"{name} to {file}" for name, file in (("stdout", self.stdout), ("stderr", self.stderr)) if file]
        return f"run the {self.kind} hook {self.path}{limit}" + (f", {', '.join(files)}" if files else "")

    def details(self) -> list[str]:
        return [*(f"[{number}] {each}" for number, each in enumerate(self.args)), *(self.env or ())]

    def run(self, context: Context) -> None:
        directory: str | int | None = context.spec.bundle
        if self.kind == "createContainer":
            directory = context.root
        elif self.kind == "startContainer":
            directory = None
        program = Program(self.path, self.args, self._environment(context), directory, self._executable(context))
        if self.kind == "startContainer":
            program.confine = context.confine
        problem = self._run(program, context)
        if self.kind == "createContainer":  # a file of the host: not for init to hold while it waits
            posix.close(context.own(Opened).hooks.pop(self.index)[0])
        if problem:
            raise _failure(self.kind, self.index, problem)

    def _environment(self, context: Context) -> Mapping[bytes, bytes]:
        """Of entries with the same name the last counts; one without a name or a value is none to getenv(3) either.

        Never the process's for a hook on the host's files: an image could have it load a library of its own.
        """
        if self.env is None:  # the descriptors that LISTEN_FDS tells of are not passed on (sd_listen_fds(3))
            return {name: value for name, value in context.environment.items() if not name.startswith(b"LISTEN_")}
        entries = [posix.fsencode(entry) for entry in self.env]
        return {entry[:at]: entry[at + 1 :] for entry in entries if (at := entry.find(b"=")) > 0}

    def _run(self, program: Program, context: Context) -> str:
        state = self._state(context)
        if self.kind in _IN_CONTAINER or not (self.stdout or self.stderr):
            return _problem(program, state, self.timeout, context.own(Opened).outputs)
        from gosudacon.stages.hooks import output

        opened = output.opened(self.stdout, self.stderr)
        try:
            return _problem(program, state, self.timeout, opened)
        finally:
            output.close(opened)

    def _executable(self, context: Context) -> str:
        """Where to find the file that is at ``path`` in the host's namespace."""
        if self.kind != "createContainer":
            return self.path
        fd, script = context.own(Opened).hooks[self.index]
        if not script:
            return f"/proc/self/fd/{fd}"
        # Its interpreter will open it by name, which must still be that of the same file in this namespace.
        found, here = posix.stat(fd), posix.stat(self.path)
        if (found.st_dev, found.st_ino) != (here.st_dev, here.st_ino):
            problem = f"{self.path} is another file in the container's mount namespace, and a script runs by name"
            raise _failure(self.kind, self.index, problem)
        return self.path

    def _state(self, context: Context) -> bytes:
        pid = 0 if self.kind == "poststop" else None
        assert context.engine is not None
        return jsonio.dumps(context.engine.state(KINDS[self.kind][2], pid)).encode()


def _problem(program: Program, state: bytes, timeout: int | None, outputs: tuple[int, int]) -> str:
    """Run it; an empty string if it succeeded, else what went wrong, in runc's words."""
    try:
        ended = program.run(state, timeout, outputs)
    except OSError as error:
        return _exec_failed(program.path, error.errno or 0)
    if ended.status is None:
        return f"hook ran past specified timeout of {timeout}.0s"
    how, texts = ended.how(), [each.decode(errors="replace") for each in (ended.stdout, ended.stderr)]
    return f"{how}, stdout: {texts[0]}, stderr: {texts[1]}" if how else ""


def _exec_failed(path: str, number: int) -> str:
    text = posix.strerror(number)
    return f"fork/exec {path}: {text[:1].lower()}{text[1:]}"


def _failure(kind: str, index: int, problem: str) -> StepError:
    return StepError(f"error running {kind} hook #{index}: {problem}")


@hookimpl
def gosudacon_stages() -> list[Stage]:
    """The stages of this module."""
    return [HooksStage()]
