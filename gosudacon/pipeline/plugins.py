"""Planning where plugins are enabled: they edit the configuration first, and amend the plan at the end.

In between the configuration is read-only, so that every change goes through an `Edit`, which `explain` shows.
"""

from __future__ import annotations

from gosudacon.base.errors import ConfigError, Error, reason
from gosudacon.pipeline import plan as plans
from gosudacon.pipeline.edit import Changes, Edit
from gosudacon.pipeline.frozen import FrozenDict, freeze_spec, thaw
from gosudacon.pipeline.registry import EDIT
from gosudacon.pipeline.step import EXEC, UPDATE
from gosudacon.schema import verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from gosudacon.pipeline.edit import Path
    from gosudacon.pipeline.plan import Plan
    from gosudacon.pipeline.registry import Planning, Registry
    from gosudacon.pipeline.step import Host, Spec

#: What plugins can change where the container exists; what else they want has been done when it was created.
_SCOPE = {EXEC: ("process",), UPDATE: ("linux", "resources")}


def compiled(registry: Registry, spec: Spec, host: Host, planning: Planning) -> Plan:
    """`Registry.compiled`."""
    try:
        edits = edit(registry, spec, host)
    except Error:
        planning(registry.stages(spec), spec, host)  # what the file has wrong may be why: that is the news
        raise
    return plan(registry, spec, host, planning, edits)


def edit(registry: Registry, spec: Spec, host: Host) -> Changes | None:
    """`Registry.edit`."""
    freeze_spec(spec)
    changes, scope = Changes(), _SCOPE.get(spec.operation, ())
    for plugin, function in registry.hook(EDIT):
        try:
            wanted = function(spec=spec, host=host, settings=registry.data["plugins"].get(plugin, {}))
            if wanted is None:
                continue
            if not isinstance(wanted, Edit):
                raise TypeError(f"returned {wanted!r}, not an Edit")
            config = wanted.applied(spec.config, _noting(changes, plugin, scope))
        except ConfigError:
            raise
        except Error as error:
            error.message = f"plugin {plugin!r}: {EDIT}: {error.message}"
            raise
        except Exception as error:
            raise Error(f"plugin {plugin!r}: {EDIT}: {reason(error)}") from error
        freeze_spec(spec, _within(scope, spec.config, config))
    if changes:  # a plugin may leave out, or write in other words, what a caller may
        edited = thaw(spec.config)
        verdict.normal(edited)
        freeze_spec(spec, edited)
    return changes or None


def plan(registry: Registry, spec: Spec, host: Host, planning: Planning, edits: Changes | None) -> Plan:
    """`Registry.plan`."""
    freeze_spec(spec)
    try:
        result = planning(registry.stages(spec), spec, host)
    except Error as error:
        if edits:
            edits.blame(error, "process" if spec.operation == EXEC else "")
        raise
    if edits:
        result.edits = edits
        for step in (*result.steps, *result.warnings):
            change = edits.author(step.where)
            if change is not None:
                step.edited_by = str(change)
    registry.amend(result, spec, host)
    if spec.operation == EXEC:
        plans.check_exec(result)
    return result


def _noting(changes: Changes, plugin: str, scope: tuple[str, ...]) -> Callable[[Path, object, object], None]:
    return lambda path, before, after: changes.note(
        plugin, path, _within(scope, None, before), _within(scope, None, after)
    )


def _within(scope: tuple[str, ...], before: Any, after: Any) -> Any:
    """``before`` with what stands in ``after`` at the place ``scope``."""
    if not scope or after is None:
        return after
    members = dict(before or ())
    value = _within(scope[1:], members.get(scope[0]), after.get(scope[0]))
    members.pop(scope[0], None)
    return FrozenDict(members if value is None else {**members, scope[0]: value})
