"""The stages and their order: found through pluggy, or read from the snapshot.

Both ways produce the same data, `Registry`, and everything after works on that: behaviour cannot differ.
"""

from __future__ import annotations

import sys

from gosudacon.base.errors import Error, reason
from gosudacon.pipeline.spec import EXEC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from gosudacon.pipeline import order
    from gosudacon.pipeline.edit import Changes
    from gosudacon.pipeline.plan import Plan
    from gosudacon.pipeline.spec import Host, Spec
    from gosudacon.pipeline.step import Stage

    Listeners = list[order.Implementation]
    Planning = Callable[[Iterable[Stage], Spec, Host], Plan]

CONFIG = "/etc/gosudacon/config.toml"
EDIT = "gosudacon_edit_spec"
FACTS = "gosudacon_gather_facts"
EXITED = "gosudacon_container_exited"
FEATURES = "gosudacon_features"
OF_PLUGINS = {"device": ("cdi",), "publish": ("network", "cni"), "network": ("network", "cni")}  # option -> for which
OBSERVERS = ("gosudacon_step_started", "gosudacon_step_finished")


class Registry:
    """The stages in order and the plugins' other hooks, as data.

    ``stages``: ``{"name", "own", "module", "class", "keys", "exec", "settings", "replaced"}``; ``replaced`` is such
    an entry or None, ``own`` the name of a stage that replaces another, ``exec`` are the keys for plans of
    ``exec``, None if the stage takes no part in them.
    ``hooks``: hook name -> ``[plugin, module, function, names of its arguments]`` in calling order.
    ``plugins``: the enabled plugins -> their settings. ``trace``: the settings of traces, if there are any.
    """

    def __init__(self, data: order.Found) -> None:
        self.data = data

    @property
    def trace(self) -> order.TraceSettings | None:
        """The administrator's settings for traces of every command; None: none are wanted."""
        return self.data.get("trace")

    def names(self) -> list[str]:
        """The names of all stages in order."""
        return [entry["name"] for entry in self.data["stages"]]

    def stages(self, spec: Spec) -> list[Stage]:
        """The stages this bundle, or this ``exec``, needs, imported now, in order."""
        of_exec = spec.operation == EXEC
        return [
            _load(entry)
            for entry in self.data["stages"]
            if (keys := entry["exec"] if of_exec else entry["keys"]) is not None
            and (not keys or any(spec.has(key) for key in keys))
        ]

    def all_stages(self) -> list[Stage]:
        """Every stage, imported now, in order."""
        return [_load(entry) for entry in self.data["stages"]]

    def features(self) -> list[tuple[str, Callable[[], object]]]:
        """Who adds to the features structure, stages first: what to call it in messages, and what says it."""
        found: list[tuple[str, Callable[[], object]]]
        found = [(f"stage {stage.name!r}", stage.features) for stage in self.all_stages()]
        for plugin, function in self.hook(FEATURES):
            found.append((f"plugin {plugin!r}", _with(function, self.data["plugins"].get(plugin, {}))))
        return found

    def labels(self, name: str) -> list[str]:
        """The names of the stage with this name, its own or that of the one it replaces; empty if it does not exist."""
        for entry in self.data["stages"]:
            if name in (names := [entry["name"], entry["own"]]):
                return names
        return []

    def compiled(self, spec: Spec, host: Host, planning: Planning) -> Plan:
        """What ``planning`` makes of a bundle, with what plugins do to it; pure except for importing. Raises `Error`.

        Where plugins are enabled, ``spec`` is read-only afterwards, its configuration the one they edited.
        """
        options = vars(spec.options)
        for name, known in OF_PLUGINS.items():
            if options.get(name) and not any(plugin in self.data["plugins"] for plugin in known):
                raise _not_enabled(spec, name, known)
        if not self.data["plugins"]:
            return planning(self.stages(spec), spec, host)
        from gosudacon.pipeline import plugins

        return plugins.compiled(self, spec, host, planning)

    def edit(self, spec: Spec, host: Host) -> Changes | None:
        """Let plugins edit the configuration of ``spec``, which is read-only afterwards; None if nothing changed."""
        if not self.data["hooks"].get(EDIT):
            return None
        from gosudacon.pipeline import plugins

        return plugins.edit(self, spec, host)

    def plan(self, spec: Spec, host: Host, planning: Planning, edits: Changes | None = None) -> Plan:
        """`compiled` without the editing, which has been done: ``edits`` is what it changed."""
        if not self.data["plugins"]:
            return planning(self.stages(spec), spec, host)
        from gosudacon.pipeline import plugins

        return plugins.plan(self, spec, host, planning, edits)

    def editors(self) -> list[str]:
        """The names of the plugins that edit configurations."""
        return [entry[0] for entry in self.data["hooks"].get(EDIT, ())]

    def hook(self, name: str) -> list[tuple[str, Callable[..., object]]]:
        """The implementations of a hook with the names of their plugins."""
        return implementations(self.data["hooks"].get(name, ()))

    def told_of_end(self) -> Listeners:
        """What implements the hook for a container's end, as data for `implementations`."""
        found: Listeners = self.data["hooks"].get(EXITED) or []
        return found

    def observers(self) -> dict[str, list[order.Implementation]]:
        """What implements the hooks that observe steps, as data for `implementations`; empty if nothing does."""
        return {name: found for name in OBSERVERS if (found := self.data["hooks"].get(name))}

    def amend(self, plan: Plan, spec: Spec, host: Host) -> None:
        """Let plugins change the plan; every change is noted in ``plan.amended``."""
        for plugin, function in self.hook("gosudacon_amend_plan"):
            before = plan.note()
            try:
                function(plan=plan, spec=spec, host=host)
                plan.note_changes(plugin, before)
            except Error:
                raise
            except Exception as error:
                raise Error(f"plugin {plugin!r}: gosudacon_amend_plan: {reason(error)}") from error


