"""Planning with a plugin as `create` does, watched."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import ModuleType

from gosudacon.api import EXEC, Host, Plan, Spec, Target
from gosudacon.base import jsonio
from gosudacon.container.kit.purity import Watch
from gosudacon.pipeline import discovery, kinds
from gosudacon.pipeline import plan as plans
from gosudacon.pipeline.registry import Registry
from gosudacon.testing import values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gosudacon.api import Config
    from gosudacon.pipeline.order import Configuration

_FILE = "config.toml"


class Planner:
    """Called with a plugin, returns the plan of a container; `exec` the one of another process in it.

    ``spec``: what was planned last, as plugins have edited it.
    """

    spec: Spec

    def __call__(
        self,
        plugin: ModuleType | str,
        changes: Mapping[str, object] | None = None,
        *,
        settings: Mapping[str, object] | None = None,
        config: Mapping[str, object] | None = None,
        spec: Spec | None = None,
        host: Host | None = None,
    ) -> Plan:
        """Raises what planning raises, and AssertionError if it is impure."""
        made = spec or values.spec(changes)
        return self._pure(registry(plugin, settings, config), made, host or values.host())

    def edited(
        self,
        plugin: ModuleType | str,
        changes: Mapping[str, object] | None = None,
        *,
        settings: Mapping[str, object] | None = None,
        config: Mapping[str, object] | None = None,
        host: Host | None = None,
    ) -> Config:
        """The configuration as the plugin has edited it, in plain dicts and lists; as `__call__`."""
        spec = values.spec(changes)
        self._pure(registry(plugin, settings, config), spec, host or values.host())
        return self.spec.plain()

    def exec(
        self,
        plugin: ModuleType | str,
        changes: Mapping[str, object] | None = None,
        *,
        settings: Mapping[str, object] | None = None,
        config: Mapping[str, object] | None = None,
        host: Host | None = None,
    ) -> Plan:
        """The plan of a process in a running container; as `__call__`."""
        spec = values.spec(changes, operation=EXEC)
        spec.target = Target(pid=1, namespaces=["mount", "pid", "network", "ipc", "uts"])
        return self._pure(registry(plugin, settings, config), spec, host or values.host())

    def _pure(self, stages: Registry, spec: Spec, host: Host) -> Plan:
        make = plans.make_exec if spec.operation == EXEC else plans.make
        self.spec = spec.replace(config=copy.deepcopy(spec.plain()))
        plan = stages.compiled(self.spec, host, make)
        with Watch() as watch:
            again = stages.compiled(spec.replace(config=copy.deepcopy(spec.plain())), host, make)
        if watch.seen:
            raise AssertionError("planning is not pure:\n  " + "\n  ".join(watch.seen))
        if _shown(plan) != _shown(again):
            raise AssertionError("planned twice, the plan is not the same")
        for step in plan.lasting():
            back = kinds.rebuild(jsonio.loads(jsonio.dumps(step.record()).encode()))
            if jsonio.dumps(vars(back)) != jsonio.dumps(vars(step)):
                raise AssertionError(f"not the same when it comes from the disk: {step.describe()}")
        return plan


def _shown(plan: Plan) -> list[str]:
    return [f"{type(step).__qualname__} {step.describe()} {jsonio.dumps(vars(step))}" for step in plan.steps]


def registry(
    plugin: ModuleType | str, settings: Mapping[str, object] | None, config: Mapping[str, object] | None
) -> Registry:
    """The built-in stages with one plugin enabled; as config.toml with these settings would have it."""
    name = name_of(plugin)
    written: Configuration = {"plugins": [], "disable": [], "replace": {}, "stage": {}, "plugin": {}, "trace": {}}
    written.update(config or {})  # type: ignore[typeddict-item]  # a test's
    written["plugins"] = [name]
    written["plugin"] = {name: dict(settings or {})}
    modules = {} if isinstance(plugin, str) else {name: plugin}
    return Registry(discovery.assembled(written, _FILE, modules)[0])


def name_of(plugin: ModuleType | str) -> str:
    """The name of a plugin: of the entry point whose module it is, else made of the module's name."""
    if isinstance(plugin, str):
        return plugin
    for each in discovery.available():
        if each.module == plugin.__name__:
            return each.name
    return plugin.__name__.rpartition(".")[2].removeprefix("gosudacon_").replace("_", "-")
