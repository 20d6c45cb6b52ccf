"""``gosudacon plugin check``: a plugin is planned with a set of bundles, and what it must not do is looked for.

All of it happens in a forked child, since what watches cannot be taken away again. No step is run.
"""

from __future__ import annotations

import copy
import os
import traceback

from gosudacon.base import jsonio, posix
from gosudacon.base.errors import Error, reason
from gosudacon.container import bundle as bundles
from gosudacon.container.kit import imports, plugins, samples
from gosudacon.container.kit.purity import Watch, belongs
from gosudacon.pipeline import discovery, kinds
from gosudacon.pipeline import plan as plans
from gosudacon.pipeline.registry import CONFIG, Registry
from gosudacon.pipeline.spec import EXEC, Host, Spec, Target
from gosudacon.pipeline.step import CONTAINER, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TypedDict

    class Problem(TypedDict):
        """Something that a plugin must not do. ``kind``: impure, unsteady, fields, undo, imports or error; or audit."""

        kind: str
        bundle: str
        step: str
        message: str

    class Result(TypedDict):
        """What came of a plugin."""

        plugin: str
        bundles: list[str]
        steps: int  # of the plugin, in all plans
        problems: list[Problem]
        remarks: list[Problem]  # what is missing and no mistake: steps that say nothing to ``audit``


_HOSTS = {"v2": Host(), "v1": Host(cgroup_mode="v1", cgroup_mounts={"memory": "/sys/fs/cgroup/memory"})}
_NAMESPACES = ["mount", "pid", "network", "ipc", "uts"]


def check(name: str, config: str, directories: Sequence[str]) -> Result:
    """Check the plugin ``name`` with the sample bundles and those in ``directories`` (absolute paths).

    ``config``: path of the configuration, empty for the usual one: the plugin gets its settings from there, and the
    plugins that are enabled take part, whether it is among them or not. Raises `Error` if it cannot be loaded.
    """
    if not any(each.name == name for each in discovery.available()):
        raise plugins.not_installed(name)
    settings = discovery.read(config or CONFIG, bool(config))
    if name not in settings["plugins"]:
        settings["plugins"] = [*settings["plugins"], name]
    chosen = [(f"sample {each}", Spec(made, "check", "/srv/check")) for each, made in samples.samples().items()]
    chosen += [(directory, bundles.load("check", directory)) for directory in directories]
    return _in_child(lambda: _Check(name, Registry(discovery.assembled(settings, config or CONFIG)[0])).run(chosen))


