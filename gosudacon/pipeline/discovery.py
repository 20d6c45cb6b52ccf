"""Finding stages through pluggy, as the administrator's config.toml says; slow, so its result is snapshotted."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import pkgutil
import tomllib

import pluggy

from gosudacon.linux.errors import Error
from gosudacon.pipeline import hookspecs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    from gosudacon.pipeline.step import Stage

ENTRY_POINTS = "gosudacon"
_BUILT_IN = "gosudacon.stages"
_SHIPPED = "gosudacon.plugins"
_KEYS = {"plugins": list, "disable": list, "replace": dict, "stage": dict}


def discover(config_path: str, required: bool) -> tuple[dict[str, Any], list[str]]:
    """The registry's data for a configuration file, and the files that a change of would make it stale.

    Built-in stages are always registered; other plugins only when ``plugins`` names them: a shipped one, or
    an entry point of the group ``gosudacon``. Raises `Error`.
    """
    settings = _read(config_path, required)
    manager = pluggy.PluginManager("gosudacon")
    manager.add_hookspecs(hookspecs)
    files: list[str] = []
    for info in pkgutil.iter_modules(importlib.import_module(_BUILT_IN).__path__):
        _register(manager, info.name.replace("_", "-"), importlib.import_module(f"{_BUILT_IN}.{info.name}"), files)
    for name in settings["plugins"]:
        _register(manager, name, _plugin(name, files), files)
    stages, owners = _stages(manager)
    stages = _replace(stages, owners, settings)
    return {"stages": _ordered(stages, owners, settings), "hooks": _hooks(manager)}, files


def _read(path: str, required: bool) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
                raise Error(f"{path}: must belong to root and be writable by nobody else")
            settings = tomllib.load(file)
    except FileNotFoundError:
        if required:
            raise Error(f"open {path}: no such file or directory") from None
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise Error(f"{path}: {error}") from error
    for key, value in settings.items():
        if key not in _KEYS:
            raise Error(f"{path}: unknown key {key!r}; known: {', '.join(_KEYS)}")
        if not isinstance(value, _KEYS[key]):
            raise Error(f"{path}: {key} must be a {'table' if _KEYS[key] is dict else 'list of names'}")
    return {key: settings.get(key, kind()) for key, kind in _KEYS.items()}


def _register(manager: pluggy.PluginManager, name: str, module: ModuleType, files: list[str]) -> None:
    manager.register(module, name)
    if module.__file__:
        files.append(module.__file__)


def _plugin(name: str, files: list[str]) -> ModuleType:
    try:
        return importlib.import_module(f"{_SHIPPED}.{name.replace('-', '_')}")
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith(_SHIPPED):
            raise Error(f"plugin {name!r} needs the module {error.name!r}, which is not installed") from error
    found = list(importlib.metadata.entry_points(group=ENTRY_POINTS, name=name))
    if not found:
        raise Error(
            f"plugin {name!r} is enabled but not installed",
            hint=f"no entry point {name!r} in the group {ENTRY_POINTS!r}, and none of that name ships with gosudacon",
        )
    if found[0].dist is not None:
        files.append(str(found[0].dist.locate_file("")))
    module: ModuleType = found[0].load()
    return module


def _stages(manager: pluggy.PluginManager) -> tuple[dict[str, Stage], dict[str, str]]:
    stages: dict[str, Stage] = {}
    owners: dict[str, str] = {}
    for implementation in manager.hook.gosudacon_stages.get_hookimpls():
        contributed: list[Stage] = implementation.function()  # type: ignore[assignment]
        for stage in contributed:
            if stage.name in stages:
                both = f"{owners[stage.name]} and {implementation.plugin_name}"
                raise Error(f"stage {stage.name!r} comes from two plugins: {both}")
            stages[stage.name] = stage
            owners[stage.name] = implementation.plugin_name
    return stages, owners


def _replace(stages: dict[str, Stage], owners: dict[str, str], settings: dict[str, Any]) -> dict[str, Stage]:
    for name in [*settings["disable"], *settings["replace"], *settings["replace"].values()]:
        if name not in stages:
            raise Error(f"config.toml names the unknown stage {name!r}; known: {', '.join(sorted(stages))}")
    for old, new in settings["replace"].items():
        replacement, replaced = stages.pop(new), stages[old]
        replacement.replaced = replaced
        replacement.after = (*replaced.after, *replacement.after)
        replacement.before = (*replaced.before, *replacement.before)
        owners[old] = owners[new]
        stages[old] = replacement
    return {name: stage for name, stage in stages.items() if name not in settings["disable"]}


def _ordered(stages: dict[str, Stage], owners: dict[str, str], settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Sorted topologically by after/before; ties by name, so that the order never depends on the disk's."""
    known = set(stages) | set(settings["disable"])
    waits: dict[str, set[str]] = {name: set() for name in stages}
    for name, stage in stages.items():
        for other in (*stage.after, *stage.before):
            if other not in known:
                raise Error(f"stage {name!r} of plugin {owners[name]!r} refers to the unknown stage {other!r}")
        waits[name].update(other for other in stage.after if other in stages)
        for other in stage.before:
            if other in stages:
                waits[other].add(name)
    order: list[str] = []
    while waits:
        free = sorted(name for name, others in waits.items() if not others)
        if not free:
            names = ", ".join(f"{name} ({owners[name]})" for name in sorted(waits))
            raise Error(f"the stages' order is a cycle: {names}")
        order.append(free[0])
        del waits[free[0]]
        for others in waits.values():
            others.discard(free[0])
    return [_entry(name, stages[name], settings["stage"]) for name in order]


def _entry(name: str, stage: Stage, settings: dict[str, Any]) -> dict[str, Any]:
    kind = type(stage)
    return {
        "name": name,
        "module": kind.__module__,
        "class": kind.__qualname__,
        "keys": list(stage.keys),
        "settings": settings.get(kind.name, {}),
        "replaced": _entry(stage.replaced.name, stage.replaced, settings) if stage.replaced else None,
    }


def _hooks(manager: pluggy.PluginManager) -> dict[str, list[list[str]]]:
    hooks = {}
    for name in ("gosudacon_amend_plan", "gosudacon_step_started", "gosudacon_step_finished"):
        implementations = reversed(getattr(manager.hook, name).get_hookimpls())  # pluggy calls the last one first
        hooks[name] = [
            [each.plugin_name, each.function.__module__, each.function.__qualname__] for each in implementations
        ]
    return hooks
