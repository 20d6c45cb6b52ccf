"""``gosudacon explain``."""

from __future__ import annotations

import os

from gosudacon.cli import output
from gosudacon.cli.main import spec_options
from gosudacon.linux.errors import ConfigError, Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.cli.parse import Invocation


def run(invocation: Invocation) -> int:
    """Print the plan of a bundle. Reads config.json and facts about the host, and changes nothing."""
    from gosudacon.container import bundle as bundles
    from gosudacon.container import host as hosts
    from gosudacon.container.create import compile_plan
    from gosudacon.pipeline import explain

    bundle = os.path.abspath(invocation.args[0] if invocation.args else ".")
    host = hosts.gather()
    try:
        spec = bundles.load(_id(bundle), bundle, spec_options(invocation))
        options = spec.options
        plan, stages = compile_plan(spec, host, options.get("config", ""), not options.get("no_snapshot"))
    except ConfigError as error:
        output.write(explain.problems(error, os.path.join(bundle, "config.json")), 2)
        return 1
    stage = invocation.options["stage"]
    if stage and stage not in stages.names():
        raise Error(f"no stage {stage!r}", hint="stages: " + ", ".join(stages.names()))
    if invocation.options["format"] == "json":
        output.write(explain.as_json(plan, spec, host, stage))
    else:
        explain.as_table(plan, spec, host, stage)
    return 0


def _id(bundle: str) -> str:
    """An id to explain with: the name of the bundle's directory, as far as its characters go."""
    name = "".join(
        character
        for character in os.path.basename(bundle)
        if character.isascii() and (character.isalnum() or character in "_+-.")
    )
    return name.strip(".") or "container"
