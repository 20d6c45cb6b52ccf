"""Finding stages through pluggy, as the administrator's config.toml says; slow, so its result is snapshotted."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import pkgutil
import sys
import tomllib
from types import ModuleType

import pluggy

from gosudacon import hookspecs
from gosudacon.base import jsonio, ownership
from gosudacon.base.errors import Error, reason
from gosudacon.pipeline import order
from gosudacon.pipeline.step import Stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ENTRY_POINTS = "gosudacon"
_BUILT_IN = "gosudacon.stages"
_SHIPPED = "gosudacon.plugins"
_SHARED = ("netcommon",)  # a package in that directory that is not a plugin: several plugins use it
_KEYS = {"plugins": list, "disable": list, "replace": dict, "stage": dict, "plugin": dict, "trace": dict}
_TRACE = {"directory": str, "format": str, "keep": int}
_TRACE_FORMATS = ("json", "jsonl", "svg", "html")
_TABLES = ("stage", "plugin")
_IN_CREATE = (
    "gosudacon_gather_facts",
    "gosudacon_edit_spec",
    "gosudacon_amend_plan",
    "gosudacon_step_started",
    "gosudacon_step_finished",
)
_CALLED_DIRECTLY = (*_IN_CREATE, "gosudacon_container_exited", "gosudacon_features")


def discover(config_path: str, required: bool, shipped: Sequence[str] = ()) -> tuple[order.Found, list[str]]:
    """The registry's data for a configuration file, and the files that a change of would make it stale.

    Built-in stages are always registered; other plugins only when ``plugins`` names them: a shipped one, or
    an entry point of the group ``gosudacon``. Those named in ``shipped`` ship with us. Raises `Error`.
    """
    settings = read(config_path, required)
    settings["plugins"] = [*settings["plugins"], *(name for name in shipped if name not in settings["plugins"])]
    return assembled(settings, config_path)


def assembled(
    settings: order.Configuration, config_path: str, modules: Mapping[str, ModuleType] | None = None
) -> tuple[order.Found, list[str]]:
    """`discover` for settings that have been read; plugins are taken from ``modules`` (name -> module) first."""
    manager = pluggy.PluginManager("gosudacon")
    manager.add_hookspecs(hookspecs)
    files: list[str] = []
    places = importlib.import_module(_BUILT_IN).__path__
    files += places  # a stage that is added or removed there
    for info in pkgutil.iter_modules(places):
        _register(manager, info.name.replace("_", "-"), importlib.import_module(f"{_BUILT_IN}.{info.name}"))
    for name in settings["plugins"]:
        _register(manager, name, (modules or {}).get(name) or _plugin(name, files))
    hooks = _hooks(manager)
    stages, owners = _stages(manager)
    files += _sources(manager, stages, hooks)
    data: order.Found = {
        "stages": order.ordered(stages, owners, settings, config_path),
        "hooks": hooks,
        "plugins": {name: settings["plugin"].get(name, {}) for name in settings["plugins"]},
    }
    if settings["trace"]:
        data["trace"] = settings["trace"]
    return data, files


class Available:
    """A plugin that could be enabled: its name, where it comes from (``package`` is empty for one that ships)."""

    def __init__(self, name: str, module: str = "", package: str = "", version: str = "") -> None:
        self.name = name
        self.module = module
        self.package = package
        self.version = version


class Parts:
    """What one plugin contributes. ``modules``: what ``create`` imports of it, if all its stages take part.

    ``needs``: each of its stages -> the stages that it names in its order.
    """

    def __init__(self, stages: dict[str, Stage], hooks: dict[str, list[list[object]]]) -> None:
        self.stages = sorted(stages)
        self.needs = {name: {*stage.after, *stage.before} for name, stage in stages.items()}
        self.hooks = [name for name, found in hooks.items() if found]
        called = [found for name, found in hooks.items() if name in _IN_CREATE]
        modules = [str(module) for found in called for _, module, _, _ in found]
        self.modules = list(dict.fromkeys([*modules, *(type(stage).__module__ for stage in stages.values())]))


def available() -> list[Available]:
    """The plugins that ship and those whose packages are installed, by name; none of them is imported."""
    shipped = importlib.import_module(_SHIPPED).__path__
    found = [
        Available(info.name.replace("_", "-"), f"{_SHIPPED}.{info.name}")
        for info in pkgutil.iter_modules(shipped)
        if info.name not in _SHARED
    ]
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        package, version = (point.dist.name, point.dist.version) if point.dist is not None else ("", "")
        found.append(Available(point.name, point.module, package, version))
    return sorted(found, key=lambda each: (each.name, each.package))


def built_in() -> list[str]:
    """The names of the built-in stages."""
    return [info.name.replace("_", "-") for info in pkgutil.iter_modules(importlib.import_module(_BUILT_IN).__path__)]


def enabled(config_path: str, required: bool) -> list[str]:
    """The names of the enabled plugins, in the file's order. Raises `Error` for a file that is wrong."""
    names: list[str] = read(config_path, required)["plugins"]
    return names


