"""What ``create`` or ``exec`` would do: the plan of a bundle, made from its config.json and facts about the host.

Nothing is changed, and no container needs to be there.
"""

from __future__ import annotations

from gosudacon.base import layout, posix
from gosudacon.base.errors import ConfigError, Error
from gosudacon.container import bundle as bundles
from gosudacon.container import diagnosis, hints, risk, shared, summary
from gosudacon.container import host as hosts
from gosudacon.container.create import compile_plan
from gosudacon.container.state import check_id
from gosudacon.pipeline import explain
from gosudacon.pipeline.exited import TellPlugins

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from gosudacon.base.errors import ProblemRow
    from gosudacon.container.findings import Finding
    from gosudacon.container.process import ExecOptions
    from gosudacon.pipeline.explain import Timings
    from gosudacon.pipeline.spec import Host, Spec


class Explanation:
    """The plan for a bundle (an absolute path), or with the option ``process`` for another process in its container.

    ``id``: the container's; empty: made of the bundle's name. ``mounts``: a file of mounts, for the plan that adds them
    to the container. ``root``: the directory of all containers' state, where a service manager wants to know that the
    container is ready. ``host``: another machine than this one. ``findings`` is filled by `check`.
    Raises `Refusal` for a configuration that is invalid or impossible, `Error` for anything else.
    """

    def __init__(
        self,
        bundle: str,
        options: ExecOptions,
        id: str = "",
        root: str = "",
        mounts: str = "",
        host: Host | None = None,
    ) -> None:
        self.findings: list[Finding] = []
        self.about: dict[str, object] = {}
        if id:
            check_id(id)
        id, process = id or _id(bundle), options.process
        if mounts and process:
            raise Error("explain: --exec and --mounts cannot be combined")
        self.host = host or hosts.gather()
        if root and not process and not mounts:
            options.notify_directory = f"{root}/{id}/{layout.NOTIFY}"
        self.file = process or mounts or options.config or layout.CONFIG
        compiler, spec = compile_plan, None
        try:
            if process:
                from gosudacon.container.exec import compile_exec, explained

                spec, compiler = explained(id, bundle, options, self.host), compile_exec
            elif mounts:
                from gosudacon.container import mounts as of_mounts

                spec = of_mounts.explained(id, bundle, mounts, options, self.host)
                compiler = of_mounts.compile_mounts
            else:
                spec = bundles.load(id, bundle, options)
                if bundles.lacks_mappings(spec):
                    from gosudacon.container import idmaps

                    idmaps.complete(spec, self.host)
                    if host is not None:
                        self.host.assumed += ("id mappings: those that this machine's /etc/subuid gives",)
            self.spec = spec
            self.plan, self.stages = compiler(spec, self.host, options.config_file, not options.no_snapshot)
            if not process and not mounts:
                self._add_end()
            self.shared = shared.find(spec, self.host)
        except ConfigError as error:
            if spec is not None and not process and not mounts:
                located(error, spec)
            file = process or mounts or posix.path.join(bundle, options.config or layout.CONFIG)
            raise Refusal(error, file, spec) from error

    def check(self, root: str) -> None:
        """Look at host and image for what ``create`` would fail at. ``root``: of all containers' state."""
        from gosudacon.container import findings

        self.findings = findings.find(self.spec, self.host, self.plan, root)

    def head(self) -> list[str]:
        """What is above the table in addition to bundle and id."""
        return []

    def risk(self) -> str:
        """The level of the gravest thing that is shared with the host."""
        return risk.level_of(self.shared)

    def exceeds(self, threshold: str) -> bool:
        """Whether what is shared with the host reaches a level of `risk.LEVELS`; never, if that is empty."""
        return summary.exceeds(self.shared, threshold)

    def _add_end(self) -> None:
        """The last line: which plugins are told of the container's end."""
        told = [str(entry[0]) for entry in self.stages.told_of_end()]
        if told:
            self.plan.steps.append(TellPlugins(plugins=told, stage="plugins"))

    def steps(self) -> list[tuple[str, str, str]]:
        """Side, stage and line of each step of the plan."""
        return [(step.runs_on(), step.stage, step.describe()) for step in self.plan.steps]

    def as_json(self, stage: str = "", timings: Timings | None = None, long: bool = False) -> str:
        """The plan as JSON; with ``stage`` that stage's steps. Raises `Error` if there is no such stage."""
        findings = [vars(finding) for finding in self.findings]
        more = {**({"about": self.about} if self.about else {}), **summary.as_json(self.shared)}
        return explain.as_json(self.plan, self.spec, self.host, self.labels(stage), findings, more, timings, long)

    def as_page(
        self,
        stage: str = "",
        timings: Timings | None = None,
        long: bool = False,
        verdicts: Mapping[int, str] | None = None,
    ) -> str:
        """The plan as an HTML page; ``stage`` and ``long`` as for `as_json`.

        ``verdicts``: what an audit says of steps, by their index in the plan.
        """
        from gosudacon.container.explain_view import view
        from gosudacon.pages import plan_page

        return plan_page.html(view(self, self.labels(stage), timings, long, verdicts))

    def as_svg(self, stage: str = "", timings: Timings | None = None, verdicts: Mapping[int, str] | None = None) -> str:
        """The plan as a picture; arguments as for `as_page`."""
        from gosudacon.container.explain_view import view
        from gosudacon.pages import plan_svg

        return plan_svg.picture(view(self, self.labels(stage), timings, verdicts=verdicts))

    def show(self, stage: str = "", threshold: str = "", timings: Timings | None = None, long: bool = False) -> None:
        """Print the plan as a table, and what is shared with the host; ``threshold``: with the reasons from there on.

        ``stage`` as for `as_json`: without the end, unless ``threshold`` asks for it. ``long``: with why of each step.
        """
        explain.as_table(self.plan, self.spec, self.host, self.labels(stage), self.head(), timings, long)
        explain.show_findings([(each.place(self.file), each.message, each.hint) for each in self.findings])
        if threshold or not stage:
            summary.show(self.shared, threshold, shared.topics(self.spec))

    def labels(self, stage: str) -> list[str]:
        """The stages meant by a name: its own, or that of one it has replaced."""
        found = self.stages.labels(stage)
        if stage and not found:
            raise Error(f"no stage {stage!r}; there are {', '.join(self.stages.names())}")
        return found


