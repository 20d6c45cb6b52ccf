"""Stage ``policy``: the administrator's rules for every container, whichever engine starts it.

May use: `api`, `base`.
Start with `Policy`, then `rules` and `process`.

A container that breaks a rule is refused before anything is made, with all it breaks and the places in config.json.
So are processes of ``exec``, limits of ``update`` and mounts of ``mounts add``. In config.toml::

    plugins = ["policy"]

    [[stage.policy.rule]]
    name = "no-new-privileges"
    message = "processes must not gain privileges"
    require = ["no-new-privileges"]

See docs/policy.md.
"""

from __future__ import annotations

from gosudacon.api import (
    ADD_MOUNTS,
    CREATE,
    RESTORE,
    ConfigError,
    Host,
    PlanWarning,
    Spec,
    Stage,
    Step,
    hookimpl,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gosudacon.api import Resources
    from gosudacon.plugins.policy.rules import Broken


class Policy(Stage):
    """Refuses what breaks a rule; plans nothing. Settings: ``mode``, ``rule``, ``exception``."""

    name = "policy"
    after = ("validate-config",)
    before = ("namespaces", "cgroups", "intel-rdt", "net-devices", "hooks", "rootfs-mount")

    def plan(self, spec: Spec, host: Host) -> Iterator[Step]:
        """Raises `ConfigError` with everything that breaks a rule; `SettingsError` for rules that make no sense."""
        from gosudacon.plugins.policy.rules import Rules

        refused: list[Broken] = []
        for broken in Rules(self.settings).broken(spec, host):
            if broken.reported:
                yield PlanWarning(message=str(broken), where=broken.where)
            else:
                refused.append(broken)
        if refused:
            raise _refusal(refused)

    def plan_exec(self, spec: Spec, host: Host) -> Iterator[Step]:
        """The rules about processes."""
        return self.plan(spec, host)

    def plan_restore(self, spec: Spec, host: Host) -> Iterator[Step]:
        """As for a container that is created."""
        return self.plan(spec, host)

    def plan_update(self, resources: Resources, spec: Spec, host: Host) -> Iterator[Step]:
        """The rules about limits and devices, for what the container then has."""
        return self.plan(spec, host)

    def plan_mounts(self, spec: Spec, host: Host) -> Iterator[Step]:
        """The rules about mounts, for those that are added."""
        return self.plan(spec, host) if spec.operation == ADD_MOUNTS else iter(())


def _refusal(refused: list[Broken]) -> ConfigError:
    text = "; ".join(": ".join(filter(None, (each.where, str(each)))) for each in refused)
    error = ConfigError(f"refused by the policy of this host: {text}", where=refused[0].where)
    error.problems = [{"where": each.where, "message": str(each)} for each in refused]
    return error


@hookimpl
def gosudacon_gather_facts(spec: Spec) -> object:
    """Where the paths of mounts lead to, and which namespaces are the host's."""
    if spec.operation not in (CREATE, RESTORE, ADD_MOUNTS):
        return None
    from gosudacon.plugins.policy import facts

    return facts.gather(spec)


@hookimpl
def gosudacon_stages() -> list[Stage]:
    """The stages of this module."""
    return [Policy()]
