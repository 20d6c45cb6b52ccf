"""Planning where plugins are enabled: they edit the configuration first, and amend the plan at the end.

In between the configuration is read-only, so that every change goes through an `Edit`, which `explain` shows.
"""

from __future__ import annotations

from gosudacon.base.errors import ConfigError, Error, SettingsError, reason
from gosudacon.pipeline import plan as plans
from gosudacon.pipeline.edit import Changes, Edit
from gosudacon.pipeline.frozen import FrozenDict, freeze, freeze_spec, thaw
from gosudacon.pipeline.registry import EDIT, FACTS
from gosudacon.pipeline.spec import EXEC, UPDATE
from gosudacon.schema import verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gosudacon.pipeline.edit import Path
    from gosudacon.pipeline.plan import Plan
    from gosudacon.pipeline.registry import Planning, Registry
    from gosudacon.pipeline.spec import Host, Spec

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
    gather = dict(registry.hook(FACTS))
    for plugin, function in registry.hook(EDIT):
        if plugin in gather:
            _gather(registry, plugin, gather[plugin], spec, host)
        with _named(plugin, EDIT):
            wanted = function(spec=spec, host=host, settings=_settings(registry, plugin))
            if wanted is None:
                continue
            if not isinstance(wanted, Edit):
                raise TypeError(f"returned {wanted!r}, not an Edit")
            config = wanted.applied(spec.config, _noting(changes, plugin, scope))
        freeze_spec(spec, _within(scope, spec.config, config))
    if changes:  # a plugin may leave out, or write in other words, what a caller may
        edited = thaw(spec.config)
        verdict.normal(edited)
        freeze_spec(spec, edited)
    return changes or None


def plan(registry: Registry, spec: Spec, host: Host, planning: Planning, edits: Changes | None) -> Plan:
    """`Registry.plan`."""
    freeze_spec(spec)
    editors = registry.editors()
    for plugin, function in registry.hook(FACTS):
        if plugin in editors:  # of those it has been done
            continue
        try:
            _gather(registry, plugin, function, spec, host)
        except Error:
            planning(registry.stages(spec), spec, host)  # as in `compiled`
            raise
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
                if change.why:
                    step.edited_for = change.why
    registry.amend(result, spec, host)
    if spec.operation == EXEC:
        plans.check_exec(result)
    return result


def _noting(changes: Changes, plugin: str, scope: tuple[str, ...]) -> Callable[[Path, object, object, str], None]:
    return lambda path, before, after, why: changes.note(
        plugin, path, _within(scope, None, before), _within(scope, None, after), why
    )


def _gather(registry: Registry, plugin: str, function: Callable[..., object], spec: Spec, host: Host) -> None:
    """Have a plugin look at the host, now that the configuration is what its own hook, or its stages, will get."""
    with _named(plugin, FACTS):
        host.facts[plugin] = freeze(function(spec=spec, host=host, settings=_settings(registry, plugin)))


def _settings(registry: Registry, plugin: str) -> Mapping[str, object]:
    settings: Mapping[str, object] = registry.data["plugins"].get(plugin, {})
    return settings


class _named:  # as contextlib would, which is not for the hot path
    """What a plugin's hook raises gets the plugin's name; what it says of config.json or its settings is complete."""

    def __init__(self, plugin: str, hook: str) -> None:
        self._place = f"plugin {plugin!r}: {hook}"

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (ConfigError, SettingsError)) or not isinstance(error, Exception):
            return
        if not isinstance(error, Error):
            raise Error(f"{self._place}: {reason(error)}") from error
        error.message = f"{self._place}: {error.message}"


def _within(scope: tuple[str, ...], before: object, after: object) -> object:
    """``before`` with what is in ``after`` at the place ``scope``."""
    if not scope or after is None:
        return after
    assert isinstance(after, dict)  # the plugin has been checked to change nothing else
    members: dict[str, object] = dict(before) if isinstance(before, dict) else {}
    value = _within(scope[1:], members.get(scope[0]), after.get(scope[0]))
    members.pop(scope[0], None)
    return FrozenDict(members if value is None else {**members, scope[0]: value})
