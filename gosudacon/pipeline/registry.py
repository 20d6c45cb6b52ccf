"""Which stages there are and in which order: found through pluggy, or remembered by the snapshot.

Both ways produce the same data, `Registry`, and everything after works on that: behaviour cannot differ.
"""

from __future__ import annotations

import sys

from gosudacon.linux.errors import Error, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from gosudacon.pipeline.plan import Plan
    from gosudacon.pipeline.step import Host, Spec, Stage

CONFIG = "/etc/gosudacon/config.toml"
OBSERVERS = ("gosudacon_step_started", "gosudacon_step_finished")


class Registry:
    """The stages in order and the plugins' other hooks, as data.

    ``stages``: ``{"name", "module", "class", "keys", "exec", "settings", "replaced"}``; ``replaced`` is such an
    entry or None, ``exec`` are the keys for plans of ``exec``, None if the stage takes no part in them.
    ``hooks``: hook name -> ``[plugin, module, function, names of its arguments]`` in calling order.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data

    def names(self) -> list[str]:
        """The names of all stages in order."""
        return [entry["name"] for entry in self.data["stages"]]

    def stages(self, spec: Spec) -> list[Stage]:
        """The stages this bundle, or this ``exec``, needs, imported now, in order."""
        which = "keys" if spec.target is None else "exec"
        return [
            _load(entry)
            for entry in self.data["stages"]
            if (keys := entry[which]) is not None and (not keys or any(spec.has(key) for key in keys))
        ]

    def all_stages(self) -> list[Stage]:
        """Every stage, imported now, in order."""
        return [_load(entry) for entry in self.data["stages"]]

    def hook(self, name: str) -> list[tuple[str, Callable[..., None]]]:
        """The implementations of a hook with the names of their plugins."""
        return implementations(self.data["hooks"].get(name, ()))

    def observers(self) -> dict[str, Any]:
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


def registry(config: str = "", use_snapshot: bool = True) -> Registry:
    """The registry for the administrator's configuration file (default `CONFIG`).

    Raises `Error` for a broken file, an unknown plugin or an impossible order.
    """
    path = config or CONFIG
    if not use_snapshot:
        from gosudacon.pipeline import discovery

        return Registry(discovery.discover(path, required=bool(config))[0])
    from gosudacon.pipeline import snapshot

    key = snapshot.key(path)  # before the file is read: should it change meanwhile, the snapshot is stale
    data = snapshot.load(key)
    if data is None:
        from gosudacon.pipeline import discovery

        data, depends_on = discovery.discover(path, required=bool(config))
        snapshot.save(key, data, depends_on)
    return Registry(data)


def implementations(entries: Iterable[list[Any]]) -> list[tuple[str, Callable[..., None]]]:
    """The implementations of a hook, imported now, with the names of their plugins. Raises `Error` if one is gone."""
    return [(plugin, _taking(_named(module, function), arguments)) for plugin, module, function, arguments in entries]


def _load(entry: dict[str, Any]) -> Stage:
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


def _taking(function: Callable[..., None], arguments: list[str]) -> Callable[..., None]:
    """A hook that is called with every argument and passes on those that the function declares, as pluggy does."""
    return lambda **given: function(**{name: given[name] for name in arguments})
