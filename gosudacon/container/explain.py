"""What ``create`` or ``exec`` would do: the plan of a bundle, made from its config.json and facts about the host.

Nothing is changed, and no container needs to be there.
"""

from __future__ import annotations

from gosudacon.base import layout, posix
from gosudacon.base.errors import ConfigError, Error
from gosudacon.container import bundle as bundles
from gosudacon.container import host as hosts
from gosudacon.container.create import compile_plan
from gosudacon.pipeline import explain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.container.process import ExecOptions


class Explanation:
    """The plan for a bundle (an absolute path), or with the option ``process`` for another process in its container.

    ``root``: the directory of all containers' state, where a service manager wants to know that the container is ready.
    Raises `Refusal` for a configuration that is invalid or impossible, `Error` for anything else.
    """

    def __init__(self, bundle: str, options: ExecOptions, root: str = "") -> None:
        id, process = _id(bundle), options.process
        self.host = hosts.gather()
        if root and not process:
            options.notify_directory = f"{root}/{id}/{layout.NOTIFY}"
        compiler = compile_plan
        try:
            if process:
                from gosudacon.container.exec import compile_exec, explained

                self.spec, compiler = explained(id, bundle, options, self.host), compile_exec
            else:
                self.spec = bundles.load(id, bundle, options)
            self.plan, self.stages = compiler(self.spec, self.host, options.config, not options.no_snapshot)
        except ConfigError as error:
            error.problems = error.problems or [{"where": error.where, "message": error.message}]
            if not process:
                _locate(error, bundle)
            raise Refusal(error, process or posix.path.join(bundle, layout.CONFIG)) from error

    def as_json(self, stage: str = "") -> str:
        """The plan as JSON; with ``stage`` that stage's steps. Raises `Error` if there is no such stage."""
        return explain.as_json(self.plan, self.spec, self.host, self._labels(stage))

    def show(self, stage: str = "") -> None:
        """Print the plan as a table; ``stage`` as for `as_json`."""
        explain.as_table(self.plan, self.spec, self.host, self._labels(stage))

    def _labels(self, stage: str) -> list[str]:
        """The stages meant by a name: its own, or that of one it has replaced."""
        found = self.stages.labels(stage)
        if stage and not found:
            raise Error(f"no stage {stage!r}; there are {', '.join(self.stages.names())}")
        return found


class Refusal(ConfigError):
    """A configuration that has no plan; ``text`` shows everything that is wrong with it, and where in ``file``."""

    def __init__(self, error: ConfigError, file: str) -> None:
        super().__init__(error.message, stage=error.stage, where=error.where, hint=error.hint)
        self.text = explain.problems(error, file)


def _locate(error: ConfigError, bundle: str) -> None:
    """Find line and column of what stages refused: they only know the path of a value."""
    import re

    from gosudacon.schema.positions import Positions

    for problem in error.problems:
        if problem.get("where") and not problem.get("line") and not problem.get("plugin"):
            positions = Positions(bundles.read(bundle).decode())
            names = re.findall(r"[^.\[\]]+", problem["where"])
            path = tuple(int(name) if name.isdecimal() else name for name in names)
            problem["line"], problem["column"] = positions.line_column(positions.value(path))


def _id(bundle: str) -> str:
    """An id to explain with: the name of the bundle's directory, as far as its characters go."""
    name = "".join(
        character
        for character in posix.path.basename(bundle)
        if character.isascii() and (character.isalnum() or character in "_+-.")
    )
    return name.strip(".") or "container"