def parts(name: str) -> Parts:
    """Import the plugin ``name``, enabled or not, and look at what it contributes. Raises `Error`."""
    manager = pluggy.PluginManager("gosudacon")
    manager.add_hookspecs(hookspecs)
    _register(manager, name, _plugin(name, []))
    return Parts(_stages(manager)[0], _hooks(manager))


def _sources(
    manager: pluggy.PluginManager, stages: dict[str, Stage], hooks: dict[str, list[list[object]]]
) -> list[str]:
    """The files of the modules in which something was found."""
    names = {plugin.__name__ for plugin in manager.get_plugins()}
    names |= {type(stage).__module__ for stage in stages.values()}
    names |= {module for found in hooks.values() for _, module, _, _ in found}
    files = (getattr(sys.modules[name], "__file__", None) for name in names)
    return sorted(file for file in files if file)


def read(path: str, required: bool) -> order.Configuration:
    """What a configuration file says, every key of it there. Raises `Error`."""
    settings: dict[str, object] = {}
    try:
        with open(path, "rb") as file:
            if not ownership.is_safe(path, os.fstat(file.fileno())):
                raise Error(f"{path}: must belong to root and be writable only by its owner")
            settings = tomllib.load(file)
    except FileNotFoundError:
        if required:
            raise Error(f"open {path}: no such file or directory") from None
    except (OSError, ValueError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise Error(f"{path}: {reason(error) if isinstance(error, OSError) else error}") from error
    for key, value in settings.items():
        _check_key(path, key, value)
    found: order.Configuration = {key: settings.get(key, kind()) for key, kind in _KEYS.items()}  # type: ignore
    for name in found["plugin"]:
        if name not in found["plugins"]:
            raise Error(f"{path}: [plugin.{name}] has settings for a plugin that is not enabled")
    return found


def _check_key(path: str, key: str, value: object) -> None:
    if key not in _KEYS:
        raise Error(f"{path}: unknown key {key!r}; known: {', '.join(_KEYS)}")
    if key == "trace":
        _check_trace(path, value)
        return
    inner = dict if key in _TABLES else str
    each = value.values() if isinstance(value, dict) else value
    if not isinstance(value, _KEYS[key]) or not all(isinstance(item, inner) for item in each):
        wanted = {"replace": "table of names", **dict.fromkeys(_TABLES, "table of tables")}.get(key, "list of names")
        raise Error(f"{path}: {key} must be a {wanted}")
    if isinstance(value, list) and len(set(value)) < len(value):
        raise Error(f"{path}: {key} names the same twice")
    if key in _TABLES:
        try:
            jsonio.dumps(value)  # as the snapshot keeps it
        except (TypeError, ValueError):
            raise Error(f"{path}: settings of {key}s cannot be dates, inf or nan") from None


def _check_trace(path: str, value: object) -> None:
    """``[trace]``: where the traces of every command go, in which format, and how many are kept."""
    if not isinstance(value, dict):
        raise Error(f"{path}: trace must be a table")
    for name, setting in value.items():
        if name not in _TRACE:
            raise Error(f"{path}: unknown key {name!r} in [trace]; known: {', '.join(_TRACE)}")
        if type(setting) is not _TRACE[name]:
            raise Error(f"{path}: [trace] {name} must be {'a number' if _TRACE[name] is int else 'a string'}")
    if not str(value.get("directory", "")).startswith("/"):
        raise Error(f"{path}: [trace] needs directory, an absolute path")
    if value.get("format", "json") not in _TRACE_FORMATS:
        raise Error(f"{path}: [trace] format must be one of {', '.join(_TRACE_FORMATS)}")
    if value.get("keep", 1) < 1:
        raise Error(f"{path}: [trace] keep must be 1 or more")


def _register(manager: pluggy.PluginManager, name: str, module: ModuleType) -> None:
    try:
        manager.register(module, name)
        manager.check_pending()
    except ValueError:
        raise Error(f"plugin {name!r} has the name of another one") from None
    except pluggy.PluginValidationError as error:
        text = " ".join(str(error).split())
        raise Error(f"plugin {name!r} does not fit this version of gosudacon: {text}") from error


def _plugin(name: str, files: list[str]) -> ModuleType:
    try:
        if name not in _SHARED:
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
    if len(found) > 1:
        packages = ", ".join(sorted(each.dist.name for each in found if each.dist is not None))
        raise Error(f"plugin {name!r} comes from two packages: {packages}")
    if found[0].dist is not None:
        files.append(str(found[0].dist.locate_file("")))  # changes when a package there is installed or removed
    try:
        module = found[0].load()
    except Exception as error:
        raise Error(f"plugin {name!r}: cannot import {found[0].module}: {reason(error)}") from error
    if not isinstance(module, ModuleType):
        raise Error(f"plugin {name!r}: its entry point {found[0].value!r} is not a module")
    return module


def _stages(manager: pluggy.PluginManager) -> tuple[dict[str, Stage], dict[str, str]]:
    stages: dict[str, Stage] = {}
    owners: dict[str, str] = {}
    for implementation in reversed(manager.hook.gosudacon_stages.get_hookimpls()):
        plugin = implementation.plugin_name
        _check_plain(implementation, "gosudacon_stages")
        try:
            contributed: list[Stage] = list(implementation.function())  # type: ignore[call-overload]
        except Exception as error:
            raise Error(f"plugin {plugin!r}: gosudacon_stages: {reason(error)}") from error
        for stage in contributed:
            _check_stage(stage, plugin)
            if stage.name in stages:
                raise Error(f"stage {stage.name!r} comes from two plugins: {owners[stage.name]} and {plugin}")
            stages[stage.name] = stage
            owners[stage.name] = plugin
    return stages, owners


def _check_stage(stage: Stage, plugin: str) -> None:
    if not isinstance(stage, Stage) or not stage.name:
        raise Error(f"plugin {plugin!r}: gosudacon_stages gave {stage!r}, which is not a stage with a name")
    _check_found(type(stage), plugin)
    for attribute in ("after", "before", "keys", "exec_keys"):
        if isinstance(getattr(stage, attribute), str):
            raise Error(f"plugin {plugin!r}: {attribute} of stage {stage.name!r} must be a tuple of names")


def _hooks(manager: pluggy.PluginManager) -> dict[str, list[list[object]]]:
    hooks: dict[str, list[list[object]]] = {}
    for name in _CALLED_DIRECTLY:
        hooks[name] = []
        for each in reversed(getattr(manager.hook, name).get_hookimpls()):  # pluggy calls the last one first
            _check_plain(each, name)
            _check_found(each.function, each.plugin_name)
            function = each.function
            hooks[name].append([each.plugin_name, function.__module__, function.__qualname__, list(each.argnames)])
    return hooks


def _check_plain(implementation: pluggy.HookImpl, name: str) -> None:
    if implementation.hookwrapper or getattr(implementation, "wrapper", False):  # the latter since pluggy 1.2
        raise Error(f"plugin {implementation.plugin_name!r}: {name} must be a plain function, not a hook wrapper")


def _check_found(thing: type | Callable[..., object], plugin: str) -> None:
    """The snapshot remembers classes and functions by module and name: they must be found there."""
    if getattr(sys.modules.get(thing.__module__), thing.__qualname__, None) is not thing:
        raise Error(f"plugin {plugin!r}: {thing.__qualname__} must be a name in its module {thing.__module__}")
