"""Which stages take part, which they replace, and in which order they run."""

from __future__ import annotations

from gosudacon.base.errors import Error
from gosudacon.pipeline.step import Stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, TypeAlias, TypedDict

    Implementation: TypeAlias = list[Any]  # of a hook: plugin, module, function, names of its arguments
    Entry = TypedDict(
        "Entry",
        {
            "name": str,
            "own": str,
            "module": str,
            "class": str,
            "keys": list[str],
            "exec": list[str] | None,
            "settings": Mapping[str, object],
            "replaced": "Entry | None",
        },
    )

    class TraceSettings(TypedDict, total=False):
        """``[trace]`` of config.toml: the settings of traces of every command; ``keep`` is a number of files."""

        directory: str
        format: str
        keep: int

    class Found(TypedDict, total=False):
        """What `gosudacon.pipeline.registry.Registry` is made of, and a snapshot holds."""

        stages: list[Entry]
        hooks: dict[str, list[Implementation]]
        plugins: dict[str, dict[str, object]]
        trace: TraceSettings

    class Configuration(TypedDict):
        """What config.toml says, every key of it there."""

        plugins: list[str]
        disable: list[str]
        replace: dict[str, str]
        stage: dict[str, dict[str, object]]
        plugin: dict[str, dict[str, object]]
        trace: TraceSettings


def ordered(stages: dict[str, Stage], owners: dict[str, str], settings: Configuration, path: str) -> list[Entry]:
    """The entries of the registry for ``stages`` (name -> stage; ``owners``: name -> plugin), in order.

    ``settings`` is what config.toml, the file ``path``, says. Raises `Error` for an unknown name, and
    for an order that is a cycle.
    """
    _check_names(stages, settings, path)
    taken = {new: old for old, new in settings["replace"].items()}
    chosen = {name: stage for name, stage in stages.items() if name not in taken}
    owners = dict(owners)
    for old, new in settings["replace"].items():
        _put_in_place(stages[new], stages[old])
        chosen[old], owners[old] = stages[new], owners[new]
    waits = _waits(chosen, owners, {*stages}, taken, {*settings["disable"]})
    return [_entry(name, chosen[name], settings["stage"]) for name in _sorted(waits, owners)]


def _check_names(stages: dict[str, Stage], settings: Configuration, path: str) -> None:
    replace = settings["replace"]
    for name in [*settings["disable"], *replace, *replace.values(), *settings["stage"]]:
        if name not in stages:
            is_plugin = name in settings["plugins"]
            raise Error(
                f"{path} names the unknown stage {name!r}; known: {', '.join(sorted(stages))}",
                hint=f"{name} is a plugin without a stage of that name; its settings are [plugin.{name}]" * is_plugin,
            )
    for old, new in replace.items():
        if new in replace or list(replace.values()).count(new) > 1:
            raise Error(f"{path}: stage {new!r} cannot replace {old!r}: it is replaced itself, or replaces another")
        if old in settings["disable"] or new in settings["disable"]:
            raise Error(f"{path}: stages {old!r} and {new!r} cannot be replaced and disabled at the same time")


def _put_in_place(replacement: Stage, replaced: Stage) -> None:
    replacement.replaced = replaced
    replacement.after = (*replaced.after, *replacement.after)
    replacement.before = (*replaced.before, *replacement.before)


def _waits(
    stages: dict[str, Stage], owners: dict[str, str], known: set[str], taken: dict[str, str], disabled: set[str]
) -> dict[str, set[str]]:
    """Each stage that takes part -> those that must come before it. A disabled one may be named, and is ignored."""
    waits: dict[str, set[str]] = {name: set() for name in stages if name not in disabled}
    for name in waits:
        stage = stages[name]
        for other in (*stage.after, *stage.before):
            if other not in known:
                raise Error(f"stage {name!r} of plugin {owners[name]!r} refers to the unknown stage {other!r}")
        waits[name].update(taken.get(other, other) for other in stage.after if other not in disabled)
        for other in stage.before:
            if other not in disabled:
                waits[taken.get(other, other)].add(name)
    return waits


def _sorted(waits: dict[str, set[str]], owners: dict[str, str]) -> list[str]:
    """Topologically; ties by name, so that the order never depends on the disk's."""
    order: list[str] = []
    while waits:
        free = sorted(name for name, others in waits.items() if not others)
        if not free:
            names = " after ".join(f"{name} (of plugin {owners[name]})" for name in _cycle(waits))
            raise Error(f"the stages' order is a cycle: {names}")
        order.append(free[0])
        del waits[free[0]]
        for others in waits.values():
            others.discard(free[0])
    return order


def _cycle(waits: dict[str, set[str]]) -> list[str]:
    """One cycle, its first stage named again at the end; every stage in ``waits`` waits for another one there."""
    path = [min(waits)]
    while True:
        following = min(waits[path[-1]])
        if following in path:
            return [*path[path.index(following) :], following]
        path.append(following)


def _entry(name: str, stage: Stage, settings: Mapping[str, Mapping[str, object]]) -> Entry:
    kind = type(stage)
    replaced = _entry(stage.replaced.name, stage.replaced, settings) if stage.replaced else None
    return {
        "name": name,
        "own": stage.name,
        "module": kind.__module__,
        "class": kind.__qualname__,
        "keys": list(stage.keys),
        "exec": _exec_keys(stage, replaced),
        "settings": settings.get(stage.name, {}),
        "replaced": replaced,
    }


def _exec_keys(stage: Stage, replaced: Entry | None) -> list[str] | None:
    """What of config.json makes a plan of ``exec`` need the stage; None if it has no steps for one."""
    if type(stage).plan_exec is not Stage.plan_exec:
        return list(stage.keys if stage.exec_keys is None else stage.exec_keys)
    return replaced["exec"] if replaced else None