def registry(config: str = "", use_snapshot: bool = True, plugins: Sequence[str] = ()) -> Registry:
    """The registry for the administrator's configuration file (default `CONFIG`).

    ``plugins`` that ship with this program are enabled as well, for this registry alone.
    Raises `Error` for a broken file, an unknown plugin or an impossible order.
    """
    path = config or CONFIG
    if plugins or not use_snapshot:
        from gosudacon.pipeline import discovery

        return Registry(discovery.discover(path, bool(config), plugins)[0])
    from gosudacon.pipeline import snapshot

    key = snapshot.key(path)  # before the file is read: should it change meanwhile, the snapshot is stale
    data = snapshot.load(key)
    if data is None:
        from gosudacon.pipeline import discovery

        data, depends_on = discovery.discover(path, required=bool(config))
        snapshot.save(key, data, depends_on)
    return Registry(data)


def implementations(entries: Iterable[order.Implementation]) -> list[tuple[str, Callable[..., Any]]]:
    """The implementations of a hook, imported now, with the names of their plugins. Raises `Error` if one is gone."""
    return [(plugin, _taking(_named(module, function), arguments)) for plugin, module, function, arguments in entries]


def _with(function: Callable[..., object], settings: object) -> Callable[[], object]:
    return lambda: function(settings=settings)


def _load(entry: order.Entry) -> Stage:
    stage: Stage = _named(entry["module"], entry["class"])()
    stage.name = entry["name"]
    stage.settings = entry["settings"]
    if entry["replaced"]:
        stage.replaced = _load(entry["replaced"])
    return stage


def _named(module: str, name: str) -> Any:
    try:
        __import__(module)
    except ImportError as error:
        raise Error(
            f"cannot import {module}: {error}", hint="a package that provides a stage is missing or broken"
        ) from error
    return getattr(sys.modules[module], name)


def _not_enabled(spec: Spec, name: str, plugins: Sequence[str]) -> Error:
    """The error of an option without any of the plugins that it is for."""
    given: Sequence[str] = vars(spec.options)[name]
    one = f"the plugin {plugins[0]}" if len(plugins) == 1 else f"neither of the plugins {' and '.join(plugins)}"
    enabling = " or ".join(f'plugins = ["{plugin}"]' for plugin in plugins)
    return Error(
        f"--{name} {given[0]}: {one} is {'not ' if len(plugins) == 1 else ''}enabled",
        hint=f"{enabling} in {spec.options.config_file or CONFIG} enables it",
    )


def _taking(function: Callable[..., object], arguments: list[str]) -> Callable[..., object]:
    """A hook that is called with every argument and passes on those that the function declares, as pluggy does."""
    return lambda **given: function(**{name: given[name] for name in arguments})
