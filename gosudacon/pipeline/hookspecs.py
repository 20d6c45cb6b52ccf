"""The hooks a plugin may implement; pluggy calls them `hook specifications`.

A plugin's functions carry `gosudacon.api.hookimpl`. They are module-level functions, since the snapshot
remembers them as module and name.
"""

from __future__ import annotations

import pluggy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.linux.errors import Error
    from gosudacon.pipeline.plan import Plan
    from gosudacon.pipeline.step import Context, Host, Spec, Stage, Step

hookspec = pluggy.HookspecMarker("gosudacon")


@hookspec
def gosudacon_stages() -> list[Stage]:  # type: ignore[empty-body]
    """Contribute stages. Their classes must be importable by name and take no constructor arguments."""


@hookspec
def gosudacon_amend_plan(plan: Plan, spec: Spec, host: Host) -> None:
    """Change ``plan.steps`` of a finished plan: add, wrap or drop. `explain` shows which plugin did it."""


@hookspec
def gosudacon_step_started(step: Step, context: Context) -> None:
    """A step is about to run, on the side and in the process that runs it; on the container side, behind the wall."""


@hookspec
def gosudacon_step_finished(step: Step, context: Context, error: Error | None) -> None:
    """A step has run; ``error`` is what it raised."""