class Refusal(ConfigError):
    """A configuration that has no plan; ``text`` shows everything that is wrong with it, and where in ``file``.

    ``spec``: what was to be planned, if it could be read.
    """

    def __init__(self, error: ConfigError, file: str, spec: Spec | None) -> None:
        super().__init__(error.message, stage=error.stage, where=error.where, hint=error.hint)
        error.problems = error.problems or [{"where": error.where, "message": error.message}]
        for problem in error.problems:
            problem["hint"] = error.hint or hints.find(hints.Failure(_alone(error, problem), spec))
        self.text = explain.problems(error, file)
        if spec is not None and spec.text is not None:
            from gosudacon.container import findings

            for found in findings.unknown_names(spec):
                self.text += f"{': '.join(filter(None, (found.place(file), found.message, found.hint)))}\n"


def _alone(error: ConfigError, problem: ProblemRow) -> ConfigError:
    """The error of one of its problems alone."""
    alone = ConfigError(error.message, stage=error.stage, where=problem.get("where", ""))
    alone.problems = [problem]
    return alone


def located(error: ConfigError, spec: Spec) -> ConfigError:
    """The error with line and column of what stages refused: they only know the path of a value."""
    error.problems = error.problems or [{"where": error.where, "message": error.message}]
    for problem in error.problems:
        if problem.get("where") and not problem.get("line") and not problem.get("plugin"):
            problem["line"], problem["column"] = diagnosis.position(problem["where"], spec)
    return error


def _id(bundle: str) -> str:
    """An id to explain with: the name of the bundle's directory, as far as its characters go."""
    name = "".join(
        character
        for character in posix.path.basename(bundle)
        if character.isascii() and (character.isalnum() or character in "_+-.")
    )
    return name.strip(".") or "container"
