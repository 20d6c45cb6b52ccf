"""``gosudacon explain``."""

from __future__ import annotations

import _signal
import os

from gosudacon.cli import output
from gosudacon.cli.main import root_of, spec_options
from gosudacon.linux.errors import ConfigError, Error

_SIGPIPE = 13

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation


def run(invocation: Invocation) -> int:
    """Print the plan of a bundle. Reads config.json and facts about the host, and changes nothing."""
    from gosudacon.container import bundle as bundles
    from gosudacon.container import host as hosts
    from gosudacon.container.create import compile_plan
    from gosudacon.pipeline import explain

    _signal.signal(_SIGPIPE, _signal.SIG_DFL)  # as any filter's source: `explain | head` ends without a word
    bundle = os.path.abspath(invocation.args[0] if invocation.args else ".")
    host = hosts.gather()
    options = spec_options(invocation)
    process = options.pop("exec", "")
    if os.getenv("NOTIFY_SOCKET") and not process:
        options["notify_directory"] = f"{root_of(invocation)}/{_id(bundle)}/notify"
    compiler = compile_plan
    try:
        if process:
            from gosudacon.container.exec import compile_exec, explained

            spec, compiler = explained(_id(bundle), bundle, process, options), compile_exec
        else:
            spec = bundles.load(_id(bundle), bundle, options)
        plan, stages = compiler(spec, host, options.get("config", ""), not options.get("no_snapshot"))
    except ConfigError as error:
        if process:
            error.problems = error.problems or [{"where": error.where, "message": error.message}]
        else:
            _locate(error, bundle)
        output.write(explain.problems(error, process or os.path.join(bundle, "config.json")), 2)
        return 1
    stage = invocation.options["stage"]
    if stage and stage not in stages.names():
        raise Error(f"no stage {stage!r}; there are {', '.join(stages.names())}")
    if invocation.options["format"] == "json":
        output.write(explain.as_json(plan, spec, host, stage))
    else:
        explain.as_table(plan, spec, host, stage)
    return 0


def _locate(error: ConfigError, bundle: str) -> None:
    """Find line and column of what stages refused: they only know the path of a value."""
    import re

    from gosudacon.container.bundle import read
    from gosudacon.schema.positions import Positions

    error.problems = error.problems or [{"where": error.where, "message": error.message}]
    for problem in error.problems:
        if problem.get("where") and not problem.get("line"):
            positions = Positions(read(bundle).decode())
            names = re.findall(r"[^.\[\]]+", problem["where"])
            path = tuple(int(name) if name.isdecimal() else name for name in names)
            problem["line"], problem["column"] = positions.line_column(positions.value(path))


def _id(bundle: str) -> str:
    """An id to explain with: the name of the bundle's directory, as far as its characters go."""
    name = "".join(
        character
        for character in os.path.basename(bundle)
        if character.isascii() and (character.isalnum() or character in "_+-.")
    )
    return name.strip(".") or "container"