class _Check:
    def __init__(self, name: str, registry: Registry) -> None:
        self.name = name
        self.registry = registry
        self.parts = discovery.parts(name)
        top = next((each.module for each in discovery.available() if each.name == name), "")
        self.packages = (top if top.startswith("gosudacon.plugins.") else top.partition(".")[0],)
        self.problems: list[Problem] = []
        self.remarks: list[Problem] = []
        self.steps: dict[str, Step] = {}
        self.count = 0

    def run(self, chosen: list[tuple[str, Spec]]) -> Result:
        for label, spec in chosen:
            for each in self._operations(spec):
                self._plan(label, each)
        self._look_at_steps()
        return {
            "plugin": self.name,
            "bundles": [label for label, _ in chosen],
            "steps": self.count,
            "problems": self.problems,
            "remarks": self.remarks,
        }

    def _operations(self, spec: Spec) -> Iterator[Spec]:
        yield spec
        if spec.config.get("process"):
            yield spec.replace(operation=EXEC, target=Target(pid=1, namespaces=_NAMESPACES))

    def _plan(self, label: str, spec: Spec) -> None:
        """Plan on two kinds of hosts, twice each, watched from the first time on: what is read once is read, too."""
        make = plans.make_exec if spec.operation == EXEC else plans.make
        for host in _HOSTS.values():
            shown = []
            for _ in range(2):
                own = spec.replace(config=copy.deepcopy(spec.plain()))
                with Watch(*self.packages) as watch:
                    try:
                        plan = self.registry.compiled(own, host, make)
                    except Error as error:
                        self._note_error(label, error)
                        plan = None
                    except Exception as error:  # noqa: BLE001 - whatever a plugin raises is what is looked for
                        self._note("error", label, "", f"planning raises {reason(error)} ({_place(error)})")
                        plan = None
                for line in watch.seen:
                    self._note("impure", label, "", f"planning calls {line}")
                if plan is None:
                    break
                steps = [step for step in plan.steps if self._is_own(step)]
                self.count += len(steps)
                shown.append([f"{type(step).__qualname__} {step.describe()} {vars(step)!r}" for step in steps])
                self.steps.update({type(step).__qualname__: step for step in steps})
                for step in steps:
                    self._fields(label, step)
                    self._expectation(step, own, host)
            if len(shown) == 2 and shown[0] != shown[1]:
                self._note("unsteady", label, "", "planned twice, the plan is not the same")

    def _note_error(self, label: str, error: Error) -> None:
        """A refusal is a plugin's right (a policy); one of stages that are not the plugin's says what it edited."""
        text = f"plugin {self.name!r}"
        if text in error.message or error.stage in self.parts.stages:
            self._note("error", label, "", f"planning refuses: {error.message}")

    def _is_own(self, step: Step) -> bool:
        return belongs(type(step).__module__, self.packages)

    def _fields(self, label: str, step: Step) -> None:
        fields = {name: value for name, value in vars(step).items() if value is not None}
        for name, value in fields.items():
            try:
                same = jsonio.loads(jsonio.dumps(value).encode()) == _plain(value)
            except (TypeError, ValueError):
                same = False
            if not same:
                self._note("fields", label, step.describe(), f"field {name} is not JSON: {value!r}"[:300])
                return
        if step.lasts:
            try:
                back = kinds.rebuild(jsonio.loads(jsonio.dumps(step.record()).encode()))
                same = vars(back) == vars(step)
            except Exception as error:  # noqa: BLE001 - whatever a plugin raises is what is looked for
                self._note("fields", label, step.describe(), f"it does not come back from the disk: {reason(error)}")
            else:
                if not same:
                    self._note("fields", label, step.describe(), "it is another step when it comes from the disk")

    def _expectation(self, step: Step, spec: Spec, host: Host) -> None:
        """Whether the step says what `audit` can look for, where this version has that question."""
        expect, kind = getattr(step, "expect", None), type(step).__qualname__
        if not callable(expect) or any(kind in each["message"] for each in self.remarks):
            return
        try:
            said = expect(spec, host)
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises is what is looked for
            self._note("error", "", step.describe(), f"{kind}.expect raises {reason(error)} ({_place(error)})")
            return
        if said == "":
            message = f"{kind} has no expectation for audit"
            self.remarks.append({"kind": "audit", "bundle": "", "step": step.describe(), "message": message})

    def _look_at_steps(self) -> None:
        if not self.steps:
            return
        known = imports.loaded(self.parts.modules)
        for step in self.steps.values():
            kind, line = type(step), step.describe()
            if step.lasts and kind.undo is Step.undo:
                self._note("undo", "", line, f"{kind.__qualname__} lasts, and has no undo of its own")
            if not step.lasts and kind.undo is not Step.undo:
                self._note(
                    "undo", "", line, f"{kind.__qualname__} has an undo that is never called: it does not say `lasts`"
                )
            late = imports.of_method(kind, "run") if step.runs_on() == CONTAINER else set()
            late |= imports.of_method(kind, "undo") if step.lasts else set()
            for module in sorted(late - known - set(step.modules)):
                self._note("imports", "", line, f"{kind.__qualname__} imports {module}, which `modules` does not name")

    def _note(self, kind: str, label: str, step: str, message: str) -> None:
        for known in self.problems:
            if (known["kind"], known["message"]) == (kind, message):
                return
        self.problems.append({"kind": kind, "bundle": label, "step": step, "message": message})


def _plain(value: object) -> object:
    """A value as JSON gives it back: tuples are lists."""
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return value


def _place(error: Exception) -> str:
    """Where in the code something was raised."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.filename}:{last.lineno}"


def _in_child(work: Callable[[], Result]) -> Result:
    """Do it in a child, and return what it returns. Raises `Error` with the message of what it raises."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        status = 1
        try:
            text = jsonio.dumps(work()).encode()
            status = 0
        except Error as error:
            text = error.message.encode()
        except BaseException as error:  # noqa: BLE001 - the child must not go on as a second parent
            text = f"internal error: {reason(error)}".encode()
        try:
            posix.write_all(writer, text, "pipe")
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, "rb") as file:
        text = file.read()
    if os.waitpid(pid, 0)[1] != 0:
        raise Error(text.decode(errors="replace") or "the check was killed")
    result: Result = jsonio.loads(text)  # type: ignore[assignment] # as the child has made it
    return result
